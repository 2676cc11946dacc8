//! The command line as its users meet it: the real program, on layouts written by hand. Nothing
//! here builds, needs root or the network.
//!
//! | file | holds |
//! |---|---|
//! | [`sample`] | layouts to look at; running the program |
//! | [`help`] | the help of every verb, the manual pages, the completions |
//! | [`look`] | lists, trees, reasons |
//! | [`change`] | names, pins, removal, prune |
//! | [`ui`] | the terminal interface, in a terminal |
//! | [`usage`] | what cannot be meant, what cannot be done, and the exit codes of both |

mod change;
mod help;
mod look;
mod sample;
#[path = "../support/terminal.rs"]
#[allow(
    dead_code,
    reason = "what these tests have no use for the tests that build do"
)]
mod terminal;
mod ui;
mod usage;
