//! What a step may not do, see or reach.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use rstore::executor::{Mount, Network, Security, Source, Step};

use crate::support::{Image, env, may_run, output, run, skip};

#[test]
fn root_has_dockers_capabilities() {
    if !may_run() {
        return;
    }
    let status = output(Image::new().sh("grep ^Cap /proc/self/status"));
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    let expected = format!(
        "CapInh:\t{none}\nCapPrm:\t{docker}\nCapEff:\t{docker}\nCapBnd:\t{docker}\nCapAmb:\t{none}\n"
    );
    assert_eq!(status, expected);
}

#[test]
fn seccomp_is_on_and_no_new_privileges_off() {
    if !may_run() {
        return;
    }
    let status = output(Image::new().sh("grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"));
    assert_eq!(status, "NoNewPrivs:\t0\nSeccomp:\t2\n");
}

#[test]
fn an_insecure_step_has_what_we_have() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh(
        "grep -E '^(CapEff|Seccomp):' /proc/self/status; mount -t tmpfs t /tmp && echo mounted",
    );
    step.security = Security::Insecure;
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = ours
        .lines()
        .find(|line| line.starts_with("CapPrm"))
        .unwrap();
    let effective = ours.replace("CapPrm", "CapEff");
    assert_eq!(output(step), format!("{effective}\nSeccomp:\t0\nmounted\n"));
}

#[test]
fn mounting_and_new_namespaces_are_refused() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    for script in [
        "mount -t tmpfs t /tmp",
        "mount -o remount,rw /sys",
        "umount /proc/sys",
        "unshare -m true",
        "unshare -U true",
        "mknod /tmp/d b 8 0 && head -c1 /tmp/d",
        "chroot /proc/1/root ls",
        "dmesg",
        "echo h > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
    ] {
        let ran = run(image.sh(script));
        assert_ne!(ran.code(), 0, "{script}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn masked_paths_show_nothing() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let script = "for f in kcore keys timer_list interrupts sched_debug latency_stats; do \
        test -e /proc/$f && cat /proc/$f | head -c1; done; ls /proc/acpi /proc/scsi 2>/dev/null | grep -v : ; \
        ls -A /sys/firmware /sys/fs/cgroup | grep -v '^/' | grep .; true";
    assert_eq!(output(image.sh(script)).trim(), "");
}

#[test]
fn sysfs_and_proc_sys_are_read_only() {
    if !may_run() {
        return;
    }
    let mounts = output(Image::new().sh("cat /proc/mounts"));
    let points = [
        "/sys",
        "/proc/sys",
        "/proc/sysrq-trigger",
        "/proc/bus",
        "/proc/irq",
        "/proc/fs",
    ];
    for point in points
        .into_iter()
        .filter(|point| std::path::Path::new(point).exists())
    {
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(point));
        let line = line.unwrap_or_else(|| panic!("{point} is no mount:\n{mounts}"));
        assert!(line.split(' ').nth(3).unwrap().starts_with("ro"), "{line}");
    }
}

#[test]
fn nothing_of_the_hosts_mounts_is_left() {
    if !may_run() {
        return;
    }
    let mounts = output(Image::new().sh("cat /proc/self/mountinfo"));
    let allowed = ["/", "/proc", "/sys", "/dev"];
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).unwrap();
        let below = allowed[1..]
            .iter()
            .any(|tree| point.starts_with(&format!("{tree}/")));
        assert!(allowed.contains(&point) || below, "{line}");
    }
    assert!(mounts.lines().count() < 40, "{mounts}");
}

#[test]
fn no_descriptor_leaks_in() {
    if !may_run() {
        return;
    }
    // One that a careless library left open across execve.
    let leaked = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    // 3 is ls's own, on the directory.
    assert_eq!(
        output(Image::new().sh("exec ls /proc/self/fd")),
        "0\n1\n2\n3\n"
    );
}

#[test]
fn what_rstore_was_called_with_is_not_shown() {
    if !may_run() {
        return;
    }
    assert_eq!(
        output(Image::new().sh("tr -d '\\000' < /proc/1/cmdline")),
        ""
    );
}

#[test]
fn init_shows_nothing_of_itself() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let script = "for x in root exe cwd fd/3 fd/0; do readlink /proc/1/$x; ls /proc/1/$x/; done; \
        ls /proc/1/map_files/*; cat /proc/1/mem /proc/1/environ /proc/1/maps; true";
    assert_eq!(output(image.sh(script)), "");
    let status = output(image.sh("grep -E '^(CapPrm|CapEff)' /proc/1/status"));
    assert_eq!(
        status,
        "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
    );
}

#[test]
fn a_step_sees_its_own_processes_only() {
    if !may_run() {
        return;
    }
    // init and the shell, which looks before it starts ls.
    let processes = output(Image::new().sh("ls -d /proc/[0-9]*; true"));
    assert_eq!(processes, "/proc/1\n/proc/2\n");
}

#[test]
fn without_a_network_there_is_loopback_only_and_it_is_up() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh("ls /sys/class/net; ip addr show lo");
    step.network = Network::None;
    let shown = output(step);
    assert!(shown.starts_with("lo\n1: lo: <LOOPBACK,UP"), "{shown}");
    assert!(shown.contains("inet 127.0.0.1/8"), "{shown}");
}

/// `socat` would do; busybox connects to no abstract socket, so the test's own binary does:
/// see `connect_to_an_abstract_socket`.
#[test]
fn the_hosts_network_is_the_hosts_less_its_abstract_sockets() {
    if !may_run() {
        return;
    }
    let name = format!("rstore-test-{}", std::process::id());
    let _listener =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let image = Image::new();
    let hosts = std::fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(output(image.sh("ls /sys/class/net")).lines().count(), hosts);
    if landlock_version() < 6 {
        return skip("Linux before 6.12 cannot hide abstract sockets");
    }
    for (security, connected) in [(Security::Sandbox, false), (Security::Insecure, true)] {
        let mut step = Step::new(
            image.root(),
            ["/test", "--exact", "--nocapture", "--ignored"],
        );
        step.args
            .push("sandbox::connect_to_an_abstract_socket".into());
        step.env.push(env("RSTORE_TEST_SOCKET", &name));
        step.security = security;
        // Our own binary and the libraries it is linked with.
        let of_host = |path: &str| Mount::new(path, Source::Path(path.into())).read_only();
        let test = std::env::current_exe().unwrap();
        step.mounts = vec![Mount::new("/test", Source::Path(test)).read_only()];
        step.mounts.extend(
            ["/lib", "/lib64", "/usr/lib"]
                .into_iter()
                .filter(|path| std::path::Path::new(path).exists())
                .map(of_host),
        );
        let ran = run(step);
        assert_eq!(ran.code() == 0, connected, "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
#[ignore = "run inside a step by another test"]
fn connect_to_an_abstract_socket() {
    let Ok(name) = std::env::var("RSTORE_TEST_SOCKET") else {
        return;
    };
    let address = SocketAddr::from_abstract_name(name).unwrap();
    UnixStream::connect_addr(&address).unwrap();
}

fn landlock_version() -> i64 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no ruleset and answers a number.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            0usize,
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    }
}

/// The kernel's cgroup of devices is what keeps docker's steps from the disk; here it is nodev.
#[test]
fn a_device_node_that_the_step_makes_opens_nothing() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    std::fs::create_dir(image.path("cache")).unwrap();
    let script = "for d in / /dev /tmp /dev/shm /cache /memory; do \
        mknod $d/null2 c 1 3 && cat $d/null2 && echo $d opened; done; true";
    let mut step = image.sh(script);
    step.mounts = vec![
        Mount::new("/cache", Source::Path(image.path("cache"))),
        Mount::new(
            "/memory",
            Source::Tmpfs {
                size: None,
                mode: 0o755,
            },
        ),
    ];
    let ran = run(step);
    assert_eq!(ran.stdout, "");
    assert_eq!(
        ran.stderr.matches("Permission denied").count(),
        6,
        "{}",
        ran.stderr
    );
}

#[test]
fn the_hosts_devices_cannot_be_changed() {
    if !may_run() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let state = || {
        std::fs::metadata("/dev/null")
            .map(|m| (m.mode(), m.uid()))
            .unwrap()
    };
    let before = state();
    output(Image::new().sh(
        "chmod 600 /dev/null; chown 1 /dev/null; touch /dev/null; \
         for f in keys interrupts timer_list kcore; do chmod 600 /proc/$f; chown 1 /proc/$f; done 2>/dev/null; true",
    ));
    assert_eq!(state(), before);
}

#[test]
fn ipc_is_its_own() {
    if !may_run() {
        return;
    }
    let script = "for ns in ipc mnt pid uts cgroup net user; do readlink /proc/self/ns/$ns; done";
    let inside = output(Image::new().sh(script));
    for (line, namespace) in inside
        .lines()
        .zip(["ipc", "mnt", "pid", "uts", "cgroup", "net", "user"])
    {
        let ours = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        let shared = ["net", "user"].contains(&namespace);
        assert_eq!(line == ours.to_str().unwrap(), shared, "{line}");
    }
}
