//! USER and WORKDIR: who a step is, and where.

use serde_json::json;

use crate::case::{Case, case};

const WHO: &str = "RUN echo \"$(id -u):$(id -g) $(id -G) $HOME\" > /tmp/who";

fn user(name: &str, user: &str) -> Case {
    case(name, &format!("FROM base\nUSER {user}\n{WHO}\n"))
}

pub fn cases() -> Vec<Case> {
    vec![
        user("user/name", "app").config("User", json!("app")).file(
            "/tmp/who",
            "owner=1000:1001 text=1000:1001 1001 10 50 /home/app\n",
        ),
        user("user/number-that-the-image-knows", "1000"),
        user("user/number-that-it-does-not-know", "4242"),
        user("user/name-and-group", "app:staff").config("User", json!("app:staff")),
        user("user/numbers", "1000:50"),
        user("user/unknown-numbers", "77:78"),
        user("user/name-of-digits", "2000"),
        case(
            "user/group-of-digits",
            "FROM base\nUSER app:4000\nRUN echo \"$(id -u):$(id -g)\" > /tmp/who\n",
        )
        .file("/tmp/who", "owner=1000:4000"),
        user("user/name-and-nothing", "app:")
            .file("/tmp/who", "text=1000:1001 1001 10 50 /home/app\n")
            .docker_says("buildah leaves the user's groups out"),
        user("user/nothing-and-group", ":staff"),
        user("user/unknown-name", "nobody-knows").refused(&["nobody-knows"]),
        user("user/unknown-group", "app:nobody-knows").refused(&["nobody-knows"]),
        case(
            "user/unknown-name-without-a-run",
            "FROM base\nUSER nobody-knows\n",
        )
        .config("User", json!("nobody-knows")),
        case("user/variable", "FROM base\nARG U=app\nUSER ${U}:staff\n")
            .config("User", json!("app:staff")),
        case("user/empty", "FROM base\nARG U\nUSER $U\n"),
        case(
            "user/home-is-the-environments",
            &format!("FROM base\nENV HOME=/elsewhere\nUSER app\n{WHO}\n"),
        ),
        case(
            "user/of-the-base",
            "FROM configured\nRUN id -un > /tmp/who\n",
        )
        .file("/tmp/who", "owner=1000:1001 text=app\n"),
        case(
            "user/back-to-root",
            "FROM configured\nUSER root\nRUN id -u > /who\n",
        )
        .file("/who", "owner=0:0 text=0\n"),
        case(
            "user/cannot-write-everywhere",
            "FROM base\nUSER app\nRUN echo x > /x\n",
        )
        .refused(&["/x"]),
        case(
            "user/that-a-run-added",
            "FROM base\nRUN echo 'late:x:77:78::/:/bin/sh' >> /etc/passwd\n\
             USER late\nRUN id -u > /tmp/who\n",
        )
        .file("/tmp/who", "owner=77:78 text=77\n"),
        case(
            "user/without-a-password-file",
            "FROM base\nRUN rm /etc/passwd /etc/group\n\
             USER 1000:7\nRUN id -u > /tmp/who\n",
        )
        .file("/tmp/who", "owner=1000:7"),
        case("workdir/is-made", "FROM base\nWORKDIR /new/deep\n")
            .file("/new", "dir mode=0755 owner=0:0")
            .file("/new/deep", "dir mode=0755 owner=0:0")
            .config("WorkingDir", json!("/new/deep")),
        case(
            "workdir/is-made-for-the-user",
            "FROM base\nUSER app\nWORKDIR /new/deep\nRUN echo x > x\n",
        ),
        case(
            "workdir/is-made-for-the-user-and-group",
            "FROM base\nUSER app:staff\nWORKDIR /new/deep\n",
        ),
        case(
            "workdir/is-made-for-a-number",
            "FROM base\nUSER 7:8\nWORKDIR /new\n",
        ),
        case(
            "workdir/is-made-for-a-lone-number",
            "FROM base\nUSER 1000\nWORKDIR /new\n",
        ),
        case(
            "workdir/for-an-unknown-user",
            "FROM base\nUSER nobody-knows\nWORKDIR /new\n",
        ),
        case(
            "workdir/that-is-there-stays",
            "FROM base\nUSER 7\nWORKDIR /owned\n",
        )
        .file("/owned", "mode=2770 owner=1000:50"),
        case(
            "workdir/relative",
            "FROM base\nWORKDIR /a\nWORKDIR b\n\
             WORKDIR ../c\nRUN pwd > where\n",
        )
        .config("WorkingDir", json!("/a/c"))
        .file("/a/c/where", "text=/a/c\n"),
        case(
            "workdir/relative-without-one-before",
            "FROM base\nWORKDIR a\n",
        )
        .config("WorkingDir", json!("/a")),
        case(
            "workdir/relative-to-the-bases",
            "FROM configured\nUSER root\nWORKDIR more\n",
        )
        .config("WorkingDir", json!("/srv/base/more")),
        case(
            "workdir/with-a-slash",
            "FROM base\nWORKDIR /a/\nWORKDIR b//c/./\n",
        ),
        case(
            "workdir/variables",
            "FROM base\nENV D=/d\nWORKDIR $D/${E:-e}\nRUN pwd > where\n",
        )
        .config("WorkingDir", json!("/d/e")),
        case("workdir/with-spaces", "FROM base\nWORKDIR /a b/c\n")
            .config("WorkingDir", json!("/a b/c")),
        case("workdir/through-a-link", "FROM base\nWORKDIR /var/run/x\n")
            .config("WorkingDir", json!("/var/run/x"))
            .file("/run/x", "dir"),
        case("workdir/above-the-root", "FROM base\nWORKDIR ../../..\n"),
        case("workdir/where-a-file-is", "FROM base\nWORKDIR /full/one\n")
            .refused(&["/full/one"])
            .docker_says("buildah takes a file for a directory"),
        case("workdir/empty", "FROM base\nARG D\nWORKDIR $D\n"),
        case("workdir/nothing", "FROM base\nWORKDIR\n").refused(&["WORKDIR"]),
        case("workdir/on-scratch", "FROM scratch\nWORKDIR /a/b\n").file("/a/b", "dir"),
        case(
            "workdir/removed-by-a-run",
            "FROM base\nWORKDIR /a\nRUN rmdir /a\nRUN pwd > /where\n",
        ),
        case("workdir/quoted", "FROM base\nWORKDIR \"/a b\"\n"),
    ]
}
