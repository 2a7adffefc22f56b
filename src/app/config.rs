//! How a control plane is set up: flags of `serve`, each also an environment variable.

use super::front::Front;
use crate::controllers::Public;
use crate::web::PanelUrl;
use clap::Parser;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where something listens, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|e| format!("{e}: must be ADDRESS:PORT or 'off'")),
        }
    }
}

/// Run the control plane in the foreground.
#[derive(Clone, Debug, Parser)]
#[command(name = "devsanctum serve")]
pub struct Config {
    /// Where the API listens, with TLS; port 0 takes a free one
    #[arg(long, env = "DEVSANCTUM_LISTEN", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Host names and addresses callers reach the API by, beside the local ones
    #[arg(long, env = "DEVSANCTUM_TLS_NAMES", value_delimiter = ',')]
    pub tls_name: Vec<String>,
    /// Certificate chain that others trust already, PEM: shown to who calls the API by one of its names. Read anew once a day
    #[arg(long, env = "DEVSANCTUM_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "DEVSANCTUM_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Where terminals reach the API that sign in at the panel, such as https://api.example.com:6443 [default: --listen]
    #[arg(long, env = "DEVSANCTUM_API_URL", value_name = "URL", value_parser = api_url)]
    pub api_url: Option<String>,
    /// Database: sqlite:///path/file.db or postgres://… [default: a file in the state folder]
    #[arg(long, env = "DEVSANCTUM_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Where workspaces are reached through the managed Traefik
    #[arg(long, env = "DEVSANCTUM_WEB", default_value = "127.0.0.1:80")]
    pub web: SocketAddr,
    /// Where people sign in, through the managed Traefik [default: http://devsanctum.localhost, at --web's port]
    #[arg(long, env = "DEVSANCTUM_PANEL_URL", value_name = "URL")]
    pub panel_url: Option<PanelUrl>,
    /// Where Traefik reaches the panel, on loopback; port 0 takes a free one
    #[arg(long, env = "DEVSANCTUM_PANEL", default_value = "127.0.0.1:0")]
    pub panel: SocketAddr,
    /// Where SSH listens (`ssh WORKSPACE.PROJECT@HOST`); port 0 takes a free one, `off` leaves it out
    #[arg(long, env = "DEVSANCTUM_SSH", default_value = "127.0.0.1:2222", value_name = "ADDRESS|off")]
    pub ssh: Listen,
    /// Where the managed Traefik's API listens, on loopback; port 0 takes the one used before, or a free one
    #[arg(long, env = "DEVSANCTUM_TRAEFIK_API", default_value = "127.0.0.1:0")]
    pub traefik_api: SocketAddr,
    /// Where Traefik asks for its routes, on loopback; port 0 takes the one used before, or a free one
    #[arg(long, env = "DEVSANCTUM_FEED", default_value = "127.0.0.1:0")]
    pub feed: SocketAddr,
    /// Traefik's program [default: from PATH, or the state folder's venv]
    #[arg(long, env = "DEVSANCTUM_TRAEFIK")]
    pub traefik: Option<PathBuf>,
    /// Use a Traefik that runs already, whose HTTP provider polls --feed: the address of its API
    #[arg(long, env = "DEVSANCTUM_EXTERNAL_TRAEFIK", value_name = "URL")]
    pub external_traefik: Option<String>,
    /// How `--web` is reached.
    #[command(flatten)]
    pub front: Front,
    /// How long a replica that fell silent keeps the lead
    #[arg(long, env = "DEVSANCTUM_LEASE", default_value = "15s", value_parser = humantime::parse_duration)]
    pub lease: Duration,
    /// Watch over it: kill it when it does not answer, and start it again whenever it ends (`up` does this)
    #[arg(long)]
    pub watchdog: bool,
    /// It is watched over, and goes when its watchdog does.
    #[arg(long, hide = true)]
    pub kept: bool,
    /// Write logs as JSON
    #[arg(long, env = "DEVSANCTUM_LOG_JSON")]
    pub log_json: bool,
}

/// Reads the address of an API: an origin with TLS.
fn api_url(text: &str) -> Result<String, String> {
    let origin = text.trim_end_matches('/');
    let uri = origin.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    match uri {
        Some(uri) if matches!(uri.path(), "" | "/") && uri.query().is_none() && !text.contains('@') => Ok(origin.to_owned()),
        _ => Err("must be such as https://api.example.com:6443, without a path".into()),
    }
}

impl Config {
    /// Where people reach the proxy, as far as it is known here: as they reach the panel.
    pub fn public(&self) -> Public {
        match &self.panel_url {
            Some(panel) => Public { port: Some(panel.port()), tls: panel.scheme == "https" },
            None => Public { port: self.external_traefik.is_none().then_some(self.web.port()), tls: self.front.ends_tls() },
        }
    }

    /// Whether there may be other replicas on the same database.
    pub fn replicated(&self) -> bool {
        self.database.as_ref().is_some_and(|url| url.starts_with("postgres"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_are_reached_as_the_panel_is() {
        let public = |args: &[&str]| {
            let Public { port, tls } = Config::parse_from([&["serve"], args].concat()).public();
            (port, tls)
        };
        assert_eq!(public(&[]), (Some(80), false));
        assert_eq!(public(&["--web", "127.0.0.1:8080"]), (Some(8080), false));
        assert_eq!(public(&["--web", "10.0.0.1:443", "--web-cert", "a", "--web-key", "b"]), (Some(443), true));
        assert_eq!(public(&["--web", "127.0.0.1:8080", "--panel-url", "https://x.example.com"]), (Some(443), true));
        assert_eq!(public(&["--panel-url", "https://x.example.com:8443"]), (Some(8443), true));
        assert_eq!(public(&["--external-traefik", "http://127.0.0.1:1"]), (None, false));
    }

    #[test]
    fn an_apis_address_is_an_origin_with_tls() {
        for good in ["https://api.example.com:6443", "https://[2001:db8::1]/", "https://10.0.0.1"] {
            assert_eq!(api_url(good).as_deref(), Ok(good.trim_end_matches('/')));
        }
        for bad in ["http://x", "api.example.com", "https://x/y", "https://x?y", "https://u@x", "https://"] {
            assert!(api_url(bad).is_err(), "{bad}");
        }
    }
}
