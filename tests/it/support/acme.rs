//! An authority that orders are made at (RFC 8555): Let's Encrypt's own test server, pebble, with a name server whose records are
//! set as a DNS provider's are. Both from Debian's package.

use super::bare;
use super::ports::free_address;
use super::source::root;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The authority, its name server, and what a DNS provider offers to Traefik ("httpreq", of lego's providers).
pub struct Authority {
    _running: [Running; 2],
    folder: tempfile::TempDir,
    acme: SocketAddr,
    names: SocketAddr,
    provider: SocketAddr,
    set: Arc<Mutex<Vec<String>>>,
    trusted: String,
}

fn started(program: &str, args: &[String], env: &[(&str, &str)]) -> Running {
    let mut command = bare(root().join("target/tools/bin").join(program));
    command.args(args).envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap_or_else(|e| panic!("{program}: {e}; `scripts/test-tools.sh` brings it")))
}

impl Authority {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), own.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
        let [acme, management, dns, names, unused] = std::array::from_fn(|_| free_address());
        let config = json!({"pebble": {
            "listenAddress": acme.to_string(), "managementListenAddress": management.to_string(),
            "certificate": folder.path().join("cert.pem"), "privateKey": folder.path().join("key.pem"),
            "httpPort": unused.port(), "tlsPort": unused.port(), "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let flags = [("-dns01", dns), ("-management", names)].map(|(flag, at)| [flag.to_owned(), at.to_string()]).concat();
        let off = ["-http01", "-https01", "-tlsalpn01"].into_iter().flat_map(|flag| [flag.to_owned(), String::new()]);
        let names_server = started("pebble-challtestsrv", &flags.into_iter().chain(off).collect::<Vec<_>>(), &[]);
        let file = folder.path().join("config.json").display().to_string();
        let args = ["-config".to_owned(), file, "-dnsserver".into(), dns.to_string()];
        let server = started("pebble", &args, &[("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")]);
        let (provider, set) = provider(names).await;
        let trusted = root_of(management, &own.cert).await;
        Self { _running: [names_server, server], folder, acme, names: dns, provider, set, trusted }
    }

    /// A resolver for Traefik that orders here, as Traefik's own documents write it, in a file.
    pub fn resolver(&self, name: &str) -> PathBuf {
        let text = format!(
            "certificatesResolvers:\n  {name}:\n    acme:\n      email: ada@example.com\n      caServer: https://{}/dir\n      \
             dnsChallenge:\n        provider: httpreq\n        resolvers: ['{}']\n        propagation:\n          disableChecks: true\n",
            self.acme, self.names
        );
        let path = self.folder.path().join("traefik.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What the resolver has to find in its environment.
    pub fn env(&self) -> [(&'static str, String); 2] {
        let trusted = self.folder.path().join("cert.pem").display().to_string();
        [("LEGO_CA_CERTIFICATES", trusted), ("HTTPREQ_ENDPOINT", format!("http://{}", self.provider))]
    }

    /// Names that were proved so far, one for each order.
    pub fn proved(&self) -> Vec<String> {
        self.set.lock().unwrap().clone()
    }

    /// What its certificates come from, PEM.
    pub fn trusted(&self) -> &str {
        &self.trusted
    }
}

/// What the certificates of an authority come from, PEM. It makes keys before it listens, which takes it a second or more, and
/// Traefik does not ask again an authority that was not there.
async fn root_of(management: SocketAddr, own: &rcgen::Certificate) -> String {
    let own = reqwest::Certificate::from_pem(own.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([own]).timeout(Duration::from_secs(10)).build().unwrap();
    for _ in 0..300 {
        match client.get(format!("https://{management}/roots/0")).send().await {
            Ok(answer) => return answer.text().await.unwrap(),
            Err(e) if e.is_connect() => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(e) => panic!("pebble: {e:?}"),
        }
    }
    panic!("pebble does not listen after 30 s");
}

/// Takes what is to stand in the name server, and puts it there.
async fn provider(names: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    type Shared = (SocketAddr, Arc<Mutex<Vec<String>>>);
    let set: Arc<Mutex<Vec<String>>> = Arc::default();
    let present = async |State((names, set)): State<Shared>, Json(asked): Json<Value>| {
        set.lock().unwrap().push(asked["fqdn"].as_str().unwrap().to_owned());
        let body = json!({"host": asked["fqdn"], "value": asked["value"]}).to_string();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.post(format!("http://{names}/set-txt")).body(body).send().await.unwrap();
    };
    let routes = Router::new()
        .route("/present", post(present))
        .route("/cleanup", post(|| std::future::ready(())))
        .with_state((names, set.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, set)
}
