//! The command line as its users meet it: the real program, on layouts written by hand. Nothing
//! here builds, needs root or the network.
//!
//! | file | holds |
//! |---|---|
//! | [`sample`] | layouts to look at; running the program |
//! | [`files`] | the files of images: ls, cat, diff |
//! | [`help`] | the help of every verb, the manual pages, the completions |
//! | [`inspect`] | inspect and history |
//! | [`log`] | the journal: who did what |
//! | [`look`] | lists, trees, reasons |
//! | [`change`] | names, pins, removal, prune |
//! | [`report`] | the page, as text |
//! | [`usage`] | what cannot be meant, what cannot be done, and the exit codes of both |

mod change;
mod files;
mod help;
mod inspect;
mod log;
mod look;
mod report;
mod sample;
mod usage;
