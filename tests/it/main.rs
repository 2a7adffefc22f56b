//! All integration tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test it serves")]
#![allow(clippy::duplicate_mod, reason = "the tests of the API run on both databases")]

mod access;
mod api_apply;
mod api_clients;
mod api_crud;
mod api_deletion;
mod api_doors;
mod api_hostile;
mod api_reading;
mod api_secrets;
mod api_server;
mod architecture;
mod backup;
mod bad_input;
mod cli;
mod control_plane;
mod documents;
mod e2e;
mod engine_contract;
mod engine_tls;
mod examples;
mod gateway_haproxy;
mod kubectl;
mod library;
mod mail;
mod model;
mod on_postgres;
mod oracles;
mod proxy_contract;
mod proxy_measured;
mod proxy_traefik;
mod quickstart;
mod quotas;
mod replicas;
mod secret_keys;
mod sim;
mod ssh_gateway;
mod store;
mod support;

/// As the program: a simulation spends a fifth of its time on memory with the system's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The tests of the API run on this store here, and on PostgreSQL in [`on_postgres`].
async fn fresh_api() -> support::api::Api {
    support::api::Api::new().await
}
