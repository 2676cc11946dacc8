//! A terminal for a step: its own, and the caller's as it was afterwards.

use std::io::Write;

use rstore::executor::{Cancel, Console, Error, Executor, Exit, Native, Step, User};

use crate::support::{Image, may_run};

/// A terminal as a user has it.
struct Desk {
    keys: pty_process::blocking::Pty,
    terminal: pty_process::blocking::Pts,
}

impl Desk {
    fn new() -> Desk {
        let (keys, terminal) = pty_process::blocking::open().unwrap();
        keys.resize(pty_process::Size::new(33, 99)).unwrap();
        Desk { keys, terminal }
    }

    fn modes(&self) -> (rustix::termios::LocalModes, rustix::termios::InputModes) {
        let settings = rustix::termios::tcgetattr(&self.terminal).unwrap();
        (settings.local_modes, settings.input_modes)
    }

    /// Runs a step here; at every output of it, `seen` may type.
    fn run(&self, mut step: Step, mut seen: impl FnMut(&str)) -> Result<(Exit, String), Error> {
        let terminal = rustix::io::fcntl_dupfd_cloexec(&self.terminal, 0).unwrap();
        step.console = Some(Console {
            terminal,
            resized: None,
        });
        let mut shown = Vec::new();
        let cancel = Cancel::new()?;
        let outcome = Native.run(step, &cancel, &mut |_, bytes| {
            shown.extend_from_slice(bytes);
            seen(&String::from_utf8_lossy(&shown));
        })?;
        Ok((outcome.exit, String::from_utf8(shown).unwrap()))
    }
}

#[test]
fn a_step_has_a_terminal_of_its_own() {
    if !may_run() {
        return;
    }
    let (image, desk) = (Image::new(), Desk::new());
    let before = desk.modes();
    let mut step = image.sh(
        "/bin/busybox tty; /bin/busybox stty size; test -t 0 -a -t 1 -a -t 2 && echo all three; \
         echo by name > /dev/tty; id -u; touch /dev/pts/0 && echo mine; exit 7",
    );
    step.user = User {
        uid: 1234,
        gid: 1234,
        groups: Vec::new(),
    };
    let (exit, shown) = desk.run(step, |_| {}).unwrap();
    assert_eq!(exit, Exit::Code(7));
    let expected = "/dev/pts/0\r\n33 99\r\nall three\r\nby name\r\n1234\r\nmine\r\n";
    assert_eq!(shown, expected);
    assert_eq!(desk.modes(), before);
}

#[test]
fn what_is_typed_is_for_the_step_and_so_is_ctrl_c() {
    if !may_run() {
        return;
    }
    let (image, desk) = (Image::new(), Desk::new());
    let before = desk.modes();
    let mut typed = 0;
    let step = image.sh("echo first; read line; echo \"got $line\"; sleep 1000");
    let (exit, shown) = desk
        .run(step, |shown| {
            for (number, (sign, keys)) in [("first", "hello\r"), ("got hello", "\x03")]
                .into_iter()
                .enumerate()
            {
                if typed == number && shown.contains(sign) {
                    assert_ne!(desk.modes(), before, "raw while it runs");
                    (&desk.keys).write_all(keys.as_bytes()).unwrap();
                    typed += 1;
                }
            }
        })
        .unwrap();
    assert_eq!(exit, Exit::Signal(libc::SIGINT), "{shown}");
    assert_eq!(desk.modes(), before);
}

#[test]
fn a_step_that_cannot_start_leaves_the_terminal_as_it_was() {
    if !may_run() {
        return;
    }
    let (image, desk) = (Image::new(), Desk::new());
    let before = desk.modes();
    let step = Step::new(image.root(), ["/nosuch"]);
    let error = desk.run(step, |_| {}).unwrap_err();
    assert_eq!(error.exit_code(), Some(127), "{error}");
    assert_eq!(desk.modes(), before);
}
