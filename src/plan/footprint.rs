//! What a workspace takes of what is shared: the same for the choice of its server and for quotas.

use super::environment::{HardLimits, Library, Unresolvable, inherit};
use super::features::close_over;
use super::workspace::sidecar_limits;
use crate::resource::common::FeatureUse;
use crate::resource::{DEFAULT_MIN_DISK_GB, DEFAULT_MIN_RAM_MB, FeatureSpec, ProjectSpec, TemplateSpec};

/// What a workspace takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Footprint {
    /// Cores it may use, its companion containers included.
    pub cpu: f64,
    /// Memory to reserve, in mebibytes.
    pub ram_mb: u32,
    /// Disk to reserve, in gibibytes.
    pub disk_gb: f64,
}

impl Footprint {
    /// Of what has been put together.
    pub(super) fn of<'a>(
        template: &TemplateSpec,
        project: &ProjectSpec,
        features: impl IntoIterator<Item = &'a FeatureSpec>,
    ) -> Self {
        let main = HardLimits::from(&template.limits);
        let mut all = Self {
            cpu: main.cpu,
            ram_mb: template.min_ram_mb.unwrap_or(DEFAULT_MIN_RAM_MB).max(project.min_ram_mb.unwrap_or(0)),
            disk_gb: template.min_disk_gb.unwrap_or(DEFAULT_MIN_DISK_GB).max(project.min_disk_gb.unwrap_or(0.0)),
        };
        for feature in features {
            all.cpu += feature.sidecar.as_ref().map_or(0.0, |s| sidecar_limits(&s.limits, main).cpu);
            all.ram_mb = all.ram_mb.saturating_add(feature.min_ram_mb.unwrap_or(0));
            all.disk_gb += feature.min_disk_gb.unwrap_or(0.0);
        }
        all
    }
}

/// What each workspace of a project takes.
///
/// # Errors
/// When a template or a feature is missing, or features need each other in a circle.
pub fn footprint(project: &ProjectSpec, library: &dyn Library) -> Result<Footprint, Unresolvable> {
    let template = inherit(&project.template, library)?;
    let uses: Vec<&FeatureUse> = template.features.iter().chain(&project.features).collect();
    let features = close_over(&uses, library)?;
    Ok(Footprint::of(&template, project, features.iter().map(|(_, feature, _)| feature)))
}
