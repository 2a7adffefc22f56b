//! Folders: where work is done, and what is kept.

use super::text::{label, plain};
use super::{Draft, Fields};
use crate::resource::common::{Folder, FolderMode};
use crate::resource::names;
use serde_json::Value;

/// Where work is done when nothing else is said.
pub(super) const WORKDIR: &str = "/workspace";

/// The folder that repositories are cloned into, kept on a volume that the user owns.
pub(super) fn workdir(fields: &Fields, draft: &mut Draft) {
    let path = match fields.get("workspaceFolder") {
        None => WORKDIR.to_owned(),
        Some(Value::String(text)) => above(text).unwrap_or_else(|why| {
            draft.note("workspaceFolder", format!("{text:?} is not mapped ({why}): it is {WORKDIR} here"));
            WORKDIR.to_owned()
        }),
        Some(_) => {
            draft.note("workspaceFolder", "must be a text");
            WORKDIR.to_owned()
        }
    };
    let owner = draft.template.user.as_ref().map(|user| format!(" && chown {user}: {path}")).unwrap_or_default();
    draft.instructions.push(format!("RUN mkdir -p {path}{owner}"));
    draft.template.folders.push(Folder { name: "workspace".into(), path: path.clone(), mode: FolderMode::Persistent });
    draft.template.workdir = Some(path);
}

/// A folder named after the repository is below ours: there it is cloned.
fn above(text: &str) -> Result<String, String> {
    let text = text.strip_suffix("/${localWorkspaceFolderBasename}").unwrap_or(text);
    let path = plain(text, "").map_err(|variable| format!("{variable} has no value here"))?;
    let path = path.trim_end_matches('/');
    names::folder_path(path).map(|()| path.to_owned())
}

/// Volumes are folders; what lies on the developer's machine is not here.
pub(super) fn mounts(fields: &Fields, draft: &mut Draft) {
    let Some(mounts) = fields.get("mounts") else { return };
    let Some(mounts) = mounts.as_array() else { return draft.note("mounts", "must be a list") };
    for (i, mount) in mounts.iter().enumerate() {
        let at = format!("mounts[{i}]");
        match folder(mount, draft.workdir()) {
            Ok(folder) if draft.template.folders.iter().any(|f| f.name == folder.name || f.path == folder.path) => {
                draft.note(at, format!("the folder {:?} at {} is there already", folder.name, folder.path));
            }
            Ok(folder) => {
                let owner = draft.template.user.as_ref().map(|user| format!(" && chown {user}: {}", folder.path));
                draft.instructions.push(format!("RUN mkdir -p {}{}", folder.path, owner.unwrap_or_default()));
                draft.template.folders.push(folder);
            }
            Err(why) => draft.note(at, why),
        }
    }
}

fn folder(mount: &Value, workdir: &str) -> Result<Folder, String> {
    let part = |names: [&str; 2]| match mount {
        Value::String(text) => {
            let mut parts = text.split(',').filter_map(|part| part.split_once('='));
            parts.find(|(key, _)| names.contains(&key.trim())).map(|(_, value)| value.trim().to_owned())
        }
        other => names.iter().find_map(|name| other.get(name)?.as_str()).map(str::to_owned),
    };
    if part(["type", "type"]).as_deref() != Some("volume") {
        return Err(
            "is not a volume: no folder of a developer's machine is here; have it in the repository, or in 'folders'".into()
        );
    }
    let target = part(["target", "dst"]).ok_or("has no target")?;
    let path = plain(&target, workdir).map_err(|variable| format!("{variable} has no value here: add it to 'folders'"))?;
    names::folder_path(&path).map_err(|allowed| format!("its target {path:?} {allowed}"))?;
    let named = part(["source", "src"]).and_then(|source| plain(&source, workdir).ok()).and_then(|source| label(&source, 40));
    let name = named.or_else(|| label(&path, 40)).ok_or("has no name")?;
    Ok(Folder { name, path, mode: FolderMode::Persistent })
}
