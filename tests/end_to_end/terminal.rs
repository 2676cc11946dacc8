//! Builds, questions and shells as somebody at a terminal sees them: what is on the screen, not
//! which bytes draw it.

use std::process::Command;
use std::time::Duration;

use crate::support::gate::Gate;
use crate::support::terminal::Terminal;
use crate::support::{Context, Rstore, machine};

fn build(store: &Rstore, context: &Context) -> Command {
    let mut command = store.command();
    command.args(["build", "-t", "app"]).arg(context.path());
    command
}

/// Nothing that was drawn is wider than the terminal, and there is one picture.
fn is_one_picture(screen: &vt100::Screen) -> bool {
    let (rows, _) = screen.size();
    let wrapped = (0..rows.get()).any(|row| screen.row_wrapped(row));
    !wrapped && screen.contents().matches("[+] Building").count() == 1
}

/// The terminal is as it was before the program began.
#[track_caller]
fn is_restored(terminal: &Terminal, before: &rustix::termios::Termios) {
    let after = terminal.settings();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
    assert_eq!(after.output_modes, before.output_modes);
    terminal.until("the cursor", |screen| !screen.hide_cursor());
    assert!(!terminal.look(vt100::Screen::alternate_screen));
}

#[test]
fn stages_that_run_side_by_side_are_drawn_at_once_and_collapse() {
    let store = Rstore::with_base();
    let (one, two) = (Gate::new(), Gate::new());
    let context = Context::new(&format!(
        "FROM base AS one\nRUN echo one has begun; {}; touch /one\n\
         FROM base AS two\nRUN echo two has begun; {}; touch /two\n\
         FROM base\nCOPY --from=one /one /one\nCOPY --from=two /two /two\n",
        one.wait(),
        two.wait()
    ));
    let command = build(&store, &context);
    let mut terminal = Terminal::run(&command, 24, 100);
    let before = terminal.settings();
    terminal.shows(&[
        "[+] Building",
        " => => # one has begun",
        " => => # two has begun",
    ]);
    terminal.until("one picture", is_one_picture);
    drop(one);
    // What is done shows its output no more, what runs still does.
    terminal.until("one stage done", |screen| {
        let text = screen.contents();
        !text.contains("# one has begun") && text.contains("# two has begun")
    });
    drop(two);
    assert_eq!(terminal.code(), Some(0));
    terminal.shows(&["(7/7) FINISHED", " => naming to app:latest"]);
    terminal.until("collapsed", |screen| !screen.contents().contains("# "));
    terminal.until("one picture", is_one_picture);
    is_restored(&terminal, &before);

    let mut cached = Terminal::run(&command, 24, 100);
    assert_eq!(cached.code(), Some(0));
    cached.shows(&[
        "(7/7) FINISHED",
        " => CACHED [one 2/2] RUN",
        " => CACHED [two 2/2] RUN",
    ]);
}

#[test]
fn a_failure_is_told_on_a_narrow_terminal_and_its_status_is_the_programs() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nRUN printf 'wide: 東京都 \\033[2J\\033[?25l\\033[99A and a very long line indeed\\n'; exit 42\n",
    );
    let mut terminal = Terminal::run(&build(&store, &context), 10, 30);
    let before = terminal.settings();
    assert_eq!(terminal.code(), Some(42));
    // The end of it is on the screen, the rest above.
    terminal.shows(&["rstore: error: Dockerfile:2"]);
    is_restored(&terminal, &before);
    terminal.resize(60, 100);
    let mut wide = Terminal::run(&build(&store, &context), 60, 100);
    assert_eq!(wide.code(), Some(42));
    wide.shows(&[
        " => ERROR [2/2] RUN printf",
        " > [2/2] RUN printf",
        "wide: 東京都  and a very long line indeed",
        "   2 | >>> RUN printf",
        "returned a non-zero code: 42",
    ]);
    is_restored(&wide, &before);
}

#[test]
fn a_terminal_that_is_resized_in_the_middle_has_one_picture() {
    let store = Rstore::with_base();
    let gate = Gate::new();
    let long = "a name that is longer than a narrow terminal is wide";
    let context = Context::new(&format!(
        "FROM base\nENV A=\"{long}\"\nRUN echo {long}; {}\n",
        gate.wait()
    ));
    let mut terminal = Terminal::run(&build(&store, &context), 24, 80);
    terminal.shows(&["[+] Building", long]);
    // What a lower terminal scrolls out of sight is nobody's to draw over: that comes last.
    for (rows, columns) in [(10, 30), (40, 120), (6, 20)] {
        terminal.resize(rows, columns);
        let fits = |screen: &vt100::Screen| {
            let (_, columns) = screen.size();
            let text = screen.contents();
            // A line of the new width: its time ends where the terminal does, less a column.
            let ends = |line: &str| {
                line.starts_with(" => ") && line.chars().count() == usize::from(columns.get()) - 1
            };
            is_one_picture(screen) && text.lines().any(ends)
        };
        terminal.until(&format!("a picture of {columns} columns"), fits);
    }
    drop(gate);
    assert_eq!(terminal.code(), Some(0));
    terminal.shows(&[" => naming to app"]);
}

#[test]
fn ctrl_c_ends_a_build_and_leaves_the_terminal_and_the_store_as_they_were() {
    let store = Rstore::with_base();
    let mark = format!("rstore-ctrl-c-{}", std::process::id());
    let dockerfile = format!("FROM base\nENV MARK={mark}\nRUN echo has begun; sleep 1000\n");
    let context = Context::new(&dockerfile);
    for kind in ["tty", "plain", "classic", "rawjson"] {
        let mut command = build(&store, &context);
        command.args(["--progress", kind]).env("MARK", &mark);
        let mut terminal = Terminal::run(&command, 24, 80);
        let before = terminal.settings();
        // As a line of its own, or in the picture: not as a part of the instruction.
        terminal.until("the step's output", |screen| {
            let text = screen.contents();
            text.lines()
                .any(|line| line.ends_with("has begun") || line.contains("\"line\":\"has begun\""))
        });
        // Impatience changes nothing.
        terminal.keys("\x03\x03");
        assert_eq!(terminal.code(), Some(130), "{kind}: {}", terminal.text());
        terminal.shows(&["interrupted by SIGINT"]);
        if kind == "tty" {
            terminal.shows(&[" => CANCELED [3/3] RUN"]);
        }
        is_restored(&terminal, &before);
        let left = machine::processes_left(&mark, Duration::from_secs(30));
        assert!(left.is_empty(), "{kind}: {left:#?}");
        let mounts = machine::mounts_left(store.root(), Duration::from_secs(30));
        assert!(mounts.is_empty(), "{kind}: {mounts:#?}");
        assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new(), "{kind}");
    }
}

#[test]
fn a_terminal_that_cannot_draw_gets_lines_and_no_color_is_obeyed() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo has run\n");
    let mut command = build(&store, &context);
    command.env("TERM", "dumb");
    let mut dumb = Terminal::run(&command, 24, 80);
    assert_eq!(dumb.code(), Some(0));
    dumb.shows(&["#2 [2/2] RUN echo has run", "#2 DONE"]);
    for (colored, command) in [
        (true, build(&store, &context)),
        (false, build(&store, &context)),
    ] {
        let mut command = command;
        if colored {
            command.env_remove("NO_COLOR");
        }
        let mut terminal = Terminal::run(&command, 24, 80);
        assert_eq!(terminal.code(), Some(0));
        terminal.shows(&["(2/2) FINISHED"]);
        let has_color = terminal.look(|screen| {
            let (rows, columns) = screen.size();
            let cell = |row, column| screen.cell(row, column).map(vt100::Cell::fgcolor);
            (0..rows.get()).any(|row| {
                (0..columns.get())
                    .any(|column| cell(row, column).is_some_and(|c| c != vt100::Color::Default))
            })
        });
        assert_eq!(has_color, colored);
    }
}

#[test]
fn prune_asks_at_a_terminal_and_takes_anything_but_yes_for_no() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo gone > /gone\n");
    store.build(context.path(), &[]);
    let blobs = store.blobs();
    let mut command = store.command();
    command.arg("prune");
    for answer in ["n\r", "\r", "\x04"] {
        let mut terminal = Terminal::run(&command, 24, 120);
        terminal.shows(&["[y/N]"]);
        terminal.keys(answer);
        assert_eq!(terminal.code(), Some(0));
        assert_eq!(store.blobs(), blobs, "{answer:?}");
    }
    let mut terminal = Terminal::run(&command, 24, 120);
    terminal.shows(&["[y/N]"]);
    terminal.keys("y\r");
    assert_eq!(terminal.code(), Some(0));
    terminal.shows(&["Total reclaimed space"]);
    assert!(store.blobs().len() < blobs.len());
    store.verify();
}

#[test]
fn a_shell_has_a_terminal_of_its_own_with_keys_and_sizes() {
    let store = Rstore::with_base();
    let mut command = store.command();
    command.args(["shell", "base"]);
    let mut terminal = Terminal::run(&command, 24, 80);
    let before = terminal.settings();
    terminal.shows(&["# "]);
    terminal.keys("tty; stty size\r");
    terminal.shows(&["/dev/pts/0", "24 80"]);
    terminal.resize(10, 30);
    // The kernel tells the new size with SIGWINCH, to us and from us: the shell may be asked early.
    terminal.keys("until stty size | grep '10 30'; do :; done\r");
    terminal.until("the new size", |screen| {
        screen.contents().lines().any(|line| line == "10 30")
    });
    // Once it speaks it is in the foreground.
    terminal.keys("sh -c \"echo run''ning; sleep 1000\"\r");
    terminal.shows(&["running"]);
    // For what runs inside, not for us.
    terminal.keys("\x03");
    terminal.keys("echo a$?b\r");
    terminal.shows(&["a130b"]);
    terminal.keys("touch /made; exit 5\r");
    assert_eq!(terminal.code(), Some(5));
    is_restored(&terminal, &before);
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
    // What was made in it went with it.
    store
        .run(["shell", "base", "--", "cat", "/made"])
        .fails(1, &["/made"]);
}

#[test]
fn a_shell_whose_window_is_closed_leaves_nothing() {
    let store = Rstore::with_base();
    let mark = format!("rstore-hup-{}", std::process::id());
    let mut command = store.command();
    command
        .args(["shell", "-e", "MARK", "base"])
        .env("MARK", &mark);
    let mut terminal = Terminal::run(&command, 24, 80);
    let before = terminal.settings();
    terminal.shows(&["# "]);
    terminal.keys("sleep 1000 & trap '' HUP; echo a$((1+1))b\r");
    terminal.shows(&["a2b"]);
    let signal = rustix::process::Signal::HUP;
    rustix::process::kill_process(terminal.process(), signal).expect("a child can be signalled");
    assert_eq!(terminal.code(), Some(129));
    is_restored(&terminal, &before);
    let left = machine::processes_left(&mark, Duration::from_secs(30));
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_a_shell_writes_elsewhere_than_to_a_terminal_is_as_it_was_written() {
    let store = Rstore::with_base();
    let mut command = Command::new("sh");
    let script = format!(
        "{} shell base -- sh -c 'test ! -t 0 && read line && echo \"got $line\"' > {}/out; echo code $?",
        crate::support::rstore::PROGRAM,
        store.root().display()
    );
    command
        .args(["-c", &script])
        .env("RSTORE_ROOT", store.root());
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.keys("typed\r");
    assert_eq!(terminal.code(), Some(0));
    terminal.shows(&["code 0"]);
    let out = std::fs::read_to_string(store.root().join("out")).expect("a file");
    assert_eq!(out, "got typed\n");
}
