//! Features of devcontainers, as far as the library has what they bring.

use super::{Draft, Fields};
use crate::resource::common::FeatureUse;
use serde_json::Value;
use std::collections::BTreeMap;

/// Features by their ids without a version, what they are in the library, and the port that one brings.
pub const SAME: [(&str, &str, Option<u16>); 6] = [
    ("ghcr.io/devcontainers/features/common-utils", "shell-tools", None),
    ("ghcr.io/devcontainers/features/git", "shell-tools", None),
    ("ghcr.io/devcontainers/features/git-lfs", "shell-tools", None),
    ("ghcr.io/coder/devcontainer-features/code-server", "code-server", Some(8443)),
    ("ghcr.io/itsmechlark/features/postgresql", "postgresql", Some(5432)),
    ("ghcr.io/itsmechlark/features/redis-server", "redis", Some(6379)),
];
/// Where the official ones are.
const OFFICIAL: &str = "ghcr.io/devcontainers/features/";

/// Maps features.
pub(super) fn features(fields: &Fields, draft: &mut Draft) {
    let all = match fields.get("features") {
        None => return,
        Some(Value::Object(all)) => all,
        Some(_) => return draft.note("features", "must be an object"),
    };
    for (id, options) in all {
        let at = format!("features.{id}");
        let bare = without_version(id);
        let Some((_, name, port)) = SAME.iter().find(|(theirs, ..)| *theirs == bare) else {
            draft.note(at, why_not(bare));
            continue;
        };
        if draft.template.features.iter().all(|f| f.name != *name) {
            draft.template.features.push(FeatureUse { name: (*name).to_owned(), options: BTreeMap::new() });
        }
        // Two of a number would be one too many.
        draft.template.ports.retain(|p| Some(p.port) != *port);
        let some = match options {
            Value::Object(options) => !options.is_empty(),
            Value::Null | Value::Bool(_) => false,
            _ => true,
        };
        if some {
            draft
                .note(at, format!("is the library's {name}, which has options of its own: see `devsanctum library show {name}`"));
        }
    }
}

/// An id without `:1` or `@sha256:…` at its end; the port of a registry is not one.
fn without_version(id: &str) -> &str {
    let id = id.split('@').next().unwrap_or(id);
    match id.rsplit_once(':') {
        Some((bare, version)) if !version.contains('/') => bare,
        _ => id,
    }
}

fn why_not(id: &str) -> String {
    match id.strip_prefix(OFFICIAL) {
        Some("docker-outside-of-docker" | "docker-in-docker" | "docker-from-docker") => {
            "is not mapped: no engine runs in a workspace, and the host's is out of reach; the library's docker-cli is a client \
             for one elsewhere"
                .into()
        }
        Some(language @ ("node" | "python" | "rust" | "go" | "java" | "php")) => format!(
            "is not mapped: a language is a matter of the image; take one that has it, as the library's template {language} \
             does, or install it in 'packages'"
        ),
        Some("sshd") => "is not needed: `devsanctum ssh` reaches every workspace".into(),
        _ => "is not mapped: the library has nothing of the kind; add what it installs to 'packages' or 'dockerfile'".into(),
    }
}
