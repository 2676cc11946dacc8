//! Two builds of the same step at the same time: one runs it, the other waits and takes the result.
//!
//! The lock's name is the digest of the instructions from the stage's base on, so that it is known
//! before the step's parent is committed. It is wider than a cache key: builds whose parents differ
//! may wait for each other in vain, and then each runs its own. Where nothing is to be taken from
//! the cache, the name is this build's own: its stages share what it makes itself, and it neither
//! waits for another build nor is waited for.
//!
//! This holds for steps that run nothing as well. Two stages that go on alike and then differ, such
//! as one for each platform, would otherwise stand on two images of the same step, of which the
//! cache remembers one; and the next build would run again what follows the other.
//!
//! A lock is taken before a slot, and goes to the commit with what the step wrote: its holder waits
//! for no other lock, so that nobody waits for ever. See [`store::steps`](crate::store::steps).

use std::time::Duration;

use serde_json::json;

use super::StageThread;
use crate::build::error::StepError;
use crate::build::event::Event;
use crate::build::plan::{StagePlan, Step};
use crate::oci::Digest;
use crate::store::{Image, StepLock};

/// How long a waiting step waits between two looks at most: the end of another process wakes nobody
/// here. The first looks come sooner, since most steps take no time.
const LOOK: Duration = Duration::from_millis(50);
/// From which look on it is told that a step waits.
const LONG: u32 = 6;

/// Whose turn it is.
pub(super) enum Turn {
    /// This build's, or this stage's.
    Ours(StepLock),
    /// It was another's, and the result was taken from the cache.
    Done,
}

/// What stands for a stage before its first step.
pub(super) fn first(stage: &StagePlan, base: Option<&Image>) -> Digest {
    let base = match base {
        Some(image) => image.id().to_string(),
        None => format!("scratch {}", stage.platform),
    };
    Digest::of(base.as_bytes())
}

impl StageThread<'_, '_, '_> {
    /// Goes on to the state after a step.
    pub(super) fn pass(&mut self, step: &Step, content: Option<&Digest>) {
        let text = json!({ "on": self.turn, "step": step.identity, "content": content });
        self.turn = Digest::of(text.to_string().as_bytes());
    }

    /// Waits until nobody else runs this step, the last that was [passed](Self::pass).
    pub(super) fn turn(
        &mut self,
        step: &Step,
        content: Option<&Digest>,
        stages: &[Digest],
    ) -> Result<Turn, StepError> {
        let around = &self.solver.around;
        let name = match self.stage.no_cache {
            false => self.turn,
            true => Digest::of(format!("{} {}", around.lease.id(), self.turn).as_bytes()),
        };
        let mut looks = 0;
        let lock = loop {
            if let Some(lock) = around.lease.try_step(&name)? {
                break lock;
            }
            if around.cancel.is_cancelled() {
                return Err(StepError::Interrupted);
            }
            looks += 1;
            if looks == LONG {
                let step = step.info.number;
                self.solver.tell(Event::StepWaiting { step });
            }
            std::thread::sleep(LOOK.min(Duration::from_millis(1 << looks.min(6))));
        };
        if looks > 0 {
            self.settle().map_err(|_| StepError::Needed)?;
        }
        // Somebody may have run it since it was looked up.
        match self.cached(step, content, stages)? {
            true => Ok(Turn::Done),
            false => Ok(Turn::Ours(lock)),
        }
    }
}
