//! The fake's handle: engines to it, and everything a test can do to it behind its clients' backs.

use super::faults::{Call, Fault, Faults};
use super::shell::Step;
use super::transport;
use super::world::{FakeContainer, Life, Watch, World};
use crate::engine::docker::DockerEngine;
use crate::engine::{EngineError, ExecOutput, Labels};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Answers commands in place of the tiny shell: container name and command line to output, or `None` to let it be.
type Script = dyn Fn(&str, &[String]) -> Option<ExecOutput> + Send + Sync;

/// An in-memory Docker Engine. Clones are the same engine.
#[derive(Clone)]
pub struct FakeEngine {
    world: Arc<Mutex<World>>,
    script: Arc<Mutex<Option<Arc<Script>>>>,
    listener: Arc<Mutex<Option<Arc<Listener>>>>,
}

/// What of a container is seen at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Whether it runs; one that is paused does.
    pub running: bool,
    /// Its addresses while it runs.
    pub addresses: Vec<Ipv4Addr>,
}

/// Hears of each call twice and may make it go wrong.
type Listener = dyn Fn(&Call<'_>) -> Option<Fault> + Send + Sync;

/// The faults of a locked world.
pub(super) struct FaultsGuard<'a>(MutexGuard<'a, World>);

impl Deref for FaultsGuard<'_> {
    type Target = Faults;
    fn deref(&self) -> &Faults {
        &self.0.faults
    }
}

impl DerefMut for FaultsGuard<'_> {
    fn deref_mut(&mut self) -> &mut Faults {
        &mut self.0.faults
    }
}

impl FakeEngine {
    /// A new engine without images. The same seed gives the same ids. Needs a tokio runtime for its clock.
    pub fn new(seed: u64) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed))), script: Arc::default(), listener: Arc::default() }
    }

    /// The real client, connected to it, for an installation.
    pub fn engine(&self, instance: &str) -> Result<DockerEngine, EngineError> {
        DockerEngine::over(transport::client(self), instance)
    }

    /// Serves it on a socket, as dockerd would, to clients in other processes. Ends when the listener fails.
    pub async fn listen(&self, listener: tokio::net::UnixListener) -> std::io::Result<()> {
        transport::listen(self.clone(), listener).await
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> FaultsGuard<'_> {
        FaultsGuard(self.world())
    }

    /// Ticks when a container's log grows or its run ends; and the run it is in.
    pub(super) fn watch(&self, id: &str) -> Option<(watch::Receiver<u64>, u64)> {
        let mut world = self.world();
        let container = world.containers.get_mut(id)?;
        let changed = container.changed.get_or_insert_with(|| watch::channel(0).0).subscribe();
        Some((changed, container.run))
    }

    pub(super) fn scripted(&self, container: &str, argv: &[String]) -> Option<VecDeque<Step>> {
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let name = self.world().containers.get(container)?.name.clone();
        let output = script(&name, argv)?;
        Some(VecDeque::from([Step::Out(output.stdout), Step::Err(output.stderr), Step::Exit(output.code)]))
    }

    // What it has.

    /// Puts an image on it.
    pub fn add_image(&self, reference: &str) {
        self.world().learn_image(reference);
    }
    /// Takes an image off it.
    pub fn remove_image(&self, reference: &str) {
        self.world().images.remove(&super::images::tagged(reference));
    }
    /// Whether images that it takes get ids of its own, as where it keeps them in containerd's store.
    pub fn set_own_ids(&self, own: bool) {
        self.world().own_ids = own;
    }
    /// What it saves bears this name as well, as where somebody wants it to be taken for another image.
    pub fn save_also_as(&self, name: &str) {
        self.world().also_saved_as.push(name.to_owned());
    }
    /// Puts an image into the registry it pulls from.
    pub fn publish_image(&self, reference: &str) {
        self.world().registry.insert(super::images::tagged(reference), Default::default());
    }
    /// Makes the registry of this host want a login.
    pub fn want_login(&self, host: &str, user: &str, password: &str) {
        self.world().logins.insert(host.to_owned(), (user.to_owned(), password.to_owned()));
    }
    /// Puts an image into the registry whose pull fails in the middle, with these words.
    pub fn publish_broken_image(&self, reference: &str, words: &str) {
        self.world().broken.insert(super::images::tagged(reference), words.to_owned());
    }
    /// Sets its cores, and its memory and disk in bytes: all, and free.
    pub fn set_resources(&self, cores: u32, memory: (u64, u64), disk: (u64, u64)) {
        let mut world = self.world();
        (world.cores, world.disk) = (cores, disk);
        (world.memory, world.memory_available) = memory;
    }
    /// Whether its kernel does not count swap, so that it drops limits of it and says so to nobody.
    pub fn set_swapless(&self, swapless: bool) {
        self.world().swapless = swapless;
    }
    /// Lets the reachability check find a target open.
    pub fn set_reachable(&self, address: &str, port: u16) {
        self.world().reachable.insert((address.to_owned(), port.to_string()));
    }
    /// Lets its clock show what the function tells: time since it was made. For an engine that outlives a runtime, whose
    /// clock it would otherwise go by.
    pub fn set_watch(&self, watch: impl Fn() -> Duration + Send + 'static) {
        self.world().watch = Watch(Box::new(watch));
    }
    /// Answers commands by a function; `None` leaves one to the tiny shell.
    pub fn on_exec(&self, script: impl Fn(&str, &[String]) -> Option<ExecOutput> + Send + Sync + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(script));
    }

    // What goes wrong.

    /// Tells each call to a function, when it arrives and when it is done. What the function gives goes wrong with it; of a
    /// call that is done, what comes after it.
    pub fn on_call(&self, listener: impl Fn(&Call<'_>) -> Option<Fault> + Send + Sync + 'static) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listener));
    }

    pub(super) fn listener(&self) -> Option<Arc<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes every call take this long.
    pub fn set_latency(&self, latency: Duration) {
        self.faults().latency = latency;
    }
    /// Plans a fault for the `nth` next call of that name (0: the very next). Names are those of the port's methods.
    pub fn plan_fault(&self, call: &str, nth: u32, fault: Fault) {
        self.faults().planned.push((call.to_owned(), nth, fault));
    }
    /// Whether calls hang, as when dockerd is stopped by a signal.
    pub fn set_silent(&self, silent: bool) {
        self.faults().silent = silent;
    }
    /// Whether new connections are refused, as when dockerd is down. Streams that are open end.
    pub fn set_refusing(&self, refusing: bool) {
        let mut world = self.world();
        world.faults.refusing = refusing;
        if refusing {
            world.events.cut();
        }
    }
    /// Whether it cannot be asked: it refuses connections, or is silent.
    pub fn is_away(&self) -> bool {
        let faults = self.faults();
        faults.refusing || faults.silent
    }
    /// How often each call was made so far.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.faults().calls.clone()
    }

    // What others do.

    /// Kills a container by name, as someone with `docker kill`. Whether there was one that ran.
    pub fn kill(&self, name: &str) -> bool {
        self.world().kill(name, "KILL").is_ok()
    }
    /// Lets a container's main process end by itself.
    pub fn exit(&self, name: &str, code: i64) -> bool {
        let mut world = self.world();
        let id = world.names.get(name).cloned();
        id.map(|id| world.finish(&id, code)).is_some()
    }
    /// Kills a container for its memory.
    pub fn oom_kill(&self, name: &str) -> bool {
        let mut world = self.world();
        let Some(id) = world.names.get(name).cloned() else { return false };
        world.tell_of_container("oom", &id, &[]);
        world.finish(&id, 137);
        world.containers.get_mut(&id).is_some_and(|c| {
            c.oom_killed = true;
            true
        })
    }
    /// Pauses a container.
    pub fn pause(&self, name: &str) -> bool {
        self.world().set_paused(name, true).is_ok()
    }
    /// From now on, and as if since it was started, a container keeps so many cores busy.
    pub fn set_load(&self, name: &str, cores: f64) -> bool {
        let mut world = self.world();
        let id = world.names.get(name).cloned();
        let found = id.and_then(|id| world.containers.get_mut(&id));
        found.is_some_and(|container| {
            container.load = cores;
            true
        })
    }
    /// Removes a container by name, as `docker rm -f`.
    pub fn remove(&self, name: &str) -> bool {
        self.world().remove(name, true).is_ok()
    }
    /// Whether a name is kept for a container that nobody sees.
    pub fn set_reserved(&self, name: &str, reserved: bool) {
        let mut world = self.world();
        let id = world.new_id();
        if reserved {
            world.names.insert(name.to_owned(), id)
        } else {
            world.names.remove(name)
        };
    }
    /// Begins to remove a container by name, as when its file system is in use: it has ended, and is there.
    pub fn remove_half(&self, name: &str) -> bool {
        let mut world = self.world();
        let Some(id) = world.names.get(name).cloned() else { return false };
        world.finish(&id, 137);
        world.containers.get_mut(&id).is_some_and(|c| {
            c.life = Life::Dead;
            true
        })
    }
    /// Renames a container.
    pub fn rename(&self, name: &str, to: &str) -> bool {
        self.world().rename(name, to).is_ok()
    }
    /// Changes what a container may use, as somebody with `docker update`: in the words of Docker's API.
    pub fn update(&self, name: &str, resources: &serde_json::Value) -> bool {
        self.world().update(name, resources).is_ok()
    }
    /// Whether something of a container is left behind in its runtime, so that starting it is refused.
    pub fn set_left_behind(&self, name: &str, left: bool) {
        let mut world = self.world();
        let Some(id) = world.names.get(name).cloned() else { return };
        if left {
            world.left.insert(id)
        } else {
            world.left.remove(&id)
        };
    }
    /// Disconnects a container from a network.
    pub fn disconnect(&self, network: &str, name: &str) -> bool {
        self.world().disconnect(network, name, true).is_ok()
    }
    /// Removes a network by force: containers on it lose their address first.
    pub fn remove_network(&self, name: &str) -> bool {
        let mut world = self.world();
        let on_it: Vec<_> = world.containers.values().filter(|c| c.networks.contains_key(name)).map(|c| c.id.clone()).collect();
        on_it.iter().for_each(|id| drop(world.disconnect(name, id, true)));
        world.remove_network(name).is_ok()
    }
    /// Makes and starts a container that is not ours, or pretends to be; the image is put there for it.
    pub fn add_foreign(&self, name: &str, labels: &Labels) -> bool {
        let mut world = self.world();
        world.learn_image("foreign:1");
        let body = json!({ "Image": "foreign:1", "Labels": labels, "HostConfig": { "NetworkMode": "none" } });
        world.create(Some(name), body).and_then(|id| world.start(&id)).is_ok()
    }
    /// Restarts dockerd after `kill -9`: everything that ran has ended with 137, and nothing is started again.
    pub fn restart_daemon(&self) {
        let mut world = self.world();
        world.events.cut();
        let running = |life: Life| matches!(life, Life::Running | Life::Paused);
        let ran: Vec<_> = world.containers.values().filter(|c| running(c.life)).map(|c| c.id.clone()).collect();
        ran.iter().for_each(|id| world.finish(id, 137));
    }

    /// Restarts dockerd where it lets containers go on without it: streams end, and nothing else.
    pub fn restart_daemon_alone(&self) {
        self.world().events.cut();
    }

    // What there is.

    /// Its time.
    pub fn now(&self) -> jiff::Timestamp {
        self.world().time()
    }

    /// Names of all containers, foreign ones too, and whether they run.
    pub fn containers(&self) -> BTreeMap<String, bool> {
        self.world().containers.values().map(|c| (c.name.clone(), matches!(c.life, Life::Running))).collect()
    }
    /// How often each thing was done: what kind of object, its name, and the action as Docker's events call it.
    pub fn tally(&self) -> BTreeMap<(String, String, String), u64> {
        self.world().tally.clone()
    }
    /// Ticks whenever something is done to its objects.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.world().changes.subscribe()
    }
    /// All containers, in little.
    pub fn glance(&self) -> Vec<Glance> {
        let glance = |c: &FakeContainer| Glance {
            name: c.name.clone(),
            labels: c.labels.clone(),
            running: matches!(c.life, Life::Running | Life::Paused),
            addresses: c.networks.values().filter_map(|(_, address)| *address).collect(),
        };
        self.world().containers.values().map(glance).collect()
    }
    /// All containers as an inspect shows them, by name.
    pub fn inspected(&self) -> BTreeMap<String, serde_json::Value> {
        self.world().containers.values().map(|c| (c.name.clone(), c.inspected())).collect()
    }
    /// Names of all networks.
    pub fn networks(&self) -> Vec<String> {
        self.world().networks.values().map(|n| n.name.clone()).collect()
    }
    /// Names of all volumes.
    pub fn volumes(&self) -> Vec<String> {
        self.world().volumes.keys().cloned().collect()
    }
}
