//! Users and groups by name, looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! The files are read inside the image's root and nowhere else; lines that are no entries are
//! passed over, as libc does.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use super::error::StepError;
use crate::executor::User;
use crate::fsutil;

/// No password file of an image that anybody builds is larger.
const LIMIT: u64 = 16 << 20;

/// The accounts of an image.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: Vec<Account>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Debug, Clone)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    /// Reads the accounts of the image whose merged root is `root`. Missing files mean none.
    pub fn read(root: impl AsFd) -> Result<Accounts, fsutil::Error> {
        let root = root.as_fd();
        Ok(Accounts::parse(
            &read_text(root, "etc/passwd")?,
            &read_text(root, "etc/group")?,
        ))
    }

    fn parse(passwd: &str, group: &str) -> Accounts {
        let users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _) = (fields.next()?, fields.next()?);
            let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let home = fields.nth(1).unwrap_or("").to_owned();
            Some(Account {
                name: name.to_owned(),
                uid,
                gid,
                home,
            })
        });
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _) = (fields.next()?, fields.next()?);
            let gid = fields.next()?.parse().ok()?;
            let members = fields
                .next()
                .unwrap_or("")
                .split(',')
                .map(str::to_owned)
                .collect();
            Some(Group {
                name: name.to_owned(),
                gid,
                members,
            })
        });
        Accounts {
            users: users.collect(),
            groups: groups.collect(),
        }
    }

    /// Who `USER` means: `user[:group]`, each a name or a number. The empty text is root.
    ///
    /// Without a group it is the user's own, and the groups that list the user are added, as
    /// docker does; a number that the image does not know is itself, with group 0.
    pub fn user(&self, text: &str) -> Result<User, StepError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let account = self.account(user);
        let uid = match (&account, user.parse()) {
            (Some(account), _) => account.uid,
            (None, Ok(uid)) => uid,
            (None, Err(_)) => return Err(unknown("user", user, "/etc/passwd")),
        };
        match group.filter(|group| !group.is_empty()) {
            Some(group) => Ok(User {
                uid,
                gid: self.group(group)?,
                groups: Vec::new(),
            }),
            None => {
                let gid = account.map_or(0, |account| account.gid);
                let groups = account.map_or_else(Vec::new, |account| self.groups_of(&account.name));
                Ok(User { uid, gid, groups })
            }
        }
    }

    /// Whom `--chown` means: as [`Accounts::user`], but a lone number is the group too.
    pub fn owner(&self, text: &str) -> Result<(u32, u32), StepError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let resolved = self.user(text)?;
        let lone_number = group.is_none() && user.parse::<u32>().is_ok();
        Ok((
            resolved.uid,
            if lone_number {
                resolved.uid
            } else {
                resolved.gid
            },
        ))
    }

    /// The home directory of a user ID: `/` where the image knows none.
    pub fn home(&self, uid: u32) -> &str {
        let home = self
            .users
            .iter()
            .find(|account| account.uid == uid)
            .map_or("", |a| &a.home);
        if home.is_empty() { "/" } else { home }
    }

    /// A number is a number, whatever an account may be called.
    fn account(&self, user: &str) -> Option<&Account> {
        let number = user.parse::<u32>();
        self.users.iter().find(|account| match number {
            Ok(uid) => account.uid == uid,
            Err(_) => account.name == user,
        })
    }

    fn group(&self, group: &str) -> Result<u32, StepError> {
        let named = || self.groups.iter().find(|candidate| candidate.name == group);
        let gid = group.parse().ok().or_else(|| Some(named()?.gid));
        gid.ok_or_else(|| unknown("group", group, "/etc/group"))
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        self.groups
            .iter()
            .filter(|group| group.members.iter().any(|member| member == user))
            .map(|group| group.gid)
            .collect()
    }
}

fn unknown(what: &str, name: &str, file: &str) -> StepError {
    StepError::Invalid(format!(
        "the image's {file} has no {what} {name:?}; add it in an earlier step, or give a number"
    ))
}

fn read_text(root: BorrowedFd, path: &str) -> Result<String, fsutil::Error> {
    let file =
        match fsutil::open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
            Ok(file) => std::fs::File::from(file),
            Err(error)
                if matches!(
                    error.source.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
                ) =>
            {
                return Ok(String::new());
            }
            Err(error) => return Err(error),
        };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| fsutil::Error::new("read", path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:\nbroken\n",
            "root:x:0:\nwheel:x:10:root,app\nstaff:x:50:\n",
        )
    }

    #[test]
    fn a_user_comes_with_its_groups() {
        let user = accounts().user("app").unwrap();
        assert_eq!(
            user,
            User {
                uid: 1000,
                gid: 1001,
                groups: vec![10]
            }
        );
        assert_eq!(accounts().user("1000").unwrap(), user);
        assert_eq!(accounts().home(1000), "/home/app");
    }

    #[test]
    fn a_group_that_is_said_is_the_only_one() {
        assert_eq!(
            accounts().user("app:staff").unwrap(),
            User {
                uid: 1000,
                gid: 50,
                groups: vec![]
            }
        );
        assert_eq!(
            accounts().user("7:8").unwrap(),
            User {
                uid: 7,
                gid: 8,
                groups: vec![]
            }
        );
    }

    #[test]
    fn numbers_are_numbers_even_where_somebody_is_called_so() {
        let accounts = Accounts::parse("7:x:70:71::/:\n", "8:x:80:\n");
        let user = accounts.user("7:8").unwrap();
        assert_eq!((user.uid, user.gid), (7, 8));
        assert_eq!(accounts.owner("7").unwrap(), (7, 7));
    }

    #[test]
    fn unknown_numbers_are_themselves_and_unknown_names_are_errors() {
        assert_eq!(
            accounts().user("4242").unwrap(),
            User {
                uid: 4242,
                gid: 0,
                groups: vec![]
            }
        );
        assert_eq!(accounts().owner("4242").unwrap(), (4242, 4242));
        assert_eq!(accounts().owner("1000").unwrap(), (1000, 1000));
        assert_eq!(accounts().owner("app").unwrap(), (1000, 1001));
        assert!(accounts().user("nobody-knows").is_err());
        assert!(accounts().user("app:nobody-knows").is_err());
    }
}
