//! A server's gateway as it is started and told, on a real HAProxy.

use crate::support::bare;
use crate::support::image::program;
use crate::support::ports::free_address;
use devsanctum::proxy::gateway::{
    Admin, Authority, CONTROL, Fence, Identity, Listening, PROXY, Way, config, domain, label, target,
};
use devsanctum::resource::common::Protocol;
use hyper_rustls::MaybeHttpsStream;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tower::Service;

const SERVER: &str = "0b5c7a51-3c8f-4c56-9f5e-7d3a3c1e4f00";
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway in a folder of its own, what it leads to, and who may come.
struct Gateway {
    child: Child,
    _dir: TempDir,
    address: String,
    upstream: SocketAddr,
    authority: Authority,
    proxy: Arc<Identity>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Gateway {
    /// As a server runs it, but for these numbers.
    async fn start(other: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (pem, key) = Authority::make().unwrap();
        let authority = Authority::read(&pem, &key).unwrap();
        let port = free_address().port();
        let mut told = config(&Listening { port, ..Listening::default() });
        for (is, instead) in other {
            assert_eq!(told.matches(is).count(), 1, "{is}: {told}");
            told = told.replace(is, instead);
        }
        for (name, content) in [
            ("haproxy.cfg", told),
            ("ca.pem", pem),
            ("server.pem", authority.server(&domain(SERVER)).unwrap()),
            ("map", String::new()),
        ] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        // The folder where it has all in a container is in memory of its own.
        let script = "mount -t tmpfs memory /run && mkdir /run/devsanctum && cp \"$1\"/* /run/devsanctum && \
                      exec \"$2\" -db -f /run/devsanctum/haproxy.cfg";
        let mut command = bare("unshare");
        command.args(["--mount", "--", "sh", "-c", script, "sh"]).arg(dir.path()).arg(program("haproxy")).stdin(Stdio::null());
        let proxy = Arc::new(authority.client(PROXY).unwrap());
        let (child, address, upstream) = (command.spawn().unwrap(), format!("127.0.0.1:{port}"), echoing().await);
        let gateway = Self { child, _dir: dir, address, upstream, authority, proxy };
        let begun = Instant::now();
        while let Err(e) = gateway.admin(&gateway.may(true)).map().await {
            assert!(begun.elapsed() < PATIENCE, "{e}");
            sleep(Duration::from_millis(20)).await;
        }
        gateway
    }

    fn may(&self, act: bool) -> Arc<AtomicBool> {
        Arc::new(AtomicBool::new(act))
    }

    fn admin(&self, may: &Arc<AtomicBool>) -> Admin {
        let may = may.clone();
        let fence: Fence = Arc::new(move || may.load(Ordering::Relaxed));
        Admin::new("rack", SERVER, &self.address, Arc::new(self.authority.client(CONTROL).unwrap()), fence)
    }

    /// All of these workspaces at the one service.
    fn leads(&self, workspaces: &[&str]) -> BTreeMap<String, String> {
        let each = workspaces.iter().map(|w| (self.label(w), target(self.upstream, Protocol::Http)));
        each.collect()
    }

    fn label(&self, workspace: &str) -> String {
        label(workspace, self.upstream.port(), Protocol::Http)
    }

    fn way(&self, label: &str, identity: &Arc<Identity>) -> Way {
        let name = format!("{label}.{}", domain(SERVER));
        Way { server: "rack".into(), gateway: self.address.clone(), name, identity: identity.clone() }
    }

    /// A connection to a workspace, if one can be had.
    async fn open(&self, workspace: &str) -> Option<impl Stream + use<>> {
        let mut stream = self.way(&self.label(workspace), &self.proxy).connect().await.ok()?;
        echoes(&mut stream).await.then_some(stream)
    }

    async fn open_many(&self, workspace: &str, count: usize) -> Vec<impl Stream + use<>> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.extend(self.open(workspace).await);
        }
        all
    }
}

async fn echoes(stream: &mut (impl Stream + ?Sized)) -> bool {
    let mut said = [0; 4];
    let asked = async { stream.write_all(b"here").await.is_ok() && stream.read_exact(&mut said).await.is_ok() };
    timeout(PATIENCE, asked).await.expect("an answer, or an end") && said == *b"here"
}

async fn echoing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn one_workspace_does_not_take_a_gateway_from_the_others_and_a_full_one_still_does_as_it_is_told() {
    let gateway =
        Gateway::start(&[("maxconn 4000", "maxconn 60"), ("fe_conn gt 3900", "fe_conn gt 40"), ("gt 1000", "gt 20")]).await;
    let admin = gateway.admin(&gateway.may(true));
    // Uids have dashes in them; these begin alike.
    admin.lead(&gateway.leads(&["aa-1", "aa-2", "aa-3"])).await.unwrap();
    let mut one = gateway.open_many("aa-1", 25).await;
    assert_eq!(one.len(), 20, "one workspace has a part of it");
    let two = gateway.open_many("aa-2", 15).await;
    assert_eq!(two.len(), 15, "and the others have the rest");
    let three = gateway.open_many("aa-3", 10).await;
    assert_eq!(three.len(), 5, "until it is full");
    assert!(echoes(&mut one[0]).await);

    // The control plane finds whom to cut, and cuts; then there is room again.
    assert_eq!(admin.map().await.unwrap().len(), 3);
    let open = admin.sessions().await.unwrap();
    assert_eq!(open.len(), 40);
    admin.end(&open).await.unwrap();
    for stream in &mut one {
        assert!(!echoes(stream).await, "it is cut");
    }
    let begun = Instant::now();
    while gateway.open("aa-3").await.is_none() {
        assert!(begun.elapsed() < PATIENCE, "there is room");
    }
}

#[tokio::test]
async fn nobody_but_the_control_plane_tells_a_gateway_anything_and_that_only_while_it_may() {
    let gateway = Gateway::start(&[]).await;
    let may = gateway.may(true);
    let (admin, leads) = (gateway.admin(&may), gateway.leads(&["a"]));
    admin.lead(&leads).await.unwrap();
    let mut stream = gateway.open("a").await.unwrap();

    // Another has the lead meanwhile.
    may.store(false, Ordering::Relaxed);
    let open = admin.sessions().await.unwrap();
    assert!(open.len() == 1 && open[0].bytes >= 8, "{open:?}");
    let refused = [admin.lead(&BTreeMap::new()).await, admin.end(&open).await];
    assert!(refused.iter().all(|done| done.as_ref().is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)), "{refused:?}");
    assert!(admin.map().await.unwrap() == leads && echoes(&mut stream).await, "all is as it was");

    // Who comes with the proxy's certificate gets no word out of it.
    let control = Arc::new(gateway.authority.client(CONTROL).unwrap());
    for (identity, answered) in [(&control, true), (&gateway.proxy, false)] {
        let mut stream = gateway.way("admin", identity).connect().await.unwrap();
        let _ = stream.write_all(b"show info\n").await;
        let mut said = Vec::new();
        // However it ends.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("an end");
        assert_eq!(!said.is_empty(), answered, "{}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test]
async fn what_is_typed_goes_out_at_once() {
    let gateway = Gateway::start(&[]).await;
    let way = gateway.way("admin", &Arc::new(gateway.authority.client(CONTROL).unwrap()));
    let MaybeHttpsStream::Https(stream) = way.connector().unwrap().call(way.url().parse().unwrap()).await.unwrap() else {
        panic!("without TLS")
    };
    assert!(stream.inner().get_ref().0.inner().inner().nodelay().unwrap());
}
