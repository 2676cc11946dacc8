//! Putting an entry's attributes on an inode, and counting what could not be put.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::Skipped;
use crate::layer::entry::{Entry, Mtime, Xattrs};
use crate::layer::error::{Error, Result};
use crate::layer::inode::{ByName, fail};
use crate::layer::whiteout::is_host_xattr;

/// How attributes are put, and what was left out.
pub struct Attributes {
    pub ignore_unmapped_owners: bool,
    pub skipped: Skipped,
}

impl Attributes {
    /// Owner, extended attributes and mode of an open file or directory. `present` are the
    /// extended attributes that it has, which the entry's replace.
    ///
    /// The owner comes first, since chown(2) clears set-user-ID and `security.capability`; the
    /// mode last, so that a file which its owner may not write can still be given attributes.
    pub fn set_open(&mut self, file: impl AsFd, entry: &Entry, present: &Xattrs) -> Result<()> {
        self.set_open_as(file, entry, entry.mode, present)
    }

    /// The same, with another mode than the entry's for the time being.
    pub fn set_open_as(
        &mut self,
        file: impl AsFd,
        entry: &Entry,
        mode: u32,
        present: &Xattrs,
    ) -> Result<()> {
        let file = file.as_fd();
        self.set_owner(entry, |uid, gid| rustix::fs::fchown(file, uid, gid))?;
        for name in present.keys().filter(|name| !is_host_xattr(name)) {
            if !entry.xattrs.contains_key(name) {
                rustix::fs::fremovexattr(file, name.as_slice())
                    .or_else(|error| {
                        if error == Errno::NODATA {
                            Ok(())
                        } else {
                            Err(error)
                        }
                    })
                    .map_err(|error| fail("remove extended attribute of", &entry.path, error))?;
            }
        }
        self.set_xattrs(entry, |name, value| {
            rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
        })?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
            .map_err(|error| fail("change mode of", &entry.path, error))
    }

    /// All attributes of what cannot be opened; `symlink` has no mode of its own.
    pub fn set_named(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        symlink: bool,
    ) -> Result<()> {
        self.set_owner(entry, |uid, gid| {
            rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })?;
        let path = ByName::new(directory, name);
        self.set_xattrs(entry, |name, value| {
            rustix::fs::lsetxattr(path.path(), name, value, XattrFlags::empty())
        })?;
        if !symlink {
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::chmodat(directory, name, mode, AtFlags::empty())
                .map_err(|error| fail("change mode of", &entry.path, error))?;
        }
        let times = timestamps(entry.mtime);
        rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| fail("set time of", &entry.path, error))
    }

    fn set_owner(
        &mut self,
        entry: &Entry,
        chown: impl FnOnce(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    ) -> Result<()> {
        // (uid_t)-1 would mean "leave it" to the kernel; no file has that owner.
        let valid = entry.uid != u32::MAX && entry.gid != u32::MAX;
        let result = match valid {
            true => chown(
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
            ),
            false => Err(Errno::INVAL),
        };
        match result {
            Ok(()) => Ok(()),
            // user_namespaces(7): EINVAL for an ID without a mapping, EPERM without the privilege.
            Err(Errno::INVAL | Errno::PERM) if self.ignore_unmapped_owners => {
                self.skipped.owners += 1;
                Ok(())
            }
            Err(error @ (Errno::INVAL | Errno::PERM)) => Err(Error::UnmappedOwner {
                path: entry.path.clone(),
                uid: entry.uid,
                gid: entry.gid,
                source: error.into(),
            }),
            Err(error) => Err(fail("change owner of", &entry.path, error)),
        }
    }

    fn set_xattrs(
        &mut self,
        entry: &Entry,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<()> {
        for (name, value) in &entry.xattrs {
            if is_host_xattr(name) {
                self.skipped.xattrs += 1;
                continue;
            }
            match set(name, value) {
                Ok(()) => {}
                // A file system without them; `trusted.*` in a user namespace; `user.*` on a link.
                Err(Errno::NOTSUP | Errno::PERM) => self.skipped.xattrs += 1,
                Err(error) => {
                    return Err(fail("set extended attribute of", &entry.path, error));
                }
            }
        }
        Ok(())
    }
}

/// Sets the time of an open file or directory.
pub fn set_time(file: impl AsFd, mtime: Mtime, path: &[u8]) -> Result<()> {
    rustix::fs::futimens(file, &timestamps(mtime)).map_err(|error| fail("set time of", path, error))
}

/// Both times, since an archive has but one, and the access time should not tell when we unpacked.
fn timestamps(mtime: Mtime) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
