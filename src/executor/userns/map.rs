//! Which IDs are mapped to which, as a word that can be a key.
//!
//! Files that a step made belong outside to whatever its namespace maps to. An unpacked layer is
//! good only for those who map alike, so snapshots are keyed by this.

use std::fmt;
use std::fs;

/// How IDs inside map to IDs outside, as a short stable string: `host` in the initial namespace,
/// else `u0.1000.1-1.100000.65536_g…`, each triple inside, outside, count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerMap(String);

/// What /proc says where nothing is mapped away.
const EVERYTHING: [u32; 3] = [0, 0, u32::MAX];

impl OwnerMap {
    /// The map of the namespace that this process is in.
    pub fn of_this_process() -> OwnerMap {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        OwnerMap::of(&read("/proc/self/uid_map"), &read("/proc/self/gid_map"))
    }

    /// The map that these two files describe. A kernel without user namespaces has neither.
    fn of(users: &str, groups: &str) -> OwnerMap {
        let (users, groups) = (triples(users), triples(groups));
        let is_host = |map: &[[u32; 3]]| matches!(map, [] | [EVERYTHING]);
        if is_host(&users) && is_host(&groups) {
            return OwnerMap("host".to_owned());
        }
        OwnerMap(format!("u{}_g{}", joined(&users), joined(&groups)))
    }

    /// `host`, or letters, digits and `_-.` only: fit for a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the initial namespace, where marks of overlayfs are `trusted.*`.
    pub fn is_host(&self) -> bool {
        self.0 == "host"
    }
}

impl fmt::Display for OwnerMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn triples(text: &str) -> Vec<[u32; 3]> {
    let triple = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some([next()?, next()?, next()?])
    };
    text.lines().filter_map(triple).collect()
}

fn joined(map: &[[u32; 3]]) -> String {
    let triple = |[inside, outside, count]: &[u32; 3]| format!("{inside}.{outside}.{count}");
    map.iter().map(triple).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_namespace_is_the_host() {
        let everything = "         0          0 4294967295\n";
        assert!(OwnerMap::of(everything, everything).is_host());
        assert!(OwnerMap::of("", "").is_host());
    }

    #[test]
    fn every_other_is_told_by_its_numbers() {
        let users = "         0       1000          1\n         1     100000      65536\n";
        let groups = "         0       1000          1\n";
        let map = OwnerMap::of(users, groups);
        assert_eq!(map.as_str(), "u0.1000.1-1.100000.65536_g0.1000.1");
        assert!(!map.is_host());
    }
}
