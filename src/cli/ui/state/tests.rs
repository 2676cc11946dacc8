//! Keys in, actions and what is shown out.

use super::browse::Reading;
use super::*;
use crate::cli::ui::data::tests::row;
use crate::cli::ui::data::{Item, Stay};
use crate::cli::ui::files::tests::layers as entries;
use crate::cli::ui::keys::Key;
use crate::graph::State as Class;

/// A store of a base, what was made from it, and one that nothing keeps.
pub fn data() -> Arc<Data> {
    let rows = vec![
        row("base:latest", "", Class::Tagged, 4_000_000, None),
        row("", "RUN make", Class::Intermediate, 1_000, Some(0)),
        row(
            "app:1, app:latest",
            "CMD [\"/app\"]",
            Class::Tagged,
            2_000_000,
            Some(1),
        ),
        row("", "RUN make old", Class::Dangling, 3_000_000, Some(0)),
        row("東京:1", "", Class::Tagged, 10, None),
    ];
    Arc::new(Data::new("/store".to_owned(), rows, 9_000_000, 90_000_000))
}

/// A state of that store.
pub fn state(columns: u16, lines: u16) -> State {
    State::new(data(), None, (columns, lines)).0
}

/// What a planner says for tests: `freed` bytes, one item.
pub fn foretold(freed: u64) -> Arc<Foretold> {
    Arc::new(Foretold {
        freed,
        words: "1 image, 1 layer".to_owned(),
        count: 2,
        untag: vec!["app:1".to_owned()],
        items: vec![Item {
            what: "image 0123456789ab app:1".to_owned(),
            reason: "named",
            freed,
        }],
        ..Foretold::default()
    })
}

fn keys(state: &mut State, keys: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    for key in keys.chars() {
        actions = state.key(match key {
            '⏎' => Key::Enter,
            '⌫' => Key::Backspace,
            '⎋' => Key::Escape,
            '⇥' => Key::Tab,
            '→' => Key::Right,
            '←' => Key::Left,
            key => Key::Char(key),
        });
    }
    // Whatever moves the cursor asks for that.
    actions.retain(|action| !matches!(action, Action::Explain(_)));
    actions
}

fn shown(state: &State) -> Vec<String> {
    let row = |place: &u32| state.data.row(*place).unwrap().called();
    let order = match state.view {
        View::Tree => &state.tree.lines,
        _ => &state.images.order,
    };
    order.iter().map(row).collect()
}

fn digest(state: &State, name: &str) -> Digest {
    let found = state
        .data
        .rows
        .iter()
        .find(|row| row.title().contains(name));
    found.unwrap().digest
}

#[test]
fn images_are_sorted_by_each_column_and_the_other_way_round() {
    let mut state = state(80, 24);
    let names = |state: &State| shown(state).join(" ");
    let old = digest(&state, "make old");
    let old = state.data.find(&old).unwrap().called();
    assert_eq!(names(&state), format!("base:latest {old} app:1 東京:1"));
    keys(&mut state, "s");
    assert_eq!(names(&state), format!("東京:1 app:1 {old} base:latest"));
    keys(&mut state, "n");
    assert_eq!(names(&state), format!("app:1 base:latest 東京:1 {old}"));
    keys(&mut state, "t");
    assert_eq!(names(&state), format!("base:latest app:1 東京:1 {old}"));
}

#[test]
fn parts_of_others_are_shown_when_all_is_asked_for() {
    let mut state = state(80, 24);
    assert_eq!(shown(&state).len(), 4);
    keys(&mut state, "a");
    assert_eq!(shown(&state).len(), 5);
}

#[test]
fn a_filter_narrows_while_it_is_typed_and_escape_clears_it() {
    let mut state = state(80, 24);
    keys(&mut state, "/ap");
    assert_eq!(shown(&state), ["app:1"]);
    keys(&mut state, "⌫⌫東");
    assert_eq!(shown(&state), ["東京:1"]);
    // Letters are keys again once it is done.
    let actions = keys(&mut state, "⏎ ");
    assert!(matches!(actions[0], Action::Foresee { .. }));
    keys(&mut state, "⎋");
    assert_eq!(shown(&state).len(), 4);
    // What a filter asks for is shown though it be a part of another.
    keys(&mut state, "/run make⏎");
    assert_eq!(shown(&state).len(), 2);
}

#[test]
fn a_mark_asks_the_planner_and_only_its_last_answer_counts() {
    let mut state = state(80, 24);
    let first = keys(&mut state, " ");
    let Action::Foresee { serial: first, .. } = first[0] else {
        panic!("{first:?}");
    };
    let second = keys(&mut state, " ");
    let Action::Foresee { serial, marks } = &second[0] else {
        panic!("{second:?}");
    };
    assert_eq!(marks.len(), 2);
    let serial = *serial;
    state.take(News::Foretold(first, Ok(foretold(1))));
    assert!(matches!(state.figure, Figure::Counting));
    state.take(News::Foretold(serial, Ok(foretold(2))));
    assert!(matches!(&state.figure, Figure::Known(known) if known.freed == 2));
    keys(&mut state, "c");
    assert!(state.marks.is_empty() && matches!(state.figure, Figure::Nothing));
}

#[test]
fn an_image_is_marked_from_every_view_of_it() {
    let mut state = state(80, 24);
    let app = digest(&state, "app:1");
    keys(&mut state, "n2");
    assert_eq!(state.chosen(), Some(app));
    keys(&mut state, " ");
    assert!(state.marks.contains(&app));
    keys(&mut state, "k1⏎");
    assert_eq!((state.view, state.chosen()), (View::Layers, Some(app)));
    keys(&mut state, " ");
    assert!(state.marks.is_empty());
    keys(&mut state, "4 ");
    assert_eq!((state.view, state.marks.len()), (View::Files, 1));
    // Nothing is chosen there, and it says so.
    let actions = keys(&mut state, "5 ");
    assert!(actions.is_empty() && state.notice.is_some());
}

/// Presses `x` and answers as the planner would.
fn prepared(state: &mut State, outcome: Result<Arc<Foretold>, String>) {
    let actions = keys(state, "x");
    let Action::Prepare { serial, .. } = &actions[0] else {
        panic!("{actions:?}");
    };
    state.take(News::Prepared(*serial, outcome.map(|plan| (data(), plan))));
}

#[test]
fn removal_asks_first_and_nothing_but_y_says_yes() {
    let mut state = state(80, 24);
    keys(&mut state, " ");
    for no in ["n", "q", "⎋", "⏎"] {
        prepared(&mut state, Ok(foretold(7)));
        assert!(
            keys(&mut state, no)
                .iter()
                .all(|action| *action != Action::Remove)
        );
        assert!(state.dialog.is_none(), "{no}");
    }
    prepared(&mut state, Ok(foretold(7)));
    assert_eq!(keys(&mut state, "jk d"), []);
    assert_eq!(keys(&mut state, "y"), [Action::Remove]);
    assert!(state.is_removing());
    // A second yes removes nothing twice.
    assert!(!keys(&mut state, "y").contains(&Action::Remove));
    let actions = state.take(News::Removed(Ok(Removed::default())));
    assert!(actions.contains(&Action::Reload));
    keys(&mut state, "⎋");
    assert!(state.dialog.is_none());
}

#[test]
fn a_yes_before_the_planner_has_answered_is_none() {
    let mut state = state(80, 24);
    keys(&mut state, " ");
    keys(&mut state, "x");
    assert!(!keys(&mut state, "y").contains(&Action::Remove));
    // Nor is one where there is nothing to remove, or nothing can be.
    for outcome in [Ok(Arc::default()), Err("broken".to_owned())] {
        keys(&mut state, "⎋");
        prepared(&mut state, outcome);
        assert!(!keys(&mut state, "y").contains(&Action::Remove));
    }
}

#[test]
fn an_answer_to_a_question_that_was_given_up_removes_nothing() {
    let mut state = state(80, 24);
    keys(&mut state, " ");
    let old = keys(&mut state, "x");
    let Action::Prepare { serial, .. } = old[0] else {
        panic!("{old:?}");
    };
    keys(&mut state, "⎋p");
    state.take(News::Prepared(serial, Ok((data(), foretold(7)))));
    assert!(!keys(&mut state, "y").contains(&Action::Remove));
}

#[test]
fn a_read_only_store_is_not_asked_about() {
    let mut state = State::new(data(), Some("no".to_owned()), (80, 24)).0;
    keys(&mut state, " ");
    for key in ["x", "d", "p"] {
        assert_eq!(keys(&mut state, key), []);
        assert!(state.dialog.is_none());
        assert!(state.notice.as_ref().unwrap().contains("read-only"));
    }
}

#[test]
fn quitting_while_something_is_removed_stops_that_first() {
    let mut state = state(80, 24);
    keys(&mut state, " ");
    prepared(&mut state, Ok(foretold(7)));
    keys(&mut state, "y");
    assert_eq!(keys(&mut state, "q"), [Action::StopRemoving]);
    assert!(state.key(Key::Ctrl('c')).contains(&Action::StopRemoving));
    state.take(News::Removed(Ok(Removed::default())));
    assert_eq!(state.key(Key::Ctrl('c')), [Action::Interrupt]);
    keys(&mut state, "⎋");
    assert_eq!(keys(&mut state, "q"), [Action::Quit]);
}

#[test]
fn a_store_that_was_read_again_keeps_what_was_chosen_and_drops_marks_of_what_is_gone() {
    let mut state = state(80, 24);
    let (app, old) = (digest(&state, "app:1"), digest(&state, "make old"));
    keys(&mut state, "n j j ");
    assert!(state.marks.contains(&app));
    state.marks.insert(old);
    keys(&mut state, "g");
    assert_eq!(state.chosen(), Some(app));
    let rows = vec![
        row("new:1", "", Class::Tagged, 9_000_000, None),
        row(
            "app:1, app:latest",
            "CMD [\"/app\"]",
            Class::Tagged,
            1,
            None,
        ),
    ];
    let data = Arc::new(Data::new(String::new(), rows, 0, 0));
    let actions = state.take(News::Loaded(Ok(data)));
    assert_eq!(state.chosen(), Some(app));
    assert_eq!(state.marks.iter().collect::<Vec<_>>(), [&app]);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Foresee { .. }))
    );
}

#[test]
fn one_goes_in_to_layers_and_files_and_back() {
    let mut state = state(80, 24);
    let base = digest(&state, "base");
    let actions = keys(&mut state, "⏎");
    assert_eq!(actions[0], Action::Layers(base));
    // Not before they are known.
    assert_eq!(keys(&mut state, "⏎"), []);
    let layer = LayerRow {
        digest: base,
        step: "IMPORT".to_owned(),
        size: 1,
        unpacked: None,
        others: 0,
        holders: Vec::new(),
    };
    state.take(News::Layers(base, Ok(vec![layer])));
    let actions = keys(&mut state, "j⏎");
    let Action::Read { serial, layer, .. } = actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(layer, Some(0));
    let listing = Listing::of_layer(&entries(&["a/ a/b=10 c=7"]), 0).unwrap();
    state.take(News::Read(serial, Ok(Arc::new(listing))));
    let path = |state: &State| {
        let files = state.files.as_ref().unwrap();
        files.listing().unwrap().path(files.directory)
    };
    keys(&mut state, "⏎");
    assert_eq!(path(&state), "/a");
    keys(&mut state, "⌫");
    assert_eq!((path(&state), state.view), ("/".to_owned(), View::Files));
    // What was read is not read again.
    assert_eq!(keys(&mut state, "⌫⏎"), []);
    assert_eq!(state.view, View::Files);
    keys(&mut state, "⌫⌫");
    assert_eq!(state.view, View::Images);
}

#[test]
fn a_reading_stops_when_one_goes_away_and_its_answer_is_dropped() {
    let mut state = state(80, 24);
    let actions = keys(&mut state, "4");
    let Action::Read { serial, .. } = actions[0] else {
        panic!("{actions:?}");
    };
    state.take(News::Reading(serial, "layer 1 of 2".to_owned()));
    assert!(keys(&mut state, "⌫").contains(&Action::StopReading));
    let listing = Listing::merged(&entries(&["a=1"])).unwrap();
    state.take(News::Read(serial, Ok(Arc::new(listing))));
    let files = state.files.as_ref().unwrap();
    assert!(matches!(files.reading, Reading::Stopped));
    // Coming back reads anew.
    let again = keys(&mut state, "4");
    assert!(matches!(again[0], Action::Read { serial: new, .. } if new != serial));
}

#[test]
fn a_layer_shows_what_it_changed_and_on_demand_the_rest() {
    let layers = entries(&["a=1 b=2", "b=3 -a c=4"]);
    let listing = Arc::new(Listing::of_layer(&layers, 1).unwrap());
    let mut browse = Browse::new(Digest::of(b"x"), Some(1), 1);
    browse.take(Arc::clone(&listing));
    let names = |browse: &Browse| {
        let name = |place: &usize| &*listing.files[*place].name;
        browse.shown.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&browse), "c b a");
    let layers = entries(&["a=1 b=2", "c=4"]);
    let listing = Arc::new(Listing::of_layer(&layers, 1).unwrap());
    browse.take(Arc::clone(&listing));
    assert_eq!(browse.shown.len(), 1);
    browse.all = true;
    browse.arrange();
    assert_eq!(browse.shown.len(), 3);
}

#[test]
fn the_disk_is_measured_once_and_again_after_a_change() {
    let mut state = state(80, 24);
    assert_eq!(keys(&mut state, "5"), [Action::Measure]);
    state.take(News::Measured(Ok(Disk::default())));
    assert_eq!(keys(&mut state, "15"), []);
    let actions = state.take(News::Loaded(Ok(data())));
    assert!(actions.contains(&Action::Measure));
}

#[test]
fn a_hundred_thousand_images_are_sorted_filtered_and_walked_at_once() {
    let rows = (0..110_000u32)
        .map(|number| {
            let parent = (number % 11 != 0).then(|| number - 1);
            row(
                "",
                &format!("RUN step {number}"),
                Class::Dangling,
                u64::from(number),
                parent,
            )
        })
        .collect();
    let data = Arc::new(Data::new(String::new(), rows, 0, 0));
    let mut state = State::new(data, None, (80, 24)).0;
    assert_eq!(shown(&state).len(), 110_000);
    keys(&mut state, "2");
    // Tops, and what leads to the one that was chosen.
    assert_eq!(state.tree.lines.len(), 10_010);
    keys(&mut state, "+G1G");
    assert_eq!(state.images.cursor.at, 109_999);
    keys(&mut state, "/step 1099⏎");
    assert_eq!(state.images.order.len(), 111);
}

#[test]
fn what_stays_is_told_with_what_keeps_it() {
    let mut state = state(80, 24);
    let base = digest(&state, "base");
    keys(&mut state, " ");
    let stays = Foretold {
        stays: vec![Stay {
            digest: base,
            untagged: false,
            why: "tag app:1 → image 0123".to_owned(),
        }],
        staying: 1,
        ..Foretold::default()
    };
    prepared(&mut state, Ok(Arc::new(stays)));
    let lines = crate::cli::ui::texts::dialog(&state);
    let text: Vec<String> = lines.shown(0, 9).map(|(_, line)| line).collect();
    assert_eq!(
        text,
        [
            "Nothing of what is marked can go.",
            "base:latest stays: tag app:1 → image 0123"
        ]
    );
}
