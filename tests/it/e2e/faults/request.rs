//! Requests to an engine, as they stand on a connection.

/// A whole request, or the head of one whose body comes in chunks, or bytes that are neither: a piece of such a body, or of a connection
/// that was taken over by a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Method and path without version and without what is particular, such as `POST containers/*/start`.
    pub call: Option<String>,
    pub bytes: Vec<u8>,
    /// More of its body follows.
    pub more: bool,
}

impl Request {
    /// Whether it changes something on the engine. Commands run in containers do not.
    pub fn changes(&self) -> bool {
        let Some(call) = &self.call else { return false };
        let exec = call.contains("exec");
        !exec && ["POST ", "PUT ", "DELETE "].iter().any(|method| call.starts_with(method))
    }
}

/// Cuts what a client sends on one connection into requests. A body in chunks may be of gigabytes, and is not kept.
#[derive(Default)]
pub struct Requests {
    buffer: Vec<u8>,
    stream: bool,
    body: Option<Chunks>,
}

impl Requests {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole request, or piece of one.
    pub fn next(&mut self) -> Option<Request> {
        if self.stream {
            let bytes = std::mem::take(&mut self.buffer);
            return (!bytes.is_empty()).then_some(Request { call: None, bytes, more: false });
        }
        if let Some(body) = &mut self.body {
            let (size, ended) = body.take(&self.buffer);
            self.body.take_if(|_| ended);
            return (size > 0).then(|| Request { call: None, bytes: self.buffer.drain(..size).collect(), more: !ended });
        }
        let head = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.buffer[..head]).into_owned();
        let field = |name: &str| {
            let fields = text.lines().filter_map(|l| l.split_once(':'));
            fields.filter(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_ascii_lowercase()).next()
        };
        let more = field("transfer-encoding").is_some();
        let end = head + field("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        if self.buffer.len() < end {
            return None;
        }
        self.stream = field("upgrade").is_some();
        self.body = more.then(Chunks::default);
        let bytes = self.buffer.drain(..end).collect();
        Some(Request { call: Some(call(text.lines().next().unwrap_or_default())), bytes, more })
    }
}

/// Where a body in chunks is.
#[derive(Default)]
struct Chunks {
    /// Bytes of this chunk still to come, with its size and the ends of both lines.
    left: usize,
}

impl Chunks {
    /// How many of these bytes belong to it, as far as that can be told yet, and whether it ends with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        loop {
            let now = self.left.min(bytes.len() - at);
            (at, self.left) = (at + now, self.left - now);
            let line = bytes[at..].windows(2).position(|w| w == b"\r\n").filter(|_| self.left == 0);
            let Some(line) = line else { return (at, false) };
            let size = std::str::from_utf8(&bytes[at..at + line]).unwrap().trim();
            match usize::from_str_radix(size, 16).unwrap() {
                0 if bytes.len() < at + line + 4 => return (at, false),
                0 => return (at + line + 4, true),
                size => self.left = line + 2 + size + 2,
            }
        }
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
        assert_eq!(found[1], Request { call: None, bytes: b"GET / HTTP/1.1\r\n\r\n".to_vec(), more: false });
    }

    #[test]
    fn a_body_in_chunks_comes_piece_by_piece_whatever_is_in_it() {
        let text = b"PUT /containers/a/archive HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n0\r\n\r\n..\r\nb\r\n\r\n0\r\n\r\nabcd\r\n\
            0\r\n\r\nGET /_ping HTTP/1.1\r\n\r\n";
        for cut in 0..text.len() {
            let found = all(&[&text[..cut], &text[cut..]]);
            let calls: Vec<_> = found.iter().filter_map(|r| r.call.as_deref()).collect();
            assert_eq!(calls, ["PUT containers/*/archive", "GET _ping"], "cut at {cut}");
            assert_eq!(found.iter().filter(|r| !r.more).count(), 2, "the end of the body, and what follows; cut at {cut}");
            assert_eq!(found.iter().flat_map(|r| r.bytes.iter().copied()).collect::<Vec<u8>>(), text, "cut at {cut}");
        }
    }

    #[test]
    fn only_what_changes_something_counts_as_a_change() {
        let changes = |line: &str| Request { call: Some(call(line)), bytes: vec![], more: false }.changes();
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
