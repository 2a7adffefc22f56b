//! `edit`: a record in the person's own editor; what the API refuses comes back as a comment on top.

use super::args::EditArgs;
use super::connect::Context;
use super::failure::Failure;
use super::manifest::position::{Complaint, Source};
use super::manifest::{self, Document};
use super::output::{tidy, yaml};
use super::target::{record, title};
use super::ui;
use crate::resource::KindDef;
use serde_json::{Map, Value};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Our name among the managers of a record's fields, as kubectl has `kubectl-edit`.
const MANAGER: &str = "devsanctum-edit";
const HEAD: &str = "# Save to send the changes; leave the file as it is, or empty it, to change nothing.\n";

/// Runs `edit`.
///
/// # Errors
/// When the record does not exist, the editor fails, the API is not reached, or the same text is refused twice.
pub async fn run(context: &Context, args: EditArgs) -> Result<(), Failure> {
    let (def, name) = record(&args.what)?;
    let namespace = context.scope(false);
    let Some(mut object) = context.get(def, namespace, &name).await? else {
        return Err(Failure::new(format!("{} \"{name}\" does not exist", def.plural)));
    };
    tidy(&mut object);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let file = Draft::new(def, &name)?;
    let original = yaml(&object)?;
    let (mut text, mut trouble) = (original.clone(), String::new());
    loop {
        file.write(&format!("{HEAD}{trouble}{text}"))?;
        let edited = without_comments_on_top(&open(&file.0)?);
        if edited.trim().is_empty() || edited.trim_end() == original.trim_end() {
            ui::note("Edit cancelled, no changes made.");
            return Ok(());
        }
        if !trouble.is_empty() && edited == text {
            let kept = file.keep();
            return Err(Failure::new(format!("the same text was refused again; it is kept in {}", kept.display())));
        }
        text = edited;
        match send(context, def, &name, &object, &text).await {
            Ok(Ok(())) => return ui::say(&format!("{} edited", title(def, &name))),
            Ok(Err(why)) => trouble = why.lines().map(|line| format!("# {line}\n")).collect(),
            Err(failure) => {
                let message = format!("{}; the edited text is kept in {}", failure.message, file.keep().display());
                return Err(Failure { message, ..failure });
            }
        }
    }
}

/// Sends what was changed, as kubectl does: a patch of the differences, so that other people's changes to
/// other fields meanwhile are kept. The inner error is for the person to mend.
async fn send(context: &Context, def: &KindDef, name: &str, before: &Value, text: &str) -> Result<Result<(), String>, Failure> {
    let after = match read(text) {
        Ok(after) => after,
        Err(complaints) => return Ok(Err(complaints.iter().map(Complaint::render).collect::<Vec<_>>().join("\n"))),
    };
    let mut patch = difference(before, &after.value);
    if after.name != name || !std::ptr::eq(after.def, def) || patch.pointer("/metadata/namespace").is_some() {
        return Ok(Err("apiVersion, kind, metadata.name and metadata.namespace cannot be changed".into()));
    }
    if let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    match context.merge(def, context.scope(false), name, &patch, MANAGER).await? {
        Ok(_) => Ok(Ok(())),
        Err(kube::Error::Api(status)) if status.code != 401 && status.code != 404 => Ok(Err(refused(&after, &status))),
        Err(e) => Err(e.into()),
    }
}

fn read(text: &str) -> Result<Document, Vec<Complaint>> {
    let source = Arc::new(Source { name: "the edited text".into(), text: text.to_owned() });
    let (mut documents, complaints) = manifest::parse(&source);
    match documents.pop() {
        Some(document) if documents.is_empty() && complaints.is_empty() => Ok(document),
        _ if !complaints.is_empty() => Err(complaints),
        _ => Err(vec![Complaint::file("the edited text", "must be exactly one record")]),
    }
}

fn refused(document: &Document, status: &kube::core::Status) -> String {
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    let fields = causes.iter().filter(|c| !c.field.is_empty());
    let lines: Vec<String> =
        fields.map(|c| document.complaint(&c.field, format!("{}: {}", c.field, c.message)).render()).collect();
    if lines.is_empty() { status.message.clone() } else { lines.join("\n") }
}

/// A merge patch that makes `to` out of `from`.
fn difference(from: &Value, to: &Value) -> Value {
    let (Some(old), Some(new)) = (from.as_object(), to.as_object()) else { return to.clone() };
    let mut patch = Map::new();
    for key in old.keys().filter(|k| !new.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(same) if same == value => {}
            Some(before @ Value::Object(_)) if value.is_object() => drop(patch.insert(key.clone(), difference(before, value))),
            _ => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

fn without_comments_on_top(text: &str) -> String {
    text.lines().skip_while(|line| line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n")
}

/// Opens the editor and waits for its end.
fn open(path: &Path) -> Result<String, Failure> {
    let named = |key: &str| std::env::var(key).ok().filter(|v| !v.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".into());
    // Through the shell, as git does: the variable may hold flags.
    let status = std::process::Command::new("sh").args(["-c", &format!("{editor} \"$1\""), &editor]).arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(std::fs::read_to_string(path)?),
        Ok(status) => Err(Failure::new(format!("the editor '{editor}' failed ({status})")).hint("set EDITOR to another one")),
        Err(e) => Err(Failure::new(format!("the editor '{editor}' could not be started: {e}")).hint("set EDITOR to another one")),
    }
}

/// The text being edited: readable by this person alone, gone when done.
struct Draft(PathBuf);

impl Draft {
    fn new(def: &KindDef, name: &str) -> Result<Self, Failure> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|e| Failure::new(format!("no random bytes: {e}")))?;
        let unique = format!("devsanctum-{}-{name}-{:016x}.yaml", def.singular, u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(unique);
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(&self.0)?;
        Ok(file.write_all(text.as_bytes())?)
    }

    /// Leaves the file where it is.
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Nothing hangs on it: the folder is the system's for temporary files.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_holds_the_differences_alone() {
        let from = json!({"a": 1, "b": {"c": [1, 2], "d": 2}, "gone": {}, "e": {"f": 1}});
        let to = json!({"a": 1, "b": {"c": [2], "d": 2}, "new": {"x": 1}, "e": 3});
        let patch = difference(&from, &to);
        assert_eq!(patch, json!({"b": {"c": [2]}, "gone": null, "new": {"x": 1}, "e": 3}));
        let mut merged = from;
        json_patch::merge(&mut merged, &patch);
        assert_eq!(merged, to);
    }

    #[test]
    fn comments_on_top_are_ours_and_others_are_the_persons() {
        assert_eq!(without_comments_on_top("# x\n# y\na: 1\n# z\n"), "a: 1\n# z\n");
    }

    #[test]
    fn a_draft_is_private_and_goes() {
        use std::os::unix::fs::PermissionsExt;
        let draft = Draft::new(crate::resource::kind("Workspace").unwrap(), "web").unwrap();
        let path = draft.0.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(draft);
        assert!(!path.exists());
    }
}
