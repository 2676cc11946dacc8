//! Lowering of `RUN --mount`: every default said, every path absolute.
//!
//! The defaults are those of BuildKit's frontend (`dockerfile2llb`, convert_runmount.go and its
//! neighbours): a missing target is the working directory, that of a secret `/run/secrets/` and its
//! ID, that of a socket `/run/buildkit/ssh_agent.` and its place among the sockets; the ID of a
//! cache is its target as written, that of a secret the last component of its target.

use serde_json::{Value, json};

use super::{Lowering, StageState};
use crate::build::config::clean;
use crate::build::error::{Error, StepError};
use crate::build::plan::{CacheOperation, FileSource, FilesOperation, MountOperation, Origin};
use crate::dockerfile::{Instruction, Mount, MountKind, MountOwner, Run};

impl Lowering<'_> {
    /// The mounts of a RUN, expanded already.
    pub(super) fn mounts(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<Vec<MountOperation>, Error> {
        let mut sockets = 0;
        let mut mounts = Vec::with_capacity(run.mounts.len());
        for mount in &run.mounts {
            let lowered = self.mount(state, instruction, mount, sockets)?;
            sockets += usize::from(matches!(lowered, MountOperation::Ssh { .. }));
            mounts.push(lowered);
        }
        Ok(mounts)
    }

    fn mount(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        mount: &Mount,
        sockets: usize,
    ) -> Result<MountOperation, Error> {
        let read_only = mount.read_only;
        let target = || self.target(state, instruction, mount);
        Ok(match &mount.kind {
            MountKind::Bind => MountOperation::Bind {
                target: target()?,
                files: Box::new(self.mounted_files(state, instruction, mount)?),
                read_only,
            },
            MountKind::Cache { id, sharing, owner } => {
                let target = target()?;
                let given = mount.from.is_some()
                    || mount.source.as_deref().is_some_and(|s| clean(s) != "/");
                let from = match given {
                    true => Some(Box::new(self.mounted_files(state, instruction, mount)?)),
                    false => None,
                };
                let id = id.clone().filter(|id| !id.is_empty());
                MountOperation::Cache(CacheOperation {
                    id: id.unwrap_or_else(|| cache_id(mount.target.as_deref().unwrap_or("."))),
                    target,
                    sharing: *sharing,
                    from,
                    owner: *owner,
                    read_only,
                })
            }
            MountKind::Tmpfs { size } => MountOperation::Tmpfs {
                target: target()?,
                size: size.filter(|size| *size > 0),
                read_only,
            },
            MountKind::Secret {
                id,
                env,
                required,
                owner,
            } => secret(mount, id.as_deref(), env.as_deref(), *required, owner),
            MountKind::Ssh {
                id,
                required,
                owner,
            } => MountOperation::Ssh {
                id: id
                    .clone()
                    .filter(|id| !id.is_empty())
                    .unwrap_or_else(|| "default".to_owned()),
                target: match given(mount.target.as_deref()) {
                    Some(target) => clean(target),
                    None => format!("/run/buildkit/ssh_agent.{sockets}"),
                },
                required: *required,
                owner: (owner.uid.unwrap_or(0), owner.gid.unwrap_or(0)),
                mode: owner.mode.unwrap_or(0o600) & 0o777,
            },
        })
    }

    /// Where a mount appears: below the working directory if it is relative.
    fn target(
        &self,
        state: &StageState,
        instruction: &Instruction,
        mount: &Mount,
    ) -> Result<String, Error> {
        let target = state.config.resolve(mount.target.as_deref().unwrap_or(""));
        if target != "/" {
            return Ok(target);
        }
        let why = format!(
            "--mount={}: its target is the root directory; give it a target= below that",
            mount.text
        );
        Err(self.failed(
            instruction.span.line,
            &instruction.original,
            StepError::Invalid(why),
        ))
    }

    /// The path that a mount shows.
    fn mounted_files(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        mount: &Mount,
    ) -> Result<FilesOperation, Error> {
        let cache = matches!(mount.kind, MountKind::Cache { .. });
        let origin = match &mount.from {
            // A cache begins with nothing, and not with the context.
            None if cache => Origin::Nothing,
            from => self.origin(state, instruction, from.as_deref())?,
        };
        // No pattern, whatever characters it holds.
        let path = clean(mount.source.as_deref().unwrap_or("/"));
        Ok(FilesOperation {
            origin,
            sources: vec![FileSource::Path(path)],
            destination: "/".to_owned(),
            owner: None,
            mode: None,
            link: false,
            exclude: Vec::new(),
            parents: false,
            unpack: false,
            directory_only: false,
        })
    }
}

fn secret(
    mount: &Mount,
    id: Option<&str>,
    env: Option<&str>,
    required: bool,
    owner: &MountOwner,
) -> MountOperation {
    let target = given(mount.target.as_deref());
    let last = |path: &str| {
        path.rsplit('/')
            .find(|part| !part.is_empty())
            .map(str::to_owned)
    };
    let id = given(mount.source.as_deref())
        .or(given(id))
        .map(str::to_owned)
        // The parser refuses one that has neither.
        .or_else(|| last(target?))
        .unwrap_or_default();
    let file = match (target, env) {
        (Some(target), _) => Some(clean(target)),
        (None, None) => Some(format!("/run/secrets/{}", last(&id).unwrap_or_default())),
        (None, Some(_)) => None,
    };
    MountOperation::Secret {
        target: file,
        variable: env.map(|name| given(Some(name)).unwrap_or(&id).to_owned()),
        id,
        required,
        owner: (owner.uid.unwrap_or(0), owner.gid.unwrap_or(0)),
        mode: owner.mode.unwrap_or(0o400) & 0o777,
    }
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// Go's `path.Clean`, which leaves a relative path relative: that is the ID in BuildKit's caches.
fn cache_id(target: &str) -> String {
    let cleaned = clean(target);
    match target.starts_with('/') {
        true => cleaned,
        false => match cleaned.trim_start_matches('/') {
            "" => ".".to_owned(),
            relative => relative.to_owned(),
        },
    }
}

/// What of a mount goes into the cache key of its step, besides the content of what it shows: as
/// in BuildKit neither a cache's ID and sharing, nor a byte of a secret.
pub(super) fn identity(mount: &MountOperation) -> Value {
    let path = |files: &FilesOperation| Value::from(shown_path(files));
    match mount {
        MountOperation::Bind {
            target,
            files,
            read_only,
        } => json!({ "bind": target, "source": path(files), "ro": read_only }),
        MountOperation::Cache(cache) => json!({
            "cache": cache.target,
            "source": cache.from.as_deref().map(path),
            "owner": [cache.owner.uid, cache.owner.gid, cache.owner.mode],
            "ro": cache.read_only,
        }),
        MountOperation::Tmpfs {
            target,
            size,
            read_only,
        } => json!({ "tmpfs": target, "size": size, "ro": read_only }),
        MountOperation::Secret {
            id,
            target,
            variable,
            required,
            owner,
            mode,
        } => json!({
            "secret": id, "target": target, "env": variable, "required": required,
            "owner": owner, "mode": mode,
        }),
        MountOperation::Ssh {
            id,
            target,
            required,
            owner,
            mode,
        } => json!({
            "ssh": id, "target": target, "required": required, "owner": owner, "mode": mode,
        }),
    }
}

/// The path that a mount shows of its origin, absolute.
pub fn shown_path(files: &FilesOperation) -> &str {
    match files.sources.first() {
        Some(FileSource::Path(path)) => path,
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Kind, parse_instruction};

    fn lowered(mount: &str) -> MountOperation {
        let instruction = parse_instruction(&format!("RUN --mount={mount} true"), 1).unwrap();
        let Kind::Run(run) = &instruction.kind else {
            panic!("not a RUN");
        };
        let mount = &run.mounts[0];
        let MountKind::Secret {
            id,
            env,
            required,
            owner,
        } = &mount.kind
        else {
            panic!("not a secret");
        };
        secret(mount, id.as_deref(), env.as_deref(), *required, owner)
    }

    #[test]
    fn a_secret_is_named_by_its_id_or_source_or_the_end_of_its_target() {
        for (text, expected) in [
            ("id=a", ("a", Some("/run/secrets/a"), None)),
            ("id=a/b", ("a/b", Some("/run/secrets/b"), None)),
            ("source=a", ("a", Some("/run/secrets/a"), None)),
            (
                "target=/etc/key.pem",
                ("key.pem", Some("/etc/key.pem"), None),
            ),
            ("id=a,target=x", ("a", Some("/x"), None)),
            ("id=a,env=E", ("a", None, Some("E"))),
            ("id=a,env=", ("a", None, Some("a"))),
            ("id=a,env=E,target=/t", ("a", Some("/t"), Some("E"))),
        ] {
            let MountOperation::Secret {
                id,
                target,
                variable,
                ..
            } = lowered(&format!("type=secret,{text}"))
            else {
                panic!("not a secret");
            };
            let found = (id.as_str(), target.as_deref(), variable.as_deref());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_secrets_file_is_roots_to_read_unless_told_otherwise() {
        let of = |text: &str| match lowered(&format!("type=secret,id=a{text}")) {
            MountOperation::Secret { owner, mode, .. } => (owner, mode),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(""), ((0, 0), 0o400));
        assert_eq!(of(",uid=1,gid=2,mode=0440"), ((1, 2), 0o440));
    }

    #[test]
    fn a_caches_id_is_its_target_as_go_cleans_it() {
        for (target, id) in [
            ("/root/.cache/", "/root/.cache"),
            ("/a/../b//c", "/b/c"),
            ("cache/x/", "cache/x"),
            ("./x", "x"),
            ("", "."),
            (".", "."),
        ] {
            assert_eq!(cache_id(target), id, "{target:?}");
        }
    }
}
