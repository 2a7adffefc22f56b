//! `server remove`: a host that workspaces are on is kept, and one that is gone is let go.

use super::rack::server;
use super::records;
use super::world::{World, on, until};
use crate::support::dockerd::{Dockerd, Options};
use crate::support::ssh::key;
use devsanctum::resource::labels;
use russh::keys::ssh_key::LineEnding;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

async fn online(world: &World<'_>, name: &str) {
    until("the server to be online", SOON, async || {
        let status = world.servers().get(name).await.unwrap().status.unwrap_or_default();
        if format!("{:?}", status.phase) == "Online" { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await;
}

/// A second record for the engine of `first` says so, leaves everything alone, and goes.
async fn one_record_is_enough(world: &World<'_>, first: &str) {
    world.create(records::server("second", &world.daemon.socket())).await;
    until("the second record to say so", SOON, async || {
        let conditions = world.servers().get("second").await.unwrap().status.unwrap_or_default().conditions;
        let found = conditions.iter().find(|c| c.type_ == "Prepared").filter(|c| c.reason == "EngineTaken");
        found.filter(|c| c.message.contains(&format!("server {first} already"))).map(drop).ok_or(format!("{conditions:?}"))
    })
    .await;
    let before = world.objects(&["network", "ls"], "{{.Name}}");
    let (code, said) = server(world, &["remove", "second"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.objects(&["network", "ls"], "{{.Name}}"), before);
}

/// What is on a server that was let go is kept when it comes back by another name.
async fn let_go_and_found_again(world: &mut World<'_>) {
    let there = |world: &World<'_>| {
        let volumes = world.objects(&["volume", "ls"], "{{.Name}}");
        (world.objects(&["ps", "-a", "--filter", &format!("label={}=main", labels::ROLE)], "{{.ID}}"), volumes)
    };
    let (before, page) = (there(world), world.page("w0").await);
    assert!(before.0.len() == 1 && before.1.len() == 1 && page.0 == 200, "{before:?}");
    let (code, said) = server(world, &["remove", "local", "--force"]);
    assert!(code == Some(0) && said.contains("left behind"), "{said}");
    // What is nobody's goes with the first list, after what comes before it by name.
    let whose = [
        (labels::INSTANCE, world.instance.as_str()),
        (labels::UID, "gone"),
        (labels::KIND, "Workspace"),
        (labels::NAMESPACE, "team"),
        (labels::NAME, "gone"),
        (labels::ROLE, "folder.data"),
    ];
    let whose = whose.map(|(key, value)| format!("--label={key}={value}"));
    world.docker(&[["volume", "create"].as_slice(), &whose.each_ref().map(String::as_str), &["zz-gone"]].concat());
    world.create(records::server("again", &world.daemon.socket())).await;
    online(world, "again").await;
    until("the list of strays", SOON, async || {
        let volumes = there(world).1;
        if volumes.iter().any(|v| v == "zz-gone") { Err(format!("{volumes:?}")) } else { Ok(()) }
    })
    .await;
    assert_eq!(there(world), before);
    // The bridge is one that was found there, which bears the first record's uid.
    one_record_is_enough(world, "again").await;
    let (code, said) = server(world, &["remove", "again", "--force"]);
    assert_eq!(code, Some(0), "{said}");
    world.create(records::server("local", &world.daemon.socket())).await;
    online(world, "local").await;
    world.at_rest().await;
    assert_eq!((there(world), world.page("w0").await), (before, page), "it goes on where it was");
}

#[test]
fn a_server_with_workspaces_is_kept_and_one_that_is_gone_is_let_go() {
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |mut world| {
        world.with_workspaces(1).await;
        one_record_is_enough(&world, "local").await;
        let (code, said) = server(&world, &["remove", "local"]);
        assert!(code == Some(1) && said.contains("team/w0") && said.contains("server drain local --stop"), "{said}");
        assert!(world.servers().get("local").await.unwrap().metadata.deletion_timestamp.is_none());
        let_go_and_found_again(&mut world).await;
        world.delete("w0").await;
        world.gone("w0").await;
        let (code, said) = server(&world, &["remove", "local"]);
        assert!(code == Some(0) && said.contains("deleted"), "{said}");
        assert_eq!(world.objects(&["network", "ls"], "{{.Name}}"), Vec::<String>::new(), "nothing stays behind");

        world.create(records::server("local", &daemon.socket())).await;
        online(&world, "local").await;
        daemon.kill();
        let (code, said) = server(&world, &["remove", "local", "--timeout", "5s"]);
        assert!(code == Some(4) && said.contains("--force"), "{said}");
        let (code, said) = server(&world, &["remove", "local", "--force"]);
        assert!(code == Some(0) && said.contains("left behind"), "{said}");
        assert!(world.servers().get_opt("local").await.unwrap().is_none());
    });
}

/// A secret of the system's namespace: whether it is there, and whether it is to go.
async fn secret(world: &World<'_>, name: &str) -> Option<bool> {
    let path = format!("/apis/devsanctum.io/v1/namespaces/devsanctum-system/secrets/{name}");
    let found: Value = world.client.request(http::Request::get(path).body(vec![]).unwrap()).await.ok()?;
    Some(!found["metadata"]["deletionTimestamp"].is_null())
}

#[test]
fn a_server_s_credentials_go_though_nobody_waits_for_it_and_those_of_others_stay() {
    super::world::in_world(async |world| {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let private = write("key", key(1).to_openssh(LineEnding::LF).unwrap().to_string());
        let known = write("hosts", format!("[127.0.0.1]:1 {}\n", key(2).public_key().to_openssh().unwrap()));
        // Nobody is there, and nobody will be.
        let host = "ssh://ops@127.0.0.1:1";
        let add = ["add", "rack", "--host", host, "--ssh-key", &private, "--known-hosts", &known, "--timeout", "1s"];
        let (code, said) = server(&world, &add);
        assert_eq!((code, secret(&world, "rack").await), (Some(4), Some(false)), "{said}");
        let (code, said) = server(&world, &["remove", "rack", "--timeout", "5s"]);
        assert!(code == Some(4) && said.contains("--force"), "{said}");
        assert_eq!(secret(&world, "rack").await, Some(true), "it is needed until the server is gone");
        let (code, said) = server(&world, &["remove", "rack", "--force"]);
        assert_eq!((code, secret(&world, "rack").await), (Some(0), None), "{said}");

        let data = json!({"sshKey": "x", "knownHosts": "y"});
        let meta = json!({"name": "mine", "namespace": "devsanctum-system"});
        world.create(json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret", "metadata": meta, "spec": {"data": data}})).await;
        let spec = json!({"host": host, "ssh": {"secret": meta}});
        world
            .create(json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": "mine"}, "spec": spec}))
            .await;
        let (code, said) = server(&world, &["remove", "mine", "--force"]);
        assert_eq!((code, secret(&world, "mine").await), (Some(0), Some(false)), "{said}");
    });
}
