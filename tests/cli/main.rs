//! The command line as its users meet it: the real program, on layouts written by hand. Nothing
//! here builds, needs root or the network.
//!
//! | file | holds |
//! |---|---|
//! | [`sample`] | layouts to look at; running the program |
//! | [`files`] | the files of images: ls, cat, diff |
//! | [`bad_input`] | names, texts, arguments and terminals that nobody hoped for |
//! | [`habits`] | what docker's users have in their scripts; the JSON of each list |
//! | [`help`] | the help of every verb, the manual pages, the completions |
//! | [`inspect`] | inspect and history |
//! | [`log`] | the journal: who did what |
//! | [`look`] | lists, trees, reasons |
//! | [`space`] | what the disk is used for, and metrics of it |
//! | [`change`] | names, pins, removal, prune |
//! | [`report`] | the page, as text |
//! | [`completion`] | TAB, in the shells themselves |
//! | [`why`] | who keeps what, and which prune takes it |
//! | [`prune`] | scopes, rules, space, configuration, plans in files |
//! | [`ui`] | the terminal interface, in a terminal |
//! | [`usage`] | what cannot be meant, what cannot be done, and the exit codes of both |

mod bad_input;
mod change;
mod completion;
mod files;
mod habits;
mod help;
mod inspect;
mod log;
mod look;
#[path = "../support/need.rs"]
#[allow(dead_code, reason = "shared with targets that need more")]
mod need;
mod prune;
mod report;
mod sample;
mod space;
#[path = "../support/terminal.rs"]
#[allow(dead_code, reason = "shared with targets that need more")]
mod terminal;
mod ui;
mod usage;
mod why;
