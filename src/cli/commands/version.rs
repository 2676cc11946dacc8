//! `rstore version`: which program this is, and which stores it knows.

use std::io::Write;

use serde_json::json;

use crate::catalog;
use crate::cli::render::{Format, SCHEMA};
use crate::cli::{Context, Result, exit};

/// Show the version
///
/// Shows the version of the program and of the formats that it writes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore version
  rstore version --format json")]
pub struct Args {
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let version = env!("CARGO_PKG_VERSION");
    let catalog = catalog::schema::VERSION;
    let out = &mut context.out;
    match arguments.format {
        Format::Table => {
            writeln!(out, "rstore {version}")?;
            writeln!(out, "catalog format {catalog}, OCI image layout 1.0.0")?;
        }
        Format::Json | Format::JsonLines => {
            let document = json!({
                "schema": SCHEMA,
                "version": version,
                "catalog_format": catalog,
                "layout_version": "1.0.0",
            });
            writeln!(out, "{document}")?;
        }
        Format::Template(_) => return Err(exit::usage_error("version knows no templates")),
    }
    Ok(())
}
