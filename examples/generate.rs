//! Writes the manual pages and the completion scripts: `cargo run --example generate`.

use std::path::Path;

use rstore::cli::generated;
use rstore::fsutil;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in ["man", "completions"] {
        // A verb that is gone leaves no page.
        fsutil::remove_tree(&package.join(directory))?;
        fsutil::create_dir_all(&package.join(directory))?;
    }
    for file in generated::files()? {
        std::fs::write(package.join(&file.path), &file.content)?;
    }
    Ok(())
}
