//! Times, and the same digest twice.

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case("time/timestamp-of-a-copy", "FROM base\nCOPY d /new/x\n")
            .with("d/a", "a\n")
            .with("d/sub/b", "b\n")
            .options(&["--timestamp=1200000000"])
            .twice()
            .file("/new/x/a", "time=1000000000")
            .file("/new/x/sub/b", "time=1000000000")
            .docker_says(
                "a file that is older keeps its time, \
             as with BuildKit's rewrite-timestamp",
            ),
        case(
            "time/timestamp-of-a-run",
            "FROM base\nRUN mkdir /d && echo x > /d/x && ln -s x /d/l \
             && touch -d @1100000000 /d/old\n\
             WORKDIR /w\n",
        )
        .options(&["--timestamp=1200000000"])
        .twice()
        .file("/d/old", "time=1100000000")
        .docker_says(
            "a file that is older keeps its time, \
             as with BuildKit's rewrite-timestamp",
        ),
        case(
            "time/timestamp-of-stages",
            "FROM base AS one\nRUN echo x > /x && rm /full/one\n\
             FROM base\nCOPY --from=one /x /full/two /y/\n\
             COPY --from=one --chown=app /full /z\n\
             ENV A=1\n",
        )
        .options(&["--timestamp=1200000000"])
        .twice()
        .file("/y/two", "time=1000000000")
        .file("/z/two", "time=1000000000")
        .file("/z/sub/three", "time=1000000000")
        .file("/z/setuid", "time=1000000000")
        .file("/z/linked", "time=1000000000")
        .file("/z/capable", "time=1000000000")
        .docker_says(
            "a file that is older keeps its time, \
             as with BuildKit's rewrite-timestamp",
        ),
        case("time/timestamp-of-an-archive", "FROM base\nADD a.tar /x/\n")
            .make(|c| drop(c.file("a.tar", crate::setup::archive())))
            .options(&["--timestamp=900000000"])
            .twice(),
        case(
            "time/timestamp-zero",
            "FROM base\nCOPY a /x\nRUN echo y > /y\n",
        )
        .with("a", "a\n")
        .options(&["--timestamp=0"])
        .twice(),
    ]
}
