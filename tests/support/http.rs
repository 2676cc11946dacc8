//! A server of HTTP on the loopback device, and one of git repositories, both in this process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    /// As long as the headers say.
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// A `Content-Length` that is not the body's.
    pub announced: Option<usize>,
    /// After how many bytes the rest of the body comes one by one, this long after one another.
    pub drip: Option<(usize, std::time::Duration)>,
}

impl Response {
    pub fn new(status: u16) -> Response {
        Response {
            status,
            ..Response::default()
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Response {
        Response {
            body: body.into(),
            ..Response::new(200)
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Response {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A server that goes when the value does.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// A server that answers as `handler` says.
    pub fn new(handler: impl Fn(&Request) -> Response + Send + 'static) -> Server {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        Server::serving(requests, move |mut stream| {
            if let Some(request) = read(&stream) {
                seen.lock().unwrap().push(request.clone());
                write(&mut stream, &handler(&request));
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read(&mut [0; 1]);
            }
        })
    }

    /// The same, but it answers several at the same time.
    pub fn side_by_side(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Server {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let handler = Arc::new(handler);
        Server::serving(requests, move |mut stream| {
            let (seen, handler) = (seen.clone(), handler.clone());
            std::thread::spawn(move || {
                if let Some(request) = read(&stream) {
                    seen.lock().unwrap().push(request.clone());
                    write(&mut stream, &handler(&request));
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.read(&mut [0; 1]);
                }
            });
        })
    }

    /// The same behind TLS, for `localhost`; `fixtures/tls/authority.pem` vouches for it.
    pub fn secure(handler: impl Fn(&Request) -> Response + Send + 'static) -> Server {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let directory = super::package().join("tests/fixtures/tls");
        let certificate = CertificateDer::from_pem_file(directory.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        Server::serving(requests, move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            if let Some(request) = read(&mut stream) {
                seen.lock().unwrap().push(request.clone());
                write(&mut stream, &handler(&request));
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        })
    }

    /// A server of one directory's files.
    pub fn of_files(directory: &Path) -> Server {
        let directory = directory.to_path_buf();
        Server::new(move |request| {
            let path = request.path.split('?').next().unwrap_or("");
            match std::fs::read(directory.join(path.trim_start_matches('/'))) {
                Ok(bytes) => Response::ok(bytes),
                Err(_) => Response::new(404),
            }
        })
    }

    /// A server of the repositories below a directory, by the git protocol.
    pub fn of_repositories(directory: &Path) -> Server {
        let base = format!("--base-path={}", directory.display());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        Server::serving(requests, move |stream| {
            seen.lock().unwrap().push(Request {
                method: String::new(),
                path: String::new(),
                headers: BTreeMap::new(),
                body: Vec::new(),
            });
            let input: std::os::fd::OwnedFd = stream.try_clone().expect("a socket").into();
            let output: std::os::fd::OwnedFd = stream.into();
            let mut daemon = Command::new("git");
            daemon
                .args(["-c", "safe.directory=*"])
                .args(["daemon", "--inetd", "--export-all"]);
            // Commits are asked for by their IDs.
            daemon.env("GIT_CONFIG_COUNT", "1");
            daemon.env("GIT_CONFIG_KEY_0", "uploadpack.allowAnySHA1InWant");
            daemon.env("GIT_CONFIG_VALUE_0", "true");
            let daemon = daemon
                .arg(&base)
                .stdin(input)
                .stdout(output)
                .stderr(Stdio::null());
            let _ = daemon.status();
        })
    }

    fn serving(
        requests: Arc<Mutex<Vec<Request>>>,
        serve: impl Fn(TcpStream) + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback device");
        let address = listener.local_addr().expect("an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                serve(stream.expect("a connection"));
            }
        });
        Server {
            address,
            requests,
            stopped,
        }
    }

    /// `SCHEME://127.0.0.1:PORT/PATH`
    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}/{path}", self.address)
    }

    /// `http://127.0.0.1:PORT/PATH`
    pub fn http(&self, path: &str) -> String {
        self.url("http", path)
    }

    /// What was asked until now; forgotten then.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn read(stream: impl Read) -> Option<Request> {
    let mut stream = BufReader::new(stream);
    // Who speaks TLS to a server that doesn't is not kept waiting.
    if stream.fill_buf().ok()?.first() == Some(&0x16) {
        return None;
    }
    let mut lines = stream.by_ref().lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split_whitespace();
    let method = words.next()?.to_owned();
    let path = words.next()?.to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(Some(0), |n| n.parse().ok())?;
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

fn write(stream: &mut impl Write, response: &Response) {
    let length = response.announced.unwrap_or(response.body.len());
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", response.status);
    head.push_str(&format!("content-length: {length}\r\n"));
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // Whoever has read enough may be gone.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(b"\r\n");
    let (fast, pause) = response.drip.unwrap_or_default();
    if pause.is_zero() {
        let _ = stream.write_all(&response.body);
        return;
    }
    let (at_once, slowly) = response.body.split_at(fast);
    let mut sent = stream.write_all(at_once);
    for byte in slowly {
        sent = sent.and_then(|()| stream.write_all(&[*byte]));
        if sent.is_err() {
            return;
        }
        std::thread::sleep(pause);
    }
}

/// A repository that goes with its directory.
pub struct Repository {
    directory: tempfile::TempDir,
    name: String,
}

impl Repository {
    /// A bare repository `NAME.git` beside a work tree, with nothing in it.
    pub fn new(name: &str) -> Repository {
        let repository = Repository {
            directory: super::scratch(),
            name: name.to_owned(),
        };
        std::fs::create_dir(repository.work()).expect("a directory");
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    /// Where [`Server::of_repositories`] and [`Server::of_files`] serve it from.
    pub fn base(&self) -> &Path {
        self.directory.path()
    }

    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Runs git in the work tree.
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.current_dir(self.work()).args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.com",
            "-c",
            "protocol.file.allow=always",
        ]);
        git.env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        super::run(git.args(arguments)).trim().to_owned()
    }

    /// Writes files and commits them; the commit's ID.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.work().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            std::fs::write(path, content).expect("a file");
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        self.publish();
        self.git(&["rev-parse", "HEAD"])
    }

    /// Brings the bare repository to the state of the work tree's.
    pub fn publish(&self) {
        let bare = self.directory.path().join(format!("{}.git", self.name));
        let bare = bare.to_str().expect("UTF-8");
        self.git(&["init", "-q", "--bare", "-b", "main", bare]);
        self.git(&["push", "-q", "--mirror", "--force", bare]);
        self.git(&["--git-dir", bare, "update-server-info"]);
    }
}
