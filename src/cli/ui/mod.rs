//! `rstore ui`: the store in a terminal, as ncdu and dive show disks and images.
//!
//! ```text
//! terminal ──keys──▶ event loop ──Key──▶ state ──Action──▶ event loop ──▶ threads ──▶ store
//!     ▲                  │                 ▲                                 │
//!     └──────draw────────┘                 └──────────────News───────────────┘
//! ```
//! | file | owns | touches |
//! |---|---|---|
//! | [`data`] | what is shown, as values | nothing |
//! | [`state`] | what is on the screen, and what keys make of it | nothing |
//! | [`texts`] | what dialogs say | nothing |
//! | [`layout`] | which lines are for what | nothing |
//! | [`draw`] | the state, drawn into cells | nothing |
//! | [`files`] | what layers do to names, as a tree | nothing |
//! | [`keys`] | keys, apart from how a terminal sends them | nothing |
//! | [`load`] | from a store's view to data; asking the planner | reads |
//! | [`work`] | what takes time, in threads | reads, removes |
//! | [`screen`] | the terminal | the terminal |
//!
//! **What would be freed** is the planner's word, never an estimate: the plan that `rmi` would
//! carry out. Before the question is asked the store is looked at anew, and what is confirmed is
//! that very plan, carried out as `rmi` and `prune` do it: beside builds, and leaving alone what
//! something has begun to need since.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use ratatui::crossterm::event::{self, Event};
use rustix::event::{PollFd, PollFlags, poll};

pub mod data;
pub mod draw;
pub mod files;
pub mod keys;
pub mod layout;
pub mod load;
pub mod screen;
pub mod state;
pub mod texts;
pub mod work;

use super::commands::view::View;
use super::exit::Failure;
use super::{Context, Result};
use crate::executor::{Cancel, signals};
use crate::gc::Plan;
use crate::oci::Digest;
use draw::Theme;
use screen::Screen;
use state::{Action, News, State};
use work::{Cache, Fresh, Message, Post, Reading};

/// Shows a store until its user has seen enough. `read_only`: why nothing may be removed.
pub fn run(context: &Context, fresh: Fresh, read_only: Option<String>) -> Result {
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    let (post, messages) = Post::new();
    let mut screen = Screen::open()?;
    watch_signals(&post, cancel.clone());
    watch_keys(&post);
    let (view, data) = fresh;
    let (state, actions) = State::new(data, read_only, screen.size()?);
    let theme = Theme {
        color: context.terminal.color,
    };
    let mut running = Running {
        root: context.root.clone(),
        view,
        cancel,
        planner: planner(&post),
        explainer: explainer(&post),
        post,
        cache: None,
        stop_reading: Arc::default(),
        prepared: None,
        removing: None,
        ending: None,
    };
    let ended = running.go(state, actions, &mut screen, theme, &messages);
    running.stop_reading.store(true, Ordering::Relaxed);
    drop(screen);
    ended
}

fn watch_keys(post: &Post) {
    post.spawn(|post| {
        loop {
            match event::read() {
                Ok(Event::Key(key)) => {
                    keys::Key::of(&key).for_each(|key| post.send(Message::Key(key)));
                }
                Ok(Event::Resize(columns, lines)) => post.send(Message::Resize(columns, lines)),
                Ok(_) => continue,
                Err(error) => return post.send(Message::NoInput(error)),
            }
        }
    });
}

fn watch_signals(post: &Post, cancel: Cancel) {
    post.spawn(move |post| {
        loop {
            let mut descriptors = [PollFd::new(&cancel, PollFlags::IN)];
            let polled = poll(&mut descriptors, None);
            if cancel.is_cancelled() {
                return post.send(Message::Signal);
            }
            if polled.is_err_and(|error| error != rustix::io::Errno::INTR) {
                return;
            }
        }
    });
}

/// What is asked of the planner: the request's number, the store, what is marked.
type Question = (u64, Arc<View>, Vec<Digest>);

fn planner(post: &Post) -> Sender<Question> {
    post.answer(|(serial, view, marks): Question| {
        let plan = load::plan_marked(&view, &marks, super::host::now());
        let foretold = plan.map(|plan| Arc::new(load::foretold(&view, &plan, &marks, false)));
        Message::News(News::Foretold(serial, foretold))
    })
}

fn explainer(post: &Post) -> Sender<(Arc<View>, Digest)> {
    post.answer(|(view, digest): (Arc<View>, Digest)| {
        let details = load::explain(&view, &digest);
        Message::News(News::Explained(digest, details))
    })
}

/// What the event loop holds.
struct Running {
    root: PathBuf,
    view: Arc<View>,
    /// Cancelled by signals.
    cancel: Cancel,
    post: Post,
    planner: Sender<Question>,
    explainer: Sender<(Arc<View>, Digest)>,
    /// Layers that were read, of the image whose were read last.
    cache: Option<(Digest, Cache)>,
    stop_reading: Arc<AtomicBool>,
    /// The plan that was prepared last.
    prepared: Option<(Arc<View>, Plan)>,
    /// Whether something is being removed, and what stops it.
    removing: Option<Arc<AtomicBool>>,
    /// How this is to end, once nothing is being removed.
    ending: Option<Result>,
}

impl Running {
    fn go(
        &mut self,
        mut state: State,
        actions: Vec<Action>,
        screen: &mut Screen,
        theme: Theme,
        messages: &Receiver<Message>,
    ) -> Result {
        self.act_all(actions, screen)?;
        loop {
            screen.draw(&state, theme)?;
            // One picture for all that has gathered meanwhile.
            let mut next = messages.recv().ok();
            while let Some(message) = next {
                let actions = self.receive(message, &mut state)?;
                self.act_all(actions, screen)?;
                next = messages.try_recv().ok();
            }
            if self.removing.is_none()
                && let Some(ended) = self.ending.take()
            {
                return ended;
            }
        }
    }

    fn receive(&mut self, message: Message, state: &mut State) -> Result<Vec<Action>> {
        Ok(match message {
            Message::Key(key) => state.key(key),
            Message::Resize(columns, lines) => {
                state.resize(columns, lines);
                Vec::new()
            }
            Message::NoInput(error) => return Err(error.into()),
            Message::Broken => {
                anyhow::bail!("a part of the interface has failed; nothing was lost")
            }
            Message::Signal => {
                let signal = signals::received().unwrap_or(libc::SIGTERM);
                self.end(Err(Failure::Interrupted(signal).into()));
                Vec::new()
            }
            Message::Loaded(outcome) => {
                let data = outcome.map(|fresh| self.replace(fresh));
                state.take(News::Loaded(data))
            }
            Message::Prepared(serial, outcome) => {
                let outcome = outcome.map(|prepared| {
                    let (fresh, plan, foretold) = *prepared;
                    self.prepared = Some((Arc::clone(&fresh.0), plan));
                    (self.replace(fresh), foretold)
                });
                state.take(News::Prepared(serial, outcome))
            }
            Message::Entries(image, layers) => {
                self.cache = Some((image, layers));
                Vec::new()
            }
            Message::News(news) => {
                if matches!(news, News::Removed(_)) {
                    self.removing = None;
                }
                state.take(news)
            }
        })
    }

    fn replace(&mut self, (view, data): Fresh) -> Arc<data::Data> {
        self.view = view;
        data
    }

    /// Ends, and first stops what is being removed.
    fn end(&mut self, how: Result) {
        if let Some(stop) = &self.removing {
            stop.store(true, Ordering::Relaxed);
        }
        self.ending.get_or_insert(how);
    }

    fn act_all(&mut self, actions: Vec<Action>, screen: &mut Screen) -> Result {
        actions
            .into_iter()
            .try_for_each(|action| self.act(action, screen))
    }

    fn act(&mut self, action: Action, screen: &mut Screen) -> Result {
        match action {
            // Their threads live as long as this does.
            Action::Explain(digest) => {
                let _ = self.explainer.send((Arc::clone(&self.view), digest));
            }
            Action::Foresee { serial, marks } => {
                let _ = self.planner.send((serial, Arc::clone(&self.view), marks));
            }
            Action::Prepare { serial, marks } => {
                let root = self.root.clone();
                self.post.spawn(move |post| {
                    let prepared = work::prepare(&root, marks.as_deref());
                    post.send(Message::Prepared(serial, prepared));
                });
            }
            Action::Remove => self.remove(),
            Action::StopRemoving => {
                if let Some(stop) = &self.removing {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            Action::Layers(image) => {
                let layers = load::layers(&self.view, &image);
                let news = News::Layers(image, layers);
                self.post.send(Message::News(news));
            }
            Action::Read {
                serial,
                image,
                layer,
            } => self.read(serial, image, layer),
            Action::StopReading => self.stop_reading.store(true, Ordering::Relaxed),
            Action::Measure => {
                let view = Arc::clone(&self.view);
                self.post.spawn(move |post| {
                    let disk = load::disk(&view, super::host::now());
                    post.send(Message::News(News::Measured(disk)));
                });
            }
            Action::Reload => {
                let root = self.root.clone();
                self.post.spawn(move |post| {
                    let fresh = work::look(&root, false);
                    let fresh = fresh.map_err(|error| load::told(&error));
                    post.send(Message::Loaded(fresh));
                });
            }
            Action::Redraw => screen.forget()?,
            Action::Suspend => screen.suspend()?,
            Action::Quit => self.end(Ok(())),
            Action::Interrupt => self.end(Err(Failure::Interrupted(libc::SIGINT).into())),
        }
        Ok(())
    }

    fn remove(&mut self) {
        let Some((view, plan)) = self.prepared.take() else {
            return;
        };
        let stop = Arc::new(AtomicBool::new(false));
        self.removing = Some(Arc::clone(&stop));
        let cancel = self.cancel.clone();
        self.post.spawn(move |post| {
            let goes_on = || !stop.load(Ordering::Relaxed) && !cancel.is_cancelled();
            let removed = work::remove(&view, plan, post, &goes_on);
            post.send(Message::News(News::Removed(removed)));
        });
    }

    fn read(&mut self, serial: u64, image: Digest, layer: Option<usize>) {
        // A reading before this one is of no use any more.
        self.stop_reading.store(true, Ordering::Relaxed);
        self.stop_reading = Arc::default();
        let cache = self.cache.take().filter(|(of, _)| *of == image);
        let reading = Reading {
            serial,
            image,
            layer,
            cache: cache.map(|(_, layers)| layers).unwrap_or_default(),
            stop: Arc::clone(&self.stop_reading),
        };
        let view = Arc::clone(&self.view);
        self.post
            .spawn(move |post| work::read(&view, reading, post));
    }
}
