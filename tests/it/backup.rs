//! `devsanctum backup` and `restore`, as they are typed.

use crate::support::api::{Api, GROUP};
use crate::support::{devsanctum, open_to_others};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use devsanctum::app::StateDir;
use devsanctum::store::{SecretKey, Store, StoreConfig};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

/// An installation that does not run.
struct Installation {
    dir: tempfile::TempDir,
    state: StateDir,
}

impl Installation {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        Self { dir, state }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn api(&self) -> Api {
        let url = format!("sqlite://{}", self.state.file("db/devsanctum.db").display());
        let secret_keys = self.state.secret_keys().unwrap();
        Api::on(Store::open(&StoreConfig { url, secret_keys, keep_changes: 1000 }).await.unwrap()).await
    }

    fn run(&self, words: &[&str]) -> Output {
        devsanctum().arg("--state-dir").arg(self.state.path()).args(words).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert_eq!(done.status.code(), Some(1), "{words:?}: {done:?}");
        String::from_utf8(done.stderr).unwrap()
    }

    /// Gives it the key of another.
    fn with_key_of(self, other: &Self) -> Self {
        std::fs::copy(other.state.file("secret.key"), self.state.file("secret.key")).unwrap();
        self
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret", "metadata": {"name": name}, "spec": {"data": {"token": "hunter2"}}})
}

/// An installation with a project and a secret, and its backup.
async fn backed_up() -> (Installation, PathBuf) {
    let it = Installation::new();
    let api = it.api().await;
    api.project().await;
    api.create(&format!("{GROUP}/namespaces/team/secrets"), &secret("git")).await;
    let file = it.file("backup");
    // The store is in use meanwhile.
    let told = it.ok(&["backup", text(&file)]);
    assert!(told.contains("7 records") && told.contains(text(&it.state.file("secret.key"))), "{told}");
    api.store.close().await;
    (it, file)
}

#[tokio::test]
async fn a_backup_holds_no_key_and_restores_into_an_empty_folder_that_has_it() {
    let (it, file) = backed_up().await;
    assert_eq!(open_to_others(&file), Vec::<String>::new());
    let bytes = std::fs::read(&file).unwrap();
    let key = std::fs::read_to_string(it.state.file("secret.key")).unwrap();
    for secret in [key.trim(), "hunter2"] {
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
    }
    assert!(it.refused(&["backup", text(&file)]).contains("is there already"));

    let other = Installation::new();
    let words = other.refused(&["restore", text(&file)]);
    assert!(words.contains(text(&other.state.file("secret.key"))) && words.contains("is not there"), "{words}");
    assert!(!other.state.file("secret.key").exists(), "a key made here would be the wrong one");
    let unlike = SecretKey::random().unwrap();
    std::fs::write(other.state.file("secret.key"), STANDARD.encode(unlike.0)).unwrap();
    let words = other.refused(&["restore", text(&file)]);
    let wanted = it.state.secret_keys().unwrap().ids().remove(0);
    assert!(words.contains(&format!("does not hold the key {wanted}")), "{words}");
    assert!(!other.state.file("db/devsanctum.db").exists());

    let other = other.with_key_of(&it);
    let told = other.ok(&["restore", text(&file)]);
    for part in ["1 projects", "1 secrets", "checked", "left alone"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(open_to_others(other.state.path()), Vec::<String>::new());
    assert!(!other.state.file("restoring").exists());
    let api = other.api().await;
    let (_, settings) = api.get(&format!("{GROUP}/settings/default")).await;
    assert!(settings["metadata"]["annotations"]["devsanctum.io/restored"].is_string(), "{settings}");
    let (_, git) = api.get(&format!("{GROUP}/namespaces/team/secrets/git")).await;
    let value = api.store.secret_value(git["metadata"]["uid"].as_str().unwrap(), "token").await.unwrap();
    assert_eq!(value.unwrap(), b"hunter2");
}

#[tokio::test]
async fn a_restore_over_records_or_under_a_running_control_plane_is_refused() {
    let (it, file) = backed_up().await;
    let words = it.refused(&["restore", text(&file)]);
    assert!(words.contains("holds 7 records") && words.contains("--replace"), "{words}");
    let lock = it.state.lock().unwrap();
    assert!(it.refused(&["restore", text(&file), "--replace"]).contains("another control plane runs"));
    drop(lock);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(15).position(|w| w == b"ada@example.com").unwrap();
    bytes[at] = b'e';
    let damaged = it.file("damaged");
    std::fs::write(&damaged, bytes).unwrap();
    let words = it.refused(&["restore", text(&damaged), "--replace"]);
    assert!(words.contains(text(&damaged)) && words.contains("is damaged"), "{words}");

    let api = it.api().await;
    api.create(&format!("{GROUP}/namespaces/team/secrets"), &secret("later")).await;
    api.store.close().await;
    it.ok(&["restore", text(&file), "--replace"]);
    let api = it.api().await;
    assert_eq!(api.get(&format!("{GROUP}/namespaces/team/secrets/later")).await.0, 404);
    assert_eq!(api.get(&format!("{GROUP}/namespaces/team/secrets/git")).await.0, 200);
}

#[tokio::test]
async fn a_restore_killed_at_any_moment_leaves_the_old_records_or_the_new() {
    let (it, file) = backed_up().await;
    let api = it.api().await;
    for i in 0..300 {
        api.create(&format!("{GROUP}/namespaces/team/secrets"), &secret(&format!("later-{i}"))).await;
    }
    api.store.close().await;
    let newer = it.file("newer");
    it.ok(&["backup", text(&newer)]);
    let begun = Instant::now();
    it.ok(&["restore", text(&newer), "--replace"]);
    let whole = begun.elapsed();
    let mut came = [0, 0];
    for turn in 0..20u32 {
        // To and fro between the two backups.
        let from = if turn % 2 == 0 { &file } else { &newer };
        let mut child = devsanctum();
        child.arg("--state-dir").arg(it.state.path()).args(["restore", text(from), "--replace"]);
        child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = child.spawn().unwrap();
        tokio::time::sleep(whole.mul_f64(f64::from(turn + 1) / 10.0)).await;
        let _ = child.kill();
        child.wait().unwrap();
        let api = it.api().await;
        let checked = api.store.check().await.unwrap();
        assert_eq!(checked.findings, Vec::<String>::new());
        let secrets = checked.records["secrets.devsanctum.io"];
        assert!(secrets == 1 || secrets == 301, "{secrets}");
        came[usize::from(secrets == 301)] += 1;
        api.store.close().await;
    }
    println!("{whole:?} for a whole one; after 20 kills {} times the small one, {} times the large one", came[0], came[1]);
    assert!(came[0] > 0 && came[1] > 0, "all were killed too early, or too late");
    it.ok(&["restore", text(&file), "--replace"]);
    assert!(!it.state.file("restoring").exists(), "what a killed one has left is cleared away by the next");
}
