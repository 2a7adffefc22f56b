//! When somebody last worked in a workspace: requests to it, traffic over what stands open to it, terminals and commands in it.
//!
//! # Guarantees
//! - What was done while a look could not be had is found by the next one, also by the next process: the record keeps how far was
//!   counted.
//! - A connection over which nothing but signs of life go is no work. Which of the two goes over one is not to be seen at once, nor what
//!   was done meanwhile by a process that has just begun: nothing is to be taken for idle before that is known ([`Activity::unsure`]).
//! - What is behind a gateway that does not tell is not taken for idle, and nothing else is held up by it.

use super::caches::InOrder;
use super::context::Context;
use crate::proxy::Traffic;
use crate::resource::Workspace;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Over a connection this many bytes, both ways, within [`WINDOW`] are work. Pings of WebSockets and the heartbeats of editors and
/// notebooks are some 20 to 500 a minute; each key that is pressed comes back as a picture of itself and more.
const FLOOR: u64 = 1024;
const WINDOW: Duration = Duration::from_secs(60);
/// What is not known yet after a start is asked for again after this long.
const SOON: Duration = Duration::from_secs(5);

/// Work in workspaces through this process, by project and name: terminals, SSH, commands, forwarded ports.
#[derive(Clone, Default)]
pub struct Touched(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Touched {
    /// Something went through.
    pub fn touch(&self, namespace: &str, name: &str) {
        let mut all = lock(&self.0);
        // Said for each piece of data: mostly it has been said.
        if !all.iter().any(|(ns, n)| ns == namespace && n == name) {
            all.insert((namespace.to_owned(), name.to_owned()));
        }
    }
    /// What was touched since this was asked last.
    pub fn take(&self) -> BTreeSet<(String, String)> {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// What went to workspaces, by uid.
pub type Counted = BTreeMap<String, Traffic>;

/// What is known of work in workspaces, by uid.
pub struct Activity {
    ctx: Context,
    touched: Touched,
    /// One look at a time; when the last one that was had began.
    looked: tokio::sync::Mutex<Option<Instant>>,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// How far one workspace was counted.
#[derive(Default)]
pub(super) struct Seen {
    /// It was counted once by this process.
    begun: bool,
    requests: BTreeMap<String, u64>,
    connections: BTreeMap<String, Window>,
    /// Why it could not be seen at the last look what stands open.
    blind: Option<String>,
    /// Since when it is waited for to be counted at all.
    awaited: Option<Instant>,
    last: Option<Instant>,
}

/// Bytes over a connection, and when they were so many.
#[derive(Clone, Copy)]
struct Window {
    /// When the connection was seen first.
    first: Instant,
    since: Instant,
    bytes: u64,
}

impl Seen {
    /// Whether there was work since the last time; `before` is what the record says was counted, by a process before this one.
    pub(super) fn count(&mut self, traffic: &Traffic, before: u64, now: Instant) -> bool {
        // Each route is counted by itself: one that has gone must not hide another, and one that begins anew counts from nought.
        let more = |(route, count): (&String, &u64)| *count > 0 && self.requests.get(route) != Some(count);
        let total: u64 = traffic.requests.values().sum();
        let requests = if self.begun { traffic.requests.iter().any(more) } else { total > 0 && total != before };
        self.begun = true;
        // A route that is closed for a while comes back with its count.
        self.requests.extend(traffic.requests.clone());
        let mut talked = false;
        let mut open = BTreeMap::new();
        for (ends, bytes) in &traffic.connections {
            let known = self.connections.get(ends).filter(|known| known.bytes <= *bytes).copied();
            let window = known.unwrap_or(Window { first: now, since: now, bytes: *bytes });
            let much = bytes - window.bytes >= FLOOR;
            let over = now.duration_since(window.since) >= WINDOW;
            talked |= much;
            open.insert(ends.clone(), if much || over { Window { since: now, bytes: *bytes, ..window } } else { window });
        }
        self.connections = open;
        requests || talked
    }

    /// As [`Seen::count`], where its gateway may not tell what stands open: that is kept as it was, for when it tells again.
    fn note(&mut self, traffic: Option<&Traffic>, blind: Option<&String>, before: u64, now: Instant) -> bool {
        let open = blind.map(|_| self.connections.clone());
        let worked = traffic.is_some_and(|traffic| self.count(traffic, before, now));
        self.connections = open.unwrap_or_else(|| std::mem::take(&mut self.connections));
        self.blind = blind.cloned();
        worked
    }

    /// How long the newest connection that stands open has yet to be looked at, of this long.
    fn unsure(&self, enough: Duration, now: Instant) -> Option<Duration> {
        let newest = self.connections.values().map(|window| window.first).max()?;
        enough.checked_sub(now.duration_since(newest)).filter(|left| !left.is_zero())
    }
}

impl Activity {
    /// Nothing is known yet.
    pub fn new(ctx: Context, touched: Touched) -> Self {
        Self { ctx, touched, looked: tokio::sync::Mutex::default(), seen: Mutex::default() }
    }

    /// When it was seen that the workspace with this uid is worked in: that was since the look before.
    pub fn last(&self, uid: &str) -> Option<Instant> {
        lock(&self.seen).get(uid)?.last
    }

    /// The workspace with this uid works by itself.
    pub fn works(&self, uid: &str) {
        lock(&self.seen).entry(uid.to_owned()).or_default().last = Some(Instant::now());
    }

    /// Requests counted for the workspace with this uid.
    pub fn requests(&self, uid: &str) -> Option<u64> {
        lock(&self.seen).get(uid).filter(|seen| seen.begun).map(|seen| seen.requests.values().sum())
    }

    /// Looks for work in the workspace with this uid: as [`Activity::look`], and what it says of that one.
    ///
    /// # Errors
    /// Says what cannot be seen. It must not be taken for idle then.
    pub async fn look_at(&self, uid: &str) -> Result<(), String> {
        self.look().await?;
        lock(&self.seen).get(uid).and_then(|seen| seen.blind.clone()).map_or(Ok(()), Err)
    }

    /// How long it is yet to be waited until it can be said whether a workspace is worked in, if it is to be idle for this long. A
    /// connection that this process has not known for long may be worked over; and what leads to one that it has not counted at all
    /// may have been used while no process ran.
    pub fn unsure(&self, record: &Workspace, idle: Duration) -> Option<Duration> {
        let (uid, now) = (record.uid()?, Instant::now());
        let (is_known, is_led_to) = (self.ctx.upstreams.knows(&uid), self.is_led_to(record, &uid));
        let mut all = lock(&self.seen);
        let seen = all.entry(uid).or_default();
        match (seen.begun, record.server()) {
            (false, Some(_)) if !is_known => Some(SOON),
            (false, Some(_)) if is_led_to => {
                let since = *seen.awaited.get_or_insert(now);
                WINDOW.checked_sub(now.duration_since(since)).map(|left| left.min(SOON)).filter(|left| !left.is_zero())
            }
            _ => seen.unsure(WINDOW.min(idle / 2), now),
        }
    }

    /// Whether the proxy leads to it, or is about to.
    fn is_led_to(&self, record: &Workspace, uid: &str) -> bool {
        let Context { upstreams, caches, .. } = &self.ctx;
        let routes = caches.own_routes.to(&record.namespace().unwrap_or_default(), &record.name_any());
        let mut routes = routes.iter().filter_map(|route| caches.routes.get(route));
        upstreams.get(uid).is_some() && routes.any(|route| upstreams.is_open(uid, route.spec.port))
    }

    /// Looks for work, unless somebody has begun to since this was called. Many that wait share one look.
    ///
    /// # Errors
    /// Says what cannot be seen, and what to do. Nothing must be taken for idle then.
    pub async fn look(&self) -> Result<(), String> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|at| at >= asked) {
            return Ok(());
        }
        let begun = Instant::now();
        let mut traffic = self.ctx.proxy.traffic().await?;
        let blind = self.ctx.gateways.count(&self.ctx, &mut traffic).await;
        self.note(&traffic, &blind, begun);
        *looked = Some(begun);
        Ok(())
    }

    fn note(&self, traffic: &Counted, blind: &BTreeMap<String, String>, begun: Instant) {
        let (touched, now) = (self.touched.take(), Instant::now());
        let mut known = lock(&self.seen);
        let mut all = BTreeMap::new();
        for workspace in self.ctx.caches.workspaces.in_order(|_| true) {
            let uid = workspace.uid().unwrap_or_default();
            let mut seen = known.remove(&uid).unwrap_or_default();
            let before = workspace.status.as_ref().and_then(|s| s.requests).unwrap_or(0);
            let worked = seen.note(traffic.get(&uid), blind.get(&uid), before, begun);
            let touched = touched.contains(&(workspace.namespace().unwrap_or_default(), workspace.name_any()));
            if worked || touched {
                seen.last = Some(now);
                self.ctx.triggers.lifecycles.fire(&workspace);
            }
            all.insert(uid, seen);
        }
        *known = all;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(requests: &[(&str, u64)], connections: &[(&str, u64)]) -> Traffic {
        let all = |of: &[(&str, u64)]| of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Traffic { requests: all(requests), connections: all(connections) }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_work_and_what_was_counted_before_is_not() {
        let mut seen = Seen::default();
        let mut count = |traffic: &Traffic, before| seen.count(traffic, before, Instant::now());
        assert!(!count(&traffic(&[("a", 4), ("b", 3)], &[]), 7), "the record says so much");
        assert!(!count(&traffic(&[("a", 4), ("b", 3)], &[]), 7));
        assert!(count(&traffic(&[("a", 5), ("b", 3)], &[]), 7));
        assert!(!count(&traffic(&[("a", 5)], &[]), 7), "a route that closes hides nothing");
        assert!(!count(&traffic(&[("a", 5), ("b", 3)], &[]), 7), "nor is it work that it opens");
        assert!(!count(&traffic(&[("a", 0), ("b", 0)], &[]), 7), "the proxy begins anew");
        assert!(count(&traffic(&[("a", 1), ("b", 0)], &[]), 7));
        assert!(Seen::default().count(&traffic(&[("a", 8)], &[]), 7, Instant::now()), "while nobody looked");
        assert!(!Seen::default().count(&traffic(&[("a", 0)], &[]), 7, Instant::now()));
        assert!(Seen::default().count(&traffic(&[("a", 1)], &[]), 0, Instant::now()), "the first ever");
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_connection_is_work_when_more_than_signs_of_life_go_over_it() {
        let mut seen = Seen::default();
        let mut bytes = 500;
        let mut count = |seen: &mut Seen, more: u64| {
            bytes += more;
            seen.count(&traffic(&[], &[("1 2", bytes)]), 0, Instant::now())
        };
        assert!(!count(&mut seen, 100_000), "what went before it was seen is a request, or will be seen again");
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(15)).await;
            assert!(!count(&mut seen, 125), "a heartbeat");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!count(&mut seen, 400));
        assert!(count(&mut seen, 700), "together they are much within a minute");
        assert!(!count(&mut seen, 700));
        assert!(!seen.count(&traffic(&[], &[("1 2", 5)]), 0, Instant::now()), "another connection with the same ends");
    }

    #[tokio::test(start_paused = true)]
    async fn one_to_which_a_connection_has_just_been_seen_is_not_known_to_be_idle() {
        let (mut seen, enough) = (Seen::default(), Duration::from_secs(60));
        let look = |seen: &mut Seen, open: &[(&str, u64)]| {
            seen.count(&traffic(&[], open), 0, Instant::now());
            seen.unsure(enough, Instant::now()).map(|left| left.as_secs())
        };
        assert_eq!(look(&mut seen, &[]), None, "nothing stands open");
        assert_eq!(look(&mut seen, &[("1 2", 90_000)]), Some(60), "a process before this one may have seen much go over it");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(look(&mut seen, &[("1 2", 99_000)]), Some(40), "work counts by itself");
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(look(&mut seen, &[("1 2", 99_000)]), None);
        assert_eq!(look(&mut seen, &[("1 2", 99_000), ("3 2", 0)]), Some(60), "somebody else comes");
        assert_eq!(look(&mut seen, &[("1 2", 99_000)]), None, "and goes");
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_open_behind_a_gateway_that_does_not_tell_is_found_by_the_look_that_tells_again() {
        let (mut seen, why) = (Seen::default(), "it does not answer".to_owned());
        let open = |bytes| traffic(&[("a", 1)], &[("rack 1", bytes)]);
        seen.note(Some(&open(500)), None, 1, Instant::now());
        for _ in 0..2 {
            tokio::time::advance(Duration::from_secs(15)).await;
            assert!(!seen.note(Some(&traffic(&[("a", 1)], &[])), Some(&why), 1, Instant::now()));
            assert_eq!(seen.blind.as_ref(), Some(&why));
        }
        assert!(seen.note(Some(&traffic(&[("a", 2)], &[])), Some(&why), 1, Instant::now()), "requests are the proxy's to tell");
        assert!(seen.note(Some(&traffic(&[("a", 2)], &[("rack 1", 9000)])), None, 1, Instant::now()) && seen.blind.is_none());
        assert!(!seen.note(Some(&traffic(&[("a", 2)], &[])), None, 1, Instant::now()) && seen.connections.is_empty());
    }

    #[test]
    fn what_was_touched_is_told_once() {
        let touched = Touched::default();
        for _ in 0..3 {
            touched.touch("team", "a");
        }
        assert_eq!(touched.clone().take().into_iter().collect::<Vec<_>>(), [("team".to_owned(), "a".to_owned())]);
        assert!(touched.take().is_empty());
    }
}
