//! What to do on an engine so that a workspace is as its record says.

use super::digest;
use super::environment::{Environment, HardLimits};
use super::image::Image;
use crate::resource::Identity;
use crate::resource::common::{Folder, FolderMode, Limits};
use std::collections::{BTreeMap, BTreeSet};

/// Where a workspace's containers are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedNetwork {
    /// The server's shared bridge; the server's loop looks after it.
    Shared(String),
    /// A network of its own.
    Own(String),
}

impl WantedNetwork {
    /// The network's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Shared(name) | Self::Own(name) => name,
        }
    }
}

/// A volume to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVolume {
    /// Its name on the engine.
    pub name: String,
    /// Its role label.
    pub role: String,
    /// It belongs to the project and outlives the workspace.
    pub shared: bool,
}

/// A container to have.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedContainer {
    /// Its name on the engine.
    pub name: String,
    /// `main` or `sidecar.<feature>`.
    pub role: String,
    /// Image.
    pub image: Image,
    /// Command in place of the image's own.
    pub command: Option<Vec<String>>,
    /// Folder it begins in.
    pub workdir: Option<String>,
    /// User that commands in it are run as; the image's own where none is given.
    pub user: Option<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Volumes by name: where they are mounted.
    pub mounts: BTreeMap<String, String>,
    /// Most it may use.
    pub limits: HardLimits,
    /// Digest of all the above.
    pub digest: String,
}

/// Everything a workspace should have on its server.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// It should run.
    pub running: bool,
    /// Its network.
    pub network: WantedNetwork,
    /// Its volumes.
    pub volumes: Vec<WantedVolume>,
    /// The workspace itself.
    pub main: WantedContainer,
    /// Companions on its localhost.
    pub sidecars: Vec<WantedContainer>,
    /// Make an outdated container anew (its own file system is lost, its folders stay).
    pub recreate: bool,
    /// Make its container although it is not to run.
    pub made: bool,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Made or ended.
    Stopped,
    /// Ended, and its engine cannot start it any more, or has removed half of it.
    Stuck,
    /// Between states; look again.
    Busy,
}

/// A container as found under the name wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenContainer {
    /// Its id.
    pub id: String,
    /// Every ownership label proves it is this workspace's.
    pub ours: bool,
    /// Its digest label.
    pub digest: String,
    /// Whether it runs.
    pub state: State,
    /// It is attached to the network wanted (main), or to the main container's (sidecar).
    pub attached: bool,
    /// Other networks it is attached to.
    pub others: Vec<String>,
    /// It may use what it should, as far as is known.
    pub limited: bool,
    /// When it last started; comparable as text within one engine.
    pub started_at: String,
}

/// What was found on the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The network wanted is there: `Some(ours)`.
    pub network: Option<bool>,
    /// Volumes wanted that are there: whether they are ours.
    pub volumes: BTreeMap<String, bool>,
    /// Containers found under the names wanted.
    pub containers: BTreeMap<String, SeenContainer>,
}

/// One thing to do. Containers are named; the executor deletes by the id just seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create the workspace's own network.
    CreateNetwork,
    /// Create a volume.
    CreateVolume(String),
    /// Create a container.
    Create(String),
    /// Attach the main container to its network again.
    Connect(String),
    /// Take a container (the first) off a network (the second) that is not its own.
    Disconnect(String, String),
    /// Give a container the limits it should have.
    Update(String),
    /// Start a container.
    Start(String),
    /// Thaw a container.
    Unpause(String),
    /// Stop a container, keeping it.
    Stop(String),
    /// Remove a container.
    Remove(String),
}

/// Why nothing can be done. `reason` is PascalCase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Machine-readable.
    pub reason: &'static str,
    /// For people: what is in the way and what to do.
    pub message: String,
}

/// The next steps towards `wanted`. Empty: nothing to do. After they are done, look again and plan again.
///
/// # Errors
/// [`Blocked`] when something foreign stands in the way: it is never touched.
pub fn plan(wanted: &Wanted, seen: &Seen) -> Result<Vec<Step>, Blocked> {
    refuse_foreign(wanted, seen)?;
    let mut steps = Vec::new();
    if wanted.running || wanted.made {
        make_ground(wanted, seen, &mut steps);
    }
    let main = seen.containers.get(&wanted.main.name);
    let keep = main.filter(|m| fits(wanted, m));
    if let (Some(_), None) = (main, keep) {
        retire(&wanted.main.name, main, &mut steps);
    }
    steps.extend(keep.and_then(|m| limit(&wanted.main.name, m)));
    match (wanted.running, keep) {
        (true, None) => steps.extend([Step::Create(wanted.main.name.clone()), Step::Start(wanted.main.name.clone())]),
        (true, Some(m)) => bring_up(&wanted.main.name, m, &mut steps),
        (false, None) if wanted.made => steps.push(Step::Create(wanted.main.name.clone())),
        (false, _) => {}
    }
    plan_sidecars(wanted, seen, keep.filter(|_| steps.is_empty()), &mut steps);
    if let (false, Some(m)) = (wanted.running, keep) {
        put_down(&wanted.main.name, m, &mut steps);
    }
    Ok(steps)
}

/// Its own container, whatever it was made from, until somebody asks for it to be made anew: its file system is a person's
/// work, and a record that is behind (a restored one, say) does not know what it was made from. One that is to run must be
/// able to.
fn fits(wanted: &Wanted, main: &SeenContainer) -> bool {
    let startable = !wanted.running || main.state != State::Stuck;
    startable && (!wanted.recreate || main.digest == wanted.main.digest)
}

fn refuse_foreign(wanted: &Wanted, seen: &Seen) -> Result<(), Blocked> {
    let foreign = |what: &str, name: &str| {
        let message = format!(
            "a {what} named {name:?} is there that is not this workspace's; it is left alone. Rename or remove it to go on"
        );
        Err(Blocked { reason: "NameTaken", message })
    };
    if let (WantedNetwork::Own(name), Some(false)) = (&wanted.network, seen.network) {
        return foreign("network", name);
    }
    if let Some((name, _)) = seen.volumes.iter().find(|(_, ours)| !**ours) {
        return foreign("volume", name);
    }
    match seen.containers.iter().find(|(_, c)| !c.ours) {
        Some((name, _)) => foreign("container", name),
        None => Ok(()),
    }
}

/// Network and volumes, before anything that uses them.
fn make_ground(wanted: &Wanted, seen: &Seen, steps: &mut Vec<Step>) {
    if matches!(wanted.network, WantedNetwork::Own(_)) && seen.network.is_none() {
        steps.push(Step::CreateNetwork);
    }
    let missing = wanted.volumes.iter().filter(|v| !seen.volumes.contains_key(&v.name));
    steps.extend(missing.map(|v| Step::CreateVolume(v.name.clone())));
}

/// Before it is started.
fn limit(name: &str, seen: &SeenContainer) -> Option<Step> {
    let settled = matches!(seen.state, State::Running | State::Stopped);
    (settled && !seen.limited).then(|| Step::Update(name.to_owned()))
}

fn bring_up(name: &str, seen: &SeenContainer, steps: &mut Vec<Step>) {
    if !seen.attached {
        steps.push(Step::Connect(name.to_owned()));
    }
    steps.extend(seen.others.iter().map(|other| Step::Disconnect(name.to_owned(), other.clone())));
    match seen.state {
        State::Paused => steps.push(Step::Unpause(name.to_owned())),
        State::Stopped => steps.push(Step::Start(name.to_owned())),
        State::Running | State::Busy | State::Stuck => {}
    }
}

fn put_down(name: &str, seen: &SeenContainer, steps: &mut Vec<Step>) {
    match seen.state {
        State::Paused => steps.extend([Step::Unpause(name.to_owned()), Step::Stop(name.to_owned())]),
        State::Running => steps.push(Step::Stop(name.to_owned())),
        State::Stopped | State::Busy | State::Stuck => {}
    }
}

fn retire(name: &str, seen: Option<&SeenContainer>, steps: &mut Vec<Step>) {
    if let Some(c) = seen {
        put_down(name, c, steps);
        steps.push(Step::Remove(name.to_owned()));
    }
}

/// Sidecars live in the main container's network namespace: they follow it in every start and every new identity.
fn plan_sidecars(wanted: &Wanted, seen: &Seen, settled: Option<&SeenContainer>, steps: &mut Vec<Step>) {
    for sidecar in &wanted.sidecars {
        let there = seen.containers.get(&sidecar.name);
        if !wanted.running {
            if let Some(c) = there {
                put_down(&sidecar.name, c, steps);
            }
            continue;
        }
        // Until the main container has settled nothing can join it; the next look finds it there.
        let Some(main) = settled.filter(|m| m.state == State::Running) else { continue };
        match there {
            None => steps.extend([Step::Create(sidecar.name.clone()), Step::Start(sidecar.name.clone())]),
            Some(c) if !c.attached || c.digest != sidecar.digest || c.state == State::Stuck => {
                retire(&sidecar.name, there, steps);
                steps.extend([Step::Create(sidecar.name.clone()), Step::Start(sidecar.name.clone())]);
            }
            Some(c) if c.state == State::Running && c.started_at < main.started_at => {
                steps.extend([Step::Stop(sidecar.name.clone()), Step::Start(sidecar.name.clone())]);
            }
            Some(c) => {
                steps.extend(limit(&sidecar.name, c));
                match c.state {
                    State::Paused => steps.push(Step::Unpause(sidecar.name.clone())),
                    State::Stopped => steps.push(Step::Start(sidecar.name.clone())),
                    State::Running | State::Busy | State::Stuck => {}
                }
            }
        }
    }
}

/// Names a workspace's Docker objects have. They are made from the record's own names, so that `docker ps` reads
/// well, and from its uid, so that a record made anew under an old name never meets the old one's objects.
pub fn base_name(Identity { namespace, name, uid }: &Identity) -> String {
    format!("ds-{namespace}-{name}-{}", uid.get(..8).unwrap_or(uid))
}

/// What names of folders shared within a project begin with. They stay when a project is deleted, and one made anew under
/// its name must not meet them.
pub fn shared_base(project: &str, project_uid: &str) -> String {
    format!("ds-{project}-{}", project_uid.get(..8).unwrap_or(project_uid))
}

fn sidecar_name(base: &str, feature: &str) -> String {
    format!("{base}.{feature}")
}

/// Names of all containers a workspace should have.
pub fn container_names(base: &str, env: &Environment) -> BTreeSet<String> {
    env.sidecars.keys().map(|feature| sidecar_name(base, feature)).chain([base.to_owned()]).collect()
}

/// What a workspace should have, from its resolved environment. `shared` is the project's [`shared_base`].
pub fn wanted(
    base: &str,
    shared: &str,
    env: &Environment,
    extra_env: &BTreeMap<String, String>,
    network: WantedNetwork,
) -> Wanted {
    let mut volumes = Vec::new();
    let mut variables = env.env.clone();
    variables.extend(extra_env.clone());
    let main = container(
        base.to_owned(),
        "main".into(),
        Parts {
            image: env.image.clone(),
            command: env.command.clone(),
            workdir: env.workdir.clone(),
            user: env.user.clone(),
            env: variables,
            limits: env.limits,
        },
        mounts(base, shared, "", &env.folders, &mut volumes),
    );
    let mut sidecars = Vec::new();
    for (feature, s) in &env.sidecars {
        let mounted = mounts(base, shared, &format!("{feature}."), &s.folders, &mut volumes);
        let parts = Parts {
            image: Image::AsItIs(s.image.clone()),
            command: (!s.command.is_empty()).then(|| s.command.clone()),
            workdir: None,
            user: None,
            env: s.env.clone(),
            limits: sidecar_limits(&s.limits, env.limits),
        };
        sidecars.push(container(sidecar_name(base, feature), format!("sidecar.{feature}"), parts, mounted));
    }
    Wanted { running: true, network, volumes, main, sidecars, recreate: false, made: false }
}

/// What a companion may use: what its feature does not say is as the main container's.
pub(super) fn sidecar_limits(own: &Limits, main: HardLimits) -> HardLimits {
    HardLimits {
        cpu: own.cpu.unwrap_or(main.cpu),
        memory_mb: own.memory_mb.unwrap_or(main.memory_mb),
        pids: own.pids.unwrap_or(main.pids),
    }
}

struct Parts {
    image: Image,
    command: Option<Vec<String>>,
    workdir: Option<String>,
    user: Option<String>,
    env: BTreeMap<String, String>,
    limits: HardLimits,
}

fn container(name: String, role: String, parts: Parts, mounts: BTreeMap<String, String>) -> WantedContainer {
    let Parts { image, command, workdir, user, env, limits } = parts;
    // As text: what digests were made from must not change, or every container there is would be outdated.
    let begins = workdir.as_ref().map(|path| format!("{path:?}")).unwrap_or_default();
    let is_of = user.as_ref().map(|user| format!("user {user:?}")).unwrap_or_default();
    let digest = digest(&format!("{:?}{command:?}{env:?}{mounts:?}{limits:?}{begins}{is_of}", image.reference()));
    WantedContainer { name, role, image, command, workdir, user, env, mounts, limits, digest }
}

fn mounts(
    base: &str,
    shared_base: &str,
    prefix: &str,
    folders: &[Folder],
    volumes: &mut Vec<WantedVolume>,
) -> BTreeMap<String, String> {
    let mut mounted = BTreeMap::new();
    for f in folders {
        let shared = f.mode == FolderMode::Shared;
        let name = if shared { format!("{shared_base}.shared.{prefix}{}", f.name) } else { format!("{base}.{prefix}{}", f.name) };
        let role = format!("{}.{prefix}{}", if shared { "shared" } else { "folder" }, f.name);
        volumes.push(WantedVolume { name: name.clone(), role, shared });
        mounted.insert(name, f.path.clone());
    }
    mounted
}

#[cfg(test)]
#[path = "workspace_tests.rs"]
mod tests;
