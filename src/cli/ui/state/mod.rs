//! What is on the screen and what keys make of it: pure. Whatever needs the store is an [`Action`]
//! that the event loop carries out; what came of it comes back as [`News`].
//!
//! ```text
//!        ┌────── Images ◀─Tab─▶ Tree ◀─Tab─▶ Layers ◀─Tab─▶ Files ◀─Tab─▶ Disk
//! Key ─▶ │          └──Enter──────┴───────────▲ └──Enter──────▲
//!        │  space: marks ─▶ Action::Foresee ─▶ News::Foretold (what would be freed)
//!        └─ x, p: Dialog::Confirm ─▶ Action::Prepare ─▶ News::Prepared ─ y ─▶ Action::Remove
//! ```
//! Requests are numbered: an answer to an older one than the last is dropped.

use std::collections::BTreeSet;
use std::sync::Arc;

pub mod browse;
pub mod cursor;
pub mod dialog;
pub mod images;
mod keys;
mod news;
#[cfg(test)]
pub mod tests;
pub mod tree;

use super::data::{Data, Details, Disk, Foretold, LayerRow, Removed, Row};
use super::files::Listing;
use super::layout;
use crate::gc::Progress;
use crate::oci::Digest;
use browse::Browse;
use cursor::Cursor;
use dialog::{Dialog, Target};
use images::Images;
use tree::Tree;

/// What the screen shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Images, as a list.
    Images,
    /// What descends from what.
    Tree,
    /// The layers of an image.
    Layers,
    /// The files of an image or a layer.
    Files,
    /// What the disk is used for.
    Disk,
}

/// The views in the order of their tabs.
pub const VIEWS: [(View, &str); 5] = [
    (View::Images, "Images"),
    (View::Tree, "Tree"),
    (View::Layers, "Layers"),
    (View::Files, "Files"),
    (View::Disk, "Disk"),
];

/// What the event loop is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask what keeps an image.
    Explain(Digest),
    /// Ask what the removal of these would free.
    Foresee {
        /// The request's number.
        serial: u64,
        /// Manifests and indexes.
        marks: Vec<Digest>,
    },
    /// Look at the store anew, and plan a removal that can be carried out.
    Prepare {
        /// The request's number.
        serial: u64,
        /// What is marked; `None`: what `rstore prune` takes.
        marks: Option<Vec<Digest>>,
    },
    /// Carry out the plan that was prepared last.
    Remove,
    /// Stop doing so.
    StopRemoving,
    /// Ask for an image's layers.
    Layers(Digest),
    /// Read the files of a layer, or of all of an image.
    Read {
        /// The request's number.
        serial: u64,
        /// The image.
        image: Digest,
        /// The layer.
        layer: Option<usize>,
    },
    /// Stop reading.
    StopReading,
    /// Measure the disk.
    Measure,
    /// Look at the store anew.
    Reload,
    /// Draw all of the screen anew.
    Redraw,
    /// Give the terminal back until somebody continues the process.
    Suspend,
    /// End.
    Quit,
    /// End as by SIGINT.
    Interrupt,
}

/// What came of actions.
#[derive(Debug)]
pub enum News {
    /// What keeps an image.
    Explained(Digest, Details),
    /// What the removal of what is marked would do.
    Foretold(u64, Result<Arc<Foretold>, String>),
    /// The store as it is now, and what a removal would do to it.
    Prepared(u64, Result<(Arc<Data>, Arc<Foretold>), String>),
    /// How far a removal is.
    Removing(Progress),
    /// What it has done.
    Removed(Result<Removed, String>),
    /// An image's layers, the lowest first.
    Layers(Digest, Result<Vec<LayerRow>, String>),
    /// How far a reading is.
    Reading(u64, String),
    /// What was read.
    Read(u64, Result<Arc<Listing>, String>),
    /// What the disk is used for.
    Measured(Result<Disk, String>),
    /// The store as it is now.
    Loaded(Result<Arc<Data>, String>),
}

/// What is known of the bytes that the removal of what is marked would free.
#[derive(Debug, Clone)]
pub enum Figure {
    /// Nothing is marked.
    Nothing,
    /// The planner is at it.
    Counting,
    /// What it says.
    Known(Arc<Foretold>),
    /// It cannot say.
    Failed(String),
}

/// The layers of an image.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The image.
    pub image: Digest,
    /// The lowest first; `None`: they are being looked up.
    pub rows: Option<Result<Vec<LayerRow>, String>>,
    /// Where one is; the first line stands for all layers together.
    pub cursor: Cursor,
}

/// What the disk is used for.
#[derive(Debug, Clone, Default)]
pub struct DiskView {
    /// What was measured; `None`: it has not been yet.
    pub disk: Option<Result<Disk, String>>,
    /// Where one is.
    pub cursor: Cursor,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct State {
    /// The store.
    pub data: Arc<Data>,
    /// Why nothing can be removed, where nothing can.
    pub read_only: Option<String>,
    /// What the screen shows.
    pub view: View,
    /// The list of images.
    pub images: Images,
    /// The tree.
    pub tree: Tree,
    /// The layers, of the last image of which they were asked for.
    pub layers: Option<Layers>,
    /// The files, of the last of which they were asked for.
    pub files: Option<Browse>,
    /// The disk.
    pub disk: DiskView,
    /// What is marked: manifests and indexes.
    pub marks: BTreeSet<Digest>,
    /// What would be freed.
    pub figure: Figure,
    /// What keeps the chosen image, once that is known.
    pub details: Option<(Digest, Details)>,
    /// Whether details are wanted beside the list.
    pub pane: bool,
    /// What stands over the screen.
    pub dialog: Option<Dialog>,
    /// Something told once.
    pub notice: Option<String>,
    /// Columns and lines.
    pub size: (u16, u16),
    serial: u64,
    foreseen: u64,
    prepared: u64,
}

impl State {
    /// What is first seen of a store, and what is to be asked.
    pub fn new(
        data: Arc<Data>,
        read_only: Option<String>,
        size: (u16, u16),
    ) -> (State, Vec<Action>) {
        let mut state = State {
            images: Images::new(&data),
            tree: Tree::new(&data),
            data,
            read_only,
            view: View::Images,
            layers: None,
            files: None,
            disk: DiskView::default(),
            marks: BTreeSet::new(),
            figure: Figure::Nothing,
            details: None,
            pane: true,
            dialog: None,
            notice: None,
            size,
            serial: 0,
            foreseen: 0,
            prepared: 0,
        };
        let actions = state.settle(Vec::new());
        (state, actions)
    }

    /// The terminal has another size.
    pub fn resize(&mut self, columns: u16, lines: u16) {
        self.size = (columns, lines);
        self.keep_in_sight();
    }

    /// The image that the view is about.
    pub fn chosen(&self) -> Option<Digest> {
        let row = |place| self.data.row(place).map(|row| row.digest);
        match self.view {
            View::Images => row(self.images.chosen()?),
            View::Tree => row(self.tree.chosen()?),
            View::Layers => Some(self.layers.as_ref()?.image),
            View::Files => Some(self.files.as_ref()?.image),
            View::Disk => None,
        }
    }

    /// Its row.
    pub fn chosen_row(&self) -> Option<&Row> {
        self.data.find(&self.chosen()?)
    }

    /// What keeps it, once that is known.
    pub fn chosen_details(&self) -> Option<&Details> {
        let chosen = self.chosen()?;
        let (digest, details) = self.details.as_ref()?;
        (*digest == chosen).then_some(details)
    }

    /// How many lines the list has.
    pub fn height(&self) -> usize {
        let areas = layout::areas(self.size.1, self.has_pane());
        usize::from(areas.list.1)
    }

    /// Whether details stand beside the list.
    pub fn has_pane(&self) -> bool {
        self.pane && matches!(self.view, View::Images | View::Tree | View::Layers)
    }

    /// Whether something is being removed.
    pub fn is_removing(&self) -> bool {
        matches!(self.dialog, Some(Dialog::Removing { .. }))
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// How many lines each list has, the cursor's to be kept within them.
    fn list(&mut self) -> Option<(&mut Cursor, usize)> {
        Some(match self.view {
            View::Images => (&mut self.images.cursor, self.images.order.len()),
            View::Tree => (&mut self.tree.cursor, self.tree.lines.len()),
            View::Layers => {
                let layers = self.layers.as_mut()?;
                let rows = layers.rows.as_ref().and_then(|rows| rows.as_ref().ok());
                let len = rows.map_or(0, |rows| rows.len() + 1);
                (&mut layers.cursor, len)
            }
            View::Files => {
                let files = self.files.as_mut()?;
                (&mut files.cursor, files.shown.len())
            }
            View::Disk => {
                let disk = self.disk.disk.as_ref().and_then(|disk| disk.as_ref().ok());
                let len = disk.map_or(0, |disk| disk.rows.len());
                (&mut self.disk.cursor, len)
            }
        })
    }

    fn keep_in_sight(&mut self) {
        let height = self.height();
        if let Some((cursor, len)) = self.list() {
            cursor.settle(len, height);
        }
    }

    /// What follows from any change: the cursor stays on the screen, and an image that was not
    /// chosen before is asked about.
    fn settle(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        self.keep_in_sight();
        if let Some(chosen) = self.chosen()
            && self
                .details
                .as_ref()
                .is_none_or(|(digest, _)| *digest != chosen)
            && !actions.contains(&Action::Explain(chosen))
        {
            actions.push(Action::Explain(chosen));
        }
        actions
    }

    /// Asks what the removal of what is marked would free.
    fn foresee(&mut self) -> Vec<Action> {
        self.foreseen = self.next_serial();
        if self.marks.is_empty() {
            self.figure = Figure::Nothing;
            return Vec::new();
        }
        self.figure = Figure::Counting;
        vec![Action::Foresee {
            serial: self.foreseen,
            marks: self.marks.iter().copied().collect(),
        }]
    }

    /// Asks whether to remove.
    fn confirm(&mut self, target: Target) -> Vec<Action> {
        if let Some(why) = &self.read_only {
            self.notice = Some(format!("read-only: {why}"));
            return Vec::new();
        }
        if target == Target::Marked && self.marks.is_empty() {
            self.notice = Some("nothing is marked; space marks".to_owned());
            return Vec::new();
        }
        self.prepared = self.next_serial();
        self.dialog = Some(Dialog::Confirm {
            target,
            foretold: None,
            cursor: Cursor::default(),
        });
        let marked = || self.marks.iter().copied().collect();
        vec![Action::Prepare {
            serial: self.prepared,
            marks: (target == Target::Marked).then(marked),
        }]
    }

    /// Goes to the layers of an image.
    fn open_layers(&mut self, image: Digest) -> Vec<Action> {
        self.view = View::Layers;
        if self
            .layers
            .as_ref()
            .is_some_and(|layers| layers.image == image)
        {
            return Vec::new();
        }
        self.layers = Some(Layers {
            image,
            rows: None,
            cursor: Cursor::default(),
        });
        vec![Action::Layers(image)]
    }

    /// Goes to the files of a layer, or of all of an image.
    fn open_files(&mut self, image: Digest, layer: Option<usize>) -> Vec<Action> {
        self.view = View::Files;
        let is = |files: &Browse| files.image == image && files.layer == layer;
        let here = self.files.as_ref().filter(|files| is(files));
        if here.is_some_and(|files| {
            matches!(
                files.reading,
                browse::Reading::Done(_) | browse::Reading::Under(_)
            )
        }) {
            return Vec::new();
        }
        let serial = self.next_serial();
        self.files = Some(Browse::new(image, layer, serial));
        vec![Action::Read {
            serial,
            image,
            layer,
        }]
    }

    /// Stops a reading that is under way.
    fn stop_reading(&mut self) -> Vec<Action> {
        match &mut self.files {
            Some(files) if matches!(files.reading, browse::Reading::Under(_)) => {
                files.reading = browse::Reading::Stopped;
                vec![Action::StopReading]
            }
            _ => Vec::new(),
        }
    }
}
