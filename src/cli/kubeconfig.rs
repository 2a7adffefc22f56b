//! `kubeconfig`: the way in for kubectl. The one command that prints a token, because it is asked to.

use super::args::{Globals, KubeconfigArgs};
use super::connect::{KUBECONFIG, state_dir};
use super::failure::Failure;
use super::output::yaml;
use super::ui;
use base64::Engine;
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of our cluster, user and context in a kubeconfig.
const NAME: &str = "devsanctum";

/// Runs `kubeconfig`.
///
/// # Errors
/// When the state folder holds none, or the file to merge into is not usable.
pub fn run(globals: &Globals, args: &KubeconfigArgs) -> Result<(), Failure> {
    let ours = ours(globals)?;
    if !args.merge {
        return ui::say(&yaml(&ours)?);
    }
    let path = personal()?;
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(e) => return Err(Failure::new(format!("{} cannot be read: {e}", path.display()))),
    };
    let merged = merge(before, &ours).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
    replace(&path, &yaml(&merged)?)?;
    ui::say(&format!("context \"{NAME}\" written to {} and made the current one", path.display()))
}

fn parse(path: &Path, text: &str) -> Result<Value, Failure> {
    serde_saphyr::from_str(text).map_err(|e| Failure::new(format!("{} is not a kubeconfig: {e}", path.display())))
}

/// The first file of `$KUBECONFIG`, else `~/.kube/config`.
fn personal() -> Result<PathBuf, Failure> {
    let listed = std::env::var_os("KUBECONFIG").and_then(|v| std::env::split_paths(&v).find(|p| !p.as_os_str().is_empty()));
    let home = || std::env::home_dir().map(|h| h.join(".kube/config"));
    listed.or_else(home).ok_or_else(|| Failure::new("there is no home folder; name the file in KUBECONFIG"))
}

/// The server's own kubeconfig under our name, with the flags over it and all files taken in.
fn ours(globals: &Globals) -> Result<Value, Failure> {
    let path = state_dir(globals).join(KUBECONFIG);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Failure::new(format!("{} cannot be read: {e}", path.display()))
            .hint("start the control plane with `devsanctum up`; run this as the same person")
    })?;
    let whole = parse(&path, &text)?;
    let (mut cluster, mut user) = (whole["clusters"][0]["cluster"].clone(), whole["users"][0]["user"].clone());
    if !cluster["server"].is_string() {
        return Err(Failure::new(format!("{} names no server", path.display())));
    }
    if let Some(server) = &globals.server {
        cluster["server"] = json!(server);
    }
    let authority = globals.ca_file.clone().or_else(|| cluster["certificate-authority"].as_str().map(PathBuf::from));
    if let Some(file) = authority {
        let pem = std::fs::read(&file).map_err(|e| Failure::new(format!("{} cannot be read: {e}", file.display())))?;
        cluster["certificate-authority-data"] = json!(base64::engine::general_purpose::STANDARD.encode(pem));
        cluster.as_object_mut().map(|c| c.remove("certificate-authority"));
    }
    let token = globals.token_file.clone().or_else(|| user["tokenFile"].as_str().map(PathBuf::from));
    if let Some(file) = token {
        let token =
            std::fs::read_to_string(&file).map_err(|e| Failure::new(format!("{} cannot be read: {e}", file.display())))?;
        user = json!({"token": token.trim()});
    }
    let namespace =
        globals.namespace.clone().or_else(|| whole["contexts"][0]["context"]["namespace"].as_str().map(str::to_owned));
    Ok(shaped(&cluster, &user, namespace))
}

/// A kubeconfig of one cluster and user, under our name.
pub(super) fn shaped(cluster: &Value, user: &Value, namespace: Option<String>) -> Value {
    let mut context = json!({"cluster": NAME, "user": NAME});
    if let Some(namespace) = namespace {
        context["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": user}],
        "contexts": [{"name": NAME, "context": context}],
        "current-context": NAME,
    })
}

/// Puts our entries in place of those of the same name; everything else stays.
fn merge(before: Value, ours: &Value) -> Result<Value, String> {
    let mut merged = match before {
        Value::Null => return Ok(ours.clone()),
        Value::Object(fields) => Value::Object(fields),
        _ => return Err("is not a kubeconfig: a map was expected".into()),
    };
    for list in ["clusters", "users", "contexts"] {
        let entries = &mut merged[list];
        if entries.is_null() {
            *entries = json!([]);
        }
        let entries = entries.as_array_mut().ok_or_else(|| format!("is not a kubeconfig: {list} must be a list"))?;
        entries.retain(|e| e["name"] != NAME);
        entries.extend(ours[list].as_array().into_iter().flatten().cloned());
    }
    for field in ["apiVersion", "kind", "current-context"] {
        merged[field] = ours[field].clone();
    }
    Ok(merged)
}

/// Writes a file whole or not at all, for this person's eyes only.
///
/// # Errors
/// When it cannot be written.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("{} cannot be written: {e}", path.display()));
    // A link keeps pointing where it does: what it points at is replaced.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let draft = path.with_extension(format!("devsanctum-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&draft);
        failed(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn entry(server: &str) -> Value {
        shaped(&json!({"server": server}), &json!({"token": "t"}), None)
    }

    #[test]
    fn other_clusters_stay_and_ours_is_replaced() {
        let before = json!({"apiVersion": "v1", "kind": "Config", "preferences": {"colors": true}, "current-context": "work",
            "clusters": [{"name": "work", "cluster": {"server": "https://w"}}, {"name": NAME, "cluster": {"server": "https://old"}}],
            "users": null, "contexts": [{"name": "work", "context": {"cluster": "work", "user": "w"}}]});
        let merged = merge(before, &entry("https://new")).unwrap();
        assert_eq!(merged["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://new");
        assert_eq!(merged["users"][0]["name"], NAME);
        assert_eq!((&merged["contexts"][0]["name"], &merged["current-context"]), (&json!("work"), &json!(NAME)));
        assert_eq!(merged["preferences"]["colors"], true);
        assert_eq!(merge(merged.clone(), &entry("https://new")).unwrap(), merged, "a second merge changes nothing");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        assert!(merge(json!([1]), &entry("https://x")).is_err());
        assert!(merge(json!({"users": "x"}), &entry("https://x")).is_err());
        assert_eq!(merge(Value::Null, &entry("https://x")).unwrap(), entry("https://x"));
    }

    #[test]
    fn the_file_written_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/config");
        replace(&path, "a: 1\n").unwrap();
        replace(&path, "a: 2\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a: 2\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
