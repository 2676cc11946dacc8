//! Files, as ncdu shows them: sizes, bars, names; what a layer did to them, as dive does.

use super::Canvas;
use crate::cli::render::{size, text};
use crate::cli::ui::files::{FileKind, Mark};
use crate::cli::ui::state::browse::{Browse, Reading};
use crate::cli::ui::state::{Layers, State};

/// Narrower screens have no bars, and still narrower ones no modes.
const ROOM_FOR_BARS: u16 = 50;
const ROOM_FOR_MODES: u16 = 80;
const BAR: u16 = 10;

/// Draws the directory.
pub fn files(state: &State, canvas: &mut Canvas, (first, height): (u16, u16)) {
    let Some(files) = &state.files else {
        let what = "choose an image first: 1, then 4";
        return canvas.text(2, first, canvas.width() - 2, what, canvas.theme.dim());
    };
    canvas.text(
        0,
        1,
        canvas.width(),
        &path(state, files),
        canvas.theme.heading(),
    );
    let message = match &files.reading {
        Reading::Done(_) => None,
        Reading::Under(done) => Some((format!("reading… {done}"), canvas.theme.dim())),
        Reading::Failed(why) => Some((why.clone(), canvas.theme.warning())),
        Reading::Stopped => Some((
            "stopped; Enter on the layer reads it again".to_owned(),
            canvas.theme.dim(),
        )),
    };
    if let Some((message, style)) = message {
        let width = canvas.width().saturating_sub(3);
        let lines = super::texts::wrap(&message, usize::from(width));
        for (line, y) in lines.iter().zip(first..first + height) {
            canvas.text(2, y, width, line, style);
        }
        return;
    }
    if files.shown.is_empty() {
        let what = match files.layer.is_some() && !files.all {
            true => "the layer did nothing here; a shows what it left alone",
            false => "nothing is in it",
        };
        return canvas.text(2, first, canvas.width() - 2, what, canvas.theme.dim());
    }
    lines(files, canvas, (first, height));
}

fn lines(files: &Browse, canvas: &mut Canvas, (first, height): (u16, u16)) {
    let Some(listing) = files.listing() else {
        return;
    };
    let bytes = |place: &usize| files.bytes(listing, *place);
    let most = files.shown.iter().map(bytes).max().unwrap_or(0);
    let shown = files.shown.iter().enumerate().skip(files.cursor.top);
    for ((number, place), y) in shown.zip(first..first + height) {
        let file = &listing.files[*place];
        let style = canvas.theme.mark(file.mark);
        let sign = match file.mark {
            Mark::Same => " ",
            Mark::Added => "+",
            Mark::Changed => "~",
            Mark::Removed => "-",
        };
        canvas.text(0, y, 1, sign, style);
        canvas.text_right(9, y, 8, &size::short(bytes(place)), style);
        let mut x = 10;
        if canvas.width() >= ROOM_FOR_BARS {
            let full = u64::from(BAR);
            let length = match file.mark {
                Mark::Removed => 0,
                _ => u128::from(bytes(place)) * u128::from(full) / u128::from(most.max(1)),
            };
            let length = usize::try_from(length).unwrap_or(0).min(usize::from(BAR));
            canvas.text(x, y, 1, "[", canvas.theme.dim());
            canvas.text(x + 1, y, BAR, &"#".repeat(length), canvas.theme.bar());
            canvas.text(x + 1 + BAR, y, 1, "]", canvas.theme.dim());
            x += BAR + 3;
        }
        let mut end = canvas.width();
        if canvas.width() >= ROOM_FOR_MODES {
            let (user, group) = file.owner;
            let owner = format!("{:04o} {user}:{group}", file.mode & 0o7777);
            canvas.text_right(end, y, 16, &owner, canvas.theme.dim());
            end -= 17;
        }
        let (before, after) = match &file.kind {
            FileKind::Directory => ("/", String::new()),
            FileKind::File => (" ", String::new()),
            FileKind::Symlink(target) => (" ", format!(" -> {target}")),
            FileKind::Special => (" ", " (device or pipe)".to_owned()),
        };
        let name = format!("{before}{}{after}", file.name);
        canvas.text(x, y, end.saturating_sub(x), &name, style);
        if number == files.cursor.at {
            canvas.line_style(y, canvas.theme.chosen());
        }
    }
}

/// Of what, and where in it.
fn path(state: &State, files: &Browse) -> String {
    let image = state.data.find(&files.image);
    let image = image.map_or_else(|| files.image.short(), |row| row.called());
    let layer = match files.layer {
        None => String::new(),
        Some(layer) => format!(" layer {}", layer + 1),
    };
    let listing = files.listing();
    let path = listing.map_or("/".to_owned(), |listing| listing.path(files.directory));
    let room = usize::from(state.size.0).saturating_sub(text::columns(&image) + layer.len() + 2);
    // Of a long path the end tells more.
    let skip = path.chars().count().saturating_sub(room);
    let path: String = match skip {
        0 => path,
        skip => std::iter::once('…')
            .chain(path.chars().skip(skip + 1))
            .collect(),
    };
    format!("{image}{layer}: {path}")
}

/// The line of totals.
pub fn totals(state: &State) -> String {
    let Some((files, listing)) = state.files.as_ref().and_then(|f| Some((f, f.listing()?))) else {
        return String::new();
    };
    let bytes = files.bytes(listing, files.directory);
    let shown = files.shown.len();
    let names = if shown == 1 { "name" } else { "names" };
    match files.layer {
        None => format!("{shown} {names}, {}", size::short(bytes)),
        Some(layer) => {
            let step = step(state.layers.as_ref(), layer);
            let what = if files.all {
                "a: only changes"
            } else {
                "a: all"
            };
            format!("{shown} {names}, {} ({what}) {step}", size::short(bytes))
        }
    }
}

fn step(layers: Option<&Layers>, layer: usize) -> String {
    let rows = layers.and_then(|layers| layers.rows.as_ref()?.as_ref().ok());
    let row = rows.and_then(|rows| rows.get(layer));
    row.map_or(String::new(), |row| row.step.clone())
}
