//! What must hold whatever the input is: the bodies of the fuzz targets, which the tests run on inputs chosen by chance
//! as well (`tests/it/oracles.rs`). A check panics where something does not hold.

pub mod dockerfile;
pub mod input;
pub mod manifest;
pub mod names;
pub mod patches;
pub mod rules;
pub mod selectors;
