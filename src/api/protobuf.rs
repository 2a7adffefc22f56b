//! The one protobuf body that must be read: newer kubectls ask `auth can-i` in it and do not fall back to JSON.

use super::status::ApiError;
use serde_json::{Map, Value, json};

/// What Kubernetes puts before its envelope.
const MAGIC: &[u8] = b"k8s\0";
/// Names of a `ResourceAttributes`' fields, by number.
const RESOURCE: [&str; 7] = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];
/// Names of a `NonResourceAttributes`' fields, by number.
const PATH: [&str; 2] = ["path", "verb"];

/// Reads a `SelfSubjectAccessReview`: its `spec`, as JSON would have it.
///
/// # Errors
/// 400 when it is none.
pub fn access_review(body: &[u8]) -> Result<Value, ApiError> {
    read(body).ok_or_else(|| ApiError::bad_request("the body is no SelfSubjectAccessReview in Kubernetes' protobuf"))
}

fn read(body: &[u8]) -> Option<Value> {
    let envelope = body.strip_prefix(MAGIC)?;
    // Unknown{typeMeta = 1, raw = 2}; typeMeta{apiVersion = 1, kind = 2}; the review's spec = 2.
    if field(field(envelope, 1)?, 2)? != b"SelfSubjectAccessReview" {
        return None;
    }
    let spec = field(field(envelope, 2)?, 2)?;
    let part = |number, names: &[&str]| field(spec, number).and_then(|message| texts(message, names));
    Some(json!({"spec": {"resourceAttributes": part(1, &RESOURCE), "nonResourceAttributes": part(2, &PATH)}}))
}

/// The texts of a message, named by their numbers.
fn texts(message: &[u8], names: &[&str]) -> Option<Value> {
    let mut found = Map::new();
    for (number, name) in (1..).zip(names) {
        if let Some(bytes) = field(message, number) {
            found.insert((*name).to_owned(), std::str::from_utf8(bytes).ok()?.into());
        }
    }
    Some(Value::Object(found))
}

/// The bytes of a field, if the message is whole as far as that. The last one counts, as protobuf has it.
fn field(mut message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                varint(&mut message)?;
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                if tag >> 3 == wanted {
                    found = Some(bytes);
                }
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    found
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        fields.iter().flat_map(|(n, bytes)| [&[(n << 3) | 2, bytes.len() as u8][..], bytes].concat()).collect()
    }

    #[test]
    fn a_review_is_read_and_broken_ones_are_refused() {
        let attributes = message(&[(1, b"team"), (2, b"create"), (3, b"devsanctum.io"), (5, b"workspaces")]);
        let review = message(&[(1, b""), (2, &message(&[(1, &attributes)]))]);
        let meta = message(&[(1, b"authorization.k8s.io/v1"), (2, b"SelfSubjectAccessReview")]);
        let body = [MAGIC, &message(&[(1, &meta), (2, &review)])].concat();
        let spec = access_review(&body).unwrap()["spec"].take();
        let wanted = json!({"namespace": "team", "verb": "create", "group": "devsanctum.io", "resource": "workspaces"});
        assert_eq!(spec, json!({"resourceAttributes": wanted, "nonResourceAttributes": null}));
        for end in 0..body.len() {
            assert!(access_review(&body[..end]).is_err(), "cut at {end}");
        }
        let endless = [MAGIC, &[0xff; 40]].concat();
        assert_eq!(access_review(&endless).unwrap_err().code(), 400);
    }
}
