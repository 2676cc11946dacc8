//! `rstore ls`: the files of an image.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::image_files::{Details, KINDS, image, mode_text, raw, told};
use crate::cli::args::{ListArgs, values};
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::output::NEVER;
use crate::cli::render::{Column, Format, Look, Record, list, names, time};
use crate::cli::{Context, Result, exit};
use crate::layer::files::{Files, Last, Place};
use crate::oci::Platform;
use crate::store::Image;

/// List files of an image
///
/// Lists what is in a directory of an image, or one file, without unpacking the image: the names
/// and headers in its layers are read, and verified, nothing is written. Names of directories on
/// the way may be symbolic links, which are followed inside of the image; a link at the end of the
/// path is shown itself, unless a / follows it.
///
/// Names that are no text go to a pipe as their bytes and to a terminal as \xff; in JSON "path" is
/// then a likeness, and "path_base64" has the bytes.
#[derive(Debug, clap::Args)]
#[command(mut_arg("quiet", |arg| arg.help("Print whole paths only")))]
#[command(mut_arg("format", |arg| arg.help("table (its columns with --long), json, jsonl, or a template such as '{{.Path}} {{.Size}}'")))]
#[command(after_help = "\
Examples:
  rstore ls app /etc
  rstore ls -l --layer app usr/bin
  rstore ls -R -q app | grep '\\.so$'
  rstore ls -R --format json --filter type=file --sort size:desc app

Filters: type (file, directory, symlink, char, block, fifo)")]
pub struct Args {
    /// The image
    #[arg(value_name = "REF")]
    pub reference: String,
    /// A path in the image
    #[arg(value_name = "PATH", default_value = "/")]
    pub path: OsString,
    /// Show type and permissions, owner, size, time (UTC) and where links lead
    #[arg(short, long)]
    pub long: bool,
    /// List all that is below as well, by their whole paths
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Show which layer brought each name, or said last what it is; with the columns of --long
    #[arg(long)]
    pub layer: bool,
    /// Which platform of an image that has several [default: this machine's]
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
    #[serde(flatten)]
    details: Details,
    /// How many names it has.
    links: u64,
    /// The path's bytes.
    #[serde(skip)]
    exact: Vec<u8>,
    /// The name as the list shows it.
    #[serde(skip)]
    name: Vec<u8>,
    #[serde(skip)]
    mode: String,
    #[serde(skip)]
    seconds: i64,
    /// Bytes of where a link leads.
    #[serde(skip)]
    target: Option<Vec<u8>>,
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::Type => Fact::Word(self.details.kind),
            _ => Fact::Nothing,
        }
    }
}

impl Record for Row {
    const PLURAL: &'static str = "files";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("MODE", "Mode", "mode", |row, _| row.mode.clone()),
            Column::<Row>::new("LINKS", "Links", "links", |row, _| row.links.to_string())
                .by(|one, other| one.links.cmp(&other.links)),
            Column::<Row>::new("OWNER", "Owner", "owner", |row, _| {
                format!("{}:{}", row.details.uid, row.details.gid)
            })
            .by(|one, other| {
                let owner = |row: &Row| (row.details.uid, row.details.gid);
                owner(one).cmp(&owner(other))
            }),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| {
                match &row.details.device {
                    Some(device) => device.clone(),
                    None => look.size(row.details.size),
                }
            })
            .by(|one, other| one.details.size.cmp(&other.details.size)),
            Column::<Row>::new("MODIFIED", "Modified", "modified", |row, look| {
                match look.full {
                    true => row.details.mtime.clone(),
                    false => time::plain(row.seconds),
                }
            })
            .by(|one, other| one.seconds.cmp(&other.seconds)),
            Column::<Row>::new("LAYER", "Layer", "layer", |row, look| {
                row.details
                    .layer_digest
                    .map_or_else(|| "<none>".to_owned(), |digest| look.digest(&digest))
            })
            .by(|one, other| one.details.layer.cmp(&other.details.layer)),
            Column::<Row>::new("TYPE", "Type", "type", |row, _| row.details.kind.to_owned()),
            Column::<Row>::new("NAME", "Name", "name", |row, _| names::shown(&row.name)),
            Column::<Row>::new("PATH", "Path", "path", |row, _| names::shown(&row.exact))
                .by(|one, other| one.exact.cmp(&other.exact)),
            Column::<Row>::new("TARGET", "Target", "target", |row, _| {
                row.target.as_deref().map(names::shown).unwrap_or_default()
            }),
        ]
    }

    fn id(&self, _: &Look) -> String {
        names::shown(&self.exact)
    }
}

const TITLES: &[&str] = &["MODE", "OWNER", "SIZE", "MODIFIED"];
const WITH_LAYER: &[&str] = &["MODE", "OWNER", "SIZE", "MODIFIED", "LAYER"];

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let vocabulary = Vocabulary {
        keys: &[Key::Type],
        words: KINDS,
        now: context.now,
        image_time: &|_| Err(exit::usage_error("ls has no such filter")),
    };
    let filters = Filters::parse(&arguments.list.filters, &vocabulary)?;
    let store = context.open()?;
    let image = image(&store, &arguments.reference, arguments.platform.as_ref())?;
    let files = Files::read(&store.layers(&image, NEVER)).map_err(told)?;
    let mut rows = rows(arguments, &files, &image)?;
    rows.retain(|row| filters.pass(row));
    show(arguments, rows, context)
}

/// The rows, in byte order of names.
fn rows(arguments: &Args, files: &Files, image: &Image) -> Result<Vec<Row>> {
    let place = files
        .find(arguments.path.as_bytes(), Last::Show)
        .map_err(|error| {
            anyhow::Error::new(error).context(format!("image {:?}", arguments.reference))
        })?;
    let links = files.hard_links();
    let row = |place: Place, name: Vec<u8>| {
        let entry = files.entry(place.file);
        let exact = names::absolute(&place.path);
        let (path, path_base64) = names::json(&exact);
        Row {
            path,
            path_base64,
            details: Details::of(files, &place, image),
            links: links.get(&place.file).copied().unwrap_or(1),
            exact,
            name,
            mode: mode_text(entry),
            seconds: entry.mtime.seconds,
            target: match &entry.kind {
                crate::layer::Kind::Symlink { target } => Some(target.clone()),
                _ => None,
            },
        }
    };
    let whole = |place: Place| {
        let name = names::absolute(&place.path);
        row(place, name)
    };
    Ok(match files.is_directory(place.file) {
        // What was asked for, as it was asked for.
        false => vec![row(place, arguments.path.as_bytes().to_vec())],
        true if arguments.recursive => files.walk(&place).skip(1).map(whole).collect(),
        true => files
            .children(&place)
            .map(|child| {
                let name = child.name().to_vec();
                row(child, name)
            })
            .collect(),
    })
}

fn show(arguments: &Args, mut rows: Vec<Row>, context: &mut Context) -> Result {
    let look = Look::of(&arguments.list, context);
    let raw = raw(context);
    let plain = matches!(arguments.list.format, Format::Table);
    if !plain && !arguments.list.quiet {
        return list::show(&mut context.out, rows, TITLES, &arguments.list, &look);
    }
    if let Some(key) = &arguments.list.sort {
        list::sort(&mut rows, key, &look)?;
    }
    if arguments.list.quiet || !(arguments.long || arguments.layer) {
        for row in &rows {
            let name = if arguments.list.quiet {
                &row.exact
            } else {
                &row.name
            };
            context.out.write_all(&names::bytes(name, raw))?;
            writeln!(context.out)?;
        }
        return Ok(());
    }
    let titles = if arguments.layer { WITH_LAYER } else { TITLES };
    let name = |row: &Row| {
        let mut name = names::bytes(&row.name, raw);
        if let Some(target) = &row.target {
            name.extend_from_slice(b" -> ");
            name.extend(names::bytes(target, raw));
        }
        name
    };
    names::write_table(&mut context.out, &rows, titles, ("NAME", &name), &look)
}
