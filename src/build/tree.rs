//! Trees that COPY reads: the build context, and the file systems of stages and images.
//!
//! A tree is a directory descriptor. Every path is resolved inside of it (openat2,
//! `RESOLVE_IN_ROOT`), so that an absolute link in an image or a `..` in a context leads nowhere
//! else. Below a source that is a directory, links are not followed: they are copied.
//!
//! ```text
//! pattern ──match per component──▶ sources ──walk, ignore patterns──▶ found files
//! ```

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::StepError;
use crate::dockerfile::glob;
use crate::dockerfile::ignore::IgnorePatterns;
use crate::fsutil::{self, IoContext};

/// A tree to copy from.
#[derive(Debug)]
pub struct Tree<'a> {
    /// Its root.
    pub root: OwnedFd,
    /// What errors call it.
    pub label: String,
    /// What of it isn't there: `.dockerignore`.
    pub ignore: Option<&'a IgnorePatterns>,
    /// A directory that isn't there for copies, by device and inode: the store itself, which a
    /// build changes while it reads.
    pub hidden: Option<(u64, u64)>,
    /// Whether files keep their owners; those of a context become root's.
    pub keeps_owners: bool,
}

/// What `COPY --parents` takes: a pattern for whole paths, in which `**` is any number of
/// directories; what it matches is taken with all below it.
#[derive(Debug)]
pub struct Include {
    pattern: IgnorePatterns,
    /// The path up to the first component with a wildcard.
    literal: PathBuf,
    wildcard: bool,
}

impl Include {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Result<Include, StepError> {
        let cleaned = super::config::clean(&format!("/{pattern}"));
        let path = cleaned.trim_start_matches('/');
        let literal = path.split('/').take_while(|part| !glob::has_wildcard(part));
        // The root, which an ignore pattern cannot mean, is everything.
        let text = if path.is_empty() { "**" } else { path };
        Ok(Include {
            pattern: IgnorePatterns::new([text])
                .map_err(|error| StepError::Invalid(error.to_string()))?,
            literal: literal.collect(),
            wildcard: glob::has_wildcard(path),
        })
    }

    /// Whether it has a wildcard.
    pub fn has_wildcard(&self) -> bool {
        self.wildcard
    }

    fn takes(&self, path: &str) -> bool {
        self.pattern.ignores(path)
    }

    fn may_take_below(&self, directory: &str) -> bool {
        let directory = Path::new(directory);
        self.literal.starts_with(directory) || directory.starts_with(&self.literal)
    }
}

/// A source that a pattern matched.
#[derive(Debug)]
pub struct Matched {
    /// Its path in the tree, without a leading slash; empty: the root.
    pub path: String,
    /// Itself, links followed. `O_PATH`.
    pub handle: OwnedFd,
    /// What it is.
    pub metadata: Metadata,
}

/// A file below, or being, a source.
#[derive(Debug)]
pub struct Found {
    /// Its path below the source; empty: the source itself.
    pub relative: PathBuf,
    /// A path by which this process can open it, as long as the source's handle is open.
    pub open_path: PathBuf,
    /// What it is, links not followed (but for the source itself).
    pub metadata: Metadata,
}

impl Tree<'_> {
    /// The sources that `pattern` means, in the order of their names. A path must be there.
    pub fn matches(&self, pattern: &str) -> Result<Vec<Matched>, StepError> {
        let cleaned = super::config::clean(pattern);
        let path = cleaned.trim_start_matches('/');
        let found = if glob::has_wildcard(pattern) {
            self.expand(path)?
        } else {
            self.open(path)?.into_iter().collect()
        };
        // A wildcard without a match copies nothing, as in BuildKit.
        if found.is_empty() && !glob::has_wildcard(pattern) {
            return Err(self.missing(pattern));
        }
        Ok(found)
    }

    /// The error of a source that is not there.
    pub fn missing(&self, pattern: &str) -> StepError {
        let cleaned = super::config::clean(pattern);
        StepError::NoSource {
            source_path: pattern.to_owned(),
            tree: self.label.clone(),
            hint: self.why_not(cleaned.trim_start_matches('/')),
        }
    }

    /// What may explain that nothing is at `path`.
    pub fn why_not(&self, path: &str) -> Option<String> {
        let ignored = self.ignore.is_some_and(|ignore| ignore.ignores(path));
        ignored.then(|| "a pattern of .dockerignore excludes it".to_owned())
    }

    /// What is at `path`, no pattern, if it is there and not ignored.
    pub fn open(&self, path: &str) -> Result<Option<Matched>, StepError> {
        let name = if path.is_empty() { "." } else { path };
        let handle = match fsutil::open_in_root(&self.root, name, OFlags::PATH, Mode::empty()) {
            Ok(handle) => handle,
            Err(error) if is_absent(&error.source) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let open_path = descriptor_path(&handle);
        let metadata = fs::metadata(&open_path).at("stat", path)?;
        let ignored = |ignore: &IgnorePatterns| {
            ignore.ignores(path)
                && !(metadata.is_dir() && ignore.may_contain_exceptions_below(path))
        };
        if !path.is_empty() && self.ignore.is_some_and(ignored) {
            return Ok(None);
        }
        // What a link leads to is ignored by its own name.
        if let (Some(ignore), Some(real)) = (self.ignore, self.real_path(&open_path))
            && !real.is_empty()
            && real != path
            && ignore.ignores(&real)
        {
            return Ok(None);
        }
        Ok(Some(Matched {
            path: path.to_owned(),
            handle,
            metadata,
        }))
    }

    /// Where an opened file lies in the tree, links followed; as the kernel tells it.
    fn real_path(&self, open_path: &Path) -> Option<String> {
        let root = fs::read_link(descriptor_path(&self.root)).ok()?;
        let real = fs::read_link(open_path).ok()?;
        Some(
            real.strip_prefix(&root)
                .ok()?
                .to_string_lossy()
                .into_owned(),
        )
    }

    /// The paths that match a pattern, component by component.
    fn expand(&self, pattern: &str) -> Result<Vec<Matched>, StepError> {
        let mut paths = vec![String::new()];
        for component in pattern.split('/') {
            let mut next = Vec::new();
            for path in &paths {
                for name in self.names(path, component)? {
                    next.push(if path.is_empty() {
                        name
                    } else {
                        format!("{path}/{name}")
                    });
                }
            }
            paths = next;
        }
        let mut found = Vec::new();
        for path in paths {
            found.extend(self.open(&path)?);
        }
        Ok(found)
    }

    /// The names in `directory` that match one component, sorted.
    fn names(&self, directory: &str, component: &str) -> Result<Vec<String>, StepError> {
        let bad = |error: glob::BadPattern| StepError::Invalid(error.to_string());
        if !glob::has_wildcard(component) {
            return Ok(vec![component.to_owned()]);
        }
        let name = if directory.is_empty() { "." } else { directory };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let handle = match fsutil::open_in_root(&self.root, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(error) if is_absent(&error.source) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(descriptor_path(&handle)).at("read", directory)? {
            // A name that is not UTF-8 is no match for a pattern, which is.
            let Ok(name) = entry.at("read", directory)?.file_name().into_string() else {
                continue;
            };
            if glob::matches(component, &name).map_err(bad)? {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A source and, if it is a directory, all below it, parents first, names in byte order.
    pub fn walk(
        &self,
        source: &Matched,
        exclude: &IgnorePatterns,
    ) -> Result<Vec<Found>, StepError> {
        self.walk_some(source, exclude, None)
    }

    /// What `include` takes below a directory, and the directories that lead there; not the
    /// directory itself.
    pub fn walk_included(
        &self,
        source: &Matched,
        exclude: &IgnorePatterns,
        include: &Include,
    ) -> Result<Vec<Found>, StepError> {
        let mut found = self.walk_some(source, exclude, Some(include))?;
        found.retain(|file| !file.relative.as_os_str().is_empty());
        Ok(found)
    }

    fn walk_some(
        &self,
        source: &Matched,
        exclude: &IgnorePatterns,
        include: Option<&Include>,
    ) -> Result<Vec<Found>, StepError> {
        let base = descriptor_path(&source.handle);
        if !source.metadata.is_dir() {
            let metadata = source.metadata.clone();
            return Ok(vec![Found {
                relative: PathBuf::new(),
                open_path: base,
                metadata,
            }]);
        }
        let mut found = Vec::new();
        // Directories that are ignored but may hold something that a `!` pattern takes in again:
        // they are copied only if something in them is.
        let mut undecided: Vec<Found> = Vec::new();
        let mut walk = walkdir::WalkDir::new(base.join("."))
            .sort_by_file_name()
            .into_iter();
        while let Some(entry) = walk.next() {
            let entry = entry.map_err(|error| walk_error(error, &base, &source.path))?;
            let relative = entry.path().strip_prefix(&base).unwrap_or(entry.path());
            let relative: PathBuf = relative
                .components()
                .filter(|c| !matches!(c, std::path::Component::CurDir))
                .collect();
            let metadata = entry
                .metadata()
                .map_err(|error| walk_error(error, &base, &source.path))?;
            let file = Found {
                open_path: entry.path().to_path_buf(),
                metadata,
                relative,
            };
            let is_dir = file.metadata.is_dir();
            if is_dir && self.hidden == Some((file.metadata.dev(), file.metadata.ino())) {
                walk.skip_current_dir();
                continue;
            }
            let (mut ignored, mut exceptions) = self.ignored(source, &file, exclude);
            if let Some(include) = include {
                let path = file.relative.to_string_lossy();
                ignored |= !include.takes(&path);
                exceptions &= include.may_take_below(&path);
            }
            if ignored && is_dir && !exceptions {
                walk.skip_current_dir();
            }
            undecided.retain(|directory| file.relative.starts_with(&directory.relative));
            if !ignored {
                found.append(&mut undecided);
                found.push(file);
            } else if is_dir && exceptions {
                undecided.push(file);
            }
        }
        Ok(found)
    }

    /// Whether a file is ignored, and whether something below it may not be.
    fn ignored(&self, source: &Matched, file: &Found, exclude: &IgnorePatterns) -> (bool, bool) {
        if file.relative.as_os_str().is_empty() {
            return (false, true);
        }
        let relative = file.relative.to_string_lossy();
        let whole = if source.path.is_empty() {
            relative.to_string()
        } else {
            format!("{}/{relative}", source.path)
        };
        let by = |patterns: &IgnorePatterns, path: &str| {
            let ignored = patterns.ignores(path);
            (
                ignored,
                !ignored || patterns.may_contain_exceptions_below(path),
            )
        };
        let context = self
            .ignore
            .map_or((false, true), |ignore| by(ignore, &whole));
        let excluded = if exclude.is_empty() {
            (false, true)
        } else {
            by(exclude, &relative)
        };
        (context.0 || excluded.0, context.1 && excluded.1)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
    )
}

/// The error, of a path as the user knows it: below `label`, not below the descriptor `base`.
fn walk_error(error: walkdir::Error, base: &Path, label: &str) -> StepError {
    let below = error.path().and_then(|path| path.strip_prefix(base).ok());
    let path: PathBuf = match below {
        Some(below) => Path::new(label).join(below).components().collect(),
        None => PathBuf::from(label),
    };
    let path = match path.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => path,
    };
    let source = error
        .into_io_error()
        .unwrap_or_else(|| io::Error::other("a directory contains itself"));
    fsutil::Error::new("read", path, source).into()
}

/// The path by which this process reaches an open descriptor.
pub fn descriptor_path(handle: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()))
}

/// `path` inside the merged root `view` with every link on the way followed inside the root, the
/// last component too: where a file of that name would really be. Missing components stay as
/// they are written.
pub fn resolve_destination(view: impl AsFd, path: &str) -> Result<String, StepError> {
    let view = view.as_fd();
    resolve_links(path, |so_far| link_target(view, so_far))
}

/// `path` with every link followed that `link` knows: asked for a path without a leading slash, it
/// answers where a link there leads, or nothing where there is none.
pub fn resolve_links(
    path: &str,
    link: impl Fn(&str) -> Result<Option<String>, StepError>,
) -> Result<String, StepError> {
    let mut pending: Vec<String> = split_reversed(path);
    let mut resolved: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(component) = pending.pop() {
        match component.as_str() {
            "" | "." => continue,
            ".." => {
                resolved.pop();
                continue;
            }
            _ => resolved.push(component),
        }
        let so_far = resolved.join("/");
        let Some(target) = link(&so_far)? else {
            continue;
        };
        links += 1;
        if links > 40 {
            return Err(StepError::Invalid(format!(
                "{path:?}: too many levels of symbolic links in the image"
            )));
        }
        resolved.pop();
        if target.starts_with('/') {
            resolved.clear();
        }
        pending.extend(split_reversed(&target));
    }
    Ok(format!("/{}", resolved.join("/")))
}

fn split_reversed(path: &str) -> Vec<String> {
    path.split('/').rev().map(str::to_owned).collect()
}

/// Where the link at `path` inside the merged root `view` leads, if one is there.
pub fn link_target(view: std::os::fd::BorrowedFd, path: &str) -> Result<Option<String>, StepError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let handle = match fsutil::open_in_root(view, path, flags, Mode::empty()) {
        Ok(handle) => handle,
        Err(error) if is_absent(&error.source) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::readlinkat(&handle, "", Vec::new()) {
        Ok(target) => {
            let text = OsStr::from_bytes(target.as_bytes())
                .to_string_lossy()
                .into_owned();
            Ok(Some(text))
        }
        // Not a link: with an empty path the kernel says ENOENT for those, EINVAL for others.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => Ok(None),
        Err(error) => Err(fsutil::Error::new("readlink", path, error).into()),
    }
}

/// What is at `path` inside the merged root `view`, its last component not followed.
pub fn look_up(view: impl AsFd, path: impl AsRef<Path>) -> Result<Option<Metadata>, StepError> {
    let path = path.as_ref();
    let name = path.strip_prefix("/").unwrap_or(path);
    let name = if name.as_os_str().is_empty() {
        Path::new(".")
    } else {
        name
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    match fsutil::open_in_root(view, name, flags, Mode::empty()) {
        Ok(handle) => {
            let file = fs::File::from(handle);
            Ok(Some(file.metadata().at("stat", path)?))
        }
        Err(error) if is_absent(&error.source) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The directory at `path` inside the merged root `view`, if it is one and no link leads there.
pub fn directory_at(
    view: impl AsFd,
    path: impl AsRef<Path>,
) -> Result<Option<Metadata>, StepError> {
    let path = path.as_ref();
    let name = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match fsutil::open_beneath(view, name, flags, Mode::empty()) {
        Ok(handle) => Ok(Some(fs::File::from(handle).metadata().at("stat", path)?)),
        Err(error) if is_absent(&error.source) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_cannot_be_read_is_told_by_its_path_in_the_context() {
        let base = Path::new("/proc/self/fd/no-such");
        for (label, told) in [("src", "read src/secret: "), ("", "read secret: ")] {
            let walk = walkdir::WalkDir::new(base.join("./secret"));
            let error = walk.into_iter().next().unwrap().unwrap_err();
            let error = walk_error(error, base, label).to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }

    fn tree(ignore: Option<&IgnorePatterns>) -> (tempfile::TempDir, Tree<'_>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        for file in ["a.txt", "b.txt", "c.log", "src/x.c", "src/deep/y.c"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        symlink("/a.txt", dir.path().join("link")).unwrap();
        symlink("../../etc", dir.path().join("out")).unwrap();
        let root = fsutil::open_dir(dir.path()).unwrap();
        (
            dir,
            Tree {
                root,
                label: "the context".into(),
                ignore,
                hidden: None,
                keeps_owners: false,
            },
        )
    }

    fn paths(tree: &Tree, pattern: &str) -> Vec<String> {
        tree.matches(pattern)
            .unwrap()
            .into_iter()
            .map(|m| m.path)
            .collect()
    }

    #[test]
    fn patterns_match_per_component_and_in_order() {
        let (_dir, tree) = tree(None);
        assert_eq!(paths(&tree, "*.txt"), ["a.txt", "b.txt"]);
        assert_eq!(paths(&tree, "s*/*.c"), ["src/x.c"]);
        assert_eq!(paths(&tree, "/src/../a.txt"), ["a.txt"]);
        assert_eq!(paths(&tree, "*.none"), [] as [&str; 0]);
        assert!(matches!(
            tree.matches("none"),
            Err(StepError::NoSource { .. })
        ));
    }

    #[test]
    fn nothing_leads_out_of_the_tree() {
        let (_dir, tree) = tree(None);
        assert_eq!(paths(&tree, "../../a.txt"), ["a.txt"]);
        assert_eq!(tree.matches("link").unwrap()[0].metadata.len(), 5);
        assert!(tree.matches("out/passwd").is_err());
    }

    #[test]
    fn an_ignored_directory_is_walked_for_its_exceptions() {
        let ignore = IgnorePatterns::parse(b"src\n!src/deep/y.c\n*.log\n").unwrap();
        let (_dir, tree) = tree(Some(&ignore));
        let root = &tree.matches(".").unwrap()[0];
        let found = tree.walk(root, &IgnorePatterns::default()).unwrap();
        let names: Vec<String> = found
            .iter()
            .map(|f| f.relative.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "",
                "a.txt",
                "b.txt",
                "link",
                "out",
                "src",
                "src/deep",
                "src/deep/y.c"
            ]
        );
        assert!(tree.matches("c.log").is_err());
    }

    #[test]
    fn destinations_follow_the_images_links_inside_the_image() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run/lock")).unwrap();
        fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let view = fsutil::open_dir(dir.path()).unwrap();
        assert_eq!(
            resolve_destination(&view, "/var/run/lock/x").unwrap(),
            "/run/lock/x"
        );
        assert_eq!(resolve_destination(&view, "/var/run").unwrap(), "/run");
        assert_eq!(resolve_destination(&view, "/new/dir").unwrap(), "/new/dir");
        assert!(resolve_destination(&view, "/loop/x").is_err());
    }
}
