//! The template loop: says whether a template can be resolved, and to what.

use super::context::Context;
use super::retry::PassError;
use super::skeleton::Loop;
use super::status::Pass;
use crate::plan::environment::{Environment, HardLimits, resolve};
use crate::plan::image::Image;
use crate::resource::common::{Limits, Visibility};
use crate::resource::{ProjectSpec, ResolvedTemplate, Template, TemplateStatus};
use async_trait::async_trait;
use kube::ResourceExt;

/// The template loop.
pub struct Templates(pub Context);

#[async_trait]
impl Loop for Templates {
    type Record = Template;
    const NAME: &'static str = "template";

    async fn reconcile(&self, record: &Template, pass: &mut Pass<TemplateStatus>) -> Result<(), PassError> {
        let alone = project_of(record.name_any());
        match resolve(&alone, &self.0.settings().images, &self.0.caches) {
            Ok(environment) => {
                pass.status.digest = Some(environment.digest());
                pass.status.resolved = Some(told(environment));
                pass.holds("Resolved", "Resolved");
                Ok(())
            }
            Err(e) => {
                (pass.status.digest, pass.status.resolved) = (None, None);
                Err(PassError::stalled("Resolved", e.reason, e.message))
            }
        }
    }
}

fn told(environment: Environment) -> ResolvedTemplate {
    let (dockerfile, services) = match &environment.image {
        Image::AsItIs(_) => (None, Vec::new()),
        Image::Built(recipe) => (Some(recipe.dockerfile()), recipe.services.keys().cloned().collect()),
    };
    let HardLimits { cpu, memory_mb, pids } = environment.limits;
    ResolvedTemplate {
        image: environment.image.reference(),
        dockerfile,
        services,
        start_command: environment.command,
        workdir: environment.workdir,
        user: environment.user,
        env: environment.env,
        ports: environment.ports,
        folders: environment.folders,
        sidecars: environment.sidecars,
        limits: Limits { cpu: Some(cpu), memory_mb: Some(memory_mb), pids: Some(pids) },
        min_ram_mb: environment.min_ram_mb,
        min_disk_gb: environment.min_disk_gb,
    }
}

/// A project that adds nothing to its template.
fn project_of(template: String) -> ProjectSpec {
    ProjectSpec {
        display_name: None,
        description: None,
        owner: String::new(),
        template,
        visibility: Visibility::Private,
        repositories: Vec::new(),
        features: Vec::new(),
        groups: Vec::new(),
        min_ram_mb: None,
        min_disk_gb: None,
        port_visibility: Default::default(),
        quota: Default::default(),
    }
}
