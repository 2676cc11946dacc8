//! Something done again and again beside the build.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that ticks. Dropped, it has ticked for the last time.
#[derive(Debug)]
pub struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Calls `tick` every `period`. Where there can be no thread, nothing ticks: a display then
    /// shows what events bring.
    pub fn start(period: Duration, mut tick: impl FnMut() + Send + 'static) -> Ticker {
        let (stop, stopped) = channel::<()>();
        let work = move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                tick();
            }
        };
        let thread = std::thread::Builder::new().name("progress".to_owned());
        Ticker {
            stop: Some(stop),
            thread: thread.spawn(work).ok(),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A tick that panicked has been told on stderr.
            let _ = thread.join();
        }
    }
}
