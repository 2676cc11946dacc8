//! The command line as its users meet it: the real program, on layouts written by hand. Nothing
//! here builds, needs root or the network.
//!
//! | file | holds |
//! |---|---|
//! | [`sample`] | layouts to look at; running the program |
//! | [`help`] | the help of every verb, the manual pages, the completions |
//! | [`look`] | lists, trees, reasons |
//! | [`change`] | names, pins, removal, prune |
//! | [`prune`] | scopes, rules, space, configuration, plans in files |
//! | [`usage`] | what cannot be meant, what cannot be done, and the exit codes of both |

mod change;
mod help;
mod look;
mod prune;
mod sample;
mod usage;
