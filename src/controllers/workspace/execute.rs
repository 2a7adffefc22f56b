//! Observe, plan, execute, until there is nothing left to do.

use super::observe::{Observed, Owner, observe};
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::server::shared_network;
use crate::controllers::status::Pass;
use crate::engine::{Attach, ContainerId, ContainerSpec, ContainerState, Engine, EngineError, NetworkSpec, VolumeSpec};
use crate::plan::workspace::{Seen, State, Step, Wanted, WantedContainer, base_name, plan};
use crate::resource::{Workspace, WorkspacePhase, WorkspaceStatus, labels};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Rounds of one pass; more than any plan needs, so that two who disagree cannot keep a pass for ever.
const ROUNDS: usize = 6;
/// How long a workspace has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// The main container once all is settled.
pub struct Main {
    /// Its address on its network.
    pub address: Option<IpAddr>,
    /// Digest of what it was made from.
    pub digest: String,
}

/// Brings the engine to where the record says. `None` when there is (rightly) no container.
pub async fn settle(
    ctx: &Context,
    record: &Workspace,
    engine: &dyn Engine,
    wanted: &Wanted,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<Option<Main>, PassError> {
    let owner = owner(ctx, record);
    let mut listed = ctx.listings.take(&owner.uid);
    for _ in 0..ROUNDS {
        let from_list = listed.is_some();
        let observed = observe(engine, &owner, wanted, listed.take()).await?;
        // What is in the way has no event that would wake us when it goes, so we look again by ourselves.
        let steps = plan(wanted, &observed.seen).map_err(|b| PassError::transient("ContainerRunning", b.reason, b.message))?;
        if steps.is_empty() {
            return settled(&observed, wanted, pass);
        }
        if from_list {
            // A list may show that there is nothing to do; what is to be done is decided on a closer look.
            continue;
        }
        announce(wanted, pass);
        hold_back(ctx, &owner, &observed, &steps)?;
        let mut ids = ids(&observed.seen);
        for step in &steps {
            let hands = Hands { ctx, engine, owner: &owner, wanted, main: observed.main.as_ref().map(|m| m.id.clone()) };
            hands.take(step, &mut ids).await?;
            pass.did(describe(step));
        }
    }
    Err(PassError::transient("ContainerRunning", "DoesNotSettle", "something keeps changing its containers; trying again later"))
}

/// Where the workspace is reached, if what runs under its name is provably its own. Changes nothing.
pub async fn look(ctx: &Context, record: &Workspace, engine: &dyn Engine) -> Result<Option<IpAddr>, PassError> {
    let owner = owner(ctx, record);
    let base = base_name(&owner.namespace, &owner.name, &owner.uid);
    let listed = ctx.listings.take(&owner.uid).filter(|c| c.name == base);
    let main = match listed {
        Some(listed) => Some(listed),
        None => engine.inspect(&base).await.map_err(|e| PassError::engine("ContainerRunning", &e))?,
    };
    let main = main.filter(|c| c.state == ContainerState::Running && owner.of("main").proves(&c.labels));
    let networks = [shared_network(&ctx.instance), base];
    Ok(main.and_then(|c| networks.iter().find_map(|n| c.networks.get(n).copied().flatten())))
}

fn owner(ctx: &Context, record: &Workspace) -> Owner {
    Owner {
        instance: ctx.instance.clone(),
        uid: record.uid().unwrap_or_default(),
        namespace: record.namespace().unwrap_or_default(),
        project_uid: project_uid(ctx, record),
        name: record.name_any(),
    }
}

/// A main container that ended and is to be started again must not do so without end.
fn hold_back(ctx: &Context, owner: &Owner, observed: &Observed, steps: &[Step]) -> Result<(), PassError> {
    let Some(main) = observed.main.as_ref().filter(|m| m.state == ContainerState::Exited) else { return Ok(()) };
    if !steps.iter().any(|s| matches!(s, Step::Start(name) if *name == main.name)) {
        return Ok(());
    }
    ctx.restarts.allow(&owner.uid, Instant::now()).map_err(|(times, wait)| {
        let why = if main.oom_killed { "killed for using more memory than its limit" } else { "its program ended" };
        let message = format!(
            "it has been started {times} times in a row and ended each time (last with exit code {}, {why}); see `devsanctum logs`. \
             It is started again by itself, ever more seldom; or correct its template and recreate it",
            main.exit_code
        );
        PassError::waiting("ContainerRunning", "CrashLoopBackOff", message, wait)
    })
}

fn project_uid(ctx: &Context, record: &Workspace) -> String {
    let project = ObjectRef::new(&record.namespace().unwrap_or_default());
    ctx.caches.projects.get(&project).and_then(|p| p.uid()).unwrap_or_default()
}

fn settled(observed: &Observed, wanted: &Wanted, pass: &mut Pass<WorkspaceStatus>) -> Result<Option<Main>, PassError> {
    let busy = observed.seen.containers.values().any(|c| c.state == State::Busy);
    if busy {
        let message = "the engine is still removing or restarting a container";
        return Err(PassError::waiting("ContainerRunning", "EngineBusy", message, Duration::from_secs(1)));
    }
    let Some(main) = &observed.main else { return Ok(None) };
    pass.status.container_id = Some(main.id.as_str().to_owned());
    if wanted.running {
        pass.holds("ContainerRunning", "Running");
    }
    let digest = main.labels.get(labels::DIGEST).cloned().unwrap_or_default();
    Ok(Some(Main { address: observed.address(wanted), digest }))
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
}

impl Hands<'_> {
    async fn take(&self, step: &Step, ids: &mut BTreeMap<String, String>) -> Result<(), PassError> {
        let done = match step {
            Step::CreateNetwork => self.create_network().await,
            Step::CreateVolume(name) => self.create_volume(name).await,
            Step::Create(name) => self.create(name).await.map(|id| drop(ids.insert(name.clone(), id.as_str().to_owned()))),
            Step::Connect(name) => self.engine.connect(self.wanted.network.name(), &id(ids, name)?).await,
            Step::Start(name) => self.start(name, &id(ids, name)?).await,
            Step::Unpause(name) => self.engine.unpause(&id(ids, name)?).await,
            Step::Stop(name) => self.engine.stop(&id(ids, name)?, GRACE).await,
            Step::Remove(name) => self.engine.remove(&id(ids, name)?).await,
        };
        done.map_err(|e| self.explain(step, &e))
    }

    /// A stopped container whose network was made anew still names the old one, and Docker refuses to start it.
    async fn start(&self, name: &str, id: &ContainerId) -> Result<(), EngineError> {
        match self.engine.start(id).await {
            Err(EngineError::NotFound(words) | EngineError::Failed(words) | EngineError::Invalid(words))
                if name == self.wanted.main.name && words.contains("network") && words.contains("not found") =>
            {
                self.engine.connect(self.wanted.network.name(), id).await?;
                self.engine.start(id).await
            }
            done => done,
        }
    }

    /// The engine's words, with what they mean here.
    fn explain(&self, step: &Step, e: &EngineError) -> PassError {
        match (step, e) {
            // Somebody (perhaps ourselves, when an answer was lost) made it meanwhile: the next look decides whose it is.
            (Step::Create(_) | Step::CreateVolume(_) | Step::CreateNetwork, EngineError::Conflict(words)) => {
                PassError::waiting("ContainerRunning", "NameTaken", words.clone(), Duration::from_millis(200))
            }
            (Step::Create(name), EngineError::ImageMissing(_)) => {
                let all = self.wanted.sidecars.iter().chain([&self.wanted.main]);
                let servers = self.ctx.caches.servers.state();
                for image in all.filter(|c| &c.name == name).map(|c| &c.image) {
                    servers.iter().for_each(|s| self.ctx.pulls.forget(&s.name_any(), image));
                }
                PassError::waiting("ImageReady", "ImageMissing", e.to_string(), Duration::from_millis(500))
            }
            (Step::Start(_), EngineError::Invalid(words) | EngineError::Failed(words)) => {
                PassError::transient("ContainerRunning", "StartFailed", format!("the engine could not start it: {words}"))
            }
            _ => PassError::engine("ContainerRunning", e),
        }
    }

    async fn create_network(&self) -> Result<(), EngineError> {
        let spec = NetworkSpec {
            name: self.wanted.network.name().to_owned(),
            labels: self.owner.of("network").labels(),
            subnet: None,
            bridge: None,
            inter_container: true,
        };
        self.engine.create_network(&spec).await.map(drop)
    }

    async fn create_volume(&self, name: &str) -> Result<(), EngineError> {
        let Some(volume) = self.wanted.volumes.iter().find(|v| v.name == name) else { return Ok(()) };
        self.engine.create_volume(&VolumeSpec { name: name.to_owned(), labels: self.owner.of_volume(volume).labels() }).await
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
        ContainerSpec {
            name: wanted.name.clone(),
            image: wanted.image.clone(),
            command: wanted.command.clone(),
            env: wanted.env.clone(),
            labels: self.owner.of(&wanted.role).labels_with_digest(&wanted.digest),
            mounts: wanted.mounts.clone(),
            attach,
            hostname: main.then(|| self.owner.name.clone()),
            memory: u64::from(wanted.limits.memory_mb) << 20,
            // A limit is at most 1,024 cores (schema), so this cannot overflow.
            nano_cpus: (wanted.limits.cpu * 1e9) as u64,
            pids: wanted.limits.pids,
        }
    }
}

fn id(ids: &BTreeMap<String, String>, name: &str) -> Result<ContainerId, PassError> {
    ids.get(name)
        .and_then(|id| ContainerId::parse(id))
        .ok_or_else(|| PassError::transient("ContainerRunning", "ObjectVanished", format!("container {name} is gone")))
}
