//! A directory to build from.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::scratch;

/// A build context that goes when the value does.
pub struct Context {
    directory: tempfile::TempDir,
}

impl Context {
    /// A context with this Dockerfile.
    pub fn new(dockerfile: &str) -> Context {
        let context = Context {
            directory: scratch(),
        };
        context.file("Dockerfile", dockerfile);
        context
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file, mode 0644, and the directories that lead to it.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("below the context")).expect("directories");
        fs::write(&path, contents).expect("a file");
        self.mode(name, 0o644);
        path
    }

    /// Sets the mode of a file.
    pub fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path().join(name), Permissions::from_mode(mode)).expect("a mode");
    }

    /// Makes a symbolic link.
    pub fn link(&self, name: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.path().join(name)).expect("a link");
    }
}
