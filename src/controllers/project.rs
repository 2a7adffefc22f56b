//! The project loop: a project's namespace is there, and a project with workspaces does not go.

use super::caches::InOrder;
use super::context::Context;
use super::retry::PassError;
use super::skeleton::Loop;
use super::status::Pass;
use crate::engine::ownership::Ownership;
use crate::resource::{Project, ProjectStatus, Workspace, labels};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Resource, ResourceExt};
use std::sync::Arc;
use std::time::Duration;

/// The project loop.
pub struct Projects(pub Context);

#[async_trait]
impl Loop for Projects {
    type Record = Project;
    const NAME: &'static str = "project";
    const FINALIZER: Option<&'static str> = Some(labels::PROJECT_FINALIZER);
    /// Each of its workspaces wakes it.
    const PACE: Duration = Duration::from_millis(500);

    async fn reconcile(&self, record: &Project, pass: &mut Pass<ProjectStatus>) -> Result<(), PassError> {
        pass.status.workspaces = count(&self.members(record));
        self.namespace(record, pass).await?;
        pass.holds("NamespaceReady", "Present");
        Ok(())
    }

    async fn cleanup(&self, record: &Project, pass: &mut Pass<ProjectStatus>) -> Result<(), PassError> {
        let mut members = self.members(record);
        pass.status.workspaces = count(&members);
        members.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        if members.is_empty() {
            self.tell_of_folders(record).await;
            return Ok(());
        }
        let names: Vec<String> = members.iter().take(10).map(|w| w.name_any()).collect();
        let message = format!(
            "the project goes once its {} workspaces are gone: delete {}{}",
            members.len(),
            names.join(", "),
            if members.len() > names.len() { ", …" } else { "" }
        );
        Err(PassError::waiting("Deleting", "WorkspacesRemain", message, Duration::from_secs(60)))
    }
}

fn count(members: &[Arc<Workspace>]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}

impl Projects {
    fn members(&self, record: &Project) -> Vec<Arc<Workspace>> {
        self.0.caches.workspaces.in_order(|w| w.metadata.namespace == record.metadata.name)
    }

    /// Deleting a project deletes no work: folders its workspaces shared stay, and somebody should know.
    async fn tell_of_folders(&self, record: &Project) {
        let uid = record.uid().unwrap_or_default();
        for server in self.0.caches.servers.in_order(|_| true) {
            let Some(engine) = self.0.engines.get(&server.name_any()) else { continue };
            let mut found = engine.volumes(Some(&uid)).await.unwrap_or_default();
            found.retain(|v| Ownership::of_record(&v.labels, "Project", &uid));
            if !found.is_empty() {
                let names: Vec<&str> = found.iter().map(|v| v.name.as_str()).collect();
                let note = format!(
                    "folders its workspaces shared stay on server {}: volumes {}. Remove them with `docker volume rm` when they are not \
                     wanted any more",
                    server.name_any(),
                    names.join(", ")
                );
                super::events::tell(&self.0.frame, record, false, "FoldersRemain", note);
            }
        }
    }

    /// Our own API makes the namespace together with the project; another one may not.
    async fn namespace(&self, record: &Project, pass: &mut Pass<ProjectStatus>) -> Result<(), PassError> {
        let name = record.name_any();
        let api: Api<Namespace> = Api::all(self.0.frame.client.clone());
        if api.get_opt(&name).await?.is_some() {
            return Ok(());
        }
        let metadata = ObjectMeta {
            name: Some(name),
            owner_references: record.controller_owner_ref(&()).map(|o| vec![o]),
            ..ObjectMeta::default()
        };
        match api.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await {
            Err(kube::Error::Api(s)) if s.code == 409 => Ok(()),
            Err(e) => Err(e.into()),
            Ok(_) => {
                pass.did("created its namespace");
                Ok(())
            }
        }
    }
}
