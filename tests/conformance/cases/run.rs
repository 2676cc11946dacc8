//! RUN: what a process does to an image, and what is not kept of it.

use serde_json::json;

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases = changes();
    cases.extend(surroundings());
    cases
}

fn changes() -> Vec<Case> {
    vec![
        case("whiteout/file-of-the-base", "FROM base\nRUN rm /full/one\n")
            .absent("/full/one")
            .file("/full/linked", "alone text=base one\n"),
        case(
            "whiteout/directory-of-the-base",
            "FROM base\nRUN rm -r /full/sub\n",
        )
        .absent("/full/sub")
        .file("/full/one", "file"),
        case(
            "whiteout/directory-made-again",
            "FROM base\nRUN rm -r /full && mkdir -m 700 /full \
             && echo new > /full/new\n",
        )
        .file("/full", "mode=0700")
        .file("/full/new", "text=new\n")
        .absent("/full/one"),
        case(
            "whiteout/directory-made-again-empty",
            "FROM base\nRUN rm -r /full && mkdir /full\n",
        )
        .file("/full", "dir")
        .absent("/full/sub"),
        case(
            "whiteout/directory-becomes-a-file",
            "FROM base\nRUN rm -r /full && echo file > /full\n",
        )
        .file("/full", "file text=file\n")
        .absent("/full/one"),
        case(
            "whiteout/file-becomes-a-directory",
            "FROM base\nRUN rm /full/one && mkdir /full/one && echo x > /full/one/x\n",
        )
        .file("/full/one/x", "text=x\n"),
        case(
            "whiteout/directory-becomes-a-link",
            "FROM base\nRUN mv /full /moved && ln -s moved /full\n",
        )
        .file("/full", "link to=moved")
        .file("/moved/sub/three", "text=base three\n"),
        case(
            "whiteout/link-becomes-a-directory",
            "FROM base\nRUN rm /var/run && mkdir /var/run && echo x > /var/run/x\n",
        )
        .file("/var/run/x", "text=x\n")
        .absent("/run/x"),
        case(
            "whiteout/made-and-removed-in-one-step",
            "FROM base\nRUN echo x > /x && rm /x\n",
        )
        .absent("/x"),
        case(
            "whiteout/made-and-removed-in-two",
            "FROM base\nRUN mkdir /d && echo x > /d/x\nRUN rm -r /d\n",
        )
        .absent("/d"),
        case(
            "whiteout/removed-and-made-again-in-three",
            "FROM base\nRUN rm -r /full\nRUN mkdir /full\n\
             RUN echo x > /full/x\n",
        )
        .absent("/full/one")
        .file("/full/x", "text=x\n"),
        case(
            "whiteout/moved-directory",
            "FROM base\nRUN mv /full /moved\n",
        )
        .absent("/full")
        .file("/moved/two", "mode=0640 owner=1000:50 time=1000000000"),
        case(
            "whiteout/then-a-copy-into-it",
            "FROM base\nRUN rm -r /full\nCOPY a /full/\n",
        )
        .with("a", "a\n")
        .absent("/full/one")
        .file("/full/a", "text=a\n"),
        case(
            "run/modes-and-owners",
            "FROM base\nRUN umask > /umask && mkdir /d && echo x > /d/x \
             && chown 5:6 /d/x && chmod 4751 /d/x && chmod 3777 /d\n",
        )
        .file("/umask", "text=0022\n")
        .file("/d", "mode=3777")
        .file("/d/x", "mode=4751 owner=5:6"),
        case(
            "run/only-a-mode-changes",
            "FROM base\nRUN chmod 600 /full/one\n",
        )
        .file("/full/one", "mode=0600"),
        case(
            "run/only-an-owner-changes",
            "FROM base\nRUN chown app:staff /full/two /full/sub\n",
        )
        .file("/full/sub", "owner=1000:50")
        .file("/full/sub/three", "owner=0:0"),
        case(
            "run/hard-links",
            "FROM base\nRUN mkdir /h && echo x > /h/a && ln /h/a /h/b \
             && ln /h/a /h/c && rm /h/a\n",
        )
        .file("/h/c", "same=/h/b"),
        case(
            "run/hard-link-to-a-file-of-the-base",
            "FROM base\nRUN ln /full/two /full/second\n",
        )
        .file("/full/second", "mode=0640 text=base two\n")
        .unlike_buildkit("its layers tear the two names apart"),
        case(
            "run/links",
            "FROM base\nRUN ln -s ../x /etc/rel && ln -s /abs /etc/abs \
             && chown -h 5:6 /etc/rel\n",
        )
        .file("/etc/rel", "link to=../x owner=5:6"),
        case(
            "run/pipes-and-devices",
            "FROM base\nRUN mkfifo -m 600 /p && mknod /null c 1 3\n",
        )
        .file("/p", "fifo mode=0600")
        .file("/null", "char")
        .docker_says("buildah's isolation lets nobody make a device"),
        case(
            "run/times-are-kept",
            "FROM base\nRUN touch -d @1234567890 /x && mkdir /d \
             && touch -d @1234567891 /d\n",
        )
        .file("/x", "time=1234567890")
        .file("/d", "time=1234567891"),
        case(
            "run/time-before-1970",
            "FROM base\nRUN touch -d '1960-01-01 00:00:00' /x\n",
        )
        .file("/x", "time=-315619200")
        .docker_says("buildah's layers know no time before 1970"),
        case(
            "run/names-that-are-strange",
            "FROM base\nRUN mkdir '/a b' \
             && touch \"/a b/$(printf 'n\\nl')\" '/a b/*' '/a b/\\x' \"/a \
             b/$(printf 'x%.0s' $(seq 1 200))\"\n",
        ),
        case(
            "run/long-paths",
            "FROM base\nRUN d=/l && for i in 1 2 3 4 5 6; do d=$d/$(printf 'y%.0s' \
             $(seq 1 60)); done && mkdir -p $d && echo x > $d/x && ln -s $d/x /link\n",
        ),
        case(
            "run/large-sparse-file",
            "FROM base\nRUN printf x > /s \
             && truncate -s 5000000 /s || printf x | tail -c 1 > /s\n",
        ),
        case("run/nothing-changes", "FROM base\nRUN true\n"),
        case(
            "run/capability-is-kept-by-a-copy-of-the-step",
            "FROM base\nRUN mv /full/capable /moved\n",
        )
        .file("/moved", "xattr=security.capability"),
        case(
            "run/writing-takes-capability-and-setuid",
            "FROM base\nRUN echo x >> /full/capable && echo x >> /full/setuid\n",
        ),
    ]
}

fn surroundings() -> Vec<Case> {
    vec![
        case(
            "run/shell-form",
            "FROM base\nRUN echo \"$0\" && X='a  b' && echo \"$X\" > /x\n",
        )
        .file("/x", "text=a  b\n"),
        case(
            "run/exec-form-has-no-shell",
            "FROM base\nENV V=v\nRUN [\"/bin/sh\", \"-c\", \"echo $0 $V > /x\", \
             \"zero\"]\n\
             RUN [\"mkdir\", \"/$V\"]\n",
        )
        .file("/x", "text=zero v\n")
        .file("/$V", "dir"),
        case(
            "run/exec-form-looks-in-path",
            "FROM base\nENV PATH=/opt:$PATH\n\
             RUN printf '#!/bin/sh\\necho mine > /x\\n' > /mine; mkdir /opt; mv \
             /mine /opt/; chmod 755 /opt/mine\n\
             RUN [\"mine\"]\n",
        )
        .file("/x", "text=mine\n"),
        case(
            "run/exec-form-of-nothing-there",
            "FROM base\nRUN [\"/not/there\"]\n",
        )
        .refused(&["/not/there"]),
        case(
            "run/json-that-is-none",
            "FROM base\nRUN ['true'] || echo shell > /x\n",
        )
        .file("/x", "text=shell\n"),
        case("run/fails", "FROM base\nRUN exit 7\n").refused(&["7"]),
        case(
            "run/fails-by-signal",
            "FROM base\nRUN sh -c 'kill -9 $$'; exit $?\n",
        )
        .refused(&[]),
        case("run/pipe-hides-a-failure", "FROM base\nRUN false | true\n"),
        case(
            "run/arguments-are-in-the-environment",
            "FROM base\nARG A=1\nARG B\nRUN echo \"$A<${B-unset}>\" > /x \
             && env | grep -c '^B=' > /y || true\n",
        )
        .options(&["--build-arg=A=given"])
        .file("/x", "text=given<unset>\n"),
        case(
            "run/environment",
            "FROM base\nENV A=1 B=\"two words\"\n\
             RUN env | grep -v -e ^HOSTNAME -e ^SHLVL -e ^PWD -e ^OLDPWD -e ^TERM \
             -e ^container -e ^OTEL -e ^TRACEPARENT | sort > /x\n",
        ),
        case(
            "run/path-where-the-image-has-none",
            "FROM scratch AS one\nCOPY --from=base / /\n\
             RUN [\"/bin/sh\", \"-c\", \"echo $PATH > /x\"]\n",
        ),
        case(
            "run/variables-are-the-shells",
            "FROM base\nARG A=arg\nRUN A=own && echo $A ${A} \"$A\" '$A' \\$A > /x\n",
        )
        .file("/x", "text=own own own $A $A\n"),
        case(
            "run/continued-lines",
            "FROM base\nRUN echo one \\\n  two \\\n\
             # comment\n\n  three > /x\n",
        )
        .file("/x", "text=one two three\n"),
        case(
            "run/hosts-and-names-are-not-kept",
            "FROM base\nRUN cat /etc/hosts /etc/resolv.conf /etc/hostname > \
             /dev/null\n",
        )
        .file("/etc/hosts", "size=0")
        .file("/etc/resolv.conf", "size=0")
        .file("/etc/hostname", "size=0"),
        case(
            "run/hosts-and-names-are-not-left-where-there-were-none",
            "FROM scratch AS one\nCOPY --from=base /bin /bin\n\
             RUN [\"/bin/busybox\", \"cat\", \"/etc/hosts\"]\n",
        )
        .absent("/dev")
        .absent("/etc")
        .absent("/etc/hosts")
        .absent("/etc/hostname")
        .absent("/etc/resolv.conf")
        .absent("/proc")
        .absent("/run")
        .absent("/sys")
        .docker_says("buildah leaves what it mounted over")
        .unlike_buildkit("it leaves /dev, /proc and /sys"),
        case(
            "run/system-directories-are-empty",
            "FROM base\nRUN test -e /proc/self && test -e /dev/null && test -e /sys\n",
        ),
        case(
            "run/dev-is-not-kept",
            "FROM base\nRUN echo x > /dev/shm/x\n",
        )
        .absent("/dev/shm"),
        case(
            "run/tmp-is-kept",
            "FROM base\nRUN echo x > /tmp/x && echo y > /run/y \
             && echo z > /var/tmp/z\n",
        )
        .file("/tmp/x", "text=x\n"),
        case(
            "run/working-directory",
            "FROM base\nWORKDIR /full\nRUN pwd > /x && ls >> /x\n",
        )
        .file("/x", "text=/full\ncapable\nlinked\none\nsetuid\nsub\ntwo\n"),
        case("run/input-is-empty", "FROM base\nRUN cat > /x\n").file("/x", "size=0"),
        case(
            "run/no-terminal",
            "FROM base\nRUN test -t 1 && echo tty > /x || echo none > /x\n",
        )
        .file("/x", "text=none\n"),
        case(
            "run/network-none",
            "FROM base\nRUN --network=none ls /sys/class/net > /x\n",
        )
        .file("/x", "text=lo\n")
        .docker_says("buildah has no RUN --network"),
        case(
            "run/network-unknown",
            "FROM base\nRUN --network=moon true\n",
        )
        .refused(&["moon"]),
        case("run/unknown-flag", "FROM base\nRUN --nonsense=1 true\n").refused(&["nonsense"]),
        case(
            "run/add-host",
            "FROM base\nRUN grep 1.2.3.4 /etc/hosts | tr -s ' \\t' ' ' > /x\n",
        )
        .options(&["--add-host=far:1.2.3.4"])
        .file("/x", "text=1.2.3.4 far\n"),
        case(
            "run/shell-is-kept",
            "FROM base\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $- > /x\n",
        )
        .config("Shell", json!(["/bin/sh", "-ec"])),
        case("run/nothing", "FROM base\nRUN\n")
            .docker_says("buildah asks the shell to run no word at all"),
        case(
            "run/background-process-ends",
            "FROM base\nRUN (sleep 100 &) && echo x > /x\n",
        )
        .file("/x", "text=x\n"),
        case(
            "run/proxies-without-arg",
            "FROM base\nRUN echo \"$http_proxy $HTTPS_PROXY\" > /x\n",
        )
        .options(&[
            "--build-arg=http_proxy=http://p:1",
            "--build-arg=HTTPS_PROXY=http://q:2",
        ])
        .file("/x", "text=http://p:1 http://q:2\n"),
    ]
}
