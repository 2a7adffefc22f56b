//! Encodes an OpenAPI v2 document as `gnostic`'s `openapi.v2.Document`.
