//! An in-memory Docker Engine that speaks Docker's HTTP API to the real client, without a socket.
//!
//! For tests, simulations and benches. It has the quirks that matter to a controller: names that are taken (409),
//! a lost answer whose effect stays, exit code 137, an event ring of 256, addresses that are given at start and
//! taken back at the end, no restarts of its own. One contract suite runs on it and on a real dockerd.
//!
//! # Guarantees
//! - The same seed and the same calls give the same ids, addresses and times; the clock is tokio's, so it can be paused.
//! - A container at rest costs memory only: no task, no timer.
//!
//! # Caveats
//! Commands are those of a tiny shell (`shell.rs`), or what [`FakeEngine::on_exec`] answers; any other program runs
//! until it is told to end.

mod answers;
mod build;
mod carry;
mod containers;
mod control;
mod events;
mod exec;
mod faults;
mod http;
mod http_objects;
mod images;
mod networks;
mod shell;
mod transport;
mod volumes;
mod world;

pub use control::{FakeEngine, Glance};
pub use faults::{Call, Fault};

#[cfg(test)]
mod tests;
