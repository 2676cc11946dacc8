//! One build of a step at a time: whoever runs a step holds a lock of its name, so that another
//! build of the same step, in this process or in another, can wait for the result. The same for
//! whoever fetches a blob ([`super::partial`]).
//!
//! ```text
//! leases/step-HEX   locked while the step runs and until its image is in the cache
//! leases/blob-HEX   locked while the blob is being fetched and until it is published
//! ```
//! The file is a lease file without a row: it pins nothing, a prune removes it if its holder was
//! killed, and otherwise it goes with the lock. Holding one is never needed for a right result:
//! who has waited looks the step up again, and runs it if it isn't there.
//!
//! **No deadlock.** A lock is held by a step that runs or is being committed, or by a blob that is
//! on its way, and none of them waits for another lock.

use std::os::unix::fs::MetadataExt;

use super::{Lease, Result};
use crate::fsutil::{self, IoContext};
use crate::gc::roots::STEP_LOCK;
use crate::lock::FileLock;
use crate::oci::Digest;

/// The right to run one step, or to fetch one blob. Dropped, it is the next one's.
#[derive(Debug)]
pub struct StepLock {
    lock: FileLock,
}

impl Lease<'_> {
    /// The right to run the step that `name` stands for; `None`: somebody else is running it.
    pub fn try_step(&self, name: &Digest) -> Result<Option<StepLock>> {
        self.try_turn(STEP_LOCK, name)
    }

    /// The lock of this name; `None`: somebody else holds it.
    pub(super) fn try_turn(&self, kind: &str, name: &Digest) -> Result<Option<StepLock>> {
        let path = self
            .store()
            .private("leases")
            .join(format!("{kind}{}", name.hex()));
        loop {
            let Some(lock) = FileLock::try_exclusive(&path)? else {
                return Ok(None);
            };
            let held = lock.file().metadata().at("stat", &path)?;
            // Whoever had it before removed the file with the lock: then this one is nobody's.
            match std::fs::metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {
                    return Ok(Some(StepLock { lock }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(fsutil::Error::new("stat", path, error).into()),
            }
        }
    }
}

impl Drop for StepLock {
    fn drop(&mut self) {
        // Removed while it is held: nobody else has it. What cannot be removed is a prune's.
        let _ = fsutil::remove_file(self.lock.path());
    }
}
