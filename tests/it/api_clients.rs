//! kube-rs as it is, on the API inside the process.

use crate::support::api::{Api, route, routes, workspace, workspaces};
use devsanctum::resource::{Route, Workspace};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Event as CoreEvent;
use kube::api::{Api as KubeApi, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::finalizer::{Event as Final, finalizer};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

#[tokio::test]
async fn server_side_apply_creates_conflicts_and_forces() {
    let api = Api::new().await;
    api.project().await;
    let client: KubeApi<Workspace> = KubeApi::namespaced(api.client(), "team");
    let body = |branch: &str| {
        json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "web"},
               "spec": {"owner": "ada", "branch": branch}})
    };
    let made = client.patch("web", &PatchParams::apply("one"), &Patch::Apply(body("a"))).await.unwrap();
    assert_eq!(made.spec.branch, "a");
    let same = client.patch("web", &PatchParams::apply("one"), &Patch::Apply(body("a"))).await.unwrap();
    assert_eq!(same.resource_version(), made.resource_version(), "applying the same again changes nothing");
    let conflict = client.patch("web", &PatchParams::apply("two"), &Patch::Apply(body("b"))).await.unwrap_err();
    assert!(matches!(&conflict, kube::Error::Api(s) if s.code == 409 && s.message.contains("one")), "{conflict}");
    let forced = client.patch("web", &PatchParams::apply("two").force(), &Patch::Apply(body("b"))).await.unwrap();
    assert_eq!(forced.spec.branch, "b");
    assert_eq!(forced.metadata.generation, Some(2));
    let status = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "web"},
                        "status": {"phase": "STARTING", "services": [], "conditions": []}});
    let told = client.patch_status("web", &PatchParams::apply("loop").force(), &Patch::Apply(status)).await.unwrap();
    assert_eq!(told.metadata.generation, Some(2));
    assert_eq!(told.status.unwrap().phase, devsanctum::resource::WorkspacePhase::Starting);
}

#[tokio::test]
async fn the_finalizer_helper_runs_through() {
    let api = Api::new().await;
    api.project().await;
    api.create(&workspaces(), &workspace("web")).await;
    let client: KubeApi<Workspace> = KubeApi::namespaced(api.client(), "team");
    let pass = async || {
        let object = Arc::new(client.get("web").await.unwrap());
        let reconcile = |event| async move {
            Ok::<_, std::io::Error>(match event {
                Final::Apply(_) | Final::Cleanup(_) => Action::await_change(),
            })
        };
        finalizer(&client, "devsanctum.io/workspace", object, reconcile).await.unwrap();
    };
    pass().await;
    assert_eq!(client.get("web").await.unwrap().finalizers(), ["devsanctum.io/workspace"]);
    client.delete("web", &Default::default()).await.unwrap();
    assert!(client.get("web").await.unwrap().metadata.deletion_timestamp.is_some());
    pass().await;
    assert!(client.get_opt("web").await.unwrap().is_none());
}

#[tokio::test]
async fn a_controller_sees_what_it_owns() {
    let api = Api::new().await;
    api.project().await;
    let client = api.client();
    let made = Arc::new(AtomicUsize::new(0));
    let context = (client.clone(), made.clone());
    let controller = Controller::new(KubeApi::<Workspace>::all(client.clone()), watcher::Config::default())
        .owns(KubeApi::<Route>::all(client.clone()), watcher::Config::default())
        .run(
            |workspace, context| async move {
                let routes: KubeApi<Route> = KubeApi::namespaced(context.0.clone(), "team");
                if routes.get_opt("own").await?.is_none() {
                    let mut body: Route = serde_json::from_value(route("own", "web")).expect("it is a route");
                    body.meta_mut().owner_references = Some(vec![workspace.controller_owner_ref(&()).expect("it is stored")]);
                    routes.create(&PostParams::default(), &body).await?;
                    context.1.fetch_add(1, Ordering::SeqCst);
                }
                Ok::<_, kube::Error>(Action::await_change())
            },
            |_, _, _| Action::requeue(Duration::from_millis(100)),
            Arc::new(context),
        );
    let running = tokio::spawn(controller.for_each(|_| async {}));
    api.create(&workspaces(), &workspace("web")).await;
    let path = format!("{}/own", routes());
    within(async {
        while api.get(&path).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        api.delete(&path).await;
        while made.load(Ordering::SeqCst) < 2 || api.get(&path).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    running.abort();
}

#[tokio::test]
async fn events_stand_in_both_groups() {
    let api = Api::new().await;
    api.project().await;
    let made = api.create(&workspaces(), &workspace("web")).await;
    let object: Workspace = serde_json::from_value(made).unwrap();
    let recorder = Recorder::new(api.client(), "workspace-loop".into());
    let event = Event {
        type_: EventType::Normal,
        reason: "Started".into(),
        note: Some("it runs".into()),
        action: "Start".into(),
        secondary: None,
    };
    for _ in 0..2 {
        recorder.publish(&event, &object.object_ref(&())).await.unwrap();
    }
    let core: KubeApi<CoreEvent> = KubeApi::namespaced(api.client(), "team");
    let found = core.list(&ListParams::default().fields("involvedObject.name=web")).await.unwrap();
    assert_eq!(found.items.len(), 1);
    let seen = &found.items[0];
    assert_eq!(seen.message.as_deref(), Some("it runs"));
    assert_eq!(seen.source.as_ref().and_then(|s| s.component.as_deref()), Some("workspace-loop"));
    assert_eq!(seen.count, Some(2), "the second one counts on");
    let new: KubeApi<k8s_openapi::api::events::v1::Event> = KubeApi::namespaced(api.client(), "team");
    let found = new.list(&ListParams::default().fields("regarding.name=web")).await.unwrap();
    assert_eq!(found.items[0].note.as_deref(), Some("it runs"));
    assert_eq!(core.list(&ListParams::default().fields("involvedObject.name=other")).await.unwrap().items.len(), 0);
}
