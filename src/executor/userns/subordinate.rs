//! Which IDs of the host a user may lend to a user namespace: /etc/subuid and /etc/subgid.

use std::fs;
use std::path::{Path, PathBuf};

/// First ID and count.
pub type Range = (u32, u32);

/// What a user may map besides the own ID, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    /// Ranges of /etc/subuid.
    pub users: Vec<Range>,
    /// Ranges of /etc/subgid.
    pub groups: Vec<Range>,
    /// newuidmap, which is setuid root or has the file capability.
    pub map_users: PathBuf,
    /// newgidmap.
    pub map_groups: PathBuf,
}

/// Where distributions install the helpers; NixOS has wrappers.
const PLACES: [&str; 5] = [
    "/usr/bin",
    "/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/run/wrappers/bin",
];

impl Ranges {
    /// The ranges of user `uid`; if there are none, or no helpers, why.
    pub fn of(uid: u32) -> Result<Ranges, String> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = name_of(uid, &passwd);
        let who = name.clone().unwrap_or_else(|| uid.to_string());
        let ranges = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let found = parse(&text, name.as_deref(), uid);
            if found.is_empty() {
                Err(format!(
                    "{file} has no range for {who}; add one with usermod"
                ))
            } else {
                Ok(found)
            }
        };
        Ok(Ranges {
            users: ranges("/etc/subuid")?,
            groups: ranges("/etc/subgid")?,
            map_users: helper("newuidmap")?,
            map_groups: helper("newgidmap")?,
        })
    }
}

fn helper(name: &str) -> Result<PathBuf, String> {
    let places = PLACES.iter().map(|dir| Path::new(dir).join(name));
    let missing =
        || format!("{name} is not installed; it is in the package uidmap or shadow-utils");
    places
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(missing)
}

/// The login name of `uid`.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    let fields = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let mut with_uid =
        fields.filter(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(uid)));
    with_uid
        .next()
        .and_then(|fields| fields.first().map(|name| (*name).to_owned()))
}

/// The ranges of a user in `name-or-uid:first:count` lines.
fn parse(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let is_ours = Some(owner) == name || owner.parse() == Ok(uid);
        let first = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        (is_ours && count > 0).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

/// Arguments of newuidmap after the process ID: root is `own`, then the ranges from 1 on.
pub fn arguments(own: u32, ranges: &[Range]) -> Vec<String> {
    let mut numbers = vec![0, own, 1];
    let mut inside = 1u32;
    for &(first, count) in ranges {
        // What does not fit below 2^32 cannot be used.
        let Some(next) = inside.checked_add(count) else {
            break;
        };
        numbers.extend([inside, first, count]);
        inside = next;
    }
    numbers.iter().map(u32::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:165536:65536\n1000:300000:10\n# note\nalice:5:x\n";
        assert_eq!(
            parse(text, Some("alice"), 1000),
            [(100_000, 65536), (300_000, 10)]
        );
        assert_eq!(parse(text, None, 7), []);
    }

    #[test]
    fn a_name_is_looked_up_by_its_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_of(1000, passwd).as_deref(), Some("alice"));
        assert_eq!(name_of(1, passwd), None);
    }

    #[test]
    fn root_is_oneself_and_the_ranges_follow() {
        let words = arguments(1000, &[(100_000, 65536), (300_000, 10)]);
        assert_eq!(words.join(" "), "0 1000 1 1 100000 65536 65537 300000 10");
    }
}
