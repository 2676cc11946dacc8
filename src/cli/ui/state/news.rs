//! What the state makes of what came of its actions.

use std::sync::Arc;

use super::browse::Reading;
use super::cursor::Cursor;
use super::dialog::{Dialog, Target};
use super::{Action, Figure, News, State};
use crate::cli::ui::data::{Data, Foretold, Removed};
use crate::oci::Digest;

impl State {
    /// Something came of an action.
    pub fn take(&mut self, news: News) -> Vec<Action> {
        let actions = match news {
            News::Explained(digest, details) => {
                self.details = Some((digest, details));
                Vec::new()
            }
            News::Foretold(serial, outcome) => {
                if serial == self.foreseen {
                    self.figure = figure(outcome);
                }
                Vec::new()
            }
            News::Prepared(serial, outcome) => self.prepared(serial, outcome),
            News::Removing(now) => {
                if let Some(Dialog::Removing { progress, .. }) = &mut self.dialog {
                    *progress = now;
                }
                Vec::new()
            }
            News::Removed(outcome) => self.removed(outcome),
            News::Layers(image, rows) => {
                if let Some(layers) = self.layers.as_mut().filter(|it| it.image == image) {
                    layers.rows = Some(rows);
                }
                Vec::new()
            }
            News::Reading(serial, text) => {
                if let Some(files) = self.files.as_mut().filter(|it| it.serial == serial)
                    && let Reading::Under(shown) = &mut files.reading
                {
                    *shown = text;
                }
                Vec::new()
            }
            News::Read(serial, outcome) => {
                if let Some(files) = self.files.as_mut().filter(|it| it.serial == serial)
                    && matches!(files.reading, Reading::Under(_))
                {
                    match outcome {
                        Ok(listing) => files.take(listing),
                        Err(why) => files.reading = Reading::Failed(why),
                    }
                }
                Vec::new()
            }
            News::Measured(outcome) => {
                self.disk.disk = Some(outcome);
                Vec::new()
            }
            News::Loaded(Ok(data)) => {
                self.notice = None;
                self.replace(data)
            }
            News::Loaded(Err(why)) => {
                self.notice = Some(why);
                Vec::new()
            }
        };
        self.settle(actions)
    }

    fn prepared(
        &mut self,
        serial: u64,
        outcome: Result<(Arc<Data>, Arc<Foretold>), String>,
    ) -> Vec<Action> {
        if serial != self.prepared {
            return Vec::new();
        }
        let (outcome, mut actions) = match outcome {
            Ok((data, foretold)) => (Ok(foretold), self.replace(data)),
            Err(why) => (Err(why), Vec::new()),
        };
        if let Some(Dialog::Confirm {
            target, foretold, ..
        }) = &mut self.dialog
        {
            *foretold = Some(outcome.clone());
            if *target == Target::Marked && !self.marks.is_empty() {
                // The same plan: what is shown below the dialog is what it shows.
                actions.retain(|action| !matches!(action, Action::Foresee { .. }));
                self.figure = figure(outcome);
            }
        }
        actions
    }

    fn removed(&mut self, outcome: Result<Removed, String>) -> Vec<Action> {
        self.dialog = Some(Dialog::Result(outcome, Cursor::default()));
        vec![Action::Reload]
    }

    /// Shows a store that was looked at anew: what was chosen stays so, marks of what is gone go.
    fn replace(&mut self, data: Arc<Data>) -> Vec<Action> {
        let old = std::mem::replace(&mut self.data, data);
        let new = Arc::clone(&self.data);
        let place = |place: u32| new.place(&old.row(place)?.digest);
        let chosen = self.images.chosen();
        let at = self.images.cursor.at;
        self.images.arrange(&new);
        self.images.cursor.at = at;
        if let Some(place) = chosen.and_then(place) {
            self.images.choose(place);
        }
        self.tree.renumber(place, &new);
        self.details = None;
        let measured = self.disk.disk.take().is_some();
        let gone = |digest: &Digest| new.find(digest).is_none();
        if self
            .layers
            .as_ref()
            .is_some_and(|layers| gone(&layers.image))
        {
            self.layers = None;
        }
        let mut actions = Vec::new();
        if let Some(layers) = &self.layers {
            actions.push(Action::Layers(layers.image));
        }
        if self.files.as_ref().is_some_and(|files| gone(&files.image)) {
            actions.extend(self.stop_reading());
            self.files = None;
        }
        if measured {
            actions.push(Action::Measure);
        }
        self.marks.retain(|digest| new.find(digest).is_some());
        actions.extend(self.foresee());
        actions
    }
}

fn figure(outcome: Result<Arc<Foretold>, String>) -> Figure {
    match outcome {
        Ok(foretold) => Figure::Known(foretold),
        Err(why) => Figure::Failed(why),
    }
}
