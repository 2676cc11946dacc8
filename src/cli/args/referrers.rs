//! What the verbs take that move images with what is about them.

use crate::store::referrers::Kinds;

/// Whether what is about an image goes with it.
#[derive(Debug, Clone, clap::Args)]
pub struct ReferrersArgs {
    /// Signatures, attestations, SBOMs and what else is about the image too; =TYPE: of this artifact type only
    ///
    /// These are manifests whose subject is the image, and what is about those in turn; and what
    /// cosign keeps under the tags sha256-HEX.sig, .att and .sbom. May be given more than once, for
    /// several types.
    #[arg(long, value_name = "TYPE", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = artifact_type)]
    referrers: Option<Vec<String>>,
}

impl ReferrersArgs {
    /// The kinds that are wanted; `None`: nothing but the image is.
    pub fn kinds(&self) -> Option<Kinds> {
        let types = self.referrers.as_ref()?;
        Some(match types.iter().any(String::is_empty) {
            true => Kinds::default(),
            false => Kinds::of(types.clone()),
        })
    }
}

fn artifact_type(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('/') {
        true => Ok(text.to_owned()),
        false => Err("an artifact type is a media type, such as application/spdx+json".to_owned()),
    }
}
