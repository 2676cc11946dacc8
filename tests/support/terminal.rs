//! The program in a terminal of its own, whose screen tests read.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pty_process::blocking::{Pts, Pty};
use rustix::termios::Termios;

/// How long something may take that is waited for: a machine under load is slow, not broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program in a terminal; killed when the value goes.
pub struct Terminal {
    pty: Arc<Pty>,
    /// Keeps the terminal when the program has gone.
    pts: Pts,
    child: Child,
    screen: Arc<(Mutex<vt100::Parser>, Condvar)>,
}

impl Terminal {
    /// Runs a command in a terminal of so many rows and columns.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Terminal {
        Terminal::run_as(command, None, rows, columns)
    }

    /// The same, by a user and a group.
    pub fn run_as(command: &Command, ids: Option<(u32, u32)>, rows: u16, columns: u16) -> Terminal {
        let (pty, pts) = pty_process::blocking::open().expect("a terminal");
        pty.resize(pty_process::Size::new(rows, columns))
            .expect("a size");
        let mut inside = pty_process::blocking::Command::new(command.get_program());
        inside = inside
            .args(command.get_args())
            .env("TERM", "xterm-256color");
        for (name, value) in command.get_envs() {
            inside = match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        if let Some((user, group)) = ids {
            inside = inside.uid(user).gid(group);
        }
        let child = inside.spawn_borrowed(&pts).expect("the program runs");
        let parser = vt100::Parser::new(number(rows), number(columns), 1000);
        let terminal = Terminal {
            pty: Arc::new(pty),
            pts,
            child,
            screen: Arc::new((Mutex::new(parser), Condvar::new())),
        };
        terminal.watch();
        terminal
    }

    /// Draws what the program writes, until the terminal is gone.
    fn watch(&self) {
        let (pty, screen) = (Arc::clone(&self.pty), Arc::clone(&self.screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = (&*pty).read(&mut buffer) {
                lock(&screen.0).process(&buffer[..length]);
                screen.1.notify_all();
            }
        });
    }

    /// What stands on the screen.
    pub fn text(&self) -> String {
        lock(&self.screen.0).screen().contents()
    }

    /// What is true of the screen.
    pub fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(lock(&self.screen.0).screen())
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub fn until(&self, what: &str, good: impl Fn(&vt100::Screen) -> bool) {
        let began = Instant::now();
        let mut parser = lock(&self.screen.0);
        while !good(parser.screen()) {
            let left = PATIENCE.saturating_sub(began.elapsed());
            assert!(
                !left.is_zero(),
                "never on the screen: {what}\n{}",
                parser.screen().contents()
            );
            let waited = self.screen.1.wait_timeout(parser, left);
            parser = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until all of these texts are on the screen.
    #[track_caller]
    pub fn shows(&self, texts: &[&str]) {
        let all = |screen: &vt100::Screen| {
            let contents = screen.contents();
            texts.iter().all(|text| contents.contains(text))
        };
        self.until(&format!("{texts:?}"), all);
    }

    /// Types.
    pub fn keys(&self, keys: &str) {
        (&*self.pty)
            .write_all(keys.as_bytes())
            .expect("keys are taken");
    }

    /// Changes the terminal's size, as its window does.
    pub fn resize(&self, rows: u16, columns: u16) {
        lock(&self.screen.0).set_size(number(rows), number(columns));
        let size = pty_process::Size::new(rows, columns);
        self.pty.resize(size).expect("a size");
    }

    /// How the terminal treats what is typed.
    pub fn settings(&self) -> Termios {
        rustix::termios::tcgetattr(&self.pts).expect("a terminal has settings")
    }

    /// The process.
    pub fn process(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Waits for the program's end; its exit code.
    pub fn code(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("a child can be waited for");
            if let Some(status) = ended {
                return status.code();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "it does not end:\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a terminal has rows and columns")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
