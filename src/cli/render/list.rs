//! Records with columns: each list command says once what its records have, and gets table, JSON,
//! templates, order and `-q` from it.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::io::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::table::{self, Heading};
use super::template::{self, Template};
use super::{Format, Look, SCHEMA, json, text};
use crate::cli::args::ListArgs;
use crate::cli::args::values::SortKey;
use crate::cli::{Result, exit};

/// What a list is made of. Its serialised form is what scripts read: bytes as integers, RFC 3339
/// times, full digests.
pub trait Record: Serialize + Sized + 'static {
    /// The member of the JSON document that holds the list.
    const PLURAL: &'static str;

    /// All columns that there are; those that a table shows by itself are the command's choice.
    fn columns() -> Vec<Column<Self>>;

    /// What `-q` prints.
    fn id(&self, look: &Look) -> String;
}

/// A column.
pub struct Column<R> {
    /// Its title in a table.
    pub title: &'static str,
    /// Its name in a template, as docker has it.
    pub field: &'static str,
    /// Its name for `--sort`.
    pub key: &'static str,
    text: fn(&R, &Look) -> String,
    order: Option<fn(&R, &R) -> Ordering>,
    flexible: bool,
}

impl<R> Column<R> {
    /// A column that is ordered by its text.
    pub fn new(
        title: &'static str,
        field: &'static str,
        key: &'static str,
        text: fn(&R, &Look) -> String,
    ) -> Column<R> {
        Column {
            title,
            field,
            key,
            text,
            order: None,
            flexible: false,
        }
    }

    /// Ordered so.
    pub fn by(mut self, order: fn(&R, &R) -> Ordering) -> Column<R> {
        self.order = Some(order);
        self
    }

    /// Cut where the terminal is narrow.
    pub fn flexible(mut self) -> Column<R> {
        self.flexible = true;
        self
    }

    /// A record's cell.
    pub fn text(&self, record: &R, look: &Look) -> String {
        (self.text)(record, look)
    }

    fn compare(&self, one: &R, other: &R, look: &Look) -> Ordering {
        match self.order {
            Some(order) => order(one, other),
            None => (self.text)(one, look).cmp(&(self.text)(other, look)),
        }
    }
}

/// Prints records as they were asked for. `titles` are the columns of a plain table.
pub fn show<R: Record>(
    out: &mut dyn Write,
    mut records: Vec<R>,
    titles: &[&str],
    arguments: &ListArgs,
    look: &Look,
) -> Result {
    check::<R>(arguments)?;
    if let Some(key) = &arguments.sort {
        sort(&mut records, key, look)?;
    }
    if arguments.quiet {
        let mut printed = HashSet::new();
        for record in &records {
            // An image of two names has two rows, and one ID.
            let id = record.id(look);
            if !printed.contains(&id) {
                writeln!(out, "{id}")?;
                printed.insert(id);
            }
        }
        return Ok(());
    }
    match &arguments.format {
        Format::Table => show_table(out, &records, titles, look),
        Format::Json => show_json(out, &records),
        Format::JsonLines => show_json_lines(out, &records),
        Format::Template(template) => show_template(out, &records, template, look),
    }
}

/// Sorts records by a column.
pub fn sort<R: Record>(records: &mut [R], key: &SortKey, look: &Look) -> Result {
    let columns = R::columns();
    let column = sort_column(&columns, key)?;
    records.sort_by(|one, other| {
        let order = column.compare(one, other, look);
        if key.descending {
            order.reverse()
        } else {
            order
        }
    });
    Ok(())
}

fn sort_column<'a, R>(columns: &'a [Column<R>], key: &SortKey) -> Result<&'a Column<R>> {
    columns.iter().find(|c| c.key == key.key).ok_or_else(|| {
        let keys: Vec<&str> = columns.iter().map(|column| column.key).collect();
        exit::usage_error(format!(
            "there is no column {:?} to sort by; there are {}",
            key.key,
            keys.join(", ")
        ))
    })
}

fn show_table<R: Record>(
    out: &mut dyn Write,
    records: &[R],
    titles: &[&str],
    look: &Look,
) -> Result {
    let columns = R::columns();
    let shown: Vec<&Column<R>> = titles
        .iter()
        .filter_map(|title| columns.iter().find(|column| column.title == *title))
        .collect();
    let headings: Vec<Heading> = shown
        .iter()
        .map(|column| Heading {
            title: column.title.to_owned(),
            flexible: column.flexible && !look.full,
        })
        .collect();
    let mut cells = table::Cells::new(&headings);
    for record in records {
        for column in &shown {
            cells.push(&(column.text)(record, look));
        }
    }
    cells.write(out, look.width.filter(|_| !look.full))
}

fn show_json<R: Record>(out: &mut dyn Write, records: &[R]) -> Result {
    // Written as it goes: a document of a hundred thousand images need not be held.
    json::document(out, &Document(records))
}

/// The document of a list.
struct Document<'a, R>(&'a [R]);

impl<R: Record> Serialize for Document<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_map(Some(2))?;
        document.serialize_entry("schema", &SCHEMA)?;
        document.serialize_entry(R::PLURAL, self.0)?;
        document.end()
    }
}

fn show_json_lines<R: Record>(out: &mut dyn Write, records: &[R]) -> Result {
    for record in records {
        json::write_line(out, &with_schema(record)?)?;
    }
    Ok(())
}

fn with_schema(record: &impl Serialize) -> Result<Value> {
    let mut object = serde_json::Map::new();
    object.insert("schema".to_owned(), SCHEMA.into());
    if let Value::Object(members) = serde_json::to_value(record)? {
        object.extend(members);
    }
    Ok(Value::Object(object))
}

fn show_template<R: Record>(
    out: &mut dyn Write,
    records: &[R],
    template: &Template,
    look: &Look,
) -> Result {
    let columns = R::columns();
    let line = |record| -> Result<String> {
        let value = value(&columns, record, template, look)?;
        let line = template.render(value).map_err(exit::usage_error)?;
        Ok(text::clean_lines(&line))
    };
    if !template.table {
        for record in records {
            writeln!(out, "{}", line(record)?)?;
        }
        return Ok(());
    }
    let title = |field: &str| Some(columns.iter().find(|column| column.field == field)?.title);
    let headings: Vec<Heading> = cells(template.render_titles(title))
        .into_iter()
        .map(Heading::new)
        .collect();
    let mut rows = Vec::with_capacity(records.len());
    for record in records {
        rows.push(cells(line(record)?));
    }
    table::write(out, &headings, rows, None)
}

fn cells(line: String) -> Vec<String> {
    line.split('\t').map(str::to_owned).collect()
}

/// A record as a template sees it: docker's fields, of which the columns are, and the members of
/// its JSON; each only where the template mentions it.
fn value<R: Record>(
    columns: &[Column<R>],
    record: &R,
    template: &Template,
    look: &Look,
) -> Result<template::Value> {
    let mut members = HashMap::new();
    let ours = template.mentions.iter().any(|path| !is_column(&path[0]));
    if (template.whole || ours)
        && let Value::Object(ours) = with_schema(record)?
    {
        members.extend(
            ours.into_iter()
                .map(|(name, json)| (name, template::dictionary(json))),
        );
    }
    for column in columns
        .iter()
        .filter(|column| template.mentions(column.field))
    {
        let text = (column.text)(record, look);
        members.insert(column.field.to_owned(), template::Value::from(text));
    }
    Ok(template::Value::Object(members))
}

/// Whether a field's name is a column's: docker's begin with a capital, our JSON's with none.
fn is_column(field: &str) -> bool {
    field.starts_with(|c: char| c.is_uppercase())
}

/// Whether a list can be printed as it is asked for. Commands ask before they open anything: what
/// cannot be meant is a usage error also where there is nothing to print.
pub fn check<R: Record>(arguments: &ListArgs) -> Result {
    let columns = R::columns();
    if let Some(key) = &arguments.sort {
        sort_column(&columns, key)?;
    }
    if let Format::Template(template) = &arguments.format {
        for path in &template.mentions {
            let field = &path[0];
            if is_column(field) && !columns.iter().any(|column| column.field == field) {
                let fields: Vec<String> = columns.iter().map(|c| format!(".{}", c.field)).collect();
                return Err(exit::usage_error(format!(
                    "template: there is no field .{field}; there are {}, and the members of --format json",
                    fields.join(", ")
                )));
            }
        }
    }
    Ok(())
}
