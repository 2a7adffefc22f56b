//! All integration tests, in one binary.

mod proxy_measured;
mod proxy_traefik;
mod support;
