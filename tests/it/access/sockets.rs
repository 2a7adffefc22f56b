//! Upgraded connections to private workspaces, as the proxy hands them on: what is refused, how many there are, how often they are
//! looked at. The service at their end says yes and says everything again.

use super::panel::web;
use super::{Town, shares};
use crate::support::api::GROUP;
use devsanctum::clock::SystemClock;
use devsanctum::web::sockets::{Leads, Upstream, router};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const HOST: &str = "of-owner.example.com";
const WEBSOCKET: &str = "Upgrade: websocket\r\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole head of a message.
async fn head(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let read = async {
        while !said.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => said.push(byte),
                Err(_) => break,
            }
        }
    };
    let _ = timeout(PATIENCE, read).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// A service that answers each who has said the head of a request.
async fn answers<F>(answer: impl Fn(TcpStream) -> F + Copy + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                head(&mut stream).await;
                answer(stream).await;
            });
        }
    });
    address
}

/// One that does not want to be spoken to otherwise, in so many bytes that it does not count before.
async fn refuses(bytes: usize) -> SocketAddr {
    answers(move |mut stream| async move {
        let no = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(no).await;
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(32 << 10);
            if stream.write_all(&vec![b'n'; piece]).await.is_err() {
                return;
            }
            left -= piece;
        }
    })
    .await
}

async fn service() -> SocketAddr {
    answers(|mut stream| async move {
        let yes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let _ = stream.write_all(yes).await;
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await
}

/// The control plane's side of it.
struct Rig {
    town: Town,
    address: SocketAddr,
    uid: String,
    /// How often it was asked where the host leads: once for a connection, and once for each look.
    looks: Arc<AtomicUsize>,
}

impl Rig {
    async fn new() -> Self {
        Self::to(service().await).await
    }

    async fn to(to: SocketAddr) -> Self {
        let town = Town::new().await;
        shares::serve(&town, "of-owner").await;
        let (uid, looks) = (shares::uid(&town, "of-owner").await, Arc::new(AtomicUsize::new(0)));
        let (leads_to, count) = (uid.clone(), looks.clone());
        let leads: Leads = Arc::new(move |host: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            (host == HOST).then(|| Upstream::at(leads_to.clone(), to, false))
        });
        let routes = router(web(&town, SystemClock::shared()), leads);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { town, address, uid, looks }
    }

    /// A share link: its id, and the cookie of a browser that has followed it.
    async fn link(&self) -> (String, String) {
        let (id, token) = shares::link(&self.town, "owner", shares::of("of-owner")).await;
        let followed = shares::shares(&self.town).follow(&token, &self.uid, HOST, Timestamp::now()).await.unwrap();
        (id, format!("Cookie: __Host-ds_share={}\r\n", followed.expect("it works").0))
    }

    /// Asks to be upgraded by these header lines: what is answered, and the connection.
    async fn ask(&self, lines: &str) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let text = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\n{lines}\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let said = head(&mut stream).await;
        (said.split(' ').nth(1).unwrap_or_default().to_owned(), stream)
    }
}

/// Waits until a connection is cut.
async fn cut(stream: &mut TcpStream) {
    let mut rest = [0; 64];
    let ended = async { while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
    timeout(PATIENCE, ended).await.expect("the connection is cut");
}

#[tokio::test]
async fn nothing_but_a_websocket_gets_through() {
    let rig = Rig::new().await;
    let (_, cookie) = rig.link().await;
    for (lines, code) in [
        (WEBSOCKET, "101"),
        ("Upgrade: WebSocket\r\n", "101"),
        ("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n", "400"),
        ("Upgrade: h2c\r\nUpgrade: websocket\r\n", "400"),
        ("Upgrade: websocket\r\nUpgrade: h2c\r\n", "400"),
        ("Upgrade: websocket\r\nUpgrade: websocket\r\n", "400"),
        ("Upgrade: websocket, h2c\r\n", "400"),
        ("Upgrade: websocketx\r\n", "400"),
        ("Upgrade: web\u{17f}ocket\r\n", "400"),
        ("Upgrade: \r\n", "400"),
        ("", "400"),
    ] {
        assert_eq!(rig.ask(&format!("{lines}{cookie}")).await.0, code, "{lines:?}");
    }
    let (code, mut refused) = rig.ask("Upgrade: h2c\r\n").await;
    assert_eq!(code, "400", "whoever asks");
    let mut page = vec![0; 64 << 10];
    let read = timeout(PATIENCE, refused.read(&mut page)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&page[..read]).contains("Only WebSockets get through"));
}

#[tokio::test]
async fn a_link_holds_so_many_connections_and_no_more() {
    let rig = Rig::new().await;
    let [(_, one), (_, other)] = [rig.link().await, rig.link().await];
    let ask = async |cookie: &str| rig.ask(&format!("{WEBSOCKET}{cookie}")).await;
    let mut open = Vec::new();
    for n in 0..64 {
        let (code, stream) = ask(&one).await;
        assert_eq!(code, "101", "connection {n}");
        open.push(stream);
    }
    assert_eq!(ask(&one).await.0, "429");
    assert_eq!(ask(&other).await.0, "101", "another link has its own");
    open.pop();
    let begun = Instant::now();
    while ask(&one).await.0 != "101" {
        assert!(begun.elapsed() < PATIENCE, "one has become free");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What a service says instead of 101 is carried to its end, which is near: whoever asks has a place for as long.
#[tokio::test]
async fn a_service_that_says_no_is_heard_out_and_no_longer_than_a_refusal_is() {
    for (bytes, code) in [(0, "403"), (64 << 10, "403"), ((64 << 10) + 1, "502"), (usize::MAX, "502")] {
        let rig = Rig::to(refuses(bytes).await).await;
        let (_, cookie) = rig.link().await;
        let (said, mut stream) = rig.ask(&format!("{WEBSOCKET}{cookie}")).await;
        assert_eq!(said, code, "{bytes} bytes");
        let mut body = vec![0; 1 << 20];
        let mut read = 0;
        while code == "403" && read < bytes {
            read += timeout(PATIENCE, stream.read(&mut body[read..])).await.unwrap().unwrap();
        }
        assert!(body[..read].iter().all(|byte| *byte == b'n'), "{bytes} bytes: they came otherwise");
        // More than a link holds: none of them has a place any more.
        for n in 0..70 {
            assert_eq!(rig.ask(&format!("{WEBSOCKET}{cookie}")).await.0, code, "{bytes} bytes, connection {n}");
        }
    }
}

#[tokio::test]
async fn records_that_change_often_make_few_looks() {
    let rig = Rig::new().await;
    let (id, cookie) = rig.link().await;
    let (code, mut stream) = rig.ask(&format!("{WEBSOCKET}{cookie}")).await;
    assert_eq!(code, "101");
    let (before, begun) = (rig.looks.load(Ordering::SeqCst), Instant::now());
    for n in 0..100 {
        let path = format!("{GROUP}/namespaces/team/workspaces/of-reader");
        let (code, told) = rig.town.api.merge(&path, &json!({"metadata": {"labels": {"n": n.to_string()}}})).await;
        assert_eq!(code, 200, "{told}");
        sleep(Duration::from_millis(10)).await;
    }
    let looks = rig.looks.load(Ordering::SeqCst) - before;
    let most = begun.elapsed().as_secs() as usize + 2;
    assert!((1..=most).contains(&looks), "{looks} looks in {:?}", begun.elapsed());
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    assert_eq!(shares::ask(&rig.town, "owner", "DELETE", &format!("/{id}"), Value::Null).await.0, 200);
    let begun = Instant::now();
    cut(&mut stream).await;
    println!("cut after {:?}", begun.elapsed());
}
