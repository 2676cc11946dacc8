//! The file itself: directives, lines, heredocs.

use serde_json::json;

use crate::case::{Case, Outcome, case};

pub fn cases() -> Vec<Case> {
    let mut cases = lines();
    cases.extend(heredocs().into_iter().map(|case| match case.difference {
        None if case.outcome == Outcome::Built => {
            case.since((1, 33), "buildah reads no heredocs before 1.33")
        }
        _ => case,
    }));
    cases
}

fn lines() -> Vec<Case> {
    vec![
        case(
            "lines/directives",
            "# syntax=docker/dockerfile:1\n# escape=\\\n\
             # check=skip=all\nFROM base\nRUN echo ok > /ok\n",
        )
        .file("/ok", "text=ok\n")
        .unlike_buildkit("there is no network to fetch a frontend from"),
        case(
            "lines/escape-by-backquote",
            "# escape=`\nFROM base\nENV A=C:\\x B=a` b\n\
             RUN echo one `\n  two > /x\nLABEL a=`$A b=\"\\n\"\n",
        )
        .config(
            "Env",
            json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=C:\\x", "B=a b"]),
        )
        .file("/x", "text=one two\n")
        .config("Labels", json!({"a": "$A", "b": "\\n"}))
        .docker_says("in words buildah escapes by a backslash whatever the directive"),
        case(
            "lines/directive-after-a-comment-is-a-comment",
            "# comment\n# escape=`\nFROM base\n\
             RUN echo one \\\n two > /x\n",
        )
        .file("/x", "text=one two\n"),
        case(
            "lines/directive-after-an-instruction-is-a-comment",
            "FROM base\n# escape=`\nRUN echo one \\\n two > /x\n",
        )
        .file("/x", "text=one two\n"),
        case(
            "lines/directive-twice",
            "# escape=\\\n# escape=`\nFROM base\n",
        )
        .refused(&["escape"]),
        case(
            "lines/directive-with-a-bad-value",
            "# escape=x\nFROM base\n",
        )
        .refused(&["escape"]),
        case(
            "lines/directive-in-another-case",
            "#   ESCAPE = `\nFROM base\nRUN echo one `\n two > /x\n",
        )
        .file("/x", "text=one two\n"),
        case("lines/byte-order-mark", "")
            .bytes(b"\xef\xbb\xbfFROM base\nRUN echo x > /x\n")
            .file("/x", "text=x\n"),
        case(
            "lines/carriage-returns",
            "FROM base\r\nRUN echo x \\\r\n  y > /x\r\n\
             ENV A=b\r\nCMD [\"a\",\\\r\n \"b\"]\r\n",
        )
        .file("/x", "text=x y\n")
        .config("Env", json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=b"]))
        .config("Cmd", json!(["a", "b"])),
        case(
            "lines/no-line-feed-at-the-end",
            "FROM base\nRUN echo x > /x",
        )
        .file("/x", "text=x\n"),
        case(
            "lines/continuation-at-the-end",
            "FROM base\nRUN echo x > /x \\\n",
        )
        .file("/x", "text=x\n"),
        case(
            "lines/blank-lines-in-a-continuation",
            "FROM base\nRUN echo x \\\n\n\n  y > /x\n",
        )
        .file("/x", "text=x y\n"),
        case(
            "lines/comments-in-a-continuation",
            "FROM base\nRUN echo x \\\n  # not this\n  y \\\n\
             # nor this\n  # end\n  > /x\n",
        )
        .file("/x", "text=x y\n"),
        case(
            "lines/spaces-after-a-backslash",
            "FROM base\nRUN echo x \\  \n  y > /x\n",
        )
        .file("/x", "text=x y\n"),
        case(
            "lines/escaped-backslash-at-the-end",
            "FROM base\nRUN echo 'x\\\\' \\\n > /x\n",
        ),
        case(
            "lines/indented",
            "  FROM base\n\tRUN echo x > /x\n   # comment\n",
        )
        .file("/x", "text=x\n"),
        case(
            "lines/hash-inside-a-line",
            "FROM base\nRUN echo x # y > /x; echo z > /z\n\
             ENV A=#b\nLABEL a=b#c\n",
        ),
        case(
            "lines/instructions-in-any-case",
            "fRoM base aS one\nrUn echo x > /x\ncMd [\"y\"]\n",
        )
        .file("/x", "text=x\n"),
        case("lines/unknown-instruction", "FROM base\nFETCH x\n").refused(&["FETCH"]),
        case("lines/nothing", "").refused(&[]),
        case("lines/only-comments", "# a\n# b\n").refused(&[]),
        case("lines/no-from", "RUN true\n").refused(&[]),
        case("lines/argument-before-from-only", "ARG A\n").refused(&[]),
        case("lines/other-before-from", "ENV A=b\nFROM base\n")
            .refused(&[])
            .docker_says("buildah takes any instruction before the first FROM"),
        case("lines/flag-unknown", "FROM base\nCOPY --nonsense a /\n")
            .with("a", "a")
            .refused(&["nonsense"]),
        case(
            "lines/flag-after-a-source-is-a-source",
            "FROM base\nCOPY a --chown=7 /x/\n",
        )
        .with("a", "a")
        .with("--chown=7", "c\n")
        .file("/x/--chown=7", "text=c\n"),
        case("lines/long-line", "").bytes(long_line().as_bytes()),
        case("lines/tabs", "FROM\tbase\nENV\tA=1\tB=2\nCOPY\ta\t/x\n")
            .with("a", "a\n")
            .file("/x", "text=a\n"),
    ]
}

fn long_line() -> String {
    format!(
        "FROM base\nENV A={}\nRUN echo ${{#A}} > /x\n",
        "x".repeat(60_000)
    )
}

fn heredocs() -> Vec<Case> {
    vec![
        case(
            "heredoc/run",
            "FROM base\nARG A=arg\nRUN <<EOF\n\
             echo one > /x\necho \"$A $HOME\" >> /x\n\
             EOF\nRUN echo after > /y\n",
        )
        .file("/x", "text=one\narg /root\n")
        .file("/y", "text=after\n"),
        case(
            "heredoc/run-stops-at-no-failure",
            "FROM base\nRUN <<EOF\nfalse\necho on > /x\nEOF\n",
        )
        .file("/x", "text=on\n"),
        case(
            "heredoc/run-with-set-e",
            "FROM base\nRUN <<EOF\nset -e\nfalse\necho on > /x\nEOF\n",
        )
        .refused(&[]),
        case(
            "heredoc/run-with-a-shebang",
            "FROM base\nRUN <<EOF\n#!/bin/cat\n\
             EOF\nRUN <<EOF\n#!/bin/sh -e\necho \"$0\" | grep -c . > /x\n\
             EOF\n",
        )
        .file("/x", "text=1\n"),
        case(
            "heredoc/run-into-a-program",
            "FROM base\nRUN cat <<EOF > /x\none $HOME\n  two\nEOF\n",
        )
        .file("/x", "text=one /root\n  two\n"),
        case(
            "heredoc/run-quoted-into-a-program",
            "FROM base\nRUN cat <<'EOF' > /x\none $HOME \\n\nEOF\n",
        )
        .file("/x", "text=one $HOME \\n\n"),
        case(
            "heredoc/run-two-into-programs",
            "FROM base\nRUN cat <<A > /a && cat <<B > /b\na\nA\nb\nB\n",
        )
        .file("/a", "text=a\n")
        .file("/b", "text=b\n"),
        case(
            "heredoc/run-with-more-after-it",
            "FROM base\nRUN <<EOF sh -s\necho x > /x\nEOF\n",
        ),
        case(
            "heredoc/run-tabs",
            "FROM base\nRUN <<-EOF\n\techo x > /x\n\tEOF\n",
        )
        .file("/x", "text=x\n"),
        case(
            "heredoc/run-tabs-into-a-program",
            "FROM base\nRUN cat <<-EOF > /x\n\tone\n\t\ttwo\n\t  three\n\tEOF\n",
        )
        .file("/x", "text=one\ntwo\n  three\n"),
        case(
            "heredoc/run-with-an-interpreter-of-shell",
            "FROM base\nSHELL [\"/bin/ash\", \"-ec\"]\n\
             RUN <<EOF\necho $- > /x\nEOF\n",
        ),
        case(
            "heredoc/run-with-a-line-like-an-instruction",
            "FROM base\nRUN <<EOF\ncat > /x <<X\n\
             FROM nothing\nX\n# a comment\nEOF\n",
        )
        .file("/x", "text=FROM nothing\n"),
        case(
            "heredoc/run-keeps-backslashes",
            "FROM base\nRUN <<EOF\necho one \\\n  two > /x\n\
             printf 'a\\tb\\n' >> /x\nEOF\n",
        )
        .file("/x", "text=one two\na\tb\n"),
        case(
            "heredoc/copy",
            "FROM base\nENV A=env\nCOPY <<EOF /x\n\
             one $A ${B:-unset} \\$A\n\"quoted\" 'single'\n\
             EOF\n",
        )
        .file(
            "/x",
            "file mode=0644 owner=0:0 text=one env unset $A\n\
             \"quoted\" 'single'\n",
        ),
        case(
            "heredoc/copy-quoted",
            "FROM base\nENV A=env\nCOPY <<\"EOF\" /x\none $A \\$A\nEOF\n",
        )
        .file("/x", "text=one $A \\$A\n"),
        case(
            "heredoc/copy-to-a-directory",
            "FROM base\nCOPY <<name.txt /d/\none\nname.txt\n",
        )
        .file("/d/name.txt", "text=one\n"),
        case(
            "heredoc/copy-several",
            "FROM base\nCOPY <<a <<b c /d/\none\na\ntwo\nb\n",
        )
        .with("c", "c\n")
        .file("/d/a", "text=one\n")
        .file("/d/b", "text=two\n")
        .file("/d/c", "text=c\n"),
        case(
            "heredoc/copy-tabs",
            "FROM base\nCOPY <<-EOF /x\n\tone\n\t\ttwo\n\tEOF\n",
        )
        .file("/x", "text=one\ntwo\n"),
        case("heredoc/copy-empty", "FROM base\nCOPY <<EOF /x\nEOF\n").file("/x", "size=0"),
        case(
            "heredoc/copy-with-owner-and-mode",
            "FROM base\nCOPY --chown=7:8 --chmod=755 <<EOF /new/x\n\
             #!/bin/sh\nEOF\n",
        )
        .file("/new/x", "mode=0755 owner=7:8 text=#!/bin/sh\n"),
        case(
            "heredoc/copy-keeps-backslashes",
            "FROM base\nCOPY <<EOF /x\na \\\nb\\n \\\\ c\nEOF\n",
        ),
        case("heredoc/add", "FROM base\nADD <<EOF /x\none\nEOF\n").file("/x", "text=one\n"),
        case("heredoc/with-no-end", "FROM base\nRUN <<EOF\necho x\n").refused(&["EOF"]),
        case(
            "heredoc/carriage-returns",
            "FROM base\r\nCOPY <<EOF /x\r\none\r\nEOF\r\n",
        ),
        case(
            "heredoc/onbuild",
            "FROM base AS one\nONBUILD RUN <<EOF\n\
             echo x > /x\nEOF\nFROM one\n",
        ),
        case(
            "heredoc/not-in-a-shell-redirection-of-words",
            "FROM base\nRUN echo 1 << 2 > /x || echo no > /x\n2\n",
        ),
    ]
}
