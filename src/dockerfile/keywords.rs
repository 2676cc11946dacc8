//! The instructions and the flags of each: what BuildKit's stable syntax has.

use super::flags::FlagTable;
use super::flags::FlagType::{Boolean, List, Text};

/// Every keyword and its flags.
pub(super) const KEYWORDS: [(&str, FlagTable); 18] = [
    (
        "ADD",
        &[
            ("chown", Text),
            ("chmod", Text),
            ("link", Boolean),
            ("keep-git-dir", Boolean),
            ("checksum", Text),
            ("unpack", Boolean),
            ("exclude", List),
        ],
    ),
    ("ARG", &[]),
    ("CMD", &[]),
    (
        "COPY",
        &[
            ("chown", Text),
            ("from", Text),
            ("chmod", Text),
            ("link", Boolean),
            ("parents", Boolean),
            ("exclude", List),
        ],
    ),
    ("ENTRYPOINT", &[]),
    ("ENV", &[]),
    ("EXPOSE", &[]),
    ("FROM", &[("platform", Text)]),
    (
        "HEALTHCHECK",
        &[
            ("interval", Text),
            ("timeout", Text),
            ("start-period", Text),
            ("start-interval", Text),
            ("retries", Text),
        ],
    ),
    ("LABEL", &[]),
    ("MAINTAINER", &[]),
    ("ONBUILD", &[]),
    (
        "RUN",
        &[
            ("mount", List),
            ("network", Text),
            ("security", Text),
            ("device", List),
        ],
    ),
    ("SHELL", &[]),
    ("STOPSIGNAL", &[]),
    ("USER", &[]),
    ("VOLUME", &[]),
    ("WORKDIR", &[]),
];
