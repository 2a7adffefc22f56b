//! A proxy in memory, for tests of what stands above it.

use super::types::{LiveRoute, LiveRoutes, ProxyError, RouteTable, Traffic};
use super::{Proxy, async_trait};
use crate::resource::common::Protocol;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often [`Proxy::wait_live`] looks.
const LOOK: Duration = Duration::from_millis(1);

/// Holds what was published, after a delay, until told to fail or to forget.
#[derive(Default)]
pub struct FakeProxy {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    published: Option<RouteTable>,
    held: RouteTable,
    /// Since when what was published waits to be held.
    since: Option<Instant>,
    latency: Duration,
    failure: Option<ProxyError>,
    errors: BTreeMap<String, String>,
    publishes: usize,
    traffic: BTreeMap<String, Traffic>,
}

impl State {
    /// Whether what was published will only be taken over. It is due at once where the clock is another one than it was
    /// published by: each paused runtime has its own.
    fn waits(&self) -> bool {
        self.since.is_some_and(|since| Instant::now().checked_duration_since(since).is_some_and(|past| past < self.latency))
    }

    /// Takes over what is due.
    fn settle(&mut self) {
        if self.since.is_some() && !self.waits() && self.failure.is_none() {
            self.held = self.published.clone().unwrap_or_default();
            self.since = None;
        }
    }
}

impl FakeProxy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, what is published is live after this time.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// From now on, the proxy fails (`Some`), keeping what it holds, or answers again (`None`).
    pub fn set_failure(&self, failure: Option<ProxyError>) {
        self.state().failure = failure;
    }

    /// From now on, the proxy reports this error for the route with this uid; an empty text ends it.
    pub fn set_route_error(&self, uid: &str, error: &str) {
        self.state().errors.insert(uid.into(), error.into());
    }

    /// The proxy restarts empty; it takes what was published again after its latency.
    pub fn forget(&self) {
        let mut state = self.state();
        state.held = RouteTable::default();
        state.since = state.published.is_some().then(Instant::now);
    }

    /// From now on, this much went to the workspace with this uid.
    pub fn set_traffic(&self, workspace_uid: &str, traffic: Traffic) {
        self.state().traffic.insert(workspace_uid.into(), traffic);
    }

    /// The routes it serves now.
    pub fn routes(&self) -> RouteTable {
        let mut state = self.state();
        state.settle();
        state.held.clone()
    }

    /// How often a table that differed from the one before was published.
    pub fn publishes(&self) -> usize {
        self.state().publishes
    }
}

#[async_trait]
impl Proxy for FakeProxy {
    fn publish(&self, table: &RouteTable) {
        let mut state = self.state();
        state.settle();
        if state.published.as_ref() != Some(table) {
            state.published = Some(table.clone());
            state.since = Some(Instant::now());
            state.publishes += 1;
            state.settle();
        }
    }

    /// Upstreams of a simulation are no addresses of this machine.
    async fn reaches(&self, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    async fn answers(&self, _: SocketAddr, _: Protocol, _: &str) -> io::Result<u16> {
        Ok(200)
    }

    async fn traffic(&self) -> Result<BTreeMap<String, Traffic>, String> {
        let state = self.state();
        state.failure.as_ref().map_or(Ok(()), |failure| Err(failure.to_string()))?;
        let of = |entry: &super::RouteEntry| entry.workspace_uid.clone();
        let told = |uid: String| (uid.clone(), state.traffic.get(&uid).cloned().unwrap_or_default());
        Ok(state.published.iter().flat_map(|table| table.0.values()).map(of).map(told).collect())
    }

    async fn live(&self) -> Result<LiveRoutes, ProxyError> {
        let mut state = self.state();
        state.settle();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let published = state.published.clone().unwrap_or_default();
        let report = |uid: &String, held| {
            let error = state.errors.get(uid).cloned().unwrap_or_default();
            (uid.clone(), LiveRoute { current: published.0.get(uid) == Some(held) && error.is_empty(), error })
        };
        Ok(LiveRoutes(state.held.0.iter().map(|(uid, held)| report(uid, held)).collect()))
    }

    async fn wait_live(&self, patience: Duration) -> Result<LiveRoutes, ProxyError> {
        let settled = async {
            while self.state().waits() {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(patience, settled).await;
        self.live().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::RouteEntry;
    use crate::resource::common::{Protocol, Visibility};

    fn table() -> RouteTable {
        let entry = RouteEntry {
            host: "a.localhost".into(),
            upstream: ([127, 0, 0, 1], 80).into(),
            protocol: Protocol::Http,
            visibility: Visibility::Public,
            workspace_uid: "w".into(),
            way: None,
        };
        RouteTable([("r".to_owned(), entry)].into())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_is_live_after_the_latency_and_again_after_a_restart() {
        let proxy = FakeProxy::default();
        proxy.set_latency(Duration::from_millis(100));
        proxy.publish(&table());
        assert!(proxy.live().await.unwrap().0.is_empty());
        assert!(proxy.wait_live(Duration::from_secs(1)).await.unwrap().0["r"].current);
        proxy.forget();
        assert!(proxy.live().await.unwrap().0.is_empty());
        assert!(proxy.wait_live(Duration::from_secs(1)).await.unwrap().0["r"].current);
        assert_eq!(proxy.publishes(), 1);
    }

    #[test]
    fn what_waits_by_a_clock_that_is_gone_waits_no_more() {
        let on_a_clock_of_its_own =
            || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let proxy = FakeProxy::default();
        proxy.set_failure(Some(ProxyError::Unreachable("gone".into())));
        on_a_clock_of_its_own().block_on(async {
            sleep(Duration::from_secs(3600)).await;
            proxy.publish(&table());
        });
        proxy.set_failure(None);
        on_a_clock_of_its_own().block_on(async { assert!(proxy.live().await.unwrap().0["r"].current) });
    }

    #[tokio::test]
    async fn a_failing_proxy_keeps_its_routes() {
        let proxy = FakeProxy::default();
        proxy.publish(&table());
        proxy.live().await.unwrap();
        proxy.set_failure(Some(ProxyError::Unreachable("gone".into())));
        proxy.publish(&RouteTable::default());
        assert!(proxy.live().await.is_err());
        assert_eq!(proxy.routes(), table());
    }
}
