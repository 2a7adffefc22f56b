//! Images and files that go from one engine to another, as streams: nothing of them is kept here.

use super::wire::percent_encode;
use super::{BEGIN, CHANGE, DockerEngine, harden};
use crate::engine::{ByteStream, ContainerId, EngineError, Labels};
use bollard::errors::Error;
use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use http_body_util::{BodyExt, Limited};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A commit packs all that was written, and a save packs an image, before the first byte is told.
const PACKING: Duration = Duration::from_secs(1800);
/// Streams may be silent for as long as a busy disk needs to take what has come.
const SILENCE: Duration = Duration::from_secs(600);
/// What an engine says of an image it takes.
const MAX_SAID: usize = 1 << 20;

impl DockerEngine {
    pub(super) async fn commit_container(&self, id: &ContainerId, name: &str, labels: &Labels) -> Result<String, EngineError> {
        harden::check_reference(name)?;
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let path = format!(
            "/commit?container={}&repo={}&tag={}&pause=false",
            id.as_str(),
            percent_encode(repository),
            percent_encode(tag)
        );
        let config = serde_json::json!({ "Labels": labels });
        let commit = async {
            let answer = self.wire.ask(Method::POST, &path, Some(&config)).await?;
            let bytes = answer.into_body().collect().await?.to_bytes();
            Ok(serde_json::from_slice::<serde_json::Value>(&bytes)?)
        };
        let made = self.within(PACKING, commit).await?;
        let id = made.get("Id").and_then(serde_json::Value::as_str).map(str::to_owned);
        id.ok_or_else(|| EngineError::Failed("the engine made an image and does not say its id".into()))
    }

    pub(super) async fn save_image(&self, image: &str) -> Result<ByteStream, EngineError> {
        harden::check_reference(image)?;
        let answer = self.within(PACKING, self.wire.ask(Method::GET, &format!("/images/{image}/get"), None)).await?;
        Ok(unless_silent(self.body(answer)))
    }

    pub(super) async fn load_image(&self, archive: ByteStream) -> Result<(), EngineError> {
        let said = self.sent(archive, |archive| async move {
            let answer = self.wire.put(Method::POST, "/images/load?quiet=1", archive).await?;
            let said = Limited::new(answer.into_body(), MAX_SAID).collect().await.map_err(std::io::Error::other)?;
            Ok(said.to_bytes())
        });
        refused(&said.await?)
    }

    pub(super) async fn read_archive(&self, id: &ContainerId, path: &str) -> Result<ByteStream, EngineError> {
        let path = format!("/containers/{}/archive?path={}", id.as_str(), percent_encode(path));
        let answer = self.within(BEGIN, self.wire.ask(Method::GET, &path, None)).await?;
        Ok(unless_silent(self.body(answer)))
    }

    pub(super) async fn write_archive(&self, id: &ContainerId, folder: &str, archive: ByteStream) -> Result<(), EngineError> {
        let path = format!("/containers/{}/archive?path={}", id.as_str(), percent_encode(folder));
        self.sent(archive, |archive| async move { self.wire.put(Method::PUT, &path, archive).await.map(drop) }).await
    }

    /// Sends a stream, for as long as it moves; after its end the engine has work to do of which it says nothing. What went wrong with the stream itself is what went wrong, whatever the engine
    /// makes of its end.
    async fn sent<T, F>(&self, archive: ByteStream, send: impl FnOnce(ByteStream) -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let state = Arc::new(Mutex::new(Sending { moved: Instant::now(), patience: SILENCE, broken: None }));
        let seen = Arc::clone(&state);
        let ended = archive.map(Some).chain(futures::stream::iter([None]));
        let watched = ended.filter_map(move |chunk| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.moved = Instant::now();
            match &chunk {
                Some(Err(e)) => seen.broken = Some(e.clone()),
                Some(Ok(_)) => {}
                None => seen.patience = PACKING,
            }
            std::future::ready(chunk)
        });
        let look = || state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sending = std::pin::pin!(send(watched.boxed()));
        let done = loop {
            match tokio::time::timeout(CHANGE, &mut sending).await {
                Ok(done) => break done.map_err(|e| self.classify(e)),
                Err(_) if look().moved.elapsed() < look().patience => {}
                Err(_) => break Err(silent(look().patience)),
            }
        };
        match look().broken {
            Some(broken) if done.is_err() => Err(broken),
            _ => done,
        }
    }
}

/// How far a stream that is sent is.
#[derive(Clone)]
struct Sending {
    moved: Instant,
    /// How long nothing may move from then on.
    patience: Duration,
    broken: Option<EngineError>,
}

fn silent(so_long: Duration) -> EngineError {
    EngineError::Unreachable(
        format!("it has been silent for {} minutes in the middle of a transfer", so_long.as_secs() / 60).into(),
    )
}

fn unless_silent(stream: ByteStream) -> ByteStream {
    let next = |mut stream: ByteStream| async move {
        match tokio::time::timeout(SILENCE, stream.next()).await {
            Ok(chunk) => chunk.map(|chunk| (chunk, stream)),
            Err(_) => Some((Err(silent(SILENCE)), futures::stream::empty().boxed())),
        }
    };
    futures::stream::unfold(stream, next).boxed()
}

/// An engine that cannot take an image says so within an answer that is fine.
fn refused(said: &Bytes) -> Result<(), EngineError> {
    let lines = said.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let words = lines.filter_map(|line| line.get("error").and_then(|e| e.as_str()).map(str::to_owned)).next();
    words.map_or(Ok(()), |words| Err(EngineError::Failed(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_within_a_good_answer_is_one() {
        let said = |text: &'static str| refused(&Bytes::from_static(text.as_bytes()));
        assert_eq!(said("{\"stream\":\"Loaded image: a:1\\n\"}\r\n"), Ok(()));
        let broken = said("{\"stream\":\"x\"}\r\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n");
        assert_eq!(broken, Err(EngineError::Failed("no space".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_falls_silent_ends_with_an_error() {
        let chunks = futures::stream::iter([Ok(Bytes::from_static(b"a"))]).chain(futures::stream::pending()).boxed();
        let all: Vec<_> = unless_silent(chunks).collect().await;
        assert_eq!((all.len(), all[0].is_ok()), (2, true));
        assert!(matches!(&all[1], Err(EngineError::Unreachable(words)) if words.contains("10 minutes")));
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_end_an_engine_may_be_silent_for_as_long_as_it_packs() {
        let engine = crate::engine::fake::FakeEngine::new(1).engine("i").unwrap();
        let sends = async |archive: ByteStream, minutes: u64| {
            let send = |archive: ByteStream| async move {
                archive.for_each(|_| std::future::ready(())).await;
                tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
                Ok(())
            };
            engine.sent(archive, send).await
        };
        let whole = || futures::stream::iter([Ok(Bytes::from_static(b"a"))]).boxed();
        assert_eq!(sends(whole(), 25).await, Ok(()));
        let silent = |minutes: &str, done: Result<(), EngineError>| match done {
            Err(EngineError::Unreachable(told)) => assert!(told.to_string().contains(minutes), "{told}"),
            other => panic!("{other:?}"),
        };
        silent("30 minutes", sends(whole(), 60).await);
        silent("10 minutes", sends(whole().chain(futures::stream::pending()).boxed(), 0).await);
    }
}
