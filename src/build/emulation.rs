//! Whether programs of another platform run here: by the processor itself, or by an emulator that
//! the kernel starts for them (binfmt_misc).
//!
//! ```text
//! /proc/sys/fs/binfmt_misc/qemu-aarch64
//!     enabled
//!     interpreter /usr/bin/qemu-aarch64-static
//!     flags: OCF                                  F: opened when it was registered, so that it
//!     offset 0                                       works in a root without it
//!     magic 7f454c4602010100000000000000000002 00b700
//!     mask  ffffffffffffff00fffffffffffffffffe ffffff
//! ```
//! What a handler is called does not matter: it is asked by its magic whether it takes the program
//! of the platform.

use std::fs;
use std::path::Path;

use super::error::{Error, StepError};
use super::options::Options;
use super::plan::BuildGraph;
use crate::oci::Platform;

/// Where the kernel tells its handlers.
pub const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// The ELF header's class, byte order and machine of an architecture's programs (gABI, chapter 4).
fn machine(architecture: &str) -> Option<(u8, u8, u16)> {
    const LITTLE: u8 = 1;
    const BIG: u8 = 2;
    Some(match architecture {
        "386" => (1, LITTLE, 3),
        "amd64" => (2, LITTLE, 62),
        "arm" => (1, LITTLE, 40),
        "arm64" => (2, LITTLE, 183),
        "loong64" => (2, LITTLE, 258),
        "mips" => (1, BIG, 8),
        "mips64" => (2, BIG, 8),
        "mips64le" => (2, LITTLE, 8),
        "mipsle" => (1, LITTLE, 8),
        "ppc64" => (2, BIG, 21),
        "ppc64le" => (2, LITTLE, 21),
        "riscv64" => (2, LITTLE, 243),
        "s390x" => (2, BIG, 22),
        _ => return None,
    })
}

/// The first bytes of a program of an architecture.
fn header(architecture: &str) -> Option<Vec<u8>> {
    let (class, order, machine) = machine(architecture)?;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', class, order, 1];
    bytes.resize(16, 0);
    for half in [2, machine] {
        bytes.extend(match order {
            1 => half.to_le_bytes(),
            _ => half.to_be_bytes(),
        });
    }
    Some(bytes)
}

/// A handler of binfmt_misc.
struct Handler {
    enabled: bool,
    interpreter: String,
    flags: String,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Handler {
    fn parse(text: &str) -> Option<Handler> {
        let value = |key: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
        };
        let magic = hex(value("magic ")?)?;
        let mask = match value("mask ") {
            Some(mask) => hex(mask)?,
            None => vec![0xff; magic.len()],
        };
        Some(Handler {
            enabled: text.lines().next() == Some("enabled"),
            interpreter: value("interpreter ")?.to_owned(),
            flags: value("flags:").unwrap_or_default().to_owned(),
            offset: value("offset ").and_then(|n| n.parse().ok()).unwrap_or(0),
            magic,
            mask,
        })
    }

    fn takes(&self, header: &[u8]) -> bool {
        let Some(found) = header.get(self.offset..) else {
            return false;
        };
        self.magic.len() <= found.len()
            && (self.magic.iter().zip(&self.mask).zip(found))
                .all(|((magic, mask), byte)| magic & mask == byte & mask)
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(pair).collect()
}

/// Whether a processor runs programs of another architecture by itself.
fn is_native(build: &Platform, wanted: &Platform) -> bool {
    build.os == wanted.os
        && (build.architecture == wanted.architecture
            || matches!(
                (&*build.architecture, &*wanted.architecture),
                ("amd64", "386") | ("arm64", "arm")
            ))
}

/// Whether programs of `wanted` run here; the error says what is missing, and the way out.
/// `handlers` is [`HANDLERS`].
pub fn runs(build: &Platform, wanted: &Platform, handlers: &Path) -> Result<(), String> {
    if is_native(build, wanted) {
        return Ok(());
    }
    if wanted.os != build.os {
        return Err(format!(
            "a command for {wanted} cannot run on {build}: only Linux images are built here"
        ));
    }
    let Some(header) = header(&wanted.architecture) else {
        return Err(format!(
            "a command for {wanted} cannot run on {build}: no emulator of it is known"
        ));
    };
    let way_out = format!(
        "`apt-get install qemu-user-static binfmt-support` installs one, as does your distribution's package of like name; or build on a machine of that platform; or let the stage be `FROM --platform=$BUILDPLATFORM` and compile for it ({wanted})"
    );
    let mut lacking = None;
    for handler in read(handlers) {
        if !handler.takes(&header) {
            continue;
        }
        if !handler.enabled {
            lacking = Some(format!("its emulator {} is disabled", handler.interpreter));
        } else if !handler.flags.contains('F') {
            lacking = Some(format!(
                "its emulator {} is registered without the flag F, and is not found in an image's root",
                handler.interpreter
            ));
        } else {
            return Ok(());
        }
    }
    let lacking = lacking.unwrap_or_else(|| "no emulator is registered for it".to_owned());
    Err(format!(
        "a command for {wanted} cannot run on {build}: {lacking}; {way_out}"
    ))
}

/// The handlers; none where they cannot be read.
fn read(handlers: &Path) -> Vec<Handler> {
    let entries = fs::read_dir(handlers).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name() != "register" && entry.file_name() != "status")
        .filter_map(|entry| Handler::parse(&fs::read_to_string(entry.path()).ok()?))
        .collect()
}

/// Makes sure, before anything is done, that every RUN can run.
pub fn check(graph: &BuildGraph, name: &str, options: &Options) -> Result<(), Error> {
    for stage in graph.stages.iter().flatten() {
        let Some(step) = stage.runs() else { continue };
        let handlers = Path::new(HANDLERS);
        if let Err(why) = runs(&options.build_platform, &stage.runs_on(), handlers) {
            return Err(Error::Step {
                name: name.to_owned(),
                line: step.info.line,
                column: step.info.column,
                instruction: step.info.text.clone(),
                source: Box::new(StepError::Invalid(why)),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(architecture: &str) -> Platform {
        Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: None,
        }
    }

    const QEMU: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn a_foreign_command_runs_where_an_enabled_handler_has_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let (amd64, arm64) = (platform("amd64"), platform("arm64"));
        let runs = |wanted: &Platform| runs(&amd64, wanted, dir.path());
        assert!(runs(&amd64).is_ok() && runs(&platform("386")).is_ok());
        let error = runs(&arm64).unwrap_err();
        assert!(
            error.contains("linux/arm64") && error.contains("qemu-user-static"),
            "{error}"
        );
        fs::write(dir.path().join("status"), "enabled\n").unwrap();
        let handler = dir.path().join("any-name");
        fs::write(&handler, QEMU).unwrap();
        assert_eq!(runs(&arm64), Ok(()));
        for foreign in ["arm", "riscv64", "s390x", "wasm"] {
            assert!(runs(&platform(foreign)).is_err(), "{foreign}");
        }
        fs::write(&handler, QEMU.replace("OCF", "OC")).unwrap();
        assert!(runs(&arm64).unwrap_err().contains("without the flag F"));
        fs::write(&handler, QEMU.replace("enabled", "disabled")).unwrap();
        assert!(runs(&arm64).unwrap_err().contains("disabled"));
        fs::write(&handler, "enabled\nmagic 7").unwrap();
        assert!(runs(&arm64).is_err());
    }
}
