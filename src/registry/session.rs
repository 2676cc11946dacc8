//! One question to a registry, until it is answered: with who we are, after redirects, and again
//! where that may help.
//!
//! ```text
//! ─▶ 2xx, 404 …            the answer
//! ─▶ 401                   a token or a password, and again
//! ─▶ 3xx                   there, without either unless it is the same server
//! ─▶ cut off, 429, 5xx     again, later; `Retry-After` says when
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::hash_map::Entry;
use ureq::SendBody;
use ureq::http::Request as HttpRequest;

use super::auth::{Answer, Kind, Token, challenges, encoded};
use super::credentials::Login;
use super::endpoint::{Endpoint, failed};
use super::error::{Error, Result, is_passing};
use super::retry::{ATTEMPTS, MOST_PATIENT, delay, retry_after};
use super::{Client, Stop};
use crate::http::url::Url;
use crate::http::{basic, proxy, shown};

/// What a server gave.
pub(super) type Response = ureq::http::Response<ureq::Body>;

const MOST_REDIRECTS: u32 = 10;
/// How long a registry may take to answer a question,
const ANSWER: Duration = Duration::from_secs(120);
/// and to put away what it was sent, which some copy once more.
const KEEPING: Duration = Duration::from_secs(900);
/// One that waits for us to speak HTTP, while we speak TLS, waits for ever.
const PROBE: Duration = Duration::from_secs(10);
/// No token and no error is longer.
const SHORT: u64 = 1 << 20;

/// What is sent with a question.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// A part of a file; what was sent of it is counted up from `start`.
    File {
        path: &'a Path,
        start: u64,
        length: u64,
        sent: &'a AtomicU64,
    },
}

/// A question.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub method: &'static str,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload<'a>,
    /// What a token is asked for.
    pub scope: String,
    /// Whether it is sent again where that may help.
    pub again: bool,
}

impl Client {
    /// Asks once, and not for long, what a server says at all.
    pub(super) fn probe(&self, agent: &ureq::Agent, url: &Url) -> Result<Response, ureq::Error> {
        let proxy = proxy(&self.config().http, url)
            .map_err(|error| ureq::Error::BadUri(error.to_string()))?;
        let asked = agent.get(url.request()).config().proxy(proxy);
        asked.timeout_global(Some(PROBE)).build().call()
    }

    fn once(
        &self,
        agent: &ureq::Agent,
        url: &Url,
        request: &Request,
        authorization: Option<&str>,
    ) -> Result<Response, ureq::Error> {
        let patience = match request.method {
            "GET" | "HEAD" => ANSWER,
            _ => KEEPING,
        };
        self.once_within(agent, url, request, authorization, patience)
    }

    /// Asks once; the answer is to begin within `patience`.
    fn once_within(
        &self,
        agent: &ureq::Agent,
        url: &Url,
        request: &Request,
        authorization: Option<&str>,
        patience: Duration,
    ) -> Result<Response, ureq::Error> {
        let proxy = proxy(&self.config().http, url)
            .map_err(|error| ureq::Error::BadUri(error.to_string()))?;
        let mut builder = HttpRequest::builder()
            .method(request.method)
            .uri(url.request());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = authorization {
            builder = builder.header("authorization", authorization);
        }
        if matches!(request.method, "POST" | "PUT" | "PATCH") {
            builder = builder.header("content-length", request.payload.length());
        }
        match request.payload.open().map_err(ureq::Error::Io)? {
            Some(mut body) => {
                let body = SendBody::from_reader(&mut body);
                let built = builder.body(body).map_err(ureq::Error::Http)?;
                let asked = agent.configure_request(built).proxy(proxy);
                agent.run(asked.timeout_recv_response(Some(patience)).build())
            }
            None => {
                let built = builder.body(()).map_err(ureq::Error::Http)?;
                let asked = agent.configure_request(built).proxy(proxy);
                agent.run(asked.timeout_recv_response(Some(patience)).build())
            }
        }
    }

    /// Asks until there is an answer that more asking would not change.
    pub(super) fn send(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        stop: &Stop,
    ) -> Result<Response> {
        let mut url = request.url.clone();
        let guessed = endpoint.is_guess() && matches!(request.method, "GET" | "HEAD");
        if guessed {
            // Nobody is told yet who we are.
            let agent = endpoint.agent(&url)?;
            match self.once_within(agent, &url, request, None, PROBE) {
                Ok(answer) if endpoint.learn(&answer) && answer.status().is_success() => {
                    return Ok(answer);
                }
                _ => stop.check()?,
            }
        }
        let base = endpoint.url(self, "", stop)?;
        if guessed {
            url.scheme.clone_from(&base.scheme);
        }
        let (mut failures, mut redirects, mut challenged) = (0, 0, 0);
        loop {
            stop.check()?;
            // Who we are is between us and the registry.
            let own = url.same_origin(&base);
            let authorization = match own {
                true => self.authorization(endpoint, &request.scope, stop)?,
                false => None,
            };
            let agent = endpoint.agent(&url)?;
            let answer = self.once(agent, &url, request, authorization.as_deref());
            let response = match answer {
                Ok(response) => response,
                Err(error) => {
                    let error = failed(&shown(&url), &error);
                    failures += 1;
                    if !request.again || !error.is_passing() || failures >= ATTEMPTS {
                        return Err(error);
                    }
                    stop.pause(delay(failures, self.chance()))?;
                    continue;
                }
            };
            let status = response.status().as_u16();
            match status {
                401 if own => {
                    challenged += 1;
                    let sent = authorization.is_some();
                    self.challenged(endpoint, response, request, (challenged, sent))?;
                }
                301 | 302 | 303 | 307 | 308 if matches!(request.method, "GET" | "HEAD") => {
                    redirects += 1;
                    url = redirected(endpoint, &url, &response, redirects)?;
                }
                status if is_passing(status) => {
                    failures += 1;
                    let wait = self.wait(&response, failures);
                    if !request.again || failures >= ATTEMPTS || wait > MOST_PATIENT {
                        return Err(refused(&url, response));
                    }
                    stop.pause(wait)?;
                }
                _ => return Ok(response),
            }
        }
    }

    /// How long to wait after an answer that says "not now".
    fn wait(&self, response: &Response, failures: u32) -> Duration {
        let now = self.now() / 1000;
        let asked = header(response, "retry-after").and_then(|text| retry_after(&text, now));
        // What everybody is told alike, everybody would do at once.
        let chance = Duration::from_millis(self.chance() % 100);
        match asked {
            Some(asked) => asked.saturating_add(chance),
            None => delay(failures, self.chance()),
        }
    }

    /// Learns from a 401 what is wanted; an error if we have it not, or have `sent` it with this
    /// question: what another one has learned meanwhile was not shown yet.
    fn challenged(
        &self,
        endpoint: &Endpoint,
        response: Response,
        request: &Request,
        (times, sent): (u32, bool),
    ) -> Result<()> {
        let headers = response.headers().get_all("www-authenticate").iter();
        let found: Vec<_> = headers
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenges)
            .collect();
        let of = |scheme: &str| found.iter().find(|challenge| challenge.scheme == scheme);
        let mut state = endpoint.auth.lock().unwrap_or_else(PoisonError::into_inner);
        let bearer = of("bearer").and_then(|challenge| Some((challenge, challenge.get("realm")?)));
        let kind = match (bearer, of("basic")) {
            (Some((challenge, realm)), _) => Kind::Bearer {
                realm: realm.to_owned(),
                service: challenge.get("service").unwrap_or_default().to_owned(),
            },
            (None, Some(_)) => Kind::Basic,
            (None, None) => Kind::Nothing,
        };
        let user = state
            .login
            .iter()
            .flatten()
            .next()
            .map(|l| l.user().to_owned());
        let shown = sent && kind == state.kind && kind == Kind::Basic;
        // A token may have ended since; a second one that is refused is our last.
        if kind == Kind::Nothing || shown || times > 2 {
            let message = message(response);
            let registry = endpoint.name.clone();
            return Err(Error::Unauthorized {
                registry,
                user,
                message,
            });
        }
        state.tokens.remove(&request.scope);
        state.kind = kind;
        Ok(())
    }

    /// What the `Authorization` to a registry is to be.
    fn authorization(
        &self,
        endpoint: &Endpoint,
        scope: &str,
        stop: &Stop,
    ) -> Result<Option<String>> {
        let mut state = endpoint.auth.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = state.kind.clone();
        if kind == Kind::Nothing {
            return Ok(None);
        }
        let login = match &state.login {
            Some(login) => login.clone(),
            None => {
                let path = scope.split(':').nth(1).unwrap_or_default();
                let login = self.config().credentials.find(&endpoint.name, path)?;
                state.login.insert(login).clone()
            }
        };
        if let Some(Login::Bearer(token)) = &login {
            return Ok(Some(format!("Bearer {token}")));
        }
        match (kind, login) {
            (Kind::Bearer { realm, service }, login) => {
                let now = self.now();
                let token = match state.tokens.entry(scope.to_owned()) {
                    Entry::Occupied(entry) if entry.get().ends > now => entry.get().clone(),
                    _ => {
                        let token =
                            self.token(endpoint, (&realm, &service), scope, login.as_ref(), stop)?;
                        state.tokens.insert(scope.to_owned(), token.clone());
                        token
                    }
                };
                Ok(Some(format!("Bearer {}", token.text)))
            }
            (_, Some(Login::Password { user, password })) => {
                Ok(Some(basic(&format!("{user}:{password}"))))
            }
            _ => Err(Error::Unauthorized {
                registry: endpoint.name.clone(),
                user: None,
                message: String::new(),
            }),
        }
    }

    /// A token of the realm that the registry names.
    fn token(
        &self,
        endpoint: &Endpoint,
        (realm, service): (&str, &str),
        scope: &str,
        login: Option<&Login>,
        stop: &Stop,
    ) -> Result<Token> {
        let bad = |why: &str| Error::Refused {
            what: format!("{}: its realm {realm:?}", endpoint.name),
            why: why.to_owned(),
        };
        let url = Url::parse(realm).ok_or_else(|| bad("is no URL"))?;
        match url.scheme.as_str() {
            "https" => {}
            "http" if endpoint.may_be_plain(&url.host) => {}
            _ => {
                return Err(bad(
                    "is not as safe as the registry: nothing is sent there (`insecure = true` in the configuration's table of the registry, or --tls-verify=false, permits it)",
                ));
            }
        }
        let form = token_form(service, scope, login);
        let mut request = Request {
            method: "GET",
            url: url.clone(),
            headers: Vec::new(),
            payload: Payload::Nothing,
            scope: String::new(),
            again: true,
        };
        match login {
            Some(Login::Identity(_)) => {
                request.method = "POST";
                let kind = "application/x-www-form-urlencoded".to_owned();
                request.headers.push(("content-type", kind));
                request.payload = Payload::Bytes(form.as_bytes());
            }
            _ => {
                let before = url
                    .query
                    .as_deref()
                    .map_or(String::new(), |q| format!("{q}&"));
                request.url.query = Some(format!("{before}{form}"));
            }
        }
        if let Some(Login::Password { user, password }) = login {
            let basic = basic(&format!("{user}:{password}"));
            request.headers.push(("authorization", basic));
        }
        let response = self.send_to_realm(endpoint, &request, stop)?;
        match response.status().as_u16() {
            200 => {}
            400 | 401 | 403 => {
                return Err(Error::Unauthorized {
                    registry: endpoint.name.clone(),
                    user: login.map(|login| login.user().to_owned()),
                    message: message(response),
                });
            }
            _ => return Err(refused(&url, response)),
        }
        let body = short(response);
        let answer: Option<Answer> = serde_json::from_slice(&body).ok();
        answer
            .and_then(|answer| answer.token(self.now()))
            .ok_or_else(|| bad("gave no token"))
    }

    /// Asks a realm: no redirects, since the question may hold a password.
    fn send_to_realm(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        stop: &Stop,
    ) -> Result<Response> {
        let mut failures = 0;
        loop {
            stop.check()?;
            let agent = endpoint.agent(&request.url)?;
            let answer = self.once(agent, &request.url, request, None);
            failures += 1;
            let wait = match answer {
                Ok(response) if !is_passing(response.status().as_u16()) => return Ok(response),
                Ok(response) => {
                    let wait = self.wait(&response, failures);
                    if failures >= ATTEMPTS || wait > MOST_PATIENT {
                        return Err(refused(&request.url, response));
                    }
                    wait
                }
                Err(error) => {
                    let error = failed(&shown(&request.url), &error);
                    if failures >= ATTEMPTS || !error.is_passing() {
                        return Err(error);
                    }
                    delay(failures, self.chance())
                }
            };
            stop.pause(wait)?;
        }
    }
}

/// What a realm is asked, as a query or as a form.
fn token_form(service: &str, scope: &str, login: Option<&Login>) -> String {
    let mut form = Vec::new();
    let mut add = |name: &str, value: &str| form.push(format!("{name}={}", encoded(value)));
    if !service.is_empty() {
        add("service", service);
    }
    match login {
        Some(Login::Identity(token)) => {
            add("grant_type", "refresh_token");
            add("client_id", "rstore");
            add("refresh_token", token);
            if !scope.is_empty() {
                add("scope", scope);
            }
        }
        login => {
            if let Some(login) = login {
                add("account", login.user());
            }
            for scope in scope.split(' ').filter(|scope| !scope.is_empty()) {
                add("scope", scope);
            }
        }
    }
    form.join("&")
}

impl Payload<'_> {
    fn length(&self) -> u64 {
        match self {
            Payload::Nothing => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::File { length, .. } => *length,
        }
    }

    /// What is sent, from its beginning.
    fn open(&self) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(Some(match self {
            Payload::Nothing => return Ok(None),
            Payload::Bytes(bytes) => Box::new(*bytes),
            Payload::File {
                path,
                start,
                length,
                sent,
            } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*start))?;
                sent.store(*start, Ordering::Relaxed);
                Box::new(Counted {
                    inner: file.take(*length),
                    sent,
                })
            }
        }))
    }
}

/// Counts what is read through it.
struct Counted<'a, R> {
    inner: R,
    sent: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Where a redirect leads.
fn redirected(endpoint: &Endpoint, url: &Url, response: &Response, count: u32) -> Result<Url> {
    let bad = |why: &str| Error::Wrong {
        what: shown(url),
        why: why.to_owned(),
    };
    if count > MOST_REDIRECTS {
        return Err(bad("it is redirected more than ten times"));
    }
    let location = header(response, "location").and_then(|to| url.join(&to));
    let next = location.ok_or_else(|| bad("it is redirected to nowhere"))?;
    match is_as_safe(endpoint, url, &next) {
        true => Ok(next),
        false => Err(bad("it is redirected from HTTPS to something less safe")),
    }
}

/// Whether what is between us and a registry may go on at a URL that an answer from `url` names.
pub(super) fn is_as_safe(endpoint: &Endpoint, url: &Url, next: &Url) -> bool {
    match next.scheme.as_str() {
        "https" => true,
        "http" => url.scheme == "http" || endpoint.may_be_plain(&next.host),
        _ => false,
    }
}

/// A header's text.
pub(super) fn header(response: &Response, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

/// An answer that is an error.
pub(super) fn refused(url: &Url, response: Response) -> Error {
    Error::Status {
        url: shown(url),
        status: response.status().as_u16(),
        message: message(response),
    }
}

/// The bytes of an answer that must be short.
pub(super) fn short(response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut body = response.into_body().into_reader().take(SHORT);
    // What was cut off is no JSON, and says nothing.
    let _ = body.read_to_end(&mut bytes);
    bytes
}

/// A registry's own words on an error (distribution-spec, "Error Codes"), or a realm's.
pub(super) fn message(response: Response) -> String {
    let body: serde_json::Value = serde_json::from_slice(&short(response)).unwrap_or_default();
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    let first = &body["errors"][0];
    let told = [
        text(first, "message"),
        text(first, "code"),
        text(&body, "details"),
        text(&body, "error_description"),
    ];
    let told = told.into_iter().find(|text| !text.is_empty());
    // It may be anybody's text.
    let told = told.unwrap_or_default();
    let clean = told.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(300).collect()
}
