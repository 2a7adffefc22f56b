//! What tests start and clean up.

pub mod api;
pub mod cli;
pub mod postgres;
pub mod traefik;
//! What tests share.

pub mod dockerd;
