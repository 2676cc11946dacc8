//! What is not believed of what a registry says, and where nothing is sent that it says.

use std::fs;

use serde_json::json;

use crate::support::http::{Request, Response, Server};
use crate::support::registry::noise_tar;
use crate::support::{Finished, Rstore, package, scratch};

fn host(server: &Server) -> String {
    server
        .http("")
        .split('/')
        .nth(2)
        .expect("a host")
        .to_owned()
}

/// A registry that has nothing but this list of tags.
fn listing(answer: impl Fn(&Request) -> Response + Send + 'static) -> Server {
    Server::new(move |request| match request.path.contains("/tags/list") {
        true => answer(request),
        false => Response::new(404),
    })
}

fn tags(tags: &[&str]) -> Response {
    Response::ok(json!({ "tags": tags }).to_string())
}

fn pull_all(server: &Server) -> (Finished, Rstore) {
    let store = Rstore::new();
    let pulled = store.run(["pull", "--all-tags", &format!("{}/app", host(server))]);
    (pulled, store)
}

#[test]
fn a_registry_whose_list_of_tags_leads_in_a_circle_is_asked_twice_at_most() {
    let server =
        listing(|_| tags(&["a", "b"]).header("link", r#"</v2/app/tags/list?last=b>; rel="next""#));
    let (pulled, _) = pull_all(&server);
    pulled.fails(1, &["app:a", "not there"]);
    let mut asked = server.requests();
    asked.retain(|request| request.path.contains("/tags/list"));
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn a_registry_may_name_the_page_before_as_well_and_the_scheme_that_its_proxy_does_not_have() {
    let server = listing(|request| {
        let host = &request.headers["host"];
        let link = |page: &str| format!("https://{host}/v2/app/tags/list?page={page}");
        match request.path.rsplit_once("page=").map(|(_, page)| page) {
            None => tags(&["a"]).header("link", &format!("<{}>; rel=\"next\"", link("2"))),
            Some("2") => {
                let (back, on) = (link("1"), link("3"));
                let links = format!("<{back}>; rel=\"prev\", <{on}>; rel=\"next\"");
                tags(&["b"]).header("link", &links)
            }
            Some(_) => tags(&["c"]),
        }
    });
    let store = Rstore::new();
    let repository = format!("{}/app", host(&server));
    store
        .run(["prune", "-n", "--keep-last", "1", "--remote", &repository])
        .ok();
    let asked = server.requests();
    let manifests = asked.iter().filter(|r| r.path.contains("/manifests/"));
    assert_eq!(manifests.count(), 3, "{asked:?}");
}

/// What stands on a page that was not seen may be what keeps a digest.
#[test]
fn a_registry_whose_list_goes_on_at_another_server_is_an_error_and_no_short_list() {
    let server =
        listing(|_| tags(&["a"]).header("link", r#"<https://elsewhere.invalid/x>; rel="next""#));
    let store = Rstore::new();
    let repository = format!("{}/app", host(&server));
    store
        .run(["prune", "-f", "--keep-last", "1", "--remote", &repository])
        .fails(1, &["elsewhere.invalid", "not the same server"]);
}

#[test]
fn a_registry_that_lists_what_is_no_tag_is_not_believed() {
    for odd in ["../../x", "a\u{1b}[31m", "a?b", "", "sha256:ab"] {
        let server = listing(move |_| tags(&["a", odd]));
        let (pulled, store) = pull_all(&server);
        assert!(!pulled.stderr.contains('\u{1b}'), "{pulled}");
        pulled.fails(1, &["which is no tag"]);
        assert!(!store.root().join("index.json").exists() || store.tags().is_empty());
        let mut asked = server.requests();
        asked.retain(|request| request.path.contains("/manifests/"));
        assert!(asked.is_empty(), "{asked:?}");
    }
}

#[test]
fn a_repository_that_a_registry_does_not_have_is_told_of_by_a_remote_prune() {
    let server = Server::new(|_| Response::new(404));
    let store = Rstore::new();
    let repository = format!("{}/cahce/app", host(&server));
    let pruned = store.run(["prune", "-f", "--keep-last", "1", "--remote", &repository]);
    let pruned = pruned.ok();
    assert!(pruned.stderr.contains("is its name right?"), "{pruned}");
}

/// That a registry on this machine may speak HTTP is no reason to send passwords over the network.
#[test]
fn the_password_of_a_registry_on_this_machine_goes_to_no_other_machine_without_tls() {
    let server = Server::new(|_| {
        let realm = r#"Bearer realm="http://realm.invalid/token",service="x""#;
        Response::new(401).header("www-authenticate", realm)
    });
    let (host, logins) = (host(&server), scratch());
    let auths = json!({ "auths": { &host: { "auth": "bWU6c2VjcmV0" } } });
    fs::write(logins.path().join("config.json"), auths.to_string()).unwrap();
    let store = Rstore::new();
    let pull = |more: &[&str]| {
        let mut command = store.command();
        command.env("DOCKER_CONFIG", logins.path());
        command.args(["pull", &format!("{host}/app:1")]).args(more);
        let output = command.output().expect("rstore runs");
        Finished::new(&command, &output)
    };
    pull(&[]).fails(1, &["realm.invalid", "nothing is sent there", "insecure"]);
    // Who says that it may go gets as far as the name, which nobody has.
    pull(&["--tls-verify=false"]).fails(1, &["realm.invalid", "not known"]);
}

#[test]
fn a_registry_with_https_gets_no_blob_by_http() {
    let server = Server::secure(|request| match request.method.as_str() {
        "POST" => Response::new(202).header("location", "http://localhost:1/upload"),
        _ => Response::new(404),
    });
    let (directory, store) = (scratch(), Rstore::new());
    store.import(&noise_tar(directory.path(), "noise", 1000), "app:1");
    let tls = package().join("tests/fixtures/tls");
    let certificates = scratch();
    fs::copy(
        tls.join("authority.pem"),
        certificates.path().join("ca.crt"),
    )
    .unwrap();
    let port = host(&server).rsplit_once(':').unwrap().1.to_owned();
    let name = format!("localhost:{port}/app:1");
    let directory = certificates.path().to_str().unwrap();
    store
        .run([
            "push",
            "--tls-verify",
            "--cert-dir",
            directory,
            "app:1",
            &name,
        ])
        .fails(
            1,
            &[
                "http://localhost:1/upload",
                "less safe",
                "X-Forwarded-Proto",
            ],
        );
}
