//! What browsers and the proxy ask for: the panel where people sign in, and the gate before private workspaces.

mod accounts;
mod chart;
mod cookies;
mod device;
mod elsewhere;
mod forms;
pub mod gate;
mod held;
mod home;
mod pages;
pub mod panel;
mod picture;
mod providers;
mod proxies;
mod servers;
mod setup;
mod shares;
mod signing;
pub mod sockets;
mod start;
mod unverified;
mod wake;
mod welcome;

pub use accounts::{Accounts, NewAccount, NoAccount};
pub use device::ApiAddress;
pub use proxies::{Trusted, client_address};
pub use wake::Waking;

use crate::access::{Directory, Shares, SignIn};
use crate::clock::Clock;
use crate::store::Store;
use std::sync::Arc;

/// What both work with.
#[derive(Clone)]
pub struct Web {
    /// Signs people in.
    pub sign_in: Arc<SignIn>,
    /// Share links of workspaces.
    pub shares: Arc<Shares>,
    /// What decisions are made from.
    pub directory: Arc<Directory>,
    /// The settings, and the secrets that they name.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the panel is.
    pub panel: PanelUrl,
    /// Whose word on addresses is taken.
    pub trusted: Trusted,
}

/// Where browsers reach the panel; workspaces are reached by the same scheme and at the same port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelUrl {
    /// `http` or `https`.
    pub scheme: String,
    /// Host name, canonical.
    pub host: String,
    /// Port, where it is not the scheme's own.
    pub port: Option<u16>,
}

impl PanelUrl {
    /// The port, whether or not it is the scheme's own.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.scheme == "https" { 443 } else { 80 })
    }

    /// The address of a host reached as the panel is, without a path.
    pub fn of_host(&self, host: &str) -> String {
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{host}{port}", self.scheme)
    }

    /// The panel's origin.
    pub fn origin(&self) -> String {
        self.of_host(&self.host)
    }
}

impl std::str::FromStr for PanelUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || format!("{text:?} must be such as https://panel.example.com, without a path");
        let uri: http::Uri = text.trim_end_matches('/').parse().map_err(|_| allowed())?;
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !text.contains('@');
        if !matches!(scheme, "http" | "https") || crate::resource::names::host_name(host).is_err() || !bare {
            return Err(allowed());
        }
        let own = if scheme == "https" { 443 } else { 80 };
        Ok(Self { scheme: scheme.into(), host: host.into(), port: uri.port_u16().filter(|port| *port != own) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panels_address_is_an_origin() {
        let read = |text: &str| text.parse::<PanelUrl>();
        assert_eq!(read("https://panel.example.com").unwrap().origin(), "https://panel.example.com");
        assert_eq!(read("http://devsanctum.localhost:8080/").unwrap().of_host("x.localhost"), "http://x.localhost:8080");
        assert_eq!(read("https://panel.example.com:443").unwrap().port, None);
        for bad in [
            "panel.example.com",
            "ftp://x.example.com",
            "https://",
            "https://a.example.com/x",
            "https://u@a.example.com",
            "https://A b",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
