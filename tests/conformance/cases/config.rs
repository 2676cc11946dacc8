//! What ends up in the image's configuration.

use serde_json::json;

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases = env_and_label();
    cases.extend(commands());
    cases.extend(others());
    cases.extend(triggers());
    cases
}

fn env_and_label() -> Vec<Case> {
    vec![
        case(
            "env/forms",
            "FROM base\nENV A=1 B=\"two words\" C='single $A' D=a\\ b E=\n\
             ENV F the rest of the line\nENV G=\"quoted \\\"inside\\\"\" H=x#y\n",
        )
        .config(
            "Env",
            json!([
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "A=1",
                "B=two words",
                "C=single $A",
                "D=a b",
                "E=",
                "F=the rest of the line",
                "G=quoted \"inside\"",
                "H=x#y"
            ]),
        ),
        case(
            "env/replaced-in-its-place",
            "FROM base\nENV A=1 B=2\nENV A=3\n",
        )
        .config(
            "Env",
            json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=3", "B=2"]),
        ),
        case(
            "env/of-the-base-is-replaced",
            "FROM configured\nENV A=new\n",
        )
        .config(
            "Env",
            json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=new", "B=base"]),
        )
        .docker_says("buildah moves a variable that is set again to the end"),
        case(
            "env/sees-the-environment-before-its-line",
            "FROM base\nENV abc=hello\nENV abc=bye def=$abc\n\
             ENV ghi=$abc\n",
        )
        .config(
            "Env",
            json!([
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "abc=bye",
                "def=hello",
                "ghi=bye"
            ]),
        ),
        case(
            "env/path-is-extended",
            "FROM base\nENV PATH=/opt/bin:$PATH\n",
        )
        .config(
            "Env",
            json!(["PATH=/opt/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
        ),
        case(
            "env/and-arg-by-their-order",
            "FROM base\nARG A=arg\nENV A=env\n\
             RUN echo $A > /x\nARG A=later\n\
             RUN echo $A > /y\n",
        )
        .options(&["--build-arg=A=given"])
        .file("/x", "text=env\n")
        .file("/y", "text=given\n")
        .docker_says("of ARG and ENV BuildKit takes the later, buildah always ENV"),
        case(
            "env/old-form-keeps-spaces-and-quotes",
            "FROM base\nENV A  a   b \"c d\" 'e'\n",
        ),
        case("env/without-a-value", "FROM base\nENV A\n").refused(&["ENV"]),
        case("env/mixed-forms", "FROM base\nENV A=1 B\n").refused(&["B"]),
        case("env/empty-name", "FROM base\nENV =1\n")
            .refused(&[])
            .docker_says("buildah takes an empty name"),
        case(
            "env/continued-lines",
            "FROM base\nENV A=1 \\\n  B=2 \\\n# a comment\n  C=3\n",
        ),
        case("env/equals-in-the-value", "FROM base\nENV A=b=c D==\n"),
        case(
            "label/forms",
            "FROM base\nLABEL a=1 b=\"two words\" \"c d\"=e\n\
             LABEL f g h\nLABEL org.example.x=\"a\\\n\
             b\"\n",
        )
        .config(
            "Labels",
            json!({"a": "1", "b": "two words", "c d": "e", "f": "g h", "org.example.x": "ab"}),
        ),
        case("label/empty", "FROM base\nLABEL a= b=\"\"\n")
            .config("Labels", json!({"a": "", "b": ""})),
        case("label/of-the-base", "FROM configured\nLABEL b=new c=new\n")
            .config("Labels", json!({"a": "base", "b": "new", "c": "new"})),
        case(
            "label/variables",
            "FROM base\nARG V=1\nENV W=2\nLABEL v=$V w=${W}3 x='$V' y=\\$V\n",
        )
        .config("Labels", json!({"v": "1", "w": "23", "x": "$V", "y": "$V"})),
        case(
            "label/keys-are-expanded",
            "FROM base\nARG K=key\nLABEL $K=value\n",
        ),
        case("label/option", "FROM base\nLABEL a=file b=file\n")
            .options(&["--label", "a=option", "--label", "c="])
            .config("Labels", json!({"a": "option", "b": "file", "c": ""})),
        case("label/without-a-value", "FROM base\nLABEL a\n").refused(&["LABEL"]),
        case(
            "maintainer/sets-the-author",
            "FROM base\nMAINTAINER Somebody <s@example.org>\n",
        )
        .config("author", json!("Somebody <s@example.org>")),
    ]
}

fn commands() -> Vec<Case> {
    vec![
        case("cmd/shell-form", "FROM base\nCMD echo $HOME  two\n")
            .config("Cmd", json!(["/bin/sh", "-c", "echo $HOME  two"])),
        case(
            "cmd/exec-form",
            "FROM base\nCMD [\"echo\", \"$HOME\", \"a b\"]\n",
        )
        .config("Cmd", json!(["echo", "$HOME", "a b"])),
        case("cmd/empty-list", "FROM base\nCMD []\n"),
        case("cmd/json-that-is-none", "FROM base\nCMD ['echo', 'x']\n")
            .config("Cmd", json!(["/bin/sh", "-c", "['echo', 'x']"])),
        case(
            "cmd/json-with-more-after-it",
            "FROM base\nCMD [\"echo\"] x\n",
        )
        .config("Cmd", json!(["/bin/sh", "-c", "[\"echo\"] x"]))
        .docker_says("buildah drops what comes after a JSON list"),
        case("cmd/json-of-numbers", "FROM base\nCMD [1, 2]\n").refused(&["strings"]),
        case("cmd/the-last-one-counts", "FROM base\nCMD one\nCMD two\n")
            .config("Cmd", json!(["/bin/sh", "-c", "two"])),
        case(
            "cmd/json-escapes",
            "FROM base\nCMD [\"a\\\"b\", \"c\\\\d\", \"\\u00e9\", \"t\\tt\"]\n",
        )
        .config("Cmd", json!(["a\"b", "c\\d", "é", "t\tt"])),
        case("cmd/nothing", "FROM base\nCMD\n")
            .config("Cmd", json!(["/bin/sh", "-c", ""]))
            .docker_says("buildah drops the empty argument"),
        case(
            "cmd/with-the-shell-of-shell",
            "FROM base\nSHELL [\"/bin/ash\", \"-e\", \"-c\"]\n\
             CMD echo x\nENTRYPOINT echo y\n",
        )
        .config("Cmd", json!(["/bin/ash", "-e", "-c", "echo x"]))
        .config("Entrypoint", json!(["/bin/ash", "-e", "-c", "echo y"]))
        .config("Shell", json!(["/bin/ash", "-e", "-c"]))
        .docker_says("buildah's CMD and ENTRYPOINT do not know of SHELL"),
        case(
            "cmd/with-the-shell-of-the-base",
            "FROM configured\nCMD echo x\n",
        )
        .config("Cmd", json!(["/bin/sh", "-ec", "echo x"]))
        .docker_says("buildah's CMD and ENTRYPOINT do not know of SHELL"),
        case(
            "entrypoint/resets-the-command-of-the-base",
            "FROM configured\nENTRYPOINT [\"/new\"]\n",
        )
        .config("Entrypoint", json!(["/new"]))
        .config("Cmd", json!(null)),
        case(
            "entrypoint/leaves-a-command-of-its-own",
            "FROM configured\nCMD [\"own\"]\nENTRYPOINT [\"/new\"]\n",
        )
        .config("Cmd", json!(["own"])),
        case(
            "entrypoint/of-the-base-with-a-new-command",
            "FROM configured\nCMD [\"own\"]\n",
        )
        .config("Entrypoint", json!(["/bin/echo", "entry"]))
        .config("Cmd", json!(["own"])),
        case(
            "entrypoint/empty-list-resets",
            "FROM configured\nENTRYPOINT []\n",
        )
        .config("Entrypoint", json!(null)),
        case(
            "entrypoint/empty-text-in-a-list",
            "FROM configured\nENTRYPOINT [\"\"]\n",
        ),
        case(
            "entrypoint/of-a-stage-resets-its-command",
            "FROM base AS one\nCMD [\"one\"]\n\
             FROM one\nENTRYPOINT [\"/new\"]\n",
        ),
        case(
            "entrypoint/shell-form",
            "FROM base\nENTRYPOINT exec top -b\n",
        )
        .config("Entrypoint", json!(["/bin/sh", "-c", "exec top -b"])),
        case("shell/not-json", "FROM base\nSHELL /bin/sh -c\n").refused(&["SHELL"]),
        case("shell/empty", "FROM base\nSHELL []\n").refused(&["SHELL"]),
        case(
            "shell/runs",
            "FROM base\nSHELL [\"/bin/sh\", \"-c\", \"echo \\\"$0\\\" > /x\"]\n\
             RUN hello\n",
        ),
    ]
}

fn others() -> Vec<Case> {
    vec![
        case(
            "expose/forms",
            "FROM base\nEXPOSE 80 443/TCP 53/udp 9000-9002 7/sctp\n",
        )
        .config(
            "ExposedPorts",
            json!({
                "80/tcp": {}, "443/tcp": {}, "53/udp": {}, "9000/tcp": {}, "9001/tcp": {},
                "9002/tcp": {}, "7/sctp": {}
            }),
        )
        .docker_says("buildah writes ports down as they stand"),
        case("expose/adds-to-the-base", "FROM configured\nEXPOSE 81\n")
            .config("ExposedPorts", json!({"80/tcp": {}, "81/tcp": {}})),
        case(
            "expose/variables",
            "FROM base\nARG P=8080\nEXPOSE $P/udp ${Q:-90}\n",
        )
        .config("ExposedPorts", json!({"8080/udp": {}, "90/tcp": {}})),
        case("expose/not-a-port", "FROM base\nEXPOSE http\n")
            .refused(&["http"])
            .docker_says("buildah writes ports down as they stand"),
        case("expose/too-large", "FROM base\nEXPOSE 65536\n")
            .refused(&["65536"])
            .docker_says("buildah writes ports down as they stand"),
        case("expose/unknown-protocol", "FROM base\nEXPOSE 80/http\n")
            .refused(&["80/http"])
            .docker_says("buildah writes ports down as they stand"),
        case("expose/published", "FROM base\nEXPOSE 8080:80\n")
            .config("ExposedPorts", json!({"80/tcp": {}}))
            .docker_says("buildah writes ports down as they stand"),
        case("volume/words", "FROM base\nVOLUME /a /b\n")
            .config("Volumes", json!({"/a": {}, "/b": {}}))
            .absent("/a")
            .absent("/b")
            .docker_says("buildah makes the directories of VOLUME"),
        case("volume/json", "FROM base\nVOLUME [\"/a\", \"/b c\"]\n")
            .config("Volumes", json!({"/a": {}, "/b c": {}}))
            .absent("/a")
            .absent("/b c")
            .docker_says("buildah makes the directories of VOLUME"),
        case(
            "volume/relative-and-unclean",
            "FROM base\nWORKDIR /w\nVOLUME relative /x/../y/ /z/\n",
        )
        .absent("/relative")
        .absent("/y")
        .absent("/z")
        .docker_says("buildah makes the directories of VOLUME"),
        case(
            "volume/variables",
            "FROM base\nENV D=/vol\nVOLUME $D ${D}2\n",
        )
        .config("Volumes", json!({"/vol": {}, "/vol2": {}}))
        .absent("/vol")
        .absent("/vol2")
        .docker_says("buildah makes the directories of VOLUME"),
        case("volume/nothing", "FROM base\nVOLUME\n").refused(&["VOLUME"]),
        case("volume/empty", "FROM base\nVOLUME [\"\"]\n").refused(&[]),
        case("volume/adds-to-the-base", "FROM configured\nVOLUME /more\n")
            .config("Volumes", json!({"/data/base": {}, "/more": {}}))
            .absent("/more")
            .docker_says("buildah makes the directories of VOLUME"),
        case("volume/is-not-made", "FROM base\nVOLUME /fresh\n")
            .absent("/fresh")
            .docker_says("buildah makes the directories of VOLUME"),
        case(
            "volume/changes-below-it-are-kept",
            "FROM base\nRUN mkdir /v && echo 1 > /v/before\n\
             VOLUME /v\nRUN echo 2 > /v/after && rm /v/before\n\
             COPY a /v/\n",
        )
        .with("a", "a\n")
        .file("/v/after", "text=2\n")
        .file("/v/a", "text=a\n")
        .absent("/v/before")
        .docker_says("buildah drops what is done below a VOLUME, as builders before BuildKit"),
        case(
            "volume/of-the-base-can-be-written",
            "FROM volumes\nRUN echo 2 > /data/run && mkdir /none \
             && echo 3 > /none/run\n\
             COPY a /data/copy\n",
        )
        .with("a", "a\n")
        .file("/data/run", "text=2\n")
        .file("/data/copy", "text=a\n")
        .file("/none/run", "text=3\n")
        .docker_says("buildah makes the directories of VOLUME"),
        case("stopsignal/name", "FROM base\nSTOPSIGNAL SIGUSR1\n")
            .config("StopSignal", json!("SIGUSR1")),
        case("stopsignal/number", "FROM base\nSTOPSIGNAL 9\n").config("StopSignal", json!("9")),
        case("stopsignal/short-name", "FROM base\nSTOPSIGNAL term\n")
            .config("StopSignal", json!("term")),
        case("stopsignal/real-time", "FROM base\nSTOPSIGNAL SIGRTMIN+3\n")
            .config("StopSignal", json!("SIGRTMIN+3")),
        case("stopsignal/unknown", "FROM base\nSTOPSIGNAL SIGNOTHING\n").refused(&["SIGNOTHING"]),
        case(
            "stopsignal/variable",
            "FROM base\nARG S=SIGINT\nSTOPSIGNAL $S\n",
        )
        .config("StopSignal", json!("SIGINT")),
        case(
            "healthcheck/shell",
            "FROM base\nHEALTHCHECK --interval=5m --timeout=3s \
             --start-period=1m30s --retries=3 CMD curl -f / || exit 1\n",
        ),
        case(
            "healthcheck/exec",
            "FROM base\nHEALTHCHECK CMD [\"/bin/true\", \"x\"]\n",
        ),
        case("healthcheck/none", "FROM configured\nHEALTHCHECK NONE\n")
            .config("Healthcheck", json!({"Test": ["NONE"]})),
        case("healthcheck/of-the-base", "FROM configured\nLABEL x=y\n"),
        case(
            "healthcheck/start-interval",
            "FROM base\nHEALTHCHECK --start-interval=2s --start-period=10s CMD true\n",
        )
        .config(
            "Healthcheck",
            json!({
                "Test": ["CMD-SHELL", "true"], "StartPeriod": 10_000_000_000_u64,
                "StartInterval": 2_000_000_000_u64
            }),
        )
        .docker_says("buildah does not know --start-interval"),
        case(
            "healthcheck/bad-duration",
            "FROM base\nHEALTHCHECK --interval=soon CMD true\n",
        )
        .refused(&["soon"]),
        case(
            "healthcheck/negative-retries",
            "FROM base\nHEALTHCHECK --retries=-1 CMD true\n",
        )
        .refused(&["-1"]),
        case(
            "healthcheck/unknown-type",
            "FROM base\nHEALTHCHECK TEST true\n",
        )
        .refused(&["TEST"]),
        case("config/nothing-changed", "FROM configured\n"),
        case(
            "config/everything-of-a-base-and-a-run",
            "FROM configured\nUSER root\nRUN echo x > /x\n",
        ),
        case("config/architecture-and-system", "FROM base\nLABEL a=b\n")
            .config("os", json!("linux")),
    ]
}

fn triggers() -> Vec<Case> {
    vec![
        case(
            "onbuild/is-written-down",
            "FROM base\nONBUILD RUN echo  $X   y\n\
             ONBUILD COPY . /src\nonbuild env A=b\n",
        )
        .absent("/src"),
        case(
            "onbuild/runs-in-the-next-build",
            "FROM triggers\nRUN cat /triggered > /seen\n",
        )
        .with("one", "1\n")
        .options(&["--build-arg=WHO=option"])
        .file("/triggered", "text=option\n")
        .file("/by/trigger/one", "text=1\n")
        .config("OnBuild", json!(null))
        .config("WorkingDir", json!("/by/trigger")),
        case("onbuild/arguments-have-their-defaults", "FROM triggers\n")
            .with("one", "1\n")
            .file("/triggered", "text=base\n"),
        case("onbuild/fails-where-it-stands", "FROM triggers\n").refused(&["one"]),
        case(
            "onbuild/runs-once",
            "FROM triggers AS one\nFROM one\nRUN cat /triggered > /seen\n",
        )
        .with("one", "1\n"),
        case(
            "onbuild/of-a-stage",
            "FROM base AS one\nONBUILD RUN echo stage > /triggered\n\
             FROM one\nRUN echo after >> /triggered\n",
        )
        .file("/triggered", "text=stage\nafter\n"),
        case(
            "onbuild/of-onbuild",
            "FROM base\nONBUILD ONBUILD RUN true\n",
        )
        .refused(&["ONBUILD"]),
        case("onbuild/of-from", "FROM base\nONBUILD FROM base\n").refused(&["FROM"]),
        case(
            "onbuild/of-maintainer",
            "FROM base\nONBUILD MAINTAINER me\n",
        )
        .refused(&["MAINTAINER"]),
        case("onbuild/nothing", "FROM base\nONBUILD\n").refused(&["ONBUILD"]),
        case("onbuild/of-nonsense", "FROM base\nONBUILD NONSENSE x\n")
            .refused(&["NONSENSE"])
            .we_say("the mistake is told where it stands, not to those who build on it"),
    ]
}
