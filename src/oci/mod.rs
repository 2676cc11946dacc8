//! The OCI documents: digests, media types, strict manifests and configs, image names.
pub mod digest;
