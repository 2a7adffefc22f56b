//! DevSanctum: a Kubernetes-shaped control plane without Kubernetes.
//!
//! Modules import one way only; `tests/it/architecture.rs` holds the allowed edges.

pub mod access;
pub mod api;
pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod controllers;
pub mod devcontainer;
pub mod engine;
pub mod fetch;
pub mod image;
pub mod library;
pub mod mail;
pub mod plan;
pub mod proxy;
pub mod resource;
pub mod ssh;
pub mod store;
pub mod web;
