//! The template loop: says whether a template can be resolved, and to what.

mod warm;

use super::context::Context;
use super::environments::project_of;
use super::retry::PassError;
use super::skeleton::Loop;
use super::status::Pass;
use crate::plan::environment::{Environment, HardLimits, resolve};
use crate::plan::image::Image;
use crate::resource::common::Limits;
use crate::resource::{ResolvedTemplate, Template, TemplateStatus};
use async_trait::async_trait;
use kube::ResourceExt;

/// The template loop.
pub struct Templates(pub Context);

#[async_trait]
impl Loop for Templates {
    type Record = Template;
    const NAME: &'static str = "template";

    async fn reconcile(&self, record: &Template, pass: &mut Pass<TemplateStatus>) -> Result<(), PassError> {
        let alone = project_of(&record.name_any());
        match resolve(&alone.spec, &self.0.settings().images, &self.0.caches) {
            Ok(environment) => {
                pass.status.digest = Some(environment.digest());
                pass.status.resolved = Some(told(environment.clone()));
                pass.holds("Resolved", "Resolved");
                warm::keep(&self.0, record, &environment, pass).await
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
