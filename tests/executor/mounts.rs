//! Mounts, mount points, and images that would like them elsewhere.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rstore::executor::{Mount, Source};
use rstore::snapshot::overlay;

use crate::support::{Image, fill, may_run, output, run, try_run};

#[test]
fn a_step_that_does_nothing_leaves_nothing_in_the_upper_directory() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let ran = run(image.sh("ls / /proc /dev /etc >/dev/null"));
    assert_eq!(ran.code(), 0);
    assert!(ran.outcome.stubs.is_empty());
    assert_eq!(fs::read_dir(image.upper()).unwrap().count(), 0);
}

#[test]
fn what_a_step_writes_lands_in_the_upper_directory() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    output(image.sh("echo hello > /root/file; rm /bin/dmesg"));
    assert_eq!(
        fs::read(image.upper().join("root/file")).unwrap(),
        b"hello\n"
    );
    assert!(image.lower().join("bin/dmesg").symlink_metadata().is_ok());
}

#[test]
fn devices_work_for_everybody() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh(
        "echo x > /dev/null && head -c 5 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c && \
         ls /dev && readlink /dev/ptmx && touch /dev/shm/x && (ls /dev/kmsg /dev/vda 2>/dev/null; true)",
    );
    step.user.uid = 1000;
    step.user.gid = 1000;
    let devices = "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    assert_eq!(output(step), format!("5\n3\n{devices}pts/ptmx\n"));
}

#[test]
fn shared_memory_has_the_size_that_was_asked_for() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh("grep ' /dev/shm ' /proc/mounts");
    step.shm_size = 1 << 20;
    let line = output(step);
    assert!(
        line.contains("size=1024k") && line.contains("nosuid,nodev,noexec"),
        "{line}"
    );
}

#[test]
fn the_callers_files_are_there_for_the_step_and_not_after_it() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let file = image.path("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
    let mut step = image
        .sh("cat /etc/resolv.conf /etc/hosts; echo more >> /etc/hosts; touch /etc/resolv.conf");
    let hosts = Source::Bytes {
        bytes: b"127.0.0.1 localhost\n".to_vec(),
        mode: 0o644,
        owner: (0, 0),
    };
    step.mounts = vec![
        Mount::new("/etc/resolv.conf", Source::Path(file)).read_only(),
        Mount::new("/etc/hosts", hosts),
    ];
    let ran = run(step);
    assert_eq!(ran.stdout, "nameserver 192.0.2.1\n127.0.0.1 localhost\n");
    assert!(
        ran.stderr.contains("Read-only file system"),
        "{}",
        ran.stderr
    );
    assert!(ran.outcome.stubs.is_empty(), "{:?}", ran.outcome.stubs);
    assert_eq!(fs::read_dir(image.upper()).unwrap().count(), 0);
}

#[test]
fn mount_points_of_the_callers_own_are_made_and_removed() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let before = fs::metadata(image.lower().join("root"))
        .unwrap()
        .mtime_nsec();
    let mut step = image.sh("cat /root/a/b/secret; touch /root/c/d/cached; ls -d /root/a");
    fs::create_dir(image.path("cache")).unwrap();
    let secret = Source::Bytes {
        bytes: b"s".to_vec(),
        mode: 0o400,
        owner: (0, 0),
    };
    step.mounts = vec![
        Mount::new("/root/a/b/secret", secret),
        Mount::new("/root/c/d", Source::Path(image.path("cache"))),
    ];
    let ran = run(step);
    assert_eq!(ran.stdout, "s/root/a\n");
    let expected = [
        "/root/a",
        "/root/a/b",
        "/root/a/b/secret",
        "/root/c",
        "/root/c/d",
    ];
    assert_eq!(ran.outcome.stubs, expected.map(PathBuf::from));
    assert!(image.path("cache/cached").exists());
    assert_eq!(fs::read_dir(image.upper().join("root")).unwrap().count(), 0);
    assert_eq!(
        fs::metadata(image.upper().join("root"))
            .unwrap()
            .mtime_nsec(),
        before
    );
}

#[test]
fn a_mount_inside_an_earlier_one_is_seen() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh("cat /run/secrets/key; ls /run; stat -c %a /run /run/secrets/key");
    let key = Source::Bytes {
        bytes: b"key\n".to_vec(),
        mode: 0o440,
        owner: (0, 0),
    };
    step.mounts = vec![
        Mount::new(
            "/run",
            Source::Tmpfs {
                size: Some(1 << 20),
                mode: 0o700,
            },
        ),
        Mount::new("/run/secrets/key", key).read_only(),
    ];
    let ran = run(step);
    assert_eq!(ran.stdout, "key\nsecrets\n700\n440\n");
    assert_eq!(ran.outcome.stubs, [Path::new("/run")]);
}

#[test]
fn a_tree_of_another_image_is_read_only_and_can_be_had_twice() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let other = image.path("other");
    fs::create_dir_all(other.join("sub")).unwrap();
    fs::write(other.join("sub/file"), "other\n").unwrap();
    let lowers = [other, image.path("stubs")];
    let view = overlay::mount(&lowers, None, overlay::Options::default()).unwrap();
    for _ in 0..2 {
        let mut step = image.sh("cat /mnt/file /whole/sub/file; touch /mnt/x");
        let tree = |path: &str| Source::Tree {
            tree: view.try_clone().unwrap(),
            path: path.into(),
        };
        step.mounts = vec![
            Mount::new("/mnt", tree("/sub")).read_only(),
            Mount::new("/whole", tree("/")).read_only(),
        ];
        let ran = run(step);
        assert_eq!(ran.stdout, "other\nother\n", "{}", ran.stderr);
        assert!(ran.stderr.contains("Read-only file system"));
    }
}

#[test]
fn mounts_can_forbid_setuid_and_devices() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    fs::create_dir(image.path("data")).unwrap();
    let mut step = image.sh("grep ' /data ' /proc/mounts");
    let mount = Mount::new("/data", Source::Path(image.path("data")));
    step.mounts = vec![Mount {
        nosuid: true,
        nodev: true,
        ..mount
    }];
    let line = output(step);
    assert!(line.contains("nosuid,nodev"), "{line}");
}

#[test]
fn an_image_with_links_for_mount_points_is_refused_and_the_host_untouched() {
    if !may_run() {
        return;
    }
    let hosts = |path: &str| fs::metadata(path).unwrap().dev();
    let before = ["/etc", "/proc", "/dev", "/tmp"].map(hosts);
    for (point, target) in [
        ("proc", "/etc"),
        ("dev", "/tmp"),
        ("sys", "../../../../etc"),
    ] {
        let image = Image::new();
        symlink(target, image.lower().join(point)).unwrap();
        let error = try_run(image.sh("true")).unwrap_err().to_string();
        assert!(
            error.contains(&format!("/{point}")) && error.contains("symbolic link"),
            "{error}"
        );
        assert_eq!(fs::read_dir(image.upper()).unwrap().count(), 0);
    }
    assert_eq!(["/etc", "/proc", "/dev", "/tmp"].map(hosts), before);
}

#[test]
fn a_link_to_an_absolute_place_is_followed_inside_the_image() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    symlink(
        "/run/resolve/stub.conf",
        image.lower().join("etc/resolv.conf"),
    )
    .unwrap();
    let mut step = image.sh("cat /etc/resolv.conf; cat /run/resolve/stub.conf");
    let bytes = Source::Bytes {
        bytes: b"x\n".to_vec(),
        mode: 0o644,
        owner: (0, 0),
    };
    step.mounts = vec![Mount::new("/etc/resolv.conf", bytes)];
    let ran = run(step);
    assert_eq!(ran.stdout, "x\nx\n");
    let expected = ["/run", "/run/resolve", "/run/resolve/stub.conf"].map(PathBuf::from);
    assert_eq!(ran.outcome.stubs, expected);
    assert!(!Path::new("/run/resolve/stub.conf").exists());
}

#[test]
fn an_image_without_the_stubs_below_it_gets_them_made_and_removed() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let empty = image.path("empty");
    fs::create_dir(&empty).unwrap();
    let root = image.root_over(&[image.lower(), empty]);
    let ran = run(rstore::executor::Step::new(root, ["/bin/ls", "/"]));
    assert_eq!(ran.stdout, "bin\ndev\netc\nproc\nroot\nsys\ntmp\n");
    assert_eq!(
        ran.outcome.stubs,
        ["/proc", "/sys", "/dev"].map(PathBuf::from)
    );
    assert_eq!(fs::read_dir(image.upper()).unwrap().count(), 0);
}

#[test]
fn five_hundred_layers_run() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut lowers: Vec<PathBuf> = (0..498)
        .map(|number| {
            let layer = image.path(&format!("layer{number}"));
            fs::create_dir_all(layer.join("layers")).unwrap();
            fs::write(layer.join(format!("layers/{number}")), "").unwrap();
            layer
        })
        .collect();
    lowers.extend([image.lower(), image.path("stubs")]);
    let root = image.root_over(&lowers);
    let step = rstore::executor::Step::new(root, ["/bin/sh", "-c", "ls /layers | wc -l"]);
    assert_eq!(output(step), "498\n");
}

#[test]
fn a_plain_directory_can_be_a_root() {
    if !may_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let step = rstore::executor::Step::new(overlay::bind(dir.path()).unwrap(), ["/bin/true"]);
    let ran = run(step);
    assert_eq!(ran.code(), 0);
    assert!(!dir.path().join("proc").exists());
}
