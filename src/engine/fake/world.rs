//! All that the fake engine holds.

use super::events::Ring;
use super::faults::Faults;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// When the fake's time begins: any moment will do, as long as it is always the same.
const EPOCH_SECONDS: i64 = 1_767_225_600;
/// Output kept of a container.
pub(super) const LOG_CHUNKS: usize = 4096;

/// How far a container's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Created,
    Running,
    Paused,
    Exited,
    /// Its removal failed half-way.
    Dead,
}

/// A piece of a container's log.
#[derive(Clone, Debug)]
pub(super) struct LogChunk {
    pub(super) at: jiff::Timestamp,
    pub(super) stderr: bool,
    pub(super) text: Vec<u8>,
}

/// A container. `config` and `host` are as they were asked for.
#[derive(Debug)]
pub(super) struct FakeContainer {
    pub(super) id: String,
    pub(super) name: String,
    /// Id of its image.
    pub(super) image: String,
    pub(super) config: Value,
    pub(super) host: Value,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) life: Life,
    /// Cores that it keeps busy while it runs.
    pub(super) load: f64,
    /// Counts starts, so that what was to happen in an earlier run does not happen in a later one.
    pub(super) run: u64,
    pub(super) exit_code: i64,
    pub(super) oom_killed: bool,
    pub(super) error: String,
    pub(super) created: jiff::Timestamp,
    pub(super) started: Option<jiff::Timestamp>,
    pub(super) finished: Option<jiff::Timestamp>,
    /// By network name: the network's id (empty before the first start) and the address while it runs.
    pub(super) networks: BTreeMap<String, (String, Option<Ipv4Addr>)>,
    /// By volume name: where.
    pub(super) mounts: BTreeMap<String, String>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) log: VecDeque<LogChunk>,
    /// Pieces of the log that were dropped for its length.
    pub(super) log_dropped: u64,
    /// Ticks when the log grows or the run ends. Made when someone first waits.
    pub(super) changed: Option<watch::Sender<u64>>,
}

/// A bridge network.
#[derive(Debug)]
pub(super) struct FakeNetwork {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) options: BTreeMap<String, String>,
    pub(super) subnet: ipnet::Ipv4Net,
    pub(super) used: BTreeSet<Ipv4Addr>,
    pub(super) last: u32,
}

/// An image on the server.
#[derive(Clone, Debug)]
pub(super) struct FakeImage {
    pub(super) id: String,
    /// The digest of its one layer.
    pub(super) layer: String,
    pub(super) labels: BTreeMap<String, String>,
    /// What a container made of it begins with.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

/// A volume and the files in it.
#[derive(Debug, Default)]
pub(super) struct FakeVolume {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

/// A command to be run, running, or done in a container.
#[derive(Debug)]
pub(super) struct FakeExec {
    pub(super) container: String,
    pub(super) argv: Vec<String>,
    pub(super) tty: bool,
    /// User by number; root where none is asked for.
    pub(super) user: String,
    /// Its input is attached.
    pub(super) stdin: bool,
    pub(super) running: bool,
    pub(super) exit_code: Option<i64>,
    /// Columns and rows.
    pub(super) size: (u16, u16),
}

/// What the fake's clock shows: time since it was made.
pub(super) struct Watch(pub(super) Box<dyn Fn() -> Duration + Send>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", (self.0)())
    }
}

/// The engine's whole state.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    /// Images that it takes get ids of its own.
    pub(super) own_ids: bool,
    /// Further names in what it saves.
    pub(super) also_saved_as: Vec<String>,
    pub(super) cores: u32,
    /// Its kernel does not count swap.
    pub(super) swapless: bool,
    pub(super) memory: u64,
    pub(super) memory_available: u64,
    /// Size and free part of its disk, in bytes.
    pub(super) disk: (u64, u64),
    /// What the probe finds open, as `address port`.
    pub(super) reachable: BTreeSet<(String, String)>,
    pub(super) made: u64,
    pub(super) watch: Watch,
    pub(super) ticks: i64,
    /// How often each thing was done to each object, by what it is, its name and the event's action.
    pub(super) tally: BTreeMap<(String, String, String), u64>,
    /// How many things were done.
    pub(super) changes: watch::Sender<u64>,
    pub(super) containers: BTreeMap<String, FakeContainer>,
    /// Container ids by name.
    pub(super) names: BTreeMap<String, String>,
    /// Ids of containers that something was left behind of, so that they cannot be started.
    pub(super) left: BTreeSet<String>,
    pub(super) networks: BTreeMap<String, FakeNetwork>,
    pub(super) volumes: BTreeMap<String, FakeVolume>,
    /// Images by reference.
    pub(super) images: BTreeMap<String, FakeImage>,
    /// References a registry has, with their images' labels.
    pub(super) registry: BTreeMap<String, BTreeMap<String, String>>,
    /// Name and password that registries want, by host.
    pub(super) logins: BTreeMap<String, (String, String)>,
    /// References whose pull fails in the middle, and with which words.
    pub(super) broken: BTreeMap<String, String>,
    pub(super) execs: BTreeMap<String, FakeExec>,
    pub(super) events: Ring,
    pub(super) faults: Faults,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            own_ids: false,
            also_saved_as: Vec::new(),
            cores: 2,
            swapless: false,
            memory: 8 << 30,
            memory_available: 6 << 30,
            disk: (100 << 30, 80 << 30),
            reachable: BTreeSet::new(),
            made: 0,
            watch: Watch({
                let begun = Instant::now();
                Box::new(move || begun.elapsed())
            }),
            tally: BTreeMap::new(),
            changes: watch::channel(0).0,
            ticks: 0,
            containers: BTreeMap::new(),
            names: BTreeMap::new(),
            left: BTreeSet::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            registry: BTreeMap::new(),
            logins: BTreeMap::new(),
            broken: BTreeMap::new(),
            execs: BTreeMap::new(),
            events: Ring::default(),
            faults: Faults::default(),
        }
    }

    /// A new 64-digit id.
    pub(super) fn new_id(&mut self) -> String {
        self.made += 1;
        digest(&format!("{}/{}", self.seed, self.made))
    }

    /// Now. No two calls give the same time, so that two starts can be told apart.
    pub(super) fn now(&mut self) -> jiff::Timestamp {
        self.ticks += 1;
        self.time()
    }

    /// The time, as it is until something happens.
    pub(super) fn time(&self) -> jiff::Timestamp {
        let elapsed = jiff::SignedDuration::try_from((self.watch.0)()).unwrap_or_default();
        let since = elapsed + jiff::SignedDuration::from_nanos(self.ticks);
        jiff::Timestamp::new(EPOCH_SECONDS, 0).and_then(|epoch| epoch.checked_add(since)).unwrap_or_default()
    }

    /// A container's id by name, whole id or the beginning of an id, in Docker's order.
    pub(super) fn find(&self, asked: &str) -> Option<&str> {
        if let Some(found) = self.containers.get(asked) {
            return Some(&found.id);
        }
        if let Some(id) = self.names.get(asked) {
            return Some(id);
        }
        let mut begin = self.containers.range(asked.to_owned()..).take_while(|(id, _)| id.starts_with(asked));
        let first = begin.next().filter(|_| !asked.is_empty())?;
        begin.next().is_none().then_some(first.0)
    }

    /// Emits a container's event, with its labels as Docker does.
    pub(super) fn tell_of_container(&mut self, action: &str, id: &str, more: &[(&str, String)]) {
        let Some(container) = self.containers.get(id) else { return };
        *self.tally.entry(("container".into(), container.name.clone(), action.into())).or_default() += 1;
        self.changes.send_modify(|n| *n += 1);
        let mut attributes = container.labels.clone();
        attributes.insert("name".into(), container.name.clone());
        attributes.insert("image".into(), container.config["Image"].as_str().unwrap_or_default().to_owned());
        attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        let at = self.now();
        self.events.push("container", action, id, attributes, at);
    }

    /// Emits an event of a network or a volume: without labels.
    pub(super) fn tell(&mut self, kind: &str, action: &str, id: &str, attributes: &[(&str, String)]) {
        let attributes: BTreeMap<_, _> = attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let name = attributes.get("name").map_or(id, String::as_str).to_owned();
        *self.tally.entry((kind.into(), name, action.into())).or_default() += 1;
        self.changes.send_modify(|n| *n += 1);
        let at = self.now();
        self.events.push(kind, action, id, attributes, at);
    }
}

/// 64 hexadecimal digits.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}
