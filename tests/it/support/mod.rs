//! What tests start and clean up.

pub mod api;
pub mod cli;
pub mod dockerd;
pub mod kubectl;
pub mod postgres;
pub mod source;
pub mod traefik;
