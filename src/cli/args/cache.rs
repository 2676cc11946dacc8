//! `rstore build`'s arguments about the cache: what it is taken from and written to.

use std::path::PathBuf;

use super::values;
use crate::build::cache::{CacheFrom, CacheTo, DEFAULT_TAG, Mode, Which};
use crate::cli::Result;
use crate::cli::exit::usage_error;
use crate::layer::Compression;
use crate::oci::Platform;

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
    /// Take steps from a cache directory too: type=local,src=DIR[,tag=TAG|digest=DIGEST]
    #[arg(long = "cache-from", value_name = "SPEC", value_parser = from)]
    pub cache_from: Vec<CacheFrom>,
    /// Write the cache of this build to a directory: type=local,dest=DIR[,mode=min|max][,tag=TAG]
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

/// The fields of a cache whose type is `local`; other types are refused with what to do.
fn local(text: &str, example: &str) -> Result<Vec<(String, String)>, String> {
    let registry = format!(
        "a cache in a registry is not supported yet, it comes with pull and push; until then: {example}"
    );
    if !text.contains('=') {
        return Err(registry);
    }
    let fields = fields(text)?;
    let kind = fields.iter().find(|(key, _)| key == "type");
    match kind.map(|(_, kind)| kind.as_str()) {
        Some("local") => Ok(fields),
        Some("registry") => Err(registry),
        Some("inline") => Err(format!(
            "type=inline is not supported: an image does not carry its cache; {example} does"
        )),
        Some(kind @ ("gha" | "s3" | "azblob")) => Err(format!(
            "type={kind} is not supported: {example}, and let the service keep the directory"
        )),
        Some(kind) => Err(format!("there is no type={kind}; {example}")),
        None => Err(format!("it has no type: {example}")),
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

/// `type=local,src=DIR[,tag=TAG|digest=DIGEST]`.
fn from(text: &str) -> Result<CacheFrom, String> {
    let (mut source, mut tag, mut digest) = (None, None, None);
    for (key, value) in local(text, "type=local,src=DIR")? {
        match key.as_str() {
            "type" => {}
            "src" => source = Some(value),
            "tag" => tag = Some(value),
            "digest" => digest = Some(value.parse().map_err(|e| format!("digest={value}: {e}"))?),
            _ => {
                return Err(format!(
                    "type=local has no {key:?}; it has src, tag, digest"
                ));
            }
        }
    }
    let which = match (digest, tag) {
        (Some(digest), None) => Which::Digest(digest),
        (None, tag) => Which::Tag(tag.unwrap_or_else(|| DEFAULT_TAG.to_owned())),
        (Some(_), Some(_)) => return Err("tag and digest: one of them says which".to_owned()),
    };
    Ok(CacheFrom {
        source: path("src", source)?,
        which,
    })
}

/// `type=local,dest=DIR[,mode=min|max][,tag=TAG][,compression=…][,ignore-error=true]`.
fn to(text: &str) -> Result<Export, String> {
    let (mut destination, mut tag, mut compression) = (None, DEFAULT_TAG.to_owned(), None);
    let (mut mode, mut ignore_error) = (Mode::default(), false);
    for (key, value) in local(text, "type=local,dest=DIR")? {
        match key.as_str() {
            "type" => {}
            "dest" => destination = Some(value),
            "tag" if !value.is_empty() => tag = value,
            "mode" => {
                mode = match value.as_str() {
                    "min" => Mode::Min,
                    "max" => Mode::Max,
                    _ => return Err(format!("mode={value}: min or max is wanted")),
                }
            }
            "compression" => {
                compression = match value.as_str() {
                    "none" => Some("uncompressed".to_owned()),
                    "gzip" | "zstd" | "uncompressed" => Some(value),
                    _ => {
                        return Err(format!(
                            "compression={value}: gzip, zstd or uncompressed is wanted"
                        ));
                    }
                }
            }
            "compression-level" => {
                return Err("compression-level: --compression KIND:LEVEL says it".to_owned());
            }
            "ignore-error" => ignore_error = flag(&key, &value)?,
            // That is what it always is.
            "oci-mediatypes" | "image-manifest" if flag(&key, &value)? => {}
            "force-compression" if !flag(&key, &value)? => {}
            "oci-mediatypes" | "image-manifest" | "force-compression" => {
                return Err(format!("{key}={value} is not supported"));
            }
            _ => {
                return Err(format!(
                    "type=local has no {key:?}; it has dest, mode, tag, compression, ignore-error"
                ));
            }
        }
    }
    Ok(Export {
        to: CacheTo {
            destination: path("dest", destination)?,
            tag,
            mode,
            ignore_error,
        },
        compression,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_named_as_docker_names_it() {
        let found = from("type=local,src=/c").unwrap();
        assert_eq!(found.which, Which::Tag("latest".into()));
        let found = from("\"src=/a,b\",type=local,tag=main").unwrap();
        assert_eq!(found.source, PathBuf::from("/a,b"));
        let found = to("type=local,dest=/c,mode=max,compression=zstd").unwrap();
        assert_eq!(
            (found.to.mode, found.to.tag.as_str()),
            (Mode::Max, "latest")
        );
        assert_eq!(found.compression.as_deref(), Some("zstd"));
    }

    #[test]
    fn what_is_not_supported_is_refused_with_the_way_out() {
        let refused = |text: &str, word: &str| {
            let error = to(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        };
        refused("user/app:cache", "pull and push");
        refused("type=registry,ref=a", "pull and push");
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
    }
}
