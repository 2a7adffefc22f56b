//! The OpenAPI documents, built once from the kinds: what `kubectl explain`, `apply`, `diff` and client generators read.
//!
//! Version 3 is one JSON document for each group and version, behind an index whose addresses carry a hash, so that
//! clients may keep them for ever. Version 2 is one document for everything, as JSON and, for kubectl before 1.27, in
//! protobuf.

mod paths;
mod schemas;

use super::openapi_v2_protobuf;
use crate::resource::{KindDef, kinds};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Content type of [`v2_protobuf`].
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Which OpenAPI is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// `/openapi/v3`: the index of documents, JSON.
pub fn v3_index() -> &'static [u8] {
    static INDEX: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let address = |(path, body): (&String, &Vec<u8>)| {
            let hash: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02X}")).collect();
            (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}))
        };
        let paths: Map<String, Value> = DOCUMENTS.iter().map(address).collect();
        json!({ "paths": paths }).to_string().into_bytes()
    });
    &INDEX
}

/// `/openapi/v3/<path>`, where `path` is such as `apis/devsanctum.io/v1` or `api/v1`; JSON.
pub fn v3_document(path: &str) -> Option<&'static [u8]> {
    DOCUMENTS.get(path).map(Vec::as_slice)
}

/// `/openapi/v2` as JSON.
pub fn v2_json() -> &'static [u8] {
    static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| V2.to_string().into_bytes());
    &BODY
}

/// `/openapi/v2` in protobuf (`gnostic`'s `openapi.v2.Document`), for kubectl before 1.27.
pub fn v2_protobuf() -> &'static [u8] {
    static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| openapi_v2_protobuf::encode(&V2));
    &BODY
}

/// The version 3 documents by path.
static DOCUMENTS: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let mut groups: BTreeMap<String, Vec<&KindDef>> = BTreeMap::new();
    for def in kinds() {
        groups.entry(root(def)).or_default().push(def);
    }
    let document = |defs: &[&KindDef]| {
        json!({
            "openapi": "3.0.0", "info": info(),
            "paths": paths::all(defs, Dialect::V3),
            "components": {"schemas": schemas::all(defs, Dialect::V3)},
        })
    };
    groups.into_iter().map(|(path, defs)| (path, document(&defs).to_string().into_bytes())).collect()
});

static V2: LazyLock<Value> = LazyLock::new(|| {
    let defs: Vec<&KindDef> = kinds().iter().collect();
    json!({
        "swagger": "2.0", "info": info(),
        "paths": paths::all(&defs, Dialect::V2), "definitions": schemas::all(&defs, Dialect::V2),
    })
});

fn info() -> Value {
    json!({"title": "DevSanctum", "version": concat!("v", env!("CARGO_PKG_VERSION"))})
}

/// `apis/devsanctum.io/v1`, or `api/v1` for the core group.
fn root(def: &KindDef) -> String {
    match def.group {
        "" => format!("api/{}", def.version),
        group => format!("apis/{group}/{}", def.version),
    }
}

/// How clients find the kind a schema or an operation is about.
fn gvk(def: &KindDef, suffix: &str) -> Value {
    json!({"group": def.group, "version": def.version, "kind": format!("{}{suffix}", def.kind)})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    fn ours() -> Value {
        read(v3_document("apis/devsanctum.io/v1").unwrap())
    }

    /// Every `$ref` of a document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(list) => list.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }

    #[test]
    fn the_index_leads_to_every_document() {
        let index = read(v3_index());
        let paths = index["paths"].as_object().unwrap();
        assert_eq!(
            paths.keys().collect::<Vec<_>>(),
            ["api/v1", "apis/coordination.k8s.io/v1", "apis/devsanctum.io/v1", "apis/events.k8s.io/v1"]
        );
        for (path, entry) in paths {
            let address = entry["serverRelativeURL"].as_str().unwrap();
            assert!(address.starts_with(&format!("/openapi/v3/{path}?hash=")), "{address}");
            assert!(v3_document(path).is_some());
        }
        assert!(v3_document("apis/nope/v1").is_none());
    }

    #[test]
    fn no_reference_leads_nowhere() {
        let documents = kinds().iter().map(|d| read(v3_document(&root(d)).unwrap())).chain([read(v2_json())]);
        for document in documents {
            let mut found = Vec::new();
            references(&document, &mut found);
            assert!(!found.is_empty());
            for reference in found {
                assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
            }
        }
    }

    #[test]
    fn every_kind_has_a_schema_and_a_patch_that_can_be_tried() {
        let v2 = read(v2_json());
        for def in kinds() {
            let v3 = read(v3_document(&root(def)).unwrap());
            for (schemas, paths) in [(&v3["components"]["schemas"], &v3["paths"]), (&v2["definitions"], &v2["paths"])] {
                let named = |s: &&Value| s["x-kubernetes-group-version-kind"] == json!([gvk(def, "")]);
                let schema = schemas.as_object().unwrap().values().find(named).unwrap();
                assert!(schema["properties"]["metadata"].is_object() && schema["type"] == "object", "{}", def.kind);
                let space = if def.namespaced { "namespaces/{namespace}/" } else { "" };
                let patch = &paths[format!("/{}/{space}{}/{{name}}", root(def), def.plural)]["patch"];
                assert_eq!(patch["x-kubernetes-group-version-kind"], gvk(def, ""));
                let parameters: Vec<&str> =
                    patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
                for needed in ["dryRun", "fieldManager", "fieldValidation", "force"] {
                    assert!(parameters.contains(&needed), "{}: {needed}", def.kind);
                }
            }
        }
    }

    #[test]
    fn the_schema_names_fields_for_explain() {
        let schema = &ours()["components"]["schemas"]["io.devsanctum.v1.Workspace"];
        assert_eq!(schema["properties"]["spec"]["properties"]["owner"]["type"], "string");
        let list = &ours()["components"]["schemas"]["io.devsanctum.v1.WorkspaceList"];
        assert_eq!(list["x-kubernetes-group-version-kind"][0]["kind"], "WorkspaceList");
        assert!(ours()["paths"]["/apis/devsanctum.io/v1/workspaces"]["get"].is_object());
        assert!(ours()["paths"]["/apis/devsanctum.io/v1/namespaces/{namespace}/workspaces/{name}/status"]["patch"].is_object());
    }

    #[test]
    fn version_2_says_nothing_it_has_no_word_for() {
        let text = std::str::from_utf8(v2_json()).unwrap();
        for word in ["\"nullable\"", "\"oneOf\"", "\"anyOf\"", "\"components\""] {
            assert!(!text.contains(word), "{word}");
        }
    }

    #[test]
    fn the_protobuf_holds_every_definition() {
        let names: Vec<String> = V2["definitions"].as_object().unwrap().keys().cloned().collect();
        let bytes = v2_protobuf();
        for name in names {
            assert!(bytes.windows(name.len()).any(|w| w == name.as_bytes()), "{name}");
        }
    }
}
