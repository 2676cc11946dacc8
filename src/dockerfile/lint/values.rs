//! What names and values look like: secrets, ports, sources that the context leaves out.

use crate::dockerfile::ignore::IgnorePatterns;

/// Words that names of secrets have, between underscores.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words of names that are only about a secret.
const ABOUT: [&str; 3] = ["public", "file", "version"];

/// Whether a variable is called as secrets are, and not as what is about one.
pub(super) fn is_secret(name: &str) -> bool {
    let has = |words: &[&str]| {
        name.split('_')
            .any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
    };
    has(&SECRET) && !has(&ABOUT)
}

/// What is odd about a port of EXPOSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OddPort {
    /// The protocol has capitals.
    pub capitals: bool,
    /// There is an address, or a port of the host.
    pub mapping: bool,
}

/// Looks at `[[address:]port:]port[/protocol]`.
pub(super) fn odd_port(port: &str) -> OddPort {
    let (ports, protocol) = match port.rsplit_once('/') {
        Some((ports, protocol)) => (ports, protocol),
        None => (port, ""),
    };
    OddPort {
        capitals: protocol.chars().any(|c| c.is_ascii_uppercase()),
        mapping: ports.contains(':'),
    }
}

/// Whether a source of COPY is certainly not in the context. With exceptions (`!`) among the
/// patterns a directory may be left out and a file in it not: then nothing is certain.
pub(super) fn is_ignored(source: &str, ignore: &IgnorePatterns) -> bool {
    if ignore.has_exceptions() {
        return false;
    }
    let cleaned = clean(source);
    if cleaned.is_empty() {
        return ignore.excludes_everything();
    }
    ignore.ignores(&cleaned)
}

/// A path below the root of the context: no `.`, no `..`, no doubled slash.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether a source of ADD is fetched, not taken from the context.
pub(super) fn is_remote(source: &str) -> bool {
    source.contains("://") || source.starts_with("git@")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_a_word_of_its_name() {
        for name in [
            "apikey",
            "SUPER_Secret",
            "git_key",
            "auth",
            "GITHUB_TOKEN",
            "DB_PASSWORD",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "sunflower",
            "SECRETARY",
            "PUBLIC_KEY",
            "password_file",
            "AUTH_MODULE_VERSION",
            "KEYBOARD",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_port_is_a_number_and_a_protocol_in_lower_case() {
        assert_eq!(odd_port("80/tcp"), OddPort::default());
        assert_eq!(odd_port("8000-9000"), OddPort::default());
        assert!(odd_port("80/TCP").capitals);
        assert!(odd_port("127.0.0.1:80:80").mapping && odd_port("8080:80").mapping);
    }

    #[test]
    fn only_what_is_certainly_ignored_is_told() {
        let patterns = |text: &str| IgnorePatterns::parse(text.as_bytes()).unwrap();
        assert!(is_ignored("./dir//x", &patterns("dir\n")));
        assert!(!is_ignored(".", &patterns("dir\n")));
        assert!(is_ignored("/", &patterns("*\n")));
        assert!(!is_ignored("dir/x", &patterns("dir\n!dir/y\n")));
    }
}
