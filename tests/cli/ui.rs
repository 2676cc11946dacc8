//! The terminal interface, in a terminal: what is on the screen, what happened to the store, and
//! how the terminal is left.

use std::process::Command;
use std::time::Duration;

use crate::sample::{Everything, Sample, program, rstore};
use crate::terminal::Terminal;
use rustix::process::{Signal, kill_process};

fn ui(sample: &Sample, arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("--root").arg(sample.root()).arg("ui");
    command.args(arguments);
    command
}

/// The interface on a store, once it shows something.
fn open(sample: &Sample, arguments: &[&str], rows: u16, columns: u16) -> Terminal {
    let terminal = Terminal::run(&ui(sample, arguments), rows, columns);
    terminal.shows(&["Images", "app:", "? keys"]);
    terminal
}

/// The terminal is as it was before the program began.
#[track_caller]
fn is_restored(terminal: &Terminal, before: &rustix::termios::Termios) {
    terminal.until("the main screen and its cursor", |screen| {
        !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste()
    });
    let after = terminal.settings();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
    assert_eq!(after.output_modes, before.output_modes);
}

/// Settings of a terminal that nobody has touched.
fn untouched() -> rustix::termios::Termios {
    Terminal::run(&Command::new("true"), 24, 80).settings()
}

/// Bytes that a removal frees, as the planner tells programs.
fn size(bytes: u64) -> String {
    rstore::cli::render::size::short(bytes)
}

/// Allocated bytes of all blobs.
fn allocated(sample: &Sample) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(sample.blobs()).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

#[test]
fn what_two_marked_images_free_is_foretold_and_so_it_comes() {
    let everything = Everything::new();
    let sample = &everything.sample;
    let mut terminal = open(sample, &[], 30, 100);
    let before = allocated(sample);
    // The dangling one, which a prune of dangling things would take with the stray layer; and the
    // one with two names.
    terminal.keys("/make old\r \x1b");
    terminal.shows(&["1 marked: frees"]);
    terminal.keys("/app:1\r \x1b");
    terminal.shows(&["2 marked: frees"]);
    // What `rmi` frees of a copy of the store is what stands there.
    let copy = Sample::new();
    let status = Command::new("cp")
        .arg("-a")
        .arg(sample.root())
        .arg(copy.root().join("copy"))
        .status();
    assert!(status.unwrap().success());
    let root = copy.root().join("copy");
    let root = root.to_str().unwrap();
    let (old, app) = (everything.old.id.short(), everything.app.id.short());
    let run = rstore(&["--root", root, "rmi", "-f", &old, &app]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let left: Vec<String> = {
        let entries = std::fs::read_dir(copy.root().join("copy/blobs/sha256")).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            format!("sha256:{}", entry.unwrap().file_name().to_str().unwrap())
        };
        let mut left: Vec<String> = entries.map(name).collect();
        left.sort();
        left
    };
    let gone: u64 = sample
        .digests()
        .iter()
        .filter(|digest| !left.contains(digest))
        .map(|digest| {
            use std::os::unix::fs::MetadataExt;
            let path = sample.blobs().join(&digest["sha256:".len()..]);
            path.metadata().unwrap().blocks() * 512
        })
        .sum();
    terminal.shows(&[&format!("2 marked: frees {}", size(gone))]);
    terminal.keys("x");
    terminal.shows(&[
        "Remove what is marked",
        &format!("free {}? y/N", size(gone)),
    ]);
    terminal.keys("y");
    terminal.shows(&["Done", &format!("({gone} bytes)"), "2 names went"]);
    assert_eq!(before - allocated(sample), gone);
    assert_eq!(sample.digests(), left);
    // The list is of the store as it is now.
    terminal.keys("\x1b");
    terminal.until("the image has gone", |screen| {
        !screen.contents().contains("app:1")
    });
    terminal.keys("q");
    assert_eq!(terminal.code(), Some(0));
    sample.ok(&["fsck"]);
}

#[test]
fn what_is_not_confirmed_stays() {
    let everything = Everything::new();
    let sample = &everything.sample;
    let before = sample.digests();
    let mut terminal = open(sample, &[], 24, 80);
    terminal.keys(" x");
    terminal.shows(&["? y/N"]);
    for no in ["n", "\x1b", "\r", "q"] {
        terminal.keys(no);
        terminal.until("no question", |screen| !screen.contents().contains("y/N"));
        terminal.keys("x");
        terminal.shows(&["? y/N"]);
    }
    terminal.keys("n");
    terminal.until("no question", |screen| !screen.contents().contains("y/N"));
    // What is pasted is not typed.
    terminal.keys("\x1b[200~xy\x1b[201~i");
    terminal.shows(&["Image ", "digest"]);
    terminal.keys("qq");
    assert_eq!(terminal.code(), Some(0));
    assert_eq!(sample.digests(), before);
    let tags = sample.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(tags.contains("app:latest") && tags.contains("base:latest"));
}

#[test]
fn an_ancestor_of_a_tagged_image_is_told_to_stay_and_stays() {
    let everything = Everything::new();
    let sample = &everything.sample;
    let mut terminal = open(sample, &[], 24, 100);
    terminal.keys("/copy\r ");
    terminal.shows(&["1 marked: frees 0B; ", "stays: tag app:"]);
    terminal.keys("x");
    terminal.shows(&["Nothing of what is marked can go.", "Esc closes"]);
    terminal.keys("y\x1b");
    terminal.until("no dialog", |screen| {
        !screen.contents().contains("Esc closes")
    });
    terminal.keys("q");
    assert_eq!(terminal.code(), Some(0));
    assert!(
        sample
            .digests()
            .contains(&everything.copied.digest.to_string())
    );
}

#[test]
fn p_prunes_what_the_dry_run_lists() {
    let everything = Everything::new();
    let sample = &everything.sample;
    let plan = sample.json(&["prune", "-n", "--format", "json"]);
    let freed = plan["plan"]["totals"]["freed"].as_u64().unwrap();
    let before = allocated(sample);
    let mut terminal = open(sample, &[], 30, 100);
    terminal.keys("p");
    terminal.shows(&[
        "Prune what nothing needs",
        &format!("free {}? y/N", size(freed)),
    ]);
    terminal.keys("y");
    terminal.shows(&["Done", &format!("({freed} bytes)")]);
    assert_eq!(before - allocated(sample), freed);
    terminal.keys("qq");
    assert_eq!(terminal.code(), Some(0));
    let left = sample.digests();
    assert!(!left.contains(&everything.old.digest.to_string()));
    assert!(!left.contains(&everything.stray.digest.to_string()));
    assert!(left.contains(&everything.app.digest.to_string()));
}

#[test]
fn one_browses_from_an_image_to_the_files_of_a_layer() {
    let everything = Everything::new();
    let mut terminal = open(&everything.sample, &[], 24, 100);
    terminal.keys("/app:1\r\r");
    terminal.shows(&["all layers", "COPY --from=builder"]);
    terminal.keys("jj\r");
    terminal.shows(&["app:latest layer 2: /", "10kB", "binary"]);
    terminal.keys("a");
    terminal.shows(&["system", "binary"]);
    terminal.keys("\x7f\x7f2");
    terminal.shows(&["├─", "└─", "base:latest"]);
    terminal.keys("5");
    terminal.shows(&["RECLAIMABLE", "Snapshots", "in all"]);
    terminal.keys("?");
    terminal.shows(&["Keys", "remove what is marked"]);
    terminal.keys("qq");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn the_screen_follows_the_size_of_the_terminal() {
    let everything = Everything::new();
    let mut terminal = open(&everything.sample, &[], 24, 100);
    terminal.keys(" ");
    for (rows, columns) in [(12, 40), (40, 132), (7, 24), (24, 80)] {
        terminal.resize(rows, columns);
        terminal.until(&format!("{rows} lines of {columns}"), |screen| {
            let lines: Vec<String> = screen.rows(0, columns).collect();
            let wrapped = (0..rows).any(|row| screen.row_wrapped(row));
            let last = lines.last().is_some_and(|line| line.ends_with("? keys"));
            let figure = lines[usize::from(rows) - 2].starts_with("1 marked: frees");
            !wrapped && last && figure && lines[0].contains("1 Images")
        });
    }
    // Too small to be worked on, but not too small to be left.
    terminal.resize(3, 10);
    terminal.shows(&["too small"]);
    terminal.keys("q");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() {
    let everything = Everything::new();
    let before = untouched();
    for (keys, signal, code) in [
        ("q", None, 0),
        ("\x03", None, 130),
        ("", Some(Signal::TERM), 143),
        ("", Some(Signal::INT), 130),
        ("", Some(Signal::HUP), 129),
        ("/filter", Some(Signal::TERM), 143),
        ("?", Some(Signal::TERM), 143),
    ] {
        let mut terminal = open(&everything.sample, &[], 24, 80);
        terminal.until("the other screen", |screen| {
            screen.alternate_screen() && screen.hide_cursor()
        });
        assert_ne!(terminal.settings().local_modes, before.local_modes);
        terminal.keys(keys);
        if let Some(signal) = signal {
            kill_process(terminal.process(), signal).unwrap();
        }
        assert_eq!(terminal.code(), Some(code), "{keys:?} {signal:?}");
        is_restored(&terminal, &before);
    }
}

#[test]
fn it_can_be_stopped_and_continued_from_a_shell() {
    let everything = Everything::new();
    let mut shell = Command::new("sh");
    shell.arg("-i").env("PS1", "prompt> ").env_remove("ENV");
    let mut terminal = Terminal::run(&shell, 24, 80);
    terminal.shows(&["prompt> "]);
    let program = env!("CARGO_BIN_EXE_rstore");
    let root = everything.sample.root();
    terminal.keys(&format!("{program} --root {} ui\r", root.display()));
    terminal.shows(&["1 Images", "? keys"]);
    terminal.keys("\x1a");
    // Its second prompt: what is typed before that, a shell may throw away.
    terminal.until("the shell's screen", |screen| {
        let prompts = screen.contents().matches("prompt>").count();
        !screen.alternate_screen() && !screen.hide_cursor() && prompts == 2
    });
    terminal.keys("echo a$((1+1))b; fg\r");
    // Below the shell's answer, or instead of it: the interface is back as it was.
    terminal.until("the interface again", |screen| {
        screen.alternate_screen() && screen.contents().contains("? keys")
    });
    terminal.keys("2");
    terminal.shows(&["2 Tree", "├─"]);
    // What somebody else has drawn over is drawn anew when one asks.
    terminal.keys("\x0c1\x0c2");
    terminal.shows(&["2 Tree", "├─"]);
    terminal.keys("q");
    // Its third prompt, for the same reason.
    terminal.until("the shell again", |screen| {
        let prompts = screen.contents().matches("prompt>").count();
        !screen.alternate_screen() && screen.contents().contains("a2b") && prompts == 3
    });
    terminal.keys("exit\r");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn a_store_that_is_only_looked_at_is_not_changed() {
    let everything = Everything::new();
    let sample = &everything.sample;
    let before = sample.digests();
    let mut terminal = open(sample, &["--read-only"], 24, 80);
    terminal.shows(&["read-only"]);
    terminal.keys(" ");
    terminal.shows(&["1 marked: frees"]);
    for key in ["x", "d", "p"] {
        terminal.keys(key);
        terminal.shows(&["read-only: asked for by --read-only"]);
        terminal.keys("y");
    }
    terminal.keys("q");
    assert_eq!(terminal.code(), Some(0));
    assert_eq!(sample.digests(), before);
}

#[test]
fn what_another_process_did_is_seen_when_one_asks() {
    let everything = Everything::new();
    let sample = &everything.sample;
    let mut terminal = open(sample, &[], 24, 80);
    sample.ok(&["tag", "app", "newcomer:7"]);
    terminal.keys("r");
    terminal.shows(&["newcomer:7"]);
    // The question is about the store as it is, not as it was shown.
    terminal.keys("/newcomer\r ");
    terminal.shows(&["1 marked: frees"]);
    sample.ok(&["tag", "app", "another:8"]);
    terminal.keys("x");
    terminal.shows(&["name another:8", "y/N"]);
    terminal.keys("nq");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn without_a_terminal_it_names_what_needs_none() {
    let everything = Everything::new();
    let run = everything.sample.rstore(&["ui"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("`rstore images`"), "{}", run.stderr);
    assert!(run.stderr.contains("`df`"), "{}", run.stderr);
    let inner = format!("TERM=dumb {}", env!("CARGO_BIN_EXE_rstore"));
    let mut shell = Command::new("sh");
    let root = everything.sample.root();
    shell.args(["-c", &format!("{inner} --root {} ui", root.display())]);
    let mut terminal = Terminal::run(&shell, 24, 100);
    assert_eq!(terminal.code(), Some(2));
    terminal.shows(&["TERM is \"dumb\""]);
    // No store is an error of its own, and leaves the terminal alone.
    let mut nothing = program();
    nothing.args(["--root", "/nonexistent/store", "ui"]);
    let mut terminal = Terminal::run(&nothing, 24, 100);
    assert_eq!(terminal.code(), Some(1));
    terminal.shows(&["there is no store at"]);
    assert!(!terminal.look(vt100::Screen::alternate_screen));
}

#[test]
fn colors_are_left_out_where_nobody_wants_them() {
    let everything = Everything::new();
    for (no_color, expected) in [("", true), ("1", false)] {
        let mut command = ui(&everything.sample, &[]);
        command.env("NO_COLOR", no_color);
        let mut terminal = Terminal::run(&command, 24, 100);
        terminal.shows(&["tagged", "? keys"]);
        let has_color = terminal.look(|screen| {
            let (rows, columns) = screen.size();
            (0..rows.get()).any(|row| {
                (0..columns.get()).any(|column| {
                    let color = screen.cell(row, column).map(vt100::Cell::fgcolor);
                    color.is_some_and(|color| color != vt100::Color::Default)
                })
            })
        });
        assert_eq!(has_color, expected);
        terminal.keys("q");
        assert_eq!(terminal.code(), Some(0));
    }
}

#[test]
fn hostile_names_neither_move_the_cursor_nor_break_the_lines() {
    use crate::sample::Recipe;
    let sample = Sample::new();
    let layer = sample.layer("e\u{1b}[2J\u{1b}[99A東京都", 30_000);
    let image = sample.image(&Recipe {
        layers: &[layer],
        steps: &["RUN printf '\u{1b}[2J\u{1b}[?25h\u{9b}31m' 東京都東京都東京都東京都東京都"],
        ..Recipe::default()
    });
    sample.write_index(&[("app:1", image), ("東京:最新", image)]);
    let mut terminal = open(&sample, &[], 20, 60);
    for keys in ["i", "q2", "\r", "j\r"] {
        terminal.keys(keys);
        std::thread::sleep(Duration::from_millis(100));
    }
    terminal.shows(&["layer 1: /", "e\\u{1b}[2J", "30kB"]);
    terminal.look(|screen| {
        let (rows, _) = screen.size();
        assert!((0..rows.get()).all(|row| !screen.row_wrapped(row)));
        assert!(screen.hide_cursor());
    });
    terminal.keys("q");
    assert_eq!(terminal.code(), Some(0));
}
