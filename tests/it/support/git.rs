//! A git server, and an image that has git.

use super::dockerd::Dockerd;
use super::image::{image_with, program};
use super::{bare, serve};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use http::{HeaderMap, Request, StatusCode, header};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// Runs git here and gives what it says.
pub fn git(folder: &Path, args: &[&str]) -> String {
    let who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main"];
    let done = bare("git").arg("-C").arg(folder).args(who).args(args).output().unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Puts the busybox image with this machine's git in it on the engine, and gives its name.
pub fn image_with_git(daemon: &Dockerd) -> &'static str {
    let helpers = PathBuf::from(git(Path::new("/"), &["--exec-path"]));
    // ssh wants to know who runs it.
    let ssh = [program("ssh"), PathBuf::from("/etc/passwd")];
    let git = [program("git"), helpers.join("git-remote-http")];
    image_with(daemon, "ds-test/git:1", &[git, ssh].concat())
}

/// Serves the repositories of a folder as a git host does.
pub struct GitHost {
    pub address: SocketAddr,
    folder: TempDir,
    token: Arc<Mutex<Option<String>>>,
    /// It listens for as long as this is held.
    _open: tokio::sync::oneshot::Sender<()>,
}

impl GitHost {
    /// Listens wherever the network namespace of this thread is reached.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token: Arc<Mutex<Option<String>>> = Arc::default();
        let (root, asks) = (folder.path().to_owned(), token.clone());
        let answer = move |request: Request<Body>| {
            let (root, token) = (root.clone(), asks.lock().unwrap().clone());
            async move { backend(&root, token.as_deref(), request).await }
        };
        let (address, open) = serve::everywhere(Router::new().fallback(answer));
        Self { address, folder, token, _open: open }
    }

    /// Where its repositories are.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Lets in only who knows this as the password.
    pub fn ask_for(&self, token: &str) {
        *self.token.lock().unwrap() = Some(token.to_owned());
    }

    /// Lets in everybody again.
    pub fn ask_nobody(&self) {
        *self.token.lock().unwrap() = None;
    }

    /// A repository with a commit on each of these branches, with a file that says the branch.
    pub fn repository(&self, name: &str, branches: &[&str]) -> PathBuf {
        let bare = self.folder.path().join(name);
        git(self.folder.path(), &["init", "--bare", name]);
        git(&bare, &["config", "http.receivepack", "true"]);
        let work = tempfile::tempdir().unwrap();
        git(work.path(), &["init"]);
        for branch in branches {
            git(work.path(), &["checkout", "--orphan", branch]);
            std::fs::write(work.path().join("branch"), branch).unwrap();
            git(work.path(), &["add", "."]);
            git(work.path(), &["commit", "-m", branch]);
            git(work.path(), &["push", &bare.display().to_string(), branch]);
        }
        bare
    }
}

/// git's own server side, as a CGI program.
async fn backend(root: &Path, token: Option<&str>, request: Request<Body>) -> Response {
    let (asked, body) = request.into_parts();
    if token.is_some_and(|t| password(&asked.headers).as_deref() != Some(t)) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")]).into_response();
    }
    let head = |name: &str| asked.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let mut command = tokio::process::Command::from(bare("git"));
    command.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", "ada");
    command.env("REQUEST_METHOD", asked.method.as_str()).env("PATH_INFO", asked.uri.path());
    command.env("QUERY_STRING", asked.uri.query().unwrap_or("")).env("CONTENT_TYPE", head("content-type"));
    command.env("HTTP_CONTENT_ENCODING", head("content-encoding")).env("GIT_PROTOCOL", head("git-protocol"));
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    tokio::spawn(async move { input.write_all(&body).await });
    let said = child.wait_with_output().await.unwrap().stdout;
    let end = said.windows(4).position(|w| w == b"\r\n\r\n").expect("CGI headers");
    let mut answer = Response::builder();
    for (name, value) in String::from_utf8_lossy(&said[..end]).lines().filter_map(|line| line.split_once(": ")) {
        answer = match name {
            "Status" => answer.status(value.split(' ').next().unwrap()),
            name => answer.header(name, value),
        };
    }
    answer.body(said[end + 4..].to_vec().into()).unwrap()
}

fn password(headers: &HeaderMap) -> Option<String> {
    let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok()?;
    Some(text.split_once(':')?.1.to_owned())
}
