//! Lines that each carry their step's number, in BuildKit's plain manner: for logs.
//!
//! ```text
//! #5 [builder 2/3] RUN make
//! #5 0.123 cc main.c
//! #5 ...
//!
//! #4 [stage-1 2/2] COPY --from=builder /x /x
//! #4 CACHED
//!
//! #5 [builder 2/3] RUN make
//! #5 3.871 cc util.c
//! #5 DONE 4.2s
//! ```
//! Steps that run side by side are kept apart: one at a time has the floor, what others say waits
//! until it is done, has been silent for a moment, or has held them up for some seconds. `#5 ...`
//! says that it goes on later. Times are those at which the lines came, not at which they are shown.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::board::Board;
use super::ticker::Ticker;
use super::transfer::Rows;
use super::{Progress, Settings, failure};
use crate::build::event::{Event, Sink, StepNumber};
use crate::cli::render::text;

/// How long others wait for a step that goes on talking.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a step must be silent to lose the floor to one that waits.
const SILENCE: Duration = Duration::from_millis(700);
/// How often that is looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// The display.
pub struct Plain {
    state: Arc<Mutex<State>>,
    ticker: Mutex<Option<Ticker>>,
}

struct State {
    settings: Settings,
    board: Board,
    /// Who has the floor, and when it last spoke.
    floor: Option<(StepNumber, Duration)>,
    /// What others have said.
    waiting: BTreeMap<StepNumber, Waiting>,
    /// Which steps have been shown before.
    shown: Vec<StepNumber>,
    /// The base that is being pulled.
    pulled: Rows,
    /// Whether the steps are done: what is moved then follows them.
    committed: bool,
}

#[derive(Debug)]
struct Waiting {
    since: Duration,
    text: Vec<u8>,
}

impl Plain {
    /// A display that has shown nothing.
    pub fn new(settings: Settings) -> Plain {
        let plain = Plain::without_ticker(settings);
        let state = Arc::clone(&plain.state);
        let tick = move || lock(&state).look_round();
        *lock(&plain.ticker) = Some(Ticker::start(PERIOD, tick));
        plain
    }

    fn without_ticker(settings: Settings) -> Plain {
        Plain {
            state: Arc::new(Mutex::new(State {
                settings,
                board: Board::default(),
                floor: None,
                waiting: BTreeMap::new(),
                shown: Vec::new(),
                pulled: Rows::default(),
                committed: false,
            })),
            ticker: Mutex::new(None),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for Plain {
    fn event(&self, event: Event) {
        lock(&self.state).take(&event);
    }
}

impl Progress for Plain {
    fn finish(&self) {
        // Before the state is locked: a tick waits for it.
        *lock(&self.ticker) = None;
        let mut state = lock(&self.state);
        state.pass_on_all();
        state.cancelled();
        let block = failure::block(&state.board, &state.settings, true);
        state.write(&block);
        let _ = state.settings.out.flush();
    }
}

impl State {
    fn take(&mut self, event: &Event) {
        let now = (self.settings.clock)();
        self.board.take(event, now);
        let seconds = |step: StepNumber| self.board.elapsed(step, now).as_secs_f64();
        // What follows the steps has the number after theirs.
        let end = self.board.steps.len() + 1;
        match event {
            Event::Planned { .. }
            | Event::ContainerStarted { .. }
            | Event::ContainerRemoved { .. } => {}
            Event::Transfer(event) => {
                let number = if self.committed { end } else { 0 };
                let said = self.pulled.take(event, true).unwrap_or_default();
                for line in said.lines() {
                    self.write(format!("#{number} {line}\n").as_bytes());
                }
            }
            Event::CacheImport { cache } => {
                self.pulled.begin(false);
                self.write(format!("#0 importing cache manifest from {cache}\n").as_bytes());
            }
            Event::CacheExport { cache } => {
                self.pulled.begin(true);
                self.write(format!("#{end} exporting cache to {cache}\n").as_bytes());
            }
            Event::Warning { message } => {
                let message = text::clean(message);
                self.write(format!("WARNING: {message}\n").as_bytes());
            }
            Event::StepStarted { step } => self.say(*step, Vec::new(), now),
            Event::StepCached { step } => {
                self.say(*step, format!("#{} CACHED\n\n", step + 1).into_bytes(), now);
            }
            Event::StepWaiting { step } => {
                let text = format!("#{} waiting for another build of this step\n", step + 1);
                self.say(*step, text.into_bytes(), now);
            }
            Event::Output { step, line, .. } => {
                let mut text = format!("#{} {:.3} ", step + 1, seconds(*step)).into_bytes();
                text.extend_from_slice(&self.settings.line(line));
                text.push(b'\n');
                self.say(*step, text, now);
            }
            Event::StepFinished { step, .. } => {
                if !self.is_cached(*step) {
                    let text = format!("#{} DONE {:.1}s\n\n", step + 1, seconds(*step));
                    self.say(*step, text.into_bytes(), now);
                }
                self.next(now);
            }
            Event::StepFailed { step, failure } => {
                let text = format!("#{} ERROR: {}\n\n", step + 1, failure.message);
                self.say(*step, text.into_bytes(), now);
                self.next(now);
            }
            Event::Committed { image } => {
                self.committed = true;
                self.pass_on_all();
                self.write(format!("#{end} writing image {image}\n").as_bytes());
            }
            Event::Tagged { name } => {
                self.write(format!("#{end} naming to {name}\n").as_bytes());
            }
        }
    }

    fn is_cached(&self, step: StepNumber) -> bool {
        self.board.steps.get(step).is_some_and(|step| step.cached)
    }

    /// Writes what a step says, now or when it has the floor.
    fn say(&mut self, step: StepNumber, text: Vec<u8>, now: Duration) {
        match self.floor {
            None => {
                self.give(step, now);
                self.write(&text);
            }
            Some((holder, _)) if holder == step => {
                self.floor = Some((step, now));
                self.write(&text);
            }
            Some(_) => {
                let new = Waiting {
                    since: now,
                    text: Vec::new(),
                };
                let waiting = self.waiting.entry(step).or_insert(new);
                waiting.text.extend_from_slice(&text);
                self.look_round();
            }
        }
    }

    /// Gives the floor to a step: its title, and what it has said so far.
    fn give(&mut self, step: StepNumber, now: Duration) {
        self.floor = Some((step, now));
        let title = self.board.title(step);
        let mut text = format!("#{} {title}\n", step + 1).into_bytes();
        if let Some(waiting) = self.waiting.remove(&step) {
            text.extend_from_slice(&waiting.text);
        }
        self.write(&text);
        if !self.shown.contains(&step) {
            self.shown.push(step);
        }
    }

    /// Once who has the floor is done, it is the turn of whoever has waited longest.
    fn next(&mut self, now: Duration) {
        while let Some((holder, _)) = self.floor {
            let done = |step: &super::board::Step| step.ended.is_some();
            if !self.board.steps.get(holder).is_none_or(done) {
                return;
            }
            self.floor = None;
            if let Some(step) = self.longest_waiting() {
                self.give(step, now);
            }
        }
    }

    fn longest_waiting(&self) -> Option<StepNumber> {
        let waiting = self.waiting.iter();
        let (step, _) = waiting.min_by_key(|(step, waiting)| (waiting.since, **step))?;
        Some(*step)
    }

    /// Takes the floor from a step that is silent, or has talked for long, if somebody waits.
    fn look_round(&mut self) {
        let now = (self.settings.clock)();
        let (Some((holder, spoke)), Some(step)) = (self.floor, self.longest_waiting()) else {
            return;
        };
        let since = self.waiting.get(&step).map_or(now, |waiting| waiting.since);
        if spoke + SILENCE > now && since + PATIENCE > now {
            return;
        }
        self.write(format!("#{} ...\n\n", holder + 1).as_bytes());
        self.give(step, now);
        self.next(now);
    }

    /// Shows whatever waits.
    fn pass_on_all(&mut self) {
        let now = (self.settings.clock)();
        self.next(now);
        while let Some(step) = self.longest_waiting() {
            if let Some((holder, _)) = self.floor.take() {
                self.write(format!("#{} ...\n\n", holder + 1).as_bytes());
            }
            self.give(step, now);
            self.next(now);
        }
    }

    /// Says of steps that were under way when the build ended that they are not done.
    fn cancelled(&mut self) {
        let under_way = |step: &StepNumber| self.board.steps.get(*step).is_some_and(|s| s.runs());
        let steps: Vec<StepNumber> = self.board.begun.iter().copied().filter(under_way).collect();
        for step in steps {
            self.write(format!("#{} CANCELED\n\n", step + 1).as_bytes());
        }
    }

    fn write(&mut self, text: &[u8]) {
        // A display that nobody can see must not stop the build.
        let _ = self.settings.out.write_all(text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::testing::*;
    use super::*;

    fn shown(events: Vec<Event>) -> String {
        let page = Page::default();
        let plain = Plain::without_ticker(settings(&page));
        events.into_iter().for_each(|event| plain.event(event));
        plain.finish();
        page.text()
    }

    #[test]
    fn each_step_is_told_in_one_piece() {
        let expected = format!(
            "\
#1 [builder 1/2] FROM base AS builder
#1 DONE 0.0s

#3 [stage-1 1/2] FROM base
#3 DONE 0.0s

#2 [builder 2/2] RUN make
#2 0.000 cc main.c
#2 0.000 done
#2 DONE 0.0s

#4 [stage-1 2/2] COPY --from=builder /x /x
#4 CACHED

#5 writing image {}
#5 naming to app:latest
",
            image(3)
        );
        assert_eq!(shown(side_by_side()), expected);
    }

    #[test]
    fn a_failure_repeats_the_output_and_quotes_the_line() {
        let text = shown(failing());
        assert!(text.contains("#2 ERROR: exit status 7\n"), "{text}");
        assert!(text.contains(
            "------\n > [builder 2/2] RUN make:\nmain.c:3: error\n------\nDockerfile:2\n"
        ));
    }

    #[test]
    fn what_was_under_way_when_a_step_failed_is_told_as_cancelled() {
        let mut events = failing();
        events.insert(1, Event::StepStarted { step: 2 });
        events.insert(2, output(2, "half"));
        let text = shown(events);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(at("#3 0.000 half") < at("#2 ERROR"), "{text}");
        assert!(at("#2 ERROR") < at("#3 CANCELED"), "{text}");
        assert!(at("#3 CANCELED") < at("------\n"), "{text}");
    }

    #[test]
    fn who_talks_for_long_is_interrupted_and_goes_on_later() {
        let page = Page::default();
        let time = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&time);
        let mut settings = settings(&page);
        settings.clock = Box::new(move || Duration::from_millis(clock.load(Ordering::SeqCst)));
        let plain = Plain::without_ticker(settings);
        let at = |millis: u64, event| {
            time.store(millis, Ordering::SeqCst);
            plain.event(event);
        };
        at(0, planned());
        at(0, Event::StepStarted { step: 0 });
        at(0, Event::StepStarted { step: 2 });
        at(100, output(2, "early"));
        for millis in (500..3500).step_by(500) {
            at(millis, output(0, "talk"));
        }
        at(3600, output(2, "late"));
        at(3700, output(0, "waits"));
        at(3800, finished(2));
        at(3900, finished(0));
        plain.finish();
        let text = page.text();
        let told: Vec<&str> = text.lines().filter(|line| !line.contains("talk")).collect();
        let expected = "\
#1 [builder 1/2] FROM base AS builder
#1 ...

#3 [stage-1 1/2] FROM base
#3 0.100 early
#3 3.600 late
#3 DONE 3.8s

#1 [builder 1/2] FROM base AS builder
#1 3.700 waits
#1 DONE 3.9s
";
        assert_eq!(told.join("\n"), expected, "{text}");
    }
}
