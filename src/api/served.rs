//! The kinds as they are served: each with its place in the URL space and in the store.

use crate::resource::{GROUP, KindDef, kinds};
use crate::store::{Key, KindId};
use std::sync::LazyLock;

/// A kind as it is served.
#[derive(Debug)]
pub struct Served {
    /// What the kind is.
    pub def: &'static KindDef,
    /// Where its records lie. Both groups' events lie in one place.
    pub id: KindId,
    /// `devsanctum.io/v1`.
    pub api_version: String,
    /// `workspaces.devsanctum.io`, as error messages name it.
    pub resource: String,
}

impl Served {
    /// True for both spellings of Event.
    pub fn is_event(&self) -> bool {
        self.id == "events"
    }

    /// True for `events.k8s.io` events, which are stored in the core group's spelling.
    pub fn is_new_event(&self) -> bool {
        self.is_event() && !self.def.group.is_empty()
    }

    /// True for secrets, whose values never come back.
    pub fn is_secret(&self) -> bool {
        self.def.group == GROUP && self.def.kind == "Secret"
    }

    /// Where a record of this kind lies.
    pub fn key(&self, namespace: &str, name: &str) -> Key {
        let namespace = if self.def.namespaced { namespace } else { "" };
        Key { kind: self.id, namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Debug for KindDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.group, self.kind)
    }
}

static SERVED: LazyLock<Vec<Served>> = LazyLock::new(|| {
    let serve = |def: &'static KindDef| {
        let resource = match def.group {
            "" => def.plural.clone(),
            group => format!("{}.{group}", def.plural),
        };
        // Both groups' events are one table. The few other names live as long as the program does.
        let id: KindId = if def.plural == "events" { "events" } else { Box::leak(resource.clone().into_boxed_str()) };
        Served { def, id, api_version: def.api_version(), resource }
    };
    kinds().iter().map(serve).collect()
});

/// All kinds served.
pub fn served() -> &'static [Served] {
    &SERVED
}

/// The kind at a place in the URL space.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Served> {
    SERVED.iter().find(|s| s.def.group == group && s.def.version == version && s.def.plural == plural)
}

/// The kind whose records lie at `id`; events in the core group's spelling, which is the stored one.
pub fn by_id(id: &str) -> Option<&'static Served> {
    SERVED.iter().find(|s| s.id == id)
}

/// A kind by its name, such as `Workspace`.
pub fn by_kind(kind: &str) -> Option<&'static Served> {
    SERVED.iter().find(|s| s.def.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_event_groups_are_one_table() {
        assert_eq!(find("", "v1", "events").unwrap().id, find("events.k8s.io", "v1", "events").unwrap().id);
        assert!(!by_id("events").unwrap().is_new_event());
        assert_eq!(by_kind("Workspace").unwrap().id, "workspaces.devsanctum.io");
        assert_eq!(by_kind("Namespace").unwrap().id, "namespaces");
    }
}
