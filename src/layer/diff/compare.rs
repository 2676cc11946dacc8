//! Whether what lies above is the same as what lies below.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Stat};

use crate::layer::entry::Entry;
use crate::layer::error::{Error, Result};
use crate::layer::inode::{Inode, file_type, read_link};
use crate::layer::whiteout::is_host_xattr;

/// Whether two inodes have the same attributes, as far as a layer holds them.
pub fn same_attributes(above: &Inode, below: &Inode) -> bool {
    let of = |stat: &Stat| {
        (
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            stat.st_mtime,
            stat.st_mtime_nsec,
        )
    };
    of(&above.stat) == of(&below.stat) && layer_xattrs(above).eq(layer_xattrs(below))
}

fn layer_xattrs(inode: &Inode) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
    inode.xattrs.iter().filter(|(name, _)| !is_host_xattr(name))
}

/// Whether `inode`, which would become `entry`, is what `name` in `lower` is already.
///
/// The times alone don't prove it: a program can set them, and files from an archive have whole
/// seconds. So the content is compared too, which costs a read only of files whose size and time
/// are equal.
pub fn is_same(
    inode: &Inode,
    entry: &Entry,
    lower: BorrowedFd<'_>,
    name: &[u8],
    below: Stat,
) -> Result<bool> {
    if file_type(&below) != file_type(&inode.stat) || below.st_size != inode.stat.st_size {
        return Ok(false);
    }
    let below = Inode::with_stat(lower, name, &entry.path, below)?;
    if !same_attributes(inode, &below) {
        return Ok(false);
    }
    match file_type(&inode.stat) {
        FileType::RegularFile => same_content(inode, below, &entry.path),
        FileType::Symlink => {
            let target = read_link(lower, name, &entry.path)?;
            Ok(entry.kind == crate::layer::entry::Kind::Symlink { target })
        }
        FileType::CharacterDevice | FileType::BlockDevice => {
            Ok(inode.stat.st_rdev == below.stat.st_rdev)
        }
        _ => Ok(true),
    }
}

fn same_content(above: &Inode, below: Inode, path: &[u8]) -> Result<bool> {
    let (Some(above), Some(below)) = (&above.file, below.file) else {
        return Ok(false);
    };
    let fail = |error| Error::of_content(path, error);
    // A duplicate shares the position, which the reader of the content will want at the start.
    let mut above = File::from(above.try_clone().map_err(fail)?);
    let mut below = File::from(below);
    let same = same_bytes(&mut above, &mut below).map_err(fail)?;
    std::io::Seek::rewind(&mut above).map_err(fail)?;
    Ok(same)
}

fn same_bytes(above: &mut File, below: &mut File) -> std::io::Result<bool> {
    let mut buffers = [vec![0; 64 << 10], vec![0; 64 << 10]];
    let [left, right] = &mut buffers;
    loop {
        let count = above.read(left)?;
        if count == 0 {
            return Ok(below.read(right)? == 0);
        }
        let mut filled = 0;
        while filled < count {
            match below.read(&mut right[filled..count])? {
                0 => return Ok(false),
                more => filled += more,
            }
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}
