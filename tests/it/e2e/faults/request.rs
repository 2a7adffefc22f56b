//! Requests to an engine, as they stand on a connection.

/// A whole request, or bytes that are none: those of a connection that was taken over by a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Method and path without version and without what is particular, such as `POST containers/*/start`.
    pub call: Option<String>,
    pub bytes: Vec<u8>,
}

impl Request {
    /// Whether it changes something on the engine. Commands run in containers do not.
    pub fn changes(&self) -> bool {
        let Some(call) = &self.call else { return false };
        let exec = call.contains("exec");
        !exec && ["POST ", "PUT ", "DELETE "].iter().any(|method| call.starts_with(method))
    }
}

/// Cuts what a client sends on one connection into requests.
#[derive(Default)]
pub struct Requests {
    buffer: Vec<u8>,
    stream: bool,
    /// How far the end of a body was looked for; bodies may be long.
    looked: usize,
}

impl Requests {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole request.
    pub fn next(&mut self) -> Option<Request> {
        if self.stream {
            let bytes = std::mem::take(&mut self.buffer);
            return (!bytes.is_empty()).then_some(Request { call: None, bytes });
        }
        let head = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.buffer[..head]).into_owned();
        let field = |name: &str| {
            let fields = text.lines().filter_map(|l| l.split_once(':'));
            fields.filter(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_ascii_lowercase()).next()
        };
        let end = match (field("content-length"), field("transfer-encoding")) {
            (Some(length), _) => head + length.parse::<usize>().unwrap(),
            (None, Some(_)) => {
                let from = self.looked.max(head);
                let end = self.buffer[from..].windows(5).position(|w| w == b"0\r\n\r\n");
                self.looked = self.buffer.len().saturating_sub(4);
                from + end? + 5
            }
            (None, None) => head,
        };
        if self.buffer.len() < end {
            return None;
        }
        self.looked = 0;
        self.stream = field("upgrade").is_some();
        let bytes = self.buffer.drain(..end).collect();
        Some(Request { call: Some(call(text.lines().next().unwrap_or_default())), bytes })
    }
}

/// The call a request line is.
fn call(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default().trim_matches('/');
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.first().is_some_and(|p| p.starts_with("v1.")) {
        parts.remove(0);
    }
    let plain = ["json", "create", "prune", "load"];
    match parts.as_mut_slice() {
        ["images", rest @ ..] if rest.last() == Some(&"json") && rest.len() > 1 => parts = vec!["images", "*", "json"],
        ["images", ..] if method == "DELETE" => parts = vec!["images", "*"],
        [_, particular, ..] if !plain.contains(particular) => *particular = "*",
        _ => {}
    }
    format!("{method} {}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&[u8]]) -> Vec<Request> {
        let (mut requests, mut found) = (Requests::default(), Vec::new());
        for chunk in chunks {
            requests.push(chunk);
            found.extend(std::iter::from_fn(|| requests.next()));
        }
        found
    }

    #[test]
    fn requests_are_told_apart_wherever_they_are_cut() {
        let text =
            b"POST /v1.41/containers/create?name=a HTTP/1.1\r\nHost: x\r\ncontent-length: 2\r\n\r\n{}GET /_ping HTTP/1.1\r\n\r\n";
        for cut in 0..text.len() {
            let calls: Vec<_> = all(&[&text[..cut], &text[cut..]]).into_iter().map(|r| r.call.unwrap()).collect();
            assert_eq!(calls, ["POST containers/create", "GET _ping"], "cut at {cut}");
        }
    }

    #[test]
    fn what_follows_an_upgrade_is_a_stream() {
        let found = all(&[b"POST /exec/ab/start HTTP/1.1\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n"]);
        assert_eq!(found[0].call.as_deref(), Some("POST exec/*/start"));
        assert_eq!(found[1], Request { call: None, bytes: b"GET / HTTP/1.1\r\n\r\n".to_vec() });
    }

    #[test]
    fn only_what_changes_something_counts_as_a_change() {
        let changes = |line: &str| Request { call: Some(call(line)), bytes: vec![] }.changes();
        for line in [
            "POST /v1.41/containers/ab/stop?t=10 HTTP/1.1",
            "DELETE /volumes/x HTTP/1.1",
            "POST /volumes/create HTTP/1.1",
            "PUT /containers/ab/archive?path=x HTTP/1.1",
        ] {
            assert!(changes(line), "{line}");
        }
        for line in ["GET /v1.41/containers/json HTTP/1.1", "POST /containers/ab/exec HTTP/1.1", "POST /exec/ab/start HTTP/1.1"] {
            assert!(!changes(line), "{line}");
        }
        assert_eq!(call("GET /v1.41/images/ds-test/busybox:1/json HTTP/1.1"), "GET images/*/json");
    }
}
