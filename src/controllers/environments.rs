//! Environments, worked out once for all workspaces of a project.

use super::caches::Caches;
use crate::plan::environment::{Environment, Unresolvable, resolve};
use crate::resource::{Project, SETTINGS_NAME};
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A project and the environment its workspaces get, or why there is none.
pub type Resolved = Result<(Arc<Project>, Arc<Environment>), Unresolvable>;

/// Environments by project, until a record that one may come from changes.
#[derive(Clone, Default)]
pub struct Environments(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Rises with each change of a record.
    version: u64,
    by_project: HashMap<String, Resolved>,
}

impl Environments {
    /// A project, a template, a feature or the settings have changed.
    pub fn forget(&self) {
        let mut known = self.lock();
        known.version += 1;
        known.by_project.clear();
    }

    /// The environment of a project's workspaces; `None` where there is no such project.
    pub fn of(&self, caches: &Caches, project: &str) -> Option<Resolved> {
        let version = {
            let known = self.lock();
            if let Some(resolved) = known.by_project.get(project) {
                return Some(resolved.clone());
            }
            known.version
        };
        let record = caches.projects.get(&ObjectRef::new(project))?;
        let settings = caches.settings.get(&ObjectRef::new(SETTINGS_NAME)).map(|s| s.spec.images.clone()).unwrap_or_default();
        let resolved = resolve(&record.spec, &settings, caches).map(|env| (record, Arc::new(env)));
        let mut known = self.lock();
        // What was read may be from before a change that was told meanwhile.
        if known.version == version {
            known.by_project.insert(project.to_owned(), resolved.clone());
        }
        Some(resolved)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
