//! How registries are reached, and by whom: proxies, certificates of ours, tokens, helpers; and pulls
//! that are not alone, or not let come to their end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::support::http::{Response, Server};
use crate::support::machine::until;
use crate::support::registry::{Door, Registry, before, is_layer, noise_tar, passed_on};
use crate::support::{Finished, Need, Rstore, package, scratch, skip_without};

const NEEDS: [Need; 1] = [Need::Program("docker-registry")];

/// A store with `app:1`, of one layer that cannot be compressed.
fn with_image(size: usize) -> Rstore {
    let directory = scratch();
    let store = Rstore::new();
    store.import(&noise_tar(directory.path(), "noise", size), "app:1");
    store
}

/// Runs the program with variables of the environment.
fn run(store: &Rstore, variables: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let mut command = store.command();
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.envs(variables.iter().copied()).args(arguments);
    let output = command.output().expect("rstore runs");
    Finished::new(&command, &output)
}

/// A directory as docker's `certs.d`, for some hosts; `ours`: with what we show.
fn certificates(directory: &Path, hosts: &[&str], ours: bool) {
    let fixtures = package().join("tests/fixtures/tls");
    for host in hosts {
        let place = directory.join("docker/certs.d").join(host);
        fs::create_dir_all(&place).expect("a directory");
        let copy = |from: &str, to: &str| {
            fs::copy(fixtures.join(from), place.join(to)).expect("a copy");
        };
        copy("mutual-authority.pem", "ca.crt");
        if ours {
            copy("client.pem", "client.cert");
            copy("client.key", "client.key");
        }
    }
}

/// A proxy that knows CONNECT, and of all hosts only `registry.test`, which is `target`. It wants
/// `me` with `secret`, and tells of whom it was asked for.
fn proxy(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback device");
    let address = listener.local_addr().expect("an address").to_string();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = asked.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a connection");
            let (target, told) = (target.clone(), told.clone());
            std::thread::spawn(move || tunnel(client, &target, &told));
        }
    });
    (address, asked)
}

fn tunnel(mut client: TcpStream, target: &str, told: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().expect("a socket"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(3..) => head.push(line.trim().to_owned()),
            _ => break,
        }
    }
    let Some(first) = head.first() else { return };
    told.lock().expect("nobody panicked").push(first.clone());
    let login = "proxy-authorization: basic bwu6c2vjcmv0";
    let answer = match first.strip_prefix("CONNECT registry.test:") {
        _ if !head.iter().any(|line| line.to_lowercase() == login) => "407 Who are you",
        None => "403 Not there",
        Some(_) => "200 OK",
    };
    let _ = client.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes());
    if !answer.starts_with("200") {
        return;
    }
    let mut server = TcpStream::connect(target).expect("the registry");
    let mut back = server.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_registry_that_asks_for_a_certificate_gets_that_of_its_directory() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Mutual);
    let (host, name) = (registry.host(), registry.name("app:1"));
    let store = with_image(20_000);
    let [ours, none] = [scratch(), scratch()];
    certificates(ours.path(), &[&host], true);
    certificates(none.path(), &[&host], false);
    let at = |directory: &tempfile::TempDir| directory.path().display().to_string();
    let (with, without) = (at(&ours), at(&none));
    run(
        &store,
        &[("XDG_CONFIG_HOME", &with)],
        &["push", "-q", "app:1", &name],
    )
    .ok();
    let pulled = Rstore::new();
    run(
        &pulled,
        &[("XDG_CONFIG_HOME", &with)],
        &["pull", "-q", &name],
    )
    .ok();
    assert_eq!(pulled.digest(&name), store.digest("app:1"));
    let refused = run(&store, &[("XDG_CONFIG_HOME", &without)], &["pull", &name]);
    refused.fails(1, &["certificate of ours", "client.cert"]);
    // Its key is missing.
    let place = ours.path().join("docker/certs.d").join(&host);
    fs::remove_file(place.join("client.key")).expect("a key");
    let refused = run(&store, &[("XDG_CONFIG_HOME", &with)], &["pull", &name]);
    refused.fails(1, &["client.cert", "client.key", "missing"]);
}

#[test]
fn a_proxy_is_asked_for_hosts_that_are_not_excepted() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Mutual);
    let port = registry
        .host()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    let (address, asked) = proxy(format!("127.0.0.1:{port}"));
    let far = format!("registry.test:{port}");
    let name = format!("{far}/app:1");
    let directory = scratch();
    certificates(directory.path(), &[&far, &registry.host()], true);
    let config = directory.path().display().to_string();
    let proxy = format!("http://me:secret@{address}");
    let store = with_image(200_000);
    let environment = [
        ("XDG_CONFIG_HOME", config.as_str()),
        ("HTTPS_PROXY", &proxy),
    ];
    run(&store, &environment, &["push", "-q", "app:1", &name]).ok();
    let pulled = Rstore::new();
    run(&pulled, &environment, &["pull", "-q", &name]).ok();
    assert_eq!(pulled.digest(&name), store.digest("app:1"));
    let requests = std::mem::take(&mut *asked.lock().expect("nobody panicked"));
    let line = format!("CONNECT {far} HTTP/1.1");
    assert!(
        !requests.is_empty() && requests.iter().all(|r| *r == line),
        "{requests:?}"
    );

    // What is excepted is asked by itself, and so is this machine.
    let mut direct = environment.to_vec();
    direct.push(("NO_PROXY", "other.test,.test"));
    run(&pulled, &direct, &["pull", &name]).fails(1, &["registry.test", "is its name right?"]);
    run(
        &pulled,
        &environment,
        &["pull", "-q", &registry.name("app:1")],
    )
    .ok();
    assert_eq!(asked.lock().expect("nobody panicked").len(), 0);

    // A proxy that wants another password, or knows no such host, or isn't there.
    let config = ("XDG_CONFIG_HOME", config.as_str());
    let without = format!("http://{address}");
    let refused = run(
        &pulled,
        &[config, ("https_proxy", &without)],
        &["pull", &name],
    );
    refused.fails(1, &["proxy", "407"]);
    let nobody = format!("{}/app:1", "elsewhere.test:5000");
    let refused = run(
        &pulled,
        &[config, ("all_proxy", &proxy)],
        &["pull", &nobody],
    );
    refused.fails(1, &["proxy", "403"]);
    let refused = run(
        &pulled,
        &[config, ("https_proxy", "http://127.0.0.1:1")],
        &["pull", &name],
    );
    refused.fails(1, &["refused"]);
    let told = run(
        &pulled,
        &[config, ("https_proxy", "gopher://me:secret@x")],
        &["pull", &name],
    );
    assert!(!told.stderr.contains("secret"), "{told}");
    told.fails(1, &["proxy"]);
}

/// A registry behind a server that wants tokens; `realm` gives them. Each use is answered from
/// `registry` where the token is `good`.
fn with_tokens(
    registry: &Registry,
    good: &'static str,
    realm: impl Fn(&crate::support::http::Request) -> Response + Send + 'static,
) -> Server {
    let upstream = registry.host();
    let own: Arc<OnceLock<String>> = Arc::default();
    let known = own.clone();
    let server = Server::new(move |request| {
        if request.path.starts_with("/token") {
            return realm(request);
        }
        let token = request.headers.get("authorization").map(String::as_str);
        if token == Some(&format!("Bearer {good}")) {
            return passed_on(&upstream, request);
        }
        let realm = known.get().expect("the server knows itself");
        let challenge =
            format!(r#"Bearer realm="{realm}",service="a b",scope="repository:app:pull""#);
        Response::new(401).header("www-authenticate", &challenge)
    });
    own.set(server.http("token")).expect("once");
    server
}

fn name_at(server: &Server) -> String {
    server.http("app:1")["http://".len()..].to_owned()
}

#[test]
fn an_identity_token_is_changed_for_a_token_wherever_it_is_kept() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let publisher = with_image(20_000);
    publisher.ok(["push", "-q", "app:1", &registry.name("app:1")]);
    // RFC 6749, 6, and distribution's "Authenticating with OAuth2".
    let server = with_tokens(&registry, "good", |request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let has = |pair: &str| form.split('&').any(|one| one == pair);
        let wanted = [
            "grant_type=refresh_token",
            "refresh_token=my%2Fidentity%2B1",
            "service=a%20b",
            "scope=repository%3Aapp%3Apull",
        ];
        let kind = request.headers.get("content-type").map(String::as_str);
        let is_form = kind == Some("application/x-www-form-urlencoded");
        match request.method == "POST" && is_form && wanted.iter().all(|pair| has(pair)) {
            true => Response::ok(r#"{"access_token":"good","expires_in":300,"token_type":"x"}"#),
            false => Response {
                body: br#"{"details":"not this one"}"#.to_vec(),
                ..Response::new(401)
            },
        }
    });
    let name = name_at(&server);
    let host = name.split('/').next().expect("a host");
    let directory = scratch();
    let helper = directory.path().join("docker-credential-fixture");
    let script = format!(
        "#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {host}' ] || exit 3\n\
         echo '{{\"Username\":\"<token>\",\"Secret\":\"my/identity+1\"}}'\n"
    );
    fs::write(&helper, script).expect("a script");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", directory.path().display());
    // base64 of me:secret
    let wrong = r#"{"auth":"bWU6c2VjcmV0"}"#;
    for config in [
        format!(r#"{{"auths":{{"{host}":{{"auth":"","identitytoken":"my/identity+1"}}}}}}"#),
        format!(r#"{{"auths":{{"{host}":{wrong}}},"credHelpers":{{"{host}":"fixture"}}}}"#),
        format!(r#"{{"auths":{{"{host}":{{}}}},"credsStore":"fixture"}}"#),
        // One for another host is not asked.
        format!(
            r#"{{"credHelpers":{{"{host}":"fixture","other.test":"no-such"}},"credsStore":"none"}}"#
        ),
    ] {
        fs::write(directory.path().join("config.json"), &config).expect("a file");
        let docker = directory.path().display().to_string();
        let store = Rstore::new();
        let environment = [("DOCKER_CONFIG", docker.as_str()), ("PATH", &path)];
        run(&store, &environment, &["pull", "-q", &name]).ok();
        assert_eq!(store.digest(&name), publisher.digest("app:1"), "{config}");
    }
    let config = format!(r#"{{"auths":{{"{host}":{{"identitytoken":"another"}}}}}}"#);
    fs::write(directory.path().join("config.json"), config).expect("a file");
    let docker = directory.path().display().to_string();
    let refused = run(
        &Rstore::new(),
        &[("DOCKER_CONFIG", &docker)],
        &["pull", &name],
    );
    assert!(!refused.stderr.contains("another one which"), "{refused}");
    refused.fails(1, &[host, "refuses", "not this one"]);
    // A helper that fails says why.
    let config = format!(r#"{{"credHelpers":{{"{host}":"fixture"}}}}"#);
    fs::write(directory.path().join("config.json"), config).expect("a file");
    fs::write(&helper, "#!/bin/sh\necho the keychain is locked; exit 1\n").expect("a script");
    let environment = [("DOCKER_CONFIG", docker.as_str()), ("PATH", &path)];
    run(&Rstore::new(), &environment, &["pull", &name])
        .fails(1, &["docker-credential-fixture", "the keychain is locked"]);
}

#[test]
fn who_has_no_login_gets_an_anonymous_token() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let publisher = with_image(20_000);
    publisher.ok(["push", "-q", "app:1", &registry.name("app:1")]);
    let server = with_tokens(&registry, "anonymous", |request| {
        let known = request.headers.contains_key("authorization");
        let is_right = request.method == "GET"
            && request.path.contains("service=a%20b")
            && request.path.contains("scope=repository%3Aapp%3Apull")
            && !request.path.contains("account=");
        match !known && is_right {
            true => Response::ok(r#"{"token":"anonymous"}"#),
            false => Response::new(401),
        }
    });
    let nowhere = scratch();
    let nowhere = nowhere.path().display().to_string();
    let environment = [
        ("DOCKER_CONFIG", nowhere.as_str()),
        ("XDG_RUNTIME_DIR", &nowhere),
        ("XDG_CONFIG_HOME", &nowhere),
    ];
    let store = Rstore::new();
    let name = name_at(&server);
    run(&store, &environment, &["pull", "-q", &name]).ok();
    assert_eq!(store.digest(&name), publisher.digest("app:1"));
    let tokens = server.requests();
    let tokens = tokens.iter().filter(|r| r.path.starts_with("/token"));
    assert_eq!(tokens.count(), 1, "one token does for one pull");
}

#[test]
fn a_pull_beside_prunes_of_all_loses_nothing() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let publisher = Rstore::with_base();
    let context = crate::support::Context::new("");
    const IMAGES: usize = 6;
    for number in 0..IMAGES {
        let mut dockerfile = "FROM scratch\nCOPY shared /\n".to_owned();
        context.file("shared", "in all of them");
        for layer in 0..5 {
            let file = format!("{number}-{layer}");
            context.file(&file, vec![number as u8 ^ layer as u8; 30_000 + number]);
            dockerfile.push_str(&format!("COPY {file} /\n"));
        }
        context.file("Dockerfile", dockerfile);
        let name = registry.name(&format!("app:{number}"));
        publisher.build(context.path(), &["-t", &name]);
        publisher.ok(["push", "-q", &name]);
    }
    let store = Rstore::new();
    store.import(&noise_tar(context.path(), "old", 10_000), "old:1");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            let mut prunes = 0;
            while !done.load(Ordering::SeqCst) {
                store.ok(["prune", "--all", "--grace", "0s", "-f"]);
                prunes += 1;
            }
            prunes
        });
        let two = ["0", "1"].map(|half| {
            let (store, registry) = (&store, &registry);
            scope.spawn(move || {
                for number in (0..IMAGES).filter(|n| (n % 2).to_string() == half) {
                    for _ in 0..3 {
                        let name = registry.name(&format!("app:{number}"));
                        store.ok(["pull", "-q", &name]);
                        store.intact(&name);
                        store.ok(["untag", &name]);
                        store.ok(["pull", "-q", &name]);
                    }
                }
            })
        });
        let pulled = two.map(|half| half.join().is_ok());
        done.store(true, Ordering::SeqCst);
        let prunes: i32 = pruner.join().expect("no prune failed");
        assert_eq!(pulled, [true; 2]);
        assert!(prunes > 3, "{prunes} prunes");
    });
    for number in 0..IMAGES {
        store.intact(&registry.name(&format!("app:{number}")));
    }
    store.ok(["prune", "--all", "-f"]);
    store.verify();
    store.ok(["fsck"]);
    assert!(store.debris().is_empty(), "{:?}", store.debris());
}

#[test]
fn a_pull_that_is_interrupted_ends_at_once_and_the_next_goes_on() {
    use rustix::process::{Pid, Signal, kill_process};
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let publisher = with_image(400_000);
    publisher.ok(["push", "-q", "app:1", &registry.name("app:1")]);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let slow = AtomicBool::new(true);
        let server = before(&registry, move |request, mut response| {
            if is_layer(request, &response) && slow.swap(false, Ordering::SeqCst) {
                response.drip = Some((256_000, Duration::from_millis(20)));
            }
            response
        });
        let name = name_at(&server);
        let store = Rstore::new();
        let mut command: Command = store.command();
        command
            .args(["pull", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("rstore runs");
        let partial = || -> u64 {
            let ingest = fs::read_dir(store.root().join("rstore/ingest"));
            let files = ingest.into_iter().flatten().map(|e| e.expect("an entry"));
            files.filter_map(|e| Some(e.metadata().ok()?.len())).sum()
        };
        until("much has come", || partial() > 200_000);
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        let begun = Instant::now();
        assert_eq!(child.wait().expect("a child").code(), Some(code));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(store.tags().is_empty());
        store.ok(["fsck"]);
        assert!(partial() > 200_000, "what came is kept for the next");
        server.requests();
        let pulled = store.run(["pull", &name]).ok();
        assert!(pulled.stderr.contains(": Resuming after "), "{pulled}");
        assert_eq!(store.digest(&name), publisher.digest("app:1"));
        assert!(store.debris().is_empty(), "{:?}", store.debris());
    }
}
