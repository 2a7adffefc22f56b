//! Registries that want a login, and the one that servers share built images through.

use super::records;
use super::world::{World, on, until};
use crate::support::docker_registry::{DockerRegistry, PASSWORD, USER};
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::watchdog::Watchdog;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Secret, Settings, Template};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// Nobody else is in the daemons' network namespaces, so any port is free.
const PORT: u16 = 5000;

fn secret(password: &str) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret", "metadata": {"name": "registry", "namespace": "devsanctum-system"},
        "spec": {"data": {"username": USER, "password": password}}})
}

/// Names the registry in the settings.
async fn settings(world: &World<'_>, host: &str) {
    let credentials = json!({"namespace": "devsanctum-system", "name": "registry"});
    let spec =
        json!({"images": {"repository": format!("{host}/team/env")}, "registries": [{"host": host, "credentials": credentials}]});
    let api: Api<Settings> = Api::all(world.client.clone());
    api.patch("default", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
}

async fn template(world: &World<'_>, spec: Value) {
    let api: Api<Template> = Api::all(world.client.clone());
    api.patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
}

fn on_server(name: &str, server: &str) -> Value {
    let mut record = records::workspace(name);
    record["spec"]["dockerServer"] = json!(server);
    record
}

async fn runs(world: &World<'_>, name: &str) {
    until(&format!("{name} to run"), SOON, async || {
        let status = world.workspace(name).await.status.unwrap_or_default();
        if format!("{:?}", status.phase) == "Running" { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await;
}

#[test]
fn twenty_workspaces_of_one_template_on_two_servers_are_one_build() {
    let (daemon, second) = (Dockerd::start(&Options::default()), Dockerd::start(&Options::default()));
    second.tiny_image();
    let dir = Watchdog::new("ds-registry-");
    let registry = DockerRegistry::asking(&daemon, dir.path(), PORT);
    let _seen_by_the_second = DockerRegistry::asking(&second, dir.path(), PORT);
    on(&daemon, async |world| {
        world.ground().await;
        let server = json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": "second"},
            "spec": {"host": format!("unix://{}", second.socket().display())}});
        world.create(server).await;
        world.create(secret(PASSWORD)).await;
        settings(&world, &registry.host).await;
        // Without ports: the second engine's containers are not reached from here.
        template(&world, json!({"ports": [], "dockerfile": "RUN cat /proc/sys/kernel/random/uuid > /made"})).await;
        for i in 0..20 {
            world.create(on_server(&format!("w{i}"), if i % 2 == 0 { "local" } else { "second" })).await;
        }
        let mut made = BTreeSet::new();
        for i in 0..20 {
            let name = format!("w{i}");
            runs(&world, &name).await;
            let engine = if i % 2 == 0 { &daemon } else { &second };
            let container = world.workspace(&name).await.status.unwrap().container_id.unwrap();
            made.insert(engine.docker(&["exec", &container, "cat", "/made"]));
        }
        assert_eq!(made.len(), 1, "{made:?}");
        // A builder leaves its steps' images, which have no name.
        let steps = |engine: &Dockerd| engine.docker(&["images", "-a"]).matches("<none>").count();
        let built = [&daemon, &second].map(|e| steps(e) > 0);
        assert_eq!(built.iter().filter(|b| **b).count(), 1, "{built:?}");
    });
}

#[test]
fn a_registry_that_wants_a_login_says_so_until_it_is_right() {
    let daemon = Dockerd::start(&Options::default());
    let dir = Watchdog::new("ds-registry-");
    let registry = DockerRegistry::asking(&daemon, dir.path(), PORT);
    on(&daemon, async |world| {
        world.ground().await;
        daemon.docker(&["login", "-u", USER, "-p", PASSWORD, &registry.host]);
        let base = registry.take(TINY, "team/base:1");
        daemon.docker(&["logout", &registry.host]);
        settings(&world, &registry.host).await;
        template(&world, json!({"base": base})).await;
        world.create(records::workspace("w0")).await;
        let told = async |words: &str| {
            until(words, SOON, async || {
                let all = world.workspace("w0").await.status.unwrap_or_default().conditions;
                let found = find(&all, "ImageReady").filter(|c| c.reason == "ImagePullFailed").map(|c| c.message.clone());
                if found.as_ref().is_some_and(|m| m.contains(words)) { Ok(()) } else { Err(format!("{all:?}")) }
            })
            .await;
        };
        told("secret devsanctum-system/registry, which Settings name for 127.0.0.1:5000, does not exist").await;
        world.create(secret("guess")).await;
        told("unauthorized").await;
        let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "devsanctum-system");
        secrets
            .patch("registry", &PatchParams::default(), &Patch::Merge(json!({"spec": secret(PASSWORD)["spec"]})))
            .await
            .unwrap();
        world.at_rest_within(SOON).await;
        assert_eq!(world.page("w0").await.0, 200);
        // What is built upon it is pulled with the login too.
        daemon.docker(&["rm", "-f", &world.container("w0").await]);
        daemon.docker(&["rmi", "-f", &base]);
        template(&world, json!({"dockerfile": "RUN true"})).await;
        world.create(records::workspace("w1")).await;
        runs(&world, "w1").await;
    });
}
