//! A server reached over TCP with TLS and a client certificate from a Secret.

use super::rack::{merge, reachable, says_its_name, server, with_workspace};
use super::records;
use super::world::{World, on, until};
use crate::engine_tls::{authority, client, server_pem};
use crate::support::devsanctum;
use crate::support::dockerd::{Dockerd, Options, TINY};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
/// Nobody else is in the daemon's network namespace, so any port is free.
const PORT: u16 = 2376;
/// An address of the namespace that is not a loopback one, as another machine's would be (RFC 5737).
const ADDRESS: &str = "192.0.2.7";
const SECRET: &str = "/apis/devsanctum.io/v1/namespaces/devsanctum-system/secrets/rack";

pub fn secret(ca: &str, (cert, key): &(String, String)) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret", "metadata": {"name": "rack", "namespace": "devsanctum-system"},
        "spec": {"data": {"ca": ca, "cert": cert, "key": key}}})
}

#[test]
fn a_server_over_mutual_tls_runs_workspaces_and_says_what_is_wrong_with_its_certificates() {
    let ca = authority("engine authority");
    let pem = server_pem(&ca, ADDRESS, false);
    let daemon = Dockerd::start(&Options { tls: Some((pem.path().to_owned(), PORT)), ..Options::default() });
    on(&daemon, async |world| {
        let added = Command::new("ip").args(["address", "add", ADDRESS, "dev", "lo"]).status();
        assert!(added.unwrap().success());
        world.create(records::settings(TINY)).await;
        let mut half = secret(&ca.pem(), &client(&ca, false));
        half["spec"]["data"].as_object_mut().unwrap().remove("cert");
        world.create(half).await;
        let spec = json!({"host": ADDRESS, "port": PORT,
            "tls": {"enabled": true, "secret": {"namespace": "devsanctum-system", "name": "rack"}}});
        world
            .create(json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": "rack"}, "spec": spec}))
            .await;
        reachable(&world, "False CredentialsMissing: secret devsanctum-system/rack has no key \"cert\"").await;
        replace(&world, secret(&ca.pem(), &client(&authority("somebody else"), false))).await;
        again(&world).await;
        reachable(&world, "False ClientCertificateRefused: the engine cannot be worked with").await;
        replace(&world, secret(&authority("somebody else").pem(), &client(&ca, false))).await;
        reachable(&world, "False ServerCertificateUnknownAuthority").await;
        replace(&world, secret(&ca.pem(), &client(&ca, true))).await;
        reachable(&world, "False ClientCertificateExpired").await;
        // Keys never come back.
        let shown = world.client.request_text(http::Request::get(SECRET).body(vec![]).unwrap()).await.unwrap();
        assert!(!shown.contains("PRIVATE KEY") && !shown.contains("BEGIN"), "{shown}");
        replace(&world, secret(&ca.pem(), &client(&ca, false))).await;
        again(&world).await;
        reachable(&world, "True Answers").await;
        for (change, reason) in [
            (json!({"host": "localhost"}), "ServerCertificateWrongName"),
            (json!({"host": ADDRESS, "port": 1}), "ConnectionRefused"),
        ] {
            merge(&world, "dockerservers/rack", json!({"spec": change})).await;
            reachable(&world, &format!("False {reason}")).await;
        }
        let silent = |how| ["-w", how, "INPUT", "-p", "tcp", "--dport", "2", "-j", "DROP"];
        assert!(Command::new("iptables").args(silent("-I")).status().unwrap().success());
        merge(&world, "dockerservers/rack", json!({"spec": {"port": 2}})).await;
        reachable(&world, "False NoAnswer").await;
        assert!(Command::new("iptables").args(silent("-D")).status().unwrap().success());
        merge(&world, "dockerservers/rack", json!({"spec": {"port": PORT}})).await;
        reachable(&world, "True Answers").await;

        with_workspace(&world).await;
        says_its_name(&world);
        // Where no gateway can be had for it, nothing leads there from elsewhere, and that is said.
        let ports = json!({"spec": {"ports": [{"name": "web", "port": 8080}]}});
        merge(&world, "templates/plain", ports).await;
        until("a condition about its route", SOON, async || {
            let status = world.workspace("w0").await.status.unwrap_or_default();
            let found = status.conditions.iter().find(|c| c.reason == "NoGateway").map(|c| c.message.clone());
            found.filter(|m| m.contains("devsanctum exec")).map(drop).ok_or_else(|| format!("{:?}", status.conditions))
        })
        .await;
        world.delete("w0").await;
        world.gone("w0").await;
    });
}

/// From certificates that the command makes to a server that takes workspaces, and on to one that takes none.
#[test]
fn a_host_is_online_by_the_commands_that_are_documented() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("rack").display().to_string();
    let run = |args: &[&str]| {
        let done = devsanctum().args(args).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr))
    };
    let make = ["server", "certs", "--host", &format!("rack.example,{ADDRESS}"), "--out", &certs];
    let (code, said) = run(&make);
    assert!(code == Some(0) && said.contains("set-up.sh") && said.contains("server add"), "{said}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join("rack").join(name)).unwrap();
    assert_eq!(crate::support::open_to_others(&folder.path().join("rack")), Vec::<String>::new(), "its folder is closed");
    let authority = read("ca.pem");
    assert_eq!(run(&make).0, Some(0));
    assert_eq!(read("ca.pem"), authority, "made anew, they are trusted where they were");
    let (code, said) = run(&["server", "certs", "--host", "x", "--out", folder.path().to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("is not empty"), "{said}");
    assert!(Command::new("sh").arg("-n").arg(folder.path().join("rack/set-up.sh")).status().unwrap().success());

    let pem = tempfile::tempdir().unwrap();
    for (from, to) in [("ca.pem", "ca.pem"), ("server-cert.pem", "server.pem"), ("server-key.pem", "server-key.pem")] {
        std::fs::write(pem.path().join(to), read(from)).unwrap();
    }
    let daemon = Dockerd::start(&Options { tls: Some((pem.path().to_owned(), PORT)), ..Options::default() });
    on(&daemon, async |world| {
        let added = Command::new("ip").args(["address", "add", ADDRESS, "dev", "lo"]).status();
        assert!(added.unwrap().success());
        world.create(records::settings(TINY)).await;
        let run = |args: &[&str]| server(&world, args);
        let (code, said) = run(&["add", "rack", "--host", ADDRESS]);
        assert!(code == Some(1) && said.contains("server certs"), "{said}");
        assert!(world.servers().get_opt("rack").await.unwrap().is_none());
        let (code, said) = run(&["add", "rack", "--host", ADDRESS, "--certs", &certs]);
        assert!(code == Some(0) && said.contains("dockerserver/rack is ONLINE"), "{said}");
        let (code, said) = run(&["test", "rack"]);
        assert!(
            code == Some(0) && said.contains("Reachable") && said.contains("the first of its certificates ends on"),
            "{said}"
        );
        let (code, said) = run(&["figures", "rack"]);
        assert!(code == Some(0) && said.lines().nth(1).is_some_and(|l| l.contains(" of ") && l.contains("GiB")), "{said}");
        let metrics = world.client.request_text(http::Request::get("/metrics").body(vec![]).unwrap()).await.unwrap();
        assert!(metrics.contains("devsanctum_server_used_bytes{server=\"rack\",of=\"memory\"}"), "{metrics}");
        let (code, said) = run(&["drain", "rack"]);
        assert!(code == Some(0) && said.contains("takes no more workspaces"), "{said}");
        assert!(!world.servers().get("rack").await.unwrap().spec.schedulable);
        assert_eq!(run(&["undrain", "rack"]).0, Some(0));
        let (code, said) = run(&["remove", "rack"]);
        assert!(code == Some(0) && said.contains("deleted"), "{said}");
        assert!(world.servers().get_opt("rack").await.unwrap().is_none());
        let secret = world.client.request_text(http::Request::get(SECRET).body(vec![]).unwrap()).await;
        assert!(matches!(secret, Err(kube::Error::Api(status)) if status.code == 404), "its certificates go with it");
    });
}

/// Touches the server's record, so that its loop looks at once.
async fn again(world: &World<'_>) {
    let now = json!({"metadata": {"annotations": {"looked": format!("{:?}", std::time::Instant::now())}}});
    world.servers().patch("rack", &PatchParams::default(), &Patch::Merge(now)).await.unwrap();
}

async fn replace(world: &World<'_>, secret: Value) {
    merge(world, SECRET.trim_start_matches("/apis/devsanctum.io/v1/"), json!({"spec": secret["spec"]})).await;
}
