//! What leaves a build besides the image in the store: `--output`, `--metadata-file`, `--iidfile`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::archive::target::{self, Stop};
use crate::archive::{Package, Saved, rootfs};
use crate::build::{self, Built, Event};
use crate::cli::args::BuildArgs;
use crate::cli::args::output::{Annotation, Kind, Output, Scope};
use crate::cli::context::native_platform;
use crate::cli::{Context, Result, exit, output, registries};
use crate::executor::Cancel;
use crate::fsutil::IoContext;
use crate::layer::{Compression, Skipped};
use crate::oci::{Digest, Platform, Reference, media};
use crate::registry::{Client, push};
use crate::store::{Lease, Store};

/// What a push after a build is done with.
pub struct Pushing<'a> {
    /// Who asks registries.
    pub client: &'a Client,
    /// Ends it.
    pub cancel: &'a Cancel,
    /// The build's display.
    pub sink: &'a dyn build::Sink,
}

/// What the arguments come to, held against each other.
#[derive(Debug)]
pub struct Outputs {
    outputs: Vec<Output>,
    /// The names of the image where an output has none of its own.
    names: Vec<String>,
    /// The tags of the image in the store.
    pub tags: Vec<String>,
    /// How layers are compressed.
    pub compression: Compression,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// What the indexes of archives say of the manifest.
    descriptor: BTreeMap<String, String>,
    /// The platforms; never empty.
    platforms: Vec<Platform>,
}

impl Outputs {
    /// Makes sense of the arguments of a build for `platforms` (this machine's, if none is named),
    /// or says why there is none.
    pub fn new(
        arguments: &BuildArgs,
        platforms: &[Platform],
        context: &Context,
    ) -> Result<Outputs> {
        let mut outputs = arguments.outputs.clone();
        if arguments.push {
            outputs.push(Output::push());
        }
        let to_stdout = outputs.iter().filter(|output| output.is_stdout()).count();
        if to_stdout > 1 {
            return Err(exit::usage_error("only one --output can go to stdout"));
        }
        if to_stdout == 1 && arguments.quiet {
            return Err(exit::usage_error(
                "--quiet prints the image's ID to stdout, and an --output goes there as well: --iidfile writes the ID to a file",
            ));
        }
        if to_stdout == 1 {
            output::refuse_terminal(context)?;
        }
        let made = Outputs {
            names: arguments.tags.clone(),
            tags: arguments.tags.clone(),
            compression: compression(arguments)?,
            annotations: BTreeMap::new(),
            descriptor: BTreeMap::new(),
            platforms: match platforms {
                [] => vec![native_platform()],
                platforms => platforms.to_vec(),
            },
            outputs,
        };
        // Before anything is built.
        made.pushed()?;
        let mut made = made;
        for output in made
            .outputs
            .iter()
            .filter(|output| output.kind == Kind::Store)
        {
            made.tags.extend(output.names.iter().cloned());
        }
        let of_outputs = made.outputs.iter().flat_map(|output| &output.annotations);
        let all: Vec<Annotation> = of_outputs.chain(&arguments.annotations).cloned().collect();
        all.iter()
            .try_for_each(|annotation| made.annotate(annotation))?;
        Ok(made)
    }

    fn annotate(&mut self, annotation: &Annotation) -> Result {
        for (scope, platform) in &annotation.places {
            if let Some(platform) = platform
                && *self.platforms != [platform.clone()]
            {
                let platforms: Vec<String> =
                    self.platforms.iter().map(Platform::to_string).collect();
                return Err(exit::usage_error(format!(
                    "annotation {}: the build is for {}, and its annotations go to all of that, not to {platform} alone",
                    annotation.key,
                    platforms.join(", ")
                )));
            }
            let archive = |output: &Output| matches!(output.kind, Kind::Oci | Kind::Docker);
            let into = match scope {
                Scope::Manifest => &mut self.annotations,
                Scope::ManifestDescriptor if self.outputs.iter().any(archive) => {
                    &mut self.descriptor
                }
                Scope::ManifestDescriptor => {
                    return Err(exit::usage_error(format!(
                        "annotation {}: a manifest-descriptor stands in the index of an --output of type oci or docker, and there is none",
                        annotation.key
                    )));
                }
            };
            let before = into.insert(annotation.key.clone(), annotation.value.clone());
            if before.is_some_and(|before| before != annotation.value) {
                return Err(exit::usage_error(format!(
                    "annotation {} is given two values, and one build makes one image",
                    annotation.key
                )));
            }
        }
        Ok(())
    }

    /// The names in registries that the image is to be pushed to.
    fn pushed(&self) -> Result<Vec<Reference>> {
        let mut found: Vec<Reference> = Vec::new();
        for output in self.outputs.iter().filter(|o| o.kind == Kind::Registry) {
            let names = match output.names.is_empty() {
                true => &self.names,
                false => &output.names,
            };
            if names.is_empty() {
                return Err(exit::usage_error(
                    "a push needs a name: -t HOST/NAME:TAG says what the image is called in its registry",
                ));
            }
            for name in names {
                let name = name.parse::<Reference>()?;
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
        Ok(found)
    }

    /// Pushes what was built to its names, if that was asked for. The progress is the build's.
    pub fn push(&self, built: &Built, lease: &Lease, with: &Pushing) -> Result {
        let tell = |event| with.sink.event(Event::Transfer(event));
        for name in self.pushed()? {
            let pushed = push::push(with.client, lease, &built.digest, &name, &tell, with.cancel);
            pushed.map_err(registries::told).with_context(|| {
                format!(
                    "the image is in the store, but was not pushed to {}",
                    name.full()
                )
            })?;
        }
        Ok(())
    }

    /// Writes all of it for the manifest or index that was built.
    pub fn write(
        &self,
        built: &Digest,
        store: &Store,
        stop: Stop<'_>,
        context: &Context,
    ) -> Result {
        for output in &self.outputs {
            let Some(dest) = &output.dest else { continue };
            self.write_one(built, output, dest, store, stop, context)
                .with_context(|| {
                    format!(
                        "the image is in the store, but could not be written to {}",
                        dest.display()
                    )
                })?;
        }
        Ok(())
    }

    fn write_one(
        &self,
        built: &Digest,
        output: &Output,
        dest: &Path,
        store: &Store,
        stop: Stop<'_>,
        context: &Context,
    ) -> Result {
        let saved = || {
            [Saved {
                digest: *built,
                names: match output.names.is_empty() {
                    true => self.names.clone(),
                    false => output.names.clone(),
                },
                annotations: self.descriptor.clone(),
            }]
        };
        match output.kind {
            Kind::Store | Kind::Registry => {}
            Kind::Local => {
                refuse_store(dest, store)?;
                let images = rootfs::images(store, built)?;
                let skipped = rootfs::write_directory(store, &images, dest, stop)?;
                tell_skipped(&skipped, dest, context);
            }
            Kind::Tar => {
                let images = rootfs::images(store, built)?;
                rootfs::write_tar(store, &images, output::target(dest, stop)?)?;
            }
            Kind::Oci if !output.tar => {
                Package::oci(store, &saved())?.write_directory(store, dest, stop)?;
            }
            Kind::Oci => {
                Package::oci(store, &saved())?.write_tar(store, output::target(dest, stop)?)?;
            }
            Kind::Docker => {
                let package = Package::docker(store, &saved(), &self.platforms[0])?;
                package.write_tar(store, output::target(dest, stop)?)?;
            }
        }
        Ok(())
    }

    /// `--metadata-file`: what buildx says of a build, under its names.
    pub fn metadata(&self, built: &Built, store: &Store) -> Result<Vec<u8>> {
        let mut members = Map::new();
        let mut descriptor = match built.images.as_slice() {
            [image] => {
                members.insert("containerimage.config.digest".to_owned(), json!(image.id()));
                json!({
                    "mediaType": image.manifest.media_type.as_deref().unwrap_or(media::MANIFEST),
                    "digest": image.digest,
                    "size": image.size,
                    "platform": image.config.platform(),
                })
            }
            _ => {
                let stat = store.layout().blobs().stat(&built.digest)?;
                json!({
                    "mediaType": media::INDEX,
                    "digest": built.digest,
                    "size": stat.map_or(0, |stat| stat.size),
                })
            }
        };
        if !self.descriptor.is_empty() {
            descriptor["annotations"] = json!(self.descriptor);
        }
        members.insert("containerimage.descriptor".to_owned(), descriptor);
        members.insert("containerimage.digest".to_owned(), json!(built.digest));
        let names = self.outputs.iter().flat_map(|output| &output.names);
        let mut full: Vec<String> = Vec::new();
        for name in self.tags.iter().chain(names) {
            let name = name
                .parse::<Reference>()
                .map_or_else(|_| name.clone(), |r| r.full());
            if !full.contains(&name) {
                full.push(name);
            }
        }
        if !full.is_empty() {
            members.insert("image.name".to_owned(), full.join(",").into());
        }
        let mut bytes =
            serde_json::to_vec_pretty(&Value::Object(members)).expect("JSON values serialise");
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The compression that outputs ask for: layers are made once.
fn compression(arguments: &BuildArgs) -> Result<Compression> {
    let mut asked = arguments
        .outputs
        .iter()
        .filter_map(|output| output.compression);
    let Some(first) = asked.next() else {
        return Ok(arguments.compression.unwrap_or_default());
    };
    let mut others = asked.chain(arguments.compression);
    match others.find(|other| *other != first) {
        None => Ok(first),
        Some(other) => Err(exit::usage_error(format!(
            "compression {first} and {other}: a build makes its layers once, for all outputs"
        ))),
    }
}

/// Refuses to put an image's files among those of the store.
fn refuse_store(dest: &Path, store: &Store) -> Result {
    let inode = |path: &Path| Some(fs::metadata(path).ok()?).map(|m| (m.dev(), m.ino()));
    let root = inode(store.root());
    let absolute = std::path::absolute(dest).at("find", dest)?;
    if absolute
        .ancestors()
        .any(|path| root.is_some() && inode(path) == root)
    {
        return Err(exit::usage_error(format!(
            "{} is in the store: name a directory outside of it",
            dest.display()
        )));
    }
    Ok(())
}

fn tell_skipped(skipped: &Skipped, dest: &Path, context: &Context) {
    let mut left_out = Vec::new();
    for (count, what) in [
        (skipped.devices, "device nodes"),
        (skipped.xattrs, "extended attributes"),
    ] {
        if count > 0 {
            left_out.push(format!("{count} {what}"));
        }
    }
    if !left_out.is_empty() {
        context.tell(&format!(
            "note: {} of the image could not be made in {}; type=tar keeps them",
            left_out.join(" and "),
            dest.display()
        ));
    }
}

/// Removes what an earlier build wrote, so that a failure leaves nothing that looks like success.
pub fn remove_stale(arguments: &BuildArgs) -> Result {
    for file in [&arguments.iidfile, &arguments.metadata_file]
        .into_iter()
        .flatten()
    {
        target::remove_stale(file)?;
    }
    Ok(())
}
