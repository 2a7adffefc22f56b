//! Pure decisions: what to do, given what is wanted and what is there. No I/O and no clock, so every rule here
//! can be tested by properties; the loops in `controllers` only gather facts and carry decisions out.

pub mod environment;
pub mod resync;
pub mod schedule;
pub mod workspace;
