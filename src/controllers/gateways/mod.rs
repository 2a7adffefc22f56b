//! Gateways of servers on other machines: which name leads where on each, kept as the records and what was seen running say.
//!
//! # Guarantees
//! - A way is given out only while the gateway is known to lead it to that very address: the proxy is told of it afterwards.
//! - What is not wanted any more is taken off a gateway, and what stood open there is ended.
//! - A process that may not act tells no gateway anything.

mod keys;

pub use keys::{GATEWAYS, Keys};

use super::activity::Counted;
use super::caches::InOrder;
use super::context::Context;
use crate::proxy::gateway::{Admin, Way, domain, label, target};
use crate::resource::common::Protocol;
use crate::resource::{DockerServer, Workspace};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A gateway is asked what it holds this often although nothing changed: somebody may have started it anew.
const VERIFIED_FOR: Duration = Duration::from_secs(30);
/// One that does not answer is asked again after this long, doubling up to [`VERIFIED_FOR`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(3);
/// How long a pass waits for a way that it has just asked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// One that ended, or could not be made, is not made anew as it was for this long, doubling up to [`LONGEST_REST`]: less than 300
/// times a day.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(400);
/// After this long, connections are looked for once more that began while the proxy took up a change.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// What a gateway leads where: names within its domain, and targets.
type Map = BTreeMap<String, String>;

/// Gateways by the name of their server.
#[derive(Clone, Default)]
pub struct Gateways {
    known: Arc<Mutex<BTreeMap<String, Gateway>>>,
    keys: Arc<tokio::sync::Mutex<Option<Keys>>>,
    troubles: Arc<Mutex<BTreeMap<String, Trouble>>>,
}

/// Why a server has no gateway that works.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// PascalCase.
    pub reason: &'static str,
    /// For people: what is wrong and what to do.
    pub words: String,
    /// What it was made of; empty where it is not at fault.
    pub digest: String,
    /// When that was seen.
    pub at: Instant,
    /// How often before, one time after the other.
    pub times: u32,
}

impl Trouble {
    /// What is wrong now.
    pub fn new(reason: &'static str, words: String, digest: &str) -> Self {
        Self { reason, words, digest: digest.to_owned(), at: Instant::now(), times: 0 }
    }

    /// How long nothing is tried again that was made of the same.
    fn rests(&self) -> Duration {
        FIRST_REST.saturating_mul(1 << self.times.min(10)).min(LONGEST_REST)
    }
}

struct Gateway {
    uid: String,
    /// Host and port.
    address: String,
    keys: Keys,
    /// What it is known to hold.
    holds: Map,
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
                (known.holds, known.verified) = (Map::new(), None);
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

    /// What was wrong with a server's gateway is so no more.
    pub fn works(&self, server: &str) {
        self.troubles().remove(server);
    }

    /// Something is wrong with a server's gateway; gives when to look again.
    pub fn fails(&self, server: &str, mut trouble: Trouble) -> Duration {
        let mut all = self.troubles();
        if let Some(before) = all.get(server) {
            // It is what was told before.
            let same = before.at == trouble.at;
            let again = (before.reason, &before.digest) == (trouble.reason, &trouble.digest);
            trouble.times = if same || !again { trouble.times } else { before.times + 1 };
        }
        let rests = trouble.rests();
        all.insert(server.to_owned(), trouble);
        rests
    }

    /// What was wrong lately with a gateway made of the same.
    pub fn held(&self, server: &str, digest: &str) -> Option<Trouble> {
        self.troubles().get(server).filter(|t| t.digest == digest && t.at.elapsed() < t.rests()).cloned()
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<String, Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
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
                if let Some(way) = self.way(server, uid, to, protocol) {
                    return way;
                }
                self.lock().get(server).iter().for_each(|gateway| gateway.wake.notify_one());
                sleep(Duration::from_millis(10)).await;
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

    fn admin(&self, server: &str) -> Option<Admin> {
        let all = self.lock();
        let gateway = all.get(server)?;
        Some(Admin::new(server, &gateway.uid, &gateway.address, gateway.keys.control.clone()))
    }

    /// Looks whether a gateway holds what it should, has it do so, and ends what leads elsewhere.
    ///
    /// # Errors
    /// In words for people, when it cannot be told.
    pub async fn look(&self, ctx: &Context, server: &str) -> Result<(), String> {
        let Some(turn) = self.lock().get(server).map(|gateway| gateway.turn.clone()) else { return Ok(()) };
        let _turn = turn.lock().await;
        let wanted = wanted(ctx, server);
        let settled = |gateway: &Gateway| {
            gateway.holds == wanted
                && gateway.state == Some(Ok(()))
                && gateway.verified.is_some_and(|at| at.elapsed() < VERIFIED_FOR)
        };
        let Some((admin, false)) = self.admin(server).zip(self.lock().get(server).map(settled)) else { return Ok(()) };
        // The lead may be another's by now, whose word holds.
        if !(ctx.frame.fence)() {
            return Err("this process may not act now".into());
        }
        // What is not led there any more is not given out meanwhile.
        self.note(server, |gateway| gateway.holds.retain(|name, to| wanted.get(name) == Some(to)));
        let done = tell(&admin, &wanted).await.map_err(|e| e.to_string());
        let mut news = false;
        self.note(server, |gateway| {
            if done.is_ok() {
                (gateway.holds, gateway.verified) = (wanted, Some(Instant::now()));
            }
            news = gateway.state.as_ref().map(Result::is_ok) != Some(done.is_ok());
            if news && done.is_ok() {
                gateway.mended.notify_one();
            }
            gateway.state = Some(done.clone());
        });
        ctx.triggers.route_table.notify_one();
        if news {
            ctx.triggers.servers.fire_named(None, server);
            ctx.wake_members(server);
        }
        done
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
    pub async fn cut(&self, server: &str, addresses: &[SocketAddr]) -> Result<(), String> {
        let Some(admin) = self.admin(server) else { return Err(format!("the gateway of {server} is not known")) };
        let failed = |e: std::io::Error| format!("connections through the gateway of {server} may go on: {e}");
        end(&admin, addresses).await.map_err(failed)?;
        // A request that was let through before may have been on its way.
        sleep(STRAGGLERS).await;
        end(&admin, addresses).await.map_err(failed)
    }

    /// Bytes over what stands open through gateways, to the workspaces with these uids. A gateway that cannot be asked carries
    /// nothing that could be counted.
    pub async fn count(&self, ctx: &Context, counted: &mut Counted) {
        let servers: Vec<String> = self.lock().keys().cloned().collect();
        for server in servers {
            let Some(admin) = self.admin(&server) else { continue };
            let Ok(Ok(sessions)) = timeout(PATIENCE, admin.sessions()).await else { continue };
            for member in ctx.members(&server) {
                let uid = member.uid().unwrap_or_default();
                let Some((address, _)) = ctx.upstreams.beyond(&server, &uid) else { continue };
                let own = sessions.iter().filter(|s| s.to.ip() == address);
                let of = counted.entry(uid).or_default();
                of.connections.extend(own.map(|s| (format!("{server} {} {}", s.number, s.to), s.bytes)));
            }
        }
    }
}

/// Ends what stands open to these addresses now. With a gateway that is gone, all that it carried is.
async fn end(admin: &Admin, addresses: &[SocketAddr]) -> std::io::Result<()> {
    let mut open = match admin.sessions().await {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => return Ok(()),
        open => open?,
    };
    open.retain(|session| addresses.contains(&session.to));
    admin.end(&open).await
}

/// What a server's gateway is to lead where: to the ports of its workspaces that run, and those that routes name.
fn wanted(ctx: &Context, server: &str) -> Map {
    let stays = |w: &Workspace| w.server() == Some(server) && w.metadata.deletion_timestamp.is_none() && w.warm_of().is_none();
    let mut routed: BTreeMap<_, Vec<(u16, Protocol)>> = BTreeMap::new();
    for route in ctx.caches.routes.state() {
        let of = (route.namespace(), route.spec.workspace.clone());
        routed.entry(of).or_default().push((route.spec.port, route.spec.protocol));
    }
    let mut all = Map::new();
    for workspace in ctx.caches.workspaces.in_order(stays) {
        let uid = workspace.uid().unwrap_or_default();
        let Some((address, ports)) = ctx.upstreams.beyond(server, &uid) else { continue };
        let routed = routed.remove(&(workspace.namespace(), workspace.name_any())).unwrap_or_default();
        for (port, protocol) in ports.into_iter().chain(routed) {
            all.insert(label(&uid, port, protocol), target((address, port).into(), protocol));
        }
    }
    all
}

/// Has a gateway lead so, and ends what it carries elsewhere.
async fn tell(admin: &Admin, wanted: &Map) -> std::io::Result<()> {
    if admin.map().await? != *wanted {
        admin.lead(wanted).await?;
    }
    let address = |to: &String| {
        let mut parts = to.split('/');
        Some(SocketAddr::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let led: BTreeSet<SocketAddr> = wanted.values().filter_map(address).collect();
    let mut elsewhere = admin.sessions().await?;
    elsewhere.retain(|session| !led.contains(&session.to));
    admin.end(&elsewhere).await
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
                VERIFIED_FOR
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

    #[tokio::test(start_paused = true)]
    async fn what_does_not_go_is_tried_ever_more_seldom_and_at_once_when_it_is_another() {
        let gateways = Gateways::default();
        let (mut tries, begun) = (0, Instant::now());
        while begun.elapsed() < Duration::from_secs(24 * 3600) {
            let found = gateways.held("rack", "a").unwrap_or_else(|| {
                tries += 1;
                Trouble::new("PortTaken", "taken".into(), "a")
            });
            tokio::time::advance(gateways.fails("rack", found).min(Duration::from_secs(60))).await;
        }
        assert!((100..300).contains(&tries), "{tries}");
        assert!(gateways.held("rack", "b").is_none(), "another image, say");
        assert_eq!(gateways.state("rack"), Some(Err("taken".into())));
        gateways.works("rack");
        assert!(gateways.held("rack", "a").is_none() && gateways.state("rack").is_none());
    }
}
