//! What tests share.

pub mod dockerd;
