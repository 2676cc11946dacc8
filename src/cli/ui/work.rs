//! What takes time, each in a thread of its own: reading the store and its layers, asking the
//! planner, measuring the disk, removing. What comes of it is a [`Message`] to the event loop.
//!
//! Threads share the [`View`], which nobody changes. The planner and whoever explains answer only
//! the last of the questions that have gathered while they were at one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use super::data::{Data, Foretold, Removed};
use super::files::{Entries, Listing};
use super::keys::Key;
use super::load;
use super::state::News;
use crate::cli::commands::{removal, view::View};
use crate::cli::{Result, host};
use crate::gc::{self, Plan, Progress};
use crate::layer::merge::Layers;
use crate::layer::{Entry, TarReader};
use crate::oci::Digest;
use crate::store::{OpenMode, Store};

/// The layers of an image, as far as they were read, the lowest first.
pub type Cache = Vec<Arc<Vec<Entry>>>;

/// A store that was looked at, and what is shown of it.
pub type Fresh = (Arc<View>, Arc<Data>);

/// The same, a removal of it that was planned, and what that comes to.
pub type Prepared = (Fresh, Plan, Arc<Foretold>);

/// What reaches the event loop.
pub enum Message {
    /// A key.
    Key(Key),
    /// The terminal has so many columns and lines.
    Resize(u16, u16),
    /// The terminal is gone.
    NoInput(std::io::Error),
    /// A signal asks for the end.
    Signal,
    /// Something for the state.
    News(News),
    /// The store was looked at.
    Loaded(Result<Fresh, String>),
    /// The same, and a removal was planned.
    Prepared(u64, Result<Box<Prepared>, String>),
    /// Layers of an image were read.
    Entries(Digest, Cache),
    /// A thread has panicked.
    Broken,
}

/// Where threads send what they have.
#[derive(Clone)]
pub struct Post(Sender<Message>);

impl Post {
    /// A way to the event loop, and its end there.
    pub fn new() -> (Post, Receiver<Message>) {
        let (sender, receiver) = mpsc::channel();
        (Post(sender), receiver)
    }

    /// Sends; that nobody listens any more is no error.
    pub fn send(&self, message: Message) {
        let _ = self.0.send(message);
    }

    /// Runs something beside the event loop.
    pub fn spawn(&self, work: impl FnOnce(&Post) + Send + 'static) {
        struct Guard(Post);
        impl Drop for Guard {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.send(Message::Broken);
                }
            }
        }
        let guard = Guard(self.clone());
        std::thread::spawn(move || work(&guard.0));
    }

    /// A thread that answers questions, only the last of those that have gathered.
    pub fn answer<Q: Send + 'static>(
        &self,
        answer: impl Fn(Q) -> Message + Send + 'static,
    ) -> Sender<Q> {
        let (sender, questions) = mpsc::channel::<Q>();
        self.spawn(move |post| {
            while let Ok(mut question) = questions.recv() {
                while let Ok(later) = questions.try_recv() {
                    question = later;
                }
                post.send(answer(question));
            }
        });
        sender
    }
}

/// Looks at a store. `writes`: first ends what an interrupted prune left.
pub fn look(root: &Path, writes: bool) -> Result<Fresh> {
    let now = host::now();
    let store = Store::open(root, OpenMode::Existing, host::machine())?;
    if writes {
        gc::finish(store.layout(), store.catalog(), now)?;
    }
    fresh(store)
}

/// Looks at an opened store.
pub fn fresh(store: Store) -> Result<Fresh> {
    let now = host::now();
    let view = View::of(store, now)?.with_grace(now)?;
    let data = load::data(&view, now);
    Ok((Arc::new(view), Arc::new(data)))
}

/// Looks at a store anew and plans a removal: of what is marked, or what `rstore prune` takes.
pub fn prepare(root: &Path, marks: Option<&[Digest]>) -> Result<Box<Prepared>, String> {
    let fresh = look(root, true).map_err(|error| load::told(&error))?;
    let (view, data) = &fresh;
    let plan = match marks {
        Some(marks) => load::plan_marked(view, marks, data.now)?,
        None => load::plan_dangling(view, data.now)?,
    };
    let foretold = load::foretold(view, &plan, marks.unwrap_or(&[]), true);
    Ok(Box::new((fresh, plan, Arc::new(foretold))))
}

/// Carries out a plan, and tells the loop of each batch.
pub fn remove(
    view: &View,
    plan: Plan,
    post: &Post,
    goes_on: &dyn Fn() -> bool,
) -> Result<Removed, String> {
    let mut on_progress = |progress: &Progress| {
        post.send(Message::News(News::Removing(*progress)));
        goes_on()
    };
    let report = removal::execute_while(&view.store, &view.graph, plan, &mut on_progress);
    let report = report.map_err(|error| load::told(&error))?;
    let mut remarks = Vec::new();
    if report.stopped {
        remarks.push("stopped before the end; the next prune ends it".to_owned());
    }
    match report.rescued {
        0 => {}
        1 => remarks.push("1 thing was left alone: something has begun to need it".to_owned()),
        some => remarks.push(format!(
            "{some} things were left alone: something has begun to need them"
        )),
    }
    remarks.extend(removal::failed(&report));
    Ok(Removed {
        freed: report.removed.freed,
        words: report.words(),
        untagged: report.untagged.len(),
        remarks,
    })
}

/// What is to be read.
pub struct Reading {
    /// The reading's number.
    pub serial: u64,
    /// The image.
    pub image: Digest,
    /// The layer; `None`: all of them.
    pub layer: Option<usize>,
    /// What of the image was read before.
    pub cache: Cache,
    /// Whether somebody asked for the end.
    pub stop: Arc<AtomicBool>,
}

/// Reads layers as far as they are needed and were not read yet, and makes the tree of them.
pub fn read(view: &View, mut reading: Reading, post: &Post) {
    let serial = reading.serial;
    let outcome = read_layers(view, &mut reading, post).and_then(|()| {
        let layers: &Entries = &reading.cache;
        let listing = match reading.layer {
            Some(layer) => Listing::of_layer(layers, layer),
            None => Listing::merged(layers),
        };
        listing.map_err(|error| load::told(&error.into()))
    });
    // What was read is kept even where the next layer could not be.
    post.send(Message::Entries(reading.image, reading.cache));
    post.send(Message::News(News::Read(serial, outcome.map(Arc::new))));
}

fn read_layers(view: &View, reading: &mut Reading, post: &Post) -> Result<(), String> {
    let manifest = load::image(view, &reading.image)?.digest();
    let told = |error: crate::store::Error| load::told(&error.into());
    let image = view.store.image(&manifest).map_err(told)?;
    let stop = Arc::clone(&reading.stop);
    let stop = move || stop.load(Ordering::Relaxed);
    let layers = view.store.layers(&image, &stop);
    let wanted = reading.layer.map_or(layers.count(), |layer| layer + 1);
    for number in reading.cache.len()..wanted.min(layers.count()) {
        let mut entries = Vec::new();
        let serial = reading.serial;
        layers
            .read(number, &mut |archive| {
                let mut reader = TarReader::new(archive);
                while let Some(entry) = reader.next_entry()? {
                    if entries.len() % 1000 == 0 {
                        let names = entries.len();
                        let text = format!("layer {} of {wanted}, {names} names", number + 1);
                        post.send(Message::News(News::Reading(serial, text)));
                    }
                    entries.push(entry);
                }
                Ok(())
            })
            .map_err(told)?;
        reading.cache.push(Arc::new(entries));
    }
    Ok(())
}
