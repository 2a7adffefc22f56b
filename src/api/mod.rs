//! The Kubernetes-shaped HTTP API.

pub mod jsonpath;
pub mod managed_fields;
pub mod openapi;
mod openapi_v2_protobuf;
pub mod patch;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
