//! The OCI documents: digests, media types, strict manifests and configs, image names.
//!
//! | file | owns |
//! |---|---|
//! | [`digest`] | `sha256:…` as a value, hashing streams, chain IDs |
//! | [`media`] | media types, OCI's and docker's |
//! | [`document`] | strict reading of manifests and indexes; the links out of a document |
//! | [`config`] | the image config with docker's additions |
//! | [`reference`] | image names |
pub mod config;
pub mod digest;
pub mod document;
pub mod media;
pub mod reference;

pub use config::ImageConfig;
pub use digest::{Digest, chain_id};
pub use document::Platform;
pub use reference::Reference;
