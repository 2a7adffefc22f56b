//! All integration tests, in one binary.

mod proxy_measured;
mod proxy_traefik;
mod store;
mod support;
