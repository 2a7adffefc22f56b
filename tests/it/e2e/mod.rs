//! The whole product on real parts: the binary itself, a Docker Engine, a Traefik.

mod built;
mod canary;
mod crash;
mod daemons;
mod deletion;
mod drift;
mod equality;
mod faults;
mod foreign;
mod hostile;
mod isolation;
mod kept;
mod looping;
pub mod records;
mod remote;
mod replaced;
mod repositories;
mod restored;
mod services;
mod sidecars;
mod ssh;
mod unbuildable;
mod ways_in;
mod world;
