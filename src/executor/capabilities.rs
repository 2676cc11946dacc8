//! What root in a container may do: docker's fourteen capabilities.

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Security;
use super::sys;

/// Docker's default set; as a mask `00000000a80425fb`.
const DOCKER_DEFAULT: [CapabilitySet; 14] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FOWNER,
    CapabilitySet::FSETID,
    CapabilitySet::KILL,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
    CapabilitySet::SETPCAP,
    CapabilitySet::NET_BIND_SERVICE,
    CapabilitySet::NET_RAW,
    CapabilitySet::SYS_CHROOT,
    CapabilitySet::MKNOD,
    CapabilitySet::AUDIT_WRITE,
    CapabilitySet::SETFCAP,
];

/// What a step may have at most: docker's set or all, less what this process lacks itself (as it
/// may inside another container).
pub fn allowed(security: Security) -> Result<CapabilitySet, rustix::io::Errno> {
    let ours = rustix::thread::capabilities(None)?.permitted;
    Ok(match security {
        Security::Sandbox => docker_default() & ours,
        Security::Insecure => ours,
    })
}

/// The union of [`DOCKER_DEFAULT`].
fn docker_default() -> CapabilitySet {
    DOCKER_DEFAULT
        .into_iter()
        .fold(CapabilitySet::empty(), |set, one| set | one)
}

/// Lowers the bounding set to `allowed`: what no program, setuid or not, can gain beyond.
/// Needs `CAP_SETPCAP`. Async-signal-safe.
pub fn bound(allowed: CapabilitySet) -> sys::Result<()> {
    for number in 0..u64::BITS {
        if allowed.bits() & (1 << number) != 0 {
            continue;
        }
        match sys::drop_from_bounding_set(number) {
            Ok(()) => {}
            // Past the last that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Sets permitted and effective to `set`, inheritable to nothing. Async-signal-safe.
///
/// Inheritable stays empty as docker's has since CVE-2022-24769: else a file capability in the
/// image could hand them to a user who isn't root.
pub fn set(set: CapabilitySet) -> sys::Result<()> {
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_dockers() {
        assert_eq!(docker_default().bits(), 0xa804_25fb);
    }
}
