//! `RUN --mount=type=secret` and `type=ssh`: a step has them, and nothing else ever does.

use std::fs;
use std::path::Path;

use super::mounts::members;
use crate::support::{Context, Rstore};

/// The files below a directory in which these bytes are, layers unpacked.
fn holding_bytes(root: &Path, bytes: &[u8]) -> Vec<String> {
    let has = |text: &[u8]| text.windows(bytes.len()).any(|window| window == bytes);
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.expect("a store");
        let name = entry.path().display().to_string();
        if has(name.as_bytes()) {
            found.push(name.clone());
        }
        if !entry.file_type().is_file() {
            continue;
        }
        let content = fs::read(entry.path()).expect("a file");
        let unpacked = match name.contains("blobs/sha256") {
            true => crate::support::decompressed(&content),
            false => Vec::new(),
        };
        if has(&content) || has(&unpacked) {
            found.push(name);
        }
    }
    found
}

/// An agent that answers a request for identities with a comment, and nothing else.
fn agent(directory: &Path, comment: &str) -> std::path::PathBuf {
    use std::io::{Read, Write};
    let path = directory.join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let comment = comment.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 5];
            while stream.read_exact(&mut request).is_ok() {
                let mut answer = vec![12];
                answer.extend(comment.as_bytes());
                let length = (answer.len() as u32).to_be_bytes();
                let _ = stream.write_all(&[&length[..], &answer].concat());
            }
        }
    });
    path
}

#[test]
fn no_file_of_the_store_has_a_byte_of_a_secret() {
    let store = Rstore::with_base();
    let mark = |what: &str| format!("{what}-{}-cc7d31e05a", std::process::id());
    let (in_file, in_variable, of_agent) = (mark("file"), mark("variable"), mark("agent"));
    let outside = crate::support::scratch();
    let path = outside.path().join("token.txt");
    fs::write(&path, &in_file).expect("a file");
    let socket = agent(outside.path(), &of_agent);
    let context = Context::new(
        "FROM base\n\
         RUN --mount=type=secret,id=token --mount=type=secret,id=V,env=TOKEN --mount=type=ssh,required \
             wc -c < /run/secrets/token && test -n \"$TOKEN\" && \
             test -S $SSH_AUTH_SOCK && ls /run/secrets /run/buildkit && echo done > /done\n\
         RUN --mount=type=secret,id=token,target=/t --mount=type=secret,id=V,env=TOKEN exit 3\n",
    );
    let source = format!("id=token,src={}", path.display());
    let ssh = format!("default={}", socket.display());
    let mut command = store.command();
    command
        .args([
            "build",
            "--progress",
            "classic",
            "--rm=false",
            "-t",
            "app",
            "--secret",
            &source,
        ])
        .args(["--secret", "id=V,env=PASSWORD", "--ssh", &ssh])
        .arg(context.path())
        .env("PASSWORD", &in_variable);
    let output = command.output().expect("rstore runs");
    let failed = crate::support::Finished::new(&command, &output).fails(3, &["Dockerfile:3"]);
    assert!(failed.stderr.contains("ssh_agent.0"), "{failed}");
    assert!(
        failed.stderr.contains(&format!("\n{}\n", in_file.len())),
        "{failed}"
    );
    // What is being kept of the failed step is looked at too.
    assert!(!store.ok(["ps", "-q"]).trim().is_empty());
    for secret in [&in_file, &in_variable, &of_agent] {
        let found = holding_bytes(store.root(), secret.as_bytes());
        assert_eq!(found, Vec::<String>::new());
        assert!(!failed.all().contains(secret.as_str()), "{failed}");
    }
    // The same walk finds what is there.
    assert!(!holding_bytes(store.root(), b"--mount=type=secret,id=token").is_empty());
    // Another secret is no other step.
    context.file(
        "Dockerfile",
        "FROM base\nRUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /n\n",
    );
    store.build(context.path(), &["-t", "app", "--secret", &source]);
    fs::write(&path, "another").expect("a file");
    let again = store.build(context.path(), &["-t", "app", "--secret", &source]);
    assert_eq!(again.ran(), 0, "{again}");
    assert_eq!(members(&store, "app:latest"), ["n"]);
}

#[test]
fn secrets_have_names_owners_and_modes_and_those_not_given_are_not_there() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nWORKDIR /w\n\
         RUN --mount=type=secret,id=a stat -c 'a %u:%g %a' /run/secrets/a && ! echo x > /run/secrets/a\n\
         RUN --mount=type=secret,id=a,target=/etc/x/y,mode=0444,uid=3,gid=4 stat -c 'y %u:%g %a' /etc/x/y\n\
         RUN --mount=type=secret,target=/deep/a stat -c %s /deep/a\n\
         RUN --mount=type=secret,source=a cat /run/secrets/a > /dev/null\n\
         RUN --mount=type=secret,id=a,env=X,target=/both test \"$X\" = \"$(cat /both)\" && echo both\n\
         RUN --mount=type=secret,id=a,env=ONLY test -n \"$ONLY\" && ! test -e /run/secrets/a && echo only\n\
         RUN --mount=type=secret,id=none --mount=type=secret,id=none,env=NONE \
             --mount=type=ssh ! test -e /run/secrets/none && test -z \"${NONE+x}\" && echo none\n",
    );
    context.file("a.txt", "12345");
    let source = format!("id=a,src={}", context.path().join("a.txt").display());
    let told = store.build(context.path(), &["--secret", &source]).stderr;
    for line in ["a 0:0 400", "y 3:4 444", "5", "both", "only", "none"] {
        assert!(
            told.lines().any(|told| told.trim() == line),
            "{line}: {told}"
        );
    }
}

#[test]
fn what_is_required_and_not_given_or_cannot_be_read_is_told() {
    let store = Rstore::with_base();
    let context =
        Context::new("FROM base\nRUN --mount=type=secret,id=tok,required cat /run/secrets/tok\n");
    let failed = store.try_build(context.path(), &[]);
    failed.fails(1, &["Dockerfile:2", "\"tok\"", "--secret id=tok"]);
    let none = store.try_build(context.path(), &["--secret", "id=tok,src=/no/such"]);
    none.fails(1, &["\"tok\"", "/no/such"]);
    store
        .try_build(context.path(), &["--secret", "tok"])
        .fails(2, &["KEY=VALUE"]);
    let context = Context::new("FROM base\n\nRUN --mount=type=ssh,id=git,required true\n");
    store
        .try_build(context.path(), &[])
        .fails(1, &["Dockerfile:3", "\"git\"", "--ssh git"]);
    let key = context.file("key", "PRIVATE");
    let key = format!("git={}", key.display());
    store
        .try_build(context.path(), &["--ssh", &key])
        .fails(1, &["no socket", "ssh-add"]);
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_agent_is_where_it_was_asked_for_with_the_owner_asked_for() {
    let store = Rstore::with_base();
    let outside = crate::support::scratch();
    let socket = agent(outside.path(), "a comment");
    let context = Context::new(
        "FROM base\n\
         RUN --mount=type=ssh --mount=type=ssh,id=two,target=/two,uid=1000,gid=9,mode=0660 \
             stat -c '%n %u:%g %a' /run/buildkit/ssh_agent.0 /two && echo auth=$SSH_AUTH_SOCK\n\
         USER app\nRUN --mount=type=ssh,uid=1000 test -w $SSH_AUTH_SOCK && echo mine\n",
    );
    let ssh = |id: &str| format!("{id}={}", socket.display());
    let built = store.build(
        context.path(),
        &["-t", "app", "--ssh", &ssh("default"), "--ssh", &ssh("two")],
    );
    for line in [
        "/run/buildkit/ssh_agent.0 0:0 600",
        "/two 1000:9 660",
        "auth=/run/buildkit/ssh_agent.0",
        "mine",
    ] {
        assert!(
            built.stderr.lines().any(|told| told.trim() == line),
            "{line}: {built}"
        );
    }
    assert_eq!(members(&store, "app:latest"), Vec::<String>::new());
}
