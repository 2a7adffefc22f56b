//! All integration tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test it serves")]

mod api_clients;
mod api_crud;
mod api_deletion;
mod api_reading;
mod api_server;
mod architecture;
mod cli;
mod control_plane;
mod documents;
mod engine_contract;
mod engine_tls;
mod examples;
mod proxy_measured;
mod proxy_traefik;
mod store;
mod support;
