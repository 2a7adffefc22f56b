//! A git server, and an image that has git.

use super::bare;
use super::dockerd::{Dockerd, TINY};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use http::{HeaderMap, Request, StatusCode, header};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// The busybox image with this machine's git in it.
pub const WITH_GIT: &str = "ds-test/git:1";

/// Runs git here and gives what it says.
pub fn git(folder: &Path, args: &[&str]) -> String {
    let who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main"];
    let done = bare("git").arg("-C").arg(folder).args(who).args(args).output().unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Puts [`WITH_GIT`] on the engine and gives its name.
pub fn image_with_git(daemon: &Dockerd) -> &'static str {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if daemon.try_docker(&["image", "inspect", WITH_GIT]).status.success() {
        return WITH_GIT;
    }
    let context = tempfile::tempdir().unwrap();
    let helpers = PathBuf::from(git(Path::new("/"), &["--exec-path"]));
    let itself = String::from_utf8(bare("sh").args(["-c", "command -v git"]).output().unwrap().stdout).unwrap();
    let programs = [PathBuf::from(itself.trim()), helpers.join("git-remote-http")];
    let mut files: Vec<PathBuf> = programs.iter().flat_map(|p| libraries(p)).collect();
    files.extend(programs);
    files.sort();
    files.dedup();
    let tar = context.path().join("git.tar");
    let packed = bare("tar").arg("-chPf").arg(&tar).args(&files).status().unwrap();
    assert!(packed.success());
    std::fs::write(context.path().join("Dockerfile"), format!("FROM {TINY}\nADD git.tar /\n")).unwrap();
    daemon.tiny_image();
    daemon.docker(&["build", "--network=none", "-t", WITH_GIT, &context.path().display().to_string()]);
    WITH_GIT
}

/// The libraries that a program is linked with.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let told = bare("ldd").arg(program).output().unwrap().stdout;
    let text = String::from_utf8(told).unwrap();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
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
        let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, closed) = tokio::sync::oneshot::channel::<()>();
        // On a thread of its own: tests wait for what asks it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, Router::new().fallback(answer)) => served.unwrap(),
                    _ = closed => {}
                }
            });
        });
        Self { address, folder, token, _open: open }
    }

    /// Lets in only who knows this as the password.
    pub fn ask_for(&self, token: &str) {
        *self.token.lock().unwrap() = Some(token.to_owned());
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
