//! Which API to speak to, and as whom.

use super::args::Globals;
use super::failure::Failure;
use super::ui::Ui;
use kube::client::ClientBuilder;
use kube::client::retry::RetryPolicy;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;

/// File in the state folder that the server writes for its own machine's administrator.
pub const KUBECONFIG: &str = "kubeconfig";

/// How often what is refused for now is asked for.
const TRIES: u32 = 6;
/// Requests that wait to be sent.
const IN_FLIGHT: usize = 64;

/// A connection and the defaults that go with it.
#[derive(Clone)]
pub struct Context {
    /// The connection.
    pub client: Client,
    /// Address of the API, for messages.
    pub server: String,
    /// Project to work in.
    pub namespace: String,
    /// That project was named with `-n`.
    pub namespace_given: bool,
    /// How to write.
    pub ui: Ui,
}

/// The folder of the control plane's state.
pub fn state_dir(globals: &Globals) -> PathBuf {
    if let Some(dir) = &globals.state_dir {
        return dir.clone();
    }
    if rustix::process::geteuid().is_root() {
        return "/var/lib/devsanctum".into();
    }
    let home = || std::env::home_dir().unwrap_or_else(|| "/".into()).join(".local/state");
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    base.unwrap_or_else(home).join("devsanctum")
}

/// Works out the address, authority and identity: flags over the state folder's kubeconfig.
///
/// # Errors
/// When neither says where the API is, or a file named cannot be read.
pub async fn config(globals: &Globals) -> Result<Config, Failure> {
    let path = state_dir(globals).join(KUBECONFIG);
    let mut config = match &globals.server {
        Some(server) if !path.exists() => Config::new(address(server)?),
        _ => from_file(&path).await?,
    };
    if let Some(server) = &globals.server {
        config.cluster_url = address(server)?;
    }
    if let Some(file) = &globals.ca_file {
        config.root_cert = Some(authority(file)?);
    }
    if let Some(file) = &globals.token_file {
        config.auth_info = AuthInfo { token: Some(token(file)?.into()), ..AuthInfo::default() };
    }
    config.connect_timeout = Some(Duration::from_secs(10));
    // A control plane on a private address is reached directly. kube takes HTTPS_PROXY, but knows no NO_PROXY.
    config.proxy_url = None;
    Ok(config)
}

/// Connects lazily: nothing is sent yet.
///
/// # Errors
/// As [`config`], and when the TLS settings are unusable.
pub async fn connect(globals: &Globals) -> Result<Context, Failure> {
    over(globals, config(globals).await?)
}

/// As [`connect`], with a configuration that is there.
///
/// # Errors
/// As [`connect`].
pub fn over(globals: &Globals, config: Config) -> Result<Context, Failure> {
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let namespace = globals.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    super::target::check_name(&namespace)?;
    let client = client(config).map_err(|e| not_set_up(&server, &e))?;
    Ok(Context { client, server, namespace, namespace_given: globals.namespace.is_some(), ui: Ui::new(globals.color) })
}

/// What the API refuses for now (429, 503, 504) is asked again for some three seconds, or as it says. kube-rs by itself would for
/// minutes, in which nobody is told why nothing happens.
fn client(mut config: Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?.with_layer(&BufferLayer::new(IN_FLIGHT));
    let policy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5), TRIES - 1, true);
    Ok(builder.with_layer(&RetryLayer::new(policy.unwrap_or_default())).build())
}

fn not_set_up(server: &str, error: &kube::Error) -> Failure {
    // What the kubeconfig has run to sign in, such as `devsanctum credential`, says best what is wrong.
    if let kube::Error::Auth(kube::client::AuthError::AuthExecRun { out, .. }) = error {
        let words = String::from_utf8_lossy(&out.stderr);
        return Failure::new(words.trim().trim_start_matches("error: "));
    }
    Failure::new(format!("the connection to {server} cannot be set up: {error}")).hint("check --ca-file and the kubeconfig")
}

async fn from_file(path: &std::path::Path) -> Result<Config, Failure> {
    let hint = "start the control plane with `devsanctum up`, sign in to one with `devsanctum login PANEL`, or say where it is with --server, --token-file and --ca-file";
    if let Err(e) = std::fs::File::open(path) {
        return Err(Failure::new(format!("{} cannot be read: {e}", path.display())).hint(hint));
    }
    let unusable = |e: kube::config::KubeconfigError| Failure::new(format!("{} is not usable: {e}", path.display())).hint(hint);
    let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(unusable)
}

fn address(text: &str) -> Result<http::Uri, Failure> {
    let parsed = text.parse::<http::Uri>().ok().filter(|u| u.scheme_str() == Some("https") && u.host().is_some());
    parsed.ok_or_else(|| Failure::usage(format!("--server {text}: must be an https address, such as https://127.0.0.1:6443")))
}

/// Reads certificates in PEM as DER.
fn authority(file: &std::path::Path) -> Result<Vec<Vec<u8>>, Failure> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let failed = |e: String| Failure::new(format!("--ca-file {}: {e}", file.display()));
    let text = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).map(|c| c.map(|c| c.to_vec())).collect();
    match certificates {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(failed("holds no certificate in PEM".into())),
        Err(e) => Err(failed(e.to_string())),
    }
}

/// Reads a token. kube-rs would take the end of its line for a part of it.
fn token(file: &std::path::Path) -> Result<String, Failure> {
    let failed = |e: &str| Failure::new(format!("--token-file {}: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| failed(&e.to_string()))?;
    // The token itself is never repeated, not even in part.
    if text.trim().is_empty() { Err(failed("is empty")) } else { Ok(text.trim().to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_be_https() {
        assert!(address("https://127.0.0.1:6443").is_ok());
        for bad in ["http://127.0.0.1", "127.0.0.1:6443", "https://", "ftp://x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_refused_for_now_is_asked_for_some_times_and_then_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let refuse = move || async move {
            let _ = told.send(());
            let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429,
                "reason": "TooManyRequests", "message": "you have 64 open"});
            (http::StatusCode::TOO_MANY_REQUESTS, axum::Json(status))
        };
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(refuse)).await });
        let client = client(config).unwrap();
        let refused = tokio::time::timeout(Duration::from_secs(30), client.apiserver_version()).await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("you have 64 open"), "{refused}");
        let times = std::iter::from_fn(|| asked.try_recv().ok()).count();
        assert_eq!(times, TRIES as usize);
    }

    #[tokio::test]
    async fn without_a_kubeconfig_the_mend_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let globals = Globals {
            server: None,
            token_file: None,
            ca_file: None,
            state_dir: Some(dir.path().to_owned()),
            namespace: None,
            color: crate::cli::args::When::Never,
        };
        let failure = config(&globals).await.unwrap_err();
        assert!(failure.render(None).contains("devsanctum up"), "{}", failure.render(None));
    }
}
