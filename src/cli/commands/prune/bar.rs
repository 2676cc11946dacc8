//! The bar of a prune at work: how many things, how many bytes, how fast, how long still.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Context;
use crate::cli::render::size;
use crate::gc::Progress;

/// A bar on stderr, or nothing where that is no terminal.
pub struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    /// A bar, if one is to be shown.
    pub fn new(context: &Context, shown: bool) -> Bar {
        let terminal = &context.terminal;
        if !shown || !context.progress || !terminal.stderr || terminal.dumb {
            return Bar { bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let template = "removing [{wide_bar}] {pos}/{len}  {msg}  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar { bar: Some(bar) }
    }

    /// Shows how far it has come.
    pub fn show(&self, progress: &Progress) {
        let Some(bar) = &self.bar else { return };
        bar.set_length(progress.of_items.max(progress.items));
        bar.set_position(progress.items);
        let (freed, of) = (size::short(progress.freed), size::short(progress.of_freed));
        bar.set_message(format!("{freed} of {of}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
