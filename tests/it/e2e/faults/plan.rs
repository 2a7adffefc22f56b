//! What is asked for while something goes wrong, and which plans are run.

use super::fault::Fault;
use super::line::Mode;
use super::scene::Scene;
use crate::e2e::records;
use crate::e2e::world::{annotation, until};
use crate::support::dockerd::{Dockerd, Options};
use devsanctum::resource::conditions::find;
use devsanctum::resource::labels;
use kube::ResourceExt;
use serde_json::json;
use std::time::Duration;

/// The workspace that plans are about.
pub const W: &str = "w1";
const SOON: Duration = Duration::from_secs(30);

/// What is asked of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Create,
    /// Take the container down and make it anew from a changed environment.
    Remake,
    Delete,
}

pub const WORKLOADS: [Workload; 3] = [Workload::Create, Workload::Remake, Workload::Delete];

impl Workload {
    /// Brings the world to where this can be asked for.
    pub async fn prepare(self, scene: &mut Scene<'_>) {
        let world = &scene.world;
        let there = world.workspaces().get_opt(W).await.unwrap().is_some();
        match (self, there) {
            (Self::Create, true) => {
                world.delete(W).await;
                world.gone(W).await;
                scene.settled("it to be gone", SOON).await;
            }
            (Self::Remake | Self::Delete, false) => {
                world.create(records::workspace(W)).await;
                scene.settled("it to run", SOON).await;
            }
            _ => {}
        }
        if self == Self::Remake {
            scene.turn += 1;
            let world = &scene.world;
            world.merge(W, json!({"spec": {"env": {"TURN": scene.turn.to_string()}}})).await;
            until("the way to make it anew to be told", SOON, async || {
                let status = world.workspace(W).await.status.unwrap_or_default();
                let found = find(&status.conditions, "UpToDate").filter(|c| c.status == "False");
                let told = found.ok_or_else(|| format!("{:?}", status.conditions))?;
                scene.digest = told.message.rsplit('=').next().unwrap_or_default().to_owned();
                Ok(())
            })
            .await;
        }
    }

    pub async fn ask(self, scene: &Scene<'_>) {
        match self {
            Self::Create => scene.world.create(records::workspace(W)).await,
            Self::Remake => scene.world.merge(W, annotation(labels::RECREATE, &scene.digest)).await,
            Self::Delete => scene.world.delete(W).await,
        }
    }

    /// The first call that changes something on the engine.
    pub fn first_change(self) -> &'static str {
        match self {
            Self::Create => "POST volumes/create",
            Self::Remake | Self::Delete => "POST containers/*/stop",
        }
    }

    /// Whether what was asked for is done.
    pub async fn done(self, scene: &Scene<'_>) -> Result<(), String> {
        let found = scene.world.workspaces().get_opt(W).await.map_err(|e| e.to_string())?;
        match (self, found) {
            (Self::Create, Some(_)) | (Self::Delete, None) => Ok(()),
            (Self::Remake, Some(w)) => {
                let conditions = w.status.clone().unwrap_or_default().conditions;
                let up_to_date = find(&conditions, "UpToDate").is_some_and(|c| c.status == "True");
                let name = format!("ds-team-{W}-{}", &w.uid().unwrap_or_default()[..8]);
                let env = scene.world.docker_says(&["inspect", "--format={{.Config.Env}}", &name]);
                let made = env.contains(&format!("TURN={}", scene.turn));
                if up_to_date && made { Ok(()) } else { Err(format!("{env} {conditions:?}")) }
            }
            (_, found) => Err(format!("{:?}", found.and_then(|w| w.status))),
        }
    }
}

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before it is asked for.
    Before,
    /// While the first change of it is made: it has happened, and its answer is on the way.
    During,
}

/// What it goes wrong on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The engine that all tests share.
    Shared,
    /// An engine of its own.
    Own,
    /// One that lets containers go on without it.
    LiveRestore,
    /// One with a small disk.
    SmallDisk,
}

impl Ground {
    pub fn engine(self) -> Option<Dockerd> {
        let options = match self {
            Self::Shared => return None,
            Self::Own => Options::default(),
            Self::LiveRestore => Options { live_restore: true, ..Options::default() },
            Self::SmallDisk => Options { disk_mb: Some(400), ..Options::default() },
        };
        Some(Dockerd::start(&options))
    }

    /// What can go wrong there, and the workload it is tried with each time the tests are run; `None`: in the long runs alone.
    fn faults(self) -> &'static [(Fault, Option<Workload>)] {
        use Workload::{Create, Delete, Remake};
        match self {
            Self::Shared => &[
                (Fault::Line(Mode::Refuse), Some(Create)),
                (Fault::Line(Mode::Reset), Some(Remake)),
                (Fault::Line(Mode::LoseAnswers), Some(Delete)),
                (Fault::Line(Mode::LoseAnswers), Some(Create)),
                (Fault::Line(Mode::Fail), Some(Remake)),
                (Fault::AllRemoved, Some(Delete)),
                (Fault::NameTaken, Some(Create)),
                (Fault::TraefikStopped, Some(Remake)),
                (Fault::Line(Mode::Cut(400)), Some(Delete)),
                (Fault::WeAreStopped, Some(Create)),
                (Fault::VolumeTaken, None),
                (Fault::BridgeRemoved, None),
                (Fault::TraefikKilled, None),
                (Fault::WeAreKilled, None),
                (Fault::Line(Mode::Silent), None),
                (Fault::Line(Mode::Slow), None),
                (Fault::Line(Mode::Garbage), None),
                (Fault::Line(Mode::EmptyLists), None),
                (Fault::Line(Mode::NoEvents), None),
            ],
            Self::Own => &[
                (Fault::EngineKilled, Some(Create)),
                (Fault::EngineRestarted, Some(Remake)),
                (Fault::EngineStopped, None),
                (Fault::ImageRemoved, None),
            ],
            Self::LiveRestore => &[(Fault::EngineKilled, Some(Create)), (Fault::EngineRestarted, None)],
            Self::SmallDisk => &[(Fault::DiskFull, Some(Create))],
        }
    }

    /// The plans for it; set `DEVSANCTUM_REAL_PLANS` to `all` for every fault with every workload, or to a part of a
    /// fault's name for that one.
    pub fn plans(self) -> Vec<Plan> {
        let asked = std::env::var("DEVSANCTUM_REAL_PLANS").ok();
        let mut plans: Vec<Plan> = Vec::new();
        for (fault, chosen) in self.faults() {
            let all = asked.as_ref().is_some_and(|a| a == "all" || format!("{fault:?}").contains(a));
            for workload in WORKLOADS.into_iter().filter(|w| all || (asked.is_none() && *chosen == Some(*w))) {
                let plan = Plan { ground: self, fault: *fault, workload, moment: fault.moment(workload) };
                if !plans.contains(&plan) {
                    plans.push(plan);
                }
            }
        }
        plans
    }
}

/// What is asked for, and what goes wrong when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub ground: Ground,
    pub fault: Fault,
    pub workload: Workload,
    pub moment: Moment,
}
