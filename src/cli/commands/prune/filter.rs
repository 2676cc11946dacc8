//! The filters of `prune`: the engine of the lists, asked by the garbage collector.

use std::collections::BTreeMap;

use crate::catalog::Millis;
use crate::cli::commands::images::STATES;
use crate::cli::commands::view;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::{Result, exit};
use crate::gc::{Filter, ItemKind, Thing};
use crate::graph::ImageGraph;
use crate::oci::reference::display_parts;

const KEYS: &[Key] = &[
    Key::Dangling,
    Key::State,
    Key::Type,
    Key::Label,
    Key::NotLabel,
    Key::Reference,
    Key::Id,
    Key::Before,
    Key::Since,
    Key::Until,
    Key::Used,
];

const TYPES: &[&str] = &[
    "image",
    "index",
    "artifact",
    "config",
    "layer",
    "blob",
    "snapshot",
    "container",
    "cache_mount",
    "cache_record",
    "temporary",
];

fn word(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Image => "image",
        ItemKind::Index => "index",
        ItemKind::Artifact => "artifact",
        ItemKind::Config => "config",
        ItemKind::Layer => "layer",
        ItemKind::Blob => "blob",
        ItemKind::Snapshot => "snapshot",
        ItemKind::Container => "container",
        ItemKind::CacheMount => "cache_mount",
        ItemKind::CacheRecord => "cache_record",
        ItemKind::Temporary => "temporary",
    }
}

/// Filters that were understood, if there are any.
pub struct Chosen {
    filters: Filters,
    /// Whether labels are asked for: they are read only then.
    labels: bool,
}

/// Reads filters. Without a graph only whether they can be meant.
pub fn read(texts: &[String], graph: Option<&ImageGraph>, now: Millis) -> Result<Option<Chosen>> {
    if texts.is_empty() {
        return Ok(None);
    }
    for (key, words) in [("state", STATES), ("type", TYPES)] {
        let of = |text: &String| text.split_once('=').is_some_and(|(other, _)| other == key);
        let texts: Vec<String> = texts.iter().filter(|text| of(text)).cloned().collect();
        parse(&texts, words, None, now)?;
    }
    let filters = parse(texts, &[], graph, now)?;
    let labels = filters.has(Key::Label) || filters.has(Key::NotLabel);
    Ok(Some(Chosen { filters, labels }))
}

fn parse(
    texts: &[String],
    words: &[&str],
    graph: Option<&ImageGraph>,
    now: Millis,
) -> Result<Filters> {
    let image_time = |name: &str| match graph {
        Some(graph) => Ok(graph.node(graph.resolve(name)?.node).first_seen),
        None => Ok(0),
    };
    let vocabulary = Vocabulary {
        keys: KEYS,
        words,
        now,
        image_time: &image_time,
    };
    Filters::parse(texts, &vocabulary)
}

/// Whether one filter can be meant, for a configuration.
pub fn check(text: &str) -> Result<(), String> {
    match read(&[text.to_owned()], None, 0) {
        Ok(_) => Ok(()),
        Err(error) => Err(exit::message(&error)),
    }
}

struct Record<'a> {
    thing: &'a Thing<'a>,
    labels: BTreeMap<String, String>,
    names: Vec<String>,
}

impl Facts for Record<'_> {
    fn fact(&self, key: Key) -> Fact<'_> {
        let time = |time: Option<Millis>| time.map_or(Fact::Nothing, Fact::Time);
        let thing = self.thing;
        match (key, thing.state) {
            (Key::Dangling, Some(state)) => Fact::Is(state == crate::graph::State::Dangling),
            (Key::State, Some(state)) => Fact::Word(state.word()),
            (Key::Type, _) => Fact::Word(word(thing.kind)),
            (Key::Label | Key::NotLabel, _) if thing.image.is_some() => Fact::Labels(&self.labels),
            (Key::Reference, _) => Fact::Names(self.names.iter().map(String::as_str).collect()),
            (Key::Id, _) => Fact::Id(thing.id),
            (Key::Before | Key::Since | Key::Until, _) => time(thing.first_seen),
            (Key::Used, _) => time(thing.last_used),
            _ => Fact::Nothing,
        }
    }
}

impl Filter for Chosen {
    fn passes(&self, thing: &Thing) -> bool {
        let image = thing.image.as_ref().filter(|_| self.labels);
        let labels = image.map(view::labels).unwrap_or_default();
        let names = thing.names.iter();
        let names = names.flat_map(|name| [display_parts(name).0, (*name).to_owned()]);
        self.filters.pass(&Record {
            thing,
            labels,
            names: names.collect(),
        })
    }
}
