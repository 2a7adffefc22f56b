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
mod forks;
mod guest_book;
mod hostile;
mod isolation;
mod kept;
mod looping;
pub mod records;
mod registries;
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
