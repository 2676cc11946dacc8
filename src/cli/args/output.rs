//! `--output` and `--annotation`: from text to what is meant.
//!
//! The words are docker buildx': `type=oci,dest=app.tar,name=app:1`, a bare directory, `-`. Fields
//! are separated by commas; one with a comma in it stands in double quotes. What makes no sense
//! here is refused with what does.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::values;
use crate::layer::Compression;
use crate::oci::Platform;
use crate::oci::document::{CONTAINERD_NAME, REF_NAME};
use crate::words;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing besides what the store has anyway.
    Store,
    /// The root file system, into a directory.
    Local,
    /// The root file system, as a tar archive.
    Tar,
    /// An OCI image layout, as an archive or a directory.
    Oci,
    /// A docker-archive.
    Docker,
    /// Its names, in their registries.
    Registry,
}

/// The kinds that there are, by name.
const KINDS: [(&str, Kind); 6] = [
    ("store", Kind::Store),
    ("local", Kind::Local),
    ("tar", Kind::Tar),
    ("oci", Kind::Oci),
    ("docker", Kind::Docker),
    ("registry", Kind::Registry),
];

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What is written.
    pub kind: Kind,
    /// Where to; `-` is stdout. [`Kind::Store`] and [`Kind::Registry`] have none, the others have one.
    pub dest: Option<PathBuf>,
    /// The names that the image has there; none: those of `--tag`.
    pub names: Vec<String>,
    /// Whether [`Kind::Oci`] is an archive rather than a directory.
    pub tar: bool,
    /// How the layers are compressed that the build makes.
    pub compression: Option<Compression>,
    /// Annotations.
    pub annotations: Vec<Annotation>,
}

impl Output {
    /// `--push`: the same as `type=registry`.
    pub fn push() -> Output {
        Output::new(Kind::Registry, None)
    }

    fn new(kind: Kind, dest: Option<PathBuf>) -> Output {
        Output {
            kind,
            dest,
            names: Vec::new(),
            tar: true,
            compression: None,
            annotations: Vec::new(),
        }
    }

    /// Whether it goes to standard output.
    pub fn is_stdout(&self) -> bool {
        self.dest.as_deref() == Some(Path::new("-"))
    }

    /// Whether it is an image, with names and annotations.
    pub fn is_image(&self) -> bool {
        !matches!(self.kind, Kind::Local | Kind::Tar)
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        if text == "-" {
            return Ok(Output::new(Kind::Tar, Some(PathBuf::from("-"))));
        }
        let fields =
            fields(text).ok_or_else(|| format!("{text:?} has quotes that do not match"))?;
        if let [path] = fields.as_slice()
            && !path.starts_with("type=")
            && !path.is_empty()
        {
            return Ok(Output::new(Kind::Local, Some(PathBuf::from(path))));
        }
        let mut pairs = Vec::new();
        for field in &fields {
            let pair = field.split_once('=');
            let pair = pair.ok_or_else(|| format!("{field:?} is no KEY=VALUE"))?;
            pairs.push(pair);
        }
        let kind = pairs
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case("type"));
        let kind = kind.ok_or("there is no type=: store, local, tar, oci, docker or registry")?;
        let kind = match kind.1 {
            "image" => pushed_image(&pairs)?,
            kind => kind_of(kind)?,
        };
        let mut output = Output::new(kind, None);
        let mut compression = Compressed::default();
        for (key, value) in pairs {
            output.set(key, value, &mut compression)?;
        }
        output.compression = compression.meant()?;
        output.check()
    }
}

/// `compression=` and `compression-level=`, in any order.
#[derive(Default)]
struct Compressed<'a> {
    name: Option<&'a str>,
    level: Option<&'a str>,
}

impl Compressed<'_> {
    fn meant(&self) -> Result<Option<Compression>, String> {
        let name = match self.name {
            Some("uncompressed") => "none",
            Some(name) => name,
            None if self.level.is_some() => "gzip",
            None => return Ok(None),
        };
        let text = match self.level {
            Some(level) => format!("{name}:{level}"),
            None => name.to_owned(),
        };
        text.parse().map(Some).map_err(|error| format!("{error}"))
    }
}

fn kind_of(name: &str) -> Result<Kind, String> {
    if let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) {
        return Ok(*kind);
    }
    let near = KINDS
        .iter()
        .map(|(known, _)| (words::distance(name, known), *known))
        .min();
    Err(match near {
        Some((0..=2, near)) => format!("there is no type {name:?}; did you mean {near:?}?"),
        _ => format!("there is no type {name:?}: store, local, tar, oci, docker or registry"),
    })
}

/// `type=image,push=true`, which is `type=registry`.
fn pushed_image(pairs: &[(&str, &str)]) -> Result<Kind, String> {
    let push = pairs
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case("push"));
    match push {
        Some((key, value)) if truth(key, value)? => Ok(Kind::Registry),
        _ => Err("type=image is the image store of a daemon: rstore's own is type=store, which every build fills; with push=true the image is pushed as well".to_owned()),
    }
}

impl Output {
    fn set<'a>(
        &mut self,
        key: &str,
        value: &'a str,
        compression: &mut Compressed<'a>,
    ) -> Result<(), String> {
        let lower = key.to_ascii_lowercase();
        if self.kind == Kind::Registry && registry_option(&lower, value)? {
            return Ok(());
        }
        match (lower.as_str(), self.is_image()) {
            ("type", _) => {}
            ("dest", _) if self.kind == Kind::Store => {
                return Err("type=store has no dest: --root names the store".to_owned());
            }
            ("dest", _) if value.is_empty() => return Err("dest= names nothing".to_owned()),
            ("dest", _) => self.dest = Some(PathBuf::from(value)),
            ("name", true) => {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    self.names.push(values::tag(name)?);
                }
            }
            ("tar", true) if self.kind == Kind::Oci => self.tar = truth(key, value)?,
            ("compression", true) => compression.name = Some(value),
            ("compression-level", true) => compression.level = Some(value),
            ("force-compression", true) => {
                if truth(key, value)? {
                    return Err("force-compression would compress anew what is in the store; `skopeo copy` can do that with what is written".to_owned());
                }
            }
            // What rstore writes has OCI's media types, a docker-archive has none.
            ("oci-mediatypes", true) => {
                if !truth(key, value)? {
                    return Err("oci-mediatypes=false: images are written with OCI's media types; `skopeo copy --format v2s2` converts them".to_owned());
                }
            }
            (lower, true) if lower.starts_with("annotation") => {
                self.annotations.push(Annotation::of_option(key, value)?);
            }
            _ => {
                let kind = KINDS.iter().find(|(_, kind)| *kind == self.kind);
                let kind = kind.map_or("", |(name, _)| name);
                return Err(format!("type={kind} has no option {key:?}"));
            }
        }
        Ok(())
    }

    fn check(mut self) -> Result<Output, String> {
        match (self.kind, &self.dest) {
            (Kind::Store | Kind::Registry, _) => {}
            (Kind::Local, None) => return Err("type=local needs dest=DIRECTORY".to_owned()),
            (Kind::Local, Some(dest)) if dest.as_os_str() == "-" => {
                return Err("type=local is a directory; type=tar goes to stdout".to_owned());
            }
            (Kind::Docker, None) => {
                return Err("type=docker needs dest=FILE, or dest=- for stdout; the store has the image anyway".to_owned());
            }
            (Kind::Oci, dest) if !self.tar => match dest {
                Some(dest) if dest.as_os_str() != "-" => {}
                _ => return Err("type=oci,tar=false needs dest=DIRECTORY".to_owned()),
            },
            (Kind::Tar | Kind::Oci, None) => self.dest = Some(PathBuf::from("-")),
            _ => {}
        }
        Ok(self)
    }
}

/// Takes the options that only `type=registry` has; `false`: it is none of them.
fn registry_option(key: &str, value: &str) -> Result<bool, String> {
    let said = match key {
        "dest" => {
            return Err(
                "type=registry has no dest: name= or --tag names what is pushed".to_owned(),
            );
        }
        "push" | "push-by-digest" | "unpack" | "store" => truth(key, value)?,
        key if key.starts_with("registry.") => {
            return Err(format!(
                "{key}: --tls-verify=false says so, of the registries that this build asks"
            ));
        }
        _ => return Ok(false),
    };
    match key {
        "push" if !said => Err("type=registry pushes; type=store does not".to_owned()),
        "push-by-digest" if said => {
            Err("push-by-digest=true is not supported: a push is to a tag".to_owned())
        }
        // The store has the image whatever is said, and unpacks it when that is needed.
        _ => Ok(true),
    }
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(format!("{key}={value}: true or false")),
    }
}

/// Fields separated by commas, as RFC 4180 quotes them.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => {
                quoted = false;
                if !matches!(characters.peek(), None | Some(',')) {
                    return None;
                }
            }
            '"' if field.is_empty() => quoted = true,
            '"' => return None,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    (!quoted).then_some(fields)
}

/// What an annotation is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The manifest.
    Manifest,
    /// What the archive's index says of the manifest.
    ManifestDescriptor,
}

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// On what, and of which platform if not of all.
    pub places: Vec<(Scope, Option<Platform>)>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Annotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Annotation, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is no KEY=VALUE"))?;
        let (places, key) = match key.split_once(':') {
            None => (vec![(Scope::Manifest, None)], key),
            Some((places, key)) => (places.split(',').map(place).collect::<Result<_, _>>()?, key),
        };
        Annotation::new(places, key, value)
    }
}

impl Annotation {
    fn new(
        places: Vec<(Scope, Option<Platform>)>,
        key: &str,
        value: &str,
    ) -> Result<Annotation, String> {
        if key.is_empty() {
            return Err("an annotation has a key before its '='".to_owned());
        }
        if key.starts_with("dev.rstore.") {
            return Err(format!(
                "{key}: what begins with dev.rstore. is the store's own"
            ));
        }
        if [REF_NAME, CONTAINERD_NAME].contains(&key) {
            return Err(format!("{key} is an image's name: --tag or name= sets it"));
        }
        Ok(Annotation {
            places,
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    /// `annotation.KEY`, `annotation-manifest[linux/amd64].KEY`: as an option of `--output`.
    fn of_option(option: &str, value: &str) -> Result<Annotation, String> {
        let wrong = || format!("{option:?} is no annotation: annotation.KEY=VALUE");
        let (head, key) = option.split_once('.').ok_or_else(wrong)?;
        let rest = head.strip_prefix("annotation").ok_or_else(wrong)?;
        let place = match rest.strip_prefix('-') {
            Some(rest) => place(rest)?,
            None => place(&format!("manifest{rest}"))?,
        };
        Annotation::new(vec![place], key, value)
    }
}

/// `manifest`, `manifest-descriptor[linux/amd64]`.
fn place(text: &str) -> Result<(Scope, Option<Platform>), String> {
    let (kind, platform) = match text.split_once('[') {
        None => (text, None),
        Some((kind, rest)) => {
            let platform = rest.strip_suffix(']');
            let platform = platform.ok_or_else(|| format!("{text:?} has no ] for its ["))?;
            (kind, Some(values::platform(platform)?))
        }
    };
    match kind {
        "manifest" => Ok((Scope::Manifest, platform)),
        "manifest-descriptor" => Ok((Scope::ManifestDescriptor, platform)),
        "index" | "index-descriptor" => Err(format!(
            "an annotation of the {kind} needs an index, and a build for one platform makes none: use manifest:"
        )),
        _ => Err(format!(
            "{kind:?} has no annotations: manifest or manifest-descriptor"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Result<Output, String> {
        text.parse()
    }

    #[test]
    fn the_words_of_buildx_are_understood() {
        let dest = |text: &str| {
            let output = output(text).unwrap();
            (
                output.kind,
                output.dest.map(|path| path.display().to_string()),
            )
        };
        let at = |kind, dest: &str| (kind, Some(dest.to_owned()));
        for (text, expected) in [
            ("out", at(Kind::Local, "out")),
            ("./a=b", at(Kind::Local, "./a=b")),
            ("-", at(Kind::Tar, "-")),
            ("type=local,dest=out", at(Kind::Local, "out")),
            ("type=tar", at(Kind::Tar, "-")),
            ("type=tar,dest=x.tar", at(Kind::Tar, "x.tar")),
            ("dest=x.tar,type=oci", at(Kind::Oci, "x.tar")),
            ("type=oci,tar=false,dest=dir", at(Kind::Oci, "dir")),
            ("type=docker,\"dest=a,b.tar\"", at(Kind::Docker, "a,b.tar")),
            ("type=store", (Kind::Store, None)),
            ("type=registry", (Kind::Registry, None)),
            ("type=image,name=a,push=true", (Kind::Registry, None)),
        ] {
            assert_eq!(dest(text), expected, "{text}");
        }
        let full = output(
            "type=oci,dest=x,\"name=app,host/app:2\",compression=zstd,compression-level=9,annotation.a.b=c",
        )
        .unwrap();
        assert_eq!(full.names, ["app:latest", "host/app:2"]);
        assert_eq!(full.compression, Some(Compression::Zstd(9)));
        assert_eq!(full.annotations[0].key, "a.b");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (text, word) in [
            ("type=registry,dest=x", "name="),
            ("type=registry,push=false", "type=store"),
            ("type=registry,registry.insecure=true", "--tls-verify"),
            ("type=image,name=x", "store"),
            ("type=image,push=true,push-by-digest=true", "to a tag"),
            ("type=dokcer,dest=x", "docker"),
            ("type=docker", "dest"),
            ("type=local", "dest"),
            ("type=local,dest=-", "stdout"),
            ("type=oci,tar=false", "dest"),
            ("type=oci,tar=maybe", "true or false"),
            ("type=tar,name=x", "name"),
            ("type=store,dest=x", "--root"),
            ("type=oci,push=true,dest=x", "push"),
            ("type=oci,compression=estargz,dest=x", "estargz"),
            ("type=oci,force-compression=true,dest=x", "skopeo"),
            ("type=oci,annotation-index.a=b,dest=x", "index"),
            ("type=oci,name=Bad Name,dest=x", "Bad Name"),
            ("dest=x,name=y", "type"),
            ("type=oci,\"dest=x", "quotes"),
            ("", "KEY=VALUE"),
        ] {
            let error = output(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn an_annotation_says_what_it_is_put_on() {
        let annotation: Annotation = "a=b=c".parse().unwrap();
        assert_eq!(annotation.places, [(Scope::Manifest, None)]);
        assert_eq!(
            (annotation.key.as_str(), annotation.value.as_str()),
            ("a", "b=c")
        );
        let annotation: Annotation = "manifest,manifest-descriptor[linux/arm64]:k=v"
            .parse()
            .unwrap();
        assert_eq!(annotation.places[0], (Scope::Manifest, None));
        assert_eq!(annotation.places[1].0, Scope::ManifestDescriptor);
        assert!(annotation.places[1].1.is_some());
        for text in [
            "k",
            "=v",
            "index:k=v",
            "nothing:k=v",
            "manifest[linux:k=v",
            "dev.rstore.parent=x",
        ] {
            assert!(text.parse::<Annotation>().is_err(), "{text}");
        }
    }
}
