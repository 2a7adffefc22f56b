use super::*;
use crate::proxy::types::RouteEntry;
use crate::resource::common::{Protocol, Visibility};

fn feed() -> Arc<Feed> {
    let gate_url = "http://127.0.0.1:1".into();
    Feed::new(
        RenderSettings { entry_points: vec!["web".into()], gate_url, ..RenderSettings::default() },
        "secret".into(),
        Pace::default(),
    )
}

fn table(ports: impl IntoIterator<Item = u16>) -> RouteTable {
    let entry = |port: u16| RouteEntry {
        host: format!("h{port}.localhost"),
        upstream: ([127, 0, 0, 1], port).into(),
        protocol: Protocol::Http,
        visibility: Visibility::Public,
        workspace_uid: "w".into(),
        way: None,
    };
    RouteTable(ports.into_iter().map(|p| (format!("r{p}"), entry(p))).collect())
}

fn seen(published: &Arc<Published>) -> Option<(String, Instant)> {
    Some((published.rendered.digest.clone(), Instant::now()))
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_before_the_first_table_not_even_an_empty_one() {
    let feed = feed();
    assert!(feed.next(None).await.is_none());
    feed.publish(&RouteTable::default());
    assert!(feed.next(None).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_is_answered_at_once_and_a_repeat_is_held() {
    let feed = feed();
    feed.publish(&table([1]));
    let start = Instant::now();
    let first = feed.next(None).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let again = feed.next(seen(&first)).await.unwrap();
    assert_eq!(start.elapsed(), HOLD);
    assert_eq!(again.rendered.digest, first.rendered.digest);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_answer_and_the_next_keeps_its_distance() {
    let feed = feed();
    feed.publish(&table(1..=100));
    let first = feed.next(None).await.unwrap();
    let held = tokio::spawn({
        let (feed, seen) = (Arc::clone(&feed), seen(&first));
        async move { feed.next(seen).await.unwrap() }
    });
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    for n in 101..=110 {
        feed.publish(&table(1..=n));
        sleep(Duration::from_millis(1)).await;
    }
    let second = held.await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(25), "{:?}", start.elapsed());
    assert_eq!(second.rendered, feed.current().unwrap().rendered);
    let seen = seen(&second);
    feed.publish(&table(1..=120));
    let start = Instant::now();
    feed.next(seen).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(120));
}

#[tokio::test(start_paused = true)]
async fn a_change_and_its_undoing_wake_nobody() {
    let feed = feed();
    feed.publish(&table([1]));
    let first = feed.next(None).await.unwrap();
    let start = Instant::now();
    let undone = async {
        feed.publish(&table([2]));
        feed.publish(&table([1]));
    };
    let (answer, ()) = tokio::join!(feed.next(seen(&first)), undone);
    assert_eq!(start.elapsed(), HOLD);
    assert_eq!(answer.unwrap().rendered.digest, first.rendered.digest);
}

#[tokio::test]
async fn only_the_token_opens_the_endpoint() {
    let feed = feed();
    feed.publish(&table([1]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/traefik/config", listener.local_addr().unwrap());
    let server = tokio::spawn(Arc::clone(&feed).serve(listener, std::future::pending()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for header in [None, Some("secret"), Some("Bearer "), Some("Bearer wrong"), Some("bearer secret")] {
        let request = header.into_iter().fold(client.get(&url), |r, h| r.header("authorization", h));
        assert_eq!(request.send().await.unwrap().status(), 401, "{header:?}");
    }
    assert_eq!(client.get(&url).bearer_auth("secret").send().await.unwrap().status(), 200);
    server.abort();
}
