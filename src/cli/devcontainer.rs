//! `devcontainer import`: a template of a devcontainer.json.

use super::args::{ApplyArgs, DevcontainerArgs, DevcontainerCommand, DevcontainerImportArgs, DryRun, Globals};
use super::connect::connect;
use super::failure::Failure;
use super::manifest::position::Source;
use super::manifest::{self, Document};
use super::output::yaml;
use super::{apply, library, target, ui};
use crate::devcontainer::{self, Imported};
use crate::resource::names::dns_label;
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes that are read; what is read says itself what is too much.
const MOST_BYTES: u64 = 2 << 20;
/// Where a repository has it.
const USUAL: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];

/// Runs `devcontainer`.
///
/// # Errors
/// When the file cannot be read, no template can be made of it, or the API refuses it.
pub async fn run(globals: &Globals, args: DevcontainerArgs) -> Result<(), Failure> {
    let DevcontainerCommand::Import(args) = args.command;
    dns_label(&args.name).map_err(|allowed| Failure::usage(format!("--name {}: {allowed}", args.name)))?;
    let path = find(&args.path)?;
    let imported = read(&path)?;
    for note in &imported.notes {
        ui::note(&ui::clean(&format!("{}: {}", note.field, note.why)));
    }
    let text = written(&args.name, &imported)?;
    if args.output.is_some() {
        return ui::say(&text);
    }
    let (template, complaints) = manifest::parse(&Arc::new(Source { name: path.display().to_string(), text }));
    if !complaints.is_empty() {
        return Err(complaints.into());
    }
    let mut documents = companions(globals, &args, &imported).await?;
    documents.extend(template);
    apply::these(globals, &ApplyArgs::of_read(args.dry_run, args.force_conflicts), &documents).await
}

fn find(path: &Path) -> Result<PathBuf, Failure> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let places = USUAL.iter().map(|usual| path.join(usual)).chain([path.join("devcontainer.json")]);
    places.into_iter().find(|p| p.is_file()).ok_or_else(|| {
        Failure::new(format!("there is no {} in {}", USUAL.join(" or "), path.display())).hint("give the file's own path")
    })
}

fn read(path: &Path) -> Result<Imported, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("{} cannot be read: {e}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path).map_err(failed)?.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
    let refused = |r: devcontainer::Refusal| Failure::new(format!("{}: {}", path.display(), r.message)).hint(r.mend);
    devcontainer::import(&devcontainer::read(&text).map_err(refused)?).map_err(refused)
}

fn written(name: &str, imported: &Imported) -> Result<String, Failure> {
    let mut spec = serde_json::to_value(&imported.template)?;
    // What says nothing is left out of what people are to read.
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| value.as_object().is_none_or(|o| !o.is_empty()));
    }
    yaml(&json!({"apiVersion": "devsanctum.io/v1", "kind": "Template", "metadata": {"name": name}, "spec": spec}))
}

/// The library's features that the template has and the server has not: one that is there is left as it is.
async fn companions(globals: &Globals, args: &DevcontainerImportArgs, imported: &Imported) -> Result<Vec<Document>, Failure> {
    let names: Vec<String> = imported.template.features.iter().map(|f| f.name.clone()).collect();
    let all = library::built_in(&names).await?;
    if args.dry_run == DryRun::Client || all.is_empty() {
        return Ok(all);
    }
    let (context, def) = (connect(globals).await?, target::kind("feature")?);
    let mut missing = Vec::new();
    for document in all {
        if context.get(def, None, &document.name).await?.is_none() {
            missing.push(document);
        }
    }
    Ok(missing)
}
