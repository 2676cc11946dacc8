//! Several things moved at the same time, by threads that own what they work with: whoever waits
//! for them may stop waiting at any moment.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::Stop;
use super::error::{Error, Result};

/// How often is looked at what has moved, and at what somebody else was moving.
const TICK: Duration = Duration::from_millis(100);

/// What [`each`] tells.
pub(super) enum News<R> {
    /// A moment has passed.
    Tick,
    /// The job with this place is done.
    Done(usize, R),
}

/// What is to be done next.
pub(super) enum Next<J> {
    /// This.
    Job(J),
    /// Nothing at the moment.
    Later,
    /// Nothing any more.
    End,
}

/// Jobs, and what becomes of them. Both functions are called by the thread that waits.
pub(super) trait Moves {
    /// What a thread is given.
    type Job: Send + 'static;
    /// What it gives back.
    type Done: Send + 'static;

    /// The next job. Jobs have places in the order in which they are given out, from 0.
    fn next(&mut self) -> Result<Next<Self::Job>>;

    /// Hears of a job. An error ends it all.
    fn news(&mut self, news: News<Self::Done>) -> Result<()>;
}

/// Does all jobs, so many at the same time. The first error ends it all; threads that wait for the
/// network then end by themselves.
pub(super) fn each<M: Moves>(
    moves: &mut M,
    threads: usize,
    stop: &Stop,
    work: impl Fn(M::Job) -> M::Done + Send + Sync + 'static,
) -> Result<()> {
    let outcome = run(moves, threads.max(1), stop, &Arc::new(work));
    if outcome.is_err() {
        stop.ask();
    }
    outcome
}

/// Does jobs that are all known from the beginning, and have nothing to wait for.
pub(super) fn each_of<J: Send + 'static, R: Send + 'static>(
    jobs: Vec<J>,
    threads: usize,
    stop: &Stop,
    work: impl Fn(J) -> R + Send + Sync + 'static,
    news: impl FnMut(News<R>) -> Result<()>,
) -> Result<()> {
    let mut listed = Listed {
        jobs: jobs.into_iter(),
        news,
        done: PhantomData,
    };
    each(&mut listed, threads, stop, work)
}

struct Listed<J, R, F> {
    jobs: std::vec::IntoIter<J>,
    news: F,
    done: PhantomData<R>,
}

impl<J, R, F> Moves for Listed<J, R, F>
where
    J: Send + 'static,
    R: Send + 'static,
    F: FnMut(News<R>) -> Result<()>,
{
    type Job = J;
    type Done = R;

    fn next(&mut self) -> Result<Next<J>> {
        Ok(self.jobs.next().map_or(Next::End, Next::Job))
    }

    fn news(&mut self, news: News<R>) -> Result<()> {
        (self.news)(news)
    }
}

fn run<M: Moves>(
    moves: &mut M,
    threads: usize,
    stop: &Stop,
    work: &Arc<impl Fn(M::Job) -> M::Done + Send + Sync + 'static>,
) -> Result<()> {
    let (sender, results) = channel();
    let (mut begun, mut running, mut ended) = (0, 0, false);
    loop {
        while running < threads && !ended {
            match moves.next()? {
                Next::Job(job) => {
                    let (sender, place, work) = (sender.clone(), begun, Arc::clone(work));
                    std::thread::spawn(move || drop(sender.send((place, work(job)))));
                    begun += 1;
                    running += 1;
                }
                Next::Later => break,
                Next::End => ended = true,
            }
        }
        if running == 0 && ended {
            return Ok(());
        }
        match results.recv_timeout(TICK) {
            Ok((place, result)) => {
                running -= 1;
                moves.news(News::Done(place, result))?;
            }
            Err(RecvTimeoutError::Timeout) => {
                stop.check()?;
                moves.news(News::Tick)?;
            }
            // Not while this has a sender itself.
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Interrupted),
        }
    }
}
