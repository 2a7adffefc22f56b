//! All integration tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod api_clients;
mod api_crud;
mod api_deletion;
mod api_reading;
mod api_server;
mod store;
mod support;
