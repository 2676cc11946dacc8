use super::*;
use crate::dockerfile::parse;

const BAD: &str = "FROM node\nWORKDIR /app\nCOPY . .\nRUN npm ci\nRUN npm run build\n";
const GOOD: &str =
    "FROM node\nWORKDIR /app\nCOPY package*.json ./\nRUN npm ci\nCOPY . .\nRUN npm run build\n";

fn step(number: usize, text: &str, outcome: Outcome, milliseconds: u64) -> StepRecord {
    StepRecord {
        number,
        stage: "stage-0".into(),
        line: number as u32 + 1,
        text: text.into(),
        outcome,
        milliseconds,
        identity: None,
        content: None,
        parent: None,
        image: None,
    }
}

/// A build of the steps of `file`, of which `broken` found other content, and what follows it was
/// done again in these times.
fn build(file: &str, broken: &str, milliseconds: u64) -> BuildRecord {
    let mut outcome = Outcome::Cached;
    let steps = file.lines().enumerate().map(|(number, text)| {
        outcome = match outcome {
            Outcome::Cached if text == broken => Outcome::Content,
            Outcome::Cached => Outcome::Cached,
            _ => Outcome::Parent,
        };
        let time = if text.starts_with("RUN") && outcome == Outcome::Parent {
            milliseconds
        } else {
            0
        };
        step(number, text, outcome, time)
    });
    BuildRecord {
        subject: "s".into(),
        time: 0,
        steps: steps.collect(),
    }
}

fn first(file: &str) -> BuildRecord {
    let mut build = build(file, "FROM node", 60_000);
    for step in &mut build.steps {
        step.outcome = Outcome::First;
    }
    build
}

fn ordered(file: &str, builds: &[BuildRecord]) -> Vec<Hint> {
    let exists = |name: &str| matches!(name, "package.json" | "package-lock.json");
    order(&parse(file.as_bytes()).unwrap(), builds, &exists)
}

#[test]
fn a_copy_of_everything_before_an_installation_is_told_with_what_it_cost() {
    let builds = [
        build(BAD, "COPY . .", 4_200),
        build(BAD, "RUN npm run build", 0),
        build(BAD, "COPY . .", 3_000),
        first(BAD),
    ];
    let hints = ordered(BAD, &builds);
    let [hint] = hints.as_slice() else {
        panic!("{hints:?}");
    };
    assert_eq!(hint.kind, HintKind::EarlyCopy);
    assert_eq!(hint.lines, Some((3, 3)));
    // What compiles after the copy is not its fault.
    assert_eq!(hint.milliseconds, 7_200);
    assert_eq!(
        hint.message,
        "COPY . . on line 3 brought something new in 2 of the last 3 builds that changed \
         something, and RUN npm ci on line 4 ran again each time: 7.2 s in all; copy package.json \
         and package-lock.json alone before it, and the rest after it"
    );
    assert_eq!(
        hint.suggestions,
        [
            "COPY package.json package-lock.json ./",
            "RUN npm ci",
            "COPY . ."
        ]
    );
}

#[test]
fn a_good_order_gets_no_hint() {
    let builds = [
        build(GOOD, "COPY . .", 9_000),
        build(GOOD, "COPY . .", 9_000),
        // Other packages are installed because they are others.
        build(GOOD, "COPY package*.json ./", 9_000),
        build(GOOD, "COPY package*.json ./", 9_000),
        first(GOOD),
    ];
    assert_eq!(ordered(GOOD, &builds), []);
}

#[test]
fn an_order_that_was_mended_is_blamed_no_more() {
    let builds = [build(BAD, "COPY . .", 9_000), build(BAD, "COPY . .", 9_000)];
    assert_eq!(ordered(BAD, &builds).len(), 1);
    assert_eq!(ordered(GOOD, &builds), []);
}

#[test]
fn what_happened_once_or_cost_nothing_is_not_spoken_of() {
    assert_eq!(
        ordered(BAD, &[build(BAD, "COPY . .", 60_000), first(BAD)]),
        []
    );
    let cheap = [build(BAD, "COPY . .", 400), build(BAD, "COPY . .", 400)];
    assert_eq!(ordered(BAD, &cheap), []);
    let mut forced = [build(BAD, "COPY . .", 9_000), build(BAD, "COPY . .", 9_000)];
    forced[0].steps[4].outcome = Outcome::Forced;
    assert_eq!(ordered(BAD, &forced), []);
}

#[test]
fn packages_of_the_system_need_nothing_of_the_context() {
    let file = "FROM debian\nCOPY . /src\nRUN apt-get update && apt-get -y install gcc\n";
    let builds = [
        build(file, "COPY . /src", 2_000),
        build(file, "COPY . /src", 2_000),
    ];
    let hints = ordered(file, &builds);
    assert!(
        hints[0].message.ends_with("move it before the COPY"),
        "{hints:?}"
    );
    assert!(hints[0].suggestions.is_empty());
}

#[test]
fn an_argument_that_changes_is_named_if_the_step_does_not_use_it() {
    let text = "RUN apk add curl";
    let file = format!("FROM alpine\nARG REVISION\nARG curl\n{text}\n");
    let builds = || {
        [1, 2].map(|_| BuildRecord {
            subject: "s".into(),
            time: 0,
            steps: vec![step(3, text, Outcome::Variable, 1_500)],
        })
    };
    let hints = ordered(&file, &builds());
    assert_eq!(hints[0].kind, HintKind::EarlyArgument);
    assert_eq!(
        hints[0].message,
        "RUN apk add curl on line 4 ran again in each of the last 2 builds that changed something \
         since an ARG before it that it doesn't use had another value: 3.0 s in all; declare \
         REVISION after it"
    );
    // One that it does use is its own affair.
    let file = format!("FROM alpine\nARG curl\n{text}\n");
    assert_eq!(ordered(&file, &builds()), []);
}

#[test]
fn installers_are_known_by_their_commands() {
    for text in [
        "RUN npm ci",
        "RUN cd x && npm install --production",
        "run yarn install --frozen-lockfile",
        "RUN yarn",
        "RUN pip install --no-cache-dir -r requirements.txt",
        "RUN --mount=type=cache,target=/c apt-get update && apt-get install -y gcc",
        "RUN apk --no-cache add make",
        "RUN go mod download",
    ] {
        assert!(installer(text).is_some(), "{text}");
    }
    for text in [
        "RUN npm run build",
        "RUN pip install .",
        "RUN make install",
        "RUN cargo build --release",
        "COPY npm install",
        "RUN yarn build",
        "RU",
        "é",
    ] {
        assert!(installer(text).is_none(), "{text}");
    }
}

#[test]
fn a_stage_that_is_taken_whole_is_told_with_its_sizes() {
    let file = "FROM base AS build\nRUN make\nRUN test\nFROM scratch\nCOPY --from=build / /\nCOPY --from=build /out /out\nCOPY --from=nginx / /\n";
    let file = parse(file.as_bytes()).unwrap();
    let stage = |number, text: &str, name: &str| StepRecord {
        stage: "build".into(),
        image: Some(Digest::of(name.as_bytes())),
        ..step(number, text, Outcome::Cached, 0)
    };
    let build = BuildRecord {
        subject: "s".into(),
        time: 0,
        steps: vec![
            stage(0, "FROM base AS build", "a"),
            stage(1, "RUN make", "b"),
            stage(2, "RUN test", "b"),
        ],
    };
    let layers = |image: &Digest| {
        Some(if *image == Digest::of(b"a") {
            vec![80_000_000]
        } else {
            vec![80_000_000, 1_234_567]
        })
    };
    let hints = whole_stages(&file, Some(&build), &layers);
    let messages: Vec<&str> = hints.iter().map(|hint| hint.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "COPY --from=build / / on line 5 takes the whole stage build, 81.2MB in all: its base \
             image 80.0MB, RUN make (line 2) 1.23MB; copy only what the image needs"
        ]
    );
    let hints = whole_stages(&file, None, &|_| None);
    assert!(
        hints[0].message.contains("stage build; copy only"),
        "{hints:?}"
    );
}

#[test]
fn files_that_nothing_copies_are_counted_and_named() {
    let file = |path: &str, size| (path.to_owned(), size);
    let files = [
        file("Dockerfile", 9_000_000),
        file("src/main.c", 100),
        file("src/big.bin", 400_000),
        file("data/a", 2_000_000),
        file("data/b", 1_000_000),
        file("notes.txt", 10),
    ];
    let copied = BTreeSet::from(["src/*.c".to_owned()]);
    let hint = unused(&copied, &files).unwrap();
    assert_eq!(
        hint.message,
        "nothing copies 4 of the context's 6 files, 3.40MB in all, the biggest of them data/a \
         (2.00MB); these lines in .dockerignore leave them out"
    );
    assert_eq!(hint.suggestions, ["data", "notes.txt"]);
    let copied = BTreeSet::from(["src".to_owned(), "data/".to_owned()]);
    assert_eq!(unused(&copied, &files), None);
    let copied = BTreeSet::from([String::new()]);
    assert_eq!(unused(&copied, &files), None);
}
