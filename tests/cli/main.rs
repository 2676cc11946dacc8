//! The command line as its users meet it: the real program, on layouts written by hand. Nothing
//! here builds, needs root or the network.
//!
//! | file | holds |
//! |---|---|
//! | [`sample`] | layouts to look at; running the program |
//! | [`help`] | the help of every verb, the manual pages, the completions |
//! | [`look`] | lists, trees, reasons |
//! | [`space`] | what the disk is used for, and metrics of it |
//! | [`change`] | names, pins, removal, prune |
//! | [`usage`] | what cannot be meant, what cannot be done, and the exit codes of both |

mod change;
mod help;
mod look;
#[path = "../support/need.rs"]
mod need;
mod sample;
mod space;
mod usage;
