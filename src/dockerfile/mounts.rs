//! `RUN --mount=…` and `RUN --device=…`: comma-separated options, typed.
//!
//! A mount is read twice. While the file is parsed, an option that holds a variable stays open
//! ([`Mount::resolved`] is false); `Instruction::expand` reads the text again with the variables'
//! values. Options may come in any order; of one given twice, the last counts.

use super::error::{MountProblem, nearest};
use super::quantity::{size, truth};
use super::words::csv_fields;
use super::{Device, Mount, MountKind, MountOwner, Sharing};

/// Expands the value of an option.
pub(super) type ExpandValue<'a> = &'a mut dyn FnMut(&str) -> Result<String, MountProblem>;

const OPTIONS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// The options of one mount, not yet held against its type.
#[derive(Default)]
struct MountOptions {
    mount_type: Option<&'static str>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Option<Sharing>,
    required: Option<bool>,
    size: Option<u64>,
    owner: MountOwner,
    env: Option<String>,
}

/// Reads the value of `--mount`. Without `expand`, options with variables stay open.
pub(super) fn parse_mount(
    text: &str,
    mut expand: Option<ExpandValue<'_>>,
) -> Result<Mount, MountProblem> {
    let mut options = MountOptions::default();
    let mut resolved = true;
    for field in csv_fields(text).ok_or(MountProblem::BadQuotes)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value.to_owned())),
            None => (field.to_lowercase(), None),
        };
        if !OPTIONS.contains(&key.as_str()) {
            let nearest = nearest(&key, OPTIONS);
            return Err(MountProblem::UnknownOption { key, nearest });
        }
        let value = match (&value, &mut expand) {
            // An escape or a quote is taken off by expansion as well.
            (Some(value), Some(expand)) => Some(expand(value)?),
            (Some(value), None) if key == "from" => {
                if value.find('$').is_some_and(|index| index + 1 < value.len()) {
                    return Err(MountProblem::VariableInFrom {
                        value: value.clone(),
                    });
                }
                Some(value.clone())
            }
            (Some(value), None) if value.contains(['$', '\\', '`', '"', '\'']) => {
                resolved = false;
                continue;
            }
            _ => value,
        };
        options.set(key, value)?;
    }
    options.into_mount(text, resolved)
}

impl MountOptions {
    fn set(&mut self, key: String, value: Option<String>) -> Result<(), MountProblem> {
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => self.read_only = Some(true),
                "readwrite" | "rw" => self.read_only = Some(false),
                "required" => self.required = Some(true),
                _ => return Err(MountProblem::NoValue { key }),
            }
            return Ok(());
        };
        let bad = |expected| {
            let (key, value) = (key.clone(), value.clone());
            move || MountProblem::BadValue {
                key,
                value,
                expected,
            }
        };
        let number = |radix| {
            u32::from_str_radix(&value, radix)
                .ok()
                .filter(|_| !value.starts_with('+'))
        };
        match key.as_str() {
            "type" => {
                let lower = value.to_lowercase();
                let known = TYPES.into_iter().find(|name| *name == lower);
                self.mount_type =
                    Some(known.ok_or_else(bad("it is bind, cache, tmpfs, secret or ssh"))?);
            }
            "from" => self.from = Some(value),
            "source" | "src" => self.source = Some(value),
            "target" | "dst" | "destination" => self.target = Some(value),
            "readonly" | "ro" => {
                self.read_only = Some(truth(&value).ok_or_else(bad(TRUE_OR_FALSE))?);
            }
            "readwrite" | "rw" => {
                self.read_only = Some(!truth(&value).ok_or_else(bad(TRUE_OR_FALSE))?);
            }
            "required" => self.required = Some(truth(&value).ok_or_else(bad(TRUE_OR_FALSE))?),
            "id" => self.id = Some(value),
            "sharing" => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(bad("it is shared, private or locked")()),
                });
            }
            "size" => self.size = Some(size(&value).ok_or_else(bad("it is a size such as 64m"))?),
            "mode" => {
                self.owner.mode = Some(number(8).ok_or_else(bad("it is octal, such as 0755"))?);
            }
            "uid" => self.owner.uid = Some(number(10).ok_or_else(bad(NUMBER))?),
            "gid" => self.owner.gid = Some(number(10).ok_or_else(bad(NUMBER))?),
            _ => self.env = Some(value),
        }
        Ok(())
    }

    /// Holds the options against the type. An unresolved type might be any.
    fn into_mount(self, text: &str, resolved: bool) -> Result<Mount, MountProblem> {
        let mount_type = self.mount_type.unwrap_or("bind");
        if resolved {
            self.check(mount_type)?;
        }
        let writable_by_nature = matches!(mount_type, "cache" | "tmpfs");
        let MountOptions { id, owner, env, .. } = self;
        let required = self.required.unwrap_or(false);
        let kind = match mount_type {
            "cache" => MountKind::Cache {
                id,
                sharing: self.sharing.unwrap_or_default(),
                owner,
            },
            "tmpfs" => MountKind::Tmpfs { size: self.size },
            "secret" => MountKind::Secret {
                id,
                env,
                required,
                owner,
            },
            "ssh" => MountKind::Ssh {
                id,
                required,
                owner,
            },
            _ => MountKind::Bind,
        };
        Ok(Mount {
            text: text.to_owned(),
            resolved,
            from: self.from.filter(|from| !from.is_empty()),
            source: self.source,
            target: self.target,
            read_only: self.read_only.unwrap_or(!writable_by_nature),
            kind,
        })
    }

    fn check(&self, mount_type: &'static str) -> Result<(), MountProblem> {
        let owner = &self.owner;
        let (secret, ssh) = (mount_type == "secret", mount_type == "ssh");
        let owned = secret || ssh || mount_type == "cache";
        let rules = [
            ("mode", owner.mode.is_some(), owned),
            ("uid", owner.uid.is_some(), owned),
            ("gid", owner.gid.is_some(), owned),
            ("required", self.required.is_some(), secret || ssh),
            ("size", self.size.is_some(), mount_type == "tmpfs"),
            ("sharing", self.sharing.is_some(), mount_type == "cache"),
            (
                "from",
                self.from.as_ref().is_some_and(|from| !from.is_empty()),
                !secret,
            ),
            (
                "source",
                self.source
                    .as_ref()
                    .is_some_and(|source| !source.is_empty()),
                !ssh,
            ),
        ];
        if let Some((key, ..)) = rules.iter().find(|(_, given, allowed)| *given && !allowed) {
            return Err(MountProblem::NotForType { key, mount_type });
        }
        let given = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
        if secret && !given(&self.id) && !given(&self.source) && !given(&self.target) {
            return Err(MountProblem::UnnamedSecret);
        }
        if secret && given(&self.id) && given(&self.source) {
            return Err(MountProblem::SecretIdAndSource);
        }
        Ok(())
    }
}

const TRUE_OR_FALSE: &str = "it is true or false";
const NUMBER: &str = "it is a number";

/// Reads the value of `--device`. The error is what is wrong with it.
pub(super) fn parse_device(text: &str) -> Result<Device, &'static str> {
    let mut device = Device {
        name: String::new(),
        required: false,
    };
    for field in csv_fields(text).ok_or("a quote does not end, or stands inside a value")? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required = truth(value).ok_or("required is true or false")?;
            }
            ("name", Some(value)) if device.name.is_empty() => value.clone_into(&mut device.name),
            ("name", Some(_)) => return Err("it has two names"),
            // A CDI name such as vendor.com/class=name may stand there bare.
            _ if device.name.is_empty() => device.name = field,
            _ => return Err("it takes name= and required"),
        }
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse_mount(text, None).unwrap_err().to_string()
    }

    #[test]
    fn a_bare_mount_is_a_read_only_bind() {
        let mount = parse_mount("target=/x", None).unwrap();
        assert_eq!(
            (mount.kind, mount.read_only, mount.resolved),
            (MountKind::Bind, true, true)
        );
    }

    #[test]
    fn caches_and_tmpfs_are_writable_unless_told_otherwise() {
        assert!(!parse_mount("type=cache,target=/x", None).unwrap().read_only);
        assert!(!parse_mount("type=tmpfs,target=/x", None).unwrap().read_only);
        assert!(
            parse_mount("type=cache,target=/x,ro", None)
                .unwrap()
                .read_only
        );
        assert!(!parse_mount("target=/x,rw", None).unwrap().read_only);
        assert!(parse_mount("target=/x,rw=false", None).unwrap().read_only);
    }

    #[test]
    fn a_mount_with_a_variable_is_read_again_with_its_value() {
        let text = "type=cache,target=$HOME/x,uid=$U,from=stage";
        let open = parse_mount(text, None).unwrap();
        assert_eq!(
            (open.resolved, open.from.as_deref()),
            (false, Some("stage"))
        );
        let mut expand = |value: &str| Ok(value.replace("$HOME", "/root").replace("$U", "7"));
        let mount = parse_mount(text, Some(&mut expand)).unwrap();
        assert!(mount.resolved);
        assert_eq!(mount.target.as_deref(), Some("/root/x"));
        let owner = MountOwner {
            uid: Some(7),
            ..MountOwner::default()
        };
        let cache = MountKind::Cache {
            id: None,
            sharing: Sharing::Shared,
            owner,
        };
        assert_eq!(mount.kind, cache);
    }

    #[test]
    fn options_come_in_any_order() {
        let mount = parse_mount("required,mode=0400,id=x,type=secret", None).unwrap();
        let owner = MountOwner {
            mode: Some(0o400),
            ..MountOwner::default()
        };
        let secret = MountKind::Secret {
            id: Some("x".into()),
            env: None,
            required: true,
            owner,
        };
        assert_eq!(mount.kind, secret);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, message) in [
            ("type=bnd", "\"bnd\" is not a value for type"),
            ("tpye=bind", "unknown option tpye; did you mean type?"),
            ("type=bind,target", "option target needs a value"),
            (
                "type=bind,mode=0755",
                "option mode does not go with type=bind",
            ),
            (
                "type=cache,required",
                "option required does not go with type=cache",
            ),
            ("type=secret", "a secret needs"),
            ("type=secret,id=a,source=b", "not both"),
            (
                "type=secret,from=a,id=b",
                "option from does not go with type=secret",
            ),
            (
                "type=ssh,source=a",
                "option source does not go with type=ssh",
            ),
            ("type=cache,sharing=some", "shared, private or locked"),
            ("type=tmpfs,size=1x", "a size such as 64m"),
            ("type=cache,uid=root", "it is a number"),
            ("type=cache,mode=999", "octal"),
            ("from=$x", "does not expand variables"),
            ("target=\"a\"", "a quote"),
            ("", "unknown option"),
        ] {
            assert!(problem(text).contains(message), "{text}: {}", problem(text));
        }
    }
}
