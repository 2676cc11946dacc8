//! Who we are to which registry: docker's `config.json`, podman's `auth.json`, credential helpers.
//!
//! ```text
//! config.json   { "auths":       { "HOST": { "auth": base64(user:password), "identitytoken": … } },
//!                 "credHelpers": { "HOST": "NAME" },     docker-credential-NAME for this host
//!                 "credsStore":  "NAME" }                and for all others
//! ```
//! A registry's helper comes first, then the store of all, then `auths`; then the files that are
//! only read. Podman's keys may name a repository as well: the longest that fits counts. `docker.io`
//! has several names, and the one that docker writes: `https://index.docker.io/v1/`.
//!
//! A login changes its own entry and nothing else of the file, which appears whole or not at all
//! and is for its owner's eyes alone. Passwords show in no message.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::error::{Error, Result};
use crate::fsutil::{self, IoContext};

/// Docker's own registry, as people call it.
pub(super) const DOCKER: &str = "docker.io";
/// And as docker's files do.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// Who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// By a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// By a token that gives others.
    Identity(String),
    /// By a token that is shown as it is.
    Bearer(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a login of {}", self.user())
    }
}

impl Login {
    /// The user, for messages.
    pub fn user(&self) -> &str {
        match self {
            Login::Password { user, .. } => user,
            Login::Identity(_) | Login::Bearer(_) => "<token>",
        }
    }
}

/// Where credentials are.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Docker's `config.json`: read and written.
    pub config: Option<PathBuf>,
    /// Files of the same form that are only read, the first first.
    pub others: Vec<PathBuf>,
    /// Who we are to whomever, instead of what files say.
    pub given: Option<Login>,
}

/// Where a login was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this file.
    File(PathBuf),
    /// By this helper.
    Helper(String),
}

impl Sources {
    /// The login for a repository of a registry.
    pub fn find(&self, registry: &str, path: &str) -> Result<Option<Login>> {
        if self.given.is_some() {
            return Ok(self.given.clone());
        }
        for file in self.config.iter().chain(&self.others) {
            let config = read(file)?;
            if let Some(helper) = helper(&config, registry)
                && let Some(login) = from_helper(&helper, registry)?
            {
                return Ok(Some(login));
            }
            if let Some(login) = of_auths(&config, file, registry, path)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    /// Keeps a login for a registry.
    pub fn keep(&self, registry: &str, user: &str, password: &str) -> Result<Kept> {
        let file = self.writable()?;
        let mut config = read(file)?;
        if let Some(helper) = helper(&config, registry) {
            let server = key(registry);
            let entry = json!({"ServerURL": server, "Username": user, "Secret": password});
            run_helper(&helper, "store", &entry.to_string())?;
            return Ok(Kept::Helper(helper));
        }
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        let Value::Object(auths) = auths else {
            return Err(malformed(file, "its \"auths\" is no object"));
        };
        auths.retain(|known, _| !is_same(known, registry));
        let auth = STANDARD.encode(format!("{user}:{password}"));
        auths.insert(key(registry), json!({"auth": auth}));
        write(file, &config)?;
        Ok(Kept::File(file.to_path_buf()))
    }

    /// Forgets the login for a registry. Returns whether there was one.
    pub fn forget(&self, registry: &str) -> Result<bool> {
        let file = self.writable()?;
        let mut config = read(file)?;
        let mut found = false;
        if let Some(helper) = helper(&config, registry) {
            found = from_helper(&helper, registry)?.is_some();
            if found {
                run_helper(&helper, "erase", &key(registry))?;
            }
        }
        if let Some(Value::Object(auths)) = config.get_mut("auths") {
            let before = auths.len();
            auths.retain(|known, _| !is_same(known, registry));
            if auths.len() != before {
                found = true;
                write(file, &config)?;
            }
        }
        Ok(found)
    }

    fn writable(&self) -> Result<&Path> {
        self.config.as_deref().ok_or_else(|| Error::Credentials {
            what: "config.json".to_owned(),
            why: "neither DOCKER_CONFIG nor HOME says where it is".to_owned(),
        })
    }
}

/// What docker calls a registry in its files.
fn key(registry: &str) -> String {
    match registry {
        DOCKER => DOCKER_KEY.to_owned(),
        other => other.to_owned(),
    }
}

/// A key without scheme and API version; docker's own registry by its one name.
fn plain(key: &str) -> &str {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
        .trim_end_matches('/');
    let bare = ["/v1", "/v2"]
        .iter()
        .find_map(|version| bare.strip_suffix(version))
        .unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => DOCKER,
        bare => bare,
    }
}

fn is_same(key: &str, registry: &str) -> bool {
    plain(key) == registry
}

fn malformed(file: &Path, why: &str) -> Error {
    Error::Credentials {
        what: file.display().to_string(),
        why: why.to_owned(),
    }
}

/// The members of a file; none, where there is no such file.
fn read(file: &Path) -> Result<Map<String, Value>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(fsutil::Error::new("read", file, error).into()),
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(malformed(file, "it is no JSON object")),
        // Not the parser's words: they may quote a secret.
        Err(error) => Err(malformed(
            file,
            &format!(
                "it is no JSON (line {}, column {})",
                error.line(),
                error.column()
            ),
        )),
    }
}

/// Replaces a file, or what a link to it leads to, by one that its owner alone can read.
fn write(file: &Path, config: &Map<String, Value>) -> Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the user's own link, of no image"
    )]
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let directory = file.parent().unwrap_or(Path::new("."));
    if !directory.is_dir() {
        fsutil::create_dir_all(directory)?;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(directory, private).at("chmod", directory)?;
    }
    let mut text = serde_json::to_vec_pretty(config).expect("JSON values serialise");
    text.push(b'\n');
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        fsutil::remove_file(&temporary)?;
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .at("create", &temporary)?;
        out.write_all(&text).at("write", &temporary)?;
        out.sync_all().at("fsync", &temporary)?;
        fs::rename(&temporary, &file).at("rename", &temporary)?;
        fsutil::sync_dir(directory)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    Ok(written?)
}

/// The helper for a registry.
fn helper(config: &Map<String, Value>, registry: &str) -> Option<String> {
    let text = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let own = config.get("credHelpers").and_then(Value::as_object);
    let own = own.and_then(|own| own.iter().find(|(known, _)| is_same(known, registry)));
    own.and_then(|(_, name)| text(name))
        .or_else(|| config.get("credsStore").and_then(text))
}

fn from_helper(helper: &str, registry: &str) -> Result<Option<Login>> {
    let Some(answer) = run_helper(helper, "get", &key(registry))? else {
        return Ok(None);
    };
    let answer: Value = serde_json::from_str(&answer).map_err(|_| Error::Credentials {
        what: format!("docker-credential-{helper}"),
        why: "its answer is no JSON".to_owned(),
    })?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or("");
    let (user, secret) = (text("Username").to_owned(), text("Secret").to_owned());
    Ok(match (user.as_str(), secret.is_empty()) {
        (_, true) => None,
        ("<token>", _) => Some(Login::Identity(secret)),
        _ => Some(Login::Password {
            user,
            password: secret,
        }),
    })
}

/// Asks a credential helper (docker-credential-helpers, README). `None`: it knows of none. It gets
/// the environment of this process, since it may need whatever is in it.
fn run_helper(helper: &str, verb: &str, input: &str) -> Result<Option<String>> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| Error::Credentials {
        what: program.clone(),
        why,
    };
    if helper.contains('/') {
        return Err(failed("a helper's name has no slash".to_owned()));
    }
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(format!("it cannot be run: {error}; config.json names it")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that doesn't read says by its status what it thinks of it.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() {
        true => Ok(Some(said)),
        // The words by which all of them say so.
        false if verb == "get" && said.contains("credentials not found") => Ok(None),
        false => Err(failed(format!("{}: {said}", output.status))),
    }
}

/// The login that a file itself has: the entry with the longest key that fits.
fn of_auths(
    config: &Map<String, Value>,
    file: &Path,
    registry: &str,
    path: &str,
) -> Result<Option<Login>> {
    let Some(auths) = config.get("auths").and_then(Value::as_object) else {
        return Ok(None);
    };
    let whole = format!("{registry}/{path}");
    let fits = |known: &str| {
        let rest = whole.strip_prefix(plain(known));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let entries = auths.iter().filter(|(known, _)| fits(known));
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|(known, _)| std::cmp::Reverse(plain(known).len()));
    for (known, entry) in entries {
        let login = of_entry(entry);
        let login = login.map_err(|why| malformed(file, &format!("the entry {known:?} {why}")))?;
        if login.is_some() {
            return Ok(login);
        }
    }
    Ok(None)
}

fn of_entry(entry: &Value) -> Result<Option<Login>, &'static str> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("");
    if !text("identitytoken").is_empty() {
        return Ok(Some(Login::Identity(text("identitytoken").to_owned())));
    }
    if !text("registrytoken").is_empty() {
        return Ok(Some(Login::Bearer(text("registrytoken").to_owned())));
    }
    let (user, password) = match text("auth") {
        // docker leaves these empty where a helper has them.
        "" => (text("username").to_owned(), text("password").to_owned()),
        auth => {
            let bytes = STANDARD
                .decode(auth)
                .map_err(|_| "has an auth that is no base64")?;
            let pair = String::from_utf8(bytes).map_err(|_| "has an auth that is no UTF-8")?;
            let (user, password) = pair.split_once(':').ok_or("has an auth without a colon")?;
            // Old versions of docker padded it.
            let password = password.trim_end_matches('\0');
            (user.to_owned(), password.to_owned())
        }
    };
    Ok((!user.is_empty()).then_some(Login::Password { user, password }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> (tempfile::TempDir, Sources) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        fs::write(&file, text).unwrap();
        let sources = Sources {
            config: Some(file),
            ..Sources::default()
        };
        (directory, sources)
    }

    fn user(sources: &Sources, registry: &str, path: &str) -> Option<String> {
        let login = sources.find(registry, path).unwrap();
        login.map(|login| login.user().to_owned())
    }

    #[test]
    fn the_longest_key_that_fits_counts_and_docker_has_many_names() {
        let auth = |user: &str| STANDARD.encode(format!("{user}:pw"));
        let text = format!(
            r#"{{"auths":{{"r.example":{{"auth":"{}"}},"r.example/team":{{"auth":"{}"}},
                "https://index.docker.io/v1/":{{"auth":"{}"}},"http://old.example/v2/":{{"auth":"{}"}},
                "t.example":{{"identitytoken":"x"}},"empty.example":{{}}}}}}"#,
            auth("one"),
            auth("two"),
            auth("hub"),
            auth("old")
        );
        let (_dir, sources) = sources(&text);
        let user = |registry: &str, path: &str| user(&sources, registry, path);
        assert_eq!(user("r.example", "app").as_deref(), Some("one"));
        assert_eq!(user("r.example", "team/app").as_deref(), Some("two"));
        assert_eq!(user("r.example", "teams/app").as_deref(), Some("one"));
        assert_eq!(user("docker.io", "library/alpine").as_deref(), Some("hub"));
        assert_eq!(user("old.example", "a").as_deref(), Some("old"));
        assert_eq!(user("t.example", "a").as_deref(), Some("<token>"));
        assert_eq!(user("empty.example", "a"), None);
        assert_eq!(user("r.example:5000", "a"), None);
    }

    #[test]
    fn a_login_changes_its_own_entry_and_no_other_and_is_private() {
        let (dir, sources) = sources(
            r#"{"HttpHeaders":{"X":"y"},"auths":{"a.example":{"auth":"eDp5"},"docker.io":{}}}"#,
        );
        sources.keep("docker.io", "me", "pa:ss").unwrap();
        let file = dir.path().join("config.json");
        let value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(value["HttpHeaders"]["X"], "y");
        assert_eq!(value["auths"]["a.example"]["auth"], "eDp5");
        assert_eq!(value["auths"].as_object().unwrap().len(), 2);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let login = sources.find("docker.io", "library/x").unwrap();
        let expected = Login::Password {
            user: "me".into(),
            password: "pa:ss".into(),
        };
        assert_eq!(login, Some(expected));
        assert!(sources.forget("docker.io").unwrap());
        assert!(!sources.forget("docker.io").unwrap());
        assert_eq!(user(&sources, "a.example", "x").as_deref(), Some("x"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_without_its_secrets() {
        for text in [
            "[]",
            r#"{"auths":{"r":{"auth":"c2VjcmV0"#,
            r#"{"auths":{"r":{"auth":"secret!"}}}"#,
            r#"{"auths":{"r":{"auth":"c2VjcmV0"}}}"#,
        ] {
            let (_dir, sources) = sources(text);
            let error = sources.find("r", "a").unwrap_err().to_string();
            assert!(error.contains("config.json"), "{error}");
            assert!(
                !error.contains("secret") && !error.contains("c2Vj"),
                "{error}"
            );
        }
        let (_dir, sources) = sources(r#"{"auths":[]}"#);
        assert!(sources.keep("r", "u", "p").is_err());
    }

    #[test]
    fn a_helper_goes_before_the_file_and_one_that_is_missing_is_told() {
        let (_dir, sources) = sources(r#"{"credHelpers":{"r.example":"no-such-helper"}}"#);
        let error = sources.find("r.example", "a").unwrap_err().to_string();
        assert!(
            error.contains("docker-credential-no-such-helper"),
            "{error}"
        );
        assert_eq!(sources.find("other.example", "a").unwrap(), None);
    }
}
