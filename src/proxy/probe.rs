//! A question to a service, as the proxy would ask it.

use crate::resource::common::Protocol;
use reqwest::{Client, redirect};
use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

/// Longest time an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The status that an address answers a GET with. Its certificate, if it has one, need not be anybody's: it is asked at its
/// address, as the proxy does.
pub async fn get(upstream: SocketAddr, protocol: Protocol, path: &str) -> io::Result<u16> {
    let scheme = if protocol == Protocol::Https { "https" } else { "http" };
    let asked = client()?.get(format!("{scheme}://{upstream}{path}")).send().await;
    // What is wrong lies at the end of what caused it.
    asked.map(|answer| answer.status().as_u16()).map_err(|e| {
        let mut cause: &dyn std::error::Error = &e;
        while let Some(next) = cause.source() {
            cause = next;
        }
        io::Error::other(cause.to_string())
    })
}

fn client() -> io::Result<&'static Client> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let made = CLIENT.get_or_init(|| {
        let plain = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(TIMEOUT);
        plain.danger_accept_invalid_certs(true).pool_max_idle_per_host(0).build().map_err(|e| e.to_string())
    });
    made.as_ref().map_err(|e| io::Error::other(e.clone()))
}
