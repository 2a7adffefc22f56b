//! Observe, plan, execute, until there is nothing left to do.

use super::observe::{Observed, Owner, observe, resources};
use super::{Site, elsewhere, images};
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::server::own_bridge;
use crate::controllers::status::{Pass, still_so};
use crate::engine::{
    Attach, Container, ContainerId, ContainerSpec, ContainerState, Engine, EngineError, NetworkSpec, VolumeSpec,
};
use crate::plan::workspace::{Seen, State, Step, Wanted, WantedContainer, plan};
use crate::resource::conditions::condition;
use crate::resource::{Workspace, WorkspacePhase, WorkspaceStatus, labels};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Rounds of one pass; more than any plan needs, so that two who disagree cannot keep a pass for ever.
const ROUNDS: usize = 6;
/// Tries in quick succession to make what nobody is seen to have made, though its name is taken.
const NAME_TAKEN: u32 = 5;
/// How long a workspace has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// How a workspace is on its engine, once there is nothing left to do.
#[derive(Default)]
pub struct Settled {
    /// What holds a companion back, where the workspace itself runs.
    pub held: Option<PassError>,
    /// Volumes its container has.
    pub volumes: BTreeSet<String>,
    /// It was seen in a list, which does not tell all: a closer look is due.
    pub listed: bool,
}

/// Brings the engine to where the record says. What is seen on the way is noted at once: where the workspace is
/// reached, and whether its container is up to date.
pub async fn settle(
    ctx: &Context,
    record: &Workspace,
    site: &Site,
    wanted: &Wanted,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<Settled, PassError> {
    let owner = owner(ctx, record);
    // A list does not tell of a run that began while nobody looked, in which there are no credentials yet; nor when a
    // container was started that the record does not know.
    let clones = pass.status.repositories_digest.is_some() && ctx.clones.is_new(&owner.record);
    let known = pass.status.container_id.clone().filter(|_| !clones && pass.status.started_at.is_some());
    let (cores, mut unlimited) = (cores(ctx, &site.server), None);
    let mut listed = ctx.listings.take(&owner.identity.uid).filter(|c| known.as_deref() == Some(c.id.as_str()));
    for _ in 0..ROUNDS {
        let from_list = listed.is_some();
        let observed = observe(site.engine.as_ref(), &owner, wanted, listed.take(), &ctx.restarts, cores).await?;
        if give_name_back(site, &owner, wanted, &observed, pass).await? {
            continue;
        }
        note(ctx, &owner.record, site, wanted, &observed, pass);
        // What is in the way has no event that would wake us when it goes, so we look again by ourselves.
        let steps = plan(wanted, &observed.seen).map_err(|b| PassError::transient("ContainerRunning", b.reason, b.message))?;
        if from_list && !steps.is_empty() {
            // A list may show that there is nothing to do; what is to be done is decided on a closer look.
            continue;
        }
        let (mut steps, held) = hold_back(ctx, &owner.record, &observed, steps);
        if let Some(why) = &unlimited {
            steps.retain(|s| !matches!(s, Step::Update(_)));
            pass.notice(condition("UpToDate", false, "LimitsChanged", why));
        }
        if steps.is_empty() {
            return match held {
                Some(held) if observed.address(wanted).is_none() => Err(held),
                held => settled(&observed, wanted, pass).map(|volumes| Settled { held, volumes, listed: from_list }),
            };
        }
        if steps.iter().any(|s| matches!(s, Step::CreateNetwork | Step::CreateVolume(_) | Step::Create(_) | Step::Start(_))) {
            let now = still_so(&ctx.frame.client, record).await?;
            // Nor does an old copy know that what stands still is being carried to another server.
            if is_moving(&now) && !is_moving(record) {
                return Err(PassError::overtaken());
            }
            // Beside its volumes a container is made anew as anybody's that was removed.
            let is_beside = wanted.volumes.iter().any(|v| !v.shared) && !steps.iter().any(|s| matches!(s, Step::CreateVolume(_)));
            if observed.main(wanted).is_none() && !is_beside {
                elsewhere::refuse(ctx, record, site, pass).await?;
            }
        }
        images::have(ctx, site, &made(wanted, &steps), pass).await?;
        announce(wanted, pass);
        if steps.iter().any(|s| matches!(s, Step::Stop(n) | Step::Remove(n) if *n == wanted.main.name)) {
            // Its address may be another's as soon as it is free.
            ctx.reached(&owner.record, None);
        }
        let mut ids = ids(&observed.seen);
        let main = observed.main(wanted).map(|m| m.id.clone());
        let hands = Hands { ctx, engine: site.engine.as_ref(), owner: &owner, wanted, main, observed: &observed, cores };
        let mut looked = true;
        for step in &steps {
            if let (false, Step::Create(name)) = (looked, step) {
                hands.keep_volumes(name).await.map_err(|e| hands.explain(step, &e))?;
            }
            match (step, hands.take(step, &mut ids).await) {
                // What runs goes on running.
                (Step::Update(_), Err(e)) if e.reason == "LimitsChanged" => unlimited = Some(e.message),
                (_, done) => done.map(|()| pass.did(describe(step)))?,
            }
            // Ending takes its time, in which what was seen before may have been removed.
            looked &= !matches!(step, Step::Stop(_) | Step::Remove(_));
        }
    }
    Err(PassError::transient("ContainerRunning", "DoesNotSettle", "something keeps changing its containers; trying again later"))
}

fn is_moving(record: &Workspace) -> bool {
    record.status.as_ref().is_some_and(|s| s.moving.is_some())
}

/// A container that somebody renamed is the workspace's still, with all that is in it: another one in its place would be empty.
/// Whether there was one.
async fn give_name_back(
    site: &Site,
    owner: &Owner,
    wanted: &Wanted,
    observed: &Observed,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<bool, PassError> {
    let name = &wanted.main.name;
    let Some(known) = pass.status.container_id.clone().filter(|_| !observed.containers.contains_key(name)) else {
        return Ok(false);
    };
    let failed = |e| PassError::engine("ContainerRunning", &e);
    let found = site.engine.inspect(&known).await.map_err(failed)?.filter(|c| c.id.as_str() == known);
    let Some(renamed) = found.filter(|c| owner.of(&wanted.main.role).proves(&c.labels)) else { return Ok(false) };
    // It may have got it while we looked.
    if renamed.name != *name {
        site.engine.rename(&renamed.id, name).await.map_err(failed)?;
        pass.did(format!("gave container {} its name {name} back", renamed.name));
    }
    Ok(true)
}

fn cores(ctx: &Context, server: &str) -> Option<u32> {
    ctx.caches.servers.get(&ObjectRef::new(server))?.status.as_ref()?.cpu_cores
}

/// Whose the workspace's objects are.
pub fn owner(ctx: &Context, record: &Workspace) -> Owner {
    let project = record.namespace().unwrap_or_default();
    let found = ctx.caches.projects.get(&ObjectRef::new(&project));
    Owner {
        instance: ctx.instance.clone(),
        record: record.uid().unwrap_or_default(),
        identity: record.identity(),
        project_uid: found.and_then(|p| p.uid()).unwrap_or_default(),
        project,
    }
}

fn note(ctx: &Context, uid: &str, site: &Site, wanted: &Wanted, observed: &Observed, pass: &mut Pass<WorkspaceStatus>) {
    let address = observed.address(wanted).filter(|_| wanted.running);
    pass.status.address = address.map(|a| a.to_string());
    ctx.reached(uid, site.place(address));
    if let Some(main) = observed.main(wanted) {
        up_to_date(wanted, main.labels.get(labels::DIGEST).map_or("", String::as_str), pass);
    }
}

/// Says when the container was made from an older environment than the records now describe.
fn up_to_date(wanted: &Wanted, made_from: &str, pass: &mut Pass<WorkspaceStatus>) {
    pass.status.environment = Some(made_from.to_owned());
    let current = made_from == wanted.main.digest;
    pass.status.latest_environment = (!current).then(|| wanted.main.digest.clone());
    if current {
        // Whoever made it may have ended before writing this down.
        pass.status.image = Some(wanted.main.image.reference());
    }
    pass.notice(if current {
        condition("UpToDate", true, "UpToDate", "")
    } else {
        let message = format!(
            "its template, features or env have changed since its container was made; to make it anew (its folders stay, the rest \
             of its file system is lost) set the annotation {}={}",
            labels::RECREATE,
            wanted.main.digest
        );
        condition("UpToDate", false, "EnvironmentChanged", message)
    });
}

/// Containers that are to be made.
fn made<'w>(wanted: &'w Wanted, steps: &[Step]) -> Vec<&'w WantedContainer> {
    let all = wanted.sidecars.iter().chain([&wanted.main]);
    all.filter(|c| steps.iter().any(|s| matches!(s, Step::Create(name) if *name == c.name))).collect()
}

/// A container that ended and is to be started again must not do so without end. Gives the steps that may be taken now.
fn hold_back(ctx: &Context, uid: &str, observed: &Observed, steps: Vec<Step>) -> (Vec<Step>, Option<PassError>) {
    let anew: Vec<String> = steps.iter().filter_map(|s| if let Step::Create(n) = s { Some(n.clone()) } else { None }).collect();
    let mut held = None;
    let mut may = |step: &Step| {
        let Step::Start(name) = step else { return true };
        if anew.contains(name) {
            ctx.restarts.forget_one(uid, name);
            return true;
        }
        let Some(ended) = observed.containers.get(name).filter(|c| c.state == ContainerState::Exited) else { return true };
        let allowed = ctx.restarts.allow(uid, name, Instant::now());
        held = held.take().or(allowed.err().map(|(times, wait)| crash_loop(ended, times, wait)));
        allowed.is_ok()
    };
    let now = steps.into_iter().filter(|s| may(s)).collect();
    (now, held)
}

fn crash_loop(ended: &Container, times: u32, wait: Duration) -> PassError {
    let why = match ended.error.as_str() {
        _ if ended.oom_killed => "killed for using more memory than its limit",
        // A busy engine misses what the kernel did (seen with dockerd 20.10).
        "" if ended.exit_code == 137 => "killed, by hand or for using more memory than its limit",
        "" => "its program ended",
        failed => failed,
    };
    let message = format!(
        "container {} has been started {times} times in a row and ended each time (last with exit code {}, {why}); see \
         `devsanctum logs`. It is started again by itself, ever more seldom; or correct its template and recreate it",
        ended.name, ended.exit_code
    );
    PassError::waiting("ContainerRunning", "CrashLoopBackOff", message, wait)
}

fn settled(observed: &Observed, wanted: &Wanted, pass: &mut Pass<WorkspaceStatus>) -> Result<BTreeSet<String>, PassError> {
    if observed.seen.containers.values().any(|c| c.state == State::Busy) {
        let message = "the engine is still removing or restarting a container";
        return Err(PassError::waiting("ContainerRunning", "EngineBusy", message, Duration::from_secs(1)));
    }
    let Some(main) = observed.main(wanted) else { return Ok(BTreeSet::new()) };
    pass.status.container_id = Some(main.id.as_str().to_owned());
    // A list does not tell.
    if !main.started_at.is_empty() {
        pass.status.started_at = Some(main.started_at.clone());
    }
    if wanted.running {
        pass.holds("ImageReady", "Present");
        pass.holds("ContainerRunning", "Running");
    }
    Ok(main.mounts.keys().cloned().collect())
}

fn announce(wanted: &Wanted, pass: &mut Pass<WorkspaceStatus>) {
    pass.status.phase = match (wanted.running, pass.status.phase) {
        (true, _) => WorkspacePhase::Starting,
        (false, _) => WorkspacePhase::Stopping,
    };
}

fn ids(seen: &Seen) -> BTreeMap<String, String> {
    seen.containers.iter().map(|(name, c)| (name.clone(), c.id.clone())).collect()
}

fn describe(step: &Step) -> String {
    match step {
        Step::CreateNetwork => "created its network".into(),
        Step::CreateVolume(n) => format!("created volume {n}"),
        Step::Create(n) => format!("created container {n}"),
        Step::Connect(n) => format!("connected container {n}"),
        Step::Disconnect(n, other) => format!("took container {n} off network {other}"),
        Step::Update(n) => format!("gave container {n} its limits back"),
        Step::Start(n) => format!("started container {n}"),
        Step::Unpause(n) => format!("thawed container {n}"),
        Step::Stop(n) => format!("stopped container {n}"),
        Step::Remove(n) => format!("removed container {n}"),
    }
}

struct Hands<'a> {
    ctx: &'a Context,
    engine: &'a dyn Engine,
    owner: &'a Owner,
    wanted: &'a Wanted,
    main: Option<ContainerId>,
    observed: &'a Observed,
    /// Cores the server has, if they are known.
    cores: Option<u32>,
}

impl Hands<'_> {
    async fn take(&self, step: &Step, ids: &mut BTreeMap<String, String>) -> Result<(), PassError> {
        let done = match step {
            Step::CreateNetwork => self.create_network().await,
            Step::CreateVolume(name) => self.create_volume(name).await,
            Step::Create(name) => self.create(name).await.map(|id| drop(ids.insert(name.clone(), id.as_str().to_owned()))),
            Step::Connect(name) => self.engine.connect(self.wanted.network.name(), &id(ids, name)?).await,
            Step::Disconnect(name, other) => self.engine.disconnect(other, &id(ids, name)?).await,
            Step::Update(name) => self.limit(name, &id(ids, name)?).await,
            Step::Start(name) => self.start(name, &id(ids, name)?).await,
            Step::Unpause(name) => self.engine.unpause(&id(ids, name)?).await,
            Step::Stop(name) => self.engine.stop(&id(ids, name)?, GRACE).await,
            Step::Remove(name) => self.engine.remove(&id(ids, name)?).await,
        };
        if done.is_ok() {
            self.ctx.restarts.made(&self.owner.record, &describe(step));
        }
        done.map_err(|e| self.explain(step, &e))
    }

    /// A stopped container whose network was made anew still names the old one, and Docker refuses to start it.
    async fn start(&self, name: &str, id: &ContainerId) -> Result<(), EngineError> {
        let started = match self.engine.start(id).await {
            Err(EngineError::NotFound(words) | EngineError::Failed(words) | EngineError::Invalid(words))
                if name == self.wanted.main.name && words.contains("network") && words.contains("not found") =>
            {
                self.engine.connect(self.wanted.network.name(), id).await?;
                self.engine.start(id).await
            }
            done => done,
        };
        let found = self.observed.containers.get(name).filter(|c| c.id == *id);
        if let (Some(found), Err(EngineError::Failed(words) | EngineError::Invalid(words) | EngineError::Conflict(words))) =
            (found, &started)
        {
            self.ctx.restarts.refused(&self.owner.record, found, words, Instant::now());
        }
        started
    }

    /// Gives a container its limits back, and looks what its engine made of them.
    async fn limit(&self, name: &str, id: &ContainerId) -> Result<(), EngineError> {
        let Some(wanted) = self.all().find(|c| c.name == name) else { return Ok(()) };
        let limits = resources(wanted, self.cores);
        self.engine.update(id, &limits).await?;
        let now = self.engine.inspect(id.as_str()).await?;
        if let Some(now) = now.filter(|c| c.resources != Some(limits)) {
            tracing::warn!(container = name, asked = ?limits, given = ?now.resources, "the engine gives other limits");
            self.ctx.restarts.gives(&self.owner.record, &now);
        }
        Ok(())
    }

    /// All containers of the workspace.
    fn all(&self) -> impl Iterator<Item = &WantedContainer> {
        self.wanted.sidecars.iter().chain([&self.wanted.main])
    }

    /// The engine's words, with what they mean here.
    fn explain(&self, step: &Step, e: &EngineError) -> PassError {
        match (step, e) {
            // Somebody (perhaps ourselves, when an answer was lost) made it meanwhile: the next look decides whose it is.
            (Step::Create(_) | Step::CreateVolume(_) | Step::CreateNetwork, EngineError::Conflict(words)) => {
                if self.ctx.restarts.taken(&self.owner.record, &describe(step)) <= NAME_TAKEN {
                    return PassError::waiting("ContainerRunning", "NameTaken", words.clone(), Duration::from_millis(200));
                }
                let words = format!(
                    "{words} (The engine shows nothing of that name. It is tried again by itself, ever more seldom; if it stays so, \
                     restart the engine, which may keep names of what is gone)"
                );
                PassError::transient("ContainerRunning", "NameTaken", words)
            }
            (Step::Create(name), EngineError::ImageMissing(_)) => {
                let servers = self.ctx.caches.servers.state();
                for image in self.all().filter(|c| &c.name == name).map(|c| c.image.reference()) {
                    servers.iter().for_each(|s| self.ctx.supply.forget(&s.name_any(), &image));
                }
                PassError::waiting("ImageReady", "ImageMissing", e.to_string(), Duration::from_millis(500))
            }
            (Step::Start(_), EngineError::Invalid(words) | EngineError::Failed(words) | EngineError::Conflict(words)) => {
                PassError::transient("ContainerRunning", "StartFailed", format!("the engine could not start it: {words}"))
            }
            (Step::Update(name), EngineError::Invalid(words) | EngineError::Failed(words) | EngineError::Conflict(words)) => {
                let words = format!(
                    "somebody changed what container {name} may use, and the engine refuses to give it the limits of its template back: \
                     {words}. It is tried again at each look; or stop and start the workspace when less is in use"
                );
                PassError::transient("UpToDate", "LimitsChanged", words)
            }
            _ => PassError::engine("ContainerRunning", e),
        }
    }

    async fn create_network(&self) -> Result<(), EngineError> {
        let spec = NetworkSpec {
            name: self.wanted.network.name().to_owned(),
            labels: self.owner.of("network").labels(),
            subnet: None,
            bridge: Some(own_bridge(&self.owner.instance, self.wanted.network.name())),
            inter_container: true,
        };
        self.engine.create_network(&spec).await.map(drop)
    }

    async fn create_volume(&self, name: &str) -> Result<(), EngineError> {
        let Some(volume) = self.wanted.volumes.iter().find(|v| v.name == name) else { return Ok(()) };
        self.engine.create_volume(&VolumeSpec { name: name.to_owned(), labels: self.owner.of_volume(volume).labels() }).await
    }

    /// Makes the volumes of a container where they are missing: Docker would make them without our labels, and what is not
    /// provably ours is never used again.
    async fn keep_volumes(&self, name: &str) -> Result<(), EngineError> {
        for volume in self.all().filter(|c| c.name == name).flat_map(|c| c.mounts.keys()) {
            self.create_volume(volume).await?;
        }
        Ok(())
    }

    async fn create(&self, name: &str) -> Result<ContainerId, EngineError> {
        if name == self.wanted.main.name {
            let attach = Attach::Network(self.wanted.network.name().to_owned());
            return self.engine.create(&self.spec(&self.wanted.main, attach)).await;
        }
        let sidecar = self.wanted.sidecars.iter().find(|s| s.name == name);
        match (sidecar, &self.main) {
            (Some(s), Some(main)) => self.engine.create(&self.spec(s, Attach::Container(main.clone()))).await,
            _ => Err(EngineError::Failed(format!("{name} has no container to join"))),
        }
    }

    fn spec(&self, wanted: &WantedContainer, attach: Attach) -> ContainerSpec {
        let main = matches!(attach, Attach::Network(_));
        let mut all_labels = self.owner.of(&wanted.role).labels_with_digest(&wanted.digest);
        let limits = resources(wanted, self.cores);
        all_labels.extend(wanted.user.iter().map(|user| (labels::USER.to_owned(), user.clone())));
        ContainerSpec {
            name: wanted.name.clone(),
            image: wanted.image.reference(),
            command: wanted.command.clone(),
            workdir: wanted.workdir.clone(),
            env: wanted.env.clone(),
            labels: all_labels,
            mounts: wanted.mounts.clone(),
            attach,
            hostname: main.then(|| self.owner.identity.name.clone()),
            memory: limits.memory,
            nano_cpus: limits.nano_cpus,
            pids: limits.pids,
        }
    }
}

fn id(ids: &BTreeMap<String, String>, name: &str) -> Result<ContainerId, PassError> {
    ids.get(name)
        .and_then(|id| ContainerId::parse(id))
        .ok_or_else(|| PassError::transient("ContainerRunning", "ObjectVanished", format!("container {name} is gone")))
}
