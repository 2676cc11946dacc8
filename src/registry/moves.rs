//! Several things moved at the same time, by threads that own what they work with: whoever waits
//! for them may stop waiting at any moment.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Stop;
use super::error::{Error, Result};

/// How often is looked at what has moved.
const TICK: Duration = Duration::from_millis(100);

/// What [`each`] tells.
pub(super) enum News<R> {
    /// A moment has passed.
    Tick,
    /// The job with this place is done.
    Done(usize, R),
}

/// Does all jobs, so many at the same time, and tells of them here. The first error of `news` ends
/// it all; threads that wait for the network then end by themselves.
pub(super) fn each<J: Send + 'static, R: Send + 'static>(
    jobs: Vec<J>,
    threads: usize,
    stop: &Stop,
    work: impl Fn(J) -> R + Send + Sync + 'static,
    mut news: impl FnMut(News<R>) -> Result<()>,
) -> Result<()> {
    let mut left = jobs.len();
    let threads = threads.clamp(1, left.max(1));
    let jobs = Arc::new(Mutex::new(jobs.into_iter().enumerate()));
    let work = Arc::new(work);
    let (sender, results) = channel();
    for _ in 0..threads {
        let (jobs, work, sender, stop) = (
            Arc::clone(&jobs),
            Arc::clone(&work),
            sender.clone(),
            stop.clone(),
        );
        std::thread::spawn(move || {
            while stop.check().is_ok() {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((place, job)) = job else { return };
                if sender.send((place, work(job))).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    while left > 0 {
        let told = match results.recv_timeout(TICK) {
            Ok((place, result)) => {
                left -= 1;
                news(News::Done(place, result))
            }
            Err(RecvTimeoutError::Timeout) => stop.check().and_then(|()| news(News::Tick)),
            // All have ended, and not all is done: they were stopped.
            Err(RecvTimeoutError::Disconnected) => Err(Error::Interrupted),
        };
        if told.is_err() {
            stop.ask();
            return told;
        }
    }
    Ok(())
}
