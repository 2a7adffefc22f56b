//! What goes wrong, how it is put right again, and what is said meanwhile.

use super::line::{FAILURE, Mode, Window};
use super::plan::{Moment, W, Workload};
use super::scene::Scene;
use crate::e2e::records::IDLE;
use crate::support;
use crate::support::dockerd::TINY;
use std::io::Write;
use std::time::Duration;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The line to the engine.
    Line(Mode),
    /// dockerd is killed, and started again some time later.
    EngineKilled,
    /// dockerd stands still.
    EngineStopped,
    /// dockerd is ended in order, as by an update, and started again.
    EngineRestarted,
    /// The image that all is made of loses its name.
    ImageRemoved,
    /// Nothing more can be written to the engine's disk.
    DiskFull,
    /// Somebody's container has the name of the workspace's.
    NameTaken,
    /// Somebody's volume has the name of the workspace's.
    VolumeTaken,
    /// Somebody takes all containers off the shared bridge and removes it.
    BridgeRemoved,
    /// Somebody removes all there is of ours: containers, network, volumes.
    AllRemoved,
    TraefikKilled,
    TraefikStopped,
    /// The control plane is killed, and started again.
    WeAreKilled,
    /// The control plane stands still for a while.
    WeAreStopped,
}

impl Fault {
    pub fn moment(self, workload: Workload) -> Moment {
        let acts_on_what_is_made = matches!(self, Self::NameTaken | Self::VolumeTaken | Self::WeAreKilled | Self::WeAreStopped);
        if workload == Workload::Create && !acts_on_what_is_made { Moment::Before } else { Moment::During }
    }

    /// Where the first change is held meanwhile.
    pub fn window(self) -> Window {
        if self == Self::VolumeTaken { Window::Before } else { Window::After }
    }

    /// What is said about it while it lasts, where somebody can do something about it.
    pub fn told(self, workload: Workload) -> Option<&'static str> {
        let makes = workload != Workload::Delete;
        match self {
            Self::Line(Mode::Refuse) | Self::EngineKilled => Some("is dockerd running?"),
            Self::Line(Mode::Reset | Mode::Silent | Mode::Garbage) | Self::EngineStopped => Some("does not answer"),
            Self::Line(Mode::Fail) => Some(FAILURE),
            Self::ImageRemoved if makes => Some("cannot be pulled"),
            // The container that is taken down makes room for the new one.
            Self::DiskFull if workload == Workload::Create => Some("no space left on device"),
            Self::NameTaken | Self::VolumeTaken if makes => Some("Rename or remove it"),
            Self::TraefikStopped => Some("the proxy does not answer"),
            _ => None,
        }
    }

    /// Whether what was asked for is done although it lasts.
    pub fn is_no_hindrance(self, workload: Workload) -> bool {
        match self {
            Self::Line(Mode::LoseAnswers | Mode::Slow | Mode::NoEvents) | Self::AllRemoved | Self::BridgeRemoved => true,
            Self::ImageRemoved | Self::DiskFull | Self::NameTaken | Self::VolumeTaken => workload == Workload::Delete,
            _ => false,
        }
    }

    /// Whether other workspaces go on being served while it lasts.
    pub fn is_not_felt(self) -> bool {
        let felt = [Self::EngineRestarted, Self::BridgeRemoved, Self::AllRemoved, Self::TraefikKilled, Self::TraefikStopped];
        !felt.contains(&self)
    }

    /// Longest time until it is told, and until all is well after it is put right.
    pub fn patience(self) -> Duration {
        match self {
            // Calls in flight are given up after a minute.
            Self::Line(Mode::Silent) | Self::EngineStopped => Duration::from_secs(150),
            // What only a list shows is seen at the next one.
            Self::Line(Mode::EmptyLists | Mode::NoEvents) => Duration::from_secs(150),
            _ => Duration::from_secs(60),
        }
    }

    pub async fn strike(self, scene: &mut Scene<'_>) {
        match self {
            Self::Line(mode) => scene.line.set(mode),
            Self::EngineKilled => scene.world.daemon.kill(),
            Self::EngineStopped => scene.world.daemon.signal("-STOP"),
            Self::EngineRestarted => {
                scene.world.daemon.stop();
                scene.world.daemon.restart();
            }
            Self::ImageRemoved => {
                scene.image = scene.world.docker(&["image", "inspect", "--format={{.Id}}", TINY]);
                scene.world.docker(&["rmi", "-f", TINY]);
            }
            Self::DiskFull => fill(&scene.world.daemon.data().join("filling")),
            Self::NameTaken => {
                let name = scene.world.container(W).await;
                let mark = format!("ds-e2e={}", scene.world.instance);
                scene.world.docker_says(&["rm", "-f", &name]);
                let squat = ["run", "-d", "--network=none", "--name", &name, "--label", &mark];
                scene.squatter = scene.world.docker(&[&squat[..], &IDLE[..]].concat());
                let id = scene.squatter.clone();
                scene.world.protect("container", &id);
            }
            Self::VolumeTaken => {
                let name = scene.world.container(W).await;
                let (volume, mark) = (format!("{name}.data"), format!("ds-e2e={}", scene.world.instance));
                scene.world.docker_says(&["rm", "-f", &name]);
                scene.world.docker_says(&["volume", "rm", &volume]);
                scene.world.docker(&["volume", "create", "--label", &mark, &volume]);
                scene.world.protect("volume", &volume);
                scene.squatter = volume;
            }
            Self::BridgeRemoved => scene.world.unseen(|| scene.remove_bridge()),
            Self::AllRemoved => scene.world.unseen(|| scene.remove_all()),
            Self::TraefikKilled => signal("-KILL", scene),
            Self::TraefikStopped => signal("-STOP", scene),
            Self::WeAreKilled => scene.world.kill(),
            Self::WeAreStopped => scene.world.signal("-STOP"),
        }
    }

    pub async fn heal(self, scene: &mut Scene<'_>) {
        match self {
            Self::Line(_) => scene.line.set(Mode::Good),
            Self::EngineKilled => scene.world.daemon.restart(),
            Self::EngineStopped => scene.world.daemon.signal("-CONT"),
            Self::ImageRemoved => drop(scene.world.docker(&["tag", &scene.image, TINY])),
            Self::DiskFull => {
                std::fs::remove_file(scene.world.daemon.data().join("filling")).unwrap();
                // What dockerd could not write down its list does not show until the container changes: the next plan would
                // begin with one that runs and is listed as made only.
                if scene.world.workspaces().get_opt(W).await.unwrap().is_some() {
                    scene.world.docker_says(&["update", "--restart=no", &scene.world.container(W).await]);
                }
            }
            Self::NameTaken => {
                let new = format!("somebody-elses-{}", &scene.squatter[..12]);
                scene.world.docker(&["rename", &scene.squatter, &new]);
            }
            Self::VolumeTaken => {
                assert_eq!(scene.world.still(&format!("volume {}", scene.squatter)), Ok(()));
                scene.world.foreign.remove(&format!("volume {}", scene.squatter));
                scene.world.docker(&["volume", "rm", &scene.squatter]);
            }
            Self::TraefikStopped => signal("-CONT", scene),
            Self::WeAreKilled => scene.world.restart().await,
            Self::WeAreStopped => scene.world.signal("-CONT"),
            Self::EngineRestarted | Self::BridgeRemoved | Self::AllRemoved | Self::TraefikKilled => {}
        }
    }
}

fn signal(name: &str, scene: &Scene<'_>) {
    support::signal(name, scene.world.traefik_pid().expect("Traefik runs"));
}

/// Writes until no more can be written.
fn fill(path: &std::path::Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for piece in [1 << 20, 4096] {
        while file.write_all(&vec![0; piece]).is_ok() {}
    }
}
