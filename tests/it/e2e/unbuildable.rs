//! Images that cannot be had: each says why in the words of who refused it, holds up nobody else, and comes by itself when
//! the cause is gone. So do repositories of a host that lets nobody in. What a person has written wrong is in `built`, and
//! credentials in `repositories`.

use super::records;
use super::repositories::host_address;
use super::world::{World, in_world, on, until};
use crate::support::apt::{Mirror, image_with_apt};
use crate::support::bare;
use crate::support::docker_registry::{DockerRegistry, free_port};
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::git::{GitHost, image_with_git};
use crate::support::watchdog::Watchdog;
use devsanctum::resource::Workspace;
use devsanctum::resource::conditions::{READY, find, holds};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A workspace `w` in a project of its own, of a template of its own.
struct Place<'w> {
    world: &'w World<'w>,
    name: &'static str,
}

impl<'w> Place<'w> {
    async fn new(world: &'w World<'w>, name: &'static str, spec: Value) -> Self {
        Self::with_repositories(world, name, spec, json!([])).await
    }

    async fn with_repositories(world: &'w World<'w>, name: &'static str, spec: Value, repositories: Value) -> Self {
        let mut template = records::template(name);
        template["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        world.create(template).await;
        let mut project = records::project(name, name);
        project["spec"]["repositories"] = repositories;
        world.create(project).await;
        let mut workspace = records::workspace("w");
        workspace["metadata"]["namespace"] = name.into();
        world.create(workspace).await;
        Self { world, name }
    }

    async fn record(&self) -> Workspace {
        Api::namespaced(self.world.client.clone(), self.name).get("w").await.unwrap()
    }

    /// Waits until it says why its image is not there.
    async fn says(&self, reason: &str, parts: &[&str]) {
        self.says_of("ImageReady", reason, parts).await;
        // The record as a whole says so too.
        let status = self.record().await.status.unwrap();
        let told = status.message.unwrap_or_default();
        assert!(parts.iter().all(|part| told.contains(part)) && !holds(&status.conditions, READY), "{told}");
    }

    async fn says_of(&self, kind: &str, reason: &str, parts: &[&str]) {
        until(&format!("{} {reason}", self.name), SOON, async || {
            let all = self.record().await.status.unwrap_or_default().conditions;
            let told = find(&all, kind).filter(|c| c.status == "False" && c.reason == reason);
            let words = &told.ok_or_else(|| format!("{all:?}"))?.message;
            match parts.iter().find(|part| !words.contains(**part)) {
                None => Ok(()),
                Some(part) => Err(format!("no {part:?} in {words}")),
            }
        })
        .await;
    }

    /// Waits until it runs, without anybody having touched it.
    async fn comes(&self) {
        self.comes_with(&[READY, "ImageReady"]).await;
    }

    async fn comes_with(&self, kinds: &[&str]) {
        let mut found = None;
        until(&format!("{} to run", self.name), SOON, async || {
            let record = self.record().await;
            let status = record.status.clone().unwrap_or_default();
            found = Some(record);
            let all = kinds.iter().all(|kind| holds(&status.conditions, kind));
            if all { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
        })
        .await;
        assert_eq!(found.unwrap().metadata.generation, Some(1));
    }

    async fn inside(&self, argv: &[&str]) -> String {
        let container = format!("ds-{}-w-{}", self.name, &self.record().await.uid().unwrap()[..8]);
        let all: Vec<&str> = ["exec", &container].iter().chain(argv).copied().collect();
        self.world.docker(&all)
    }
}

async fn says_why_not_built(place: &Place<'_>, words: &[&str]) {
    let always = ["cannot be built on local", "correct its template or features"];
    place.says("ImageBuildFailed", &[&always[..], words].concat()).await;
}

/// A workspace that has nothing to do with it comes up meanwhile.
async fn another_is_served(world: &World<'_>, name: &str) {
    world.create(records::workspace(name)).await;
    until("another workspace to be served", SOON, async || match world.page(name).await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[test]
fn a_missing_package_a_registry_that_is_down_and_a_host_that_lets_nobody_in_are_told_and_come_by_themselves() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let (mirror, host) = (Mirror::start(), GitHost::start());
        let at = host_address(&world).await;
        let base = image_with_apt(world.daemon, &format!("{at}:{}", mirror.address.port()));
        host.repository("web.git", &["main"]);
        host.ask_for("nobody knows it");
        let url = format!("http://{at}:{}/web.git", host.address.port());
        let dir = Watchdog::new("ds-registry-");
        let mut registry = DockerRegistry::start(world.daemon, dir.path(), free_port(world.daemon));
        let held = ["team/app:1", "team/base:1"].map(|name| registry.take(TINY, name));
        registry.stop();

        let package = Place::new(&world, "package", json!({"base": base, "packages": ["ds-hello"]})).await;
        let pulled = Place::new(&world, "pulled", json!({"base": held[0]})).await;
        let based = Place::new(&world, "based", json!({"base": held[1], "dockerfile": "RUN echo based > /made"})).await;
        let (git, web) = (json!({"base": image_with_git(world.daemon)}), json!([{"name": "web", "url": url}]));
        let cloned = Place::with_repositories(&world, "cloned", git, web).await;
        says_why_not_built(&package, &["E: Unable to locate package ds-hello", "non-zero code: 100"]).await;
        let refused = format!("dial tcp {}: connect: connection refused", registry.host);
        let words = [&format!("{} is not on local", held[0]), &refused, "Trying again by itself; or change the template's base"];
        pulled.says("ImagePullFailed", &words).await;
        says_why_not_built(&based, &[&refused]).await;
        let words = ["web: ", "fatal: could not read Username", "one is named under 'credentials'", "it runs without meanwhile"];
        cloned.says_of("RepositoriesReady", "CloneFailed", &words).await;
        another_is_served(&world, "w1").await;

        mirror.add("ds-hello");
        registry.launch();
        host.ask_nobody();
        for place in [&package, &pulled, &based] {
            place.comes().await;
        }
        cloned.comes_with(&[READY, "RepositoriesReady"]).await;
        assert_eq!(cloned.inside(&["cat", "/workspace/web/branch"]).await, "main");
        assert_eq!(package.inside(&["ds-hello"]).await, "this is ds-hello");
        assert_eq!(based.inside(&["cat", "/made"]).await, "based");
        assert_eq!(world.page("w0").await.0, 200);
    });
}

#[test]
fn a_disk_that_is_full_while_building_is_told_and_the_build_comes_when_there_is_room() {
    const LEFT_MB: u64 = 24;
    let daemon = Dockerd::start(&Options { disk_mb: Some(300), ..Options::default() });
    on(&daemon, async |world| {
        world.with_workspaces(1).await;
        let filling = world.daemon.data().join("filling");
        fill(&filling, LEFT_MB);
        let spec = json!({"dockerfile": "RUN dd if=/dev/zero of=/big bs=1M count=48"});
        let big = Place::new(&world, "big", spec).await;
        let words = ["cannot be built on local", "No space left on device", "non-zero code: 1", "Free disk space on local"];
        big.says("ImageBuildFailed", &words).await;
        assert_eq!(world.page("w0").await.0, 200);
        another_is_served(&world, "w1").await;
        std::fs::remove_file(&filling).unwrap();
        big.comes().await;
        assert_eq!(big.inside(&["stat", "-c", "%s", "/big"]).await, (48 << 20).to_string());
    });
}

/// Makes a file as large as leaves this much of the disk.
fn fill(path: &Path, left_mb: u64) {
    let mut file = std::fs::File::create(path).unwrap();
    let told = bare("df").args(["-m", "--output=avail"]).arg(path).output().unwrap().stdout;
    let free: u64 = String::from_utf8(told).unwrap().lines().nth(1).unwrap().trim().parse().unwrap();
    for _ in left_mb..free {
        file.write_all(&[0; 1 << 20]).unwrap();
    }
}
