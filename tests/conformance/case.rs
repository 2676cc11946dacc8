//! What a case is: a Dockerfile, its context, its options, and what must come of it.
//!
//! Without more said, rstore and buildah must make the same image of it. Expectations are added
//! where the same is not enough (both could be wrong), and where buildah differs from docker.

use serde_json::Value;

use crate::support::Context;

/// A part of a context that more than a text is needed for.
pub type Make = fn(&Context);

/// One Dockerfile and what must come of it.
pub struct Case {
    /// `area/what-it-is`.
    pub name: String,
    /// The Dockerfile, as bytes: a byte order mark is a case too.
    pub dockerfile: Vec<u8>,
    /// Files of the context, by name.
    pub files: Vec<(&'static str, &'static str)>,
    /// What else is in the context.
    pub make: Vec<Make>,
    /// Options for every builder; [`CONTEXT`] and [`SERVER`] stand for what a run gives.
    pub arguments: Vec<&'static str>,
    /// Whether docker builds it.
    pub outcome: Outcome,
    /// What must hold of the image.
    pub checks: Vec<Check>,
    /// Why buildah is known to make something else of it.
    pub difference: Option<Difference>,
    /// Why BuildKit, where the run asks it too, comes to something else.
    pub unlike_buildkit: Option<&'static str>,
    /// Paths that nobody promises.
    pub ignored: Vec<&'static str>,
    /// Whether two stores must come to the same digest.
    pub twice: bool,
    /// The Dockerfile's name in the context, where it has another one.
    pub named: Option<&'static str>,
    /// Whether builders read the context from standard input, as a tar.
    pub piped: bool,
}

/// In an option: the directory of the context.
pub const CONTEXT: &str = "%CONTEXT%";

/// In a Dockerfile or an option: `http://` and the address of [`crate::setup::server`].
pub const SERVER: &str = "%SERVER%";

/// How a build ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With an image.
    Built,
    /// With an error; rstore's has these words.
    Refused(Vec<&'static str>),
}

/// Something that must hold of an image.
#[derive(Debug, Clone)]
pub enum Check {
    /// A file and what it is, in words: `file`, `dir`, `link`, `fifo`, `mode=0644`, `owner=1:2`,
    /// `to=TARGET`, `same=/PATH` (the same inode), `time=SECONDS`, `xattr=NAME`, and, last,
    /// `text=CONTENT`.
    File(&'static str, &'static str),
    /// No file.
    Absent(&'static str),
    /// A member of the configuration, and its value; null is absent, or empty.
    Config(&'static str, Value),
}

/// Why buildah is known to differ.
#[derive(Debug, Clone)]
pub struct Difference {
    pub reason: &'static str,
    /// The first version of buildah that no longer does; it is then compared as in other cases.
    pub until: Option<(u32, u32)>,
    /// Whether it is rstore that goes beyond docker, and not docker that says so.
    pub ours: bool,
}

/// A case of this name.
pub fn case(name: &str, dockerfile: &str) -> Case {
    Case {
        name: name.to_owned(),
        dockerfile: dockerfile.as_bytes().to_vec(),
        files: Vec::new(),
        make: Vec::new(),
        arguments: Vec::new(),
        outcome: Outcome::Built,
        checks: Vec::new(),
        difference: None,
        unlike_buildkit: None,
        ignored: Vec::new(),
        twice: false,
        named: None,
        piped: false,
    }
}

impl Case {
    pub fn area(&self) -> &str {
        self.name.split('/').next().unwrap_or("")
    }

    pub fn reason(&self) -> Option<&'static str> {
        self.difference.as_ref().map(|difference| difference.reason)
    }

    /// The Dockerfile byte by byte.
    pub fn bytes(mut self, dockerfile: &[u8]) -> Case {
        self.dockerfile = dockerfile.to_vec();
        self
    }

    /// A file of the context.
    pub fn with(mut self, name: &'static str, content: &'static str) -> Case {
        self.files.push((name, content));
        self
    }

    /// More of the context.
    pub fn make(mut self, make: Make) -> Case {
        self.make.push(make);
        self
    }

    /// Options for every builder.
    pub fn options(mut self, arguments: &[&'static str]) -> Case {
        self.arguments.extend(arguments);
        self
    }

    /// Docker refuses it; rstore's error has these words.
    pub fn refused(mut self, words: &[&'static str]) -> Case {
        self.outcome = Outcome::Refused(words.to_vec());
        self
    }

    /// A file of the image; see [`Check::File`].
    pub fn file(mut self, path: &'static str, is: &'static str) -> Case {
        self.checks.push(Check::File(path, is));
        self
    }

    /// A file that the image must not have.
    pub fn absent(mut self, path: &'static str) -> Case {
        self.checks.push(Check::Absent(path));
        self
    }

    /// A member of the configuration.
    pub fn config(mut self, member: &'static str, value: Value) -> Case {
        self.checks.push(Check::Config(member, value));
        self
    }

    /// Buildah differs from docker in what this case expects. The rest is still compared.
    pub fn docker_says(mut self, reason: &'static str) -> Case {
        self.difference = Some(Difference {
            reason,
            until: None,
            ours: false,
        });
        self
    }

    /// Rstore differs from docker too, on purpose: it refuses what can only be a mistake, or
    /// does what docker cannot.
    pub fn we_say(mut self, reason: &'static str) -> Case {
        self.difference = Some(Difference {
            reason,
            until: None,
            ours: true,
        });
        self.unlike_buildkit(reason)
    }

    /// BuildKit is known to come to something else.
    pub fn unlike_buildkit(mut self, reason: &'static str) -> Case {
        self.unlike_buildkit = Some(reason);
        self
    }

    /// Buildah learned it in this version, and is compared from then on.
    pub fn since(mut self, version: (u32, u32), reason: &'static str) -> Case {
        self.difference = Some(Difference {
            reason,
            until: Some(version),
            ours: false,
        });
        self
    }

    /// Files below this path are nobody's promise.
    pub fn ignore(mut self, path: &'static str) -> Case {
        self.ignored.push(path);
        self
    }

    /// The Dockerfile is this file of the context.
    pub fn named(mut self, name: &'static str) -> Case {
        self.named = Some(name);
        self
    }

    /// The context comes as a tar on standard input.
    pub fn piped(mut self) -> Case {
        self.piped = true;
        self
    }

    /// Two stores must come to the same digest.
    pub fn twice(mut self) -> Case {
        self.twice = true;
        self
    }

    /// Makes the context. Whatever is in it is old, so that a time that was kept is told from one
    /// that is new; by its nanoseconds it is another file than that of any other case's context.
    pub fn context(&self, number: usize, server: &str) -> Context {
        let context = Context::new("");
        match std::str::from_utf8(&self.dockerfile) {
            Ok(text) if text.contains(SERVER) => {
                context.file("Dockerfile", text.replace(SERVER, server))
            }
            _ => context.file("Dockerfile", &self.dockerfile),
        };
        for (name, content) in &self.files {
            context.file(name, content);
        }
        for make in &self.make {
            make(&context);
        }
        for entry in walkdir::WalkDir::new(context.path()).contents_first(true) {
            let entry = entry.expect("a readable context");
            set_time(entry.path(), OLD, number);
        }
        context
    }
}

/// The time of what is in a context: 9 September 2001.
pub const OLD: i64 = 1_000_000_000;

/// Sets the modification time of a file, not of what it links to.
fn set_time(path: &std::path::Path, seconds: i64, nanoseconds: usize) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as i64,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).expect("a time");
}
