//! Images, tree, layers, disk.

use ratatui::style::Style;

use super::Canvas;
use crate::catalog::Millis;
use crate::cli::render::{size, text};
use crate::cli::ui::data::{LayerRow, Row};
use crate::cli::ui::state::images::Sort;
use crate::cli::ui::state::tree::branches;
use crate::cli::ui::state::{State, View};
use crate::cli::ui::texts;

/// Lines of the screen: the first, and how many.
type Lines = (u16, u16);

/// A column beside the first, which takes what is left.
struct Column {
    heading: &'static str,
    width: u16,
    /// On narrower screens it is left out.
    from: u16,
}

const fn column(heading: &'static str, width: u16, from: u16) -> Column {
    Column {
        heading,
        width,
        from,
    }
}

const IMAGES: [Column; 5] = [
    column("ID", 12, 96),
    column("STATE", 12, 60),
    column("SIZE", 7, 24),
    column("OWN", 7, 40),
    column("USED", 5, 46),
];

const LAYERS: [Column; 3] = [
    column("SIZE", 7, 24),
    column("UNPACKED", 8, 60),
    column("OTHERS", 7, 40),
];

const DISK: [Column; 4] = [
    column("TOTAL", 7, 50),
    column("ACTIVE", 7, 60),
    column("SIZE", 8, 24),
    column("RECLAIMABLE", 11, 36),
];

/// A row's cells: text and style, in the order of the columns.
type Cells<'a> = Vec<(String, Style, bool)>;

/// Draws the cells of a line from the right; returns how many columns are left for the first.
fn cells(canvas: &mut Canvas, y: u16, columns: &[Column], cells: &Cells) -> u16 {
    let mut end = canvas.width();
    for (column, (text, style, left)) in columns.iter().zip(cells).rev() {
        if canvas.width() < column.from {
            continue;
        }
        let start = end.saturating_sub(column.width);
        match left {
            true => canvas.text(start, y, column.width, text, *style),
            false => canvas.text_right(end, y, column.width, text, *style),
        }
        end = start.saturating_sub(1);
    }
    end
}

fn headings(canvas: &mut Canvas, first: &str, columns: &[Column], sorted: Option<(&str, bool)>) {
    let style = canvas.theme.heading();
    let arrow = |heading: &str| match sorted {
        Some((name, reverse)) if name == heading => {
            format!("{heading}{}", if reverse { "↑" } else { "↓" })
        }
        _ => heading.to_owned(),
    };
    let titles = columns
        .iter()
        .map(|column| {
            let left = matches!(column.heading, "ID" | "STATE");
            (arrow(column.heading), style, left)
        })
        .collect();
    let room = cells(canvas, 1, columns, &titles);
    canvas.text(2, 1, room.saturating_sub(2), &arrow(first), style);
}

/// The lines of a list that are on the screen: each's number and its `y`.
fn on_screen(top: usize, len: usize, (first, height): Lines) -> impl Iterator<Item = (usize, u16)> {
    (first..first + height)
        .enumerate()
        .map(move |(number, y)| (top + number, y))
        .take_while(move |(number, _)| *number < len)
}

fn empty(canvas: &mut Canvas, (first, _): Lines, what: &str) {
    let style = canvas.theme.dim();
    canvas.text(2, first, canvas.width() - 2, what, style);
}

/// The list of images.
pub fn images(state: &State, canvas: &mut Canvas, area: Lines) {
    let images = &state.images;
    let sorted = (images.sort.heading(), images.reverse);
    headings(canvas, Sort::Name.heading(), &IMAGES, Some(sorted));
    if images.order.is_empty() {
        let what = match images.filter.is_empty() {
            true => "no images; `rstore build`, `load` or `import` make some",
            false => "nothing matches; Esc clears the filter",
        };
        return empty(canvas, area, what);
    }
    for (number, y) in on_screen(images.cursor.top, images.order.len(), area) {
        let Some(row) = state.data.row(images.order[number]) else {
            continue;
        };
        let room = image_cells(state, canvas, y, row);
        image_title(state, canvas, y, room, "", row);
        if number == images.cursor.at {
            canvas.line_style(y, canvas.theme.chosen());
        }
    }
}

fn image_cells(state: &State, canvas: &mut Canvas, y: u16, row: &Row) -> u16 {
    let theme = canvas.theme;
    let plain = Style::new();
    let row_cells = vec![
        (row.id.short(), theme.dim(), true),
        (row.state.word().to_owned(), theme.state(row.state), true),
        (size::short(row.size), plain, false),
        (size::short(row.own), plain, false),
        (age(row.used, state.data.now), plain, false),
    ];
    cells(canvas, y, &IMAGES, &row_cells)
}

/// Mark, branches and name, or instruction, of an image.
fn image_title(state: &State, canvas: &mut Canvas, y: u16, room: u16, before: &str, row: &Row) {
    let theme = canvas.theme;
    let marked = state.marks.contains(&row.digest);
    if marked {
        canvas.text(0, y, 1, "*", theme.marked());
    }
    let style = match (marked, row.names.is_empty()) {
        (true, _) => theme.marked(),
        (false, true) => theme.dim(),
        (false, false) => Style::new(),
    };
    canvas.text(2, y, room.saturating_sub(2), before, theme.dim());
    let x = 2 + u16::try_from(text::columns(before)).unwrap_or(room);
    canvas.text(x, y, room.saturating_sub(x), &row.title(), style);
}

/// The tree.
pub fn tree(state: &State, canvas: &mut Canvas, area: Lines) {
    headings(canvas, "IMAGE", &IMAGES, None);
    let tree = &state.tree;
    if tree.lines.is_empty() {
        return empty(canvas, area, "no images");
    }
    for (number, y) in on_screen(tree.cursor.top, tree.lines.len(), area) {
        let place = tree.lines[number];
        let Some(row) = state.data.row(place) else {
            continue;
        };
        let room = image_cells(state, canvas, y, row);
        let half = usize::from(room / 2).max(6);
        let mut before = branches(&state.data, place, half);
        if tree.is_folded(place) {
            before.push_str(&format!("[+{}] ", state.data.below(place)));
        }
        image_title(state, canvas, y, room, &before, row);
        if number == tree.cursor.at {
            canvas.line_style(y, canvas.theme.chosen());
        }
    }
}

/// The layers of an image: all of them together, then the top one's step last.
pub fn layers(state: &State, canvas: &mut Canvas, area: Lines) {
    headings(canvas, "LAYER", &LAYERS, None);
    let Some(layers) = &state.layers else {
        return empty(canvas, area, "choose an image first: 1, then Enter");
    };
    let rows = match &layers.rows {
        None => return empty(canvas, area, "…"),
        Some(Err(why)) => {
            return canvas.text(2, area.0, canvas.width() - 2, why, canvas.theme.warning());
        }
        Some(Ok(rows)) => rows,
    };
    for (number, y) in on_screen(layers.cursor.top, rows.len() + 1, area) {
        let plain = Style::new();
        let (title, row_cells) = match number.checked_sub(1) {
            None => {
                let size: u64 = rows.iter().map(|row| row.size).sum();
                let unpacked: Option<u64> = rows.iter().map(|row| row.unpacked).sum();
                let cells = vec![
                    (size::short(size), plain, false),
                    (unpacked.map_or("?".to_owned(), size::short), plain, false),
                    (String::new(), plain, false),
                ];
                ("all layers: the files of the image".to_owned(), cells)
            }
            Some(place) => {
                let row = &rows[place];
                let unpacked = row.unpacked.map_or("?".to_owned(), size::short);
                let cells = vec![
                    (size::short(row.size), plain, false),
                    (unpacked, plain, false),
                    (row.others.to_string(), plain, false),
                ];
                (format!("{number:>2} {}", layer_title(row)), cells)
            }
        };
        let room = cells(canvas, y, &LAYERS, &row_cells);
        canvas.text(2, y, room.saturating_sub(2), &title, plain);
        if number == layers.cursor.at {
            canvas.line_style(y, canvas.theme.chosen());
        }
    }
}

fn layer_title(row: &LayerRow) -> String {
    match row.step.is_empty() {
        true => row.digest.short(),
        false => row.step.clone(),
    }
}

/// All that is known of the chosen layer.
pub fn layer_pane(state: &State, canvas: &mut Canvas, (first, height): Lines) {
    let Some(layers) = &state.layers else { return };
    let Some(Ok(rows)) = &layers.rows else { return };
    let mut lines = Vec::new();
    let image = state.data.find(&layers.image);
    let image = image.map_or_else(|| layers.image.short(), Row::title);
    lines.push(("image", image));
    if let Some(row) = layers
        .cursor
        .at
        .checked_sub(1)
        .and_then(|place| rows.get(place))
    {
        let held = match row.others {
            0 => "no other image".to_owned(),
            others => {
                let named = row.holders.join(", ");
                let more = others - row.holders.len().min(others);
                let more = if more > 0 {
                    format!(", and {more} more")
                } else {
                    String::new()
                };
                format!("{named}{more}")
            }
        };
        lines.push(("digest", row.digest.to_string()));
        lines.push(("held by", held));
        lines.push(("step", row.step.clone()));
    }
    let width = usize::from(canvas.width().saturating_sub(9));
    let mut y = first;
    for (label, value) in lines {
        for (number, part) in texts::wrap(&value, width).iter().enumerate() {
            if y >= first + height {
                return;
            }
            let label = if number == 0 { label } else { "" };
            let line = format!("{label:7} {part}");
            canvas.text(1, y, canvas.width() - 1, &line, Style::new());
            y += 1;
        }
    }
}

/// What the disk is used for.
pub fn disk(state: &State, canvas: &mut Canvas, area: Lines) {
    headings(canvas, "TYPE", &DISK, None);
    let disk = match &state.disk.disk {
        None => return empty(canvas, area, "measuring…"),
        Some(Err(why)) => {
            return canvas.text(2, area.0, canvas.width() - 2, why, canvas.theme.warning());
        }
        Some(Ok(disk)) => disk,
    };
    for (number, y) in on_screen(state.disk.cursor.top, disk.rows.len(), area) {
        let row = &disk.rows[number];
        let style = match row.count == 0 && row.size == 0 {
            true => canvas.theme.dim(),
            false => Style::new(),
        };
        let row_cells = vec![
            (row.count.to_string(), style, false),
            (row.active.to_string(), style, false),
            (size::short(row.size), style, false),
            (size::short(row.reclaimable), style, false),
        ];
        let room = cells(canvas, y, &DISK, &row_cells);
        canvas.text(2, y, room.saturating_sub(2), row.title, style);
        if number == state.disk.cursor.at {
            canvas.line_style(y, canvas.theme.chosen());
        }
    }
}

/// The line of totals.
pub fn totals(state: &State) -> String {
    match state.view {
        View::Layers => {
            let layers = state.layers.as_ref();
            let rows = layers.and_then(|layers| layers.rows.as_ref()?.as_ref().ok());
            match rows.map_or(0, Vec::len) {
                0 => String::new(),
                1 => "1 layer".to_owned(),
                count => format!("{count} layers"),
            }
        }
        View::Images => {
            let shown = state.images.order.len();
            let all = state.data.rows.len();
            let filter = match state.images.filter.as_str() {
                "" => String::new(),
                filter => format!(" /{filter}"),
            };
            let more = match shown < all && state.images.filter.is_empty() {
                true => format!("{shown} of {all} images (a: all)"),
                false => format!("{shown} of {all} images{filter}"),
            };
            format!("{more}, {} of blobs", size::short(state.data.total))
        }
        View::Tree => {
            let blobs = size::short(state.data.total);
            format!("{} images, {blobs} of blobs", state.data.rows.len())
        }
        View::Files => super::files::totals(state),
        View::Disk => match &state.disk.disk {
            Some(Ok(disk)) => format!("{} in all ({} bytes)", size::short(disk.total), disk.total),
            _ => String::new(),
        },
    }
}

/// How long ago, in as few columns as can be: `5m`, `3h`, `12d`, `7w`, `2y`.
pub fn age(time: Millis, now: Millis) -> String {
    let seconds = now.saturating_sub(time).max(0) / 1000;
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        172_800..1_209_600 => format!("{}d", seconds / 86_400),
        1_209_600..31_536_000 => format!("{}w", seconds / 604_800),
        _ => format!("{}y", seconds / 31_536_000),
    }
}
