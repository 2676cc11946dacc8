//! What dialogs say, line by line: as wide as the screen, so that whoever scrolls knows how long
//! it is.

use super::data::{Foretold, Item, Removed, Row};
use super::state::State;
use super::state::dialog::{Dialog, Target};
use crate::cli::render::{size, text, time};

/// How a line of a dialog looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Like any text.
    Plain,
    /// A heading.
    Bold,
    /// Of less importance.
    Dim,
    /// To be taken note of.
    Warning,
}

/// A line of a dialog.
pub type Line = (Tone, String);

/// The keys, and what they do.
const KEYS: &[(&str, &str)] = &[
    ("", "Everywhere"),
    ("j k ↓ ↑", "next, previous line"),
    ("g G", "first, last line"),
    ("PgUp PgDn", "a page; ^u ^d half of one"),
    ("Enter l →", "go in: layers, then files"),
    ("⌫ h ←", "go back"),
    ("1 … 5 Tab", "another view"),
    ("space", "mark the image, or no longer"),
    ("c", "mark nothing"),
    ("x d", "remove what is marked: asks first"),
    ("p", "prune what nothing needs: asks first"),
    ("i", "all that is known of the image"),
    ("v", "details beside the list, or not"),
    ("r ^l", "read the store again; draw again"),
    ("q ^c", "quit"),
    ("", "Images"),
    ("/", "filter: name, ID, step, state"),
    ("s o u n t", "sort: size, own, used, name, state"),
    ("a", "also what others are made of"),
    ("", "Tree"),
    ("→ ←", "unfold; fold, then the parent"),
    ("+ -", "unfold, fold everything"),
    ("", "Files"),
    ("s n", "sort: size, name"),
    ("a", "also what the layer left alone"),
    ("+ ~ -", "added, changed, removed by it"),
    ("", "Sizes"),
    ("SIZE", "bytes on the disk, as du has them"),
    ("OWN", "what no other image or step has"),
];

/// The lines of a dialog. A plan may be of a hundred thousand things: of these only the lines that
/// are looked at are made.
#[derive(Debug, Default)]
pub struct Text<'a> {
    lines: Vec<Line>,
    names: &'a [String],
    items: &'a [Item],
    width: usize,
}

impl Text<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len() + self.names.len() + self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The columns of the widest; with a list, all that there may be.
    pub fn columns(&self) -> usize {
        if !self.items.is_empty() || !self.names.is_empty() {
            return self.width;
        }
        let columns = self.lines.iter().map(|(_, line)| text::columns(line));
        columns.max().unwrap_or(0)
    }

    /// Those from `top` on, so many.
    pub fn shown(&self, top: usize, count: usize) -> impl Iterator<Item = Line> {
        let names = |name: &String| (Tone::Plain, format!("    name {name}"));
        let items = |item: &Item| (Tone::Plain, item_line(item, self.width));
        let (lines, named) = (self.lines.len(), self.lines.len() + self.names.len());
        let last = (top + count).min(self.len());
        (top..last).map(move |number| match number {
            _ if number < lines => self.lines[number].clone(),
            _ if number < named => names(&self.names[number - lines]),
            _ => items(&self.items[number - named]),
        })
    }
}

/// The lines of the dialog that stands over the screen.
pub fn dialog(state: &State) -> Text<'_> {
    let width = usize::from(state.size.0.saturating_sub(6)).clamp(10, 90);
    let lines = match &state.dialog {
        None => Vec::new(),
        Some(Dialog::Help(_)) => help(),
        Some(Dialog::Details(_)) => {
            let row = state.chosen_row();
            row.map_or(Vec::new(), |row| details(state, row, width))
        }
        Some(Dialog::Confirm {
            target, foretold, ..
        }) => match foretold {
            None => vec![(Tone::Dim, "asking the planner…".to_owned())],
            Some(Err(why)) => wrapped(Tone::Warning, why, width),
            Some(Ok(foretold)) => {
                return Text {
                    lines: confirm(state, *target, foretold, width),
                    names: &foretold.untag,
                    items: &foretold.items,
                    width,
                };
            }
        },
        Some(Dialog::Removing { progress, .. }) => vec![(
            Tone::Plain,
            format!(
                "{} of {} things, {} of {}",
                progress.items,
                progress.of_items,
                size::short(progress.freed),
                size::short(progress.of_freed)
            ),
        )],
        Some(Dialog::Result(Ok(removed), _)) => result(removed, width),
        Some(Dialog::Result(Err(why), _)) => wrapped(Tone::Warning, why, width),
    };
    Text {
        lines,
        width,
        ..Text::default()
    }
}

/// What a dialog is, in a word or two, and what it asks.
pub fn frame(state: &State) -> (&'static str, String) {
    let close = || "Esc closes".to_owned();
    match &state.dialog {
        None => ("", String::new()),
        Some(Dialog::Help(_)) => ("Keys", close()),
        Some(Dialog::Details(_)) => ("Image", close()),
        Some(Dialog::Confirm {
            target, foretold, ..
        }) => {
            let title = match target {
                Target::Marked => "Remove what is marked",
                Target::Dangling => "Prune what nothing needs",
            };
            let ask = match foretold {
                None => "Esc cancels".to_owned(),
                Some(Ok(foretold)) if !foretold.is_empty() => {
                    format!("free {}? y/N", size::short(foretold.freed))
                }
                Some(_) => close(),
            };
            (title, ask)
        }
        Some(Dialog::Removing { stopping, .. }) => match stopping {
            true => ("Removing", "stopping…".to_owned()),
            false => ("Removing", "Esc stops".to_owned()),
        },
        Some(Dialog::Result(Ok(_), _)) => ("Done", close()),
        Some(Dialog::Result(Err(_), _)) => ("Nothing was removed", close()),
    }
}

fn help() -> Vec<Line> {
    let mut lines = Vec::new();
    for (keys, what) in KEYS {
        match *keys {
            "" => lines.push((Tone::Bold, (*what).to_owned())),
            keys => {
                let gap = " ".repeat(11_usize.saturating_sub(text::columns(keys)));
                lines.push((Tone::Plain, format!("  {keys}{gap}{what}")));
            }
        }
    }
    lines
}

/// All that is known of an image; also what stands beside the list.
pub fn details(state: &State, row: &Row, width: usize) -> Vec<Line> {
    let now = state.data.now;
    let ago = |moment| time::ago(moment, now);
    let parent = row.parent.and_then(|parent| state.data.row(parent));
    let kept = match state.chosen_details() {
        None => "…".to_owned(),
        Some(details) => match (&details.why, details.more) {
            (None, _) => "by nothing: the next prune takes it".to_owned(),
            (Some(why), 0) => why.clone(),
            (Some(why), 1) => format!("{why}; and by 1 more path"),
            (Some(why), more) => format!("{why}; and by {more} more paths"),
        },
    };
    let mut lines = Vec::new();
    for (label, value) in [
        ("names", row.names.to_string()),
        ("step", row.step.to_string()),
        ("kept", kept),
        ("ID", row.id.to_string()),
        ("digest", row.digest.to_string()),
        ("parent", parent.map_or(String::new(), |row| row.title())),
        (
            "used",
            format!("{}, first seen {}", ago(row.used), ago(row.seen)),
        ),
        (
            "bytes",
            format!(
                "{} on the disk, {} its own; {}",
                size::short(row.size),
                size::short(row.own),
                row.state
            ),
        ),
    ] {
        if value.is_empty() {
            continue;
        }
        for (number, part) in wrap(&value, width.saturating_sub(8))
            .into_iter()
            .enumerate()
        {
            let label = if number == 0 { label } else { "" };
            lines.push((Tone::Plain, format!("{label:7} {part}")));
        }
    }
    lines
}

/// What a plan comes to and what stays, before the list of what goes.
fn confirm(state: &State, target: Target, foretold: &Foretold, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if foretold.is_empty() {
        let nothing = match target {
            Target::Marked => "Nothing of what is marked can go.",
            Target::Dangling => "There is nothing that nothing needs.",
        };
        lines.push((Tone::Bold, nothing.to_owned()));
    } else if !foretold.words.is_empty() {
        lines.extend(wrapped(Tone::Bold, &foretold.words, width));
    } else {
        lines.push((Tone::Bold, "only names go, and no bytes".to_owned()));
    }
    for stay in &foretold.stays {
        let row = state.data.find(&stay.digest);
        let name = row.map_or_else(|| stay.digest.short(), Row::called);
        let verb = if stay.untagged {
            "loses its names and stays"
        } else {
            "stays"
        };
        let why = format!("{name} {verb}: {}", stay.why);
        lines.extend(wrapped(Tone::Warning, &why, width));
    }
    if foretold.staying > foretold.stays.len() {
        let more = foretold.staying - foretold.stays.len();
        lines.push((Tone::Warning, format!("and {more} more stay")));
    }
    for note in &foretold.notes {
        lines.extend(wrapped(Tone::Warning, note, width));
    }
    lines
}

/// A thing with its size, and where there is room the reason.
fn item_line(item: &Item, width: usize) -> String {
    let room = width.saturating_sub(9);
    let reason = match text::columns(&item.what) + text::columns(item.reason) + 2 <= room {
        true => item.reason,
        false => "",
    };
    let what = text::fit(&item.what, room);
    let gap = room.saturating_sub(text::columns(&what) + text::columns(reason));
    let gap = " ".repeat(if reason.is_empty() { 0 } else { gap });
    format!("{:>7}  {what}{gap}{reason}", size::short(item.freed))
}

fn result(removed: &Removed, width: usize) -> Vec<Line> {
    let mut lines = vec![(
        Tone::Bold,
        format!(
            "{} freed ({} bytes)",
            size::short(removed.freed),
            removed.freed
        ),
    )];
    if !removed.words.is_empty() {
        lines.extend(wrapped(Tone::Plain, &removed.words, width));
    }
    match removed.untagged {
        0 => {}
        1 => lines.push((Tone::Plain, "1 name went".to_owned())),
        names => lines.push((Tone::Plain, format!("{names} names went"))),
    }
    for remark in &removed.remarks {
        lines.extend(wrapped(Tone::Warning, remark, width));
    }
    lines
}

fn wrapped(tone: Tone, message: &str, width: usize) -> Vec<Line> {
    let lines = wrap(message, width);
    lines.into_iter().map(|line| (tone, line)).collect()
}

/// A text in lines of at most so many columns, broken at blanks where there are any.
pub fn wrap(message: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in message.split(' ') {
        let gap = usize::from(!line.is_empty());
        if text::columns(&line) + gap + text::columns(word) > width && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        let mut rest = word;
        while text::columns(rest) > width {
            let (head, tail) = split_at_columns(rest, width);
            if tail.is_empty() {
                break;
            }
            lines.push(head.to_owned());
            rest = tail;
        }
        line.push_str(rest);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// As much of a text as so many columns hold, and at least a character; and the rest.
fn split_at_columns(text: &str, width: usize) -> (&str, &str) {
    let mut taken = 0;
    for (at, character) in text.char_indices() {
        taken += text::columns(character.encode_utf8(&mut [0; 4]));
        if taken > width && at > 0 {
            return text.split_at(at);
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_broken_at_blanks_and_long_words_where_the_line_ends() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("東京都 x", 5), ["東京", "都 x"]);
        assert_eq!(wrap("東京", 1), ["東", "京"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
