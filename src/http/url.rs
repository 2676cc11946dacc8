//! URLs, as far as anybody here looks into them. Pure.
//!
//! ```text
//! https://user:password@host:8443/dir/file%20name?query#fragment
//! └─┬─┘   └─────┬─────┘ └───┬───┘└──────┬───────┘ └─┬─┘ └──┬───┘
//! scheme      user        host        path        query fragment
//! ```

/// A URL with an authority, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// In lower case.
    pub scheme: String,
    /// `user:password`, as written.
    pub user: Option<String>,
    /// Host and port, as written.
    pub host: String,
    /// With its leading slash, as written; may be empty.
    pub path: String,
    /// Without `?`.
    pub query: Option<String>,
    /// Without `#`.
    pub fragment: Option<String>,
}

impl Url {
    /// Reads `SCHEME://…`; anything else is none.
    pub fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let (rest, fragment) = cut(rest, '#');
        let (rest, query) = cut(rest, '?');
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        Some(Url {
            scheme: scheme.to_ascii_lowercase(),
            user,
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            fragment: fragment.map(str::to_owned),
        })
    }

    /// The text of it with its parts but for user and fragment: what a request is for.
    pub fn request(&self) -> String {
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        let query = self
            .query
            .as_deref()
            .map_or(String::new(), |q| format!("?{q}"));
        format!("{}://{}{path}{query}", self.scheme, self.host)
    }

    /// Whether requests to both go to the same server.
    pub fn same_origin(&self, other: &Url) -> bool {
        let port = |url: &Url| {
            let host = url.host.to_ascii_lowercase();
            let default = match url.scheme.as_str() {
                "https" => ":443",
                _ => ":80",
            };
            host.strip_suffix(default)
                .map(str::to_owned)
                .unwrap_or(host)
        };
        self.scheme == other.scheme && port(self) == port(other)
    }

    /// Where a `Location` leads from here (RFC 3986, 5.2).
    pub fn join(&self, location: &str) -> Option<Url> {
        let (reference, fragment) = cut(location.trim(), '#');
        if reference.contains("://") && !reference.starts_with(['/', '?']) {
            return Url::parse(location.trim());
        }
        let mut next = self.clone();
        next.fragment = fragment.map(str::to_owned);
        if let Some(rest) = reference.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", self.scheme));
        }
        let (path, query) = cut(reference, '?');
        next.query = query.map(str::to_owned);
        if path.starts_with('/') {
            next.path = path.to_owned();
        } else if !path.is_empty() {
            let directory = self.path.rsplit_once('/').map_or("", |(d, _)| d);
            next.path = clean(&format!("{directory}/{path}"));
            if path.ends_with('/') && !next.path.ends_with('/') {
                next.path.push('/');
            }
        } else if query.is_none() {
            next.query.clone_from(&self.query);
        }
        Some(next)
    }

    /// The last part of the path, decoded; `None` where the path ends in a slash or is empty.
    pub fn file_name(&self) -> Option<String> {
        let path = decoded(&self.path);
        let name = path.trim_end_matches('/').rsplit('/').next()?;
        (!matches!(name, "" | "." | "..")).then(|| name.to_owned())
    }
}

/// A URL without its user and password, for errors and history. What has none stays as it is.
pub fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx@{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

/// `%41` is `A`; what isn't UTF-8 then is replaced.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let pair = match (first, behind) {
            (b'%', [high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        match pair {
            Some((high, low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `path` without `.`, `..` and double slashes, absolute.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_its_parts() {
        let url = Url::parse("HTTPS://me:pw@host:8443/dir/a%20b?x=1#y").unwrap();
        assert_eq!(url.user.as_deref(), Some("me:pw"));
        assert_eq!(url.request(), "https://host:8443/dir/a%20b?x=1");
        assert_eq!(url.file_name().as_deref(), Some("a b"));
        assert_eq!(Url::parse("http://h").unwrap().request(), "http://h/");
        assert_eq!(Url::parse("http://h/").unwrap().file_name(), None);
        assert_eq!(Url::parse("./a://b"), None);
    }

    #[test]
    fn a_location_is_taken_from_where_it_was_given() {
        let base = Url::parse("http://u:p@h/a/b?q").unwrap();
        let to = |location: &str| base.join(location).unwrap().request();
        assert_eq!(to("https://x/y"), "https://x/y");
        assert_eq!(to("//x/y"), "http://x/y");
        assert_eq!(to("/y?z"), "http://h/y?z");
        assert_eq!(to("c"), "http://h/a/c");
        assert_eq!(to("../c/"), "http://h/c/");
        assert_eq!(to("?z"), "http://h/a/b?z");
        assert_eq!(to("/login?to=http://x/"), "http://h/login?to=http://x/");
    }

    #[test]
    fn the_same_server_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| Url::parse(a).unwrap().same_origin(&Url::parse(b).unwrap());
        assert!(same("http://h/a", "http://H:80/b"));
        assert!(!same("http://h/a", "https://h/a"));
        assert!(!same("http://h/a", "http://h:8080/a"));
        assert!(!same("http://h/a", "http://x.h/a"));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redacted("https://me:pw@h/x@y"), "https://xxxxx@h/x@y");
        assert_eq!(redacted("https://h/x@y"), "https://h/x@y");
        assert_eq!(redacted("git@h:x"), "git@h:x");
    }
}
