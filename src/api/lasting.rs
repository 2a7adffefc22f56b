//! What lasts: how much of it one caller may have, and answers that go on without their reader.

use super::places::{Full, Place, Places};
use super::status::ApiError;
use crate::access::{Identity, IdentityKind};
use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Commands, forwarded ports and logs of one caller at once. A terminal has bounds of its own.
const STREAMS: usize = 64;
/// Watches of one caller at once.
const WATCHES: usize = 256;
/// What waits for a reader: so many pieces, of so many bytes. One that is larger waits alone.
const ROOM: usize = 16;
const PIECE: usize = 4 << 10;
/// How long a reader may take until there is room for more, where others wait for it.
pub const UNREAD: Duration = Duration::from_secs(60);

/// What lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lasts {
    /// A command, ports or a log.
    Stream,
    /// A watch.
    Watch,
}

/// Who has what, by whom the caller is.
type Holder = (String, Lasts);

/// All that lasts on this API.
#[derive(Default)]
pub struct Lasting(Places<Holder>);

impl Lasting {
    /// A place for one more, to be held until it ends. The parts of this program have as many as they like.
    ///
    /// # Errors
    /// 429 where the caller has as many as one may have, whoever they are.
    pub fn place(&self, who: &Identity, what: Lasts) -> Result<Option<Place<Holder>>, ApiError> {
        if who.kind == IdentityKind::System {
            return Ok(None);
        }
        let (most, have, end) = match what {
            Lasts::Stream => (STREAMS, "commands, forwarded ports and logs", "end some"),
            Lasts::Watch => (WATCHES, "watches", "end some, or watch all projects at once"),
        };
        match self.0.take(&(who.holder(), what), most) {
            Ok(place) => Ok(Some(place)),
            Err(Full::OfOne | Full::OfAll) => Err(ApiError::too_many(format!(
                "you have {most} {have} open, and no more may be at once, whatever keys they were opened with: {end}, and try again"
            ))),
        }
    }
}

/// An answer that a task of its own tells, so that it ends when it has to whether its reader asks for more or not: when `ends` says
/// so, with these last words; with its reader; and, where there is `patience`, when for so long there was no room for the next piece.
/// `place` is held for as long as the answer is there.
pub fn told<E, P>(
    lines: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ends: impl Future<Output = Option<Bytes>> + Send + 'static,
    patience: Option<Duration>,
    place: P,
) -> Body
where
    E: std::error::Error + Send + Sync + 'static,
    P: Send + Sync + 'static,
{
    let (say, said) = mpsc::channel(ROOM);
    tokio::spawn(tell(lines, ends, patience, say));
    Body::from_stream(ReceiverStream::new(said).inspect(move |_| {
        let _held = &place;
    }))
}

async fn tell<E>(
    lines: impl Stream<Item = Result<Bytes, E>>,
    ends: impl Future<Output = Option<Bytes>>,
    patience: Option<Duration>,
    say: Sender<Result<Bytes, E>>,
) {
    let telling = async {
        let mut lines = pin!(lines);
        while let Some(line) = lines.next().await {
            let pieces = line.as_ref().map_or(1, |line| (line.len() / PIECE).clamp(1, ROOM));
            let room = say.reserve_many(pieces);
            let room = match patience {
                Some(patience) => timeout(patience, room).await.ok(),
                None => Some(room.await),
            };
            let Some(Ok(mut room)) = room else { return };
            if let Some(place) = room.next() {
                place.send(line);
            }
        }
    };
    let last_words = tokio::select! {
        biased;
        words = ends => words,
        () = telling => None,
        () = say.closed() => None,
    };
    if let Some(words) = last_words {
        let _ = timeout(UNREAD, say.send(Ok(words))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    /// An answer without end, of pieces of this size; how many were taken of them; and a token that is cancelled with it.
    fn endless(
        size: usize,
        ends: impl Future<Output = Option<Bytes>> + Send + 'static,
        patience: Option<Duration>,
    ) -> (Body, Arc<AtomicUsize>, CancellationToken) {
        let (taken, ended) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (count, held) = (taken.clone(), ended.clone().drop_guard());
        let pieces = stream::repeat(Bytes::from(vec![b'x'; size])).map(move |piece| {
            count.fetch_add(1, Ordering::SeqCst);
            (Ok::<_, Infallible>(piece), &held).0
        });
        (told(pieces, ends, patience, ()), taken, ended)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_and_takes_little_room_until_then() {
        for (size, most) in [(10, ROOM + 1), (PIECE * 4, 14), (1 << 20, 2)] {
            let (body, taken, ended) = endless(size, std::future::pending(), Some(UNREAD));
            sleep(UNREAD / 2).await;
            assert!(!ended.is_cancelled());
            let taken = taken.load(Ordering::SeqCst);
            assert!(taken <= most && taken > 1, "{taken} of {size} bytes");
            sleep(UNREAD).await;
            assert!(ended.is_cancelled(), "nobody reads it, and it goes on");
            let rest = body.into_data_stream().count().await;
            assert_eq!(rest, taken - 1, "who reads on is told what waits, and then its end");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_reader_is_slow_goes_on_and_one_without_patience_waits() {
        let (body, _, ended) = endless(1 << 20, std::future::pending(), Some(UNREAD));
        let mut pieces = body.into_data_stream();
        for _ in 0..10 {
            sleep(UNREAD / 2).await;
            assert!(pieces.next().await.is_some());
        }
        assert!(!ended.is_cancelled());
        drop(pieces);
        ended.cancelled().await;
        let (_body, _, ended) = endless(10, std::future::pending(), None);
        sleep(UNREAD * 100).await;
        assert!(!ended.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_with_its_right_and_says_so_though_nobody_reads_it() {
        let (lose, lost) = oneshot::channel::<()>();
        let ends = async move { lost.await.ok().map(|()| Bytes::from_static(b"list again")) };
        let (body, taken, ended) = endless(10, ends, Some(UNREAD));
        sleep(UNREAD / 2).await;
        lose.send(()).unwrap();
        sleep(Duration::from_millis(1)).await;
        assert!(ended.is_cancelled(), "it is told no further");
        let all: Vec<_> = body.into_data_stream().map(Result::unwrap).collect().await;
        assert_eq!(all.len(), taken.load(Ordering::SeqCst), "what had no room is left out");
        assert_eq!(all.last().unwrap(), "list again", "and its reader learns it once they read");
    }
}
