//! What tests start and clean up.

pub mod postgres;
pub mod traefik;
