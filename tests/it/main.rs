//! All integration tests, in one binary.

// Clippy's own exception for tests covers functions marked `#[test]`, not their helpers.
#![allow(clippy::unwrap_used)]

mod store;
mod support;
