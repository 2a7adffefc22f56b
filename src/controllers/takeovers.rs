//! Which workspace took over which warm environment, kept up to date beside the copies: what happens to a container is told
//! under the names it was made with.

use crate::resource::Workspace;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Workspaces by the uid of the warm environment they took over.
#[derive(Clone, Default)]
pub struct Takeovers(Arc<Mutex<HashMap<String, ObjectRef<Workspace>>>>);

impl Takeovers {
    /// A workspace is there.
    pub fn seen(&self, w: &Workspace) {
        if let Some(took_over) = took_over(w) {
            self.lock().insert(took_over, ObjectRef::from_obj(w));
        }
    }

    /// A workspace is gone.
    pub fn gone(&self, w: &Workspace) {
        if let Some(took_over) = took_over(w) {
            self.lock().remove(&took_over);
        }
    }

    /// Who has taken over the environment of this uid.
    pub fn holder(&self, uid: &str) -> Option<ObjectRef<Workspace>> {
        self.lock().get(uid).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, ObjectRef<Workspace>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn took_over(w: &Workspace) -> Option<String> {
    Some(w.status.as_ref()?.took_over.as_ref()?.uid.clone())
}
