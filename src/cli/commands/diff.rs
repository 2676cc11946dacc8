//! `rstore diff`: what two images do not share, and what one image wastes.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::image_files::{Details, KINDS, image, raw, told};
use super::{diff_layers, wasted};
use crate::cli::args::{ListArgs, values};
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::output::NEVER;
use crate::cli::render::{Column, Format, Look, Record, list, names, size};
use crate::cli::{Context, Result, exit};
use crate::layer::entry::clean_path;
use crate::layer::files::difference::{CompareOptions, Comparison, Side};
use crate::layer::files::{Change, Difference, compare};
use crate::oci::Platform;
use crate::store::{Image, Store};

/// Show what two images do not share, or what one wastes
///
/// Shows the files that were added (A), changed (C) and deleted (D) from one image to another, with
/// the bytes that this adds or saves; with --layers, which layers both have at the bottom, and
/// which only one has. Nothing is unpacked: of layers that both have only the names are read, and
/// contents are compared only where names, sizes and attributes cannot tell.
///
/// With --wasted, of one image: the bytes that its layers hold and the image does not show, since
/// upper layers replaced or removed them, and its efficiency as dive has it: the smallest copies of
/// each path divided by all of them.
#[derive(Debug, clap::Args)]
#[command(mut_arg("quiet", |arg| arg.help("Print paths only, of layers digests")))]
#[command(mut_arg("format", |arg| arg.help("table, json, jsonl, or a template such as '{{.Change}} {{.Path}}'")))]
#[command(after_help = "\
Examples:
  rstore diff app:1 app:2
  rstore diff app:1 app:2 /etc /usr/bin
  rstore diff --layers base app
  rstore diff --wasted app
  rstore diff --exit-code -q app:1 app:2 > /dev/null || echo different

Filters: state (added, changed, deleted), type (file, directory, symlink, char, block, fifo)")]
pub struct Args {
    /// The image; with --wasted the only one
    #[arg(value_name = "REF")]
    pub one: String,
    /// The image to compare it with
    #[arg(value_name = "REF", required_unless_present = "wasted")]
    pub other: Option<String>,
    /// Only these paths and what is below
    #[arg(value_name = "PATH", conflicts_with = "layers")]
    pub paths: Vec<OsString>,
    /// Compare file by file: the default
    #[arg(long, conflicts_with_all = ["layers", "wasted"])]
    pub files: bool,
    /// Compare layer by layer
    #[arg(long, conflicts_with = "wasted")]
    pub layers: bool,
    /// Show what the layers of one image hold and the image does not show
    #[arg(long, conflicts_with = "other")]
    pub wasted: bool,
    /// Another modification time is a change, too
    #[arg(long, conflicts_with_all = ["layers", "wasted"])]
    pub times: bool,
    /// Exit with 1 if there is a difference
    #[arg(long, conflicts_with = "wasted")]
    pub exit_code: bool,
    /// Which platform of images that have several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
    #[command(flatten)]
    pub list: ListArgs,
}

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    /// From the root.
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    /// `added`, `changed`, `deleted`.
    change: &'static str,
    /// What changed: `type`, `content`, `mode`, `owner`, `xattr`, `time`.
    aspects: Vec<&'static str>,
    /// Bytes of content more, or less.
    bytes: i64,
    before: Option<Details>,
    after: Option<Details>,
    /// The path's bytes.
    #[serde(skip)]
    exact: Vec<u8>,
}

impl Row {
    fn kind(&self) -> &'static str {
        let details = self.after.as_ref().or(self.before.as_ref());
        details.map_or("file", |details| details.kind)
    }

    fn letter(&self) -> &'static str {
        match self.change {
            "added" => "A",
            "deleted" => "D",
            _ => "C",
        }
    }
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::State => Fact::Word(self.change),
            Key::Type => Fact::Word(self.kind()),
            _ => Fact::Nothing,
        }
    }
}

impl Record for Row {
    const PLURAL: &'static str = "files";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("CHANGE", "Change", "change", |row, _| {
                row.letter().to_owned()
            }),
            Column::<Row>::new("BYTES", "Bytes", "bytes", |row, look| {
                signed(row.bytes, look.exact)
            })
            .by(|one, other| one.bytes.cmp(&other.bytes)),
            Column::<Row>::new("WHAT", "What", "what", |row, _| row.aspects.join(",")),
            Column::<Row>::new("TYPE", "Type", "type", |row, _| row.kind().to_owned()),
            Column::<Row>::new("PATH", "Path", "path", |row, _| names::shown(&row.exact))
                .by(|one, other| one.exact.cmp(&other.exact)),
        ]
    }

    fn id(&self, _: &Look) -> String {
        names::shown(&self.exact)
    }
}

/// A number of bytes with its sign.
pub fn signed(bytes: i64, exact: bool) -> String {
    let sign = match bytes {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", size::shown(bytes.unsigned_abs(), exact))
}

const TITLES: &[&str] = &["CHANGE", "BYTES", "WHAT"];

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let Some(other) = &arguments.other else {
        return wasted::run(arguments, context);
    };
    if arguments.layers {
        return diff_layers::run(arguments, other, context);
    }
    list::check::<Row>(&arguments.list)?;
    let words: Vec<&str> = ["added", "changed", "deleted"]
        .iter()
        .chain(KINDS)
        .copied()
        .collect();
    let vocabulary = Vocabulary {
        keys: &[Key::State, Key::Type],
        words: &words,
        now: context.now,
        image_time: &|_| Err(exit::usage_error("diff has no such filter")),
    };
    let filters = Filters::parse(&arguments.list.filters, &vocabulary)?;
    let options = CompareOptions {
        times: arguments.times,
        within: within(&arguments.paths)?,
    };
    let store = context.open()?;
    let one = image(&store, &arguments.one, arguments.platform.as_ref())?;
    let other = image(&store, other, arguments.platform.as_ref())?;
    let comparison = differences(&store, &one, &other, &options)?;
    let mut rows: Vec<Row> = comparison
        .differences
        .iter()
        .map(|difference| row(difference, &comparison, &one, &other))
        .collect();
    rows.retain(|row| filters.pass(row));
    let differs = !rows.is_empty();
    show(&arguments.list, rows, context)?;
    exit_code(arguments, differs)
}

/// The paths to compare, clean.
fn within(paths: &[OsString]) -> Result<Vec<Vec<u8>>> {
    let clean = |path: &OsString| {
        clean_path(path.as_bytes()).map_err(|error| exit::usage_error(error.to_string()))
    };
    paths.iter().map(clean).collect()
}

fn differences(
    store: &Store,
    one: &Image,
    other: &Image,
    options: &CompareOptions,
) -> Result<Comparison> {
    let (layers, other_layers) = (store.layers(one, NEVER), store.layers(other, NEVER));
    let one = Side {
        layers: &layers,
        diff_ids: &one.config.rootfs.diff_ids,
    };
    let other = Side {
        layers: &other_layers,
        diff_ids: &other.config.rootfs.diff_ids,
    };
    compare(&one, &other, options).map_err(told)
}

fn row(difference: &Difference, comparison: &Comparison, one: &Image, other: &Image) -> Row {
    let details = |files, place: &Option<_>, image| {
        place.as_ref().map(|place| Details::of(files, place, image))
    };
    let before = details(&comparison.one, &difference.one, one);
    let after = details(&comparison.other, &difference.other, other);
    let bytes = |details: &Option<Details>| {
        details
            .as_ref()
            .map_or(0, |details| i64::try_from(details.size).unwrap_or(i64::MAX))
    };
    let exact = names::absolute(&difference.path);
    let (path, path_base64) = names::json(&exact);
    Row {
        path,
        path_base64,
        change: match difference.change() {
            Change::Added => "added",
            Change::Deleted => "deleted",
            Change::Changed => "changed",
        },
        aspects: difference.aspects.iter().map(|a| a.word()).collect(),
        bytes: bytes(&after) - bytes(&before),
        before,
        after,
        exact,
    }
}

fn show(arguments: &ListArgs, mut rows: Vec<Row>, context: &mut Context) -> Result {
    let look = Look::of(arguments, context);
    let table = matches!(arguments.format, Format::Table);
    if !table && !arguments.quiet {
        return list::show(&mut context.out, rows, TITLES, arguments, &look);
    }
    if let Some(key) = &arguments.sort {
        list::sort(&mut rows, key, &look)?;
    }
    let raw = raw(context);
    if arguments.quiet {
        for row in &rows {
            context.out.write_all(&names::bytes(&row.exact, raw))?;
            writeln!(context.out)?;
        }
        return Ok(());
    }
    let name = |row: &Row| names::bytes(&row.exact, raw);
    names::write_table(&mut context.out, &rows, TITLES, ("PATH", &name), &look)?;
    context.flush()?;
    context.tell(&summary(&rows, &look));
    Ok(())
}

/// `3 added, 1 changed, 0 deleted: +1.2MB`.
fn summary(rows: &[Row], look: &Look) -> String {
    let count = |change| rows.iter().filter(|row| row.change == change).count();
    let bytes = rows.iter().map(|row| row.bytes).sum();
    let bytes = match signed(bytes, look.exact).as_str() {
        text if look.exact => format!("{text} bytes"),
        text => text.to_owned(),
    };
    format!(
        "{} added, {} changed, {} deleted: {bytes}",
        count("added"),
        count("changed"),
        count("deleted")
    )
}

/// The code that says whether there is a difference, where it was asked for.
pub fn exit_code(arguments: &Args, differs: bool) -> Result {
    match arguments.exit_code && differs {
        true => Err(exit::Failure::Told(1).into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_sign() {
        assert_eq!(signed(0, false), "0B");
        assert_eq!(signed(1500, false), "+1.5kB");
        assert_eq!(signed(-1500, true), "-1500");
        assert_eq!(signed(i64::MIN, false), "-9.22EB");
    }
}
