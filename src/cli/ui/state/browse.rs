//! Files being browsed: which directory, in which order, where in it.

use std::cmp::Reverse;
use std::sync::Arc;

use super::cursor::Cursor;
use crate::cli::ui::files::{FileKind, Listing, Mark};
use crate::oci::Digest;

/// How far the reading is.
#[derive(Debug, Clone)]
pub enum Reading {
    /// Layers are being read; what of them was.
    Under(String),
    /// They were read.
    Done(Arc<Listing>),
    /// They cannot be, and why.
    Failed(String),
    /// It was stopped.
    Stopped,
}

/// What the names of a directory are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The largest first.
    Size,
    /// By name.
    Name,
}

/// The files of an image or of one of its layers.
#[derive(Debug, Clone)]
pub struct Browse {
    /// The image.
    pub image: Digest,
    /// The layer, the lowest being 0; `None`: what all of them come to.
    pub layer: Option<usize>,
    /// What was read.
    pub reading: Reading,
    /// By which reading that is to be told apart from one before it.
    pub serial: u64,
    /// What names are sorted by.
    pub order: Order,
    /// Whether what a layer left alone is shown too.
    pub all: bool,
    /// The directory.
    pub directory: usize,
    /// The names in it that are shown.
    pub shown: Vec<usize>,
    /// Where one is.
    pub cursor: Cursor,
}

impl Browse {
    /// The files of something that is to be read.
    pub fn new(image: Digest, layer: Option<usize>, serial: u64) -> Browse {
        Browse {
            image,
            layer,
            reading: Reading::Under(String::new()),
            serial,
            order: Order::Size,
            all: false,
            directory: 0,
            shown: Vec::new(),
            cursor: Cursor::default(),
        }
    }

    /// What was read, once it was.
    pub fn listing(&self) -> Option<&Listing> {
        match &self.reading {
            Reading::Done(listing) => Some(listing),
            _ => None,
        }
    }

    /// Bytes of a name, as the bars count them: of a layer what it brought, unless all is shown.
    pub fn bytes(&self, listing: &Listing, place: usize) -> u64 {
        let file = &listing.files[place];
        match self.layer.is_some() && !self.all && file.mark != Mark::Removed {
            true => file.brought,
            false => file.size,
        }
    }

    /// Takes what was read.
    pub fn take(&mut self, listing: Arc<Listing>) {
        self.reading = Reading::Done(listing);
        self.enter(0, None);
    }

    /// Makes the list of names again; the chosen one stays chosen.
    pub fn arrange(&mut self) {
        let chosen = self.shown.get(self.cursor.at).copied();
        self.enter(self.directory, chosen);
    }

    /// Goes into the chosen directory. Whether it is one with something in it.
    pub fn go_in(&mut self) -> bool {
        let chosen = self.shown.get(self.cursor.at).copied();
        let Some((place, listing)) = chosen.zip(self.listing()) else {
            return false;
        };
        let file = &listing.files[place];
        let enters = file.kind == FileKind::Directory && file.mark != Mark::Removed;
        if enters {
            self.enter(place, None);
        }
        enters
    }

    /// Goes back to the directory around this one. Whether there is one.
    pub fn go_out(&mut self) -> bool {
        let directory = self.directory;
        let Some(listing) = self.listing().filter(|_| directory != 0) else {
            return false;
        };
        let parent = listing.files[directory].parent;
        self.enter(parent, Some(directory));
        true
    }

    fn enter(&mut self, directory: usize, chosen: Option<usize>) {
        let Reading::Done(listing) = &self.reading else {
            return;
        };
        let listing = Arc::clone(listing);
        let hides = self.layer.is_some() && !self.all;
        let children = listing.files[directory].children.iter().copied();
        let mut shown: Vec<usize> = children
            .filter(|place| !hides || listing.files[*place].mark != Mark::Same)
            .collect();
        // They are in the order of names already, and sorting keeps that among equals.
        if self.order == Order::Size {
            shown.sort_by_key(|place| Reverse(self.bytes(&listing, *place)));
        } else {
            shown.sort_by(|one, other| listing.files[*one].name.cmp(&listing.files[*other].name));
        }
        let at = chosen.and_then(|chosen| shown.iter().position(|place| *place == chosen));
        self.directory = directory;
        self.shown = shown;
        self.cursor = Cursor::at(at.unwrap_or(0));
    }
}
