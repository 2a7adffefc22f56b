//! What a workspace's environment is, once its template, the template's parent, all features and the project
//! have been put together.

use super::digest;
use crate::image::options::fill;
use crate::image::{Recipe, read};
use crate::resource::common::{FeatureUse, Folder, FolderMode, Limits, Port, Service, Sidecar, Visibility};
use crate::resource::{DEFAULT_MIN_DISK_GB, DEFAULT_MIN_RAM_MB, FeatureSpec, Images, ProjectSpec, Repository, TemplateSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Memory limit of a workspace where its template gives none, in mebibytes.
const DEFAULT_MEMORY_MB: u32 = 2048;
/// CPU limit of a workspace where its template gives none, in cores.
const DEFAULT_CPU: f64 = 2.0;
/// Process limit of a workspace where its template gives none.
const DEFAULT_PIDS: u32 = 1024;

/// Where an environment's image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// It is there, or can be pulled.
    AsItIs(String),
    /// It is built on each server that needs it.
    Built(Arc<Recipe>),
}

impl Image {
    /// Its name on an engine.
    pub fn reference(&self) -> String {
        match self {
            Self::AsItIs(name) => name.clone(),
            Self::Built(recipe) => recipe.tag(),
        }
    }
}

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

fn refuse<T>(reason: &'static str, message: impl Into<String>) -> Result<T, Unresolvable> {
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
    let recipe = recipe(&template, &features, images)?;
    supervisable(&template, &recipe)?;

    let mut env = template.env.clone();
    let mut ports = template.ports.clone();
    let mut sidecars = BTreeMap::new();
    let mut min_ram = template.min_ram_mb.unwrap_or(DEFAULT_MIN_RAM_MB).max(project.min_ram_mb.unwrap_or(0));
    let mut min_disk = template.min_disk_gb.unwrap_or(DEFAULT_MIN_DISK_GB).max(project.min_disk_gb.unwrap_or(0.0));
    for (name, feature, options) in &features {
        for (key, value) in &feature.env {
            env.insert(key.clone(), fill(value, options));
        }
        for port in &feature.ports {
            add_port(&mut ports, port, name)?;
        }
        if let Some(sidecar) = &feature.sidecar {
            sidecars.insert(name.clone(), fill_in(sidecar, options));
        }
        min_ram = min_ram.saturating_add(feature.min_ram_mb.unwrap_or(0));
        min_disk += feature.min_disk_gb.unwrap_or(0.0);
    }
    for port in &mut ports {
        if let Some(v) = project.port_visibility.get(&port.name) {
            port.public = *v == Visibility::Public;
        }
    }
    let (workdir, folders) = ground(&template, project);
    Ok(Environment {
        image: if recipe.is_plain() { Image::AsItIs(recipe.base) } else { Image::Built(Arc::new(recipe)) },
        command: template.start_command.clone(),
        env,
        ports,
        folders,
        workdir,
        user: template.user.clone(),
        repositories: project.repositories.clone(),
        sidecars,
        limits: HardLimits::from(&template.limits),
        min_ram_mb: min_ram,
        min_disk_gb: min_disk,
    })
}

/// Services are kept running by the image's first process, whose place a start command takes.
fn supervisable(template: &TemplateSpec, recipe: &Recipe) -> Result<(), Unresolvable> {
    let first = template.start_command.as_ref().and_then(|c| c.first()).filter(|program| *program != "/init");
    let services: Vec<&str> = recipe.services.keys().map(String::as_str).collect();
    match first {
        Some(program) if !services.is_empty() => {
            let message = format!(
                "startCommand ({program:?}) takes the place of the first process, /init, which would keep services running ({}): \
                 leave it out, or make a service of it",
                services.join(", ")
            );
            refuse("ServicesNeverRun", message)
        }
        _ => Ok(()),
    }
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

/// What `alpine` and `debian` mean here; any other name is an image as it is.
pub fn image_name(base: Option<&str>, images: &Images) -> String {
    match base.unwrap_or("alpine") {
        "alpine" => images.alpine.clone().unwrap_or_else(|| "devsanctum/base:alpine".into()),
        "debian" => images.debian.clone().unwrap_or_else(|| "devsanctum/base:debian".into()),
        image => image.to_owned(),
    }
}

/// The small image the probe on each server runs.
pub fn probe_image(images: &Images) -> String {
    images.probe.clone().unwrap_or_else(|| "devsanctum/base:tiny".into())
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
    }
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

type Chosen = (String, FeatureSpec, BTreeMap<String, String>);

/// All features asked for and all they need, each once, what is needed before what needs it.
fn close_over(uses: &[&FeatureUse], library: &dyn Library) -> Result<Vec<Chosen>, Unresolvable> {
    // The project's choice of options comes last in `uses` and wins over the template's.
    let given: BTreeMap<&str, &BTreeMap<String, String>> = uses.iter().map(|u| (u.name.as_str(), &u.options)).collect();
    let mut all = Vec::new();
    for u in uses {
        visit(&u.name, library, &mut Vec::new(), &mut all)?;
    }
    let choose = |(name, feature): (String, FeatureSpec)| {
        let options = options_of(&name, &feature, given.get(name.as_str()).copied())?;
        Ok((name, feature, options))
    };
    all.into_iter().map(choose).collect()
}

/// Checks that a feature and all it needs are there and need each other in no circle.
///
/// # Errors
/// Names what is missing, or the circle.
pub fn check_feature(name: &str, library: &dyn Library) -> Result<(), Unresolvable> {
    visit(name, library, &mut Vec::new(), &mut Vec::new())
}

fn visit(
    name: &str,
    library: &dyn Library,
    path: &mut Vec<String>,
    done: &mut Vec<(String, FeatureSpec)>,
) -> Result<(), Unresolvable> {
    if done.iter().any(|(n, _)| n == name) {
        return Ok(());
    }
    path.push(name.to_owned());
    if path[..path.len() - 1].iter().any(|p| p == name) {
        return refuse("FeatureCycle", format!("features need each other in a circle: {}", path.join(" → ")));
    }
    let Some(feature) = library.feature(name) else {
        return refuse("FeatureNotFound", format!("feature {name:?} does not exist (needed through {})", path.join(" → ")));
    };
    for needed in &feature.requires {
        visit(needed, library, path, done)?;
    }
    path.pop();
    done.push((name.to_owned(), feature));
    Ok(())
}

fn options_of(
    name: &str,
    feature: &FeatureSpec,
    given: Option<&BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, Unresolvable> {
    let empty = BTreeMap::new();
    let given = given.unwrap_or(&empty);
    if let Some(key) = given.keys().find(|k| !feature.options.iter().any(|o| &o.key == *k)) {
        let known: Vec<&str> = feature.options.iter().map(|o| o.key.as_str()).collect();
        return refuse("UnknownOption", format!("feature {name:?} has no option {key:?}; it has: {}", known.join(", ")));
    }
    let mut options = BTreeMap::new();
    for o in &feature.options {
        let Some(value) = given.get(&o.key).or(o.default.as_ref()) else {
            if o.required {
                return refuse("OptionRequired", format!("feature {name:?} needs a value for its option {:?}", o.key));
            }
            continue;
        };
        if let Err(allowed) = o.accepts(value) {
            return refuse("OptionInvalid", format!("option {:?} of feature {name:?} is {value:?}: {allowed}", o.key));
        }
        options.insert(o.key.clone(), value.clone());
    }
    Ok(options)
}

fn fill_in(sidecar: &Sidecar, options: &BTreeMap<String, String>) -> Sidecar {
    let mut filled = sidecar.clone();
    filled.env.values_mut().for_each(|v| *v = fill(v, options));
    filled.command.iter_mut().for_each(|a| *a = fill(a, options));
    filled
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

/// How the image is made.
fn recipe(template: &TemplateSpec, features: &[Chosen], images: &Images) -> Result<Recipe, Unresolvable> {
    let mut recipe = Recipe {
        base: image_name(template.base.as_deref(), images),
        packages: template.packages.iter().cloned().collect(),
        instructions: Vec::new(),
        services: BTreeMap::new(),
    };
    for (name, feature, options) in features {
        let who = format!("feature {name:?}");
        recipe.packages.extend(feature.packages.iter().cloned());
        append(&mut recipe, &who, feature.dockerfile.as_deref(), options)?;
        feature.service.iter().try_for_each(|s| supervise(&mut recipe, &who, s, options))?;
    }
    // What features bring is there for the template to use.
    let none = BTreeMap::new();
    append(&mut recipe, "the template", template.dockerfile.as_deref(), &none)?;
    template.services.iter().try_for_each(|s| supervise(&mut recipe, "the template", s, &none))?;
    Ok(recipe)
}

fn append(recipe: &mut Recipe, who: &str, text: Option<&str>, options: &BTreeMap<String, String>) -> Result<(), Unresolvable> {
    let extras = match read(text.unwrap_or_default()) {
        Ok(extras) => extras,
        // Admission lets none in; a record from before it did may be there.
        Err(e) => return refuse("DockerfileInvalid", format!("dockerfile of {who}, {e}")),
    };
    recipe.instructions.extend(extras.iter().map(|e| e.filled(options)));
    Ok(())
}

fn supervise(recipe: &mut Recipe, who: &str, service: &Service, options: &BTreeMap<String, String>) -> Result<(), Unresolvable> {
    let script = Recipe::service_script(&service.run, options);
    match recipe.services.insert(service.name.clone(), script) {
        None => Ok(()),
        Some(_) => {
            refuse("ServiceTaken", format!("{who} brings a service {:?}, but one of that name is there already", service.name))
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
