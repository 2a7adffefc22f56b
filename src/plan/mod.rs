//! Pure decisions: what to do, given what is wanted and what is there. No I/O and no clock, so every rule here
//! can be tested by properties; the loops in `controllers` only gather facts and carry decisions out.

pub mod environment;
pub mod features;
pub mod footprint;
pub mod holes;
pub mod image;
pub mod lifecycle;
pub mod moves;
pub mod resync;
pub mod schedule;
pub mod timetable;
pub mod workspace;

use sha2::{Digest, Sha256};

/// SHA-256 of a text, first 16 hexadecimal digits.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
}
