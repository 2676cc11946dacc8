//! Variables: forms, places, scopes.

use serde_json::json;

use crate::case::{Case, case};

/// One expansion, seen through ENV.
fn form(name: &str, word: &'static str, value: &str) -> Case {
    let dockerfile = format!(
        "FROM base\nARG EMPTY=\nARG P=/usr/local/lib/lib.tar.gz\n\
             ARG V=value\nENV X={word}\n"
    );
    case(name, &dockerfile).config(
        "Env",
        json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", format!("X={value}")]),
    )
}

fn refused(name: &str, word: &str, says: &'static str) -> Case {
    let dockerfile = format!("FROM base\nARG EMPTY=\nARG V=value\nENV X={word}\n");
    case(name, &dockerfile).refused(&[says])
}

pub fn cases() -> Vec<Case> {
    let mut cases = forms();
    cases.extend(places());
    cases.extend(scopes());
    cases
}

fn forms() -> Vec<Case> {
    vec![
        form("expand/plain", "$V-${V}", "value-value"),
        form("expand/unset", "a$UNSET-b${UNSET}", "a-b"),
        form("expand/default", "${UNSET:-d}${EMPTY:-e}${V:-f}", "devalue"),
        form(
            "expand/default-if-unset",
            "${UNSET-d}${EMPTY-e}${V-f}",
            "dvalue",
        )
        .docker_says("buildah expands only the forms with a colon"),
        form("expand/alternative", "${UNSET:+d}${EMPTY:+e}${V:+f}", "f"),
        form(
            "expand/alternative-if-set",
            "${UNSET+d}${EMPTY+e}${V+f}",
            "ef",
        )
        .docker_says("buildah expands only the forms with a colon"),
        form("expand/nested-default", "${UNSET:-${EMPTY:-$V}}", "value"),
        form(
            "expand/default-with-spaces",
            "\"${UNSET:-two words}\"",
            "two words",
        ),
        refused(
            "expand/required-and-unset",
            "\"${UNSET:?is needed}\"",
            "is needed",
        ),
        refused(
            "expand/required-and-empty",
            "\"${EMPTY:?is needed}\"",
            "is needed",
        ),
        form(
            "expand/required-and-set",
            "\"${V:?is needed}${EMPTY?is needed}\"",
            "value",
        )
        .docker_says("buildah expands only the forms with a colon"),
        form("expand/prefix", "${P#*/}", "usr/local/lib/lib.tar.gz")
            .docker_says("buildah expands only the forms with a colon"),
        form("expand/longest-prefix", "${P##*/}", "lib.tar.gz")
            .docker_says("buildah expands only the forms with a colon"),
        form("expand/suffix", "${P%.*}", "/usr/local/lib/lib.tar")
            .docker_says("buildah expands only the forms with a colon"),
        form("expand/longest-suffix", "${P%%.*}", "/usr/local/lib/lib")
            .docker_says("buildah expands only the forms with a colon"),
        form(
            "expand/replace-first",
            "${P/lib/x}",
            "/usr/local/x/lib.tar.gz",
        )
        .docker_says("buildah expands only the forms with a colon"),
        form("expand/replace-all", "${P//lib/x}", "/usr/local/x/x.tar.gz")
            .docker_says("buildah expands only the forms with a colon"),
        form(
            "expand/replace-by-nothing",
            "${P//lib/}",
            "/usr/local//.tar.gz",
        )
        .docker_says("buildah expands only the forms with a colon"),
        form(
            "expand/replace-a-pattern",
            "${P//l?/-}",
            "/usr/-ca--b/-b.tar.gz",
        )
        .docker_says("buildah expands only the forms with a colon"),
        form("expand/single-quotes", "'$V'", "$V"),
        form("expand/double-quotes", "\"$V  x\"", "value  x"),
        form("expand/escaped", "\\$V\\${V}", "$V${V}"),
        form("expand/escaped-in-quotes", "\"\\$V \\\"\"", "$V \""),
        form("expand/mixed-quotes", "a\"b $V\"'c $V'd", "ab valuec $Vd"),
        form(
            "expand/name-ends-at-a-mark",
            "$V.x$V-y$V_z",
            "value.xvalue-y",
        ),
        form("expand/dollar-alone", "a$", "a$"),
        form("expand/number", "$1x", "x"),
        refused("expand/no-brace", "${V", ""),
        refused("expand/bad-modifier", "${V:x}", ""),
        refused("expand/empty-name", "${}", "").docker_says("buildah expands ${} to nothing"),
    ]
}

fn places() -> Vec<Case> {
    vec![
        case(
            "expand/everywhere-it-is",
            "FROM base\nARG V=v\nENV E=$V\nLABEL l=$V\n\
             EXPOSE ${P:-80}\nVOLUME /$V\nWORKDIR /w/$V\n\
             USER $V\nSTOPSIGNAL ${S:-SIGINT}\n\
             ADD $V.txt /add-$V\nCOPY $V.txt /copy-$V\n",
        )
        .with("v.txt", "v\n")
        .file("/add-v", "text=v\n")
        .file("/copy-v", "text=v\n"),
        case(
            "expand/not-in-commands",
            "FROM base\nARG V=v\nCMD echo $V\n\
             ENTRYPOINT [\"$V\"]\nHEALTHCHECK CMD echo $V\n",
        )
        .config("Cmd", json!(["/bin/sh", "-c", "echo $V"]))
        .config("Entrypoint", json!(["$V"])),
        case(
            "expand/not-in-onbuild",
            "FROM base\nARG V=v\nONBUILD ENV A=$V\n",
        )
        .config("OnBuild", json!(["ENV A=$V"])),
        case(
            "expand/not-in-shell",
            "FROM base\nARG V=v\nSHELL [\"/bin/sh\", \"-c\", \"$V\"]\n",
        ),
        case(
            "expand/not-in-maintainer",
            "FROM base\nARG V=v\nMAINTAINER $V\n",
        )
        .config("author", json!("$V")),
        case(
            "expand/in-arg",
            "FROM base\nARG A=1\nARG B=${A}2 C=$A\nRUN echo $B $C > /x\n",
        ),
        case(
            "expand/words-do-not-split",
            "FROM base\nARG V=\"a b\"\nCOPY $V /x\nVOLUME /$V\n",
        )
        .with("a b", "ab\n")
        .file("/x", "text=ab\n")
        .absent("/a b")
        .docker_says("buildah makes the directories of VOLUME"),
        case(
            "expand/expose-splits",
            "FROM base\nARG P=\"80 81\"\nEXPOSE $P\n",
        ),
        case(
            "expand/labels-keep-quotes",
            "FROM base\nARG V='a \"b\"'\nLABEL l=$V m=\"$V\"\n",
        ),
        case(
            "expand/in-json-forms",
            "FROM base\nARG V=v\nCOPY [\"$V.txt\", \"/x\"]\n\
             VOLUME [\"/$V\"]\n",
        )
        .with("v.txt", "v\n")
        .file("/x", "text=v\n")
        .absent("/v")
        .docker_says("buildah makes the directories of VOLUME"),
        case(
            "expand/in-from",
            "ARG B=bas\nFROM ${B}e AS one\nRUN echo x > /x\nFROM one\n",
        )
        .file("/x", "text=x\n"),
    ]
}

fn scopes() -> Vec<Case> {
    vec![
        case(
            "arg/global-is-not-in-a-stage",
            "ARG G=global\nFROM base\nRUN echo \"<$G>\" > /x\n",
        )
        .file("/x", "text=<>\n"),
        case(
            "arg/global-is-taken-by-arg",
            "ARG G=global\nFROM base\nARG G\nRUN echo \"<$G>\" > /x\n",
        )
        .file("/x", "text=<global>\n"),
        case(
            "arg/global-is-overridden-in-a-stage",
            "ARG G=global\nFROM base\nARG G=stage\n\
             RUN echo \"<$G>\" > /x\n",
        )
        .file("/x", "text=<stage>\n"),
        case(
            "arg/option-wins",
            "ARG G=global\nFROM base\nARG G=stage\n\
             ARG S=stage\nRUN echo \"<$G $S>\" > /x\n",
        )
        .options(&["--build-arg=G=option", "--build-arg=S=option"])
        .file("/x", "text=<option option>\n"),
        case(
            "arg/empty-option",
            "FROM base\nARG A=default\nRUN echo \"<$A>\" > /x\n",
        )
        .options(&["--build-arg=A="])
        .file("/x", "text=<>\n"),
        case(
            "arg/before-its-line",
            "FROM base\nENV X=${A:-unset}\nARG A=1\nENV Y=${A:-unset}\n",
        )
        .options(&["--build-arg=A=2"])
        .config(
            "Env",
            json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "X=unset", "Y=2"]),
        ),
        case(
            "arg/each-stage-has-its-own",
            "FROM base AS one\nARG A=1\nRUN echo $A > /x\n\
             FROM base\nRUN echo \"<$A>\" > /x\n",
        )
        .file("/x", "text=<>\n"),
        case(
            "arg/again-in-a-stage",
            "FROM base\nARG A=1\nARG A=2\nRUN echo $A > /x\n",
        )
        .file("/x", "text=2\n"),
        case(
            "arg/again-without-a-value",
            "FROM base\nARG A=1\nARG A\nRUN echo \"<$A>\" > /x\n",
        ),
        case("arg/is-not-in-the-image", "FROM base\nARG A=1\nENV B=$A\n")
            .config("Env", json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "B=1"])),
        case(
            "arg/several-in-one",
            "FROM base\nARG A=1 B=\"two words\" C\n\
             RUN echo \"$A $B <$C>\" > /x\n",
        )
        .file("/x", "text=1 two words <>\n"),
        case(
            "arg/quoted-value",
            "FROM base\nARG A='single $X' B=\"double\"\n\
             RUN echo \"$A $B\" > /x\n",
        )
        .file("/x", "text=single $X double\n"),
        case(
            "arg/unused-option-is-only-a-warning",
            "FROM base\nRUN echo x > /x\n",
        )
        .options(&["--build-arg=NOBODY=1"])
        .file("/x", "text=x\n"),
        case("arg/without-a-name", "FROM base\nARG =1\n")
            .refused(&[])
            .docker_says("buildah takes an empty name"),
        case("arg/nothing", "FROM base\nARG\n").refused(&["ARG"]),
        case(
            "arg/wins-over-the-environment-of-the-base",
            "FROM configured\nARG A=arg\nUSER root\nRUN echo $A > /x\n",
        )
        .options(&["--build-arg=A=option"])
        .file("/x", "text=option\n")
        .docker_says("of ARG and ENV BuildKit takes the later, buildah always ENV"),
        case(
            "arg/platform-overridden",
            "FROM base\nARG TARGETARCH\nRUN echo $TARGETARCH > /x\n",
        )
        .options(&["--build-arg=TARGETARCH=mine"]),
        case(
            "arg/platform-with-a-default",
            "FROM base\nARG TARGETARCH=mine\nRUN echo $TARGETARCH > /x\n",
        ),
        case(
            "arg/global-from-a-global",
            "ARG A=1\nARG B=${A}2\nFROM base\nARG B\nRUN echo $B > /x\n",
        )
        .file("/x", "text=12\n"),
    ]
}
