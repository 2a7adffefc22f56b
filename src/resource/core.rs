//! The few built-in Kubernetes kinds that kubectl and kube-rs expect to find: Namespace, Event, Lease.

use super::kind::KindDef;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceColumnDefinition, JSONSchemaProps};

/// A schema that accepts any object: these kinds are written by well-known clients only.
pub(super) fn open_schema() -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("object".into()),
        x_kubernetes_preserve_unknown_fields: Some(true),
        ..JSONSchemaProps::default()
    }
}

fn column(name: &str, kind: &str, path: &str) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition { name: name.into(), type_: kind.into(), json_path: path.into(), ..Default::default() }
}

/// Fields of an event that a selector may name, in both of its API groups' spellings.
pub const EVENT_FIELDS: [&str; 9] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "type",
];

/// The built-in kinds. `Event` stands in two groups and is one table: kube-rs writes
/// `events.k8s.io/v1`, kubectl reads `v1`.
pub(super) fn built_ins() -> Vec<KindDef> {
    let event_columns = || {
        vec![
            column("Last Seen", "date", ".lastTimestamp"),
            column("Type", "string", ".type"),
            column("Reason", "string", ".reason"),
            column("Object", "string", ".involvedObject.name"),
            column("Message", "string", ".message"),
        ]
    };
    vec![
        KindDef::built_in("", "v1", "Namespace", "namespaces", &["ns"], false)
            .showing(vec![column("Status", "string", ".status.phase"), column("Age", "date", ".metadata.creationTimestamp")]),
        KindDef::built_in("", "v1", "Event", "events", &["ev"], true).selecting(&EVENT_FIELDS).showing(event_columns()),
        KindDef::built_in("events.k8s.io", "v1", "Event", "events", &["ev"], true)
            .selecting(&EVENT_FIELDS)
            .showing(event_columns()),
        KindDef::built_in("coordination.k8s.io", "v1", "Lease", "leases", &[], true).showing(vec![
            column("Holder", "string", ".spec.holderIdentity"),
            column("Age", "date", ".metadata.creationTimestamp"),
        ]),
    ]
}
