//! `backup` and `restore`: all that the database holds, into a file and back.

use super::state_dir::KEY_FILE;
use super::{StateDir, database_url, secret_keys};
use crate::access::Identity;
use crate::api::streams::NoStreams;
use crate::api::{ApiConfig, ApiState, NoObserver, client, router};
use crate::audit::Entry;
use crate::cli::{Globals, state_dir};
use crate::clock::{Clock, SystemClock};
use crate::resource::{SETTINGS_NAME, SYSTEM_NAMESPACE, Settings, Workspace, labels};
use crate::store::{self, BackupInfo, Checked, SecretKeys, Store, StoreConfig, StoreError, file_url};
use clap::Parser;
use futures::future::BoxFuture;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Where a restore unpacks the backup, in the state folder.
const SCRATCH: &str = "restoring";

/// Write all records to a file, whether or not the control plane runs
#[derive(Debug, Parser)]
#[command(
    name = "devsanctum backup",
    after_help = "The file does not hold secret.key of the state folder (or DEVSANCTUM_SECRET_KEYS), without which nothing can be \
                  restored: keep a copy of it in another place. Workspaces' files are not in it either: they are volumes of \
                  their Docker hosts."
)]
struct BackupArgs {
    /// File to write; it must not be there yet
    file: PathBuf,
    /// Database to read, as given to `serve` [default: the file in the state folder]
    #[arg(long, env = "DEVSANCTUM_DATABASE", hide_env_values = true)]
    database: Option<String>,
}

/// Put a backup's records into an empty database; the control plane must not run
#[derive(Debug, Parser)]
#[command(
    name = "devsanctum restore",
    after_help = "The state folder must hold the secret.key that was there when the backup was made (or DEVSANCTUM_SECRET_KEYS \
                  those keys); newer keys may come before it, one a line. What the backup does not know on Docker hosts is left alone after the next start, until somebody allows its removal."
)]
struct RestoreArgs {
    /// File that `devsanctum backup` has written
    file: PathBuf,
    /// Database to fill, as given to `serve` [default: the file in the state folder]
    #[arg(long, env = "DEVSANCTUM_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Lose the records that are there, and have the backup's in their place
    #[arg(long)]
    replace: bool,
}

/// Makes a backup.
pub fn backup(globals: Globals, args: Vec<OsString>) -> BoxFuture<'static, ExitCode> {
    Box::pin(async move {
        let args = BackupArgs::parse_from(std::iter::once(OsString::from("backup")).chain(args));
        super::up::finish(write(&globals, &args).await)
    })
}

/// Restores one.
pub fn restore(globals: Globals, args: Vec<OsString>) -> BoxFuture<'static, ExitCode> {
    Box::pin(async move {
        let args = RestoreArgs::parse_from(std::iter::once(OsString::from("restore")).chain(args));
        super::up::finish(put_back(&globals, &args).await)
    })
}

async fn write(globals: &Globals, args: &BackupArgs) -> Result<String, String> {
    let state = std::path::absolute(state_dir(globals)).map_err(|e| e.to_string())?;
    let url = database_url(args.database.as_ref(), &state);
    let info = store::backup(&url, &args.file).await.map_err(|e| e.to_string())?;
    let key = state.join("secret.key");
    Ok(format!(
        "{} holds {} (schema {}, revision {})\nkeep beside it, in another place: {} (without it nothing can be restored)",
        args.file.display(),
        counted(info.records, "record"),
        info.schema,
        info.revision,
        key.display()
    ))
}

async fn put_back(globals: &Globals, args: &RestoreArgs) -> Result<String, String> {
    let state = super::up::open(globals)?;
    let (url, secret_keys) = (database_url(args.database.as_ref(), state.path()), secret_keys::of_process(&state)?);
    if secret_keys.ids().is_empty() {
        return Err(format!(
            "{} is not there: put the secret.key there that was beside the installation when the backup was made; without it \
             its secrets cannot be opened",
            state.file(KEY_FILE).display()
        ));
    }
    let _owned = state.own(&url)?;
    let scratch = Scratch::new(&state)?;
    let file = scratch.0.join("store.db");
    let info = store::unpack(&args.file, &file).await.map_err(|e| e.to_string())?;
    ready(&file, &secret_keys, &info).await?;
    let config = StoreConfig { url, secret_keys, keep_changes: super::KEEP_CHANGES };
    let checked = store::replace(&file, &config, args.replace, note(&info)).await.map_err(|e| e.to_string())?;
    Ok(summary(&info, &checked))
}

/// What the audit log says of a restore. Who may read the state folder is known to the machine alone.
fn note(info: &BackupInfo) -> Entry {
    Entry {
        at: SystemClock.now().as_millisecond(),
        actor: std::env::var("USER").unwrap_or_default(),
        how: "command-line".into(),
        verb: "restore".into(),
        kind: "Backup".into(),
        name: info.at.clone(),
        code: 200,
        reason: format!("the backup of installation {}, revision {}", info.instance, info.revision),
        ..Entry::default()
    }
}

/// Opens the unpacked backup as a store, which migrates it and tries the key, and marks it as restored: from its first
/// moment on the control plane knows that there may be more on its hosts than the records say.
async fn ready(file: &Path, keys: &SecretKeys, info: &BackupInfo) -> Result<(), String> {
    let url = file_url(file);
    let opened = Store::open(&StoreConfig { url, secret_keys: keys.clone(), keep_changes: super::KEEP_CHANGES }).await;
    let store = opened.map_err(|e| match e {
        StoreError::KeyMissing { wanted, .. } => format!(
            "{} does not hold the key{} that the backup's secrets are sealed with: put the secret.key there that was beside the \
             installation {} when the backup was made ({}), as a line of its own",
            keys.source(),
            if wanted.is_empty() { String::new() } else { format!(" {}", wanted.join(", ")) },
            info.instance,
            info.at
        ),
        other => other.to_string(),
    })?;
    let marked = mark(&store, &info.at).await;
    let signed_out = store.forget_sign_ins().await.map_err(|e| e.to_string());
    store.close().await;
    signed_out?;
    marked.map_err(|e| format!("the backup cannot be marked as restored: {e}"))
}

async fn mark(store: &Store, at: &str) -> Result<(), kube::Error> {
    let api = ApiState::new(ApiConfig {
        store: store.clone(),
        streams: Arc::new(NoStreams),
        health: Arc::new(NoObserver),
        observer: Arc::new(NoObserver),
        clock: SystemClock::shared(),
        shutdown: CancellationToken::new(),
    });
    let client = client(router(api), Identity::system("devsanctum"));
    let settings = Api::<Settings>::all(client.clone());
    let body = json!({
        "apiVersion": "devsanctum.io/v1", "kind": "Settings",
        "metadata": {"name": SETTINGS_NAME, "annotations": {labels::RESTORED: at}}, "spec": {},
    });
    let params = PatchParams::apply("devsanctum-restore").force();
    settings.patch(SETTINGS_NAME, &params, &Patch::Apply(body)).await?;
    forget_warm(&client).await
}

/// A warm environment may be somebody's since the backup was made: none is given to anybody, or removed, by what the backup
/// says of it. What there is of them on servers is unknown to the records then, and held like all that is.
async fn forget_warm(client: &kube::Client) -> Result<(), kube::Error> {
    let api = Api::<Workspace>::namespaced(client.clone(), SYSTEM_NAMESPACE);
    for warm in api.list(&ListParams::default()).await? {
        let name = warm.name_any();
        api.delete(&name, &DeleteParams::default()).await?;
        let body = json!({"metadata": {"finalizers": null}});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await {
            Err(kube::Error::Api(s)) if s.code == 404 => {}
            done => drop(done?),
        }
    }
    Ok(())
}

/// A folder of a restore's own; gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(state: &StateDir) -> Result<Self, String> {
        let path = state.file(SCRATCH);
        // One that was cut off has left its own; the lock is ours, so nobody uses it.
        let _ = std::fs::remove_dir_all(&path);
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn summary(info: &BackupInfo, checked: &Checked) -> String {
    let kind = |(kind, n): (&String, &u64)| format!("{n} {}", kind.split('.').next().unwrap_or(kind));
    let kinds: Vec<String> = checked.records.iter().map(kind).collect();
    format!(
        "restored the backup of {} (DevSanctum {}, installation {}, revision {}): {}\nchecked: every table agrees with the others, and \
         every secret opens\nWhat the backup does not know on Docker hosts is left alone until you allow its removal; `devsanctum \
         doctor` tells how.",
        info.at,
        info.program,
        info.instance,
        info.revision,
        kinds.join(", ")
    )
}

fn counted(n: i64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
