//! What every command holds: the store's root, the output, the terminal, the moment.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::PathBuf;

use super::args::GlobalArgs;
use super::config::Config;
use super::{Result, exit, host};
use crate::catalog::Millis;
use crate::executor::memory;
use crate::oci::Platform;
use crate::store::{OpenMode, Store};

/// Which of our streams are a terminal, and what it can do.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// How many columns standard output has, where it is a terminal.
    pub width: Option<u16>,
    /// Whether it cannot move its cursor (`TERM=dumb`).
    pub dumb: bool,
    /// Whether colour is wanted: not under `NO_COLOR` (no-color.org), nor on a dumb terminal.
    pub color: bool,
}

/// One command's surroundings.
pub struct Context {
    /// The store's directory.
    pub root: PathBuf,
    /// Standard output, buffered.
    pub out: BufWriter<Stdout>,
    /// The terminal.
    pub terminal: Terminal,
    /// When the command began: one moment for all ages that it shows.
    pub now: Millis,
    /// Whether progress is to be shown.
    pub progress: bool,
    /// What the configuration says.
    pub config: Config,
}

impl Context {
    /// Looks around; reads the configuration if it is `configured`.
    pub fn new(global: &GlobalArgs, configured: bool) -> Result<Context> {
        let config = match configured {
            true => Config::load(global.config.as_deref())?,
            false => Config::default(),
        };
        Ok(Context {
            root: match global.root.as_ref().or(config.root.as_ref()) {
                Some(root) => root.clone(),
                None => default_root()?,
            },
            out: BufWriter::new(io::stdout()),
            terminal: Terminal::look(),
            now: host::now(),
            progress: !global.no_progress && config.no_progress != Some(true),
            config,
        })
    }

    /// Opens the store that is there, and says what that took.
    pub fn open(&self) -> Result<Store> {
        self.open_as(OpenMode::Existing)
    }

    /// Opens the store, making it where there is none.
    pub fn open_or_create(&self) -> Result<Store> {
        self.open_as(OpenMode::Create)
    }

    /// Opens the store that is there in order to change it: first ends what an interrupted prune
    /// left undone.
    pub fn open_to_write(&self) -> Result<Store> {
        let store = self.open()?;
        crate::gc::finish(store.layout(), store.catalog(), self.now)?;
        Ok(store)
    }

    fn open_as(&self, mode: OpenMode) -> Result<Store> {
        let store = Store::open(&self.root, mode, host::machine())?;
        for notice in store.notices() {
            exit::tell(&format!("notice: {notice}"));
        }
        if !store.notices().is_empty() {
            // Making a catalog of a million blobs takes more than any command does afterwards.
            memory::give_back_freed();
        }
        Ok(store)
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> Result {
        Ok(self.out.flush()?)
    }

    /// Says something that is no error, on stderr.
    pub fn tell(&self, message: &str) {
        exit::tell(message);
    }
}

impl Terminal {
    fn look() -> Terminal {
        let stdout = io::stdout().is_terminal();
        let width = || {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
            Some(size.ws_col).filter(|columns| *columns > 0)
        };
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Terminal {
            stdin: io::stdin().is_terminal(),
            stdout,
            stderr: io::stderr().is_terminal(),
            width: if stdout { width() } else { None },
            dumb,
            color: !set("NO_COLOR") && !dumb,
        }
    }
}

/// `/var/lib/rstore` for root, else below the user's data directory (XDG base directories).
pub(super) fn default_root() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/rstore"));
    }
    let absolute = |name: &str| {
        let value = PathBuf::from(std::env::var_os(name)?);
        value.is_absolute().then_some(value)
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .map(|data| data.join("rstore"))
        .ok_or_else(|| {
            exit::usage_error(
                "neither XDG_DATA_HOME nor HOME names a directory: say --root or RSTORE_ROOT",
            )
        })
}

/// The platform that this program runs on, as OCI names it.
pub fn native_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", None),
        "arm" => ("arm", Some("v7".to_owned())),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    };
    Platform {
        architecture: architecture.to_owned(),
        os: std::env::consts::OS.to_owned(),
        variant,
    }
}
