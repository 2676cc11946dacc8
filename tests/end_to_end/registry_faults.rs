//! Registries that misbehave, and networks: a server in this process stands before Debian's.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::artifacts;
use crate::support::http::{Request, Response, Server};
use crate::support::machine::until;
use crate::support::registry::{Door, Registry, before, is_layer, noise_tar};
use crate::support::{Context, Finished, Need, Rstore, number, scratch, skip_without};

const NEEDS: [Need; 1] = [Need::Program("docker-registry")];
const SIZE: usize = 400_000;

/// A registry with an image `app:1` of one layer that cannot be compressed.
fn with_image() -> (Registry, Rstore) {
    let registry = Registry::start(Door::Open);
    let store = Rstore::new();
    let directory = scratch();
    store.import(&noise_tar(directory.path(), "noise", SIZE), "app:1");
    store.ok(["push", "-q", "app:1", &registry.name("app:1")]);
    (registry, store)
}

/// The name of the image behind a server.
fn name(server: &Server) -> String {
    let url = server.http("app:1");
    url.strip_prefix("http://").expect("a URL").to_owned()
}

/// Pulls from a registry whose answers to questions for layers are made worse by `fault`, which
/// gets the number of the question, from 0.
fn pull_through(
    fault: impl Fn(usize, &Request, Response) -> Response + Send + 'static,
) -> (Finished, Rstore, Vec<Request>, Rstore) {
    let (registry, publisher) = with_image();
    let count = AtomicUsize::new(0);
    let server = before(&registry, move |request, response| {
        match is_layer(request, &response) {
            true => fault(count.fetch_add(1, Ordering::SeqCst), request, response),
            false => response,
        }
    });
    let store = Rstore::new();
    let pulled = store.run(["pull", "--stall-timeout", "1", &name(&server)]);
    let mut asked = server.requests();
    asked.retain(|request| request.method == "GET" && request.path.contains("/blobs/"));
    (pulled, store, asked, publisher)
}

#[track_caller]
fn arrived(store: &Rstore, publisher: &Rstore) {
    let digests: Vec<String> = store.tags().into_values().collect();
    assert_eq!(digests, [publisher.digest("app:1")]);
    store.verify();
    assert!(store.debris().is_empty(), "{:?}", store.debris());
}

/// `bytes=N-` of each question for the layer.
fn ranges(asked: &[Request]) -> Vec<Option<String>> {
    let large = |request: &&Request| request.headers.contains_key("range");
    let ranges = asked.iter().filter(large);
    ranges
        .map(|request| request.headers.get("range").cloned())
        .collect()
}

#[test]
fn a_connection_that_is_cut_goes_on_where_it_stopped() {
    if skip_without(&NEEDS) {
        return;
    }
    let (pulled, store, asked, publisher) = pull_through(|number, _, mut response| {
        if number < 2 {
            response.announced = Some(response.body.len());
            response.body.truncate(150_000);
        }
        response
    });
    pulled.ok();
    arrived(&store, &publisher);
    let asked = ranges(&asked);
    let from = |n: u32| Some(format!("bytes={n}-"));
    assert_eq!(asked, [from(150_000), from(300_000)]);
}

#[test]
fn a_server_that_knows_no_ranges_is_asked_for_all_of_it() {
    if skip_without(&NEEDS) {
        return;
    }
    let upstream = with_image();
    let (registry, publisher) = upstream;
    let host = registry.host();
    let cut = AtomicUsize::new(0);
    let server = Server::new(move |request| {
        let mut plain = request.clone();
        plain.headers.remove("range");
        let mut response = crate::support::registry::passed_on(&host, &plain);
        if is_layer(&plain, &response) && cut.fetch_add(1, Ordering::SeqCst) == 0 {
            response.announced = Some(response.body.len());
            response.body.truncate(100_000);
        }
        response
    });
    let store = Rstore::new();
    store.ok(["pull", "-q", &name(&server)]);
    arrived(&store, &publisher);
}

#[test]
fn too_many_requests_and_a_tired_server_are_waited_for() {
    if skip_without(&NEEDS) {
        return;
    }
    let (pulled, store, asked, publisher) = pull_through(|number, _, response| match number {
        0 => Response::new(429).header("retry-after", "1"),
        1 => Response::new(503),
        _ => response,
    });
    pulled.ok();
    arrived(&store, &publisher);
    assert!(asked.len() >= 3, "{asked:?}");
}

#[test]
fn a_server_that_asks_for_hours_is_told_of_and_not_waited_for() {
    if skip_without(&NEEDS) {
        return;
    }
    let (pulled, store, ..) = pull_through(|_, _, _| Response {
        body: br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#.to_vec(),
        ..Response::new(429).header("retry-after", "3600")
    });
    pulled.fails(1, &["429", "too many requests", "pull rate limit"]);
    assert!(store.tags().is_empty() && store.debris().is_empty());
}

#[test]
fn wrong_bytes_are_refused_and_nothing_of_them_stays() {
    if skip_without(&NEEDS) {
        return;
    }
    let (pulled, store, ..) = pull_through(|_, _, mut response| {
        response.body[5_000] ^= 1;
        response
    });
    pulled.fails(1, &["the bytes that the registry sent have digest"]);
    assert!(
        store.tags().is_empty() && store.debris().is_empty(),
        "{:?}",
        store.debris()
    );
}

#[test]
fn a_wrong_length_is_refused_at_once() {
    if skip_without(&NEEDS) {
        return;
    }
    for longer in [false, true] {
        let (pulled, store, ..) = pull_through(move |_, _, mut response| {
            match longer {
                true => response.body.extend_from_slice(b"more"),
                false => response.body.truncate(200_000),
            }
            response
        });
        pulled.fails(1, &["bytes of it, and the manifest says"]);
        assert!(store.tags().is_empty() && store.debris().is_empty());
    }
}

#[test]
fn a_wrong_manifest_is_refused() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, _publisher) = with_image();
    let server = before(&registry, |request, mut response| {
        if request.path.contains("/manifests/") {
            let text = String::from_utf8(response.body).expect("JSON");
            response.body = text
                .replacen("\"schemaVersion\":2", "\"schemaVersion\": 2", 1)
                .into();
        }
        response
    });
    let store = Rstore::new();
    store
        .run(["pull", &name(&server)])
        .fails(1, &["its bytes have digest"]);
}

#[test]
fn a_wrong_config_and_wrong_bytes_of_a_pinned_digest_are_refused() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let digest = publisher.digest("app:1");
    let server = before(&registry, |request, mut response| {
        let is_config = request.path.contains("/blobs/") && response.body.starts_with(b"{");
        if is_config || request.path.contains("/manifests/sha256:") {
            let last = response.body.len().saturating_sub(2);
            response.body.iter_mut().skip(last).for_each(|b| *b ^= 1);
        }
        // Whoever lies about the bytes may lie about their digest.
        response
            .headers
            .retain(|(name, _)| name != "docker-content-digest");
        response
    });
    let name = name(&server);
    let store = Rstore::new();
    store
        .run(["pull", &name])
        .fails(1, &["the bytes that the registry sent have digest"]);
    let pinned = format!("{}@{digest}", name.strip_suffix(":1").expect("a tag"));
    store
        .run(["pull", &pinned])
        .fails(1, &["its bytes have digest", &digest]);
    assert!(store.tags().is_empty() && store.debris().is_empty());
}

#[test]
fn a_tired_token_server_is_asked_again_and_a_push_waits_too() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let upstream = registry.host();
    let own: Arc<std::sync::OnceLock<String>> = Arc::default();
    let realm = own.clone();
    let tired = AtomicUsize::new(0);
    let server = Server::new(move |request| {
        if request.path.starts_with("/token?") {
            return match tired.fetch_add(1, Ordering::SeqCst) {
                0 => Response::new(503),
                1 => Response::new(429).header("retry-after", "0"),
                _ => Response::ok(r#"{"token":"late"}"#),
            };
        }
        match request.headers.get("authorization").map(String::as_str) {
            Some("Bearer late") => crate::support::registry::passed_on(&upstream, request),
            _ => {
                let realm = realm.get().expect("the server knows itself");
                let challenge = format!(r#"Bearer realm="{realm}",service="x""#);
                Response::new(401).header("www-authenticate", &challenge)
            }
        }
    });
    own.set(server.http("token")).expect("once");
    let store = Rstore::new();
    store.ok(["pull", "-q", &name(&server)]);
    arrived(&store, &publisher);

    // A registry that takes an upload at the third time only.
    let (shelf_server, shelf) = artifacts::registry(artifacts::Manners {
        tired: 2,
        ..artifacts::Manners::default()
    });
    publisher.ok(["push", "-q", "app:1", &name(&shelf_server)]);
    let shelf = shelf.lock().expect("a shelf");
    assert!(shelf.manifests.contains_key("1"));
}

#[test]
fn who_sends_next_to_nothing_is_asked_anew() {
    if skip_without(&NEEDS) {
        return;
    }
    let (pulled, store, asked, publisher) = pull_through(|number, _, mut response| {
        if number == 0 {
            response.drip = Some((100_000, Duration::from_millis(100)));
        }
        response
    });
    pulled.ok();
    arrived(&store, &publisher);
    assert_eq!(ranges(&asked).len(), 1, "{asked:?}");
}

#[test]
fn a_redirect_to_another_server_gets_neither_password_nor_token() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let elsewhere = Arc::new(before(&registry, |_, response| response));
    let upstream = registry.host();
    let target = elsewhere.clone();
    let server = Server::new(move |request| {
        let known = request.headers.get("authorization");
        if known.map(String::as_str) != Some("Basic bWU6c2VjcmV0") {
            return Response::new(401).header("www-authenticate", "Basic realm=\"x\"");
        }
        let response = crate::support::registry::passed_on(&upstream, request);
        match is_layer(request, &response) {
            true => Response::new(307).header("location", &target.http(&request.path[1..])),
            false => response,
        }
    });
    let name = name(&server);
    let host = name.split('/').next().expect("a host");
    let logins = scratch();
    let store = Rstore::new();
    let run = |arguments: &[&str]| {
        let mut command = store.command();
        command.env("DOCKER_CONFIG", logins.path()).args(arguments);
        let output = command.output().expect("rstore runs");
        Finished::new(&command, &output)
    };
    run(&["login", "-u", "me", "-p", "secret", host]).ok();
    run(&["pull", &name]).ok();
    arrived(&store, &publisher);
    let followed = elsewhere.requests();
    assert_eq!(followed.len(), 1, "{followed:?}");
    assert!(
        !followed[0].headers.contains_key("authorization"),
        "{followed:?}"
    );
}

#[test]
fn a_token_is_had_by_the_password_and_another_one_when_it_has_ended() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let upstream = registry.host();
    let given = AtomicUsize::new(0);
    let used = AtomicUsize::new(usize::MAX);
    let own: Arc<std::sync::OnceLock<String>> = Arc::default();
    let realm = own.clone();
    let server = Server::new(move |request| {
        if request.path.starts_with("/token?") {
            let known = request.headers.get("authorization");
            if known.map(String::as_str) != Some("Basic bWU6c2VjcmV0") {
                return Response::new(401);
            }
            let number = given.fetch_add(1, Ordering::SeqCst);
            return Response::ok(format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        // Each token does for one question.
        let latest = given.load(Ordering::SeqCst).wrapping_sub(1);
        let token = request.headers.get("authorization").cloned();
        let is_good = token == Some(format!("Bearer t{latest}"))
            && used.swap(latest, Ordering::SeqCst) != latest;
        if is_good {
            return crate::support::registry::passed_on(&upstream, request);
        }
        let realm = realm.get().expect("the server knows itself");
        let challenge =
            format!(r#"Bearer realm="{realm}",service="test",scope="repository:app:pull""#);
        Response::new(401).header("www-authenticate", &challenge)
    });
    own.set(server.http("token")).expect("once");
    let name = name(&server);
    let logins = scratch();
    let host = name.split('/').next().expect("a host");
    let auth = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
    fs::write(logins.path().join("config.json"), auth).expect("a file");
    let store = Rstore::new();
    let mut command = store.command();
    command
        .env("DOCKER_CONFIG", logins.path())
        .args(["pull", &name]);
    let output = command.output().expect("rstore runs");
    Finished::new(&command, &output).ok();
    arrived(&store, &publisher);
    let asked = server.requests();
    let tokens: Vec<&Request> = asked
        .iter()
        .filter(|r| r.path.starts_with("/token"))
        .collect();
    assert!(tokens.len() >= 2, "{asked:?}");
    for wanted in [
        "service=test",
        "account=me",
        "scope=repository%3Aapp%3Apull",
    ] {
        assert!(tokens[0].path.contains(wanted), "{tokens:?}");
    }
}

#[test]
fn a_pull_that_was_killed_is_gone_on_with_by_the_next() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let slow = Arc::new(AtomicUsize::new(1));
    let is_slow = slow.clone();
    let server = before(&registry, move |request, mut response| {
        if is_layer(request, &response) && is_slow.swap(0, Ordering::SeqCst) == 1 {
            response.drip = Some((256_000, Duration::from_millis(20)));
        }
        response
    });
    let name = name(&server);
    let store = Rstore::new();
    let mut command = store.command();
    command
        .args(["pull", &name])
        .stderr(Stdio::null())
        .stdout(Stdio::null());
    let mut child = command.spawn().expect("rstore runs");
    let partial = || {
        let ingest = fs::read_dir(store.root().join("rstore/ingest"))
            .into_iter()
            .flatten();
        let mut files = ingest.map(|entry| entry.expect("an entry").path());
        files.find(|path| path.to_string_lossy().contains("-partial-"))
    };
    let bytes = || {
        partial()
            .and_then(|path| fs::metadata(path).ok())
            .map_or(0, |m| m.len())
    };
    until("much has come", || bytes() > 200_000);
    child.kill().expect("a child");
    child.wait().expect("a child");
    server.requests();

    // It is accounted for, nobody's error, and spared for a while.
    store.ok(["fsck"]);
    let df = store.json(&["df"]);
    assert!(df.to_string().contains("temporary"), "{df}");
    store.ok(["prune", "-f"]);
    let left = bytes();
    assert!(left > 200_000, "the grace spares it");

    let pulled = store.run(["pull", &name]).ok();
    assert!(pulled.stderr.contains(": Resuming after "), "{pulled}");
    let asked = ranges(&server.requests());
    assert_eq!(asked, [Some(format!("bytes={left}-"))]);
    assert_eq!(
        store.tags().into_values().collect::<Vec<_>>(),
        [publisher.digest("app:1")]
    );
    store.verify();
    assert!(partial().is_none());

    // What nobody goes on with a prune takes.
    let hex = "0".repeat(64);
    let path = store
        .root()
        .join(format!("rstore/ingest/dead0000-partial-{hex}"));
    fs::write(&path, [1; 5_000]).expect("a file");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
    let file = fs::File::options().write(true).open(&path).expect("a file");
    file.set_modified(long_ago).expect("a time");
    store.ok(["prune", "-f"]);
    assert!(!path.exists());
}

/// An image of one layer of zeros, stored as they are: neither the test nor a registry has much to
/// do for it.
fn of_zeros(size: u64, name: &str) -> Rstore {
    let directory = scratch();
    let tar = directory.path().join("zeros.tar");
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").expect("a path");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    fs::write(&tar, header.as_bytes()).expect("a file");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&tar)
        .expect("a file");
    file.set_len(512 + size + 1024).expect("a length");
    let store = Rstore::new();
    let tar = tar.to_str().expect("UTF-8");
    store.ok(["import", "--compression", "none", tar, name]);
    store
}

#[test]
fn a_large_layer_does_not_pass_through_memory() {
    if skip_without(&NEEDS) {
        return;
    }
    let megabytes = number("RSTORE_TEST_LAYER", 256);
    let registry = Registry::start(Door::Open);
    let store = of_zeros(megabytes << 20, "large:1");
    let name = registry.name("large:1");
    for (store, arguments) in [
        (&store, vec!["push", "-q", "large:1", &name]),
        (&Rstore::new(), vec!["pull", "-q", &name]),
    ] {
        let mut child = store
            .command()
            .args(&arguments)
            .stdout(Stdio::null())
            .spawn();
        let child = child.as_mut().expect("rstore runs");
        let mut peak = 0;
        while child.try_wait().expect("a child").is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
            let line = status.unwrap_or_default();
            let line = line
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:").map(str::to_owned));
            let kilobytes =
                line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            peak = peak.max(kilobytes.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(child.wait().expect("a child").success(), "{arguments:?}");
        eprintln!(
            "{} of {megabytes} MiB: {peak} kB resident at most",
            arguments[0]
        );
        assert!(peak > 0 && peak < 150_000, "{arguments:?}: {peak} kB");
    }
}

#[test]
fn a_push_that_is_cut_is_brought_to_its_end() {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::sync::atomic::AtomicU64;
    if skip_without(&NEEDS) {
        return;
    }
    const PIECE: u64 = 64 << 20;
    let size = PIECE + (40 << 20);
    let registry = Registry::start(Door::Open);
    let store = of_zeros(size, "large:1");
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback device");
    let host = listener.local_addr().expect("an address").to_string();
    let upstream = registry.host();
    // Bytes to the registry; in the middle of the second piece the line is cut, once.
    let sent = Arc::new(AtomicU64::new(0));
    let cut = Arc::new(AtomicUsize::new(0));
    let (total, cuts) = (sent.clone(), cut.clone());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a connection");
            let mut server = TcpStream::connect(&upstream).expect("the registry");
            let (mut from, mut to) = (
                server.try_clone().expect("a socket"),
                client.try_clone().expect("a socket"),
            );
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let (total, cuts) = (total.clone(), cuts.clone());
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    let all = total.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
                    let is_here = all > PIECE + (20 << 20);
                    if is_here && cuts.swap(1, Ordering::SeqCst) == 0 {
                        let _ = client.shutdown(Shutdown::Both);
                        break;
                    }
                    if server.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    store.ok(["push", "-q", "large:1", &format!("{host}/large:1")]);
    assert_eq!(cut.load(Ordering::SeqCst), 1, "the line was cut");
    let all = sent.load(Ordering::SeqCst);
    // This registry forgets an upload that was cut within a piece: it begins once more.
    assert!(all < 2 * size, "{all} bytes for {size}");
    let pulled = Rstore::new();
    pulled.ok(["pull", "-q", &registry.name("large:1")]);
    assert_eq!(
        pulled.digest(&registry.name("large:1")),
        store.digest("large:1")
    );
}

/// A registry that takes uploads piece by piece, remembers how far each has come, and hangs up
/// once, in the middle of the second piece. At the end it tells how many bytes it was sent, and
/// those that it has.
fn that_remembers(listener: std::net::TcpListener) -> std::sync::mpsc::Receiver<(u64, Vec<u8>)> {
    use std::io::{BufRead, BufReader, Read, Write};
    let (sender, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut blob, mut sent, mut has_hung_up) = (Vec::new(), 0, false);
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            if stream.fill_buf().ok().and_then(|b| b.first().copied()) == Some(0x16) {
                continue;
            }
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                match stream.read_line(&mut line) {
                    Ok(3..) => head.push(line.trim().to_ascii_lowercase()),
                    _ => break,
                }
            }
            let Some(first) = head.first() else { continue };
            let header = |name: &str| {
                let prefix = format!("{name}: ");
                head.iter().find_map(|line| line.strip_prefix(&prefix))
            };
            let length: u64 = header("content-length").map_or(0, |n| n.parse().expect("a length"));
            let start: Option<usize> =
                header("content-range").and_then(|range| range.split('-').next()?.parse().ok());
            let hangs_up = start.is_some_and(|start| start > 0) && !has_hung_up;
            has_hung_up |= hangs_up;
            let taken = if hangs_up { 20 << 20 } else { length };
            let mut body = Vec::new();
            (&mut stream)
                .take(taken)
                .read_to_end(&mut body)
                .expect("a body");
            let status = match first.split(' ').next().unwrap_or_default() {
                "patch" if start == Some(blob.len()) => {
                    sent += body.len() as u64;
                    blob.append(&mut body);
                    "202 Accepted"
                }
                "patch" => "416 Range Not Satisfiable",
                "post" => "202 Accepted",
                "get" => "200 OK",
                "put" if first.contains("/manifests/") => {
                    let _ = sender.send((sent, std::mem::take(&mut blob)));
                    "201 Created"
                }
                "put" => "201 Created",
                _ => "404 Not Found",
            };
            if hangs_up {
                continue;
            }
            let last = blob.len().saturating_sub(1);
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\
                 location: /v2/large/blobs/uploads/1\r\nrange: 0-{last}\r\n\r\n"
            );
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    finished
}

#[test]
fn a_registry_that_remembers_gets_only_the_rest_of_a_push_that_was_cut() {
    let store = of_zeros((64 << 20) + (40 << 20), "large:1");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback device");
    let host = listener.local_addr().expect("an address");
    let finished = that_remembers(listener);
    store.ok(["push", "-q", "large:1", &format!("{host}/large:1")]);
    let (sent, blob) = finished.recv().expect("a manifest");
    let layer = fs::read(store.blob(&store.layers("large:1")[0])).expect("a layer");
    assert!(blob == layer, "{} bytes of {}", blob.len(), layer.len());
    assert_eq!(sent, layer.len() as u64, "each byte was taken once");
}

#[test]
fn a_build_that_is_interrupted_while_it_pulls_ends_at_once() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, _publisher) = with_image();
    let server = before(&registry, |request, mut response| {
        if is_layer(request, &response) {
            response.drip = Some((1_000, Duration::from_millis(50)));
        }
        response
    });
    let context = Context::new(&format!("FROM {}\n", name(&server)));
    let store = Rstore::new();
    let mut command = store.command();
    command
        .arg("build")
        .arg(context.path())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("rstore runs");
    until("the layer is coming", || {
        server.requests().iter().any(|r| r.path.contains("/blobs/")) || {
            std::thread::sleep(Duration::from_millis(50));
            false
        }
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let begun = std::time::Instant::now();
    let status = child.wait().expect("a child");
    assert_eq!(status.code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(store.tags().is_empty());
}

#[test]
fn mirrors_are_asked_first_and_what_one_lacks_comes_from_the_next() {
    use rstore::cli::host::Machine;
    use rstore::executor::Cancel;
    use rstore::oci::{Platform, Reference};
    use rstore::registry::{Client, Config, Event, HostConfig, pull};
    use rstore::store::{OpenMode, Store};
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let host = registry.host();
    // One that is not there, one that knows nothing, one that has lost its layers.
    let ignorant = Server::new(|_| Response::new(404));
    let forgetful = before(&registry, |request, response| {
        match request.path.contains("/blobs/") {
            true => Response::new(404),
            false => response,
        }
    });
    let behind = |server: &Server| server.http("").trim_end_matches('/').to_owned();
    let pull_by = |mirrors: Vec<String>, name: &str| {
        let settings = HostConfig {
            mirrors,
            ..HostConfig::default()
        };
        let config = Config {
            hosts: [(host.clone(), settings)].into(),
            ..Config::default()
        };
        let machine = Arc::new(Machine::new());
        let store = Rstore::new();
        let opened = Store::open(store.root(), OpenMode::Create, machine.clone()).expect("a store");
        let lease = opened.lease("pull", name).expect("a lease");
        let wanted = pull::Wanted::One {
            platform: Platform {
                architecture: "amd64".to_owned(),
                os: "linux".to_owned(),
                variant: None,
            },
            only: false,
        };
        let reference: Reference = name.parse().expect("a name");
        let cancel = Cancel::new().expect("an eventfd");
        let client = Client::new(config, machine);
        let pulled = pull::pull(
            &client,
            &lease,
            &reference,
            &wanted,
            &|_: Event| {},
            &cancel,
        );
        lease.end().expect("an end");
        drop(opened);
        pulled.map(|_| store).map_err(|error| error.to_string())
    };
    let mirrors = vec![
        "http://127.0.0.1:1".to_owned(),
        behind(&ignorant),
        behind(&forgetful),
    ];
    let store = pull_by(mirrors.clone(), &registry.name("app:1")).expect("it is there");
    assert_eq!(
        store.digest(&registry.name("app:1")),
        publisher.digest("app:1")
    );
    store.verify();
    for (server, part) in [(&ignorant, "/manifests/"), (&forgetful, "/blobs/")] {
        let asked = server.requests();
        assert!(asked.iter().any(|r| r.path.contains(part)), "{asked:?}");
    }
    let error = pull_by(mirrors, &registry.name("none:1"))
        .err()
        .expect("nobody has it");
    for tried in ["127.0.0.1:1", &ignorant.http("")[7..22], &host] {
        assert!(error.contains(tried), "no {tried:?}: {error}");
    }
}
