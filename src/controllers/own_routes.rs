//! Which routes a workspace owns, and which lead to it, kept up to date beside the copies, so that no pass has to go through all
//! routes.

use crate::resource::Route;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Routes by the uid of an owner, and by the project and name of the workspace they lead to. One may stand here that has another by
/// now: the copy of the record decides.
#[derive(Clone, Default)]
pub struct OwnRoutes(Arc<Mutex<Known>>);

type By<K> = HashMap<K, HashSet<ObjectRef<Route>>>;

#[derive(Default)]
struct Known {
    owned: By<String>,
    leading: By<(String, String)>,
}

impl OwnRoutes {
    /// A route is there.
    pub fn seen(&self, route: &Route) {
        let Known { owned, leading } = &mut *self.lock();
        for owner in route.owner_references() {
            owned.entry(owner.uid.clone()).or_default().insert(ObjectRef::from_obj(route));
        }
        leading.entry(leads_to(route)).or_default().insert(ObjectRef::from_obj(route));
    }

    /// A route is gone.
    pub fn gone(&self, route: &Route) {
        let Known { owned, leading } = &mut *self.lock();
        for owner in route.owner_references() {
            take(owned, &owner.uid, route);
        }
        take(leading, &leads_to(route), route);
    }

    /// The routes of an owner.
    pub fn of(&self, owner: &str) -> Vec<ObjectRef<Route>> {
        self.lock().owned.get(owner).into_iter().flatten().cloned().collect()
    }

    /// The routes to a workspace of a project, whoever owns them.
    pub fn to(&self, project: &str, workspace: &str) -> Vec<ObjectRef<Route>> {
        let leads = (project.to_owned(), workspace.to_owned());
        self.lock().leading.get(&leads).into_iter().flatten().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn leads_to(route: &Route) -> (String, String) {
    (route.namespace().unwrap_or_default(), route.spec.workspace.clone())
}

fn take<K: Eq + Hash>(all: &mut By<K>, of: &K, route: &Route) {
    if let Some(own) = all.get_mut(of) {
        own.remove(&ObjectRef::from_obj(route));
        if own.is_empty() {
            all.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_somebody_made_by_hand_is_found_by_where_it_leads() {
        let route = |name: &str, workspace: &str| -> Route {
            let spec = serde_json::json!({"host": "a.example.com", "workspace": workspace, "port": 80});
            let meta = serde_json::json!({"name": name, "namespace": "team", "uid": name});
            serde_json::from_value(
                serde_json::json!({"apiVersion": "devsanctum.io/v1", "kind": "Route", "metadata": meta, "spec": spec}),
            )
            .unwrap()
        };
        let all = OwnRoutes::default();
        all.seen(&route("r", "w"));
        all.seen(&route("other", "x"));
        assert_eq!(all.to("team", "w"), [ObjectRef::new("r").within("team")]);
        assert!(all.to("another", "w").is_empty() && all.of("w").is_empty());
        all.gone(&route("r", "w"));
        assert!(all.to("team", "w").is_empty() && !all.to("team", "x").is_empty());
    }
}
