//! Which routes a workspace owns, kept up to date beside the copies, so that no pass has to go through all routes.

use crate::resource::Route;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Routes by the uid of an owner. One may stand here that has another owner by now: the copy of the record decides.
#[derive(Clone, Default)]
pub struct OwnRoutes(Arc<Mutex<HashMap<String, HashSet<ObjectRef<Route>>>>>);

impl OwnRoutes {
    /// A route is there.
    pub fn seen(&self, route: &Route) {
        let mut all = self.lock();
        for owner in route.owner_references() {
            all.entry(owner.uid.clone()).or_default().insert(ObjectRef::from_obj(route));
        }
    }

    /// A route is gone.
    pub fn gone(&self, route: &Route) {
        let mut all = self.lock();
        for owner in route.owner_references() {
            if let Some(own) = all.get_mut(&owner.uid) {
                own.remove(&ObjectRef::from_obj(route));
                if own.is_empty() {
                    all.remove(&owner.uid);
                }
            }
        }
    }

    /// The routes of an owner.
    pub fn of(&self, owner: &str) -> Vec<ObjectRef<Route>> {
        self.lock().get(owner).into_iter().flatten().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, HashSet<ObjectRef<Route>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
