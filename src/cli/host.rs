//! What the store asks of its surroundings: the time, chance, the boot, the owners.

use crate::catalog::Millis;
use crate::executor::userns;
use crate::store::Host;

/// This machine, seen from this process.
#[derive(Debug)]
pub struct Machine {
    boot: String,
    owners: String,
}

impl Machine {
    /// Reads what does not change. To be called after a user namespace was entered.
    pub fn new() -> Machine {
        // Where the kernel names no boot, every process is one of its own: nothing that wasn't
        // fsynced is trusted by the next.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_else(|_| format!("unknown-{}-{}", std::process::id(), now()));
        Machine {
            boot,
            owners: userns::current_mapping().as_str().to_owned(),
        }
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}

/// Milliseconds since the epoch.
pub fn now() -> Millis {
    chrono::Utc::now().timestamp_millis()
}

impl Host for Machine {
    fn now(&self) -> Millis {
        now()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            ) {
                Ok(more) => filled += more,
                Err(rustix::io::Errno::INTR) => {}
                // The kernel has had getrandom since 3.17, and refuses it to no one but a sandbox.
                Err(error) => panic!("getrandom: {error}"),
            }
        }
        bytes
    }

    fn boot(&self) -> &str {
        &self.boot
    }

    fn owners(&self) -> &str {
        &self.owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_draws_the_same_twice() {
        let machine = Machine::new();
        assert_ne!(machine.random(), machine.random());
        assert!(!machine.boot().is_empty());
    }
}
