//! What tests start and clean up.

pub mod traefik;
