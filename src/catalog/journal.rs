//! The journal: what each build, pull, load and prune did, to what, why, and on whose word.
//!
//! ```text
//! journal       one row a deed: when, what, to what, how many bytes, how long, who, facts as JSON
//! journal_item  what it took away: a tag with what it pointed at, an image with its names, and why
//! ```
//! Whoever writes says what was done ([`JournalEntry`]) and, where there is more to say,
//! [`Particulars`]; who did it the catalog knows ([`super::Catalog::act_as`]). What takes long, and
//! takes things away, notes them while they go ([`Writer::begin_note`], [`Writer::note_items`]) and
//! says at the end what came of it ([`Writer::amend_note`]).
//!
//! **Bounds.** [`LIMIT`] entries and [`BYTES`] bytes of texts and items: with a new entry the oldest
//! go until both hold. One entry has at most [`ITEMS`] items, the named ones first; how many were
//! left out is among its facts. Texts are cut at [`TEXT`] bytes.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::blob::digest_column;
use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// How many entries are kept.
pub const LIMIT: i64 = 50_000;
/// How many bytes they may have together, as [`weight`] counts.
pub const BYTES: i64 = 16 << 20;
/// How many items one entry may have.
pub const ITEMS: usize = 10_000;
/// How long one text may be, in bytes.
pub const TEXT: usize = 2_000;

/// Who acts: whoever opened the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// The user, as the outermost user namespace that is known has it.
    pub uid: Option<u32>,
    /// The command line, without what is secret in it.
    pub command: String,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct JournalEntry {
    /// When.
    pub time: Millis,
    /// What was done: `build`, `pull`, `push`, `load`, `import`, `tag`, `untag`, `remove`, `prune`,
    /// `fsck`.
    pub operation: String,
    /// To what: a name or a digest.
    pub subject: String,
    /// Bytes added, freed, or sent.
    pub bytes: u64,
    /// Why, or how.
    pub detail: String,
}

/// What more there is to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Particulars {
    /// How long it took.
    pub milliseconds: Option<u64>,
    /// The manifest or index that it is about.
    pub digest: Option<Digest>,
    /// Anything else, by name: `steps`, `cached`, `image` of a build, `policy` of a prune,
    /// `registry` of a pull. Scripts see it as it is.
    pub facts: Map<String, Value>,
    /// What was taken away.
    pub items: Vec<JournalItem>,
}

/// Something that an entry took away.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct JournalItem {
    /// `tag`, `image`, `index`, `artifact`.
    pub kind: String,
    /// What it is called: the tag, the image's ID.
    pub label: String,
    /// The manifest or index.
    pub digest: Option<Digest>,
    /// The names that it had.
    pub names: Vec<String>,
    /// Bytes that the disk gave back for it alone.
    pub bytes: u64,
    /// Why it went, in words.
    pub reason: String,
    /// The instruction that made it.
    pub step: Option<String>,
}

/// An entry as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// Its number: numbers only grow.
    pub id: i64,
    /// What was done.
    pub entry: JournalEntry,
    /// Who did it.
    pub actor: Actor,
    /// What more there is to say.
    pub particulars: Particulars,
}

const COLUMNS: &str =
    "id, time, operation, subject, bytes, detail, uid, command, milliseconds, digest, facts";
/// When a prune last came to its end, also one that found nothing, and the bytes that it freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastPrune {
    /// When.
    pub time: Millis,
    /// Bytes.
    pub freed: u64,
}

/// `meta` key: the last prune, as `TIME BYTES`.
const LAST_PRUNE: &str = "last-prune";

impl Reader<'_> {
    /// The last prune; `None`: there was none since this catalog began.
    pub fn last_prune(&self) -> SqlResult<Option<LastPrune>> {
        let text = self.meta(LAST_PRUNE)?.unwrap_or_default();
        Ok(text.split_once(' ').and_then(|(time, freed)| {
            Some(LastPrune {
                time: time.parse().ok()?,
                freed: freed.parse().ok()?,
            })
        }))
    }

    /// The newest entries, the newest first.
    pub fn journal(&self, limit: usize) -> SqlResult<Vec<JournalEntry>> {
        let rows = self.journal_rows(limit, false)?;
        Ok(rows.into_iter().map(|row| row.entry).collect())
    }

    /// The same with all that is known of them; with their items, if these are wanted.
    pub fn journal_rows(&self, limit: usize, with_items: bool) -> SqlResult<Vec<JournalRow>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = self
            .connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM journal ORDER BY id DESC LIMIT ?1"
            ))?
            .query_map([limit], journal_row)?
            .collect::<SqlResult<Vec<_>>>()?;
        let Some(oldest) = rows.last().map(|row| row.id).filter(|_| with_items) else {
            return Ok(rows);
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT entry, kind, label, digest, names, bytes, reason, step
             FROM journal_item WHERE entry >= ?1 ORDER BY entry DESC, place",
        )?;
        let mut items = statement.query([oldest])?;
        let mut place = 0;
        while let Some(item) = items.next()? {
            let entry: i64 = item.get(0)?;
            while rows.get(place).is_some_and(|row| row.id > entry) {
                place += 1;
            }
            if let Some(row) = rows.get_mut(place).filter(|row| row.id == entry) {
                row.particulars.items.push(journal_item(item)?);
            }
        }
        Ok(rows)
    }

    /// The entry of this number, without its items; `None`: it has been forgotten.
    pub fn journal_row(&self, id: i64) -> SqlResult<Option<JournalRow>> {
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM journal WHERE id = ?1"))?
            .query_row([id], journal_row)
            .optional()
    }
}

fn journal_row(row: &Row) -> SqlResult<JournalRow> {
    let facts: String = row.get(10)?;
    Ok(JournalRow {
        id: row.get(0)?,
        entry: JournalEntry {
            time: row.get(1)?,
            operation: row.get(2)?,
            subject: row.get(3)?,
            bytes: row.get::<_, i64>(4)? as u64,
            detail: row.get(5)?,
        },
        actor: Actor {
            uid: row.get(6)?,
            command: row.get(7)?,
        },
        particulars: Particulars {
            milliseconds: row
                .get::<_, Option<i64>>(8)?
                .and_then(|n| n.try_into().ok()),
            digest: optional_digest(row, 9)?,
            // What a later rstore wrote in another way is no reason to hide the entry.
            facts: serde_json::from_str(&facts).unwrap_or_default(),
            items: Vec::new(),
        },
    })
}

fn journal_item(row: &Row) -> SqlResult<JournalItem> {
    let names: String = row.get(4)?;
    Ok(JournalItem {
        kind: row.get(1)?,
        label: row.get(2)?,
        digest: optional_digest(row, 3)?,
        names: names.split_whitespace().map(str::to_owned).collect(),
        bytes: row.get::<_, i64>(5)? as u64,
        reason: row.get(6)?,
        step: row.get(7)?,
    })
}

fn optional_digest(row: &Row, column: usize) -> SqlResult<Option<Digest>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => digest_column(row, column).map(Some),
    }
}

impl Writer<'_> {
    /// Remembers the last prune.
    pub fn set_last_prune(&self, last: LastPrune) -> SqlResult<()> {
        self.set_meta(LAST_PRUNE, &format!("{} {}", last.time, last.freed))
    }

    /// Notes what was done.
    pub fn note(&self, entry: &JournalEntry) -> SqlResult<()> {
        self.note_with(entry, Particulars::default())
    }

    /// Notes what was done, and more of it; then forgets the oldest entries beyond the bounds.
    pub fn note_with(&self, entry: &JournalEntry, more: Particulars) -> SqlResult<()> {
        self.begin_note(entry, more).map(|_| ())
    }

    /// The same of what is only begun. Returns the entry's number.
    pub fn begin_note(&self, entry: &JournalEntry, mut more: Particulars) -> SqlResult<i64> {
        // Names come before what had none: it is they that somebody asks for.
        more.items
            .sort_by_key(|item| item.names.is_empty() && item.kind != "tag");
        if more.items.len() > ITEMS {
            let left_out = more.items.len() - ITEMS;
            more.facts
                .insert("items_left_out".to_owned(), left_out.into());
            more.items.truncate(ITEMS);
        }
        let facts = facts_text(more.facts);
        let command = cut(&self.actor.command);
        let (subject, detail) = (cut(&entry.subject), cut(&entry.detail));
        let items: Vec<Kept> = more.items.iter().map(Kept::of).collect();
        let mut bytes = weight(&[&entry.operation, subject, detail, command, &facts]);
        bytes += items.iter().map(Kept::weight).sum::<i64>();
        self.connection
            .prepare_cached(
                "INSERT INTO journal (time, operation, subject, bytes, detail, uid, command, milliseconds, digest, facts, weight)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                entry.time,
                entry.operation,
                subject,
                entry.bytes as i64,
                detail,
                self.actor.uid,
                command,
                more.milliseconds.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
                more.digest.map(|digest| *digest.as_bytes()),
                facts,
                bytes
            ])?;
        let id = self.connection.last_insert_rowid();
        self.put_items(id, more.items.iter().enumerate().zip(&items))?;
        self.forget_oldest(id, bytes)?;
        Ok(id)
    }

    fn put_items<'i>(
        &self,
        id: i64,
        items: impl Iterator<Item = ((usize, &'i JournalItem), &'i Kept<'i>)>,
    ) -> SqlResult<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO journal_item VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for ((place, item), kept) in items {
            insert.execute(params![
                id,
                place as i64,
                item.kind,
                kept.label,
                item.digest.map(|digest| *digest.as_bytes()),
                kept.names,
                item.bytes as i64,
                item.reason,
                kept.step
            ])?;
        }
        Ok(())
    }

    // -- entries of what is still being done ----------------------------------------------------

    /// Adds to an entry what it takes away, each at its place among the items: less than [`ITEMS`].
    /// Nothing happens where the entry has been forgotten.
    pub fn note_items(&self, id: i64, items: &[(usize, &JournalItem)]) -> SqlResult<()> {
        let kept: Vec<Kept> = items.iter().map(|(_, item)| Kept::of(item)).collect();
        let bytes = kept.iter().map(Kept::weight).sum::<i64>();
        if !items.is_empty() && self.weigh(id, bytes)? {
            self.put_items(id, items.iter().copied().zip(&kept))?;
        }
        Ok(())
    }

    /// Takes items out of an entry again. What the entry weighs it is still said to weigh.
    pub fn forget_note_items(&self, id: i64, places: &[usize]) -> SqlResult<()> {
        let delete = "DELETE FROM journal_item WHERE entry = ?1 AND place = ?2";
        let mut delete = self.connection.prepare_cached(delete)?;
        for place in places {
            delete.execute(params![id, *place as i64])?;
        }
        Ok(())
    }

    /// Adds to an entry the bytes that have gone since the last time, and says how long it has
    /// taken so far, where that is known.
    pub fn note_progress(&self, id: i64, freed: u64, milliseconds: Option<u64>) -> SqlResult<()> {
        let update = "UPDATE journal SET bytes = bytes + ?2, milliseconds = coalesce(?3, milliseconds) WHERE id = ?1";
        let milliseconds = milliseconds.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let mut update = self.connection.prepare_cached(update)?;
        update.execute(params![id, freed as i64, milliseconds])?;
        Ok(())
    }

    /// Says anew to what, how, with what outcome and in how much time something was done. When and
    /// by whom it was begun stays as it is, and so do the items. Returns whether the entry is there
    /// still.
    pub fn amend_note(&self, id: i64, entry: &JournalEntry, more: Particulars) -> SqlResult<bool> {
        let facts = facts_text(more.facts);
        let (subject, detail) = (cut(&entry.subject), cut(&entry.detail));
        let texts =
            "SELECT length(CAST(subject || detail || facts AS BLOB)) FROM journal WHERE id = ?1";
        let mut texts = self.connection.prepare_cached(texts)?;
        let before: Option<i64> = texts.query_row([id], |row| row.get(0)).optional()?;
        let after = (subject.len() + detail.len() + facts.len()) as i64;
        let Some(before) = before else {
            return Ok(false);
        };
        self.weigh(id, after - before)?;
        let update = "UPDATE journal SET subject = ?2, bytes = ?3, detail = ?4, milliseconds = ?5, facts = ?6 WHERE id = ?1";
        self.connection.prepare_cached(update)?.execute(params![
            id,
            subject,
            entry.bytes as i64,
            detail,
            more.milliseconds
                .map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
            facts
        ])?;
        Ok(true)
    }

    /// Forgets an entry: nothing came of it.
    pub fn forget_note(&self, id: i64) -> SqlResult<()> {
        let weight = "SELECT weight FROM journal WHERE id = ?1";
        let mut weight = self.connection.prepare_cached(weight)?;
        let weight: Option<i64> = weight.query_row([id], |row| row.get(0)).optional()?;
        let Some(weight) = weight else {
            return Ok(());
        };
        self.delete_entry(id)?;
        if let Some(total) = self.total_weight()? {
            self.set_meta(WEIGHT, &(total - weight).to_string())?;
        }
        Ok(())
    }

    /// Adds to the weight of an entry. Returns whether it is there still.
    fn weigh(&self, id: i64, bytes: i64) -> SqlResult<bool> {
        let update = "UPDATE journal SET weight = weight + ?2 WHERE id = ?1";
        let mut update = self.connection.prepare_cached(update)?;
        let found = update.execute([id, bytes])? > 0;
        if found {
            self.forget_oldest(id, bytes)?;
        }
        Ok(found)
    }

    // -- bounds -------------------------------------------------------------------------------

    fn total_weight(&self) -> SqlResult<Option<i64>> {
        Ok(self.meta(WEIGHT)?.and_then(|text| text.parse().ok()))
    }

    fn delete_entry(&self, id: i64) -> SqlResult<()> {
        for text in [
            "DELETE FROM journal_item WHERE entry = ?1",
            "DELETE FROM journal WHERE id = ?1",
        ] {
            self.connection.prepare_cached(text)?.execute([id])?;
        }
        Ok(())
    }

    /// Forgets entries until the bounds hold; the newest stays, whatever it weighs.
    fn forget_oldest(&self, newest: i64, bytes: i64) -> SqlResult<()> {
        let mut total = match self.total_weight()? {
            Some(total) => total + bytes,
            None => self.connection.query_row(
                "SELECT coalesce(sum(weight), 0) FROM journal",
                [],
                |row| row.get(0),
            )?,
        };
        let mut oldest = self
            .connection
            .prepare_cached("SELECT id, weight FROM journal ORDER BY id LIMIT 1")?;
        loop {
            let (id, weight): (i64, i64) =
                oldest.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if id == newest || (id > newest - LIMIT && total <= BYTES) {
                break;
            }
            self.delete_entry(id)?;
            total -= weight;
        }
        self.set_meta(WEIGHT, &total.to_string())
    }
}

/// Facts as they are kept: none where they would take too much room.
fn facts_text(facts: Map<String, Value>) -> String {
    let text = match facts.is_empty() {
        true => String::new(),
        false => Value::Object(facts).to_string(),
    };
    match text.len() > TEXT {
        true => String::new(),
        false => text,
    }
}

/// In `meta`: what all entries weigh together.
const WEIGHT: &str = "journal-bytes";

/// The bytes of some texts, and of a row.
fn weight(texts: &[&str]) -> i64 {
    64 + texts.iter().map(|text| text.len() as i64).sum::<i64>()
}

/// An item's texts as they are kept.
struct Kept<'a> {
    label: &'a str,
    names: String,
    step: Option<&'a str>,
    reason: &'a str,
}

impl Kept<'_> {
    fn of(item: &JournalItem) -> Kept<'_> {
        // A foreign name may have blanks, which part names here.
        let names: Vec<String> = item
            .names
            .iter()
            .map(|name| name.replace(char::is_whitespace, "_"))
            .collect();
        Kept {
            label: cut(&item.label),
            names: cut(&names.join(" ")).to_owned(),
            step: item.step.as_deref().map(|step| cut_at(step, 200)),
            reason: &item.reason,
        }
    }

    fn weight(&self) -> i64 {
        weight(&[
            self.label,
            &self.names,
            self.step.unwrap_or(""),
            self.reason,
        ])
    }
}

fn cut(text: &str) -> &str {
    cut_at(text, TEXT)
}

fn cut_at(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::super::tests::temporary;
    use super::*;
    use crate::catalog::{Catalog, WriteError};

    fn entry(time: Millis, detail: &str) -> JournalEntry {
        JournalEntry {
            time,
            operation: "prune".to_owned(),
            subject: "app:latest".to_owned(),
            bytes: 7,
            detail: detail.to_owned(),
        }
    }

    fn item(label: &str, names: &[&str]) -> JournalItem {
        JournalItem {
            kind: "image".to_owned(),
            label: label.to_owned(),
            digest: Some(Digest::of(label.as_bytes())),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            bytes: 5,
            reason: "dangling".to_owned(),
            step: Some("RUN x".to_owned()),
        }
    }

    fn note(catalog: &Catalog, entry: &JournalEntry, more: Particulars) {
        catalog
            .write(|tx| Ok::<_, WriteError<crate::catalog::Error>>(tx.note_with(entry, more)?))
            .unwrap();
    }

    #[test]
    fn an_entry_is_read_back_with_who_what_and_why() {
        let (_dir, mut catalog) = temporary();
        catalog.act_as(Actor {
            uid: Some(1000),
            command: "rstore prune -f".to_owned(),
        });
        note(&catalog, &entry(1, "first"), Particulars::default());
        let more = Particulars {
            milliseconds: Some(1234),
            digest: Some(Digest::of(b"d")),
            facts: Map::from_iter([("steps".to_owned(), 3.into())]),
            items: vec![item("b", &[]), item("a", &["app:1", "app:2"])],
        };
        note(&catalog, &entry(2, "second"), more.clone());
        let rows = catalog.read(|tx| tx.journal_rows(10, true)).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].entry, entry(2, "second"));
        assert_eq!(rows[0].actor.uid, Some(1000));
        assert_eq!(rows[0].actor.command, "rstore prune -f");
        // What had names comes first.
        assert_eq!(
            rows[0].particulars.items,
            [item("a", &["app:1", "app:2"]), item("b", &[])]
        );
        assert_eq!(rows[0].particulars.facts, more.facts);
        assert_eq!(rows[1].particulars, Particulars::default());
        assert_eq!(
            catalog.read(|tx| tx.journal(1)).unwrap(),
            [entry(2, "second")]
        );
    }

    #[test]
    fn what_is_added_to_an_entry_and_taken_out_of_it_is_weighed() {
        let (_dir, catalog) = temporary();
        let weighs = |entries: i64| {
            catalog
                .write(|tx| {
                    let sum = "SELECT count(*), coalesce(sum(weight), 0) FROM journal";
                    let sums: (i64, i64) = tx
                        .connection
                        .query_row(sum, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
                    assert_eq!(sums, (entries, tx.total_weight()?.unwrap()));
                    Ok::<_, WriteError<crate::catalog::Error>>(())
                })
                .unwrap();
        };
        note(&catalog, &entry(1, "first"), Particulars::default());
        let id = catalog
            .write(|tx| {
                let id = tx.begin_note(&entry(2, "begun"), Particulars::default())?;
                let (one, other) = (item("one", &["app:1"]), item("other", &[]));
                tx.note_items(id, &[(0, &one), (7, &other)])?;
                tx.note_progress(id, 100, Some(5))?;
                tx.note_progress(id, 11, None)?;
                Ok::<_, WriteError<crate::catalog::Error>>(id)
            })
            .unwrap();
        weighs(2);
        let row = catalog.read(|tx| tx.journal_row(id)).unwrap().unwrap();
        assert_eq!(row.entry.bytes, 7 + 100 + 11);
        assert_eq!(row.particulars.milliseconds, Some(5));
        catalog
            .write(|tx| {
                tx.forget_note_items(id, &[0])?;
                let amended = entry(9, "it has ended, and well");
                assert!(tx.amend_note(id, &amended, Particulars::default())?);
                assert!(!tx.amend_note(id + 1, &amended, Particulars::default())?);
                tx.note_items(id + 1, &[(0, &item("nobody's", &[]))])?;
                Ok::<_, WriteError<crate::catalog::Error>>(())
            })
            .unwrap();
        weighs(2);
        let rows = catalog.read(|tx| tx.journal_rows(9, true)).unwrap();
        assert_eq!(rows[0].entry, entry(2, "it has ended, and well"));
        assert_eq!(rows[0].particulars.items, [item("other", &[])]);
        catalog
            .write(|tx| Ok::<_, WriteError<crate::catalog::Error>>(tx.forget_note(id)?))
            .unwrap();
        weighs(1);
    }

    #[test]
    fn it_is_bounded_in_entries_and_in_bytes() {
        let (_dir, catalog) = temporary();
        let long = "x".repeat(3 * TEXT);
        let started = |catalog: &Catalog| {
            catalog.read(|tx| {
                let sum = "SELECT count(*), sum(weight), (SELECT count(*) FROM journal_item) FROM journal";
                tx.connection.query_row(sum, [], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
                })
            })
        };
        // Of one entry no more than so many items, and texts no longer than that.
        let items = |count: usize| Particulars {
            items: (0..count)
                .map(|n| item(&n.to_string(), &[&"n".repeat(1500)]))
                .collect(),
            ..Particulars::default()
        };
        note(&catalog, &entry(1, &long), items(ITEMS + 5));
        let rows = catalog.read(|tx| tx.journal_rows(1, true)).unwrap();
        assert_eq!(rows[0].particulars.items.len(), ITEMS);
        assert_eq!(rows[0].particulars.facts["items_left_out"], 5);
        assert_eq!(rows[0].entry.detail.len(), TEXT);
        // The next ones push it out, and its items with it.
        note(&catalog, &entry(2, &long), items(5_000));
        note(&catalog, &entry(3, &long), items(5_000));
        let (entries, bytes, kept) = started(&catalog).unwrap();
        assert_eq!((entries, kept), (2, 10_000));
        assert!(bytes <= BYTES, "{bytes}");
        let known = catalog.read(|tx| tx.meta(WEIGHT)).unwrap();
        assert_eq!(known, Some(bytes.to_string()));
        // As many as there may be, and one.
        catalog
            .write(|tx| {
                tx.connection.execute_batch("DELETE FROM journal; DELETE FROM journal_item; DELETE FROM meta WHERE key = 'journal-bytes'")?;
                for time in 0..=LIMIT {
                    tx.note(&entry(time, ""))?;
                }
                Ok::<_, WriteError<crate::catalog::Error>>(())
            })
            .unwrap();
        assert_eq!(started(&catalog).unwrap().0, LIMIT);
    }
}
