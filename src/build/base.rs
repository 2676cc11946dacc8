//! Base images: found in the store, pulled where they are not, pinned to the build's lease.
//!
//! | the store has | `missing` | `always` | `newer` | `never` |
//! |---|---|---|---|---|
//! | the name | it | the registry's; else an error | the registry's; else it | it |
//! | the name, for another platform than was asked for | the registry's | the same | the same | it |
//! | an ID, a pinned digest | it | it | it | it |
//! | nothing | the registry's | the same | the same | an error |
//!
//! What is pulled gets its name in the store, unless that is the name of the image for another
//! platform: a build for several platforms needs them all at the same time.

use hashbrown::HashSet;

use super::error::StepError;
use super::event::{Event, Sink};
use super::options::Options;
use super::plan::ResolveBase;
use crate::executor::Cancel;
use crate::oci::{Platform, Reference};
use crate::registry::pull::{self, Wanted};
use crate::registry::{self, Client};
use crate::store::{self, Image, Lease};

/// When a base image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When the store doesn't have it.
    #[default]
    Missing,
    /// Always: the registry decides.
    Always,
    /// Always, and what the store has does where the registry gives nothing.
    Newer,
    /// Never.
    Never,
}

/// The base images of one build.
pub(super) struct Bases<'a> {
    pub lease: &'a Lease<'a>,
    pub options: &'a Options,
    pub cancel: &'a Cancel,
    pub sink: &'a dyn Sink,
    /// What this build has asked a registry for.
    pub asked: HashSet<(String, Platform)>,
}

impl ResolveBase for Bases<'_> {
    fn image(&mut self, name: &str, platform: &Platform) -> Result<Image, StepError> {
        let (mut here, mut nearest, mut other) = (None, None, None);
        match self.lease.use_image(name, platform) {
            Ok(image) => here = Some(image),
            Err(store::Error::UnknownImage { nearest: found, .. }) => nearest = found,
            Err(error @ store::Error::NoPlatform { .. }) if self.client(name).is_some() => {
                other = Some(Box::new(error));
            }
            Err(error) => return Err(error.into()),
        }
        let Some((client, reference)) = self.client(name) else {
            return here.ok_or_else(|| never(name, nearest));
        };
        match here {
            Some(image) => self.refreshed(image, name, &client, &reference, platform),
            None => match pull::remembered(self.lease, &reference, platform)? {
                Some(image) if self.options.pull == PullPolicy::Missing => Ok(image),
                _ => {
                    let pulled = self.pull(&client, &reference, platform, true);
                    pulled.map_err(|error| match (error, other) {
                        (registry::Error::Interrupted, _) => StepError::Interrupted,
                        (source, Some(here)) => StepError::NoBaseForPlatform {
                            here,
                            source: Box::new(source),
                        },
                        (source, None) => StepError::NoBase {
                            name: name.to_owned(),
                            nearest,
                            source: Box::new(source),
                        },
                    })
                }
            },
        }
    }
}

impl Bases<'_> {
    /// Who may be asked for a name, and what for; an ID is nobody's name.
    fn client(&self, name: &str) -> Option<(Client, Reference)> {
        if self.options.pull == PullPolicy::Never || name.starts_with("sha256:") {
            return None;
        }
        let client = self.options.registry.clone()?;
        Some((client, name.parse().ok()?))
    }

    /// What a name of the store means for a platform, after the registry was asked where it is to be.
    fn refreshed(
        &mut self,
        image: Image,
        name: &str,
        client: &Client,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Image, StepError> {
        let (_, tag) = self.lease.store().find_named(name)?;
        if tag.is_none() {
            return Ok(image);
        }
        let fits = platform.distance(&image.config.platform()).is_some();
        let key = (reference.full(), platform.clone());
        let policy = self.options.pull;
        let refresh = matches!(policy, PullPolicy::Always | PullPolicy::Newer);
        if refresh && self.asked.insert(key) {
            return match self.pull(client, reference, platform, fits) {
                Ok(image) => Ok(image),
                Err(registry::Error::Interrupted) => Err(StepError::Interrupted),
                Err(error) if policy == PullPolicy::Newer && fits => {
                    let message = format!("{error}; going on with the {name:?} of the store");
                    self.sink.event(Event::Warning { message });
                    Ok(image)
                }
                Err(error) => Err(StepError::Pull(Box::new(error))),
            };
        }
        if fits {
            return Ok(image);
        }
        if let Some(image) = pull::remembered(self.lease, reference, platform)? {
            return Ok(image);
        }
        // One that nobody asked for is whatever the image is.
        if *platform == self.options.build_platform {
            return Ok(image);
        }
        match self.pull(client, reference, platform, false) {
            Ok(image) => Ok(image),
            Err(registry::Error::Interrupted) => Err(StepError::Interrupted),
            // That it is for another platform is then what is wrong with it.
            Err(error) => {
                let message = error.to_string();
                self.sink.event(Event::Warning { message });
                Ok(image)
            }
        }
    }

    fn pull(
        &mut self,
        client: &Client,
        reference: &Reference,
        platform: &Platform,
        named: bool,
    ) -> registry::Result<Image> {
        let wanted = Wanted::One {
            platform: platform.clone(),
            only: *platform != self.options.build_platform,
        };
        let sink = |event| self.sink.event(Event::Transfer(event));
        // A build by a digest needs no entry in the index: what is built on it keeps it.
        let pulled = match named && reference.digest.is_none() {
            true => pull::pull(client, self.lease, reference, &wanted, &sink, self.cancel)?,
            false => pull::fetch(client, self.lease, reference, &wanted, &sink, self.cancel)?,
        };
        self.asked.insert((reference.full(), platform.clone()));
        Ok(self.lease.store().image(&pulled.digest())?)
    }
}

fn never(name: &str, nearest: Option<String>) -> StepError {
    let hint = nearest
        .map(|n| format!("did you mean {n:?}? or "))
        .unwrap_or_default();
    StepError::Invalid(format!(
        "no image is called {name:?} in the store, and this build may not pull it; {hint}`rstore pull`, `load` or `import` it first"
    ))
}
