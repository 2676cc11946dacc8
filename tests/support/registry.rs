//! Registries on the loopback device: Debian's, and one before it that misbehaves.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::http::{Request, Response, Server};
use super::{need, scratch};

/// Of `me` and `secret`: bcrypt, which is all that the registry reads.
const HTPASSWD: &str = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// How a registry is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// HTTP, for everybody.
    Open,
    /// HTTP, for `me` with `secret`.
    Locked,
    /// HTTPS, for everybody, as `localhost`.
    Secure,
    /// HTTPS, for whoever has a certificate, as `localhost` and `registry.test`.
    Mutual,
    /// HTTP, for everybody; what is there stays.
    Lasting,
}

/// `docker-registry`, which goes when the value does.
pub struct Registry {
    child: Child,
    port: u16,
    door: Door,
    _directory: tempfile::TempDir,
}

impl Registry {
    /// Starts one on a free port.
    pub fn start(door: Door) -> Registry {
        // Somebody else may take the port before it does: then with another one.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback device");
            let port = listener.local_addr().expect("an address").port();
            drop(listener);
            if let Some(registry) = Registry::on(port, door) {
                return registry;
            }
        }
        panic!("docker-registry does not start");
    }

    fn on(port: u16, door: Door) -> Option<Registry> {
        let directory = scratch();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("htpasswd"), HTPASSWD).expect("a file");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
             delete: {{enabled: {}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            at("data"),
            door != Door::Lasting
        );
        let tls = super::package().join("tests/fixtures/tls");
        match door {
            Door::Open | Door::Lasting => {}
            Door::Locked => config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                at("htpasswd")
            )),
            Door::Secure => config.push_str(&format!(
                "  tls:\n    certificate: {0}/server.pem\n    key: {0}/server.key\n",
                tls.display()
            )),
            Door::Mutual => config.push_str(&format!(
                "  tls:\n    certificate: {0}/registry.pem\n    key: {0}/registry.key\n    \
                 clientcas: [{0}/mutual-authority.pem]\n",
                tls.display()
            )),
        }
        std::fs::write(at("config.yml"), config).expect("a file");
        let mut child = need::program("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry runs");
        let patience = Instant::now() + Duration::from_secs(20);
        while Instant::now() < patience {
            if child.try_wait().expect("a child").is_some() {
                return None;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Registry {
                    child,
                    port,
                    door,
                    _directory: directory,
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// `HOST:PORT`, as names of images have it.
    pub fn host(&self) -> String {
        match self.door {
            Door::Secure | Door::Mutual => format!("localhost:{}", self.port),
            _ => format!("127.0.0.1:{}", self.port),
        }
    }

    /// The bytes of a manifest or a blob of an open registry: `team/app/manifests/1`.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        let accept = "application/vnd.oci.image.manifest.v1+json";
        let url = format!("http://{}/v2/{path}", self.host());
        let answer = ureq::get(&url).header("accept", accept).call();
        let mut bytes = Vec::new();
        let mut body = answer.ok()?.into_body().into_reader();
        body.read_to_end(&mut bytes).expect("a body");
        Some(bytes)
    }

    /// Gives a manifest of an open registry another name: `team/app/manifests/1`.
    pub fn put_manifest(&self, path: &str, bytes: &[u8]) {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let url = format!("http://{}/v2/{path}", self.host());
        let put = ureq::put(&url).header("content-type", kind).send(bytes);
        assert_eq!(put.expect("an answer").status().as_u16(), 201);
    }

    /// A name of it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes a question on to a registry, with all that was asked for.
pub fn passed_on(upstream: &str, request: &Request) -> Response {
    let url = format!("http://{upstream}{}", request.path);
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .new_agent();
    let mut asked = match request.method.as_str() {
        "HEAD" => agent.head(&url),
        _ => agent.get(&url),
    };
    for (name, value) in &request.headers {
        if ["accept", "range", "authorization"].contains(&name.as_str()) {
            asked = asked.header(name, value);
        }
    }
    let answer = asked.call().expect("the registry answers");
    let mut response = Response::new(answer.status().as_u16());
    for (name, value) in answer.headers() {
        let value = value.to_str().expect("text").to_owned();
        match name.as_str() {
            "content-length" if request.method == "HEAD" => {
                response.announced = Some(value.parse().expect("a length"));
            }
            "content-length" | "connection" | "transfer-encoding" => {}
            name => response.headers.push((name.to_owned(), value)),
        }
    }
    let mut body = answer.into_body().into_reader();
    body.read_to_end(&mut response.body).expect("a body");
    response
}

/// A server before a registry: `fault` may make something else of each answer.
pub fn before(
    registry: &Registry,
    fault: impl Fn(&Request, Response) -> Response + Send + 'static,
) -> Server {
    let upstream = registry.host();
    Server::new(move |request| fault(request, passed_on(&upstream, request)))
}

/// Whether a question is for a blob's bytes, and no config's: those are large here.
pub fn is_layer(request: &Request, response: &Response) -> bool {
    request.path.contains("/blobs/") && request.method == "GET" && response.body.len() > 10_000
}

/// A tar of one file with so many bytes that cannot be compressed.
pub fn noise_tar(directory: &Path, name: &str, size: usize) -> PathBuf {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ (name.len() as u64) ^ (size as u64) << 7;
    for byte in name.bytes() {
        state = state.wrapping_mul(31).wrapping_add(u64::from(byte)) | 1;
    }
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    let path = directory.join(format!("{name}.tar"));
    let mut tar = tar::Builder::new(std::fs::File::create(&path).expect("a file"));
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, &bytes[..])
        .expect("an entry");
    tar.finish().expect("a tar");
    path
}
