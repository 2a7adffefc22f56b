//! The real binary, and the API behind TLS on a loopback port.

use super::api::Api;
use super::devsanctum;
use devsanctum::api::tls;
use sha2::{Digest, Sha256};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

/// The administrator's token.
pub const TOKEN: &str = "test-token-0123456789";

/// An API behind TLS, ended when dropped.
pub struct Served {
    pub api: Api,
    pub address: String,
    state: TempDir,
    server: JoinHandle<()>,
}

impl Served {
    /// Serves the API on a free port of 127.0.0.1, with a state folder as the server itself would leave it.
    pub async fn new(api: Api) -> Self {
        crate::support::crypto();
        let state = tempfile::tempdir().unwrap();
        let made = tls::load_or_create(&state.path().join("tls"), &[], None, jiff::Timestamp::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        api.store.set_token("admin", Sha256::digest(TOKEN).into()).await.unwrap();
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": address,
                "certificate-authority": state.path().join("tls/ca.crt").display().to_string()}}],
            "users": [{"name": "here", "user": {"token": TOKEN}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        });
        std::fs::write(state.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let (router, shutdown) = (api.open.clone(), api.shutdown.clone());
        let server = tokio::spawn(async move {
            tls::serve(listener, router, &made, Default::default(), async move { shutdown.cancelled().await }).await.unwrap();
        });
        Self { api, address, state, server }
    }

    /// File that tells a client where the API is and who it is.
    pub fn kubeconfig(&self) -> String {
        self.state.path().join("kubeconfig").display().to_string()
    }

    pub fn cli(&self) -> Cli {
        Cli { state: self.state.path().display().to_string(), dir: tempfile::tempdir().unwrap(), env: Vec::new() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.api.shutdown.cancel();
        self.server.abort();
    }
}

/// A person at the command line, with a folder for their files.
pub struct Cli {
    state: String,
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Its output, when it succeeded.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }
}

impl Cli {
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn script(&self, name: &str, text: &str) -> String {
        let path = self.file(name, &format!("#!/bin/sh\n{text}"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// The same person with one more variable set, their files elsewhere.
    pub fn with(&self, key: &str, value: &str) -> Cli {
        Cli { state: self.state.clone(), dir: tempfile::tempdir().unwrap(), env: vec![(key.into(), value.into())] }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::from(devsanctum());
        command.env("DEVSANCTUM_STATE", &self.state).envs(self.env.iter().cloned()).args(words).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub async fn run(&self, words: &[&str]) -> Ran {
        self.spawn(words).await
    }

    pub async fn run_with(&self, words: &[&str], input: &[u8]) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writing = tokio::spawn(async move { stdin.write_all(&input).await });
        let ran = finish(child).await;
        let _ = writing.await;
        ran
    }

    /// Starts a command; awaiting the answer waits for its end.
    pub fn spawn(&self, words: &[&str]) -> impl Future<Output = Ran> + use<> {
        finish(self.command(words).spawn().unwrap())
    }

    /// Runs a command whose standard input stays open and silent.
    pub async fn run_with_open_input(&self, words: &[&str]) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        let _open = child.stdin.take();
        finish(child).await
    }

    /// Starts a command that goes on by itself; ended when dropped.
    pub fn follow(&self, words: &[&str]) -> Following {
        let mut child = self.command(words).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Following { lines, _child: child }
    }
}

/// A command that goes on.
pub struct Following {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Following {
    /// What it prints next.
    pub async fn line(&mut self) -> String {
        let next = tokio::time::timeout(Duration::from_secs(20), self.lines.next_line()).await;
        next.expect("it prints nothing more").unwrap().expect("it has ended")
    }
}

async fn finish(child: Child) -> Ran {
    let out = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.expect("it takes too long").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
}
