//! From what is known to what is read: by people (tables, trees) and by scripts (JSON, templates).
//!
//! | file | owns |
//! |---|---|
//! | [`docker`] | what docker's documents have where ours have nothing |
//! | [`json`] | JSON that is fit for a terminal |
//! | [`fold`] | long lines of steps drawn as one |
//! | [`list`] | records with columns: one definition for table, JSON, template, order, `-q` |
//! | [`names`] | names of files, which are bytes |
//! | [`output`] | a line that a process wrote, as text |
//! | [`picture`] | a part of the graph, for graphviz and for programs |
//! | [`prometheus`] | measurements for a collector |
//! | [`rails`] | where things stand in a drawing of the graph |
//! | [`report`] | the page of `rstore report` |
//! | [`svg`] | that drawing, as a picture and as a page |
//! | [`size`] | `4.26MB` |
//! | [`table`] | columns side by side, as docker has them |
//! | [`template`] | `{{.Field}}`: Go's templates with docker's functions |
//! | [`text`] | texts of strangers made fit for a terminal |
//! | [`time`] | `3 weeks ago`, RFC 3339 |
//! | [`tree`] | `├─` |

use std::str::FromStr;

use crate::catalog::Millis;
use crate::oci::Digest;

pub mod docker;
pub mod fold;
pub mod json;
pub mod list;
pub mod names;
pub mod output;
pub mod picture;
pub mod prometheus;
pub mod rails;
pub mod report;
pub mod size;
pub mod svg;
pub mod table;
pub mod template;
pub mod text;
pub mod time;
pub mod tree;

pub use list::{Column, Record};
pub use template::Template;

/// The format of our JSON. It grows when a member changes its meaning or goes; new members come
/// without that.
pub const SCHEMA: u32 = 1;

/// How a list is to be printed.
#[derive(Debug, Clone)]
pub enum Format {
    /// Columns.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    JsonLines,
    /// Each record through a template.
    Template(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "table" => Ok(Format::Table),
            "json" => Ok(Format::Json),
            "jsonl" => Ok(Format::JsonLines),
            text if text.contains("{{") => Template::parse(text).map(Format::Template),
            _ => Err("a format is table, json, jsonl or a template with {{.Field}}".to_owned()),
        }
    }
}

/// How values are to look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// IDs and texts in full.
    pub full: bool,
    /// Sizes in bytes.
    pub exact: bool,
    /// The moment that ages are counted from.
    pub now: Millis,
    /// The terminal's width, where there is one.
    pub width: Option<u16>,
}

impl Look {
    /// The look that a list was asked for.
    pub fn of(arguments: &super::args::ListArgs, context: &super::Context) -> Look {
        Look {
            full: arguments.no_trunc,
            exact: arguments.bytes,
            now: context.now,
            width: context.terminal.width,
        }
    }

    /// An ID or a digest.
    pub fn digest(&self, digest: &Digest) -> String {
        if self.full {
            digest.to_string()
        } else {
            digest.short()
        }
    }

    /// A size.
    pub fn size(&self, bytes: u64) -> String {
        size::shown(bytes, self.exact)
    }

    /// How long ago something was.
    pub fn ago(&self, time: Millis) -> String {
        if self.full {
            time::rfc3339(time)
        } else {
            time::ago(time, self.now)
        }
    }

    /// A text of at most `limit` columns, unless all of it is wanted.
    pub fn text(&self, text: &str, limit: usize) -> String {
        let clean = text::clean(text);
        if self.full {
            clean
        } else {
            text::shorten(&clean, limit)
        }
    }
}
