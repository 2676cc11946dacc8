//! The page of `rstore report` and that of `rstore graph`, in a browser: headless Chromium, from a
//! file, without a network. What it says on its console is a failure.
//!
//! | file | holds |
//! |---|---|
//! | [`driver`] | a browser, spoken to as WebDriver has it |
//! | [`report`] | the page of `report` |
//! | [`graph`] | the page of `graph`, and what graphviz makes of it |

#[path = "../support/need.rs"]
#[allow(dead_code, reason = "it tells of all that any test needs")]
mod need;
#[path = "../cli/sample.rs"]
#[allow(dead_code, reason = "it is the sample of all that looks into stores")]
mod sample;

mod driver;
mod graph;
mod report;
