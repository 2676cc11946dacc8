//! The journal's entry of a plan that is carried out: written as things go, completed at the end.
//!
//! ```text
//! first transaction of the condemnation   the entry: who, by which command; the tags that go
//! each batch of it                        the images, indexes, artifacts that it condemns
//! each batch of the sweep                 bytes and time so far
//! the end                                 what came of it; without what was rescued meanwhile
//! ```
//! So the journal tells who took a name as soon as the name is gone, whatever becomes of the
//! process: until the end the entry says [`NOT_FINISHED`]. Who ends the work ([`super::finish`], or
//! the next prune) finds the entry's number in `meta` ([`ENTRIES`]), and ends the entry too. Bytes
//! that a killed prune had given back since the last batch of its sweep are not in it. A kill
//! between the new index.json and the commit after it, some milliseconds, leaves a tag that is gone
//! and no entry.
//!
//! On a disk with little room most of the items are written at the end, when bytes have come back.

use hashbrown::HashMap;
use serde_json::Map;

use crate::catalog::journal::{ITEMS, JournalEntry, JournalItem, Particulars};
use crate::catalog::{Catalog, Millis, SqlResult, WriteError, Writer};
use crate::graph::{ImageGraph, NodeId};

use super::condemn::UNFINISHED;
use super::plan::{Item, ItemKind, Plan, Reason, Untag};
use super::report::Report;
use super::{Error, Result};

/// What the detail of an entry ends in, of which not all has gone yet that was to go.
pub const NOT_FINISHED: &str = "; not finished";

/// In `meta`: the numbers of the entries that are not finished, with a blank between two.
const ENTRIES: &str = "prune-entries";

/// How many items are written as they go where there is little room.
const FEW: usize = 1_000;

/// How the carrying out of a plan has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending<'a> {
    /// All that was to go, and could, has gone.
    Whole,
    /// It was told to stop.
    Stopped,
    /// Something went wrong.
    Failed(&'a Error),
}

/// The entry, and what is to stand in it.
pub(super) struct Deed<'a> {
    plan: &'a Plan,
    clock: &'a dyn Fn() -> Millis,
    began: Millis,
    /// Its number, once it stands in the journal.
    id: Option<i64>,
    /// What may stand in it, named things first: their indexes are their places there.
    items: Vec<JournalItem>,
    places: HashMap<NodeId, usize>,
    left_out: usize,
    /// What has been condemned of it, and whether it stands in the journal.
    condemned: Vec<(NodeId, usize, bool)>,
    /// How many items are written as they go.
    at_once: usize,
}

impl<'a> Deed<'a> {
    /// What carrying out `plan` will be said to have done. `clock` tells the milliseconds since the
    /// epoch, and is first asked now.
    pub fn new(graph: &ImageGraph, plan: &'a Plan, clock: &'a dyn Fn() -> Millis) -> Deed<'a> {
        let kept = |named: bool| {
            let items = plan.items.iter();
            items.filter(move |item| word(item.kind).is_some() && item.names().is_empty() != named)
        };
        let mut places = HashMap::new();
        let mut items = Vec::new();
        let mut note = |(place, item): (usize, &Item)| {
            if let Some(node) = item.digest.as_ref().and_then(|digest| graph.find(digest)) {
                places.insert(node, place);
            }
            journal_item(item)
        };
        items.extend((0..ITEMS).zip(kept(true)).filter_map(&mut note));
        let tags = plan.untag.iter().take(ITEMS - items.len());
        items.extend(tags.map(|tag| journal_tag(plan, tag)));
        let unnamed = (items.len()..ITEMS).zip(kept(false));
        let unnamed: Vec<JournalItem> = unnamed.filter_map(&mut note).collect();
        items.extend(unnamed);
        let all = kept(true).count() + plan.untag.len() + kept(false).count();
        Deed {
            plan,
            clock,
            began: clock(),
            id: None,
            left_out: all - items.len(),
            items,
            places,
            condemned: Vec::new(),
            at_once: ITEMS,
        }
    }

    /// There is little room: only so much is written before bytes have come back.
    pub fn be_brief(&mut self) {
        self.at_once = FEW;
    }

    /// When it began.
    pub fn began(&self) -> Millis {
        self.began
    }

    /// The entry's number, once it stands in the journal.
    pub fn id(&self) -> Option<i64> {
        self.id
    }

    /// How long it has taken so far, in milliseconds; unknown where the clock was set back.
    pub fn took(&self) -> Option<u64> {
        u64::try_from((self.clock)().saturating_sub(self.began)).ok()
    }

    // -- while things go ------------------------------------------------------------------------

    /// Begins the entry: these tags have gone.
    pub fn begin(&mut self, tx: &Writer, untagged: &[String]) -> SqlResult<()> {
        let totals = &self.plan.totals;
        let planned = match totals.items {
            0 => "names".to_owned(),
            _ => format!("{} planned", totals.words()),
        };
        let entry = self.entry(untagged, totals.items, 0, planned + NOT_FINISHED);
        let id = tx.begin_note(&entry, self.more())?;
        tx.note_items(id, &self.tags(untagged))?;
        tx.set_meta(UNFINISHED, "1")?;
        let mut open = open(tx)?;
        open.push(id);
        set_open(tx, &open)?;
        self.id = Some(id);
        Ok(())
    }

    /// These are condemned.
    pub fn condemn(&mut self, tx: &Writer, nodes: impl Iterator<Item = NodeId>) -> SqlResult<()> {
        let mut now = Vec::new();
        for node in nodes {
            let Some(place) = self.places.get(&node).copied() else {
                continue;
            };
            let written = place < self.at_once;
            self.condemned.push((node, place, written));
            if written {
                now.push((place, &self.items[place]));
            }
        }
        match self.id {
            Some(id) => tx.note_items(id, &now),
            None => Ok(()),
        }
    }

    // -- at the end -----------------------------------------------------------------------------

    /// Completes the entry. Of what has been condemned `stays` says what was rescued since.
    pub fn close(
        &self,
        catalog: &Catalog,
        report: &Report,
        stays: impl Fn(NodeId) -> bool,
        ending: Ending,
    ) -> Result<()> {
        catalog.write(|tx| {
            if let Ending::Whole = ending {
                end_others(tx, self.id)?;
                tx.set_meta(UNFINISHED, "0")?;
            }
            self.complete(tx, report, stays, ending)?;
            Ok::<_, WriteError<Error>>(())
        })
    }

    fn complete(
        &self,
        tx: &Writer,
        report: &Report,
        stays: impl Fn(NodeId) -> bool,
        ending: Ending,
    ) -> SqlResult<()> {
        let nothing = report.removed.items == 0 && report.untagged.is_empty();
        let Some(id) = self.id else {
            return Ok(());
        };
        if let (true, Ending::Whole) = (nothing, ending) {
            return tx.forget_note(id);
        }
        let mut words = report.words();
        let mut more = self.more();
        if let Ending::Stopped | Ending::Failed(_) = ending {
            if words.is_empty() {
                words.push_str("nothing yet");
            }
            words.push_str(NOT_FINISHED);
        }
        if let Ending::Failed(error) = ending {
            more.facts
                .insert("error".to_owned(), error.to_string().into());
        }
        let removed = &report.removed;
        let entry = self.entry(&report.untagged, removed.items, removed.freed, words);
        if !tx.amend_note(id, &entry, more.clone())? {
            // It has never come to stand there, or newer ones have driven it out.
            let all = self.condemned.iter().filter(|(node, ..)| !stays(*node));
            more.items = all
                .map(|(_, place, _)| self.items[*place].clone())
                .collect();
            let tags = self.tags(&report.untagged).into_iter();
            more.items.extend(tags.map(|(_, tag)| tag.clone()));
            return match more.items.is_empty() {
                true => Ok(()),
                false => tx.note_with(&entry, more),
            };
        }
        let rescued = self.condemned.iter().filter(|(node, ..)| stays(*node));
        let rescued: Vec<usize> = rescued.map(|(_, place, _)| *place).collect();
        tx.forget_note_items(id, &rescued)?;
        let late = self.condemned.iter();
        let late = late.filter(|(node, _, written)| !written && !stays(*node));
        let late: Vec<_> = late
            .map(|(_, place, _)| (*place, &self.items[*place]))
            .collect();
        tx.note_items(id, &late)
    }

    // -- what stands in it ----------------------------------------------------------------------

    fn entry(&self, untagged: &[String], items: u64, bytes: u64, words: String) -> JournalEntry {
        JournalEntry {
            time: self.began,
            operation: operation(self.plan).to_owned(),
            subject: match untagged {
                [] => format!("{items} items"),
                names => names.join(" "),
            },
            bytes,
            detail: match self.plan.policy.name.as_deref() {
                Some(policy) => format!("{policy}: {words}"),
                None => words,
            },
        }
    }

    fn more(&self) -> Particulars {
        let mut facts = Map::new();
        if operation(self.plan) == "prune"
            && let Ok(policy) = serde_json::to_value(&self.plan.policy)
        {
            facts.insert("policy".to_owned(), policy);
        }
        if self.left_out > 0 {
            facts.insert("items_left_out".to_owned(), self.left_out.into());
        }
        Particulars {
            milliseconds: self.took(),
            facts,
            ..Particulars::default()
        }
    }

    /// The tags that have gone, at their places.
    fn tags(&self, untagged: &[String]) -> Vec<(usize, &JournalItem)> {
        let items = self.items.iter().enumerate();
        let tags = items.filter(|(_, item)| item.kind == "tag" && untagged.contains(&item.label));
        tags.collect()
    }
}

/// Whoever has ended the work of others says so in their entries. What `report` says was done is
/// told in the last of them, whose bytes have been counted as far as `noted` says. Returns whether
/// there is such an entry.
pub(super) fn end(tx: &Writer, report: &Report, noted: u64) -> SqlResult<bool> {
    let mut open = open(tx)?;
    let last = open.pop();
    for id in open {
        end_one(tx, id, "")?;
    }
    set_open(tx, &[])?;
    let Some(id) = last else {
        return Ok(false);
    };
    let rest = report.removed.freed.saturating_sub(noted);
    tx.note_progress(id, rest, None)?;
    end_one(tx, id, &report.words())
}

/// The last of the entries that are not finished.
pub(super) fn last_open(tx: &crate::catalog::Reader) -> SqlResult<Option<i64>> {
    Ok(open(tx)?.last().copied())
}

/// Ends all entries but the one of whoever has done the rest of their work with his own.
fn end_others(tx: &Writer, own: Option<i64>) -> SqlResult<()> {
    for id in open(tx)?.into_iter().filter(|id| Some(*id) != own) {
        end_one(tx, id, "")?;
    }
    set_open(tx, &[])
}

/// Returns whether the entry is there still.
fn end_one(tx: &Writer, id: i64, words: &str) -> SqlResult<bool> {
    let Some(row) = tx.journal_row(id)? else {
        return Ok(false);
    };
    let mut entry = row.entry;
    if let Some(detail) = entry.detail.strip_suffix(NOT_FINISHED) {
        let more = match words {
            "" => String::new(),
            words => format!(": {words}"),
        };
        entry.detail = format!("{detail}; a later command ended it{more}");
    }
    tx.amend_note(id, &entry, row.particulars)
}

fn open(tx: &crate::catalog::Reader) -> SqlResult<Vec<i64>> {
    let text = tx.meta(ENTRIES)?.unwrap_or_default();
    let numbers = text.split(' ').filter_map(|number| number.parse().ok());
    Ok(numbers.collect())
}

fn set_open(tx: &Writer, ids: &[i64]) -> SqlResult<()> {
    let numbers: Vec<String> = ids.iter().map(i64::to_string).collect();
    tx.set_meta(ENTRIES, &numbers.join(" "))
}

/// What the journal calls the carrying out of a plan.
fn operation(plan: &Plan) -> &'static str {
    let named = plan.items.iter().any(|item| item.reason == Reason::Named);
    match named || plan.items.is_empty() {
        true => "remove",
        false => "prune",
    }
}

/// An image, index or artifact that goes; what goes with it is only counted.
fn word(kind: ItemKind) -> Option<&'static str> {
    match kind {
        ItemKind::Image => Some("image"),
        ItemKind::Index => Some("index"),
        ItemKind::Artifact => Some("artifact"),
        _ => None,
    }
}

fn journal_item(item: &Item) -> Option<JournalItem> {
    Some(JournalItem {
        kind: word(item.kind)?.to_owned(),
        label: item.label(),
        digest: item.digest,
        names: item.names().to_vec(),
        bytes: item.freed,
        reason: item.reason.words().to_owned(),
        step: item.step().map(str::to_owned),
    })
}

fn journal_tag(plan: &Plan, untag: &Untag) -> JournalItem {
    let reason = match operation(plan) {
        "remove" => Reason::Named,
        _ => Reason::Expired,
    };
    JournalItem {
        kind: "tag".to_owned(),
        label: untag.name.clone(),
        digest: Some(untag.digest),
        names: Vec::new(),
        bytes: 0,
        reason: reason.words().to_owned(),
        step: None,
    }
}
