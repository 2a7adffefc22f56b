//! All integration tests, in one binary.

mod api_clients;
mod api_crud;
mod api_deletion;
mod api_reading;
mod api_server;
mod cli;
mod store;
mod support;
