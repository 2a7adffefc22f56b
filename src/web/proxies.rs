//! Whose word on a client's address is taken.
//!
//! Traefik adds the address that it sees to the right of `X-Forwarded-For`. Where that is a proxy that the administrator trusts, it
//! has added the address that it has seen, and so on; what stands further to the left anybody can have written.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies that are trusted, by their networks.
#[derive(Clone, Debug, Default)]
pub struct Trusted(pub Arc<[IpNet]>);

impl Trusted {
    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// Who asked the outermost of them.
    fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut seen = None;
        for address in told(headers) {
            // A proxy that tells no address stands for whoever asked it.
            let Ok(address) = address else { break };
            seen = Some(address.to_canonical());
            if !seen.is_some_and(|address| self.has(address)) {
                break;
            }
        }
        seen
    }
}

/// Addresses as they are told, the last one first.
fn told(headers: &HeaderMap) -> impl Iterator<Item = Result<IpAddr, std::net::AddrParseError>> {
    let mut lines: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    lines.reverse();
    lines.into_iter().flat_map(|line| line.rsplit(',')).map(|word| word.trim().parse())
}

/// The address that the proxy itself has seen, or that [`client_address`] has put in its place.
pub(super) fn last(headers: &HeaderMap) -> Option<IpAddr> {
    told(headers).next()?.ok()
}

/// Leaves one address in `X-Forwarded-For`: that of the client, as far as it can be believed.
pub async fn client_address(State(trusted): State<Trusted>, mut request: Request, next: Next) -> Response {
    let client = trusted.client(request.headers()).and_then(|address| HeaderValue::try_from(address.to_string()).ok());
    match client {
        Some(client) => drop(request.headers_mut().insert(FORWARDED_FOR, client)),
        None => drop(request.headers_mut().remove(FORWARDED_FOR)),
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted = Trusted(trusted.iter().map(|net| net.parse().unwrap()).collect());
        trusted.client(&headers).map_or_else(String::new, |address| address.to_string())
    }

    #[test]
    fn the_address_is_the_last_that_is_no_proxy_of_ours() {
        let proxies = ["10.0.0.0/8", "2001:db8::/32"];
        for (lines, seen) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (&["1.1.1.1", "203.0.113.7,10.0.0.3 , 2001:db8::5, 10.0.0.2"], "203.0.113.7"),
            (&["1.1.1.1, ::ffff:203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
            (&["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
            (&["10.0.0.2"], "10.0.0.2"),
            (&["unknown, 10.0.0.2"], "10.0.0.2"),
            (&["203.0.113.7:4711, 10.0.0.2"], "10.0.0.2"),
            (&["unknown"], ""),
            (&[], ""),
        ] {
            assert_eq!(client(&proxies, lines), seen, "{lines:?}");
        }
        assert_eq!(client(&[], &["203.0.113.7, 10.0.0.2"]), "10.0.0.2", "nobody is trusted who was not named");
    }
}
