//! Showing a registry who asks: challenges, tokens, passwords.
//!
//! ```text
//! request ─▶ 401, WWW-Authenticate: Bearer realm="…",service="…"   ─▶ token of the realm ─▶ request
//!            401, WWW-Authenticate: Basic realm="…"                ─▶ user and password  ─▶ request
//! ```
//! What a registry wants is remembered for the next request, a token until it expires, one for each
//! scope (distribution's "Token Authentication"; RFC 6750, 7617). User and password go to the
//! registry, or to the realm that it names, which must be as safe as the registry itself; a
//! redirect gets neither them nor a token.

use hashbrown::HashMap;
use serde::Deserialize;

use super::credentials::Login;

/// What is known of how a registry wants to be asked.
#[derive(Debug, Default)]
pub(super) struct State {
    pub kind: Kind,
    /// Who we are there; `None`: not looked up yet.
    pub login: Option<Option<Login>>,
    /// By scope.
    pub tokens: HashMap<String, Token>,
}

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Kind {
    /// Nothing, as far as it has said.
    #[default]
    Nothing,
    /// User and password.
    Basic,
    /// A token.
    Bearer { realm: String, service: String },
}

/// A token, and when it ends, in milliseconds since the epoch.
#[derive(Clone)]
pub(super) struct Token {
    pub text: String,
    pub ends: i64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a token until {}", self.ends)
    }
}

/// What a realm answers.
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<i64>,
}

impl Answer {
    /// The token, given at `now`.
    pub fn token(self, now: i64) -> Option<Token> {
        let text = match self.token.is_empty() {
            true => self.access_token,
            false => self.token,
        };
        // A minute where it isn't said; and a little early, since it has to get there.
        let seconds = self.expires_in.filter(|s| *s > 0).unwrap_or(60);
        let token = Token {
            text,
            ends: now.saturating_add(seconds.saturating_mul(900)),
        };
        (!token.text.is_empty()).then_some(token)
    }
}

/// One challenge: its scheme in lower case, its parameters by name in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        let (_, value) = parameters.find(|(key, _)| key == name)?;
        Some(value)
    }
}

/// The challenges of a `WWW-Authenticate` (RFC 9110, 11.6.1): there may be several in one.
pub(super) fn challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    for part in parts(header) {
        // `Scheme name=value`, `name=value`, or `Scheme` alone.
        let (before, value) = match part.split_once('=') {
            Some((before, value)) => (before.trim(), Some(value.trim())),
            None => (part.as_str(), None),
        };
        let (scheme, name) = match (before.rsplit_once(' '), value) {
            (Some((scheme, name)), Some(_)) => (Some(scheme.trim()), name),
            (None, Some(_)) => (None, before),
            (_, None) => (Some(before), ""),
        };
        if let Some(scheme) = scheme {
            found.push(Challenge {
                scheme: scheme.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
        }
        if let (Some(challenge), Some(value)) = (found.last_mut(), value) {
            let value = unquoted(value);
            challenge
                .parameters
                .push((name.to_ascii_lowercase(), value));
        }
    }
    found
}

/// What stands between commas outside of quotes.
fn parts(header: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for c in header.chars() {
        match c {
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            _ => {
                if c == '"' && !escaped {
                    quoted = !quoted;
                }
                escaped = quoted && c == '\\' && !escaped;
                part.push(c);
            }
        }
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

/// Text as a value of a query or a form.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_may_hold_several_challenges() {
        let header = r#"Bearer realm="https://a/token?x=1,2",service="reg \"x\"", scope="repository:a:pull,push", Basic realm=plain, Negotiate"#;
        let found = challenges(header);
        let schemes: Vec<&str> = found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["bearer", "basic", "negotiate"]);
        assert_eq!(found[0].get("realm"), Some("https://a/token?x=1,2"));
        assert_eq!(found[0].get("service"), Some("reg \"x\""));
        assert_eq!(found[0].get("scope"), Some("repository:a:pull,push"));
        assert_eq!(found[1].get("realm"), Some("plain"));
        assert_eq!(found[1].get("service"), None);
        assert!(challenges("").is_empty());
        assert_eq!(challenges("=,=\"").len(), 0, "nobody's parameters");
    }

    #[test]
    fn a_token_has_two_names_and_an_end() {
        let token = |text: &str| {
            let answer: Answer = serde_json::from_str(text).unwrap();
            answer.token(1000).map(|token| (token.text, token.ends))
        };
        assert_eq!(token(r#"{"token":"t"}"#), Some(("t".into(), 55_000)));
        assert_eq!(
            token(r#"{"access_token":"a","expires_in":300}"#),
            Some(("a".into(), 271_000))
        );
        assert_eq!(token("{}"), None);
    }

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(
            encoded("repository:a/b:pull,push"),
            "repository%3Aa%2Fb%3Apull%2Cpush"
        );
    }
}
