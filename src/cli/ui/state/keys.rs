//! What each key does.

use super::browse::Order;
use super::dialog::{Dialog, Target};
use super::images::Sort;
use super::{Action, State, VIEWS, View};
use crate::cli::ui::keys::Key;
use crate::cli::ui::{layout, texts};

impl State {
    /// A key was pressed.
    pub fn key(&mut self, key: Key) -> Vec<Action> {
        self.notice = None;
        let actions = match key {
            Key::Ctrl('c') => return self.interrupt(),
            Key::Ctrl('l') => vec![Action::Redraw],
            Key::Ctrl('z') => vec![Action::Suspend],
            _ if self.dialog.is_some() => self.dialog_key(key),
            _ if self.images.editing => self.filter_key(key),
            _ => self.view_key(key),
        };
        self.settle(actions)
    }

    /// What is being removed is stopped first.
    fn interrupt(&mut self) -> Vec<Action> {
        match self.is_removing() {
            true => self.stop_removing(),
            false => vec![Action::Interrupt],
        }
    }

    fn stop_removing(&mut self) -> Vec<Action> {
        if let Some(Dialog::Removing { stopping, .. }) = &mut self.dialog {
            *stopping = true;
        }
        vec![Action::StopRemoving]
    }

    // -- dialogs ------------------------------------------------------------------------------

    fn dialog_key(&mut self, key: Key) -> Vec<Action> {
        let height = layout::dialog_height(self.size.1);
        let lines = texts::dialog(self).len();
        let Some(dialog) = &mut self.dialog else {
            return Vec::new();
        };
        if let Some(cursor) = dialog.cursor()
            && cursor.scroll(key, lines, height)
        {
            return Vec::new();
        }
        let mut closes = matches!(key, Key::Escape | Key::Char('q') | Key::Enter);
        match dialog {
            Dialog::Help(_) => closes |= key == Key::Char('?'),
            Dialog::Details(_) => closes |= key == Key::Char('i'),
            Dialog::Result(..) => {}
            Dialog::Confirm { foretold, .. } => {
                let ready = matches!(foretold, Some(Ok(foretold)) if !foretold.is_empty());
                if key == Key::Char('y') && ready {
                    *dialog = Dialog::Removing {
                        progress: crate::gc::Progress::default(),
                        stopping: false,
                    };
                    return vec![Action::Remove];
                }
                closes |= key == Key::Char('n');
            }
            // It ends by itself.
            Dialog::Removing { .. } => {
                return match matches!(key, Key::Escape | Key::Char('q')) {
                    true => self.stop_removing(),
                    false => Vec::new(),
                };
            }
        }
        if closes {
            self.dialog = None;
        }
        Vec::new()
    }

    // -- the filter ---------------------------------------------------------------------------

    fn filter_key(&mut self, key: Key) -> Vec<Action> {
        match key {
            Key::Enter | Key::Down | Key::Up => self.images.editing = false,
            Key::Escape => {
                self.images.editing = false;
                self.images.filter.clear();
            }
            Key::Backspace if self.images.filter.is_empty() => self.images.editing = false,
            Key::Backspace => drop(self.images.filter.pop()),
            Key::Ctrl('u') => self.images.filter.clear(),
            Key::Char(character) => self.images.filter.extend(character.to_lowercase()),
            _ => return Vec::new(),
        }
        self.images.arrange(&self.data);
        Vec::new()
    }

    // -- views --------------------------------------------------------------------------------

    fn view_key(&mut self, key: Key) -> Vec<Action> {
        let height = self.height();
        if let Some((cursor, len)) = self.list()
            && cursor.key(key, len, height)
        {
            return Vec::new();
        }
        match key {
            Key::Char('q') => return vec![Action::Quit],
            Key::Char('?') => self.dialog = Some(Dialog::Help(Default::default())),
            Key::Char('i') if self.chosen().is_some() => {
                self.dialog = Some(Dialog::Details(Default::default()));
            }
            Key::Char('v') => self.pane = !self.pane,
            Key::Char(digit @ '1'..='5') => {
                let place = digit as usize - '1' as usize;
                return self.go_to(VIEWS[place].0);
            }
            Key::Tab => return self.go_to(self.beside(1)),
            Key::BackTab => return self.go_to(self.beside(VIEWS.len() - 1)),
            Key::Char('/') => {
                self.view = View::Images;
                self.images.editing = true;
            }
            Key::Char(' ') => return self.mark(),
            Key::Char('c') if !self.marks.is_empty() => {
                self.marks.clear();
                return self.foresee();
            }
            Key::Char('x' | 'd') | Key::Delete => return self.confirm(Target::Marked),
            Key::Char('p') => return self.confirm(Target::Dangling),
            Key::Char('r') => {
                self.notice = Some("reading the store…".to_owned());
                return vec![Action::Reload];
            }
            _ => {
                return match self.view {
                    View::Images => self.images_key(key),
                    View::Tree => self.tree_key(key),
                    View::Layers => self.layers_key(key),
                    View::Files => self.files_key(key),
                    View::Disk => self.disk_key(key),
                };
            }
        }
        Vec::new()
    }

    fn beside(&self, steps: usize) -> View {
        let here = VIEWS.iter().position(|(view, _)| *view == self.view);
        VIEWS[(here.unwrap_or(0) + steps) % VIEWS.len()].0
    }

    /// Goes to a view; layers and files are those of the image that one comes from.
    fn go_to(&mut self, view: View) -> Vec<Action> {
        let chosen = self.chosen();
        let place = chosen.and_then(|digest| self.data.place(&digest));
        match (view, chosen) {
            (View::Images, _) => {
                if let Some(place) = place {
                    self.images.choose(place);
                }
                self.view = view;
            }
            (View::Tree, _) => {
                if let Some(place) = place {
                    self.tree.choose(place, &self.data);
                }
                self.view = view;
            }
            (View::Layers, Some(image)) => return self.open_layers(image),
            (View::Files, Some(image)) => {
                let shown = self.files.as_ref().filter(|files| files.image == image);
                let layer = shown.and_then(|files| files.layer);
                return self.open_files(image, layer);
            }
            (View::Layers | View::Files, None) => self.view = view,
            (View::Disk, _) => {
                self.view = view;
                if self.disk.disk.is_none() {
                    return vec![Action::Measure];
                }
            }
        }
        Vec::new()
    }

    /// Marks the image that the view is about, or no longer.
    fn mark(&mut self) -> Vec<Action> {
        let Some(chosen) = self.chosen() else {
            self.notice = Some("images are marked; choose one first".to_owned());
            return Vec::new();
        };
        if !self.marks.remove(&chosen) {
            self.marks.insert(chosen);
        }
        if matches!(self.view, View::Images | View::Tree)
            && let Some((cursor, len)) = self.list()
        {
            cursor.at = (cursor.at + 1).min(len.saturating_sub(1));
        }
        self.foresee()
    }

    fn images_key(&mut self, key: Key) -> Vec<Action> {
        let sort = match key {
            Key::Char('s') => Sort::Size,
            Key::Char('o') => Sort::Own,
            Key::Char('u') => Sort::Used,
            Key::Char('n') => Sort::Name,
            Key::Char('t') => Sort::State,
            Key::Char('a') => {
                self.images.all = !self.images.all;
                self.images.arrange(&self.data);
                return Vec::new();
            }
            Key::Escape if !self.images.filter.is_empty() => {
                self.images.filter.clear();
                self.images.arrange(&self.data);
                return Vec::new();
            }
            Key::Enter | Key::Right | Key::Char('l') => {
                return self
                    .chosen()
                    .map_or(Vec::new(), |image| self.open_layers(image));
            }
            _ => return Vec::new(),
        };
        self.images.sort_by(sort, &self.data);
        self.images.cursor.at = 0;
        Vec::new()
    }

    fn tree_key(&mut self, key: Key) -> Vec<Action> {
        match key {
            Key::Right | Key::Char('l') => self.tree.unfold(&self.data),
            Key::Left | Key::Char('h') | Key::Backspace => self.tree.fold(&self.data),
            Key::Char('+') => self.tree.fold_all(false, &self.data),
            Key::Char('-') => self.tree.fold_all(true, &self.data),
            Key::Enter => {
                return self
                    .chosen()
                    .map_or(Vec::new(), |image| self.open_layers(image));
            }
            _ => {}
        }
        Vec::new()
    }

    fn layers_key(&mut self, key: Key) -> Vec<Action> {
        let Some(layers) = &self.layers else {
            return self.leave(key, View::Images);
        };
        match key {
            Key::Enter | Key::Right | Key::Char('l') => {
                let known = matches!(layers.rows, Some(Ok(_)));
                let (image, layer) = (layers.image, layers.cursor.at.checked_sub(1));
                match known {
                    true => self.open_files(image, layer),
                    false => Vec::new(),
                }
            }
            _ => self.leave(key, View::Images),
        }
    }

    fn files_key(&mut self, key: Key) -> Vec<Action> {
        let Some(files) = &mut self.files else {
            return self.leave(key, View::Images);
        };
        match key {
            Key::Enter | Key::Right | Key::Char('l') => drop(files.go_in()),
            Key::Char('n') => {
                files.order = Order::Name;
                files.arrange();
            }
            Key::Char('s') => {
                files.order = Order::Size;
                files.arrange();
            }
            Key::Char('a') => {
                files.all = !files.all;
                files.arrange();
            }
            Key::Left | Key::Char('h') | Key::Backspace if files.go_out() => {}
            _ => {
                let image = files.image;
                let mut actions = self.leave(key, View::Layers);
                if self.view == View::Layers {
                    actions.extend(self.stop_reading());
                    actions.extend(self.open_layers(image));
                }
                return actions;
            }
        }
        Vec::new()
    }

    fn disk_key(&mut self, key: Key) -> Vec<Action> {
        self.leave(key, View::Images)
    }

    /// Goes back.
    fn leave(&mut self, key: Key, to: View) -> Vec<Action> {
        match key {
            Key::Left | Key::Char('h') | Key::Backspace | Key::Escape => self.view = to,
            _ => {}
        }
        Vec::new()
    }
}
