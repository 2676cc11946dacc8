//! A table of a configuration file: keys are taken out by name and type, and what is left at the
//! end is unknown. Every error names the file, the line and the column.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::{Result, exit};
use crate::words;

/// A file's place in which something is told.
#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    /// An error at a place of the file.
    fn error(&self, span: &Range<usize>, what: impl Display) -> anyhow::Error {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let path = self.path.display();
        exit::usage_error(format!("{path}:{line}:{column}: {what}"))
    }
}

/// A table that is being read.
pub struct Table<'a> {
    file: File<'a>,
    rest: BTreeMap<String, (Range<usize>, Spanned<DeValue<'a>>)>,
    /// The keys that were asked for.
    known: Vec<&'static str>,
    /// Where it begins.
    span: Range<usize>,
}

impl<'a> Table<'a> {
    /// Reads a file's text.
    pub fn parse(path: &'a Path, text: &'a str) -> Result<Table<'a>> {
        let file = File { path, text };
        match DeTable::parse(text) {
            Ok(table) => Ok(Table::of(file, table.into_inner(), 0..0)),
            Err(error) => Err(file.error(&error.span().unwrap_or(0..0), error.message())),
        }
    }

    fn of(file: File<'a>, table: DeTable<'a>, span: Range<usize>) -> Table<'a> {
        let entries = table.into_iter();
        let rest = entries.map(|(key, value)| {
            let span = key.span();
            (key.into_inner().into_owned(), (span, value))
        });
        Table {
            file,
            rest: rest.collect(),
            known: Vec::new(),
            span,
        }
    }

    /// An error about this table as a whole.
    pub fn error(&self, what: impl Display) -> anyhow::Error {
        self.file.error(&self.span, what)
    }

    fn next(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.rest.remove(key).map(|(_, value)| value)
    }

    fn wrong(&self, value: &Spanned<DeValue>, key: &str, wanted: &str) -> anyhow::Error {
        self.file
            .error(&value.span(), format!("{key} is to be {wanted}"))
    }

    /// A text, understood by `parse`.
    pub fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>> {
        let Some(value) = self.next(key) else {
            return Ok(None);
        };
        let DeValue::String(text) = value.get_ref() else {
            return Err(self.wrong(&value, key, "a text in quotes"));
        };
        let parsed = parse(text).map_err(|why| self.file.error(&value.span(), why))?;
        Ok(Some(parsed))
    }

    /// A list of texts, each understood by `parse`.
    pub fn list<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<Vec<T>>> {
        let Some(value) = self.next(key) else {
            return Ok(None);
        };
        let wanted = "a list of texts: [\"one\", \"other\"]";
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong(&value, key, wanted));
        };
        let mut list = Vec::new();
        for item in items.iter() {
            let DeValue::String(text) = item.get_ref() else {
                return Err(self.wrong(item, key, wanted));
            };
            list.push(parse(text).map_err(|why| self.file.error(&item.span(), why))?);
        }
        Ok(Some(list))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>> {
        match self.next(key) {
            None => Ok(None),
            Some(value) => match value.get_ref() {
                DeValue::Boolean(boolean) => Ok(Some(*boolean)),
                _ => Err(self.wrong(&value, key, "true or false")),
            },
        }
    }

    /// A number from 1 on.
    pub fn count(&mut self, key: &'static str) -> Result<Option<NonZeroUsize>> {
        let Some(value) = self.next(key) else {
            return Ok(None);
        };
        let number = match value.get_ref() {
            DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match number.and_then(NonZeroUsize::new) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(&value, key, "a number from 1 on")),
        }
    }

    /// A table below this one.
    pub fn table(&mut self, key: &'static str) -> Result<Option<Table<'a>>> {
        let Some(value) = self.next(key) else {
            return Ok(None);
        };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Ok(Some(Table::of(self.file, table, span))),
            _ => Err(self
                .file
                .error(&span, format!("{key} is to be a table: [{key}]"))),
        }
    }

    /// The tables below one of this: `[key.NAME]`.
    pub fn tables(&mut self, key: &'static str) -> Result<Vec<(String, Table<'a>)>> {
        let Some(table) = self.table(key)? else {
            return Ok(Vec::new());
        };
        let mut tables = Vec::new();
        for (name, (begins, value)) in table.rest {
            let span = value.span();
            let DeValue::Table(inner) = value.into_inner() else {
                let what = format!("{key}.{name} is to be a table: [{key}.NAME]");
                return Err(self.file.error(&span, what));
            };
            tables.push((name, Table::of(self.file, inner, begins)));
        }
        Ok(tables)
    }

    /// That nothing is left that nobody asked for.
    pub fn end(self) -> Result {
        let Some((key, (span, _))) = self.rest.first_key_value() else {
            return Ok(());
        };
        let near = self
            .known
            .iter()
            .min_by_key(|known| words::distance(key, known));
        let near = near.filter(|near| words::distance(key, near) <= 2.max(key.len() / 3));
        let more = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("there are {}", self.known.join(", ")),
        };
        Err(self
            .file
            .error(span, format!("there is no key {key:?}; {more}")))
    }
}
