//! The state, drawn: only what is on the screen is looked at, however long a list is.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

mod dialogs;
mod files;
mod lists;
#[cfg(test)]
mod tests;
mod theme;

pub use theme::Theme;

use super::layout::{self, areas};
use super::state::{Figure, State, VIEWS, View};
use super::texts;
use crate::cli::render::{size, text};

/// A screen being drawn.
pub struct Canvas<'a> {
    buffer: &'a mut Buffer,
    width: u16,
    /// How things look.
    pub theme: Theme,
}

/// Draws all of it.
pub fn draw(state: &State, theme: Theme, buffer: &mut Buffer) {
    let (width, height) = (buffer.area.width, buffer.area.height);
    let mut canvas = Canvas {
        buffer,
        width,
        theme,
    };
    if width < layout::LEAST.0 || height < layout::LEAST.1 {
        canvas.text(0, 0, width, "too small", theme.warning());
        return;
    }
    let areas = areas(height, state.has_pane());
    canvas.tabs(state);
    match state.view {
        View::Images => lists::images(state, &mut canvas, areas.list),
        View::Tree => lists::tree(state, &mut canvas, areas.list),
        View::Layers => lists::layers(state, &mut canvas, areas.list),
        View::Files => files::files(state, &mut canvas, areas.list),
        View::Disk => lists::disk(state, &mut canvas, areas.list),
    }
    if let Some(pane) = areas.pane {
        canvas.pane(state, pane);
    }
    canvas.figure(state, areas.figure);
    canvas.status(state, areas.status);
    if state.dialog.is_some() {
        dialogs::dialog(state, &mut canvas, height);
    }
}

impl Canvas<'_> {
    /// Writes a text of at most so many columns; its end is an ellipsis where there is more.
    pub fn text(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) {
        let area = self.buffer.area;
        if x >= area.width || y >= area.height {
            return;
        }
        let width = width.min(area.width - x);
        let fitted = text::fit(text, usize::from(width));
        self.buffer
            .set_stringn(x, y, fitted, usize::from(width), style);
    }

    /// Writes a text that ends at a column.
    pub fn text_right(&mut self, end: u16, y: u16, width: u16, text: &str, style: Style) {
        let fitted = text::fit(text, usize::from(width));
        let columns = u16::try_from(text::columns(&fitted)).unwrap_or(width);
        self.text(end.saturating_sub(columns), y, columns, &fitted, style);
    }

    /// Gives a whole line a style.
    pub fn line_style(&mut self, y: u16, style: Style) {
        let area = Rect::new(0, y, self.width, 1).intersection(self.buffer.area);
        self.buffer.set_style(area, style);
    }

    /// Columns of the screen.
    pub fn width(&self) -> u16 {
        self.width
    }

    fn tabs(&mut self, state: &State) {
        let short = self.width < 50;
        let mut x = 0;
        for (number, (view, title)) in VIEWS.iter().enumerate() {
            let here = *view == state.view;
            let label = match short && !here {
                true => format!(" {} ", number + 1),
                false => format!(" {} {title} ", number + 1),
            };
            let style = match here {
                true => self.theme.chosen().patch(self.theme.heading()),
                false => Style::new(),
            };
            let columns = u16::try_from(label.len()).unwrap_or(self.width);
            self.text(x, 0, columns, &label, style);
            x += columns;
        }
        let mut room = self.width.saturating_sub(x + 1);
        if state.read_only.is_some() && room > 10 {
            self.text_right(self.width, 0, room, "read-only", self.theme.warning());
            room -= 10;
            if room > 12 {
                let end = self.width - 10;
                self.text_right(end, 0, room, &state.data.root, self.theme.dim());
            }
        } else if room > 8 {
            self.text_right(self.width, 0, room, &state.data.root, self.theme.dim());
        }
    }

    /// Details of the chosen image.
    fn pane(&mut self, state: &State, (first, lines): (u16, u16)) {
        let rule = "─".repeat(usize::from(self.width));
        self.text(0, first, self.width, &rule, self.theme.dim());
        let inner = usize::from(lines).saturating_sub(1);
        let width = usize::from(self.width.saturating_sub(1));
        if state.view == View::Layers {
            return lists::layer_pane(state, self, (first + 1, lines - 1));
        }
        let Some(row) = state.chosen_row() else {
            return;
        };
        let details = texts::details(state, row, width);
        for (number, (tone, line)) in details.iter().take(inner).enumerate() {
            let y = first + 1 + u16::try_from(number).unwrap_or(0);
            self.text(1, y, self.width - 1, line, self.theme.tone(*tone));
        }
    }

    /// What the removal of what is marked would free.
    fn figure(&mut self, state: &State, y: u16) {
        let marked = state.marks.len();
        let (text, style) = match &state.figure {
            Figure::Nothing => return,
            Figure::Counting => (format!("{marked} marked: counting…"), self.theme.dim()),
            Figure::Failed(why) => (format!("{marked} marked: {why}"), self.theme.warning()),
            Figure::Known(foretold) => {
                let freed = size::short(foretold.freed);
                let mut text = format!("{marked} marked: frees {freed}");
                if let Some(stay) = foretold.stays.first() {
                    let row = state.data.find(&stay.digest);
                    let name = row.map_or_else(|| stay.digest.short(), |row| row.called());
                    let more = foretold.staying - 1;
                    let others = if more > 0 {
                        format!(" and {more} more")
                    } else {
                        String::new()
                    };
                    let verb = match (stay.untagged, more) {
                        (true, 0) => "loses its names, stays",
                        (false, 0) => "stays",
                        (_, _) => "stay",
                    };
                    text.push_str(&format!("; {name}{others} {verb}: {}", stay.why));
                } else if !foretold.words.is_empty() {
                    text.push_str(&format!(" ({})", foretold.words));
                }
                (text, self.theme.marked())
            }
        };
        self.text(0, y, self.width, &text, style);
    }

    fn status(&mut self, state: &State, y: u16) {
        if state.images.editing {
            let text = format!("/{}▏", state.images.filter);
            self.text(0, y, self.width, &text, self.theme.heading());
            return;
        }
        if let Some(notice) = &state.notice {
            self.text(0, y, self.width, notice, self.theme.heading());
            return;
        }
        let hint = "? keys";
        let room = self.width.saturating_sub(8);
        self.text(0, y, room, &lists::totals(state), self.theme.dim());
        self.text_right(self.width, y, 7, hint, self.theme.dim());
    }
}
