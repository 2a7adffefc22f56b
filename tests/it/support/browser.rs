//! A browser of sorts: it keeps cookies for each host as browsers do, and follows where it is led, through a real Traefik.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
    /// The address it came from in the end.
    pub url: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let set = lines.filter(|(key, _)| key.eq_ignore_ascii_case("set-cookie"));
        set.filter_map(|(_, value)| value.split(';').next()?.split_once('='))
    }
}

pub struct Browser {
    web: SocketAddr,
    /// By host.
    pub jar: BTreeMap<String, BTreeMap<String, String>>,
}

impl Browser {
    pub fn new(web: SocketAddr) -> Self {
        Self { web, jar: BTreeMap::new() }
    }

    /// One request, with the cookies of its host and nothing followed.
    pub async fn send(&mut self, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let rest = url.strip_prefix("http://").expect("an http address");
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, path) = (authority.split(':').next().unwrap(), if path.is_empty() { "/" } else { path });
        let jar = self.jar.entry(host.to_owned()).or_default();
        let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
        if !cookies.is_empty() {
            text += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        // Names lead to the proxy; what has an address of its own is asked there.
        let at = authority.parse::<SocketAddr>().unwrap_or(self.web);
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap_or((&whole, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let answer = Answer { code, head: head.to_owned(), body: body.to_owned(), url: url.to_owned() };
        for (name, value) in answer.cookies() {
            if value.is_empty() { drop(jar.remove(name)) } else { drop(jar.insert(name.to_owned(), value.to_owned())) }
        }
        answer
    }

    /// Opens a page, wherever it leads.
    pub async fn open(&mut self, url: &str) -> Answer {
        let mut url = url.to_owned();
        for _ in 0..10 {
            let headers = [("Accept", "text/html,*/*"), ("Sec-Fetch-Mode", "navigate")];
            let answer = self.send("GET", &url, &headers, "").await;
            let Some(to) = answer.header("location").filter(|_| (300..400).contains(&answer.code)) else { return answer };
            let host = url.split('/').take(3).collect::<Vec<_>>().join("/");
            url = if to.starts_with('/') { format!("{host}{to}") } else { to.to_owned() };
        }
        panic!("led in a circle at {url}");
    }

    /// Sends a form of a page of this origin.
    pub async fn submit(&mut self, url: &str, fields: &[(&str, &str)]) -> Answer {
        let escape = |text: &str| {
            text.bytes()
                .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
                .collect::<String>()
        };
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let origin = url.split('/').take(3).collect::<Vec<_>>().join("/");
        let headers = [
            ("Origin", origin.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        self.send("POST", url, &headers, &body.join("&")).await
    }
}
