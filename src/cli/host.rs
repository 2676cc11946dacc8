//! What the store asks of its surroundings: the time, chance, the boot, the owners.

use std::sync::{Arc, OnceLock};

use super::render::text;
use crate::catalog::Millis;
use crate::catalog::journal::Actor;
use crate::executor::userns;
use crate::store::Host;

/// This machine, seen from this process. What does not change is read when it is first asked for,
/// which is to be after a user namespace was entered; most commands that only look never do.
#[derive(Debug)]
pub struct Machine {
    boot: OnceLock<String>,
    owners: OnceLock<String>,
}

impl Machine {
    /// Nothing is read yet.
    pub fn new() -> Machine {
        Machine {
            boot: OnceLock::new(),
            owners: OnceLock::new(),
        }
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}

/// This machine, one for all who ask: some commands open a store and a registry.
pub fn machine() -> Arc<Machine> {
    static MACHINE: OnceLock<Arc<Machine>> = OnceLock::new();
    MACHINE.get_or_init(|| Arc::new(Machine::new())).clone()
}

/// Milliseconds since the epoch.
pub fn now() -> Millis {
    chrono::Utc::now().timestamp_millis()
}

impl Host for Machine {
    fn now(&self) -> Millis {
        now()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            ) {
                Ok(more) => filled += more,
                Err(rustix::io::Errno::INTR) => {}
                // The kernel has had getrandom since 3.17, and refuses it to no one but a sandbox.
                Err(error) => panic!("getrandom: {error}"),
            }
        }
        bytes
    }

    fn boot(&self) -> &str {
        // Where the kernel names no boot, every process is one of its own: nothing that wasn't
        // fsynced is trusted by the next.
        let read = || {
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_else(|_| format!("unknown-{}-{}", std::process::id(), now()))
        };
        self.boot.get_or_init(read)
    }

    fn owners(&self) -> &str {
        let read = || userns::current_mapping().as_str().to_owned();
        self.owners.get_or_init(read)
    }

    fn actor(&self) -> Actor {
        actor()
    }
}

/// Who acts, and how he said what is to be done.
pub fn actor() -> Actor {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    Actor {
        uid: outer_uid(),
        command: command_line(words),
    }
}

/// The user as those know him who are outside of our user namespace.
fn outer_uid() -> Option<u32> {
    let uid = rustix::process::getuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map_out(&map, uid).or(Some(uid))
}

/// Lines of `INSIDE OUTSIDE COUNT` (user_namespaces(7)).
fn map_out(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let (inside, outside, count) = (inside.ok()?, outside.ok()?, count.ok()?);
        let within = uid.checked_sub(inside)?;
        (within < count).then(|| outside.checked_add(within))?
    })
}

/// Words that take a word after them which may be a secret.
const SECRET: &[&str] = &["--build-arg", "--password", "-p"];

/// A command line as the journal keeps it: without the values of build arguments, passwords, and
/// what stands before the `@` of a URL.
fn command_line(words: impl Iterator<Item = String>) -> String {
    let mut line: Vec<String> = vec!["rstore".to_owned()];
    let mut secret = false;
    for word in words.skip(1) {
        let flag = word
            .split_once('=')
            .filter(|(flag, _)| SECRET.contains(flag));
        let shown = match (std::mem::take(&mut secret), flag) {
            (true, _) => hidden(&word),
            (false, Some((flag, value))) => format!("{flag}={}", hidden(value)),
            (false, None) => without_user(&word),
        };
        secret = SECRET.contains(&word.as_str());
        line.push(
            match shown.is_empty() || shown.contains(char::is_whitespace) {
                true => format!("{shown:?}"),
                false => shown,
            },
        );
    }
    text::shorten(&text::clean(&line.join(" ")), 1_000)
}

/// `NAME=…` of `NAME=VALUE`; a name alone takes its value from the environment, a password is none.
fn hidden(value: &str) -> String {
    match value.split_once('=') {
        Some((name, _)) => format!("{name}=…"),
        None => "…".to_owned(),
    }
}

fn without_user(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_kept_without_what_is_secret_in_it() {
        let line = |words: &str| command_line(words.split('|').map(str::to_owned));
        assert_eq!(
            line(
                "/usr/bin/rstore|build|--build-arg|TOKEN=x|--build-arg=A=b|-t|app|https://me:pw@host/x.git"
            ),
            "rstore build --build-arg TOKEN=… --build-arg=A=… -t app https://…@host/x.git"
        );
        assert_eq!(line("rstore|login|-p|geheim|reg"), "rstore login -p … reg");
        assert_eq!(
            line("rstore|import|-m|two words||"),
            "rstore import -m \"two words\" \"\" \"\""
        );
    }

    #[test]
    fn a_user_is_known_by_the_number_outside_of_the_namespace() {
        assert_eq!(map_out("0 1000 1\n1 100000 65536\n", 0), Some(1000));
        assert_eq!(map_out("0 1000 1\n1 100000 65536\n", 5), Some(100_004));
        assert_eq!(map_out("0 0 4294967295\n", 7), Some(7));
        assert_eq!(map_out("", 7), None);
    }

    #[test]
    fn nobody_draws_the_same_twice() {
        let machine = Machine::new();
        assert_ne!(machine.random(), machine.random());
        assert!(!machine.boot().is_empty());
    }
}
