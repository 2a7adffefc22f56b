//! What signing in needs of the world outside: a mail server, a provider of OpenID Connect, and one that speaks as GitHub does.

use super::bare;
use super::source::root;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A program that says in its first line where it is; it ends with this. What it says after that must go somewhere.
struct Running(Child, #[allow(dead_code)] BufReader<ChildStdout>);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command) -> (Running, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a program");
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let running = Running(child, said);
    assert!(!line.trim().is_empty(), "{command:?} says nothing: `scripts/test-tools.sh` makes what it needs");
    (running, line.trim().to_owned())
}

/// aiosmtpd, which keeps what it is given.
pub struct MailServer {
    _running: Running,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl MailServer {
    pub fn start() -> Self {
        Self::known_as("localhost")
    }

    /// With a certificate of this name or address.
    pub fn known_as(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = rcgen::generate_simple_self_signed([name.into()]).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, certificate.cert.pem()).unwrap();
        std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
        let mut command = bare("python3");
        command.arg(root().join("tests/it/support/smtp_server.py")).arg(folder.path()).arg(&cert).arg(&key);
        command.env("PYTHONPATH", root().join("target/tools/smtp"));
        let (running, port) = start(command);
        Self { _running: running, folder, port: port.parse().unwrap() }
    }

    /// Its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn files(folder: &Path, to: &str) -> Vec<PathBuf> {
        let ending = format!("-{to}.eml");
        let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = all.filter(|path| path.to_str().unwrap().ends_with(&ending)).collect();
        files.sort();
        files
    }

    /// Mails to an address so far, as they came.
    pub fn mails(&self, to: &str) -> Vec<String> {
        Self::files(self.folder.path(), to).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
    }
}

/// The address that a mail leads to, with what quoted-printable has broken put together.
pub fn link(mail: &str) -> String {
    let plain = mail.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=");
    let at = plain.find("http://").unwrap_or_else(|| panic!("no link in {mail}"));
    plain[at..].split_whitespace().next().unwrap().to_owned()
}

/// npm's oidc-provider.
pub struct OidcProvider {
    _running: Running,
    pub issuer: String,
}

impl OidcProvider {
    pub fn start(redirects: &[&str]) -> Self {
        let mut command = bare(root().join("target/tools/node/bin/node"));
        command.arg(root().join("tests/it/support/oidc_provider.mjs")).args(redirects);
        command.env("MODULES", root().join("target/tools/oidc/node_modules"));
        let (running, issuer) = start(command);
        Self { _running: running, issuer }
    }
}

/// A code that was given out: whose, and what it must be changed with.
struct Code {
    login: String,
    challenge: String,
    redirect: String,
}

/// GitHub's pages and API as far as signing in goes (docs.github.com, "Authorizing OAuth apps"). Whoever is asked for as
/// `login=NAME` is let in at once.
#[derive(Clone, Default)]
pub struct GitHub {
    codes: Arc<Mutex<HashMap<String, Code>>>,
    /// People: their number, and their addresses with `primary` and `verified`.
    people: Arc<Mutex<HashMap<String, (u64, Value)>>>,
}

impl GitHub {
    /// Serves on loopback; gives its address.
    pub async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/login/oauth/authorize", get(authorize))
            .route("/login/oauth/access_token", post(access_token))
            .route("/api/v3/user", get(user))
            .route("/api/v3/user/emails", get(emails))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    pub fn person(&self, login: &str, id: u64, emails: Value) {
        self.people.lock().unwrap().insert(login.to_owned(), (id, emails));
    }

    fn holder(&self, headers: &HeaderMap) -> Option<(String, u64, Value)> {
        let login = headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer gho_")?.to_owned();
        let (id, emails) = self.people.lock().unwrap().get(&login)?.clone();
        Some((login, id, emails))
    }
}

async fn authorize(State(hub): State<GitHub>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let get = |name: &str| asked.get(name).cloned().unwrap_or_default();
    if get("client_id") != "Iv1.devsanctum" || get("code_challenge_method") != "S256" || get("scope") != "read:user user:email" {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let code = format!("code{}", hub.codes.lock().unwrap().len());
    let given = Code { login: get("login"), challenge: get("code_challenge"), redirect: get("redirect_uri") };
    hub.codes.lock().unwrap().insert(code.clone(), given);
    Redirect::to(&format!("{}?code={code}&state={}", get("redirect_uri"), get("state"))).into_response()
}

async fn access_token(State(hub): State<GitHub>, Form(asked): Form<HashMap<String, String>>) -> Response {
    use base64::Engine;
    let get = |name: &str| asked.get(name).cloned().unwrap_or_default();
    // Its errors are answers of 200.
    let no = |error: &str| Json(json!({"error": error, "error_description": "no"})).into_response();
    if (get("client_id").as_str(), get("client_secret").as_str()) != ("Iv1.devsanctum", "hush") {
        return no("incorrect_client_credentials");
    }
    let Some(code) = hub.codes.lock().unwrap().remove(&get("code")) else { return no("bad_verification_code") };
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(get("code_verifier")));
    if challenge != code.challenge || get("redirect_uri") != code.redirect {
        return no("bad_verification_code");
    }
    let token = format!("gho_{}", code.login);
    Json(json!({"access_token": token, "scope": "read:user,user:email", "token_type": "bearer"})).into_response()
}

async fn user(State(hub): State<GitHub>, headers: HeaderMap) -> Response {
    match hub.holder(&headers) {
        Some((login, id, _)) => Json(json!({"login": login, "id": id, "name": null, "email": null})).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn emails(State(hub): State<GitHub>, headers: HeaderMap) -> Response {
    match hub.holder(&headers) {
        Some((_, _, emails)) => Json(emails).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}
