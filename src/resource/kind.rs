//! What the API needs to know of a kind, kind by kind, in one table.

use super::errors::FieldErrors;
use super::{GROUP, VERSION};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::LazyLock;

/// A record another one names. The API refuses a write whose references do not exist, and keeps a record
/// alive for as long as another one names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Field that names it.
    pub path: String,
    /// Kind it must have.
    pub kind: &'static str,
    /// Its namespace; the record's own where `None` and the kind is namespaced.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// A reference to a cluster-scoped record, or one in the same namespace.
    pub fn new(path: impl Into<String>, kind: &'static str, name: impl Into<String>) -> Self {
        Self { path: path.into(), kind, namespace: None, name: name.into() }
    }
}

/// A value only one record may hold, such as a route's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Field that claims it.
    pub path: String,
    /// What sort of value: claims of different sorts never collide.
    pub scope: &'static str,
    /// The value in its canonical form.
    pub value: String,
}

/// What a kind demands of its spec beyond its schema. Pure: it sees one record and nothing else.
pub trait Rules {
    /// Adds an error for each field that is wrong. Paths start with `spec`.
    fn validate(&self, errors: &mut FieldErrors);
    /// Records this one names.
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }
    /// Values this one claims for itself.
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }
}

/// Reads a spec as its kind's type, so that its own rules can be asked.
type ReadRules = fn(Value) -> Result<Box<dyn Rules>, String>;

/// One kind, as discovery, the schema and admission see it.
pub struct KindDef {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// `Workspace`.
    pub kind: String,
    /// `workspaces`.
    pub plural: String,
    /// `workspace`.
    pub singular: String,
    /// `ws`.
    pub short_names: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Has a status that only the status subresource writes.
    pub has_status: bool,
    /// Structural schema of the whole record.
    pub schema: JSONSchemaProps,
    /// Columns of `kubectl get`.
    pub columns: Vec<CustomResourceColumnDefinition>,
    /// Fields a field selector may name besides `metadata.name` and `metadata.namespace`, without leading dot.
    pub selectable: Vec<String>,
    rules: Option<ReadRules>,
}

impl KindDef {
    /// Describes a kind from its derived definition.
    fn of<K: CustomResourceExt, S: Rules + DeserializeOwned + 'static>() -> Self {
        let rules = |spec| match serde_json::from_value::<S>(spec) {
            Ok(spec) => Ok(Box::new(spec) as Box<dyn Rules>),
            Err(e) => Err(e.to_string()),
        };
        Self::from_crd(K::crd(), Some(rules))
    }

    fn from_crd(crd: CustomResourceDefinition, rules: Option<ReadRules>) -> Self {
        let names = crd.spec.names;
        let version = crd.spec.versions.into_iter().next().expect("a derived definition has one version");
        let schema = version.schema.and_then(|s| s.open_api_v3_schema).unwrap_or_default();
        let fields = version.selectable_fields.unwrap_or_default();
        Self {
            group: GROUP,
            version: VERSION,
            singular: names.singular.unwrap_or_else(|| names.kind.to_lowercase()),
            kind: names.kind,
            plural: names.plural,
            short_names: names.short_names.unwrap_or_default(),
            categories: names.categories.unwrap_or_default(),
            namespaced: crd.spec.scope == "Namespaced",
            has_status: version.subresources.is_some_and(|s| s.status.is_some()),
            schema,
            columns: version.additional_printer_columns.unwrap_or_default(),
            selectable: fields.into_iter().map(|f| f.json_path.trim_start_matches('.').to_owned()).collect(),
            rules,
        }
    }

    /// A built-in Kubernetes kind served beside ours, without rules of our own.
    pub(super) fn built_in(
        group: &'static str,
        version: &'static str,
        kind: &str,
        plural: &str,
        short: &[&str],
        namespaced: bool,
    ) -> Self {
        Self {
            group,
            version,
            kind: kind.into(),
            plural: plural.into(),
            singular: kind.to_lowercase(),
            short_names: short.iter().map(|s| (*s).into()).collect(),
            categories: Vec::new(),
            namespaced,
            has_status: false,
            schema: super::core::open_schema(),
            columns: Vec::new(),
            selectable: Vec::new(),
            rules: None,
        }
    }

    /// Replaces the selectable fields.
    pub(super) fn selecting(mut self, fields: &[&str]) -> Self {
        self.selectable = fields.iter().map(|f| (*f).into()).collect();
        self
    }

    /// Replaces the printer columns.
    pub(super) fn showing(mut self, columns: Vec<CustomResourceColumnDefinition>) -> Self {
        self.columns = columns;
        self
    }

    /// `devsanctum.io/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Reads a spec that has passed the schema, for its rules. `None` for kinds without rules.
    ///
    /// # Errors
    /// When the spec does not have the shape the schema promised.
    pub fn rules(&self, spec: &Value) -> Result<Option<Box<dyn Rules>>, String> {
        self.rules.map(|read| read(spec.clone())).transpose()
    }
}

/// All kinds served, in the order a manifest should be applied (what is named before what names it).
pub fn kinds() -> &'static [KindDef] {
    use super::*;
    static KINDS: LazyLock<Vec<KindDef>> = LazyLock::new(|| {
        let mut all = super::core::built_ins();
        all.extend([
            KindDef::of::<Settings, SettingsSpec>(),
            KindDef::of::<User, UserSpec>(),
            KindDef::of::<Group, GroupSpec>(),
            KindDef::of::<Feature, FeatureSpec>(),
            KindDef::of::<Template, TemplateSpec>(),
            KindDef::of::<Project, ProjectSpec>(),
            KindDef::of::<Secret, SecretSpec>(),
            KindDef::of::<DockerServer, DockerServerSpec>(),
            KindDef::of::<Workspace, WorkspaceSpec>(),
            KindDef::of::<Route, RouteSpec>(),
            KindDef::of::<RepoSync, RepoSyncSpec>(),
            KindDef::of::<Invitation, InvitationSpec>(),
        ]);
        all
    });
    &KINDS
}

/// Finds a kind of our own group, or a built-in one, by its kind name.
pub fn kind(name: &str) -> Option<&'static KindDef> {
    kinds().iter().find(|k| k.kind == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_named_the_way_discovery_needs() {
        for k in kinds() {
            assert!(!k.plural.is_empty() && k.plural == k.plural.to_lowercase(), "{}", k.kind);
            assert_eq!(k.singular, k.kind.to_lowercase());
        }
        assert_eq!(kind("Workspace").unwrap().short_names, ["ws"]);
        assert!(kind("Workspace").unwrap().namespaced);
        assert!(!kind("Project").unwrap().namespaced);
    }

    #[test]
    fn short_names_are_distinct() {
        let mut all: Vec<_> = kinds().iter().flat_map(|k| k.short_names.iter()).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count - 1, "only `ev` is shared, by the two Event groups");
    }
}
