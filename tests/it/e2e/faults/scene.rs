//! A world whose way to its engine can go wrong, and the questions that are asked of every plan.

use super::line::Line;
use super::plan::{Moment, Plan, W};
use crate::e2e::equality::host;
use crate::e2e::records;
use crate::e2e::world::{World, annotation, until};
use crate::support::dockerd::TINY;
use crate::support::traefik::request;
use devsanctum::resource::conditions::{READY, holds};
use devsanctum::resource::{ServerPhase, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// How long it takes until the first change of a workload at most.
const CAUGHT: Duration = Duration::from_secs(40);
/// How long a fault lasts of which nothing is said.
const LASTS: Duration = Duration::from_secs(1);
/// Longer than a pass takes that finds nothing to do.
const LOOK: Duration = Duration::from_millis(700);

/// A world, the line to its engine, and a workspace that runs all the while.
pub struct Scene<'d> {
    pub world: World<'d>,
    pub line: Line,
    /// Host of the workspace that runs all the while.
    host: String,
    /// Counts changes of the environment.
    pub turn: u32,
    /// What allows to make the container anew.
    pub digest: String,
    /// What stands in the way.
    pub squatter: String,
    /// The image's id.
    pub image: String,
}

impl<'d> Scene<'d> {
    pub async fn set(world: World<'d>) -> Self {
        let line = Line::start(&world.daemon.socket());
        world.create(records::settings(TINY)).await;
        let mut server = records::server("local", Path::new("/"));
        server["spec"] = json!({"host": "127.0.0.1", "port": line.address.port(), "pollInterval": "5s"});
        world.create(server).await;
        world.create(records::user()).await;
        world.create(records::template("hello")).await;
        world.create(records::project("team", "hello")).await;
        world.create(records::workspace("w0")).await;
        let (turn, digest, squatter, image, host) = Default::default();
        let mut scene = Self { world, line, host, turn, digest, squatter, image };
        scene.add_strangers();
        scene.world.at_rest().await;
        scene.host = host_of(&scene.world.workspace("w0").await);
        scene
    }

    /// What is not ours and looks as if it was. Never started, so that no fault changes it.
    fn add_strangers(&mut self) {
        let own = self.world.instance.clone();
        let (mark, short) = (format!("ds-e2e={own}"), &own[..8]);
        let of = |instance: &str| {
            let pairs = [(labels::INSTANCE, instance), (labels::UID, "9"), (labels::KIND, "Workspace"), (labels::NAME, W)];
            pairs.map(|(k, v)| format!("--label={k}={v}"))
        };
        for (name, more) in [("alike", vec![]), ("partly", of(&own).to_vec()), ("others", of("another-instance").to_vec())] {
            let name = format!("ds-team-{W}-{short}-{name}");
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            let head = ["create", "--network=none", "--name", &name, "--label", &mark];
            self.world.docker(&[&head[..], &more[..], &[TINY, "true"][..]].concat());
            self.world.protect("container", &name);
        }
        let volume = format!("ds-team-{W}-{short}-volume");
        self.world.docker(&["volume", "create", "--label", &mark, &of(&own)[0], &volume]);
        self.world.protect("volume", &volume);
    }

    /// Asks for something, lets something go wrong, and asks the questions.
    pub async fn play(&mut self, plan: Plan) {
        let Plan { fault, workload, moment, .. } = plan;
        workload.prepare(self).await;
        match moment {
            Moment::Before => {
                fault.strike(self).await;
                workload.ask(self).await;
            }
            Moment::During => {
                let mut held = self.line.trap(workload.first_change(), fault.window());
                workload.ask(self).await;
                held.caught(CAUGHT).await.unwrap();
                fault.strike(self).await;
                held.release();
            }
        }
        let done = async || workload.done(self).await;
        match fault.told(workload) {
            Some(words) => self.says(words, fault.patience()).await,
            None if fault.is_no_hindrance(workload) => self.well("all to be well meanwhile", fault.patience(), done).await,
            None => tokio::time::sleep(LASTS).await,
        }
        if fault.is_not_felt() {
            assert_eq!(request(self.world.web, &self.host, "/", &[]).await.0, 200, "another workspace is not served meanwhile");
        }
        fault.heal(self).await;
        self.well("all to be well again", fault.patience(), async || workload.done(self).await).await;
        self.a_second_look_changes_nothing().await;
    }

    /// Waits until the world equals the records and every record says that it is ready.
    pub async fn settled(&self, what: &str, patience: Duration) {
        self.well(what, patience, async || Ok(())).await;
    }

    pub async fn well(&self, what: &str, patience: Duration, done: impl AsyncFn() -> Result<(), String>) {
        until(what, patience, async || {
            if let Err(differs) = self.world.equals_records().await {
                return Err(format!("{differs}; said is {:?}", self.complaints().await));
            }
            self.ready().await?;
            done().await
        })
        .await;
    }

    async fn ready(&self) -> Result<(), String> {
        for w in self.world.workspaces().list(&ListParams::default()).await.map_err(|e| e.to_string())? {
            let status = w.status.clone().unwrap_or_default();
            if !holds(&status.conditions, READY) {
                return Err(format!("{}: {:?}", w.name_any(), status.conditions));
            }
        }
        let server = self.world.servers().get("local").await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        if server.phase != ServerPhase::Online || !holds(&server.conditions, READY) {
            return Err(format!("the server is {:?}: {:?}", server.phase, server.conditions));
        }
        Ok(())
    }

    /// Waits until a record says these words about what is wrong.
    async fn says(&self, words: &str, patience: Duration) {
        until(&format!("{words:?} to be told"), patience, async || {
            let said = self.complaints().await.map_err(|e| e.to_string())?;
            if said.iter().any(|line| line.contains(words)) { Ok(()) } else { Err(format!("{said:#?}")) }
        })
        .await;
    }

    /// All conditions that do not hold.
    async fn complaints(&self) -> Result<Vec<String>, kube::Error> {
        let all = ListParams::default();
        let mut said = Vec::new();
        let mut add = |name: String, conditions: &[Condition]| {
            let wrong = conditions.iter().filter(|c| c.status == "False");
            said.extend(wrong.map(|c| format!("{name} {} {}: {}", c.type_, c.reason, c.message)));
        };
        for w in self.world.workspaces().list(&all).await? {
            add(w.name_any(), &w.status.unwrap_or_default().conditions);
        }
        for r in self.world.routes().list(&all).await? {
            add(r.name_any(), &r.status.unwrap_or_default().conditions);
        }
        for s in self.world.servers().list(&all).await? {
            add(s.name_any(), &s.status.unwrap_or_default().conditions);
        }
        Ok(said)
    }

    /// Wakes every workspace's loop, and nothing moves: no call to the engine that changes something, no other container,
    /// no other status.
    pub async fn a_second_look_changes_nothing(&self) {
        // A server just found again proves its isolation anew.
        until("the engine to be left alone", Duration::from_secs(10), async || match self.line.quiet() {
            quiet if quiet > LOOK => Ok(()),
            quiet => Err(format!("{quiet:?}")),
        })
        .await;
        let before = self.picture().await;
        for w in self.world.workspaces().list(&ListParams::default()).await.unwrap() {
            let look = format!("{:?}", std::time::Instant::now());
            self.world.merge(&w.name_any(), annotation("look", &look)).await;
        }
        tokio::time::sleep(LOOK).await;
        assert_eq!(self.picture().await, before, "a second look changed something");
    }

    async fn picture(&self) -> Vec<String> {
        let all = ListParams::default();
        let ids = self.world.objects(&["ps", "-a", "--no-trunc"], "{{.ID}}");
        let format = "{{.Id}} {{.State.StartedAt}}";
        let args: Vec<&str> = ["inspect", "--format", format].into_iter().chain(ids.iter().map(String::as_str)).collect();
        let mut picture: Vec<String> = self.world.docker(&args).lines().map(str::to_owned).collect();
        picture.extend(self.world.objects(&["network", "ls", "--no-trunc"], "{{.ID}}"));
        picture.extend(self.world.objects(&["volume", "ls"], "{{.Name}}"));
        picture.push(format!("{} changes", self.line.changes().len()));
        let workspaces = self.world.workspaces().list(&all).await.unwrap();
        picture.extend(workspaces.iter().map(|w| format!("{} {}", w.name_any(), json!(w.status))));
        let routes = self.world.routes().list(&all).await.unwrap();
        picture.extend(routes.iter().map(|r| format!("{} {}", r.name_any(), json!(r.status))));
        picture
    }

    /// Removes the shared bridge, as somebody does who tidies up.
    pub fn remove_bridge(&self) {
        let net = self.world.bridge();
        let filter = format!("network={net}");
        for member in self.world.docker_says(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]).lines() {
            self.world.docker_says(&["network", "disconnect", "-f", &net, member]);
        }
        self.world.docker(&["network", "rm", &net]);
    }

    /// Removes all there is of ours.
    pub fn remove_all(&self) {
        let remove = |listing: &[&str], format: &str, how: &[&str]| {
            let found = self.world.objects(listing, format);
            let args: Vec<&str> = how.iter().copied().chain(found.iter().map(String::as_str)).collect();
            if !found.is_empty() {
                self.world.docker(&args);
            }
        };
        remove(&["ps", "-a"], "{{.Names}}", &["rm", "-f"]);
        remove(&["network", "ls"], "{{.Name}}", &["network", "rm"]);
        remove(&["volume", "ls"], "{{.Name}}", &["volume", "rm"]);
    }
}

fn host_of(w: &devsanctum::resource::Workspace) -> String {
    host(w).expect("it has a host")
}
