//! The base images that cases stand on: made by rstore, given to the others as layouts.
//!
//! `base` is a small root file system with what the cases stumble over: links to directories, users
//! and groups with odd numbers, setuid files, modes that a umask would not give, the empty files
//! that other builders mount over (so that their stubs change nothing). The other images differ
//! from it in their configuration.

use std::io::Write;
use std::path::Path;

use crate::support::http::{Response, Server};
use crate::support::{Context, Rstore, busybox_tar, run, scratch};

/// Images by name: what FROM and COPY --from may say. Each is built on those before it.
pub const IMAGES: &[(&str, &str)] = &[
    (
        "base",
        "FROM rootfs\nENV PATH=/usr/sbin:/usr/bin:/sbin:/bin\nCMD [\"/bin/sh\"]\n",
    ),
    (
        "configured",
        "FROM base\nENV A=base B=base\nLABEL a=base b=base\nWORKDIR /srv/base\nUSER app\n\
         ENTRYPOINT [\"/bin/echo\", \"entry\"]\nCMD [\"from\", \"base\"]\nEXPOSE 80\n\
         VOLUME /data/base\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/sh\", \"-ec\"]\n\
         HEALTHCHECK --interval=30s --retries=2 CMD [\"/bin/true\"]\n",
    ),
    (
        "triggers",
        "FROM base\nONBUILD ARG WHO=base\nONBUILD RUN echo \"$WHO\" > /triggered\n\
         ONBUILD ENV TRIGGERED=$WHO\nONBUILD WORKDIR /by/trigger\nONBUILD COPY one ./\n",
    ),
    (
        "volumes",
        "FROM base\nRUN echo base > /data/file && touch -d @1000000000 /data/file\n\
         VOLUME /data /none\n",
    ),
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    app:x:1000:1001:app:/home/app:/bin/sh\n\
    plain:x:1500:1500::/nowhere:/bin/sh\n\
    2000:x:3000:3001:a name of digits:/:/bin/sh\n\
    nobody:x:65534:65534:nobody:/home:/bin/false\n";

const GROUP: &str = "root:x:0:\nstaff:x:50:app\nwheel:x:10:root,app\napps:x:1001:\n\
    plain:x:1500:\n4000:x:4001:\nnogroup:x:65534:\n";

/// The images, each a store of its own kind: a layout that every builder reads.
pub fn images(store: &Rstore) {
    let work = scratch();
    let tar = work.path().join("rootfs.tar");
    std::fs::write(&tar, rootfs()).expect("a tar");
    let import = ["import", "--compression", "gzip"].map(std::ffi::OsStr::new);
    let names = [tar.as_os_str(), "rootfs".as_ref()];
    store.ok(import.into_iter().chain(names));
    for (name, dockerfile) in IMAGES {
        let context = Context::new(dockerfile);
        store.build(context.path(), &["-t", name, "--compression", "gzip"]);
    }
}

/// The tar of a root file system around busybox.
fn rootfs() -> Vec<u8> {
    let work = scratch();
    let program = work.path().join("busybox");
    let archive = busybox_tar().display().to_string();
    let directory = work.path().display().to_string();
    run(std::process::Command::new("tar").args([
        "--extract",
        "--file",
        &archive,
        "--directory",
        &directory,
        "--strip-components=2",
        "./bin/busybox",
    ]));
    let busybox = std::fs::read(&program).expect("busybox");
    let mut tar = Archive::new();
    for directory in [
        "bin",
        "dev",
        "etc",
        "home",
        "proc",
        "root",
        "run",
        "run/lock",
        "sbin",
        "srv",
        "sys",
        "tmp",
        "usr",
        "data",
        "data/base",
        "usr/bin",
        "usr/lib",
        "usr/lib/deep",
        "usr/sbin",
        "var",
        "var/tmp",
        "full",
        "full/sub",
    ] {
        let mode = match directory {
            "tmp" | "var/tmp" => 0o1777,
            "root" => 0o700,
            _ => 0o755,
        };
        tar.directory(directory, mode, (0, 0));
    }
    tar.directory("home/app", 0o750, (1000, 1001));
    tar.directory("owned", 0o2770, (1000, 50));
    tar.file("bin/busybox", 0o755, (0, 0), &busybox);
    for applet in APPLETS {
        tar.link(&format!("bin/{applet}"), "busybox");
    }
    for empty in ["etc/hostname", "etc/hosts", "etc/resolv.conf"] {
        tar.file(empty, 0o644, (0, 0), b"");
    }
    tar.file("etc/passwd", 0o644, (0, 0), PASSWD.as_bytes());
    tar.file("etc/group", 0o644, (0, 0), GROUP.as_bytes());
    tar.file("full/one", 0o644, (0, 0), b"base one\n");
    tar.file("full/two", 0o640, (1000, 50), b"base two\n");
    tar.file("full/sub/three", 0o600, (0, 0), b"base three\n");
    tar.file("full/setuid", 0o4755, (0, 0), b"setuid\n");
    tar.hard("full/linked", "full/one", 0o644, (0, 0));
    tar.link("var/run", "/run");
    tar.link("lib", "usr/lib");
    tar.link("to-file", "full/one");
    tar.link("dangling", "/not/there");
    tar.link("up", "../../../full");
    tar.capable("full/capable");
    tar.finish()
}

const APPLETS: &[&str] = &[
    "sh", "ash", "cat", "chmod", "chown", "cp", "cut", "date", "echo", "env", "expr", "false",
    "find", "grep", "head", "hostname", "id", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount",
    "mv", "od", "printenv", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq",
    "sleep", "sort", "stat", "tail", "tar", "test", "touch", "tr", "true", "umask", "wc", "whoami",
    "xargs",
];

/// A tar in the making; what is in it is of 2001.
pub struct Archive {
    builder: tar::Builder<Vec<u8>>,
}

impl Archive {
    pub fn new() -> Archive {
        Archive {
            builder: tar::Builder::new(Vec::new()),
        }
    }

    fn header(kind: tar::EntryType, mode: u32, (uid, gid): (u32, u32), size: usize) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(size as u64);
        header.set_mtime(crate::case::OLD as u64);
        header
    }

    pub fn directory(&mut self, path: &str, mode: u32, owner: (u32, u32)) {
        let mut header = Archive::header(tar::EntryType::Directory, mode, owner, 0);
        let path = format!("{path}/");
        self.builder
            .append_data(&mut header, path, &b""[..])
            .expect("a directory");
    }

    pub fn file(&mut self, path: &str, mode: u32, owner: (u32, u32), content: &[u8]) {
        let mut header = Archive::header(tar::EntryType::Regular, mode, owner, content.len());
        self.builder
            .append_data(&mut header, path, content)
            .expect("a file");
    }

    pub fn link(&mut self, path: &str, target: &str) {
        let mut header = Archive::header(tar::EntryType::Symlink, 0o777, (0, 0), 0);
        self.builder
            .append_link(&mut header, path, target)
            .expect("a link");
    }

    /// Another name of a file. Some unpack its attributes too, so they are the file's own.
    pub fn hard(&mut self, path: &str, target: &str, mode: u32, owner: (u32, u32)) {
        let mut header = Archive::header(tar::EntryType::Link, mode, owner, 0);
        self.builder
            .append_link(&mut header, path, target)
            .expect("a hard link");
    }

    /// A file that may bind low ports: `cap_net_bind_service=ep`, as linux/capability.h lays it
    /// out in version 2.
    fn capable(&mut self, path: &str) {
        let mut value = [0; 20];
        value[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
        value[4..8].copy_from_slice(&(1_u32 << 10).to_le_bytes());
        self.builder
            .append_pax_extensions([("SCHILY.xattr.security.capability", &value[..])])
            .expect("a record");
        self.file(path, 0o755, (0, 0), b"capable\n");
    }

    pub fn finish(self) -> Vec<u8> {
        self.builder.into_inner().expect("an archive")
    }
}

/// A small archive: a directory, a file of somebody's, a link to it.
pub fn archive() -> Vec<u8> {
    let mut tar = Archive::new();
    tar.directory("unpacked", 0o750, (12, 34));
    tar.file("unpacked/file", 0o604, (12, 34), b"unpacked\n");
    tar.link("unpacked/link", "file");
    tar.hard("unpacked/hard", "unpacked/file", 0o604, (12, 34));
    tar.finish()
}

/// What ADD finds at [`crate::case::SERVER`]: by its name in the address, a file of text that has a
/// time (`/dated.txt`) or none (any other), [`archive`] (`/archive.tar`), what lies elsewhere
/// (`/moved.txt`), nothing (`/missing.txt`).
pub fn server() -> Server {
    Server::new(|request| {
        let dated =
            |response: Response| response.header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        let path = request.path.split('?').next().unwrap_or("");
        match path {
            "/dated.txt" | "/dir/dated.txt" => dated(Response::ok("dated\n")),
            "/archive.tar" => dated(Response::ok(archive())),
            "/moved.txt" => Response::new(302).header("Location", "/dated.txt"),
            "/missing.txt" => Response::new(404),
            _ => Response::ok("text\n"),
        }
    })
}

/// Bytes compressed by a program that most machines have, or by a library.
pub fn compressed(bytes: &[u8], how: &str) -> Vec<u8> {
    match how {
        "gz" => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            writer.write_all(bytes).expect("memory");
            writer.finish().expect("memory")
        }
        "bz2" => {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            writer.write_all(bytes).expect("memory");
            writer.finish().expect("memory")
        }
        "xz" => {
            let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 1);
            writer.write_all(bytes).expect("memory");
            writer.finish().expect("memory")
        }
        "zst" => zstd::encode_all(bytes, 1).expect("memory"),
        other => panic!("{other:?} is no compression"),
    }
}

/// Copies a tag between layouts, byte by byte.
pub fn copy(from: &Path, to: &Path, name: &str) {
    let source = format!("oci:{}:{name}:latest", from.display());
    let target = format!("oci:{}:{name}:latest", to.display());
    crate::support::peers::skopeo(&["copy", "-q", "--preserve-digests", &source, &target]);
}
