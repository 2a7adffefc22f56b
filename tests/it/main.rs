//! All integration tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test it serves")]

mod proxy_measured;
mod proxy_traefik;
mod support;
