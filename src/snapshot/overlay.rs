//! Overlay mounts by file descriptor: made, never attached.
//!
//! ```text
//!   fsopen("overlay") ─► fsconfig(lowerdir+) × n, upperdir, workdir, options ─► create
//!                                                                                 │
//!   OwnedFd  ◄───────────────────────── fsmount ◄─────────────────────────────────┘
//!     ├─ read with openat: a view
//!     └─ moved into a step's mount namespace: its root
//! ```
//!
//! The mount belongs to its descriptor. It appears in no mount table of ours, nothing has to be
//! unmounted, and a kill -9 leaves none behind.
//!
//! # What the mount is told, whatever the kernel's build and module parameters say
//! * `redirect_dir=nofollow`, `metacopy=off`: the upper directory then holds whole files under
//!   their own names, which is what a layer's diff needs; and a crafted image cannot use the
//!   xattrs of those features to point a lower file elsewhere.
//! * `index=off`, `xino=off`: no state in the work directory that outlives the mount, and inode
//!   numbers as the lower file systems have them.
//! * `uuid=null`: no UUID written into the upper directory's xattrs.
//! * `userxattr` in a user namespace: marks are `user.overlay.*` there, since `trusted.*` needs
//!   the capability on the host.
//!
//! # Limits
//! The kernel stacks at most 500 lowers. Each is passed alone (`lowerdir+`, Linux 6.7) and as a
//! descriptor: mount(2)'s one string is cut at a page, and fsconfig(2)'s strings at 255 bytes.
//!
//! Locking: none. An upper and its work directory must be one step's own; the kernel refuses
//! (`EBUSY`) a second mount that uses them only where `index` is on, so that is the caller's duty.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::fsutil::{self, IoContext};

/// How many lower directories the kernel stacks (`OVL_MAX_STACK`).
pub const MAX_LOWERS: usize = 500;

/// How an overlay is mounted. The default is a host's: durable, with `trusted.overlay.*` marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Skip every fsync: what isn't committed is lost with the machine anyway. The kernel then
    /// refuses to use the work directory a second time: make a fresh one for each mount.
    pub volatile: bool,
    /// Marks in `user.overlay.*`: needed in a user namespace.
    pub userxattr: bool,
}

/// An overlay that could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused, with what its log for this mount says.
    #[error("mount an overlay: {doing}: {source}{}{}", logged(.log), next_step(.source, .log))]
    Refused {
        /// The step that failed, with its path.
        doing: String,
        /// What the kernel answered.
        source: io::Error,
        /// What it said of it, in its own words.
        log: Vec<String>,
    },
    /// More layers than the kernel can stack.
    #[error(
        "mount an overlay of {0} directories: the kernel stacks at most {MAX_LOWERS}; squash some layers"
    )]
    TooManyLowers(usize),
    /// Nothing to mount.
    #[error("mount an overlay of nothing: give a lower directory")]
    Empty,
    /// A directory that is given cannot be opened, or one of the probe cannot be made.
    #[error(transparent)]
    File(#[from] fsutil::Error),
}

/// What this module's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Mounts `lowers`, topmost first, and perhaps an upper directory with its work directory; the
/// mount is attached nowhere.
///
/// Without an upper the mount is read-only. Overlayfs wants two directories at least: a single
/// lower without an upper gives a detached bind mount of that directory, which shows the same
/// tree. It is not read-only by itself; the executor makes it so where it attaches it.
pub fn mount(
    lowers: &[impl AsRef<Path>],
    upper: Option<(&Path, &Path)>,
    options: Options,
) -> Result<OwnedFd> {
    match (lowers, upper) {
        ([], _) => return Err(Error::Empty),
        ([only], None) => return bind(only.as_ref()),
        _ if lowers.len() > MAX_LOWERS => return Err(Error::TooManyLowers(lowers.len())),
        _ => {}
    }
    let context = Context::open()?;
    for lower in lowers {
        context.directory("lowerdir+", lower.as_ref())?;
    }
    if let Some((upper, work)) = upper {
        context.directory("upperdir", upper)?;
        context.directory("workdir", work)?;
        if options.volatile {
            context.flag("volatile")?;
        }
    }
    if options.userxattr {
        context.flag("userxattr")?;
    }
    for (key, value) in SETTINGS {
        context.string(key, value)?;
    }
    let attributes = match upper {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    context.mount(attributes)
}

/// What every overlay is told; see the module's documentation.
const SETTINGS: [(&str, &str); 5] = [
    ("redirect_dir", "nofollow"),
    ("metacopy", "off"),
    ("index", "off"),
    ("xino", "off"),
    ("uuid", "null"),
];

/// A detached mount of the directory `dir` itself, without what is mounted below it.
pub fn bind(dir: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, dir, flags).map_err(|errno| Error::Refused {
        doing: format!("clone the mount of {}", dir.display()),
        source: errno.into(),
        log: Vec::new(),
    })
}

/// Whether overlays can be mounted here with upper directories in `dir`; if not, why.
///
/// Makes three directories in `dir` and mounts them, since the answer depends on the kernel, its
/// configuration, our capabilities and the file system of `dir` at once.
pub fn probe(dir: &Path, options: Options) -> Result<()> {
    let place = dir.join(format!(".overlay-probe.{}", std::process::id()));
    let tried = (|| {
        let part = |name: &str| -> Result<PathBuf> {
            let path = place.join(name);
            fsutil::create_dir_all(&path)?;
            Ok(path)
        };
        let (lower, upper, work) = (part("lower")?, part("upper")?, part("work")?);
        let root = mount(&[lower], Some((&upper, &work)), options)?;
        // A file system without the xattrs that overlayfs needs still mounts, but read-only.
        rustix::fs::mkdirat(&root, "written", Mode::RWXU)
            .at("create", dir)
            .map_err(Error::from)
    })();
    let _ = fsutil::remove_tree(&place);
    tried
}

/// A file system context, and the errors that the kernel wrote into it.
struct Context {
    fs: OwnedFd,
}

impl Context {
    fn open() -> Result<Context> {
        match rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(fs) => Ok(Context { fs }),
            Err(errno) => Err(Error::Refused {
                doing: "open a context".to_owned(),
                source: errno.into(),
                log: Vec::new(),
            }),
        }
    }

    /// Sets `key` to the directory `path`.
    ///
    /// Linux 6.13 takes the descriptor itself. Older kernels answer `EINVAL` and take a string,
    /// of which the name in /proc is one that is short and that nothing in `path` can upset.
    fn directory(&self, key: &str, path: &Path) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
        let set = match rustix::mount::fsconfig_set_fd(&self.fs, key, &dir) {
            Err(Errno::INVAL) => self.directory_by_name(key, dir.as_fd()),
            other => other,
        };
        self.told(set, || format!("{key} {}", path.display()))
    }

    fn directory_by_name(&self, key: &str, dir: impl AsFd) -> std::result::Result<(), Errno> {
        let name = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        rustix::mount::fsconfig_set_string(&self.fs, key, name)
    }

    fn string(&self, key: &str, value: &str) -> Result<()> {
        let set = rustix::mount::fsconfig_set_string(&self.fs, key, value);
        self.told(set, || format!("option {key}={value}"))
    }

    fn flag(&self, key: &str) -> Result<()> {
        let set = rustix::mount::fsconfig_set_flag(&self.fs, key);
        self.told(set, || format!("option {key}"))
    }

    fn mount(self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        let created = rustix::mount::fsconfig_create(&self.fs);
        self.told(created, || "create".to_owned())?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mounted = rustix::mount::fsmount(&self.fs, flags, attributes);
        self.told(mounted, || "fsmount".to_owned())
    }

    /// `result`, with the context's log in its error.
    fn told<T>(
        &self,
        result: std::result::Result<T, Errno>,
        doing: impl FnOnce() -> String,
    ) -> Result<T> {
        result.map_err(|errno| Error::Refused {
            doing: doing(),
            source: errno.into(),
            log: self.log(),
        })
    }

    /// What the kernel wrote: a message a read, `e overlay: upper fs is r/o`, until `ENODATA`.
    fn log(&self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = rustix::io::read(&self.fs, &mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..length]);
            let text = message.trim_end();
            messages.push(text.strip_prefix("e ").unwrap_or(text).to_owned());
        }
        messages
    }
}

fn logged(log: &[String]) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!(" ({})", log.join("; "))
    }
}

/// What to do about the refusals that are common.
fn next_step(source: &io::Error, log: &[String]) -> &'static str {
    let says = |words: &str| log.iter().any(|line| line.contains(words));
    match source.raw_os_error() {
        Some(libc::ENODEV) => "; load the kernel's overlay module: modprobe overlay",
        Some(libc::ENOSYS) => "; rstore needs Linux 6.7 or later to mount overlays",
        _ if says("Unknown parameter 'lowerdir+'") || says("unrecognized mount option") => {
            "; rstore needs Linux 6.7 or later to mount overlays"
        }
        Some(libc::EPERM) => {
            "; mounting needs CAP_SYS_ADMIN: run as root, or as a user who may make user namespaces"
        }
        Some(libc::EINVAL) if says("filesystem on") || says("not supported as upperdir") => {
            "; put the store on a file system that overlayfs can write to, such as ext4, xfs or btrfs"
        }
        // Overlayfs writes the older half of its complaints to the system's log alone.
        Some(libc::EINVAL) if log.is_empty() => "; the kernel's log (dmesg) has the reason",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// These tests mount, so they need CAP_SYS_ADMIN; CI sets RSTORE_TEST_NO_SKIP=1.
    fn may_mount() -> bool {
        let may = rustix::thread::capabilities(None).is_ok_and(|sets| {
            sets.effective
                .contains(rustix::thread::CapabilitySet::SYS_ADMIN)
        });
        if !may {
            let why = "mounting needs CAP_SYS_ADMIN";
            assert!(
                std::env::var_os("RSTORE_TEST_NO_SKIP").is_none(),
                "may not skip: {why}"
            );
            eprintln!("SKIP: {why}");
        }
        may
    }

    fn read(root: &OwnedFd, name: &str) -> Option<String> {
        let file = fsutil::open_in_root(root, name, OFlags::RDONLY, Mode::empty()).ok()?;
        io::read_to_string(fs::File::from(file)).ok()
    }

    fn layers(dir: &Path, count: usize) -> Vec<PathBuf> {
        let make = |number: usize| {
            let path = dir.join(format!("layer{number}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("top"), number.to_string()).unwrap();
            fs::write(path.join(format!("own{number}")), "").unwrap();
            path
        };
        (0..count).map(make).collect()
    }

    #[test]
    fn the_first_lower_is_the_topmost() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = mount(&layers(dir.path(), 2), None, Options::default()).unwrap();
        assert_eq!(read(&root, "top").as_deref(), Some("0"));
        assert_eq!(read(&root, "own1").as_deref(), Some(""));
    }

    #[test]
    fn five_hundred_layers_are_one_tree_and_more_are_refused_by_number() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let lowers = layers(dir.path(), MAX_LOWERS + 1);
        for count in [100, MAX_LOWERS] {
            let root = mount(&lowers[..count], None, Options::default()).unwrap();
            assert_eq!(
                read(&root, &format!("own{}", count - 1)).as_deref(),
                Some("")
            );
        }
        let error = mount(&lowers, None, Options::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("501") && error.contains("squash"), "{error}");
    }

    #[test]
    fn a_view_of_one_layer_is_the_layer() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = mount(&layers(dir.path(), 1), None, Options::default()).unwrap();
        assert_eq!(read(&root, "top").as_deref(), Some("0"));
    }

    #[test]
    fn a_view_refuses_writes() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = mount(&layers(dir.path(), 2), None, Options::default()).unwrap();
        let made = rustix::fs::mkdirat(&root, "new", Mode::RWXU);
        assert_eq!(made, Err(Errno::ROFS));
    }

    #[test]
    fn writes_land_in_the_upper_directory_and_nowhere_else() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let lowers = layers(dir.path(), 2);
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let options = Options {
            volatile: true,
            userxattr: false,
        };
        let root = mount(&lowers, Some((&upper, &work)), options).unwrap();
        rustix::fs::mkdirat(&root, "new", Mode::RWXU).unwrap();
        rustix::fs::unlinkat(&root, "own1", rustix::fs::AtFlags::empty()).unwrap();
        drop(root);
        assert!(upper.join("new").is_dir());
        assert!(lowers[1].join("own1").exists());
    }

    #[test]
    fn paths_longer_than_a_string_option_and_with_separators_are_taken() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200)).join("e,:\\".repeat(40));
        fs::create_dir_all(&deep).unwrap();
        let root = mount(&layers(&deep, 3), None, Options::default()).unwrap();
        assert_eq!(read(&root, "own2").as_deref(), Some(""));
    }

    /// Kernels before 6.13 take no descriptor; the name in /proc serves them.
    #[test]
    fn a_directory_can_be_given_by_its_name_in_proc() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let context = Context::open().unwrap();
        for layer in layers(dir.path(), 2) {
            let open = fsutil::open_dir(&layer).unwrap();
            context.directory_by_name("lowerdir+", &open).unwrap();
        }
        let root = context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap();
        assert_eq!(read(&root, "own1").as_deref(), Some(""));
    }

    #[test]
    fn a_refusal_carries_the_kernels_own_words() {
        if !may_mount() {
            return;
        }
        let error = Context::open()
            .unwrap()
            .string("no_such_option", "on")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("Unknown parameter 'no_such_option'"),
            "{error}"
        );
    }

    #[test]
    fn a_refusal_without_words_says_where_the_words_are() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let lowers = layers(dir.path(), 2);
        let inside = lowers[0].join("work");
        fs::create_dir(&inside).unwrap();
        let error = mount(&lowers, Some((&lowers[0], &inside)), Options::default()).unwrap_err();
        assert!(error.to_string().contains("dmesg"), "{error}");
    }

    #[test]
    fn a_missing_lower_is_named() {
        if !may_mount() {
            return;
        }
        let error = mount(&["/nowhere/a", "/nowhere/b"], None, Options::default()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/a"), "{error}");
    }

    #[test]
    fn the_probe_leaves_nothing_behind() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        probe(dir.path(), Options::default()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
