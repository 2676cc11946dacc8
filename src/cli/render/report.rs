//! The page of `rstore report`: one file that needs nothing else.
//!
//! ```text
//! Report ─ serde ─▶ data ────────────────┐ <script type="application/json">
//!    │                                    ├─▶ page.html ─ minijinja ─▶ one file
//!    └─ picture ─▶ svg::unstyled, style, scripts
//! ```
//! [`Report`] is a value: the commands gather it, here it is drawn. Lists in it are bounded by whoever
//! gathers, and say what they leave out; sizes in it add up exactly: a [`Tile`] is as large as the
//! tiles in it, and the outermost one as large as the store.
//!
//! **Strangers' texts** (names, labels, instructions) reach the page in three ways: through the
//! template, which escapes for HTML; as JSON, in which no `<` is left; and from there into the
//! document as text, never as markup. Should one slip through nevertheless, it is not run: the
//! page's Content-Security-Policy allows its own style and script by their hashes, and nothing from
//! anywhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::picture::Picture;
use super::{size, svg, time};
use crate::catalog::Millis;
use crate::cli::Result;

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/report.css");
/// The scripts, in this order.
const SCRIPTS: [&str; 4] = [
    svg::GRAPH_SCRIPT,
    include_str!("report/treemap.js"),
    include_str!("report/tables.js"),
    include_str!("report/report.js"),
];

/// What a store is made of, at one moment.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// The store's directory, as text.
    pub root: String,
    /// When it was looked at.
    #[serde(serialize_with = "time::json")]
    pub made: Millis,
    /// All allocated bytes below the root.
    pub total: u64,
    /// The file system that it is on.
    pub disk: Option<Disk>,
    /// The rows of `df`, as far as they have bytes or things.
    pub rows: Vec<Kind>,
    /// The same as areas.
    pub tree: Tile,
    /// What the prune of each scope would free.
    pub prunes: Vec<Prune>,
    /// Why nothing can be pruned, where that is so.
    pub blocked: Option<String>,
    /// What the widest prune leaves alone although it takes such things, and why, in words.
    pub notes: Vec<String>,
    /// Images; those with most bytes where not all are here.
    pub images: Table<ImageRow>,
    /// Layers, likewise.
    pub layers: Table<LayerRow>,
    /// What was done, the newest first.
    pub log: Table<LogRow>,
    /// Images that descend from one another.
    #[serde(skip)]
    pub picture: Picture,
    /// How many images are not in the picture.
    #[serde(skip)]
    pub undrawn: u64,
}

/// A file system.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Disk {
    /// Its bytes.
    pub size: u64,
    /// Those that may still be used.
    pub free: u64,
}

/// A row of `df`.
#[derive(Debug, Serialize)]
pub struct Kind {
    /// As `df --format json` has it.
    #[serde(rename = "type")]
    pub word: &'static str,
    /// As `df` has it.
    pub title: &'static str,
    /// How many there are.
    pub total: u64,
    /// How many of them something holds.
    pub active: u64,
    /// Allocated bytes.
    pub size: u64,
    /// Of these, what `prune --all` frees.
    pub reclaimable: u64,
}

/// What a prune would free.
#[derive(Debug, Serialize)]
pub struct Prune {
    /// The command.
    pub command: String,
    /// What it takes, in words.
    pub what: &'static str,
    /// How many things.
    pub items: u64,
    /// How many bytes.
    pub freed: u64,
}

/// The part of a list that is shown, and what is left out.
#[derive(Debug, Serialize)]
pub struct Table<Row> {
    /// What is shown.
    pub shown: Vec<Row>,
    /// How many are not.
    pub left: u64,
    /// The bytes of those, where they have bytes of their own.
    pub left_bytes: u64,
}

/// An image.
#[derive(Debug, Serialize)]
pub struct ImageRow {
    /// Its tags.
    pub names: Vec<String>,
    /// Its ID.
    pub id: String,
    /// Its manifest.
    pub digest: String,
    /// What it is in the store.
    pub state: &'static str,
    /// `os/architecture`.
    pub platform: String,
    /// The instruction that made it.
    pub step: Option<String>,
    /// The ID of what it was made from.
    pub parent: Option<String>,
    /// What its config says, at most some of it.
    pub labels: std::collections::BTreeMap<String, String>,
    /// When its config says that it was made.
    #[serde(serialize_with = "time::json_option")]
    pub created: Option<Millis>,
    /// When the store first saw it.
    #[serde(serialize_with = "time::json")]
    pub first_seen: Millis,
    /// When it was last used.
    #[serde(serialize_with = "time::json")]
    pub last_used: Millis,
    /// Allocated bytes of manifest, config and layers.
    pub size: u64,
    /// Of an image that is kept: those of it and of its layers that no other such image holds,
    /// whatever steps were taken on the way to it.
    pub alone: u64,
    /// Those that no other image holds.
    pub own: u64,
    /// Those that others hold too.
    pub shared: u64,
    /// Those that go with it when everything is pruned that tagged images don't need.
    pub reclaimable: u64,
    /// Places in [`Report::layers`], the lowest layer first.
    pub layers: Vec<u32>,
    /// How many of its layers have no such place.
    pub more_layers: u32,
}

/// A layer.
#[derive(Debug, Serialize)]
pub struct LayerRow {
    /// Its blob.
    pub digest: String,
    /// Of its tar.
    pub diff_id: Option<String>,
    /// What it is in the store.
    pub state: &'static str,
    /// Allocated bytes.
    pub size: u64,
    /// Bytes of the tar, where known.
    pub unpacked: Option<u64>,
    /// How many images hold it.
    pub images: u64,
    /// The instruction that made it.
    pub step: Option<String>,
    /// When it was last used.
    #[serde(serialize_with = "time::json")]
    pub last_used: Millis,
}

/// An entry of the log.
#[derive(Debug, Serialize)]
pub struct LogRow {
    /// When.
    #[serde(serialize_with = "time::json")]
    pub time: Millis,
    /// What was done.
    pub operation: String,
    /// To what.
    pub subject: String,
    /// Bytes added or freed.
    pub bytes: u64,
    /// Why, or how.
    pub detail: String,
}

/// An area. Where there are areas in it, they fill it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tile {
    /// What it is.
    pub name: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// What colours it: who would take it away.
    pub class: &'static str,
    /// What there is to say of it besides.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// A place in [`Report::images`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<u32>,
    /// A place in [`Report::layers`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// What it consists of, the largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiles: Vec<Tile>,
}

impl Tile {
    /// An area in which nothing is told apart.
    pub fn new(name: impl Into<String>, bytes: u64, class: &'static str) -> Tile {
        Tile {
            name: name.into(),
            bytes,
            class,
            ..Tile::default()
        }
    }

    /// An area with `tiles` in it. What they leave of it is one more, named by how many `words`
    /// ("layers") were left out.
    pub fn filled(mut self, mut tiles: Vec<Tile>, left: usize, words: &str) -> Tile {
        tiles.retain(|tile| tile.bytes > 0);
        tiles.sort_by(|one, other| other.bytes.cmp(&one.bytes).then(one.name.cmp(&other.name)));
        let told: u64 = tiles.iter().map(|tile| tile.bytes).sum();
        let rest = self.bytes.saturating_sub(told);
        if rest > 0 && !tiles.is_empty() {
            let name = match left {
                0 => format!("other {words}"),
                left => format!("{left} smaller {words}"),
            };
            tiles.push(Tile::new(name, rest, self.class));
        }
        self.tiles = tiles;
        self
    }

    /// An area that is as large as what is in it.
    pub fn around(name: &str, class: &'static str, tiles: Vec<Tile>) -> Tile {
        let bytes = tiles.iter().map(|tile| tile.bytes).sum();
        Tile::new(name, bytes, class).filled(tiles, 0, "")
    }
}

impl Report {
    /// The page.
    pub fn html(&self) -> Result<String> {
        let mut engine = Environment::new();
        engine.set_auto_escape_callback(|_| AutoEscape::Html);
        engine.add_filter("size", |bytes: u64| size::short(bytes));
        engine.add_filter("share", share);
        engine.add_template("page", PAGE)?;
        let script = format!("\n{}", SCRIPTS.concat());
        let style = format!("\n{STYLE}");
        let page = engine.get_template("page")?.render(context! {
            policy => Value::from_safe_string(policy(&style, &script)),
            style => Value::from_safe_string(style),
            script => Value::from_safe_string(script),
            data => Value::from_safe_string(data(self)?),
            picture => Value::from_safe_string(svg::unstyled(&self.picture)),
            drawn => self.picture.vertices.len(),
            undrawn => self.undrawn,
            version => env!("CARGO_PKG_VERSION"),
            made => time::rfc3339(self.made),
            root => self.root.clone(),
            total => self.total,
            disk => Value::from(Serde(&self.disk)),
            rows => Value::from(Serde(&self.rows)),
            prunes => Value::from(Serde(&self.prunes)),
            blocked => self.blocked.clone(),
            notes => self.notes.clone(),
            images_left => self.images.left,
            images_left_bytes => self.images.left_bytes,
            layers_left => self.layers.left,
            layers_left_bytes => self.layers.left_bytes,
            log_left => self.log.left,
        })?;
        Ok(page)
    }
}

/// Percent of a whole, for the eye.
fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "0".to_owned(),
        whole => format!("{:.1}", part as f64 * 100.0 / whole as f64),
    }
}

/// The JSON as it may stand in a script element: nothing in it ends that, or begins another
/// (HTML, "restrictions for contents of script elements").
fn data(report: &Report) -> Result<String> {
    Ok(serde_json::to_string(report)?.replace('<', "\\u003c"))
}

/// What the page may do: show itself.
fn policy(style: &str, script: &str) -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; \
         base-uri 'none'; form-action 'none'",
        hash(style),
        hash(script)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(name: &str, bytes: u64) -> Tile {
        Tile::new(name, bytes, "kept")
    }

    fn report(name: &str) -> Report {
        let table = || Table {
            shown: Vec::new(),
            left: 0,
            left_bytes: 0,
        };
        Report {
            schema: 1,
            root: name.to_owned(),
            made: 0,
            total: 10,
            disk: Some(Disk { size: 100, free: 1 }),
            rows: Vec::new(),
            tree: tile(name, 10),
            prunes: Vec::new(),
            blocked: Some(name.to_owned()),
            notes: vec![name.to_owned()],
            images: table(),
            layers: Table {
                shown: Vec::new(),
                left: 3,
                left_bytes: 0,
            },
            log: Table {
                shown: vec![LogRow {
                    time: 0,
                    operation: "build".to_owned(),
                    subject: name.to_owned(),
                    bytes: 0,
                    detail: name.to_owned(),
                }],
                left: 0,
                left_bytes: 0,
            },
            picture: Picture {
                vertices: Vec::new(),
                edges: Vec::new(),
            },
            undrawn: 0,
        }
    }

    #[test]
    fn tiles_fill_their_tile_whatever_is_left_out() {
        let tiles: Vec<Tile> = (8..=10).map(|n| tile(&n.to_string(), n)).collect();
        let filled = tile("all", 60).filled(tiles, 7, "layers");
        let shown: Vec<_> = filled.tiles.iter().map(|t| (&*t.name, t.bytes)).collect();
        assert_eq!(
            shown,
            [("10", 10), ("9", 9), ("8", 8), ("7 smaller layers", 33)]
        );
        assert_eq!(Tile::around("x", "kept", filled.tiles).bytes, 60);
    }

    #[test]
    fn nothing_of_strangers_becomes_markup() {
        let hostile = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)> \"'&";
        let page = report(hostile).html().unwrap();
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("<img") && !page.contains("<!--<"), "{page}");
        // It is told nevertheless, whole.
        let (_, json) = page.split_once("id=\"data\">").unwrap();
        let (json, _) = json.split_once("</script>").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["root"], hostile);
    }

    #[test]
    fn the_page_reaches_for_nothing_and_runs_nothing_but_its_own() {
        let page = report("x").html().unwrap();
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http:") && !elsewhere.contains("https:"));
        // The hashes of the policy are those of what stands in the page.
        for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
            let (_, rest) = page.split_once(open).unwrap();
            let (text, _) = rest.split_once(close).unwrap();
            let hash = STANDARD.encode(Sha256::digest(text.as_bytes()));
            assert!(page.contains(&format!("sha256-{hash}")), "{open}");
        }
        assert!(!page.contains(" style=") && !page.contains(" onclick="));
    }
}
