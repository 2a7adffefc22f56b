//! Routes that open when what they lead to is ready.

use super::records;
use super::world::{World, in_world, until};
use crate::support::traefik::request;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Template, WorkspacePhase};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// What the second service's host answers with.
async fn second(world: &World<'_>) -> u16 {
    match second_host(world).await {
        Some(host) => request(world.web, &host, "/", &[]).await.0,
        None => 0,
    }
}

async fn second_host(world: &World<'_>) -> Option<String> {
    let services = world.workspace("w0").await.status.unwrap_or_default().services;
    let url = services.get(1)?.url.clone()?;
    Some(url.trim_start_matches("http://").split(':').next()?.to_owned())
}

async fn phase(world: &World<'_>, wanted: WorkspacePhase) {
    until(&format!("{wanted:?}"), SOON, async || {
        let status = world.workspace("w0").await.status.unwrap_or_default();
        if status.phase == wanted { Ok(()) } else { Err(format!("{:?}: {:?}", status.phase, status.message)) }
    })
    .await;
}

async fn opened(world: &World<'_>) {
    until("the second route", SOON, async || match second(world).await {
        200 => Ok(()),
        code => Err(code.to_string()),
    })
    .await;
}

#[test]
fn a_route_opens_when_its_service_is_ready_and_closes_with_each_start() {
    in_world(async |mut world| {
        world.create(records::settings(crate::support::dockerd::TINY)).await;
        world.create(records::server("local", &world.daemon.socket())).await;
        world.create(records::user()).await;
        let mut template = records::template("hello");
        let script = "trap 'exit 0' TERM; cd /data; rm -f ready; echo w0 > index.html; httpd -p 8080 -h /data; \
                      httpd -p 9090 -h /data; while :; do sleep 3600 & wait; done";
        template["spec"]["startCommand"] = json!(["sh", "-c", script]);
        let probe = json!({"httpGet": {"path": "/ready"}});
        template["spec"]["ports"] =
            json!([{"name": "web", "port": 8080}, {"name": "api", "port": 9090, "readinessProbe": probe}]);
        world.create(template).await;
        world.create(records::project("team", "hello")).await;
        world.create(records::workspace("w0")).await;

        until("word of it", SOON, async || {
            let status = world.workspace("w0").await.status.unwrap_or_default();
            match find(&status.conditions, "ServicesAnswering").filter(|c| c.reason == "NotReady") {
                Some(c) if c.message.contains("\"api\" on port 9090 is not ready yet: it answers GET /ready with 404") => Ok(()),
                _ => Err(format!("{:?}", status.conditions)),
            }
        })
        .await;
        until("the first route", SOON, async || match world.page("w0").await.0 {
            200 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
        assert_eq!(second(&world).await, 503, "nobody is led to what is not ready");
        let host = second_host(&world).await.unwrap();
        let (_, page) = request(world.web, &host, "/", &[("Accept", "text/html")]).await;
        assert!(page.contains("This workspace is starting") && page.contains("http-equiv=\"refresh\""), "{page}");
        phase(&world, WorkspacePhase::Starting).await;
        let routes = world.routes().list(&Default::default()).await.unwrap().items;
        let api = routes.iter().find(|r| r.name_any() == "w0-api").unwrap().status.clone().unwrap();
        assert!(find(&api.conditions, "Programmed").is_some_and(|c| c.reason == "ServiceNotReady"), "{:?}", api.conditions);

        let container = world.container("w0").await;
        world.daemon.docker(&["exec", &container, "touch", "/data/ready"]);
        opened(&world).await;
        phase(&world, WorkspacePhase::Running).await;

        let host = second_host(&world).await.unwrap();
        // A control plane that starts again closes nothing.
        world.kill();
        world.launch();
        let (mut asked, begun) = (0, std::time::Instant::now());
        while begun.elapsed() < Duration::from_secs(4) {
            asked += 1;
            assert_eq!(request(world.web, &host, "/", &[]).await.0, 200, "after {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(asked > 20);
        world.ready().await;

        // Another start is another matter.
        world.daemon.docker(&["kill", &container]);
        until("it to be closed", SOON, async || match second(&world).await {
            503 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
        until("the first to answer again", SOON, async || match world.page("w0").await.0 {
            200 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
        world.daemon.docker(&["exec", &container, "touch", "/data/ready"]);
        opened(&world).await;
    });
}

#[test]
fn a_probe_that_cannot_be_asked_is_refused_at_its_field() {
    in_world(async |world| {
        let told = async |port: serde_json::Value| {
            let mut template = records::template("bad");
            template["spec"]["ports"] = json!([port]);
            world.try_create(&template).await.unwrap_err().to_string()
        };
        let both = told(json!({"name": "a", "port": 1, "readinessProbe": {"httpGet": {"path": "/"}, "tcpSocket": {}}})).await;
        assert!(both.contains("spec.ports[0].readinessProbe") && both.contains("one of"), "{both}");
        let none = told(json!({"name": "a", "port": 1, "readinessProbe": {}})).await;
        assert!(none.contains("spec.ports[0].readinessProbe"), "{none}");
        for path in ["healthz", "", "/a b", "/a#b", "/a\r\nHost: evil", "//\u{e9}"] {
            let words = told(json!({"name": "a", "port": 1, "readinessProbe": {"httpGet": {"path": path}}})).await;
            assert!(words.contains("spec.ports[0].readinessProbe.httpGet.path"), "{path:?}: {words}");
        }
        let tcp = json!({"name": "a", "port": 1, "protocol": "TCP", "readinessProbe": {"httpGet": {"path": "/"}}});
        assert!(told(tcp).await.contains("tcpSocket"));
        assert!(Api::<Template>::all(world.client.clone()).get_opt("bad").await.unwrap().is_none());
    });
}
