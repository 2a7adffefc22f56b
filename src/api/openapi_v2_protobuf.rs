//! Encodes an OpenAPI v2 document as `gnostic`'s `openapi.v2.Document`.
//!
//! kubectl before 1.27 reads `/openapi/v2` in this form only. What it reads is written: definitions, and of each
//! operation its parameters in the query and its extensions. Responses and bodies are in the JSON form alone. The
//! numbers are those of the fields in `openapiv2/OpenAPIv2.proto`.

use serde_json::{Map, Value};

/// A protobuf message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            #[expect(clippy::cast_possible_truncation, reason = "the lowest seven bits")]
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u32, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u32, value: Option<&Value>) {
        for text in value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u32, value: Option<&Value>) {
        if value == Some(&Value::Bool(true)) {
            self.varint(u64::from(field) << 3);
            self.varint(1);
        }
    }

    fn whole(&mut self, field: u32, value: Option<&Value>) {
        if let Some(number) = value.and_then(Value::as_u64) {
            self.varint(u64::from(field) << 3);
            self.varint(number);
        }
    }

    fn double(&mut self, field: u32, value: Option<&Value>) {
        if let Some(number) = value.and_then(Value::as_f64) {
            self.varint(u64::from(field) << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// A `Named…` message: the name is field 1, what it names field 2.
    fn named(&mut self, field: u32, name: &str, write: impl FnOnce(&mut Self)) {
        self.message(field, |named| {
            named.bytes(1, name.as_bytes());
            named.message(2, write);
        });
    }

    /// An `Any`: YAML text, and JSON is YAML.
    fn any(&mut self, value: &Value) {
        self.bytes(2, value.to_string().as_bytes());
    }

    fn extensions(&mut self, field: u32, object: &Value) {
        for (name, value) in entries(object).filter(|(name, _)| name.starts_with("x-")) {
            self.named(field, name, |any| any.any(value));
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Encodes a document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, document.get("swagger"));
    message.message(2, |info| {
        info.text(1, document.pointer("/info/title"));
        info.text(2, document.pointer("/info/version"));
    });
    message.message(8, |paths| {
        for (path, item) in entries(&document["paths"]) {
            paths.named(2, path, |message| path_item(message, item));
        }
    });
    message.message(9, |definitions| schemas(definitions, &document["definitions"]));
    message.0
}

fn path_item(message: &mut Message, item: &Value) {
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(method) {
            message.message(field, |message| operation(message, found));
        }
    }
}

fn operation(message: &mut Message, operation: &Value) {
    message.texts(1, operation.get("tags"));
    message.text(3, operation.get("description"));
    message.text(5, operation.get("operationId"));
    message.texts(6, operation.get("produces"));
    message.texts(7, operation.get("consumes"));
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    for found in parameters.filter(|p| p["in"] == "query") {
        // ParametersItem { parameter = 1 { non_body_parameter = 2 { query_parameter_sub_schema = 3 } } }
        message.message(8, |item| item.message(1, |p| p.message(2, |p| p.message(3, |p| query_parameter(p, found)))));
    }
    message.extensions(13, operation);
}

fn query_parameter(message: &mut Message, parameter: &Value) {
    message.flag(1, parameter.get("required"));
    message.text(2, parameter.get("in"));
    message.text(3, parameter.get("description"));
    message.text(4, parameter.get("name"));
    message.text(6, parameter.get("type"));
}

fn schemas(message: &mut Message, named: &Value) {
    for (name, found) in entries(named) {
        message.named(1, name, |message| schema(message, found));
    }
}

fn schema(message: &mut Message, schema: &Value) {
    let get = |key: &str| schema.get(key);
    message.text(1, get("$ref"));
    message.text(2, get("format"));
    message.text(3, get("title"));
    message.text(4, get("description"));
    message.double(6, get("multipleOf"));
    message.double(7, get("maximum"));
    message.flag(8, get("exclusiveMaximum"));
    message.double(9, get("minimum"));
    message.flag(10, get("exclusiveMinimum"));
    message.whole(11, get("maxLength"));
    message.whole(12, get("minLength"));
    message.text(13, get("pattern"));
    message.whole(14, get("maxItems"));
    message.whole(15, get("minItems"));
    message.flag(16, get("uniqueItems"));
    message.whole(17, get("maxProperties"));
    message.whole(18, get("minProperties"));
    message.texts(19, get("required"));
    for value in get("enum").and_then(Value::as_array).into_iter().flatten() {
        message.message(20, |any| any.any(value));
    }
    match get("additionalProperties") {
        Some(each @ Value::Object(_)) => message.message(21, |item| item.message(1, |m| self::schema(m, each))),
        allowed => {
            if allowed == Some(&Value::Bool(true)) {
                message.message(21, |item| item.flag(2, allowed));
            }
        }
    }
    if let Some(Value::String(kind)) = get("type") {
        message.message(22, |types| types.bytes(1, kind.as_bytes()));
    }
    if let Some(items) = get("items") {
        message.message(23, |item| item.message(1, |m| self::schema(m, items)));
    }
    if let Some(fields) = get("properties") {
        message.message(25, |m| schemas(m, fields));
    }
    message.extensions(31, schema);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_lengths_are_written_as_protobuf_writes_them() {
        let mut message = Message::default();
        message.whole(1, Some(&json!(150)));
        message.bytes(2, b"testing");
        message.flag(3, Some(&json!(true)));
        message.double(7, Some(&json!(1.0)));
        let expected: &[u8] = &[
            0x08, 0x96, 0x01, 0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67, 0x18, 0x01, 0x39, 0, 0, 0, 0, 0, 0, 0xf0,
            0x3f,
        ];
        assert_eq!(message.0, expected);
    }

    #[test]
    fn a_small_document_has_the_fields_where_gnostic_looks() {
        let document = json!({"swagger": "2.0", "info": {"title": "t", "version": "v"}, "paths": {},
            "definitions": {"D": {"type": "object", "x-a": 1}}});
        let expected: &[u8] = b"\x0a\x032.0\x12\x06\x0a\x01t\x12\x01v\x42\x00\x4a\x1f\x0a\x1d\x0a\x01D\x12\x18\xb2\x01\x08\x0a\x06object\xfa\x01\x0a\x0a\x03x-a\x12\x03\x12\x011";
        let bytes = encode(&document);
        assert_eq!(bytes, expected, "{:?}", String::from_utf8_lossy(&bytes));
    }
}
