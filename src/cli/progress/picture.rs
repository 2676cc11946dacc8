//! The picture of a build at one moment, as lines for a terminal of a size: pure.
//!
//! ```text
//! [+] Building 3.2s (4/6)
//!  => [builder 1/2] FROM base AS builder                                 0.0s
//!  => CACHED [builder 2/2] COPY . /src                                   0.0s
//!  => [stage-1 2/2] RUN make                                             3.1s
//!  => => # cc main.c
//!  => => # cc util.c
//! ```
//! Steps stand in the order in which they began. What runs shows the last lines of its output,
//! which go when it is done. Where there is no room for all, the oldest of those that are done are
//! left out first, then lines of output, then running steps. No line is as wide as the terminal: a terminal that has
//! its last column written to is in doubt where its cursor is.

use std::time::Duration;

use super::board::{Board, Step};
use crate::build::event::StepNumber;
use crate::cli::render::{output, text};

/// How many lines of its output a running step shows at most.
const OUTPUT: usize = 6;

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many characters a row has.
    pub columns: usize,
    /// How many rows there are.
    pub rows: usize,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What stands there; nothing in it moves the cursor.
    pub text: String,
    /// In which colour.
    pub paint: Option<Paint>,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Never ended.
    Cancelled,
    /// What a step wrote.
    Output,
}

impl Paint {
    /// The colour's number for `ESC [ … m`.
    pub fn code(self) -> u8 {
        match self {
            Paint::Done => 34,
            Paint::Failed => 31,
            Paint::Cancelled => 33,
            Paint::Output => 2,
        }
    }
}

/// The picture while the build goes on: no higher than the terminal less the cursor's row.
pub fn during(board: &Board, size: Size, now: Duration) -> Vec<Line> {
    let room = size.rows.saturating_sub(1).max(1);
    let mut lines = vec![header(board, size, now, false)];
    let steps = chosen(board, room - 1);
    let mut rest = room - 1 - steps.len();
    let mut talking = steps
        .iter()
        .filter(|step| board.steps.get(**step).is_some_and(Step::runs))
        .count();
    for number in steps {
        lines.extend(line(board, number, size, now, false));
        let Some(step) = board.steps.get(number).filter(|step| step.runs()) else {
            continue;
        };
        let share = (rest / talking.max(1)).min(OUTPUT);
        talking -= 1;
        let first = step.tail.len().saturating_sub(share);
        for written in step.tail.iter().skip(first) {
            let written = output::plain(written);
            lines.push(Line {
                text: text::fit(&format!(" => => # {written}"), width(size)),
                paint: Some(Paint::Output),
            });
            rest -= 1;
        }
    }
    lines
}

/// The picture that stays: every step in one line, however many they are.
pub fn after(board: &Board, size: Size, now: Duration, end: &[String]) -> Vec<Line> {
    let mut lines = vec![header(board, size, now, true)];
    for number in &board.begun {
        lines.extend(line(board, *number, size, now, true));
    }
    for what in end {
        let text = text::fit(&format!(" => {}", text::clean(what)), width(size));
        let paint = Some(Paint::Done);
        lines.push(Line { text, paint });
    }
    lines
}

fn width(size: Size) -> usize {
    size.columns.saturating_sub(1)
}

/// The steps that there is room for, in the order in which they began: those that are done make
/// room for the output of those that run.
fn chosen(board: &Board, room: usize) -> Vec<StepNumber> {
    let mut steps = board.begun.clone();
    let runs = |number: StepNumber| board.steps.get(number).is_some_and(Step::runs);
    let running = board.steps.iter().filter(|step| step.runs());
    let wanted: usize = running.map(|step| step.tail.len().min(OUTPUT)).sum();
    while steps.len() + wanted > room {
        match steps.iter().position(|number| !runs(*number)) {
            Some(done) => steps.remove(done),
            None => break,
        };
    }
    let too_many = steps.len().saturating_sub(room);
    steps.drain(..too_many);
    steps
}

fn header(board: &Board, size: Size, now: Duration, ended: bool) -> Line {
    let (done, all) = (board.done(), board.steps.len());
    let whole = ended && board.failed.is_none() && done == all;
    let end = if whole { " FINISHED" } else { "" };
    let seconds = now.as_secs_f64();
    let long = format!("[+] Building {seconds:.1}s ({done}/{all}){end}");
    Line {
        text: text::fit(&long, width(size)),
        paint: whole.then_some(Paint::Done),
    }
}

/// A step's line: what it is to the left, how long it took to the right.
fn line(board: &Board, number: StepNumber, size: Size, now: Duration, ended: bool) -> Option<Line> {
    let step = board.steps.get(number)?;
    let (word, paint) = if board.is_failed(number) {
        ("ERROR ", Some(Paint::Failed))
    } else if step.cached {
        ("CACHED ", Some(Paint::Done))
    } else if step.ended.is_some() {
        ("", Some(Paint::Done))
    } else if ended {
        ("CANCELED ", Some(Paint::Cancelled))
    } else if step.waits {
        ("WAITING ", None)
    } else {
        ("", None)
    };
    let title = board.title(number);
    let time = format!(" {:.1}s", board.elapsed(number, now).as_secs_f64());
    let room = width(size).saturating_sub(time.len());
    let left = text::fit(&format!(" => {word}{title}"), room);
    let gap = " ".repeat(room.saturating_sub(text::columns(&left)));
    Some(Line {
        text: text::fit(&format!("{left}{gap}{time}"), width(size)),
        paint,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::build::event::Event;

    const WIDE: Size = Size {
        columns: 60,
        rows: 20,
    };

    fn board(events: &[Event]) -> Board {
        let mut board = Board::default();
        for (time, event) in events.iter().enumerate() {
            board.take(event, Duration::from_millis(100 * time as u64));
        }
        board
    }

    fn text(lines: &[Line]) -> String {
        let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        lines.join("\n")
    }

    #[test]
    fn what_runs_shows_its_last_lines_and_what_is_done_one() {
        let board = board(&side_by_side()[..12]);
        let expected = "\
[+] Building 3.2s (2/4)
 => [builder 1/2] FROM base AS builder                 0.3s
 => [stage-1 1/2] FROM base                            0.1s
 => [builder 2/2] RUN make                             2.7s
 => => # cc main.c
 => => # done
 => CACHED [stage-1 2/2] COPY --from=builder /x /x     2.2s";
        let picture = during(&board, WIDE, Duration::from_millis(3200));
        assert_eq!(text(&picture), expected);
    }

    #[test]
    fn a_failure_and_what_it_cancelled_are_marked() {
        let mut events = failing();
        events.insert(1, Event::StepStarted { step: 2 });
        let picture = after(&board(&events), WIDE, Duration::from_secs(2), &[]);
        let text = text(&picture);
        assert!(text.starts_with("[+] Building 2.0s (2/4)\n"), "{text}");
        assert!(text.contains(" => ERROR [builder 2/2] RUN make"), "{text}");
        assert!(text.contains(" => CANCELED [stage-1 1/2] FROM"), "{text}");
        assert!(!text.contains("main.c"), "{text}");
    }

    #[test]
    fn a_step_that_waits_is_marked_and_one_that_starts_again_stands_there_once() {
        let mut events = side_by_side()[..6].to_vec();
        events.push(Event::StepWaiting { step: 1 });
        let waiting = text(&during(&board(&events), WIDE, Duration::from_secs(1)));
        assert!(waiting.contains(" => WAITING [builder 2/2] RUN make"));
        events.extend([Event::StepCached { step: 1 }, finished(1)]);
        let cached = text(&during(&board(&events), WIDE, Duration::from_secs(1)));
        assert!(cached.contains("(3/4)\n") && cached.contains(" => CACHED [builder 2/2]"));
        events.extend([Event::StepStarted { step: 1 }, started(1)]);
        let again = text(&during(&board(&events), WIDE, Duration::from_secs(1)));
        assert!(again.contains("(2/4)\n"), "{again}");
        assert_eq!(again.matches("RUN make").count(), 1, "{again}");
        assert!(!again.contains("CACHED"), "{again}");
    }

    #[test]
    fn a_picture_fits_every_terminal() {
        let mut events = side_by_side()[..11].to_vec();
        if let Event::Planned { steps, .. } = &mut events[0] {
            steps[1].text = "RUN 東京 \x1b[2J\x1b]0;title\x07 <<EOF\nmore\r\tEOF".into();
        }
        for count in 0..50 {
            let line = format!(
                "東京\t\x1b[2J\x1b[{count}A line {count} {}",
                "long ".repeat(40)
            );
            events.push(output(1, &line));
        }
        let board = board(&events);
        let now = Duration::from_secs(12_345);
        for columns in 0..70 {
            for rows in 0..12 {
                let size = Size { columns, rows };
                let during = during(&board, size, now);
                assert!(during.len() <= rows.saturating_sub(1).max(1), "{size:?}");
                let after = after(&board, size, now, &["naming to app".to_owned()]);
                for line in during.iter().chain(&after) {
                    let wide = text::columns(&line.text);
                    assert!(wide < columns.max(1), "{size:?}: {line:?}");
                    assert!(!line.text.contains(char::is_control), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn on_a_low_terminal_what_runs_is_shown_before_what_is_done() {
        let board = board(&side_by_side()[..9]);
        let size = Size {
            columns: 40,
            rows: 4,
        };
        let picture = text(&during(&board, size, Duration::from_secs(1)));
        assert!(picture.contains("RUN make"), "{picture}");
        assert!(picture.contains("# done"), "{picture}");
        assert!(!picture.contains("AS builder"), "{picture}");
    }
}
