//! `login`, `credential` and `logout`: a key of one's own, by a browser that is signed in at the panel (RFC 8628).

use super::args::{Globals, LoginArgs};
use super::connect::{self, KUBECONFIG, state_dir};
use super::failure::Failure;
use super::kubeconfig::{replace, shaped};
use super::output::yaml;
use super::ui::{self, clean};
use crate::fetch::{Fetcher, is_localhost};
use base64::Engine;
use http::{Method, Request, StatusCode, header};
use jiff::Timestamp;
use kube::config::AuthInfo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::time::Instant;

/// File in the state folder that holds the key.
const CREDENTIAL: &str = "credential.json";
/// A folder that has this is a control plane's own.
const OF_SERVER: &str = "admin.token";
/// How much longer a panel is waited for that says that it is asked too often, or does not answer.
const SLOWER: Duration = Duration::from_secs(5);

/// What `login` keeps.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    /// Where it was given.
    panel: String,
    user: String,
    /// `dsk_<id>_<secret>`.
    token: String,
    expires_at: Timestamp,
}

/// What the panel says when it is asked to let a terminal in.
#[derive(Deserialize)]
struct Begun {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: String,
    expires_in: u64,
    interval: u64,
}

/// What it gives in the end.
#[derive(Deserialize)]
struct Given {
    access_token: String,
    user: String,
    expires_at: Timestamp,
    server: String,
    certificate_authority: String,
    tls_server_name: Option<String>,
}

impl Held {
    fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(CREDENTIAL);
        let hint = "sign in with `devsanctum login PANEL`";
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Failure::new(format!("nobody is signed in here: {}: {e}", path.display())).hint(hint))?;
        // What is wrong with it would repeat a part of it.
        serde_json::from_str(&text).map_err(|_| Failure::new(format!("{} cannot be read", path.display())).hint(hint))
    }

    fn is_over(&self) -> bool {
        self.expires_at <= Timestamp::now()
    }

    /// The id of the key.
    fn id(&self) -> Option<&str> {
        let id = self.token.strip_prefix("dsk_")?.split('_').next()?;
        id.bytes().all(|b| b.is_ascii_hexdigit()).then_some(id)
    }
}

/// Runs `login`.
///
/// # Errors
/// When the panel or the folder will not do, or whoever was asked said no.
pub async fn run(globals: &Globals, args: &LoginArgs) -> Result<(), Failure> {
    let panel = origin(&args.panel, args.insecure_panel)?;
    let dir = own_folder(globals)?;
    let fetcher = Fetcher::new(true);
    let (status, told) = ask(&fetcher, &format!("{panel}/device"), &json!({"client": client()})).await?;
    let Some(begun) = serde_json::from_value::<Begun>(told.clone()).ok().filter(|_| status.is_success()) else {
        return Err(refused(&panel, status, &told));
    };
    ui::note(&format!(
        "open {}\nand allow the code {} (or type it at {})",
        clean(&begun.verification_uri_complete),
        clean(&begun.user_code),
        clean(&begun.verification_uri)
    ));
    if !args.no_browser {
        open_browser(&begun.verification_uri_complete);
    }
    let given = wait(&fetcher, &panel, &begun).await?;
    keep(&dir, &panel, &given)?;
    let until = given.expires_at.strftime("%Y-%m-%d");
    ui::say(&format!("signed in as {} until {until}; {} is written", clean(&given.user), dir.join(KUBECONFIG).display()))
}

/// Runs `credential`: what kubectl, kube-rs and others ask of this program.
///
/// # Errors
/// When nobody is signed in, or no longer.
pub fn credential(globals: &Globals) -> Result<(), Failure> {
    let held = Held::read(&state_dir(globals))?;
    if held.is_over() {
        let words = format!("{}'s sign-in at {} ended at {}", clean(&held.user), clean(&held.panel), held.expires_at);
        return Err(Failure::new(words).hint(format!("sign in anew: `devsanctum login {}`", clean(&held.panel))));
    }
    let told = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": held.token, "expirationTimestamp": held.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
    });
    ui::say(&told.to_string())
}

/// Runs `logout`.
///
/// # Errors
/// When nobody is signed in, or the key could not be ended: then it is kept.
pub async fn logout(globals: &Globals) -> Result<(), Failure> {
    let dir = state_dir(globals);
    let held = Held::read(&dir)?;
    if !held.is_over()
        && let Some(id) = held.id()
    {
        let mut config = connect::config(globals).await?;
        config.auth_info = AuthInfo { token: Some(held.token.clone().into()), ..AuthInfo::default() };
        let context = connect::over(globals, config)?;
        let asked = Request::delete(format!("/devsanctum/keys/{id}")).body(Vec::new());
        let asked = asked.map_err(|e| Failure::new(format!("the key in {CREDENTIAL} is none: {e}")))?;
        match context.client.request::<Value>(asked).await {
            Ok(_) => {}
            // Somebody has ended it already.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 404) => {}
            Err(e) => return Err(e.into()),
        }
    }
    for name in [KUBECONFIG, CREDENTIAL] {
        match std::fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::new(format!("{} cannot be removed: {e}", dir.join(name).display())));
            }
            _ => {}
        }
    }
    ui::say(&format!("{} is signed out, and the key has ended", clean(&held.user)))
}

/// The panel's origin. What comes of it over plain http anybody on the way can change, the API's authority first of all.
fn origin(text: &str, insecure: bool) -> Result<String, Failure> {
    let origin = text.trim_end_matches('/');
    let uri = origin.parse::<http::Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && matches!(uri.path(), "" | "/") && uri.query().is_none()
    });
    let host = uri.as_ref().and_then(|uri| uri.host()).filter(|host| !host.is_empty() && !origin.contains('@'));
    let (Some(uri), Some(host)) = (&uri, host) else {
        return Err(Failure::usage(format!("{}: must be the panel's address, such as https://panel.example.com", clean(text))));
    };
    let own = is_localhost(host) || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if uri.scheme_str() == Some("http") && !own && !insecure {
        let words = format!("{origin}: over plain http, whoever is on the way could give you an API of their own");
        return Err(Failure::usage(words).hint("use the panel's https address, or say --insecure-panel on a network you trust"));
    }
    Ok(origin.to_owned())
}

/// The folder to write to, if that is not somebody else's.
fn own_folder(globals: &Globals) -> Result<PathBuf, Failure> {
    let dir = state_dir(globals);
    let dir = std::path::absolute(&dir).map_err(|e| Failure::new(format!("{}: {e}", dir.display())))?;
    let hint = "name another folder with --state-dir DIR, or DEVSANCTUM_STATE";
    if dir.join(OF_SERVER).exists() {
        return Err(Failure::new(format!("{} is the folder of a control plane of this machine", dir.display())).hint(hint));
    }
    if dir.join(KUBECONFIG).exists() && !dir.join(CREDENTIAL).exists() {
        let words = format!("{} is there already, and `devsanctum login` has not written it", dir.join(KUBECONFIG).display());
        return Err(Failure::new(words).hint(hint));
    }
    Ok(dir)
}

fn client() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "a machine without a name" } else { host.trim() };
    format!("devsanctum on {host}")
}

async fn ask(fetcher: &Fetcher, address: &str, body: &Value) -> Result<(StatusCode, Value), Failure> {
    let request = Request::builder().method(Method::POST).uri(address).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(body.to_string().into_bytes()).map_err(|e| Failure::usage(format!("{address}: {e}")))?;
    let answer = fetcher.exchange(request).await.map_err(|e| Failure::new(e.to_string()))?;
    Ok((answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default()))
}

fn refused(panel: &str, status: StatusCode, told: &Value) -> Failure {
    match told["error_description"].as_str() {
        Some(words) => Failure::new(format!("the panel refused: {}", clean(words))),
        None => Failure::new(format!("{panel} answered {status}, and not as a panel does"))
            .hint("give the address where you sign in in a browser, as `devsanctum up` has printed it"),
    }
}

/// Asks until somebody has answered.
async fn wait(fetcher: &Fetcher, panel: &str, begun: &Begun) -> Result<Given, Failure> {
    let begin_anew = |words: &str| Failure::new(words).hint(format!("begin anew: `devsanctum login {panel}`"));
    let (address, asked) = (format!("{panel}/device/token"), json!({"device_code": begun.device_code}));
    let mut interval = Duration::from_secs(begun.interval.clamp(1, 60));
    let deadline = Instant::now() + Duration::from_secs(begun.expires_in.min(3600));
    loop {
        tokio::time::sleep(interval).await;
        let answer = ask(fetcher, &address, &asked).await;
        let over = Instant::now() >= deadline;
        match answer {
            Ok((status, told)) if status.is_success() => {
                let given = serde_json::from_value(told);
                return given.map_err(|_| begin_anew("the panel's answer cannot be read; is it of another version?"));
            }
            Ok((status, told)) => match told["error"].as_str() {
                Some("authorization_pending") => {}
                Some("slow_down" | "temporarily_unavailable") => interval += SLOWER,
                Some("access_denied") => return Err(begin_anew("it was refused")),
                Some("expired_token") => return Err(begin_anew("nobody has allowed the code in time")),
                _ if status.is_server_error() => interval += SLOWER,
                _ => return Err(refused(panel, status, &told)),
            },
            // It may be starting anew.
            Err(_) if !over => interval += SLOWER,
            Err(e) => return Err(e),
        }
        if over {
            return Err(begin_anew("nobody has allowed the code in time"));
        }
    }
}

/// Opens an address where somebody has a screen; nothing is said where that fails, since the address is printed.
fn open_browser(address: &str) {
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    // It comes from the panel: a browser is all that it may open.
    if has_screen && (address.starts_with("http://") || address.starts_with("https://")) {
        let mut command = tokio::process::Command::new("xdg-open");
        let _ = command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

fn keep(dir: &Path, panel: &str, given: &Given) -> Result<(), Failure> {
    let held = Held {
        panel: panel.to_owned(),
        user: given.user.clone(),
        token: given.access_token.clone(),
        expires_at: given.expires_at,
    };
    replace(&dir.join(CREDENTIAL), &serde_json::to_string_pretty(&held)?)?;
    let mut cluster = json!({"server": given.server});
    // None is named where its certificate is one that this machine trusts.
    if !given.certificate_authority.is_empty() {
        let authority = base64::engine::general_purpose::STANDARD.encode(&given.certificate_authority);
        cluster["certificate-authority-data"] = json!(authority);
    }
    if let Some(name) = &given.tls_server_name {
        cluster["tls-server-name"] = json!(name);
    }
    let program = std::env::current_exe().map_err(|e| Failure::new(format!("this program cannot find itself: {e}")))?;
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": program.display().to_string(),
        "args": ["--state-dir", dir.display().to_string(), "credential"],
        "interactiveMode": "Never",
        "provideClusterInfo": false,
        "installHint": "devsanctum signs in here: install it where this kubeconfig says, or run `devsanctum login` anew",
    });
    replace(&dir.join(KUBECONFIG), &yaml(&shaped(&cluster, &json!({"exec": exec}), None))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine() {
        for good in ["https://panel.example.com/", "http://devsanctum.localhost:8080", "http://127.0.0.1", "http://[::1]:80"] {
            assert!(origin(good, false).is_ok_and(|it| it == good.trim_end_matches('/')), "{good}");
        }
        for bad in ["http://panel.example.com", "http://localhost.example.com", "http://10.0.0.1"] {
            assert!(origin(bad, false).unwrap_err().hint.unwrap().contains("--insecure-panel"), "{bad}");
            assert!(origin(bad, true).is_ok(), "{bad}");
        }
        for bad in ["panel.example.com", "ftp://x", "https://", "https://x/login", "https://u:p@x", "https://x?y"] {
            assert!(origin(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sign_in_that_is_over_is_told_and_no_key_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = |expires_at| Held { panel: "https://p".into(), user: "ada".into(), token: "dsk_0a1b_x".into(), expires_at };
        std::fs::write(dir.path().join(CREDENTIAL), serde_json::to_string(&held(Timestamp::UNIX_EPOCH)).unwrap()).unwrap();
        let read = Held::read(dir.path()).unwrap();
        assert!(read.is_over() && read.id() == Some("0a1b"));
        let globals = Globals {
            server: None,
            token_file: None,
            ca_file: None,
            state_dir: Some(dir.path().to_owned()),
            namespace: None,
            color: crate::cli::args::When::Never,
        };
        let words = credential(&globals).unwrap_err().render(None);
        assert!(words.contains("devsanctum login https://p") && !words.contains("dsk_"), "{words}");
    }
}
