//! Changes of records that the process hears of late, or never: its view of the records as it may be on a bad day.

use super::director::Director;
use super::plan::How;
use axum::body::{Body, Bytes};
use futures::StreamExt;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A change that is not seen is told after this long, if no other one of its record follows.
const UNSEEN: Duration = Duration::from_secs(30);

/// A watch's answer, held back where the plan says.
pub fn told(director: Arc<Director>, kind: String, body: Body) -> Body {
    let lines = Lines { body: body.into_data_stream().boxed(), read: Vec::new(), whole: VecDeque::new() };
    let state = Held { director, kind, lines, hidden: None };
    Body::from_stream(futures::stream::unfold(state, |mut state| async move {
        let line = state.next().await?;
        Some((Ok::<_, io::Error>(line), state))
    }))
}

struct Lines {
    body: futures::stream::BoxStream<'static, Result<Bytes, axum::Error>>,
    read: Vec<u8>,
    whole: VecDeque<Vec<u8>>,
}

impl Lines {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = self.whole.pop_front() {
                return Some(line);
            }
            self.read.extend(self.body.next().await?.ok()?);
            while let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                self.whole.push_back(self.read.drain(..=end).collect());
            }
        }
    }
}

struct Held {
    director: Arc<Director>,
    kind: String,
    lines: Lines,
    /// A change that is not told, whose it is, and until when.
    hidden: Option<(Vec<u8>, String, Instant)>,
}

impl Held {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let line = match &self.hidden {
                None => self.lines.next().await?,
                // The watch that follows begins after it: a bookmark may have been told meanwhile.
                Some((_, _, until)) => match timeout_at(*until, self.lines.next()).await {
                    Ok(Some(line)) => line,
                    Ok(None) | Err(_) => return self.hidden.take().map(|(line, ..)| line),
                },
            };
            let event: Value = serde_json::from_slice(&line).unwrap();
            if event["type"] == "BOOKMARK" {
                return Some(line);
            }
            let uid = event["object"]["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if self.hidden.as_ref().is_some_and(|(_, of, _)| *of == uid) {
                self.hidden = None;
            }
            match self.director.told(&self.kind, &event) {
                Some(How::Late(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                Some(How::Unseen) => {
                    self.hidden = Some((line, uid, Instant::now() + UNSEEN));
                    continue;
                }
                None => {}
            }
            return Some(line);
        }
    }
}
