//! What screens look like, as text; and that nothing breaks them.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use super::*;
use crate::cli::ui::data::{Data, Details, Disk, DiskRow, LayerRow, Removed, tests::row};
use crate::cli::ui::files::{Listing, tests::layers};
use crate::cli::ui::keys::Key;
use crate::cli::ui::state::tests::{foretold, state};
use crate::cli::ui::state::{Action, News};
use crate::gc::UsageKind;
use crate::graph::State as Class;

fn drawn(state: &State, color: bool) -> Buffer {
    let (width, height) = state.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let theme = Theme { color };
    terminal
        .draw(|frame| draw(state, theme, frame.buffer_mut()))
        .unwrap();
    terminal.backend().buffer().clone()
}

/// The screen, a line a line, without the blanks at their ends.
fn text(state: &State) -> String {
    let buffer = drawn(state, true);
    let area = buffer.area;
    let line = |y| {
        let mut line = String::new();
        let mut x = 0;
        while x < area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += u16::try_from(text::columns(symbol)).unwrap().max(1);
        }
        line.trim_end().to_owned()
    };
    (0..area.height).map(line).collect::<Vec<_>>().join("\n")
}

fn keys(state: &mut State, keys: &str) -> Vec<Action> {
    let mut last = Vec::new();
    for key in keys.chars() {
        last = state.key(match key {
            '⏎' => Key::Enter,
            key => Key::Char(key),
        });
    }
    last
}

/// A state that marks an image and knows what that frees and what keeps it.
fn marked(columns: u16, lines: u16) -> State {
    let mut state = state(columns, lines);
    let actions = keys(&mut state, "j ");
    let Action::Foresee { serial, .. } = actions[0] else {
        panic!("{actions:?}");
    };
    state.take(News::Foretold(serial, Ok(foretold(3_200_000))));
    let chosen = state.chosen().unwrap();
    let details = Details {
        why: Some("tag app:1 → image 0123456789ab".to_owned()),
        more: 1,
    };
    state.take(News::Explained(chosen, details));
    state
}

fn with_layers(columns: u16, lines: u16) -> State {
    let mut state = state(columns, lines);
    keys(&mut state, "⏎");
    let image = state.chosen().unwrap();
    let layer = |step: &str, others| LayerRow {
        digest: image,
        step: step.to_owned(),
        size: 1_234_567,
        unpacked: Some(4_000_000),
        others,
        holders: vec!["app:1".to_owned()],
    };
    let rows = vec![layer("IMPORT rootfs.tar", 3), layer("RUN make 東京", 0)];
    state.take(News::Layers(image, Ok(rows)));
    state
}

fn with_files(columns: u16, lines: u16) -> State {
    let mut state = with_layers(columns, lines);
    let actions = keys(&mut state, "jj⏎");
    let Action::Read { serial, .. } = actions[0] else {
        panic!("{actions:?}");
    };
    let layers = layers(&[
        "etc/ etc/passwd=100 bin/ bin/sh=2000000 gone=5",
        "etc/ etc/passwd=120 -gone 東京/ 東京/ファイル=700000 link>bin/sh",
    ]);
    let listing = Listing::of_layer(&layers, 1).unwrap();
    state.take(News::Read(serial, Ok(Arc::new(listing))));
    state
}

#[test]
fn images_with_a_mark_and_details() {
    insta::assert_snapshot!(text(&marked(100, 24)));
}

#[test]
fn images_on_a_small_screen() {
    insta::assert_snapshot!(text(&marked(40, 12)));
}

#[test]
fn the_tree() {
    let mut state = marked(80, 20);
    keys(&mut state, "2");
    insta::assert_snapshot!(text(&state));
}

#[test]
fn the_layers() {
    let mut state = with_layers(80, 20);
    keys(&mut state, "j");
    insta::assert_snapshot!(text(&state));
}

#[test]
fn the_files_of_a_layer() {
    insta::assert_snapshot!(text(&with_files(80, 12)));
}

#[test]
fn the_disk() {
    let mut state = state(60, 10);
    keys(&mut state, "5");
    let row = |kind, title, size| DiskRow {
        kind,
        title,
        count: 3,
        active: 2,
        size,
        reclaimable: size / 2,
    };
    let disk = Disk {
        rows: vec![
            row(UsageKind::Images, "Images", 12_288),
            row(UsageKind::Layers, "Layers", 4_000_000),
        ],
        total: 4_012_288,
    };
    state.take(News::Measured(Ok(disk)));
    insta::assert_snapshot!(text(&state));
}

#[test]
fn the_question_before_a_removal_and_the_result() {
    let mut state = marked(70, 16);
    let actions = keys(&mut state, "x");
    let Action::Prepare { serial, .. } = actions[0] else {
        panic!("{actions:?}");
    };
    let data = Arc::clone(&state.data);
    state.take(News::Prepared(serial, Ok((data, foretold(3_200_000)))));
    insta::assert_snapshot!("question", text(&state));
    keys(&mut state, "y");
    let removed = Removed {
        freed: 3_200_000,
        words: "1 image, 1 layer".to_owned(),
        untagged: 1,
        remarks: Vec::new(),
    };
    state.take(News::Removed(Ok(removed)));
    insta::assert_snapshot!("result", text(&state));
}

#[test]
fn help_scrolls_on_a_small_screen() {
    let mut state = state(50, 14);
    keys(&mut state, "?G");
    insta::assert_snapshot!(text(&state));
}

#[test]
fn no_size_breaks_any_screen() {
    let mut states = vec![marked(80, 24), with_layers(80, 24), with_files(80, 24)];
    for key in "2345?ix".chars() {
        let mut state = marked(80, 24);
        state.key(Key::Char(key));
        states.push(state);
    }
    for state in &mut states {
        for columns in [1, 5, 23, 24, 40, 61, 200] {
            for lines in [1, 3, 6, 7, 12, 19, 20, 60] {
                state.resize(columns, lines);
                let buffer = drawn(state, true);
                assert_eq!((buffer.area.width, buffer.area.height), (columns, lines));
            }
        }
    }
}

#[test]
fn without_color_there_is_none() {
    for (color, expected) in [(true, true), (false, false)] {
        let states = [marked(100, 24), with_files(100, 24)];
        let has = states.iter().any(|state| {
            let buffer = drawn(state, color);
            buffer
                .content
                .iter()
                .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
        });
        assert_eq!(has, expected);
    }
}

#[test]
fn nothing_that_an_image_brings_along_reaches_the_terminal_raw() {
    // Rows are cleaned when they are made; what slips through is not drawn either.
    let mut hostile = row("x\u{1b}[2J\u{7}:1", "", Class::Tagged, 1, None);
    hostile.step = "RUN printf '\u{9b}31m\n'".into();
    let data = Arc::new(Data::new("/store".to_owned(), vec![hostile], 0, 0));
    let mut state = State::new(data, None, (80, 24)).0;
    for key in "12i".chars() {
        state.key(Key::Char(key));
        let buffer = drawn(&state, true);
        for cell in &buffer.content {
            assert!(
                !cell.symbol().contains(char::is_control),
                "{:?}",
                cell.symbol()
            );
        }
    }
}

#[test]
fn only_what_is_on_the_screen_of_a_long_list_is_drawn() {
    let rows = (0..100_000u32)
        .map(|number| row(&format!("n{number:06}"), "", Class::Tagged, 1, None))
        .collect();
    let data = Arc::new(Data::new(String::new(), rows, 0, 0));
    let mut state = State::new(data, None, (80, 24)).0;
    keys(&mut state, "nG");
    let began = std::time::Instant::now();
    for _ in 0..50 {
        drawn(&state, true);
    }
    // Fifty pictures; one of all lines would take longer than that alone.
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    assert!(text(&state).contains("n099999"));
}

#[test]
fn a_question_about_a_hundred_thousand_things_scrolls_like_a_short_one() {
    let mut state = marked(70, 16);
    let actions = keys(&mut state, "x");
    let Action::Prepare { serial, .. } = actions[0] else {
        panic!("{actions:?}");
    };
    let mut many = crate::cli::ui::data::Foretold::clone(&foretold(1));
    let item = many.items[0].clone();
    many.items = (0..100_000)
        .map(|number| crate::cli::ui::data::Item {
            what: format!("layer {number}"),
            ..item.clone()
        })
        .collect();
    let data = Arc::clone(&state.data);
    state.take(News::Prepared(serial, Ok((data, Arc::new(many)))));
    let began = std::time::Instant::now();
    for _ in 0..50 {
        keys(&mut state, "j");
        drawn(&state, true);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    keys(&mut state, "G");
    let shown = text(&state);
    assert!(
        shown.contains("layer 99999") && shown.contains("100002/100002"),
        "{shown}"
    );
}
