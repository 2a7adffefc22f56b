//! All integration tests, in one binary.

mod engine_contract;
mod support;
