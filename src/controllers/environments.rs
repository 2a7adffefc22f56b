//! Environments, worked out once for all workspaces of a project.

use super::caches::Caches;
use crate::plan::environment::{Environment, Unresolvable, resolve};
use crate::resource::common::Visibility;
use crate::resource::{Project, ProjectSpec, SETTINGS_NAME, SYSTEM_NAMESPACE, Workspace};
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
    /// Of warm environments.
    by_template: HashMap<String, Resolved>,
}

impl Environments {
    /// A project, a template, a feature or the settings have changed.
    pub fn forget(&self) {
        let mut known = self.lock();
        known.version += 1;
        known.by_project.clear();
        known.by_template.clear();
    }

    /// The environment of a workspace; `None` where its project is not there.
    pub fn of(&self, caches: &Caches, record: &Workspace) -> Option<Resolved> {
        match record.warm_of() {
            Some((template, _)) => self.get(caches, |k| &mut k.by_template, template, || Some(Arc::new(project_of(template)))),
            None => {
                let project = record.metadata.namespace.as_deref()?;
                self.get(caches, |k| &mut k.by_project, project, || caches.projects.get(&ObjectRef::new(project)))
            }
        }
    }

    fn get(
        &self,
        caches: &Caches,
        all: impl Fn(&mut Known) -> &mut HashMap<String, Resolved>,
        name: &str,
        project: impl FnOnce() -> Option<Arc<Project>>,
    ) -> Option<Resolved> {
        let version = {
            let mut known = self.lock();
            if let Some(resolved) = all(&mut known).get(name) {
                return Some(resolved.clone());
            }
            known.version
        };
        let record = project()?;
        let settings = caches.settings.get(&ObjectRef::new(SETTINGS_NAME)).map(|s| s.spec.images.clone()).unwrap_or_default();
        let resolved = resolve(&record.spec, &settings, caches).map(|env| (record, Arc::new(env)));
        let mut known = self.lock();
        // What was read may be from before a change that was told meanwhile.
        if known.version == version {
            all(&mut known).insert(name.to_owned(), resolved.clone());
        }
        Some(resolved)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A project that adds nothing to its template.
pub fn project_of(template: &str) -> Project {
    let spec = ProjectSpec {
        display_name: None,
        description: None,
        owner: String::new(),
        template: template.to_owned(),
        visibility: Visibility::Private,
        repositories: Vec::new(),
        features: Vec::new(),
        groups: Vec::new(),
        min_ram_mb: None,
        min_disk_gb: None,
        port_visibility: Default::default(),
        quota: Default::default(),
        lifecycle: Default::default(),
    };
    Project::new(SYSTEM_NAMESPACE, spec)
}
