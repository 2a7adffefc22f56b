//! What a workspace's environment is, once its template, the template's parent, all features and the project
//! have been put together.

use super::digest;
use super::features::close_over;
use super::footprint::Footprint;
use super::image::{self, Image};
use crate::image::options::fill;
use crate::resource::common::{FeatureUse, Folder, FolderMode, Limits, Port, Sidecar, Visibility};
use crate::resource::names::image_reference;
use crate::resource::{FeatureSpec, Images, ProjectSpec, Repository, TemplateSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Memory limit of a workspace where its template gives none, in mebibytes.
const DEFAULT_MEMORY_MB: u32 = 2048;
/// CPU limit of a workspace where its template gives none, in cores.
const DEFAULT_CPU: f64 = 2.0;
/// Process limit of a workspace where its template gives none.
const DEFAULT_PIDS: u32 = 1024;

/// A resolved environment. Two spellings of the same one are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// Image to run.
    pub image: Image,
    /// Command in place of the image's own.
    pub command: Option<Vec<String>>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Ports, the primary one first.
    pub ports: Vec<Port>,
    /// Folders on volumes.
    pub folders: Vec<Folder>,
    /// Folder that programs, terminals and repositories begin in.
    pub workdir: Option<String>,
    /// User that repositories are of, and that commands and terminals are run as.
    pub user: Option<String>,
    /// Repositories to have below `workdir`.
    pub repositories: Vec<Repository>,
    /// Companion containers by feature name.
    pub sidecars: BTreeMap<String, Sidecar>,
    /// Most it may use, with every limit set.
    pub limits: HardLimits,
    /// Memory to reserve, in mebibytes.
    pub min_ram_mb: u32,
    /// Disk to reserve, in gibibytes.
    pub min_disk_gb: f64,
}

/// Limits with nothing left open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardLimits {
    /// Cores.
    pub cpu: f64,
    /// Memory in mebibytes.
    pub memory_mb: u32,
    /// Processes and threads.
    pub pids: u32,
}

impl From<&Limits> for HardLimits {
    fn from(l: &Limits) -> Self {
        Self {
            cpu: l.cpu.unwrap_or(DEFAULT_CPU),
            memory_mb: l.memory_mb.unwrap_or(DEFAULT_MEMORY_MB),
            pids: l.pids.unwrap_or(DEFAULT_PIDS),
        }
    }
}

/// Why an environment cannot be resolved. `reason` is PascalCase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolvable {
    /// Machine-readable.
    pub reason: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
}

pub(super) fn refuse<T>(reason: &'static str, message: impl Into<String>) -> Result<T, Unresolvable> {
    Err(Unresolvable { reason, message: message.into() })
}

/// Where the records named by others come from.
pub trait Library {
    /// A template by name.
    fn template(&self, name: &str) -> Option<TemplateSpec>;
    /// A feature by name.
    fn feature(&self, name: &str) -> Option<FeatureSpec>;
}

/// Puts an environment together.
///
/// # Errors
/// When a record is missing, features need each other in a circle, an option does not fit, or two things claim one port or
/// one service's name.
pub fn resolve(project: &ProjectSpec, images: &Images, library: &dyn Library) -> Result<Environment, Unresolvable> {
    let template = inherit(&project.template, library)?;
    let uses: Vec<&FeatureUse> = template.features.iter().chain(&project.features).collect();
    let features = close_over(&uses, library)?;
    let image = image::image(&template, &features, images)?;

    let mut env = template.env.clone();
    let mut ports = template.ports.clone();
    let (workdir, mut folders) = ground(&template, project);
    let mut sidecars = BTreeMap::new();
    let Footprint { ram_mb, disk_gb, .. } = Footprint::of(&template, project, features.iter().map(|(_, feature, _)| feature));
    for (name, feature, options) in &features {
        for (key, value) in &feature.env {
            env.insert(key.clone(), fill(value, options));
        }
        for port in &feature.ports {
            add_port(&mut ports, port, name)?;
        }
        feature.folders.iter().try_for_each(|folder| add_folder(&mut folders, folder, name))?;
        if let Some(sidecar) = &feature.sidecar {
            sidecars.insert(name.clone(), fill_in(name, sidecar, options)?);
        }
    }
    for port in &mut ports {
        if let Some(v) = project.port_visibility.get(&port.name) {
            port.public = *v == Visibility::Public;
        }
    }
    Ok(Environment {
        image,
        command: template.start_command.clone(),
        env,
        ports,
        folders,
        workdir,
        user: template.user.clone(),
        repositories: project.repositories.clone(),
        sidecars,
        limits: HardLimits::from(&template.limits),
        min_ram_mb: ram_mb,
        min_disk_gb: disk_gb,
    })
}

/// Whether a path is this folder, or below it.
pub fn lies_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where work is done, and the folders. What is cloned outlives the container, so it lies on a volume.
fn ground(template: &TemplateSpec, project: &ProjectSpec) -> (Option<String>, Vec<Folder>) {
    let (mut workdir, mut folders) = (template.workdir.clone(), template.folders.clone());
    if !project.repositories.is_empty() {
        let path = workdir.get_or_insert_with(|| "/workspace".into()).clone();
        if !folders.iter().any(|f| lies_in(&path, &f.path)) {
            let free = |name: &String| !folders.iter().any(|f| f.name == *name);
            let name = ["workspace".to_owned(), "workspace-repositories".to_owned()].into_iter().find(free);
            folders.extend(name.map(|name| Folder { name, path, mode: FolderMode::Persistent }));
        }
    }
    (workdir, folders)
}

/// A template with its parent merged in.
///
/// # Errors
/// When one of them is missing, or the parent extends a third one.
pub fn inherit(name: &str, library: &dyn Library) -> Result<TemplateSpec, Unresolvable> {
    let Some(child) = library.template(name) else {
        return refuse("TemplateNotFound", format!("template {name:?} does not exist"));
    };
    let Some(parent_name) = child.extends.clone() else { return Ok(child) };
    let Some(parent) = library.template(&parent_name) else {
        return refuse("TemplateNotFound", format!("template {parent_name:?}, which {name:?} extends, does not exist"));
    };
    if let Some(third) = &parent.extends {
        return refuse(
            "InheritanceTooDeep",
            format!("template {name:?} extends {parent_name:?}, which extends {third:?}: only one level is allowed"),
        );
    }
    Ok(merge(child, parent))
}

/// Child over parent: packages and features unite; env, folders and same-numbered ports override; instructions
/// append; minimums take the larger.
fn merge(child: TemplateSpec, parent: TemplateSpec) -> TemplateSpec {
    let packages: BTreeSet<String> = parent.packages.into_iter().chain(child.packages).collect();
    let mut env = parent.env;
    env.extend(child.env);
    let mut ports = parent.ports;
    for p in child.ports {
        match ports.iter_mut().find(|q| q.port == p.port) {
            Some(same) => *same = p,
            None => ports.push(p),
        }
    }
    let both = |a: Vec<_>, b: Vec<_>, same: fn(&_, &_) -> bool| {
        let mut all: Vec<_> = a.into_iter().filter(|x| !b.iter().any(|y| same(x, y))).collect();
        all.extend(b);
        all
    };
    let folders = both(parent.folders, child.folders, |a: &Folder, b: &Folder| a.path == b.path || a.name == b.name);
    let mut features = parent.features;
    features.retain(|f| !child.features.iter().any(|g| g.name == f.name));
    features.extend(child.features);
    let mut services = parent.services;
    services.retain(|s| !child.services.iter().any(|t| t.name == s.name));
    services.extend(child.services);
    let joined: Vec<String> = [parent.dockerfile, child.dockerfile].into_iter().flatten().collect();
    TemplateSpec {
        display_name: child.display_name,
        description: child.description,
        extends: None,
        base: child.base.or(parent.base),
        packages: packages.into_iter().collect(),
        dockerfile: (!joined.is_empty()).then(|| joined.join("\n")),
        folders,
        workdir: child.workdir.or(parent.workdir),
        user: child.user.or(parent.user),
        ports,
        env,
        start_command: child.start_command.or(parent.start_command),
        services,
        features,
        min_ram_mb: child.min_ram_mb.max(parent.min_ram_mb),
        min_disk_gb: larger(child.min_disk_gb, parent.min_disk_gb),
        limits: Limits {
            cpu: child.limits.cpu.or(parent.limits.cpu),
            memory_mb: child.limits.memory_mb.or(parent.limits.memory_mb),
            pids: child.limits.pids.or(parent.limits.pids),
        },
        // Of the template that says so, not of what builds on it.
        warm: None,
    }
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

fn fill_in(feature: &str, sidecar: &Sidecar, options: &BTreeMap<String, String>) -> Result<Sidecar, Unresolvable> {
    let mut filled = sidecar.clone();
    filled.image = fill(&sidecar.image, options);
    if let Err(allowed) = image_reference(&filled.image) {
        return refuse(
            "OptionInvalid",
            format!("with its options, the image of feature {feature:?} is {:?}: {allowed}", filled.image),
        );
    }
    filled.env.values_mut().for_each(|v| *v = fill(v, options));
    filled.command.iter_mut().for_each(|a| *a = fill(a, options));
    Ok(filled)
}

fn add_folder(folders: &mut Vec<Folder>, folder: &Folder, feature: &str) -> Result<(), Unresolvable> {
    match folders.iter().find(|f| f.name == folder.name || f.path == folder.path) {
        Some(taken) if taken == folder => Ok(()),
        Some(taken) => refuse(
            "FolderTaken",
            format!(
                "feature {feature:?} brings folder {:?} at {}, but folder {:?} at {} is there already",
                folder.name, folder.path, taken.name, taken.path
            ),
        ),
        None => {
            folders.push(folder.clone());
            Ok(())
        }
    }
}

fn add_port(ports: &mut Vec<Port>, port: &Port, feature: &str) -> Result<(), Unresolvable> {
    match ports.iter().find(|p| p.port == port.port || p.name == port.name) {
        Some(taken) if taken == port => Ok(()),
        Some(taken) => refuse(
            "PortTaken",
            format!(
                "feature {feature:?} brings port {} ({:?}), but port {} ({:?}) is there already: sidecars and services share one localhost",
                port.port, port.name, taken.port, taken.name
            ),
        ),
        None => {
            ports.push(port.clone());
            Ok(())
        }
    }
}

impl Environment {
    /// A digest that is the same for the same environment, however it was spelled.
    pub fn digest(&self) -> String {
        digest(&format!("{self:?}"))
    }
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
