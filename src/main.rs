//! The `devsanctum` binary.

fn main() {}
