//! Makes a template of a `devcontainer.json`, and says of everything that is not mapped why. Pure.

mod commands;
mod env;
mod features;
mod image;
mod ports;
mod read;
mod requirements;
mod storage;
mod text;

pub use features::SAME;
pub use read::read;

use crate::resource::common::{Limits, Service};
use crate::resource::{FieldErrors, Rules, TemplateSpec};
use serde_json::{Map, Value};

/// The fields of a `devcontainer.json`.
pub type Fields = Map<String, Value>;

/// Why no template can be made: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub mend: String,
}

impl Refusal {
    fn new(message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { message: message.into(), mend: mend.into() }
    }
}

/// Something that is not in the template, or is there as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The field.
    pub field: String,
    /// Why, and what to do in its place.
    pub why: String,
}

/// A template, and what it lacks.
#[derive(Debug)]
pub struct Imported {
    /// The template.
    pub template: TemplateSpec,
    /// What is not in it.
    pub notes: Vec<Note>,
}

/// The template in the making.
#[derive(Default)]
struct Draft {
    template: TemplateSpec,
    instructions: Vec<String>,
    notes: Vec<Note>,
}

impl Draft {
    fn note(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.notes.push(Note { field: field.into(), why: why.into() });
    }

    fn workdir(&self) -> &str {
        self.template.workdir.as_deref().unwrap_or(storage::WORKDIR)
    }
}

/// Makes the template.
///
/// # Errors
/// When there is no image that it could begin with.
pub fn import(fields: &Fields) -> Result<Imported, Refusal> {
    let mut draft = Draft::default();
    draft.template.base = Some(image::base(fields)?);
    draft.template.display_name = fields.get("name").and_then(Value::as_str).map(str::to_owned);
    draft.template.description = Some("Made of a devcontainer.json.".into());
    image::user(fields, &mut draft);
    storage::workdir(fields, &mut draft);
    storage::mounts(fields, &mut draft);
    env::variables(fields, &mut draft);
    ports::ports(fields, &mut draft);
    features::features(fields, &mut draft);
    requirements::requirements(fields, &mut draft);
    let run = commands::script(fields, &mut draft);
    if fields.get("overrideCommand") != Some(&Value::Bool(false)) || run.is_some() {
        let run = run.unwrap_or_else(|| commands::STAY.to_owned());
        draft.template.services.push(Service { name: "devcontainer".into(), run, user: None });
    }
    others(fields, &mut draft);
    finish(draft)
}

fn finish(mut draft: Draft) -> Result<Imported, Refusal> {
    draft.template.dockerfile = (!draft.instructions.is_empty()).then(|| draft.instructions.join("\n") + "\n");
    if draft.template.limits == Limits::default() {
        draft.template.limits = Limits { memory_mb: Some(3072), ..Limits::default() };
    }
    let mut errors = FieldErrors::default();
    draft.template.validate(&mut errors);
    if !errors.0.is_empty() {
        let all: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        return Err(Refusal::new(all.join("\n"), "correct these values in the devcontainer.json"));
    }
    Ok(Imported { template: draft.template, notes: draft.notes })
}

/// Fields that are mapped, or that say nothing to a template.
const KNOWN: [&str; 20] = [
    "$schema",
    "appPort",
    "containerEnv",
    "containerUser",
    "features",
    "forwardPorts",
    "hostRequirements",
    "image",
    "init",
    "mounts",
    "name",
    "onCreateCommand",
    "overrideCommand",
    "portsAttributes",
    "postCreateCommand",
    "postStartCommand",
    "remoteEnv",
    "remoteUser",
    "updateContentCommand",
    "workspaceFolder",
];

/// Why a field is not mapped.
fn why_not(field: &str) -> &'static str {
    match field {
        "customizations" | "extensions" | "settings" => "is for editors: keep such settings in the repository or with the person",
        "initializeCommand" => "runs on the developer's machine, and there is none",
        "postAttachCommand" => "runs when an editor attaches, which is not known here",
        "runArgs" | "privileged" | "capAdd" | "securityOpt" => "containers are hardened alike, and nothing more can be asked for",
        "workspaceMount" => "repositories are cloned below 'workdir': name them in the Project's 'repositories'",
        "secrets" => "make a Secret of the project, or set 'env' in the Workspace",
        "service" | "runServices" => "there is no compose file: a companion is a Feature with a 'sidecar'",
        "otherPortsAttributes" => "ports are those that 'ports' lists, and no other is open",
        "overrideFeatureInstallOrder" => "features come in the order in which they need one another",
        "shutdownAction" => "a workspace runs until it is stopped",
        "updateRemoteUserUID" => "no files of a developer's machine are mounted, so the user keeps its number",
        "userEnvProbe" => "programs have the container's environment; shells read their own files",
        "waitFor" => {
            "nobody is kept waiting: commands run beside the workspace, and their log is `devsanctum logs --service devcontainer`"
        }
        _ => "is not known here",
    }
}

fn others(fields: &Fields, draft: &mut Draft) {
    for field in fields.keys().filter(|f| !KNOWN.contains(&f.as_str())) {
        draft.note(field, why_not(field));
    }
}

#[cfg(test)]
mod tests;
