//! How `--web` is reached: with which certificate, by which networks' proxies, and what else the managed Traefik is told.

use super::config::Listen;
use crate::api::certificate::Pair;
use crate::proxy::{Certificate, CertificateFiles, Feed};
use crate::web::PanelUrl;
use clap::Args;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether the files of the certificate are others.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What `--traefik-config` may set. All else is decided here: another entry point or provider could pass by the gate.
const EXTRA: [&str; 5] = ["accessLog", "certificatesResolvers", "log", "metrics", "tracing"];
const RESOLVERS: &str = "certificatesResolvers";

/// Flags about the managed Traefik.
#[derive(Args, Clone, Debug, Default)]
pub struct Front {
    /// Certificate chain for the panel's host and `*.<domain>`, PEM: --web speaks TLS with it. Read anew when it changes
    #[arg(long, env = "DEVSANCTUM_WEB_CERT", value_name = "FILE", requires = "web_key", conflicts_with_all = ["web_resolver", "external_traefik"])]
    pub web_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "DEVSANCTUM_WEB_KEY", value_name = "FILE", requires = "web_cert")]
    pub web_key: Option<PathBuf>,
    /// Resolver in --traefik-config that orders the certificate by DNS-01: --web speaks TLS with it
    #[arg(long, env = "DEVSANCTUM_WEB_RESOLVER", value_name = "NAME", requires = "traefik_config")]
    pub web_resolver: Option<String>,
    /// Where plain HTTP is sent on to --web when that speaks TLS [default: port 80, when --web has port 443]
    #[arg(long, env = "DEVSANCTUM_WEB_REDIRECT", value_name = "ADDRESS|off", conflicts_with = "external_traefik")]
    pub web_redirect: Option<Listen>,
    /// Proxies before --web whose X-Forwarded-* headers are believed, as networks: 10.0.0.0/8
    #[arg(long, env = "DEVSANCTUM_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// Static configuration to add to the managed Traefik's, YAML: certificatesResolvers, accessLog, log, metrics, tracing
    #[arg(long, env = "DEVSANCTUM_TRAEFIK_CONFIG", value_name = "FILE", conflicts_with = "external_traefik")]
    pub traefik_config: Option<PathBuf>,
    /// Variables of this process that the managed Traefik gets, such as CF_DNS_API_TOKEN
    #[arg(long, env = "DEVSANCTUM_TRAEFIK_ENV", value_name = "NAME", value_delimiter = ',', conflicts_with = "external_traefik")]
    pub traefik_env: Vec<String>,
}

impl Front {
    /// Whether `--web` speaks TLS.
    pub fn ends_tls(&self) -> bool {
        self.web_cert.is_some() || self.web_resolver.is_some()
    }

    /// Whether people can be served as is asked for.
    ///
    /// # Errors
    /// In words for people: where they would be served in clear text, or the panel's address does not fit.
    pub fn check(&self, web: SocketAddr, panel: &PanelUrl) -> Result<(), String> {
        let (origin, secure) = (panel.origin(), panel.scheme == "https");
        match (self.ends_tls(), secure) {
            (true, false) => Err(format!("--panel-url {origin}: --web speaks TLS, so it must begin with https://")),
            (false, false) if !web.ip().is_loopback() => Err(format!(
                "--web {web} would serve passwords and workspaces in clear text: give --web-cert and --web-key, or --web-resolver; \
                 where a proxy of yours ends TLS before it, say so by --panel-url https://…"
            )),
            _ => Ok(()),
        }
    }

    /// The certificate that Traefik is told of.
    ///
    /// # Errors
    /// In words for people, when it cannot be read or is not the panel's.
    pub fn certificate(&self, panel: &PanelUrl) -> Result<Option<Certificate>, String> {
        if let Some(resolver) = &self.web_resolver {
            let known = self.extra()?.remove(RESOLVERS).and_then(|all| all.get(resolver).cloned());
            return match known {
                Some(_) => Ok(Some(Certificate::Resolver(resolver.clone()))),
                None => Err(format!("--web-resolver {resolver}: --traefik-config has no {RESOLVERS}.{resolver}")),
            };
        }
        let Some((cert, key)) = self.web_cert.as_deref().zip(self.web_key.as_deref()) else { return Ok(None) };
        let pair = Pair::read(cert, key)?;
        if !pair.is_for(&panel.host) {
            let (cert, host) = (cert.display(), &panel.host);
            return Err(format!("--web-cert {cert} is not for {host}, the panel's host; name another one with --panel-url"));
        }
        Ok(Some(Certificate::Files(files(pair))))
    }

    /// Where plain HTTP is sent on to `web`.
    pub fn redirect(&self, web: SocketAddr) -> Option<SocketAddr> {
        match self.web_redirect {
            _ if !self.ends_tls() => None,
            Some(Listen::Off) => None,
            Some(Listen::At(address)) => Some(address),
            None => (web.port() == 443).then_some(SocketAddr::new(web.ip(), 80)),
        }
    }

    /// What is added to Traefik's static configuration.
    ///
    /// # Errors
    /// In words for people, when the file cannot be read or says more than it may.
    pub fn extra(&self) -> Result<BTreeMap<String, Value>, String> {
        let Some(path) = &self.traefik_config else { return Ok(BTreeMap::new()) };
        let wrong = |words: String| format!("--traefik-config {}: {words}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let mut read: BTreeMap<String, Value> =
            serde_saphyr::from_str(&text).map_err(|e| wrong(format!("is not Traefik's static configuration in YAML: {e}")))?;
        if let Some(key) = read.keys().find(|key| !EXTRA.contains(&key.as_str())) {
            return Err(wrong(format!("{key:?} is decided here; what can be added is {}", EXTRA.join(", "))));
        }
        // Traefik refuses a resolver without a place for what it orders; its own folder is ours, and private.
        let resolvers = read.get_mut(RESOLVERS).and_then(Value::as_object_mut).into_iter().flat_map(|all| all.values_mut());
        for acme in resolvers.filter_map(|resolver| resolver.get_mut("acme")?.as_object_mut()) {
            acme.entry("storage").or_insert_with(|| json!("acme.json"));
        }
        Ok(read)
    }

    /// The variables that Traefik gets.
    ///
    /// # Errors
    /// In words for people, when one is not set.
    pub fn env(&self) -> Result<BTreeMap<String, String>, String> {
        let value = |name: &String| match std::env::var(name) {
            Ok(value) => Ok((name.clone(), value)),
            Err(e) => Err(format!("--traefik-env {name}: {e}; set it where this program is started")),
        };
        self.traefik_env.iter().map(value).collect()
    }

    /// Shows browsers a renewed certificate, for as long as it is polled. One that cannot be used is told of, and the one before stays.
    pub async fn keep_presenting(self, feed: Arc<Feed>) {
        let Some((cert, key)) = self.web_cert.zip(self.web_key) else { return };
        let mut seen = stamps(&cert, &key);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = stamps(&cert, &key);
            if now == seen {
                continue;
            }
            // Both are not replaced at one time: what does not fit together is looked at again.
            match Pair::read(&cert, &key) {
                Ok(pair) => {
                    seen = now;
                    feed.present(files(pair));
                    tracing::info!(certificate = %cert.display(), "a new certificate is shown");
                }
                Err(error) => tracing::warn!(error, "the certificate has changed and cannot be used; the one before is shown"),
            }
        }
    }
}

fn files(pair: Pair) -> CertificateFiles {
    CertificateFiles { cert_file: pair.cert, key_file: pair.key }
}

type Stamp = Option<(std::time::SystemTime, u64)>;

fn stamps(cert: &Path, key: &Path) -> [Stamp; 2] {
    [cert, key].map(|path| std::fs::metadata(path).ok().and_then(|file| Some((file.modified().ok()?, file.len()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(url: &str) -> PanelUrl {
        url.parse().unwrap()
    }

    fn written(dir: &tempfile::TempDir, text: &str) -> Front {
        let path = dir.path().join("traefik.yaml");
        std::fs::write(&path, text).unwrap();
        Front { traefik_config: Some(path), ..Front::default() }
    }

    #[test]
    fn nobody_is_served_in_clear_text_but_on_this_machine() {
        let (near, far) = ("127.0.0.1:80".parse().unwrap(), "0.0.0.0:80".parse().unwrap());
        let (plain, tls) = (Front::default(), Front { web_resolver: Some("dns".into()), ..Front::default() });
        assert_eq!(plain.check(near, &panel("http://x.localhost")), Ok(()));
        assert_eq!(plain.check(far, &panel("https://x.example.com")), Ok(()), "somebody ends TLS before it");
        assert!(plain.check(far, &panel("http://x.example.com")).unwrap_err().contains("--web-cert"));
        assert_eq!(tls.check(far, &panel("https://x.example.com")), Ok(()));
        assert!(tls.check(far, &panel("http://x.example.com")).unwrap_err().contains("https://"));
    }

    #[test]
    fn plain_http_is_sent_on_where_tls_is_at_its_usual_port() {
        let (usual, other): (SocketAddr, SocketAddr) = ("10.0.0.1:443".parse().unwrap(), "10.0.0.1:8443".parse().unwrap());
        let tls = Front { web_resolver: Some("dns".into()), ..Front::default() };
        assert_eq!(tls.redirect(usual), Some("10.0.0.1:80".parse().unwrap()));
        assert_eq!(tls.redirect(other), None);
        assert_eq!(Front::default().redirect(usual), None);
        let with = |redirect| Front { web_redirect: Some(redirect), ..tls.clone() }.redirect(usual);
        assert_eq!((with(Listen::Off), with(Listen::At(other))), (None, Some(other)));
    }

    #[test]
    fn what_is_added_opens_no_other_door() {
        let dir = tempfile::tempdir().unwrap();
        let good =
            written(&dir, "certificatesResolvers: {dns: {acme: {email: a@example.com, dnsChallenge: {provider: exec}}}}\n");
        let extra = good.extra().unwrap();
        assert_eq!(extra[RESOLVERS]["dns"]["acme"]["storage"], "acme.json");
        let named = |name: &str| Front { web_resolver: Some(name.into()), ..good.clone() }.certificate(&panel("https://x.com"));
        assert_eq!(named("dns"), Ok(Some(Certificate::Resolver("dns".into()))));
        assert!(named("nds").unwrap_err().contains("certificatesResolvers.nds"));
        for bad in ["entryPoints: {back: {address: ':81'}}", "providers: {file: {filename: x}}", "api: {dashboard: true}"] {
            assert!(written(&dir, bad).extra().unwrap_err().contains("is decided here"), "{bad}");
        }
        assert!(written(&dir, "- a").extra().unwrap_err().contains("in YAML"));
        assert!(written(&dir, "").extra().is_ok_and(|extra| extra.is_empty()), "an empty file adds nothing");
    }

    #[test]
    fn a_variable_that_is_not_set_is_told() {
        let front = Front { traefik_env: vec!["DEVSANCTUM_NO_SUCH".into()], ..Front::default() };
        assert!(front.env().unwrap_err().contains("--traefik-env DEVSANCTUM_NO_SUCH"));
    }
}
