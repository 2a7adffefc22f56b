//! The OpenAPI documents, built once from the kinds.

/// Content type of [`v2_protobuf`].
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v3`: the index of documents, JSON.
pub fn v3_index() -> &'static [u8] {
    b"{\"paths\":{}}"
}

/// `/openapi/v3/<path>`, where `path` is such as `apis/devsanctum.io/v1` or `api/v1`; JSON.
pub fn v3_document(_path: &str) -> Option<&'static [u8]> {
    None
}

/// `/openapi/v2` as JSON.
pub fn v2_json() -> &'static [u8] {
    b"{}"
}

/// `/openapi/v2` in protobuf (`gnostic`'s `openapi.v2.Document`), for kubectl before 1.27.
pub fn v2_protobuf() -> &'static [u8] {
    b""
}
