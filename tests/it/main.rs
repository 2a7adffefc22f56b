//! All integration tests, in one binary.

// A helper that fails here fails the test that called it.
#![allow(clippy::unwrap_used)]

mod engine_contract;
mod engine_tls;
mod support;
