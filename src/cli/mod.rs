//! The command line, through the API alone.

pub mod manifest;
