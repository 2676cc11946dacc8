//! The cases, a file an area.

use crate::case::Case;

mod add;
mod config;
mod context;
mod copy;
mod expand;
mod from;
mod language;
mod mount;
mod run;
mod source;
mod stage;
mod time;
mod users;

/// All cases, in the order of the table.
pub fn all() -> Vec<Case> {
    let areas = [
        language::cases(),
        expand::cases(),
        stage::cases(),
        config::cases(),
        users::cases(),
        context::cases(),
        copy::cases(),
        from::cases(),
        add::cases(),
        run::cases(),
        mount::cases(),
        source::cases(),
        time::cases(),
    ];
    let cases: Vec<Case> = areas.into_iter().flatten().collect();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert!(twice.is_none(), "two cases are called {twice:?}");
    cases
}
