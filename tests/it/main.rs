//! All integration tests, in one binary.

// A test that cannot go on says so by panicking, helpers included.
#![allow(clippy::unwrap_used)]

mod api_clients;
mod api_crud;
mod api_deletion;
mod api_reading;
mod api_server;
mod cli;
mod store;
mod support;
