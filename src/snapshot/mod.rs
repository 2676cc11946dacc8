//! Unpacked layers as mounted file systems.

pub mod overlay;
