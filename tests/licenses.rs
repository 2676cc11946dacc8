//! What is linked into rstore has a license that `deny.toml` allows.
//!
//! cargo-deny checks this and more; this test needs nothing but cargo.

use std::path::Path;
use std::process::Command;

fn allowed() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let text = std::fs::read_to_string(path).expect("deny.toml is readable");
    let list = text
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .expect("deny.toml has a list of licenses")
        .0;
    let quoted = list.split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with the licenses that are allowed.
///
/// Crates write `A OR B`, `A/B` and `(A OR B) AND C`; none nests deeper.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    expression.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')']);
        let mut choices = part.split(" OR ").flat_map(|choice| choice.split('/'));
        choices.any(|choice| allowed.iter().any(|license| license == choice.trim()))
    })
}

#[test]
fn every_dependency_has_an_allowed_license() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        // Those for other systems were never downloaded.
        .args([
            "--filter-platform",
            &format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        ])
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let allowed = allowed();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50);
    let bad: Vec<String> = packages
        .iter()
        .filter(|package| !is_met(package["license"].as_str().unwrap_or(""), &allowed))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert!(
        bad.is_empty(),
        "not allowed by deny.toml:\n{}",
        bad.join("\n")
    );
}

#[test]
fn a_license_that_is_not_on_the_list_is_found() {
    let allowed = vec!["MIT".to_owned(), "Unicode-3.0".to_owned()];
    assert!(is_met("Apache-2.0 OR MIT", &allowed));
    assert!(is_met("(MIT OR Apache-2.0) AND Unicode-3.0", &allowed));
    assert!(is_met("Unlicense/MIT", &allowed));
    for bad in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "Apache-2.0 OR GPL-2.0",
    ] {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
}
