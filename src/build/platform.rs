//! Platforms: their names, and the ARGs that every build has of them.

use super::options::Options;
use crate::oci::Platform;

/// The names of the ARGs that every build has.
pub const PLATFORM_ARGUMENTS: [&str; 11] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETPLATFORM",
    "TARGETSTAGE",
    "TARGETVARIANT",
];

/// The ARGs that every build has, by BuildKit's names. A `--build-arg` goes before them.
/// `last_stage` is the name of the file's last stage.
pub fn platform_argument(
    name: &str,
    options: &Options,
    target: &Platform,
    last_stage: Option<&str>,
) -> Option<String> {
    if let (Some(given), true) = (
        options.build_args.get(name),
        PLATFORM_ARGUMENTS.contains(&name),
    ) {
        return Some(given.clone());
    }
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    let build = &options.build_platform;
    Some(match name {
        "TARGETPLATFORM" => target.to_string(),
        "TARGETOS" => target.os.clone(),
        "TARGETARCH" => target.architecture.clone(),
        "TARGETVARIANT" => variant(target),
        "BUILDPLATFORM" => build.to_string(),
        "BUILDOS" => build.os.clone(),
        "BUILDARCH" => build.architecture.clone(),
        "BUILDVARIANT" => variant(build),
        "TARGETOSVERSION" | "BUILDOSVERSION" => String::new(),
        "TARGETSTAGE" => {
            let target = options.target.as_deref().or(last_stage);
            target.unwrap_or("default").to_owned()
        }
        _ => return None,
    })
}

/// What a word alone may be: Go's names of architectures, and the kernel's of two.
const ARCHITECTURES: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "ppc64le", "riscv64",
    "s390x", "wasm", "x86_64", "aarch64",
];

/// `os/architecture[/variant]`, or an architecture alone for linux.
pub fn parse_platform(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let named = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let (os, architecture, variant) = match parts.as_slice() {
        [architecture] => ("linux", *architecture, None),
        [os, architecture] => (*os, *architecture, None),
        [os, architecture, variant] => (*os, *architecture, Some(*variant)),
        _ => ("", "", None),
    };
    if !parts.iter().all(named) || architecture.is_empty() {
        return Err(format!(
            "{text:?} is not a platform: os/architecture[/variant], such as linux/arm64"
        ));
    }
    if parts.len() == 1 && !ARCHITECTURES.contains(&architecture) {
        return Err(format!(
            "{text:?} is not a platform: os/architecture[/variant], such as linux/arm64"
        ));
    }
    let architecture = match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let variant = match (architecture, variant) {
        ("arm64", Some("v8")) => None,
        // What arm alone means to containerd.
        ("arm", None) => Some("v7".to_owned()),
        (_, variant) => variant.map(str::to_owned),
    };
    Ok(Platform {
        architecture: architecture.to_owned(),
        os: os.to_owned(),
        variant,
    })
}
