//! Gateways of servers on other machines: which name leads where on each, kept as the records and what was seen running say.
//!
//! # Guarantees
//! - A way is given out only while the gateway is known to lead it to that very address: the proxy is told of it afterwards.
//! - What is not wanted any more is taken off a gateway, and what stood open there is ended.
//! - A process that may not act tells no gateway anything.
//! - What worked before this process began goes on until it was looked at, or could have been: no way is given out to it meanwhile.

mod keys;
mod map;
mod trouble;

pub use keys::{GATEWAYS, Keys};
pub use trouble::Trouble;

use super::activity::Counted;
use super::context::Context;
use crate::proxy::gateway::{Admin, Session, Way, domain, label, target};
use crate::resource::DockerServer;
use crate::resource::common::Protocol;
use futures::future::join_all;
use kube::ResourceExt;
use map::{Map, Wanted, led, wanted, with_unseen};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use trouble::Ends;

/// A gateway is asked what it holds this often although nothing changed: somebody may have started it anew.
const VERIFIED_FOR: Duration = Duration::from_secs(30);
/// One that does not answer is asked again after this long, doubling up to [`VERIFIED_FOR`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(3);
/// How long a pass waits for a way that it has just asked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// While a pass waits, it asks again this often, in case its question was lost on a gateway that did not answer.
const ASKS: Duration = Duration::from_millis(250);
/// After this long a gateway leads nowhere any more that this process has not looked at: as long as the proxy's first table waits.
const UNSEEN_FOR: Duration = Duration::from_secs(20);
/// After this long, connections are looked for once more that began while the proxy took up a change.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// Gateways by the name of their server.
#[derive(Clone, Default)]
pub struct Gateways {
    known: Arc<Mutex<BTreeMap<String, Gateway>>>,
    keys: Arc<tokio::sync::Mutex<Option<Keys>>>,
    troubles: Arc<Mutex<BTreeMap<String, Trouble>>>,
    ends: Arc<Mutex<BTreeMap<String, Ends>>>,
    /// Other ways are given out than before.
    news: Arc<Notify>,
}

struct Gateway {
    uid: String,
    /// Host and port.
    address: String,
    keys: Keys,
    /// What it is known to hold, of what this process has seen.
    holds: Map,
    /// All that it is known to hold.
    told: Map,
    /// When this process began to look after it.
    since: Instant,
    /// What came of the last look; none before the first.
    state: Option<Result<(), String>>,
    verified: Option<Instant>,
    wake: Arc<Notify>,
    /// It answers again.
    mended: Arc<Notify>,
    /// One look at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    _guard: DropGuard,
}

impl Gateways {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Gateway>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of this installation's gateways, made where there are none.
    ///
    /// # Errors
    /// In words for people.
    pub async fn keys(&self, ctx: &Context) -> Result<Keys, String> {
        keys::of(ctx, &mut *self.keys.lock().await).await
    }

    /// Keeps the gateway of a server, which listens there; `anew`: it has just been started, and holds nothing.
    pub fn keep(&self, ctx: &Context, record: &DockerServer, address: &str, keys: Keys, anew: bool) {
        let (server, uid) = (record.name_any(), record.uid().unwrap_or_default());
        let mut all = self.lock();
        if let Some(known) = all.get_mut(&server).filter(|known| known.uid == uid) {
            if anew || known.address != address {
                (known.holds, known.told, known.verified) = (Map::new(), Map::new(), None);
            }
            (known.address, known.keys) = (address.to_owned(), keys);
            known.wake.notify_one();
            return;
        }
        let (stop, wake, mended) = (ctx.frame.stop.child_token(), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let gateway = Gateway {
            uid,
            address: address.to_owned(),
            keys,
            holds: Map::new(),
            told: Map::new(),
            since: Instant::now(),
            state: None,
            verified: None,
            wake: wake.clone(),
            mended: mended.clone(),
            turn: Arc::default(),
            _guard: stop.clone().drop_guard(),
        };
        all.insert(server.clone(), gateway);
        drop(all);
        tokio::spawn(follow(ctx.clone(), server, (wake, mended), stop));
    }

    /// Forgets a server that is gone, or is on this machine now.
    pub fn forget(&self, server: &str) {
        self.lock().remove(server);
        self.works(server);
    }

    /// Something may be otherwise.
    pub fn poke(&self) {
        self.lock().values().for_each(|gateway| gateway.wake.notify_one());
    }

    /// Whether a server's gateway did as it was told when it was asked last; `None` where none was asked yet.
    pub fn state(&self, server: &str) -> Option<Result<(), String>> {
        let trouble = self.troubles().get(server).map(|trouble| trouble.words.clone());
        trouble.map_or_else(|| self.lock().get(server)?.state.clone(), |words| Some(Err(words)))
    }

    /// The way to a port of a workspace, if the server's gateway is known to lead there.
    pub fn way(&self, server: &str, uid: &str, to: SocketAddr, protocol: Protocol) -> Option<Arc<Way>> {
        let all = self.lock();
        let gateway = all.get(server)?;
        let label = label(uid, to.port(), protocol);
        let leads = gateway.holds.get(&label).is_some_and(|leads| *leads == target(to, protocol));
        let name = format!("{label}.{}", domain(&gateway.uid));
        let (server, address, identity) = (server.to_owned(), gateway.address.clone(), gateway.keys.proxy.clone());
        leads.then(|| Arc::new(Way { server, gateway: address, name, identity }))
    }

    /// As [`Gateways::way`], which is waited for a moment.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn await_way(&self, server: &str, uid: &str, to: SocketAddr, protocol: Protocol) -> Result<Arc<Way>, String> {
        let there = async {
            loop {
                let mut news = pin!(self.news.notified());
                // What comes between the look and the wait is not missed.
                news.as_mut().enable();
                if let Some(way) = self.way(server, uid, to, protocol) {
                    return way;
                }
                self.lock().get(server).iter().for_each(|gateway| gateway.wake.notify_one());
                let _ = timeout(ASKS, news).await;
            }
        };
        match timeout(PATIENCE, there).await {
            Ok(way) => Ok(way),
            Err(_) => match self.state(server) {
                Some(Err(why)) => Err(format!("the gateway of {server} cannot be told: {why}")),
                _ => Err(format!("the gateway of {server} does not lead there yet")),
            },
        }
    }

    fn admin(&self, ctx: &Context, server: &str) -> Option<Admin> {
        let all = self.lock();
        let gateway = all.get(server)?;
        let (identity, fence) = (gateway.keys.control.clone(), ctx.frame.fence.clone());
        Some(Admin::new(server, &gateway.uid, &gateway.address, identity, fence))
    }

    /// Looks whether a gateway holds what it should, has it do so, and ends what leads elsewhere.
    ///
    /// # Errors
    /// In words for people, when it cannot be told.
    pub async fn look(&self, ctx: &Context, server: &str) -> Result<(), String> {
        let Some(turn) = self.lock().get(server).map(|gateway| gateway.turn.clone()) else { return Ok(()) };
        let _turn = turn.lock().await;
        let mut wanted = wanted(ctx, server);
        if self.awaits(server).is_none() {
            wanted.unseen.clear();
        }
        let settled = |gateway: &Gateway| {
            gateway.holds == wanted.map
                && gateway.told == with_unseen(&gateway.told, &wanted)
                && gateway.state == Some(Ok(()))
                && gateway.verified.is_some_and(|at| at.elapsed() < VERIFIED_FOR)
        };
        let Some((admin, false)) = self.admin(ctx, server).zip(self.lock().get(server).map(settled)) else { return Ok(()) };
        // The lead may be another's by now, whose word holds.
        if !(ctx.frame.fence)() {
            return Err("this process may not act now".into());
        }
        let before = self.lock().get(server).map(|gateway| gateway.holds.clone());
        // What is not led there any more is not given out meanwhile.
        self.note(server, |gateway| gateway.holds.retain(|name, to| wanted.map.get(name) == Some(to)));
        let done = tell(&admin, &wanted).await.map_err(|e| e.to_string());
        let (mut news, mut other) = (false, false);
        self.note(server, |gateway| {
            if let Ok(told) = &done {
                (gateway.holds, gateway.told, gateway.verified) = (wanted.map, told.clone(), Some(Instant::now()));
            }
            other = before.as_ref() != Some(&gateway.holds);
            news = gateway.state.as_ref().map(Result::is_ok) != Some(done.is_ok());
            if news && done.is_ok() {
                gateway.mended.notify_one();
            }
            gateway.state = Some(done.as_ref().map(drop).map_err(Clone::clone));
        });
        if other || news {
            self.news.notify_waiters();
            ctx.triggers.route_table.notify_one();
        }
        if news {
            ctx.triggers.servers.fire_named(None, server);
            ctx.wake_members(server);
        }
        done.map(drop)
    }

    /// How long a gateway still leads to those whom this process has not looked at; `None` when it does not any more.
    fn awaits(&self, server: &str) -> Option<Duration> {
        let since = self.lock().get(server)?.since;
        UNSEEN_FOR.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    fn note(&self, server: &str, change: impl FnOnce(&mut Gateway)) {
        if let Some(gateway) = self.lock().get_mut(server) {
            change(gateway);
        }
    }

    /// Ends what stands open to these addresses of a server, and what is on its way there.
    ///
    /// # Errors
    /// Says which go on, and why.
    pub async fn cut(&self, ctx: &Context, server: &str, addresses: &[SocketAddr]) -> Result<(), String> {
        let Some(admin) = self.admin(ctx, server) else { return Err(format!("the gateway of {server} is not known")) };
        let failed = |e: std::io::Error| format!("connections through the gateway of {server} may go on: {e}");
        if end(&admin, addresses).await.map_err(failed)? {
            // A request that was let through before may have been on its way.
            sleep(STRAGGLERS).await;
            end(&admin, addresses).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Bytes over what stands open through gateways, by the workspaces' uids. Gives those behind gateways that do not tell, and why.
    pub async fn count(&self, ctx: &Context, counted: &mut Counted) -> BTreeMap<String, String> {
        let servers: Vec<String> = self.lock().keys().cloned().collect();
        let admins = servers.into_iter().filter_map(|server| Some((self.admin(ctx, &server)?, server)));
        let asked = admins.map(async |(admin, server)| {
            let answer = timeout(PATIENCE, admin.sessions()).await;
            let late = |_| io::Error::new(ErrorKind::TimedOut, "its gateway does not answer");
            (server, carried(answer.unwrap_or_else(|e| Err(late(e)))))
        });
        let mut blind = BTreeMap::new();
        for (server, carried) in join_all(asked).await {
            for member in ctx.members(&server) {
                let uid = member.uid().unwrap_or_default();
                let sessions = match &carried {
                    Ok(sessions) => sessions,
                    Err(why) => {
                        blind.insert(uid, format!("the gateway of {server} cannot be asked: {why}"));
                        continue;
                    }
                };
                let Some((address, _)) = ctx.upstreams.beyond(&server, &uid) else { continue };
                let own = sessions.iter().filter(|s| s.to.ip() == address);
                let of = counted.entry(uid).or_default();
                of.connections.extend(own.map(|s| (format!("{server} {} {}", s.number, s.to), s.bytes)));
            }
        }
        blind
    }
}

/// What a gateway carries, by what it answers. One that is gone carries nothing; of any other that does not tell nobody knows.
fn carried(answer: io::Result<Vec<Session>>) -> Result<Vec<Session>, String> {
    match answer {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(Vec::new()),
        answer => answer.map_err(|e| e.to_string()),
    }
}

/// Ends what stands open to these addresses now. With a gateway that is gone (`false`), all that it carried is, and what was on its way:
/// what goes through the next one began later.
async fn end(admin: &Admin, addresses: &[SocketAddr]) -> io::Result<bool> {
    let mut open = match admin.sessions().await {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => return Ok(false),
        open => open?,
    };
    open.retain(|session| addresses.contains(&session.to));
    admin.end(&open).await.map(|()| true)
}

/// Has a gateway lead so, and ends what it carries elsewhere. Gives all that it holds now.
async fn tell(admin: &Admin, wanted: &Wanted) -> io::Result<Map> {
    let held = admin.map().await?;
    let all = with_unseen(&held, wanted);
    if held != all {
        admin.lead(&all).await?;
    }
    let led = led(&all);
    let mut elsewhere = admin.sessions().await?;
    elsewhere.retain(|session| !led.contains(&session.to));
    admin.end(&elsewhere).await?;
    Ok(all)
}

/// Looks after one gateway until it is forgotten.
async fn follow(ctx: Context, server: String, (wake, mended): (Arc<Notify>, Arc<Notify>), stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = ctx.gateways.look(&ctx, &server) => looked,
        };
        let well = looked.is_ok();
        let next = match looked {
            Ok(()) => {
                pause = FIRST_PAUSE;
                // What was not looked at in time is let go then.
                ctx.gateways.awaits(&server).map_or(VERIFIED_FOR, |left| left.min(VERIFIED_FOR))
            }
            Err(error) => {
                tracing::debug!(server, error, "a gateway cannot be told");
                let longer = (pause * 2).min(VERIFIED_FOR);
                std::mem::replace(&mut pause, longer)
            }
        };
        // One that does not answer is not asked more often because more changes.
        let news = async { if well { wake.notified().await } else { mended.notified().await } };
        tokio::select! {
            () = stop.cancelled() => return,
            () = news => sleep(GATHER).await,
            () = sleep(next) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gateway_that_is_gone_carries_nothing() {
        let failed = |kind| carried(Err(io::Error::new(kind, "so")));
        assert_eq!(failed(ErrorKind::ConnectionRefused), Ok(Vec::new()));
        for kind in [ErrorKind::TimedOut, ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof, ErrorKind::Other] {
            assert_eq!(failed(kind), Err("so".into()), "{kind}");
        }
    }
}
