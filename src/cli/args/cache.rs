//! `rstore build`'s arguments about the cache: what it is taken from and written to.

use std::path::PathBuf;

use super::values;
use crate::build::cache::{CacheFrom, CacheTo, DEFAULT_TAG, Destination, Mode, Which};
use crate::cli::exit::usage_error;
use crate::cli::{Result, registries};
use crate::layer::Compression;
use crate::oci::{Platform, Reference};

/// The cache, and the platforms that are built for.
#[derive(Debug, clap::Args)]
pub struct CacheArgs {
    /// The platform to build for; several, with commas, give an index [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',', value_parser = values::platform)]
    pub platforms: Vec<Platform>,
    /// Run every step, whatever the cache has
    #[arg(long)]
    pub no_cache: bool,
    /// Run every step of a stage, whatever the cache has
    #[arg(
        long = "no-cache-filter",
        value_name = "STAGE",
        value_delimiter = ',',
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub no_cache_filter: Vec<String>,
    /// Take steps from a cache too: HOST/NAME[:TAG|@DIGEST] or type=registry,ref=…, type=local,src=DIR[,tag=TAG|digest=DIGEST]
    ///
    /// May be given many times: a step is taken from whichever has it. What a cache has is believed
    /// in builds that name it, and in no other. A cache that is not there or cannot be used is
    /// warned of, and its steps are run. Layers are fetched when something needs them.
    #[arg(long = "cache-from", value_name = "SPEC", value_parser = from)]
    pub cache_from: Vec<CacheFrom>,
    /// Write the cache of this build: HOST/NAME[:TAG] or type=registry,ref=…[,mode=min|max], type=local,dest=DIR[,mode=min|max][,tag=TAG]
    ///
    /// `mode=min` has the layers of the result, `mode=max` those of every stage. A cache that cannot
    /// be written fails the build, once the image is built and tagged; ignore-error=true makes that a warning.
    /// See rstore-cache(7) for a cache that many hosts share.
    #[arg(long = "cache-to", value_name = "SPEC", value_parser = to)]
    pub cache_to: Vec<Export>,
}

/// A cache to write, and how its layers are to be compressed.
#[derive(Debug, Clone)]
pub struct Export {
    to: CacheTo,
    compression: Option<String>,
}

impl CacheArgs {
    /// The platforms, each once.
    pub fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in &self.platforms {
            if !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        platforms
    }

    /// The caches to write, of a build whose layers are compressed so.
    pub fn exports(&self, compression: Compression) -> Result<Vec<CacheTo>> {
        let made = match compression {
            Compression::None => "uncompressed",
            Compression::Gzip(_) => "gzip",
            Compression::Zstd(_) => "zstd",
        };
        for export in &self.cache_to {
            if let Some(wanted) = export
                .compression
                .as_deref()
                .filter(|wanted| *wanted != made)
            {
                let option = wanted.replace("uncompressed", "none");
                return Err(usage_error(format!(
                    "--cache-to compression={wanted}: a cache has the layers that the build makes; \
                     --compression {option} makes them so"
                )));
            }
        }
        Ok(self
            .cache_to
            .iter()
            .map(|export| export.to.clone())
            .collect())
    }
}

/// The fields of `key=value,…`; a field with a comma in it stands between double quotes.
fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => words.push(String::new()),
            other => words.last_mut().expect("one at least").push(other),
        }
    }
    if quoted {
        return Err("a double quote is not closed".to_owned());
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.to_owned())),
        None => Err(format!("{word:?} is not KEY=VALUE")),
    };
    words.iter().map(pair).collect()
}

/// Where a cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Registry,
}

/// The fields of a cache, and where it is; other types are refused with what to do.
fn typed(text: &str, example: &str) -> Result<(Kind, Vec<(String, String)>), String> {
    if !text.contains('=') {
        // Docker's short form.
        return Ok((Kind::Registry, vec![("ref".to_owned(), text.to_owned())]));
    }
    let fields = fields(text)?;
    let kind = fields.iter().find(|(key, _)| key == "type");
    match kind.map(|(_, kind)| kind.as_str()) {
        Some("local") => Ok((Kind::Local, fields)),
        Some("registry") => Ok((Kind::Registry, fields)),
        Some("inline") => Err(format!(
            "type=inline is not supported: an image does not carry its cache; type=registry,ref=NAME or {example} does"
        )),
        Some(kind @ ("gha" | "s3" | "azblob")) => Err(format!(
            "type={kind} is not supported: {example}, and let the service keep the directory; or type=registry,ref=NAME"
        )),
        Some(kind) => Err(format!(
            "there is no type={kind}; type=registry,ref=NAME or {example}"
        )),
        None => Err(format!(
            "it has no type: type=registry,ref=NAME or {example}"
        )),
    }
}

/// The name of a cache in a registry.
fn reference(value: Option<String>) -> Result<Reference, String> {
    match value.filter(|value| !value.is_empty()) {
        Some(value) => {
            registries::reference(&value).map_err(|error| format!("ref={value}: {error}"))
        }
        None => Err("type=registry needs ref=HOST/NAME:TAG".to_owned()),
    }
}

fn flag(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{key}={value}: true or false is wanted")),
    }
}

fn path(key: &str, value: Option<String>) -> Result<PathBuf, String> {
    match value.filter(|value| !value.is_empty()) {
        Some(value) => Ok(PathBuf::from(value)),
        None => Err(format!("type=local needs {key}=DIR")),
    }
}

/// `HOST/NAME:TAG`, `type=registry,ref=…`, `type=local,src=DIR[,tag=TAG|digest=DIGEST]`.
fn from(text: &str) -> Result<CacheFrom, String> {
    let (mut source, mut tag, mut digest, mut name) = (None, None, None, None);
    let (kind, fields) = typed(text, "type=local,src=DIR")?;
    for (key, value) in fields {
        match (key.as_str(), kind) {
            ("type", _) => {}
            ("src", Kind::Local) => source = Some(value),
            ("tag", Kind::Local) => tag = Some(value),
            ("digest", Kind::Local) => {
                digest = Some(value.parse().map_err(|e| format!("digest={value}: {e}"))?);
            }
            ("ref", Kind::Registry) => name = Some(value),
            (key, Kind::Registry) if key.starts_with("registry.") => return Err(insecure(key)),
            (_, Kind::Registry) => return Err(format!("type=registry has no {key:?}; it has ref")),
            (_, Kind::Local) => {
                return Err(format!(
                    "type=local has no {key:?}; it has src, tag, digest"
                ));
            }
        }
    }
    if kind == Kind::Registry {
        return Ok(CacheFrom::Registry(reference(name)?));
    }
    let which = match (digest, tag) {
        (Some(digest), None) => Which::Digest(digest),
        (None, tag) => Which::Tag(tag.unwrap_or_else(|| DEFAULT_TAG.to_owned())),
        (Some(_), Some(_)) => return Err("tag and digest: one of them says which".to_owned()),
    };
    Ok(CacheFrom::Directory {
        source: path("src", source)?,
        which,
    })
}

fn insecure(key: &str) -> String {
    format!("{key}: --tls-verify=false says so, of the registries that this build asks")
}

/// `HOST/NAME:TAG`, `type=registry,ref=…`, `type=local,dest=DIR[,tag=TAG]`, each with
/// `[,mode=min|max][,compression=…][,ignore-error=true]`.
fn to(text: &str) -> Result<Export, String> {
    let (mut destination, mut tag, mut name) = (None, DEFAULT_TAG.to_owned(), None);
    let (mut mode, mut ignore_error, mut wanted) = (Mode::default(), false, None);
    let (kind, fields) = typed(text, "type=local,dest=DIR")?;
    for (key, value) in fields {
        match (key.as_str(), kind) {
            ("type", _) => {}
            ("dest", Kind::Local) => destination = Some(value),
            ("tag", Kind::Local) if !value.is_empty() => tag = value,
            ("ref", Kind::Registry) => name = Some(value),
            ("mode", _) => {
                mode = match value.as_str() {
                    "min" => Mode::Min,
                    "max" => Mode::Max,
                    _ => return Err(format!("mode={value}: min or max is wanted")),
                }
            }
            ("compression", _) => wanted = Some(compression(value)?),
            ("compression-level", _) => {
                return Err("compression-level: --compression KIND:LEVEL says it".to_owned());
            }
            ("ignore-error", _) => ignore_error = flag(&key, &value)?,
            // That is what it always is.
            ("oci-mediatypes" | "image-manifest", _) if flag(&key, &value)? => {}
            ("oci-mediatypes" | "image-manifest", _) => {
                return Err(format!(
                    "{key}={value} is not supported: a cache is an OCI image manifest"
                ));
            }
            ("force-compression", _) if !flag(&key, &value)? => {}
            ("force-compression", _) => {
                return Err(format!(
                    "{key}={value} is not supported: a cache has the layers as they are"
                ));
            }
            (key, Kind::Registry) if key.starts_with("registry.") => return Err(insecure(key)),
            (_, kind) => {
                let (kind, options) = match kind {
                    Kind::Local => ("local", "dest, mode, tag, compression, ignore-error"),
                    Kind::Registry => ("registry", "ref, mode, compression, ignore-error"),
                };
                return Err(format!("type={kind} has no {key:?}; it has {options}"));
            }
        }
    }
    let destination = match kind {
        Kind::Local => Destination::Directory {
            path: path("dest", destination)?,
            tag,
        },
        Kind::Registry => Destination::Registry(writable(reference(name)?)?),
    };
    Ok(Export {
        to: CacheTo {
            destination,
            mode,
            ignore_error,
        },
        compression: wanted,
    })
}

fn writable(name: Reference) -> Result<Reference, String> {
    match name.digest {
        None => Ok(name),
        Some(_) => Err(format!(
            "ref={}: a cache is written to a tag, not to a digest",
            name.full()
        )),
    }
}

fn compression(value: String) -> Result<String, String> {
    match value.as_str() {
        "none" => Ok("uncompressed".to_owned()),
        "gzip" | "zstd" | "uncompressed" => Ok(value),
        _ => Err(format!(
            "compression={value}: gzip, zstd or uncompressed is wanted"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_named_as_docker_names_it() {
        let local = |text: &str| match from(text).unwrap() {
            CacheFrom::Directory { source, which } => (source, which),
            CacheFrom::Registry(name) => panic!("{name:?}"),
        };
        let latest = Which::Tag("latest".into());
        assert_eq!(local("type=local,src=/c"), ("/c".into(), latest));
        let main = Which::Tag("main".into());
        let found = local("\"src=/a,b\",type=local,tag=main");
        assert_eq!(found, ("/a,b".into(), main));
        let found = to("type=local,dest=/c,mode=max,compression=zstd").unwrap();
        assert_eq!(found.to.mode, Mode::Max);
        assert_eq!(found.compression.as_deref(), Some("zstd"));
        for text in ["host:5000/a/b:main", "type=registry,ref=host:5000/a/b:main"] {
            assert_eq!(from(text).unwrap().to_string(), "host:5000/a/b:main");
            assert_eq!(
                to(text).unwrap().to.destination.to_string(),
                "host:5000/a/b:main"
            );
        }
        assert_eq!(
            from("me/cache").unwrap().to_string(),
            "docker.io/me/cache:latest"
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        assert!(from(&format!("host/a@{digest}")).is_ok());
        assert!(
            to(&format!("host/a@{digest}"))
                .unwrap_err()
                .contains("not to a digest")
        );
        let found = to(
            "type=registry,ref=host/a,image-manifest=true,oci-mediatypes=true,ignore-error=true",
        );
        assert!(found.unwrap().to.ignore_error);
    }

    #[test]
    fn what_is_not_supported_is_refused_with_the_way_out() {
        let refused = |text: &str, word: &str| {
            let error = to(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        };
        refused("type=registry", "ref=HOST/NAME:TAG");
        refused("type=registry,ref=A B", "ref=A B");
        refused("type=registry,ref=a/b,dest=/c", "\"dest\"");
        refused(
            "type=registry,ref=a/b,image-manifest=false",
            "OCI image manifest",
        );
        refused(
            "type=registry,ref=a/b,oci-mediatypes=false",
            "OCI image manifest",
        );
        refused(
            "type=registry,ref=a/b,registry.insecure=true",
            "--tls-verify=false",
        );
        refused("type=inline", "type=local,dest=DIR");
        refused("type=gha", "directory");
        refused("type=floppy", "no type=floppy");
        refused("dest=/c", "no type");
        refused("type=local", "dest=DIR");
        refused("type=local,dest=", "dest=DIR");
        refused("type=local,dest=/c,mode=mid", "min or max");
        refused("type=local,dest=/c,mod=max", "\"mod\"");
        refused("type=local,dest=/c,force-compression=true", "not supported");
        refused("type=local,\"dest=/c", "not closed");
        assert!(from("type=local,src=/c,tag=a,digest=sha256:1").is_err());
        assert!(from("type=local,src=/c,mode=max").is_err());
        assert!(from("type=registry,ref=a/b,mode=max").is_err());
    }
}
