//! All integration tests, in one binary.

mod store;
mod proxy_measured;
mod proxy_traefik;
mod support;
