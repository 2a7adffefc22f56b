//! All integration tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test it serves")]

mod api_clients;
mod api_crud;
mod api_deletion;
mod api_reading;
mod api_server;
mod cli;
mod e2e;
mod engine_contract;
mod proxy_measured;
mod proxy_traefik;
mod store;
mod support;
