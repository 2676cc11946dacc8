//! From a Dockerfile to an image.
pub mod event;
