//! Fetches small texts from addresses that somebody else may have chosen.
//!
//! Whoever names an address could name one that only this machine reaches: a cloud's metadata, an engine, a neighbour's
//! database. So the host is looked up here, each of its addresses is judged, and the connection goes to those that were judged
//! and to no other, at every redirect again. Nothing of this process's environment (proxies, credentials) is made use of.

mod address;
mod error;
mod exchange;

pub use error::FetchError;

use address::special;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, Url, header, redirect};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of one answer.
pub const MOST_BYTES: usize = 1 << 20;
/// Most redirects.
pub const MOST_REDIRECTS: usize = 3;
/// Longest that one fetch takes, redirects and all.
pub const LONGEST: Duration = Duration::from_secs(10);

/// Fetches texts.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// Hosts on networks of one's own may be asked.
    allow_private: bool,
    most_bytes: usize,
    longest: Duration,
    /// Asked whatever they are, so that tests have a server.
    #[cfg(test)]
    exempt: Vec<IpAddr>,
}

impl Fetcher {
    /// A fetcher of the public internet, and where the caller says so of private networks and this machine.
    pub fn new(allow_private: bool) -> Self {
        Self {
            allow_private,
            most_bytes: MOST_BYTES,
            longest: LONGEST,
            #[cfg(test)]
            exempt: Vec::new(),
        }
    }

    /// The same, but for less: at most so many bytes, in this time.
    #[must_use]
    pub fn within(self, most_bytes: usize, longest: Duration) -> Self {
        Self { most_bytes: most_bytes.min(MOST_BYTES), longest: longest.min(LONGEST), ..self }
    }

    /// The text at an address.
    ///
    /// # Errors
    /// When the address is not to be asked, or what comes is too much, too slow, or no text.
    pub async fn text(&self, address: &str) -> Result<String, FetchError> {
        String::from_utf8(self.bytes(address).await?).map_err(|_| FetchError::NotText(shown(address)))
    }

    /// What is at an address.
    ///
    /// # Errors
    /// As [`Fetcher::text`].
    pub async fn bytes(&self, address: &str) -> Result<Vec<u8>, FetchError> {
        let all = self.follow(address);
        let fetched = tokio::time::timeout(self.longest, all).await;
        fetched.map_err(|_| FetchError::TooSlow(shown(address), self.longest.as_secs()))?
    }

    async fn follow(&self, address: &str) -> Result<Vec<u8>, FetchError> {
        let mut url = checked(Url::parse(address), address)?;
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.ask(&url).await?;
            match answer.status().as_u16() {
                200 => return self.body(answer, &url).await,
                301 | 302 | 303 | 307 | 308 => url = next(&answer, &url)?,
                other => return Err(FetchError::Status(url.into(), other)),
            }
        }
        Err(FetchError::TooManyRedirects(shown(address), MOST_REDIRECTS))
    }

    async fn ask(&self, url: &Url) -> Result<Response, FetchError> {
        let client = self.client(url).await?;
        client.get(url.clone()).send().await.map_err(|e| failed(url, &e))
    }

    /// A client that connects to the judged addresses of this host alone.
    async fn client(&self, url: &Url) -> Result<Client, FetchError> {
        let addresses = self.judged(url).await?;
        // Set up by the program as a rule; a second installation is the only way this fails.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(Pinned(addresses)))
            .user_agent(concat!("devsanctum/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| failed(url, &e))
    }

    /// The addresses of a host. One that may not be asked is enough to ask none: which is taken could be another's choice.
    async fn judged(&self, url: &Url) -> Result<Vec<SocketAddr>, FetchError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        let found: Vec<SocketAddr> = match address::literal(host) {
            Some(address) => vec![(address, port).into()],
            // As browsers have it: these names lead nowhere else, whatever a resolver says.
            None if is_localhost(host) => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
            None => {
                let unknown = |e: std::io::Error| FetchError::UnknownHost(host.to_owned(), e.to_string());
                tokio::net::lookup_host((host, port)).await.map_err(unknown)?.collect()
            }
        };
        if found.is_empty() {
            return Err(FetchError::UnknownHost(host.to_owned(), "it has no address".into()));
        }
        match found.iter().find_map(|a| self.refusal(host, a.ip())) {
            Some(refusal) => Err(refusal),
            None => Ok(found),
        }
    }

    fn refusal(&self, host: &str, address: IpAddr) -> Option<FetchError> {
        #[cfg(test)]
        if self.exempt.contains(&address) {
            return None;
        }
        let special = special(address).filter(|s| !(s.private && self.allow_private))?;
        let (what, private) = (special.what, special.private);
        Some(FetchError::NotAsked { host: host.to_owned(), address, what, private })
    }

    /// What an answer holds, as long as it is not too much; how long it says it is is no more than a hint.
    async fn body(&self, mut answer: Response, url: &Url) -> Result<Vec<u8>, FetchError> {
        let too_large = || FetchError::TooLarge(url.to_string(), self.most_bytes);
        if answer.content_length().is_some_and(|length| length > self.most_bytes as u64) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| failed(url, &e))? {
            if bytes.len() + chunk.len() > self.most_bytes {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// Whether a name is this machine's own (RFC 6761).
pub fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Gives the addresses that were judged, whatever is asked for.
struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// An address relative to another, as an index names its files.
///
/// # Errors
/// When it is none, or leads to another host.
pub fn join(base: &str, file: &str) -> Result<String, FetchError> {
    let base = checked(Url::parse(base), base)?;
    let url = checked(base.join(file), file)?;
    match url.origin() == base.origin() {
        true => Ok(url.into()),
        false => Err(FetchError::NotAnAddress(file.to_owned(), "it leads to another host".into())),
    }
}

fn checked<E: std::fmt::Display>(parsed: Result<Url, E>, text: &str) -> Result<Url, FetchError> {
    let url = parsed.map_err(|e| FetchError::NotAnAddress(shown(text), e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(FetchError::NotAnAddress(shown(text), format!("this one's scheme is {:?}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(FetchError::Credentials);
    }
    Ok(url)
}

/// Where an answer leads on to.
fn next(answer: &Response, from: &Url) -> Result<Url, FetchError> {
    let nowhere = |why: &str| FetchError::Nowhere(from.to_string(), why.to_owned());
    let location = answer.headers().get(header::LOCATION).ok_or_else(|| nowhere("there is no Location"))?;
    let location = location.to_str().map_err(|_| nowhere("its Location is no text"))?;
    let url = checked(from.join(location), location)?;
    match (from.scheme(), url.scheme()) {
        ("https", "http") => Err(FetchError::Downgrade(from.to_string())),
        _ => Ok(url),
    }
}

/// An address as it may be repeated: what may be a password is left out.
fn shown(address: &str) -> String {
    match (address.split_once("://"), address.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://…{}", &address[at..]),
        _ => address.to_owned(),
    }
}

/// The last cause says most.
fn failed(url: &Url, error: &dyn std::error::Error) -> FetchError {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    FetchError::Failed(url.to_string(), cause.to_string())
}

#[cfg(test)]
mod tests;
