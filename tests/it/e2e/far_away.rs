//! A workspace moves to a server on another machine, where its gateway leads to it, and is woken there.

use super::fleet::Rack;
use super::gate::host_of;
use super::gateways::HAPROXY;
use super::moves::{command, online};
use super::rack::server;
use super::records;
use super::world::{PATIENCE, on, until};
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::image::{image_with, program};
use crate::support::traefik::request;
use devsanctum::resource::WorkspacePhase;
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);
/// What a browser says that opens a page.
const OPENS: [(&str, &str); 2] = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];

#[test]
fn a_workspace_moves_to_another_machine_and_is_reached_and_woken_there() {
    let (here, rack) = (Dockerd::start(&Options::default()), Rack::start(0));
    image_with(&rack.daemon, HAPROXY, &[program("haproxy")]);
    on(&here, async |world| {
        rack.plug_in();
        let mut settings = records::settings(TINY);
        settings["spec"]["images"]["gateway"] = json!(HAPROXY);
        for record in [settings, records::server("local", &here.socket()), rack.secret.clone(), rack.server(), records::user()] {
            world.create(record).await;
        }
        online(&world, "local").await;
        online(&world, rack.name).await;
        world.create(records::template("hello")).await;
        world.create(records::project("team", "hello")).await;
        let mut w0 = records::workspace("w0");
        (w0["spec"]["dockerServer"], w0["spec"]["wakeOnVisit"]) = (json!("local"), json!(true));
        world.create(w0).await;
        let page = async |wanted: Option<&str>| {
            let mut found = String::new();
            until("the page", SOON, async || match world.page("w0").await {
                (200, body) if wanted.is_none_or(|wanted| body == wanted) => {
                    found = body;
                    Ok(())
                }
                other => Err(format!("{other:?} {:?}", world.workspace("w0").await.status.map(|s| s.conditions))),
            })
            .await;
            found
        };
        // The number in it was drawn when its volume was new.
        let body = page(None).await;
        let (code, said) = command(&world, &["move", "w0", "--to", rack.name]).await;
        assert_eq!(code, Some(0), "{said}");
        page(Some(&body)).await;
        assert_eq!(world.workspace("w0").await.server(), Some(rack.name));
        assert_eq!(rack.containers().len(), 1);
        let (code, said) = server(&world, &["harden", "--print", rack.name]);
        assert!(code == Some(0) && said.contains("-d 192.0.2.1 -j DROP"), "the control plane's own machine: {said}");

        // A visitor wakes it there.
        world.merge("w0", json!({"spec": {"running": false}})).await;
        until("it to be stopped", PATIENCE, async || {
            let phase = world.workspace("w0").await.status.unwrap_or_default().phase;
            if phase == WorkspacePhase::Stopped { Ok(()) } else { Err(format!("{phase:?}")) }
        })
        .await;
        let host = host_of(&world, "w0").await;
        until("a visit to be noticed", PATIENCE, async || {
            request(world.web, &host, "/", &OPENS).await;
            if world.workspace("w0").await.spec.running { Ok(()) } else { Err("it is stopped".into()) }
        })
        .await;
        page(Some(&body)).await;

        let (code, said) = command(&world, &["move", "w0", "--to", "local"]).await;
        assert_eq!(code, Some(0), "{said}");
        page(Some(&body)).await;
        assert!(rack.containers().is_empty(), "{:?}", rack.containers());
    });
}
