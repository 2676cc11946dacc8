//! What a stage's thread waits for: other stages, and its turn among the processes.

use std::sync::{Condvar, Mutex, PoisonError};

use super::{Progress, Solver, StageResult, lock};
use crate::build::error::StepError;

/// At most so many processes at the same time.
pub(super) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One of them, until it is dropped.
pub(super) struct Slot<'a>(&'a Slots);

impl Slots {
    /// As many as that; one at least.
    pub(super) fn new(jobs: usize) -> Slots {
        Slots {
            free: Mutex::new(jobs.max(1)),
            freed: Condvar::new(),
        }
    }

    /// Waits for one.
    pub(super) fn take(&self) -> Slot<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

impl Solver<'_> {
    /// The image of another stage, once it is done.
    pub(super) fn wait_for(&self, index: usize) -> Result<StageResult, StepError> {
        let mut progress = lock(&self.progress);
        loop {
            match &progress[index] {
                Progress::Done(image) => {
                    let image = (**image).clone();
                    drop(progress);
                    if self.is_sound(image.as_ref())? {
                        return Ok(image);
                    }
                    self.redo(index);
                    progress = lock(&self.progress);
                    continue;
                }
                Progress::Failed => return Err(StepError::Needed),
                Progress::Running if self.around.cancel.is_cancelled() => {
                    return Err(StepError::Interrupted);
                }
                Progress::Running => {}
            }
            // A cancellation comes from a signal handler, which can wake nobody.
            progress = self
                .changed
                .wait_timeout(progress, std::time::Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
