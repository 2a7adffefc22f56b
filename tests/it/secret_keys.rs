//! The keys that secrets are sealed with, as they are given to the real program, and rotated with it. No Docker is needed.

use crate::support::ports::free_address;
use crate::support::{devsanctum, open_to_others};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use devsanctum::store::{SecretKey, SecretKeys};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A state folder, and the program that serves from it.
struct Installation {
    dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Installation {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), process: None }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn command(&self, words: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = devsanctum();
        command.arg("--state-dir").arg(self.state()).args(words).envs(env.iter().copied()).stdin(Stdio::null());
        command
    }

    fn serve(&self, env: &[(&str, &str)]) -> Command {
        let web = free_address().to_string();
        // No page is asked for here, so no Traefik is needed; nothing listens at port 1.
        let words =
            ["serve", "--listen", "127.0.0.1:0", "--web", &web, "--ssh", "off", "--external-traefik", "http://127.0.0.1:1"];
        self.command(&words, env)
    }

    fn start(&mut self, env: &[(&str, &str)]) {
        let _ = std::fs::remove_file(self.state().join("kubeconfig"));
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut process = self.serve(env).env("RUST_LOG", "trace").stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let begun = Instant::now();
        while !self.run(&["status"]).status.success() {
            assert!(process.try_wait().unwrap().is_none(), "it ended: {}", self.last_words());
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not serve: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(100));
        }
        self.process = Some(process);
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(3000)..]).into_owned()
    }

    /// Does not start; why.
    #[track_caller]
    fn refused(&self, env: &[(&str, &str)]) -> String {
        let done = self.serve(env).output().unwrap();
        assert!(!done.status.success(), "{done:?}");
        String::from_utf8(done.stderr).unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words, &[]).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert!(done.status.success(), "{words:?}: {done:?}\n{}", self.last_words());
        String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap()
    }

    fn apply(&self, records: Vec<Value>) {
        let file = self.dir.path().join("apply.json");
        std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": records}).to_string()).unwrap();
        self.ok(&["apply", "-f", file.to_str().unwrap()]);
        std::fs::remove_file(file).unwrap();
    }

    fn key_file(&self) -> PathBuf {
        self.state().join("secret.key")
    }

    fn ids(&self) -> Vec<String> {
        SecretKeys::in_file(&self.key_file()).unwrap().ids()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn record(kind: &str, name: &str, spec: Value) -> Value {
    let mut record = json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    if kind == "Secret" {
        record["metadata"]["namespace"] = "team".into();
    }
    record
}

fn written(key: &SecretKey) -> String {
    STANDARD.encode(key.0)
}

#[test]
fn the_program_starts_with_the_keys_that_its_database_wants_alone() {
    let mut it = Installation::new();
    let weak = it.refused(&[("DEVSANCTUM_SECRET_KEYS", &STANDARD.encode([0; 32]))]);
    assert!(weak.contains("DEVSANCTUM_SECRET_KEYS: key 1 is one byte again and again"), "{weak}");
    let short = it.refused(&[("DEVSANCTUM_SECRET_KEYS", &STANDARD.encode([1; 16]))]);
    assert!(short.contains("has 16 bytes, not 32") && short.contains("openssl rand -base64 32"), "{short}");
    let both = it.refused(&[("DEVSANCTUM_SECRET_KEYS", "x"), ("DEVSANCTUM_SECRET_KEYS_FILE", "/nowhere")]);
    assert!(both.contains("both set"), "{both}");
    assert!(!it.key_file().exists() && !it.state().join("db").exists(), "nothing is made before that is in order");

    it.start(&[]);
    it.kill();
    let [first, file] = [it.ids().remove(0), std::fs::read_to_string(it.key_file()).unwrap()];
    assert_eq!(open_to_others(&it.state()), Vec::<String>::new());
    // Missing: none is made in its place.
    std::fs::remove_file(it.key_file()).unwrap();
    let words = it.refused(&[]);
    assert!(words.contains(&first) && words.contains("is not there") && !it.key_file().exists(), "{words}");
    // Wrong, short, weak.
    let other = SecretKey::random().unwrap();
    std::fs::write(it.key_file(), written(&other)).unwrap();
    let words = it.refused(&[]);
    assert!(words.contains(&first) && words.contains(&other.id()), "{words}");
    std::fs::write(it.key_file(), STANDARD.encode([5; 32])).unwrap();
    assert!(it.refused(&[]).contains("again and again"));
    std::fs::write(it.key_file(), &file.trim()[..20]).unwrap();
    assert!(it.refused(&[]).contains("bytes, not 32"));
    // The environment comes before the file, also where that would have been right.
    std::fs::write(it.key_file(), &file).unwrap();
    let words = it.refused(&[("DEVSANCTUM_SECRET_KEYS", &written(&other))]);
    assert!(words.contains(&first) && words.contains("the file is not read"), "{words}");
    let mounted = it.dir.path().join("mounted");
    std::fs::write(&mounted, format!("# new\n{}\n# old\n{file}", written(&other))).unwrap();
    it.start(&[("DEVSANCTUM_SECRET_KEYS_FILE", mounted.to_str().unwrap())]);
    let told = it.ok(&["secrets", "status"]);
    assert!(told.contains(mounted.to_str().unwrap()) && told.contains(&first) && told.contains(&other.id()), "{told}");
    // One that writes now cannot be dropped.
    it.kill();
    let words = it.refused(&[]);
    assert!(words.contains(&format!("want the key {}", other.id())), "{words}");
}

/// Files below a folder, but for the one that may hold keys.
fn files(folder: &Path, but: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path, but)),
            false if path != but => found.push(path),
            false => {}
        }
    }
    found
}

#[test]
fn values_and_keys_are_in_no_file_no_log_and_no_answer_while_they_are_rotated() {
    let mut it = Installation::new();
    it.start(&[]);
    let canaries: Vec<String> = (0..20).map(|i| format!("canary-{i:02}-{:016x}", getrandom::u64().unwrap())).collect();
    let mut records = vec![
        record("User", "ada", json!({"email": "ada@example.com"})),
        record("Template", "base", json!({"base": "node:20"})),
        record("Project", "team", json!({"owner": "ada", "template": "base"})),
    ];
    it.apply(records.clone());
    let secrets =
        canaries.iter().enumerate().map(|(i, canary)| record("Secret", &format!("s-{i}"), json!({"data": {"token": canary}})));
    records = secrets.collect();
    it.apply(records);
    let (before, old_file) = (it.ids(), std::fs::read_to_string(it.key_file()).unwrap());
    let mut told = it.ok(&["secrets", "rotate"]);
    assert!(told.contains("wrapped 20 of 20") && told.contains(&format!("out of the file: {}", before[0])), "{told}");
    let after = it.ids();
    assert!(after.len() == 1 && after != before);
    told += &it.ok(&["secrets", "rotate", "--keep-old"]);
    assert_eq!(it.ids().len(), 2);
    told += &it.ok(&["secrets", "status"]);
    for words in [
        &["get", "secrets", "-A", "-o", "yaml"][..],
        &["get", "secrets", "-A", "-o", "json"],
        &["describe", "secret", "s-0", "-n", "team"],
        &["events", "-A"],
        &["get", "secrets", "-n", "team", "-o", "wide"],
    ] {
        told += &it.ok(words);
    }
    assert!(told.contains("s-19"), "{told}");
    let backup = it.dir.path().join("backup");
    told += &it.ok(&["backup", backup.to_str().unwrap()]);
    let keys = old_file + &std::fs::read_to_string(it.key_file()).unwrap();
    let mut words: Vec<String> = canaries.iter().cloned().chain(keys.lines().map(str::to_owned)).collect();
    words.extend(canaries.iter().map(|c| STANDARD.encode(c)[..24].to_owned()));
    let holds = |bytes: &[u8]| words.iter().find(|word| bytes.windows(word.len()).any(|w| w == word.as_bytes())).cloned();
    assert_eq!(holds(told.as_bytes()), None, "in an answer");
    let all = files(it.dir.path(), &it.key_file());
    for name in ["log", "backup", "devsanctum.db", "devsanctum.db-wal"] {
        assert!(all.iter().any(|path| path.ends_with(name)), "{name} is not looked at: {all:?}");
    }
    for path in &all {
        assert_eq!(holds(&std::fs::read(path).unwrap()), None, "in {}", path.display());
    }
    let log = String::from_utf8(std::fs::read(it.log()).unwrap()).unwrap();
    for part in ["DEBUG", "rotating the key"] {
        assert!(log.contains(part), "the log does not say all there is to say: {part}: {}", log.len());
    }
    println!("proof: canaries looked for in {} files 20 played, 0 failed", all.len());
    // All the same after a crash.
    it.kill();
    it.start(&[]);
    assert!(it.ok(&["secrets", "status"]).contains("20"));
}
