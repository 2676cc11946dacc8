//! Every event of a build as a JSON object, one a line, for programs that show or keep builds.
//!
//! ```text
//! {"schema":1,"time":"2026-01-01T00:00:00.123Z","event":"step_started","step":1}
//! ```
//! | `event` | with it |
//! |---|---|
//! | `planned` | `steps`: each `number`, `stage`, `in_stage`, `stage_steps`, `text`, `line`; `skipped_stages` |
//! | `warning` | `message` |
//! | `step_started` | `step` |
//! | `step_cached` | `step`: what it gives was there already; `step_finished` follows |
//! | `step_waiting` | `step`: another build, or another stage, is running the same one |
//! | `container_started`, `container_removed` | `step`, `container` |
//! | `output` | `step`, `stream` (`stdout`, `stderr`), `line`; `bytes` in hexadecimal where the line is not UTF-8 |
//! | `step_finished` | `step`, `seconds`, `image` (null for `FROM scratch`) |
//! | `step_failed` | `step`, `seconds`, `message`, `status` (null where no command ran) |
//! | `committed` | `image`: the ID |
//! | `tagged` | `name` |
//!
//! Every object has `schema`, `time` (RFC 3339, UTC, milliseconds) and `event`. Steps are told by
//! their `number`, from 0; `in_stage` and `line` count from 1. Events of steps that run side by
//! side are interleaved; one that a cache did not have after all starts once more. `schema` grows when something that is here changes or goes; what is new is
//! added without that, so readers pass over events and keys that they don't know.
//!
//! An error that ends the program is told after these, as every command tells it: on a line that
//! begins with `rstore: error: `, which is no JSON.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::SecondsFormat;
use serde_json::{Map, Value, json};

use super::board::Board;
use super::{Progress, Settings};
use crate::build::event::{Event, Sink, StepNumber};
use crate::executor::Stream;
use crate::registry;

/// The version of what is written.
pub const SCHEMA: u32 = 1;

/// The display.
pub struct RawJson {
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    board: Board,
}

impl RawJson {
    /// A display that has shown nothing.
    pub fn new(settings: Settings) -> RawJson {
        RawJson {
            state: Mutex::new(State {
                settings,
                board: Board::default(),
            }),
        }
    }
}

impl Sink for RawJson {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (state.settings.clock)();
        state.board.take(&event, now);
        let mut line = state.object(&event, now).to_string();
        line.push('\n');
        // A display that nobody can see must not stop the build.
        let _ = state.settings.out.write_all(line.as_bytes());
    }
}

impl Progress for RawJson {
    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = state.settings.out.flush();
    }
}

impl State {
    fn object(&self, event: &Event, now: Duration) -> Value {
        let time = (self.settings.wall)().to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut object = Map::new();
        object.insert("schema".to_owned(), json!(SCHEMA));
        object.insert("time".to_owned(), json!(time));
        let (name, details) = self.details(event, now);
        object.insert("event".to_owned(), json!(name));
        if let Value::Object(details) = details {
            object.extend(details);
        }
        Value::Object(object)
    }

    fn details(&self, event: &Event, now: Duration) -> (&'static str, Value) {
        let seconds = |step: StepNumber| {
            let millis = self.board.elapsed(step, now).as_millis();
            // A build of more milliseconds than a u32 has takes seven weeks.
            f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1000.0
        };
        match event {
            Event::Planned {
                steps,
                skipped_stages,
            } => (
                "planned",
                json!({ "steps": steps, "skipped_stages": skipped_stages }),
            ),
            Event::Warning { message } => ("warning", json!({ "message": message })),
            Event::Transfer(event) => transfer(event),
            Event::CacheImport { cache } => ("cache_import", json!({ "cache": cache })),
            Event::CacheExport { cache } => ("cache_export", json!({ "cache": cache })),
            Event::StepStarted { step } => ("step_started", json!({ "step": step })),
            Event::StepCached { step } => ("step_cached", json!({ "step": step })),
            Event::StepWaiting { step } => ("step_waiting", json!({ "step": step })),
            Event::ContainerStarted { step, container } => (
                "container_started",
                json!({ "step": step, "container": container }),
            ),
            Event::ContainerRemoved { step, container } => (
                "container_removed",
                json!({ "step": step, "container": container }),
            ),
            Event::Output { step, stream, line } => ("output", output(*step, *stream, line)),
            Event::StepFinished { step, image } => (
                "step_finished",
                json!({ "step": step, "seconds": seconds(*step), "image": image }),
            ),
            Event::StepFailed { step, failure } => (
                "step_failed",
                json!({
                    "step": step,
                    "seconds": seconds(*step),
                    "message": failure.message,
                    "status": failure.status,
                }),
            ),
            Event::Committed { image } => ("committed", json!({ "image": image })),
            Event::Tagged { name } => ("tagged", json!({ "name": name })),
        }
    }
}

fn output(step: StepNumber, stream: Stream, line: &[u8]) -> Value {
    let stream = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let mut object = json!({
        "step": step,
        "stream": stream,
        "line": String::from_utf8_lossy(line),
    });
    if std::str::from_utf8(line).is_err() {
        let bytes: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        object["bytes"] = json!(bytes);
    }
    object
}

/// What is told of a base that is being pulled.
fn transfer(event: &registry::Event) -> (&'static str, Value) {
    match event {
        registry::Event::Pulling { what, repository } => (
            "pulling",
            json!({ "reference": what, "repository": repository }),
        ),
        registry::Event::Pushing { repository } => ("pushing", json!({ "repository": repository })),
        registry::Event::Layer {
            digest,
            size,
            state,
        } => (
            "layer",
            json!({ "digest": digest, "size": size, "state": state.to_string() }),
        ),
        registry::Event::Moved { digest, done, size } => (
            "layer_moved",
            json!({ "digest": digest, "size": size, "done": done }),
        ),
        registry::Event::Referrer { digest, kind, of } => (
            "referrer",
            json!({ "digest": digest, "artifact_type": kind, "about": of }),
        ),
        registry::Event::Warning { message } => ("warning", json!({ "message": message })),
        registry::Event::Pulled {
            name,
            digest,
            newer,
        } => (
            "pulled",
            json!({ "name": name, "digest": digest, "newer": newer }),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn shown(events: Vec<Event>) -> String {
        let page = Page::default();
        let display = RawJson::new(settings(&page));
        events.into_iter().for_each(|event| display.event(event));
        display.finish();
        page.text()
    }

    #[test]
    fn what_programs_read_is_as_it_was() {
        let mut events = side_by_side();
        events.insert(
            1,
            Event::Warning {
                message: "one \"thing\"".into(),
            },
        );
        events.insert(7, Event::StepWaiting { step: 1 });
        events.insert(
            9,
            Event::Output {
                step: 1,
                stream: Stream::Stderr,
                line: b"\x1b[31mnot \xff UTF-8".to_vec(),
            },
        );
        insta::assert_snapshot!(shown(events));
    }

    #[test]
    fn a_failure_is_as_it_was() {
        insta::assert_snapshot!(shown(failing()));
    }

    #[test]
    fn every_line_is_an_object_whatever_a_step_writes() {
        let line = (0..=255).filter(|byte| *byte != b'\n').collect();
        let stream = Stream::Stdout;
        let text = shown(vec![
            planned(),
            Event::Output {
                step: 0,
                stream,
                line,
            },
        ]);
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            assert_eq!(object["schema"], 1);
        }
    }
}
