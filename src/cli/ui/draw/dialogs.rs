//! What stands over the screen.

use ratatui::layout::Rect;
use ratatui::widgets::{Block, Clear, Widget};

use super::Canvas;
use crate::cli::render::text;
use crate::cli::ui::layout;
use crate::cli::ui::state::State;
use crate::cli::ui::state::dialog::Dialog;
use crate::cli::ui::texts;

/// Draws the dialog.
pub fn dialog(state: &State, canvas: &mut Canvas, height: u16) {
    let lines = texts::dialog(state);
    let (title, ask) = texts::frame(state);
    let room = layout::dialog_height(height);
    let widest = lines
        .columns()
        .max(text::columns(title) + 4)
        .max(text::columns(&ask) + 8);
    let width = u16::try_from(widest + 4)
        .unwrap_or(u16::MAX)
        .min(canvas.width());
    let shown = lines.len().min(room);
    let tall = u16::try_from(shown).unwrap_or(0) + 4;
    let area = Rect::new(
        (canvas.width() - width) / 2,
        (height.saturating_sub(tall)) / 2,
        width,
        tall.min(height),
    );
    Clear.render(area, canvas.buffer);
    Block::bordered()
        .title(format!(" {title} "))
        .title_style(canvas.theme.heading())
        .render(area, canvas.buffer);
    let top = state.dialog.as_ref().map_or(0, Dialog::top);
    // A list that was scrolled on a smaller screen.
    let top = top.min(lines.len().saturating_sub(shown));
    for (number, (tone, line)) in lines.shown(top, shown).enumerate() {
        let y = area.y + 1 + u16::try_from(number).unwrap_or(0);
        let style = canvas.theme.tone(tone);
        canvas.text(area.x + 2, y, width.saturating_sub(4), &line, style);
    }
    let bottom = (area.y + area.height).saturating_sub(2);
    let style = canvas.theme.heading();
    canvas.text(area.x + 2, bottom, width.saturating_sub(4), &ask, style);
    if lines.len() > shown {
        let place = format!("{}-{}/{}", top + 1, top + shown, lines.len());
        let end = (area.x + width).saturating_sub(2);
        let free = width.saturating_sub(5 + u16::try_from(text::columns(&ask)).unwrap_or(0));
        let style = canvas.theme.dim();
        canvas.text_right(end, bottom, free, &place, style);
    }
}
