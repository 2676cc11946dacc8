//! What the last builds did with each step: the memory that hints are made of.
//!
//! ```text
//! build ──▶ build_step, numbered as in the file: how it came out, why, how long it took
//! ```
//! A build is remembered under a subject, which says what was built (context, file, target).
//! Bounded: [`PER_SUBJECT`] builds of a subject, [`LIMIT`] in all. Nothing else reads it, and
//! losing it loses hints. Texts are the Dockerfile's own, unexpanded: no value of an ARG is here.

use rusqlite::{Row, params};

use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// How many builds of a subject are kept.
pub const PER_SUBJECT: usize = 20;

/// How many builds are kept in all.
pub const LIMIT: usize = 2_000;

/// How a step came out, and if it was done: why it was not in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was in the cache.
    Cached,
    /// What it copies had changed.
    Content,
    /// The step before it had been done anew.
    Parent,
    /// Its text was another, or new.
    Instruction,
    /// Its text was the same, and something that it sees was not: an ARG, an option of the build.
    Variable,
    /// All was the same, and the cache had it no more.
    Missing,
    /// Nothing was known of an earlier build.
    First,
    /// The cache was not to be used.
    Forced,
}

const OUTCOMES: [Outcome; 8] = [
    Outcome::Cached,
    Outcome::Content,
    Outcome::Parent,
    Outcome::Instruction,
    Outcome::Variable,
    Outcome::Missing,
    Outcome::First,
    Outcome::Forced,
];

/// One step of a remembered build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// Its number among the build's steps, from 0.
    pub number: usize,
    /// Its stage: the name, or `stage-N`.
    pub stage: String,
    /// Its line in the Dockerfile, as it was then.
    pub line: u32,
    /// The instruction as written.
    pub text: String,
    /// How it came out.
    pub outcome: Outcome,
    /// How long it took.
    pub milliseconds: u64,
    /// What its words come to; with `content` and `parent` all that its cache key holds.
    pub identity: Option<Digest>,
    /// What it copies.
    pub content: Option<Digest>,
    /// The ID of the image before it; `None`: made in this build.
    pub parent: Option<Digest>,
    /// The ID of the image after it.
    pub image: Option<Digest>,
}

/// One remembered build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecord {
    /// What was built.
    pub subject: String,
    /// When it ended.
    pub time: Millis,
    /// Its steps, in order.
    pub steps: Vec<StepRecord>,
}

impl Reader<'_> {
    /// The last builds of a subject, the newest first.
    pub fn builds(&self, subject: &str, limit: usize) -> SqlResult<Vec<BuildRecord>> {
        let mut builds = self.connection.prepare_cached(
            "SELECT id, time FROM build WHERE subject = ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let mut steps = self.connection.prepare_cached(
            "SELECT number, stage, line, text, outcome, milliseconds, identity, content, parent, image
             FROM build_step WHERE build = ?1 ORDER BY number",
        )?;
        let found = builds
            .query_map(params![subject, limit as i64], |row| {
                Ok((row.get::<_, i64>(0)?, row.get(1)?))
            })?
            .collect::<SqlResult<Vec<_>>>()?;
        let mut records = Vec::with_capacity(found.len());
        for (id, time) in found {
            records.push(BuildRecord {
                subject: subject.to_owned(),
                time,
                steps: steps.query_map([id], step_row)?.collect::<SqlResult<_>>()?,
            });
        }
        Ok(records)
    }
}

fn step_row(row: &Row) -> SqlResult<StepRecord> {
    let digest = |index: usize| -> SqlResult<Option<Digest>> {
        let bytes: Option<[u8; 32]> = row.get(index)?;
        Ok(bytes.map(Digest::from_bytes))
    };
    let outcome: usize = row.get::<_, i64>(4)?.try_into().unwrap_or(usize::MAX);
    Ok(StepRecord {
        number: row.get::<_, i64>(0)? as usize,
        stage: row.get(1)?,
        line: row.get(2)?,
        text: row.get(3)?,
        // What a newer program knows is of no use to this one.
        outcome: OUTCOMES.get(outcome).copied().unwrap_or(Outcome::First),
        milliseconds: row.get::<_, i64>(5)? as u64,
        identity: digest(6)?,
        content: digest(7)?,
        parent: digest(8)?,
        image: digest(9)?,
    })
}

impl Writer<'_> {
    /// Remembers a build, and forgets the oldest beyond the bounds.
    pub fn remember_build(&self, build: &BuildRecord) -> SqlResult<()> {
        self.connection
            .prepare_cached("INSERT INTO build (subject, time) VALUES (?1, ?2)")?
            .execute(params![build.subject, build.time])?;
        let id = self.connection.last_insert_rowid();
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO build_step VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        for step in &build.steps {
            let outcome = OUTCOMES.iter().position(|known| *known == step.outcome);
            let bytes = |digest: &Option<Digest>| digest.map(|digest| *digest.as_bytes());
            insert.execute(params![
                id,
                step.number as i64,
                step.stage,
                step.line,
                step.text,
                outcome.unwrap_or_default() as i64,
                i64::try_from(step.milliseconds).unwrap_or(i64::MAX),
                bytes(&step.identity),
                bytes(&step.content),
                bytes(&step.parent),
                bytes(&step.image),
            ])?;
        }
        self.forget_builds(&build.subject, id)
    }

    fn forget_builds(&self, subject: &str, newest: i64) -> SqlResult<()> {
        let doomed: Vec<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM build WHERE id <= ?1
                 UNION
                 SELECT id FROM (SELECT id FROM build WHERE subject = ?2
                                 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
            )?
            .query_map(
                params![newest - LIMIT as i64, subject, PER_SUBJECT as i64],
                |row| row.get(0),
            )?
            .collect::<SqlResult<_>>()?;
        for id in doomed {
            for text in [
                "DELETE FROM build_step WHERE build = ?1",
                "DELETE FROM build WHERE id = ?1",
            ] {
                self.connection.prepare_cached(text)?.execute([id])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, WriteError};

    fn build(subject: &str, time: Millis) -> BuildRecord {
        let step = |number, outcome| StepRecord {
            number,
            stage: "stage-0".into(),
            line: 2,
            text: "COPY . .".into(),
            outcome,
            milliseconds: 1234,
            identity: Some(Digest::of(b"i")),
            content: None,
            parent: Some(Digest::of(b"p")),
            image: None,
        };
        BuildRecord {
            subject: subject.into(),
            time,
            steps: vec![step(0, Outcome::Cached), step(1, Outcome::Content)],
        }
    }

    #[test]
    fn builds_are_read_back_as_they_were_and_only_the_last_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.db")).unwrap();
        let remember = |build: &BuildRecord| {
            catalog
                .write(|tx| Ok::<_, WriteError<crate::catalog::Error>>(tx.remember_build(build)?))
                .unwrap();
        };
        remember(&build("other", 1));
        for time in 0..PER_SUBJECT as i64 + 5 {
            remember(&build("app", time));
        }
        let kept = catalog.read(|tx| tx.builds("app", 100)).unwrap();
        assert_eq!(kept.len(), PER_SUBJECT);
        assert_eq!(kept[0], build("app", PER_SUBJECT as i64 + 4));
        let other = catalog.read(|tx| tx.builds("other", 100)).unwrap();
        assert_eq!(other, [build("other", 1)]);
        let two = catalog.read(|tx| tx.builds("app", 2)).unwrap();
        assert_eq!(two.len(), 2);
    }
}
