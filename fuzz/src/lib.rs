//! The modules under test, and what is done with an input.

#![allow(dead_code)]

#[path = "../../src/dockerfile/mod.rs"]
pub mod dockerfile;
#[path = "../../src/words.rs"]
mod words;

pub mod exercise;
pub mod mutate;
