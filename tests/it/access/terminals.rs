//! A terminal goes on without a connection, and no longer than the right to it.

use super::Town;
use crate::support::api::GROUP;
use async_trait::async_trait;
use bytes::Bytes;
use devsanctum::access::Scope;
use devsanctum::api::streams::{
    ExecInput, ExecOutput, ExecRequest, ExecSession, LogRequest, StreamError, StreamTarget, WorkspaceStreams,
};
use devsanctum::api::{ApiConfig, ApiState, NoObserver, router};
use devsanctum::clock::SystemClock;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

/// How soon a right that is lost is so at every door.
const SOON: Duration = Duration::from_secs(2);

/// Programs that say that they run, and go on until they are hung up.
#[derive(Default)]
struct Programs {
    running: Arc<AtomicUsize>,
    inputs: Mutex<Vec<mpsc::Receiver<ExecInput>>>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl WorkspaceStreams for Programs {
    async fn exec(&self, _: StreamTarget, _: ExecRequest) -> Result<ExecSession, StreamError> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let (running, (input, typed)) = (Running(self.running.clone()), mpsc::channel(8));
        self.inputs.lock().unwrap().push(typed);
        let runs = stream::iter([ExecOutput::Stdout(Bytes::from_static(b"it runs"))]);
        let goes_on = stream::once(async move {
            let _running = running;
            std::future::pending().await
        });
        Ok(ExecSession { input, output: runs.chain(goes_on).boxed() })
    }

    async fn dial(&self, target: StreamTarget, _: &str, _: u16) -> Result<ExecSession, StreamError> {
        self.exec(target, ExecRequest::piped(devsanctum::api::streams::Run::Sftp)).await
    }

    async fn log(&self, _: StreamTarget, _: LogRequest) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        Err(StreamError::Unavailable("nothing is written here".into()))
    }
}

/// The town's API over real connections, with programs in its workspaces.
struct Rig {
    town: Town,
    programs: Arc<Programs>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    async fn new() -> Self {
        let (town, programs, stop) = (Town::new().await, Arc::new(Programs::default()), CancellationToken::new());
        let state = ApiState::new(ApiConfig {
            store: town.api.store.clone(),
            streams: programs.clone(),
            health: Arc::new(NoObserver),
            observer: Arc::new(NoObserver),
            clock: SystemClock::shared(),
            shutdown: stop.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router(state)).await });
        Self { town, programs, address, stop }
    }

    /// Somebody looks at their terminal of this name in a workspace, until it shows something, and leaves.
    async fn looks(&self, key: &str, workspace: &str, session: &str) {
        let path = format!("{GROUP}/namespaces/team/workspaces/{workspace}/terminal?session={session}");
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {}", self.town.text(key)).parse().unwrap());
        headers.insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let shown = socket.next().await.unwrap().unwrap().into_data();
        assert_eq!(&shown[1..], b"it runs");
    }

    async fn change(&self, path: &str, spec: Value) {
        let (code, told) = self.town.api.merge(&format!("{GROUP}/{path}"), &json!({"spec": spec})).await;
        assert_eq!(code, 200, "{told}");
    }

    fn running(&self) -> usize {
        self.programs.running.load(Ordering::SeqCst)
    }

    /// Waits until so many programs run; how long that took.
    async fn until(&self, what: &str, running: usize) -> Duration {
        let begun = Instant::now();
        while self.running() != running {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}: {} programs go on", self.running());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_looks_at_ends_when_its_owner_may_no_longer_have_it() {
    let mut rig = Rig::new().await;
    let roles = [("readers", "READ"), ("devs", "READ"), ("leads", "MANAGE")];
    let roles = roles.map(|(group, role)| json!({"group": group, "role": role}));
    let lesser = json!({"groups": roles});
    let mut ways = vec![
        ("a lesser role of the group", "projects/team", lesser),
        ("out of the group", "groups/devs", json!({"members": [{"user": "lead", "role": "MANAGER"}]})),
        ("not active", "users/deployer", json!({"active": false})),
    ];
    while let Some((way, path, spec)) = ways.pop() {
        let (_, before) = rig.town.api.get(&format!("{GROUP}/{path}")).await;
        rig.looks("deployer", "of-deployer", &format!("one-{}", ways.len())).await;
        rig.looks("manager", "of-manager", &format!("other-{}", ways.len())).await;
        // Long enough for the connections to be gone.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(rig.running(), 2, "{way}: they go on without a connection");
        rig.change(path, spec).await;
        let took = rig.until(way, 1).await;
        assert!(took < SOON, "{way}: {took:?}");
        rig.change(path, before["spec"].clone()).await;
        // The other one is theirs, and goes with their own right.
        rig.change("groups/leads", json!({"members": []})).await;
        rig.until("the other", 0).await;
        rig.change("groups/leads", json!({"members": [{"user": "manager"}]})).await;
    }
    // And with the key that it was opened by.
    rig.town.key("lost", "deployer", Scope::default(), None).await;
    rig.looks("lost", "of-deployer", "by-key").await;
    let keys = rig.town.api.store.api_keys(Some("deployer")).await.unwrap();
    let lost = keys.iter().find(|key| key.label == "lost").unwrap();
    assert!(rig.town.api.store.remove_api_key(&lost.id).await.unwrap());
    let took = rig.until("an ended key", 0).await;
    assert!(took < SOON + Duration::from_secs(1), "{took:?}");
}
