use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server on this machine that answers every request with what is given for its path, and never closes.
async fn server(answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut asked, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let read = asked.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let answer =
                    answers.iter().find(|(p, _)| *p == path).map_or("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", |a| a.1);
                asked.write_all(answer.as_bytes()).await.unwrap();
                if path == "/endless" {
                    while asked.write_all(&[b'x'; 4096]).await.is_ok() {}
                }
                tokio::time::sleep(Duration::from_secs(60)).await;
            });
        }
    });
    format!("http://{address}")
}

/// Asks this machine at 127.0.0.1 alone, within limits that tests can wait for.
fn fetcher() -> Fetcher {
    let exempt = vec![IpAddr::from([127, 0, 0, 1])];
    Fetcher { exempt, most_bytes: 1000, longest: Duration::from_secs(1), ..Fetcher::new(false) }
}

fn not_asked(result: Result<String, FetchError>) -> String {
    match result {
        Err(FetchError::NotAsked { address, .. }) => address.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_text_is_fetched_and_redirects_are_followed_three_times() {
    let at = server(&[
        ("/a", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        ("/1", "HTTP/1.1 302 Found\r\nlocation: /a\r\ncontent-length: 0\r\n\r\n"),
        ("/2", "HTTP/1.1 301 Moved\r\nlocation: 1\r\ncontent-length: 0\r\n\r\n"),
        ("/3", "HTTP/1.1 307 Moved\r\nlocation: /2\r\ncontent-length: 0\r\n\r\n"),
        ("/4", "HTTP/1.1 308 Moved\r\nlocation: /3\r\ncontent-length: 0\r\n\r\n"),
        ("/nowhere", "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n"),
    ])
    .await;
    assert_eq!(fetcher().text(&format!("{at}/a")).await, Ok("hello".into()));
    assert_eq!(fetcher().text(&format!("{at}/3")).await, Ok("hello".into()));
    assert!(matches!(fetcher().text(&format!("{at}/4")).await, Err(FetchError::TooManyRedirects(_, 3))));
    assert!(matches!(fetcher().text(&format!("{at}/none")).await, Err(FetchError::Status(_, 404))));
    assert!(matches!(fetcher().text(&format!("{at}/nowhere")).await, Err(FetchError::Nowhere(..))));
}

#[tokio::test]
async fn a_redirect_is_judged_like_any_address() {
    let at = server(&[
        ("/cloud", "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/meta-data\r\ncontent-length: 0\r\n\r\n"),
        ("/neighbour", "HTTP/1.1 302 Found\r\nlocation: //10.1.2.3:2375/info\r\ncontent-length: 0\r\n\r\n"),
        ("/mapped", "HTTP/1.1 302 Found\r\nlocation: http://[::ffff:7f00:2]/\r\ncontent-length: 0\r\n\r\n"),
        ("/short", "HTTP/1.1 302 Found\r\nlocation: http://127.2/\r\ncontent-length: 0\r\n\r\n"),
        ("/octal", "HTTP/1.1 302 Found\r\nlocation: http://0177.0.0.02/\r\ncontent-length: 0\r\n\r\n"),
        ("/file", "HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n"),
        ("/secret", "HTTP/1.1 302 Found\r\nlocation: http://a:b@127.0.0.1/\r\ncontent-length: 0\r\n\r\n"),
    ])
    .await;
    for (path, address) in [
        ("cloud", "169.254.169.254"),
        ("neighbour", "10.1.2.3"),
        ("mapped", "::ffff:127.0.0.2"),
        ("short", "127.0.0.2"),
        ("octal", "127.0.0.2"),
    ] {
        assert_eq!(not_asked(fetcher().text(&format!("{at}/{path}")).await), address, "{path}");
    }
    assert!(matches!(fetcher().text(&format!("{at}/file")).await, Err(FetchError::NotAnAddress(..))));
    assert_eq!(fetcher().text(&format!("{at}/secret")).await, Err(FetchError::Credentials));
}

#[tokio::test]
async fn too_much_and_too_slow_are_given_up() {
    let at = server(&[
        ("/said", "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\nx"),
        ("/endless", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
        ("/slow", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx"),
        ("/silent", ""),
    ])
    .await;
    assert!(matches!(fetcher().text(&format!("{at}/said")).await, Err(FetchError::TooLarge(_, 1000))));
    assert!(matches!(fetcher().text(&format!("{at}/endless")).await, Err(FetchError::TooLarge(_, 1000))));
    assert!(matches!(fetcher().text(&format!("{at}/slow")).await, Err(FetchError::TooSlow(_, 1))));
    assert!(matches!(fetcher().text(&format!("{at}/silent")).await, Err(FetchError::TooSlow(_, 1))));
}

#[tokio::test]
async fn this_machine_is_asked_by_callers_who_say_so_alone() {
    let at = server(&[("/a", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")]).await;
    let named = at.replace("127.0.0.1", "localhost");
    for address in [&at, &named] {
        not_asked(Fetcher::new(false).text(&format!("{address}/a")).await);
    }
    assert_eq!(Fetcher::new(true).text(&format!("{at}/a")).await, Ok("hello".into()));
    assert_eq!(Fetcher::new(true).text(&format!("{named}/a")).await, Ok("hello".into()));
    assert_eq!(not_asked(Fetcher::new(true).text("http://169.254.169.254/").await), "169.254.169.254");
}

#[tokio::test]
async fn what_is_no_address_of_the_web_is_refused() {
    for address in ["", "index.yaml", "file:///etc/passwd", "ftp://example.com/", "http://", "data:,x", "gopher://127.0.0.1:25/"]
    {
        assert!(matches!(fetcher().text(address).await, Err(FetchError::NotAnAddress(..))), "{address}");
    }
    assert_eq!(fetcher().text("https://ada:secret@example.com/").await, Err(FetchError::Credentials));
    let worded = fetcher().text("ftp://ada:secret@example.com/").await.unwrap_err().to_string();
    assert!(!worded.contains("secret") && worded.contains("example.com"), "{worded}");
}

#[test]
fn an_index_names_files_of_its_own_host() {
    let base = "https://example.com/library/index.yaml";
    assert_eq!(join(base, "features/a.yaml").unwrap(), "https://example.com/library/features/a.yaml");
    for file in ["https://example.org/a", "//example.org/a", "http://example.com/a", "file:///a"] {
        assert!(join(base, file).is_err(), "{file}");
    }
}

#[tokio::test]
async fn names_of_localhost_are_this_machine_whatever_a_resolver_says() {
    let url = Url::parse("http://panel.localhost:81/").unwrap();
    let found = Fetcher::new(true).judged(&url).await.unwrap();
    assert_eq!(found, [SocketAddr::from((Ipv4Addr::LOCALHOST, 81)), SocketAddr::from((Ipv6Addr::LOCALHOST, 81))]);
    assert!(matches!(Fetcher::new(false).judged(&url).await, Err(FetchError::NotAsked { .. })));
    assert!(!is_localhost("localhost.example.com") && is_localhost("LOCALHOST."));
}
