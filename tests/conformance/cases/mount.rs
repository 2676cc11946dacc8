//! RUN --mount: what a step is shown, and that nothing of it is kept.

use crate::case::{Case, case};

const EMPTIED: &str = "buildah removes the mount point, and what the image has there";
const LEFT: &str = "buildah leaves directories that it made for the mount";

pub fn cases() -> Vec<Case> {
    let mut cases = binds();
    cases.extend(caches());
    cases.extend(points());
    cases.extend(secrets());
    cases
}

/// A RUN with these mounts, in a context of two files and a directory.
fn run(name: &str, run: &str) -> Case {
    case(name, &format!("FROM base\nRUN {run}\n"))
        .with("a", "a\n")
        .with("b", "b\n")
        .with("d/c", "c\n")
}

fn binds() -> Vec<Case> {
    vec![
        run(
            "bind/context",
            "--mount=type=bind,source=.,target=/m cat /m/a /m/d/c > /x",
        )
        .file("/x", "text=a\nc\n")
        .absent("/m/a"),
        run("bind/is-the-type-unless-said", "--mount=target=/m cat /m/a > /x")
            .file("/x", "text=a\n"),
        run(
            "bind/what-is-ignored-is-not-shown",
            "--mount=type=bind,source=.,target=/m ls /m > /x",
        )
        .with(".dockerignore", "b\nDockerfile\n.dockerignore\n")
        .file("/x", "text=a\nd\n").docker_says("buildah shows what is ignored"),
        run(
            "bind/directory-of-the-context",
            "--mount=type=bind,source=d,target=/m ls /m > /x",
        )
        .file("/x", "text=c\n"),
        run(
            "bind/file-of-the-context",
            "--mount=type=bind,source=a,target=/m cat /m > /x",
        )
        .file("/x", "text=a\n"),
        run(
            "bind/source-that-is-not-there",
            "--mount=type=bind,source=none,target=/m true",
        )
        .refused(&["none"]).docker_says("buildah goes on without it"),
        run(
            "bind/is-for-reading",
            "--mount=type=bind,source=.,target=/m \
             if touch /m/new; then echo written; else echo refused; fi > /x",
        )
        .file("/x", "text=refused\n"),
        case(
            "bind/what-is-written-is-not-kept",
            "FROM base\nRUN --mount=type=bind,source=d,target=/m,rw echo new > /m/c && cat /m/c > /x\n\
             COPY d /y\n",
        )
        .with("d/c", "c\n")
        .file("/x", "text=new\n")
        .file("/y/c", "text=c\n").docker_says("buildah writes into the context"),
        case(
            "bind/from-a-stage",
            "FROM base AS one\nRUN mkdir /out && echo one > /out/f && echo two > /out/g\n\
             FROM base\nRUN --mount=type=bind,from=one,source=/out,target=/m cat /m/f /m/g > /x\n",
        )
        .file("/x", "text=one\ntwo\n"),
        case(
            "bind/from-a-stage-is-the-same-for-the-next",
            "FROM base AS one\nRUN mkdir /out\n\
             FROM base\nRUN --mount=type=bind,from=one,source=/out,target=/m,rw touch /m/new\n\
             RUN --mount=type=bind,from=one,source=/out,target=/m ls /m > /x\n",
        )
        .file("/x", "size=0").docker_says("buildah writes into the stage"),
        case(
            "bind/from-an-image",
            "FROM base\nRUN --mount=type=bind,from=configured,source=/full/sub,target=/m \
             cat /m/three > /x\n",
        )
        .file("/x", "text=base three\n"),
        case(
            "bind/target-in-the-working-directory",
            "FROM base\nWORKDIR /w\nRUN --mount=type=bind,source=d,target=m ls /w/m > /x\n",
        )
        .with("d/c", "c\n")
        .file("/x", "text=c\n").docker_says("buildah takes absolute targets alone"),
        case(
            "bind/source-of-a-variable",
            "FROM base\nARG D=d\nRUN --mount=type=bind,source=$D,target=/m ls /m > /x\n",
        )
        .with("d/c", "c\n")
        .file("/x", "text=c\n"),
        case(
            "bind/of-a-heredoc",
            "FROM base\nRUN --mount=type=bind,source=d,target=/m <<EOF\ncat /m/c > /x\n\
             echo more >> /x\nEOF\n",
        )
        .with("d/c", "c\n")
        .file("/x", "text=c\nmore\n").since((1, 33), "buildah reads no heredocs before 1.33"),
        run("bind/option-unknown", "--mount=type=bind,nonsense=1,target=/m true")
            .refused(&["nonsense"]),
        run("bind/type-unknown", "--mount=type=moon,target=/m true").refused(&["moon"]),
    ]
}

fn caches() -> Vec<Case> {
    vec![
        case(
            "cache/is-there-for-the-next-step",
            "FROM base\nRUN --mount=type=cache,id=next,target=/c echo kept > /c/f\n\
             RUN --mount=type=cache,id=next,target=/other cat /other/f > /x\n",
        )
        .file("/x", "text=kept\n")
        .absent("/c/f")
        .absent("/other/f"),
        case(
            "cache/of-another-id-is-another",
            "FROM base\nRUN --mount=type=cache,id=this,target=/c touch /c/f\n\
             RUN --mount=type=cache,id=that,target=/c ls /c > /x\n",
        )
        .file("/x", "size=0"),
        case(
            "cache/id-is-the-target-unless-said",
            "FROM base\nRUN --mount=type=cache,target=/by-target touch /by-target/f\n\
             RUN --mount=type=cache,id=/by-target,target=/c ls /c > /x\n",
        )
        .file("/x", "text=f\n"),
        case(
            "cache/owner-and-mode",
            "FROM base\nRUN --mount=type=cache,target=/cached,uid=5,gid=6,mode=0750 \
             stat -c '%a %u %g' /cached > /x\n",
        )
        .file("/x", "text=750 5 6\n"),
        case(
            "cache/owner-and-mode-unless-said",
            "FROM base\nRUN --mount=type=cache,target=/plain stat -c '%a %u %g' /plain > /x\n",
        )
        .file("/x", "text=755 0 0\n"),
        case(
            "cache/begins-with-a-stage",
            "FROM base AS one\nRUN mkdir /seed && echo seed > /seed/f\nFROM base\n\
             RUN --mount=type=cache,id=seeded,target=/c,from=one,source=/seed cat /c/f > /x\n",
        )
        .file("/x", "text=seed\n"),
        case(
            "cache/hides-what-the-image-has",
            "FROM base\nRUN --mount=type=cache,id=hiding,target=/full ls /full > /x && touch /full/new\n",
        )
        .file("/x", "size=0")
        .file("/full/one", "text=base one\n")
        .absent("/full/new").ignore("/full").docker_says(EMPTIED),
        case(
            "tmpfs/is-not-kept",
            "FROM base\nRUN --mount=type=tmpfs,target=/full ls /full > /x && echo new > /full/new \
             && cat /full/new >> /x\n",
        )
        .file("/x", "text=new\n")
        .file("/full/one", "text=base one\n")
        .absent("/full/new").ignore("/full").docker_says(EMPTIED),
        case(
            "tmpfs/of-a-size",
            "FROM base\nRUN --mount=type=tmpfs,target=/t,size=1m \
             head -c 2000000 /dev/zero > /t/f || wc -c < /t/f > /x\n",
        )
        .file("/x", "text=1048576\n").docker_says("buildah knows the size as tmpfs-size alone"),
    ]
}

/// Directories that only a mount needed.
fn points() -> Vec<Case> {
    vec![
        case(
            "point/made-for-a-mount",
            "FROM base\nRUN --mount=type=tmpfs,target=/new/deep/er true\n",
        )
        .absent("/new")
        .absent("/new/deep")
        .absent("/new/deep/er")
        .docker_says(LEFT),
        case(
            "point/below-a-directory-of-the-image",
            "FROM base\nRUN --mount=type=tmpfs,target=/full/new true\n",
        )
        .absent("/full/new")
        .file("/full", "time=1000000000")
        .docker_says("buildah gives the directory above a new time"),
        case(
            "point/of-a-file",
            "FROM base\nRUN --mount=type=bind,source=a,target=/new/a true\n",
        )
        .with("a", "a\n")
        .absent("/new")
        .absent("/new/a")
        .docker_says(LEFT),
        case(
            "point/with-something-beside-it",
            "FROM base\nRUN --mount=type=tmpfs,target=/new/m echo x > /new/x\n",
        )
        .file("/new/x", "text=x\n")
        .absent("/new/m"),
        case(
            "point/that-the-image-has",
            "FROM base\nRUN mkdir -m 700 /had && chown 5:6 /had\n\
             RUN --mount=type=tmpfs,target=/had touch /had/x\n",
        )
        .file("/had", "dir mode=0700 owner=5:6")
        .absent("/had/x")
        .docker_says(EMPTIED),
    ]
}

fn secret(name: &str, run: &str) -> Case {
    case(name, &format!("FROM base\nRUN {run}\n"))
        .with("of-mine", "hidden\n")
        .options(&["--secret=id=mine,src=%CONTEXT%/of-mine"])
}

fn secrets() -> Vec<Case> {
    vec![
        secret(
            "secret/is-a-file-for-root",
            "--mount=type=secret,id=mine cd /run/secrets && wc -c < mine > /x && \
             stat -c '%a %u %g' mine >> /x",
        )
        .file("/x", "text=7\n400 0 0\n").ignore("/run/secrets"),
        secret(
            "secret/leaves-nothing",
            "--mount=type=secret,id=mine cat /run/secrets/mine > /dev/null",
        )
        .absent("/run/secrets")
        .absent("/run/secrets/mine").docker_says(LEFT),
        secret(
            "secret/target",
            "--mount=type=secret,id=mine,target=/etc/mine wc -c < /etc/mine > /x",
        )
        .file("/x", "text=7\n")
        .absent("/etc/mine"),
        secret(
            "secret/owner-and-mode",
            "--mount=type=secret,id=mine,uid=5,gid=6,mode=0440 \
             stat -c '%a %u %g' /run/secrets/mine > /x",
        )
        .file("/x", "text=440 5 6\n").ignore("/run/secrets"),
        secret(
            "secret/variable",
            "--mount=type=secret,id=mine,env=MINE echo ${#MINE} > /x && \
             test ! -e /run/secrets/mine",
        )
        .file("/x", "text=7\n").docker_says("buildah has no secrets in variables"),
        secret(
            "secret/not-given",
            "--mount=type=secret,id=other if test -e /run/secrets/other; then echo some; \
             else echo none; fi > /x",
        )
        .file("/x", "text=none\n"),
        secret(
            "secret/required-and-not-given",
            "--mount=type=secret,id=other,required true",
        )
        .refused(&["other"]),
        secret(
            "secret/of-the-next-step-is-not-there",
            "--mount=type=secret,id=mine true\nRUN if test -e /run/secrets/mine; then echo some; else echo none; fi > /x",
        )
        .file("/x", "text=none\n").ignore("/run/secrets"),
        case(
            "ssh/required-and-not-given",
            "FROM base\nRUN --mount=type=ssh,required true\n",
        )
        .refused(&["ssh"]),
        case(
            "ssh/not-given",
            "FROM base\nRUN --mount=type=ssh echo \"<$SSH_AUTH_SOCK>\" > /x\n",
        )
        .file("/x", "text=</run/buildkit/ssh_agent.0>\n").docker_says("BuildKit says where an agent would be"),
    ]
}
