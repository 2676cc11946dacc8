//! Asking again: when, and how long after. Pure but for [`Stop::pause`].
//!
//! ```text
//! attempt   1      2      3      4      5
//! before    -   0.25 s  0.5 s   1 s    2 s     each less up to a half, by chance;
//!                                              or what `Retry-After` says (RFC 9110, 10.2.3)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::{Error, Result};
use crate::executor::Cancel;
use crate::http::time::http_date;

/// How often the same is asked before its failure is told.
pub(super) const ATTEMPTS: u32 = 5;
/// The first wait.
const FIRST: Duration = Duration::from_millis(250);
/// No wait of ours is longer.
const LONGEST: Duration = Duration::from_secs(20);
/// A server that wants us to wait longer is told of instead.
pub(super) const MOST_PATIENT: Duration = Duration::from_secs(120);

/// How long to wait after this many failures, 1 being the first. `chance` makes it another one
/// each time, so that many who failed together do not come back together.
pub(super) fn delay(failures: u32, chance: u64) -> Duration {
    let whole = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let whole = whole.min(LONGEST);
    let half = whole.as_millis() as u64 / 2;
    whole - Duration::from_millis(chance % (half + 1))
}

/// What `Retry-After` asks for: seconds, or a date. `now`: seconds since the epoch.
pub(super) fn retry_after(text: &str, now: i64) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = http_date(text)?;
    Some(Duration::from_secs(u64::try_from(until - now).unwrap_or(0)))
}

/// Says to all who work on one transfer that it ends: by somebody's wish, or since a part failed.
#[derive(Debug, Clone)]
pub struct Stop {
    cancel: Cancel,
    failed: Arc<AtomicBool>,
}

impl Stop {
    /// Nobody has asked for the end but perhaps `cancel`.
    pub fn new(cancel: &Cancel) -> Stop {
        Stop {
            cancel: cancel.clone(),
            failed: Arc::default(),
        }
    }

    /// Asks for the end of this transfer.
    pub fn ask(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    /// An error if the end was asked for.
    pub fn check(&self) -> Result<()> {
        match self.failed.load(Ordering::SeqCst) || self.cancel.is_cancelled() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// Who asks for all ends.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Waits, unless the end is asked for.
    pub fn pause(&self, mut time: Duration) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(50);
        while !time.is_zero() {
            self.check()?;
            let part = time.min(LOOK);
            std::thread::sleep(part);
            time -= part;
        }
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_differ_by_chance_and_have_an_end() {
        let millis = |failures, chance| delay(failures, chance).as_millis();
        assert_eq!(millis(1, 0), 250);
        assert_eq!(millis(3, 0), 1000);
        assert_eq!(millis(40, 0), 20_000);
        for chance in 0..1000 {
            assert!((125..=250).contains(&millis(1, chance * 7919)));
        }
        assert_ne!(millis(4, 17), millis(4, 18));
    }

    #[test]
    fn a_server_says_when_in_seconds_or_by_a_date() {
        let seconds = |text: &str| retry_after(text, 784_111_770).map(|time| time.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(seconds("Sat, 06 Nov 1993 08:49:37 GMT"), Some(0));
        assert_eq!(seconds("soon"), None);
    }
}
