//! Terminals that outlive the connections they are seen through.
//!
//! What a terminal shows is counted from its first byte. The last part is kept, so that a viewer whose connection broke goes
//! on where it was. Nobody's connection is needed for it to go on, and so it ends by itself when who opened it may no longer have it.

use super::exec::frame;
use super::streams::{ExecInput, ExecOutput, ExecSession, StreamTarget};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What is kept of what a terminal has shown, in bytes.
const KEPT: usize = 256 << 10;
/// What is sent at once, in bytes.
const PIECE: usize = 32 << 10;
/// How long a terminal nobody looks at goes on.
const UNSEEN: Duration = Duration::from_secs(600);
/// How long it is told how one ended.
const ENDED: Duration = Duration::from_secs(60);
/// Terminals at once, and of one caller; those that have ended are counted for as long as it is told how.
const MOST: usize = 1024;
const OF_ONE: usize = 32;

/// Whose terminal, where, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Who opened it. Nobody else sees it.
    pub who: String,
    /// Workspace, and container in it.
    pub target: StreamTarget,
    /// Chosen by who opened it.
    pub session: String,
}

/// All terminals of this process.
#[derive(Default)]
pub struct Terminals {
    all: Mutex<BTreeMap<Key, Arc<Terminal>>>,
    /// Those that are being opened, by who opens them.
    opening: Mutex<BTreeMap<String, usize>>,
}

/// A place for a terminal that is being opened.
pub struct Place {
    terminals: Arc<Terminals>,
    who: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut opening = self.terminals.opening();
        if let Some(more) = opening.get_mut(&self.who) {
            *more -= 1;
            if *more == 0 {
                opening.remove(&self.who);
            }
        }
    }
}

impl Terminals {
    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Arc<Terminal>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that is there.
    pub fn get(&self, key: &Key) -> Option<Arc<Terminal>> {
        self.all().get(key).cloned()
    }

    /// A place for another one of this caller's, to be held until it is kept.
    ///
    /// # Errors
    /// In words for the caller, where there is none.
    pub fn place(self: &Arc<Self>, who: &str) -> Result<Place, String> {
        let mut opening = self.opening();
        let all = self.all();
        let theirs = all.keys().filter(|key| key.who == who).count() + opening.get(who).copied().unwrap_or_default();
        if theirs >= OF_ONE {
            let seconds = ENDED.as_secs();
            return Err(format!(
                "you have {OF_ONE} terminals, and no more may be open at once: close some, and wait {seconds} seconds"
            ));
        }
        if all.len() + opening.values().sum::<usize>() >= MOST {
            return Err("too many terminals are open; close some".into());
        }
        *opening.entry(who.to_owned()).or_default() += 1;
        Ok(Place { terminals: self.clone(), who: who.to_owned() })
    }

    /// Keeps a new one until it has ended, nobody has looked at it for long, or it is `over`: who opened it may no longer have it.
    /// Where two begin one at once, the first is it.
    pub fn keep(
        self: &Arc<Self>,
        key: Key,
        session: ExecSession,
        over: impl Future<Output = ()> + Send + 'static,
        stop: CancellationToken,
    ) -> Arc<Terminal> {
        let ExecSession { input, output } = session;
        let terminal = Arc::new(Terminal { input, shown: watch::Sender::default() });
        let kept = self.all().entry(key.clone()).or_insert_with(|| terminal.clone()).clone();
        if !Arc::ptr_eq(&kept, &terminal) {
            return kept;
        }
        let all = self.clone();
        tokio::spawn(async move {
            // Dropping the output hangs up.
            tokio::select! {
                () = terminal.show(output) => {}
                () = terminal.unseen() => {}
                () = over => {}
                () = stop.cancelled() => {}
            }
            terminal.end(ExecOutput::Failed("the terminal was closed".into()));
            let _ = tokio::time::timeout(ENDED, stop.cancelled()).await;
            all.all().remove(&key);
        });
        kept
    }
}

/// What has been shown, and who has seen how much of it.
#[derive(Default)]
struct Shown {
    kept: VecDeque<u8>,
    /// Where `kept` begins.
    begin: u64,
    ended: Option<ExecOutput>,
    /// Who looks at it, and up to where that one has seen it. The last who came takes the place of those before: their
    /// connections may be broken without anybody having noticed.
    viewer: Option<(u64, u64)>,
    viewers_ever: u64,
}

impl Shown {
    fn end(&self) -> u64 {
        self.begin + self.kept.len() as u64
    }

    fn add(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let over = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..over);
        self.begin += over as u64;
    }

    /// Whether more may be shown without the viewer losing something.
    fn has_room(&self) -> bool {
        self.viewer.is_none_or(|(_, seen)| self.end().saturating_sub(seen) < (KEPT / 2) as u64)
    }

    fn is_seen_by(&self, id: u64) -> bool {
        self.viewer.is_some_and(|(viewer, _)| viewer == id)
    }

    /// The next piece from here on, and where it ends.
    fn piece(&self, from: u64) -> (u64, Bytes) {
        let skip = usize::try_from(from.saturating_sub(self.begin)).unwrap_or(usize::MAX).min(self.kept.len());
        let piece: Bytes = self.kept.iter().skip(skip).take(PIECE).copied().collect();
        (self.begin + (skip + piece.len()) as u64, piece)
    }
}

/// A terminal with a program on it.
pub struct Terminal {
    /// To the program.
    pub input: mpsc::Sender<ExecInput>,
    shown: watch::Sender<Shown>,
}

impl Terminal {
    /// Takes in what the program says to its end.
    async fn show(&self, mut output: impl Stream<Item = ExecOutput> + Unpin) {
        let mut room = self.shown.subscribe();
        while let Some(said) = output.next().await {
            match said {
                ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes) => {
                    // A viewer who is slow slows the program, as on a real terminal; one who is gone does not.
                    let _ = room.wait_for(Shown::has_room).await.map(drop);
                    self.shown.send_modify(|s| s.add(&bytes));
                }
                ended => return self.end(ended),
            }
        }
        self.end(ExecOutput::Failed("the connection to the terminal was lost".into()));
    }

    fn end(&self, how: ExecOutput) {
        self.shown.send_modify(|s| s.ended = s.ended.take().or(Some(how)));
    }

    /// Waits until nobody has looked for long.
    async fn unseen(&self) {
        let mut viewers = self.shown.subscribe();
        loop {
            let _ = viewers.wait_for(|s| s.viewer.is_none()).await.map(drop);
            if tokio::time::timeout(UNSEEN, viewers.wait_for(|s| s.viewer.is_some())).await.is_err() {
                return;
            }
        }
    }

    /// What it shows from here on, as messages of Kubernetes' channels. What is kept no longer is left out. And a wait until somebody
    /// else looks at it, or this one has seen its end.
    pub fn view(self: Arc<Self>, from: u64) -> (impl Stream<Item = Bytes>, BoxFuture<'static, ()>) {
        let mut id = 0;
        self.shown.send_modify(|s| {
            id = s.viewers_ever;
            s.viewers_ever += 1;
            s.viewer = Some((id, from.max(s.begin)));
        });
        let mut viewers = self.shown.subscribe();
        let taken_over = async move { viewers.wait_for(|s| !s.is_seen_by(id)).await.map_or((), drop) };
        let view = View { changes: self.shown.subscribe(), terminal: self, id, seen: from, done: false };
        (futures::stream::unfold(view, View::next), taken_over.boxed())
    }
}

/// Somebody who looks at a terminal.
struct View {
    terminal: Arc<Terminal>,
    changes: watch::Receiver<Shown>,
    id: u64,
    seen: u64,
    done: bool,
}

impl View {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.done {
            return None;
        }
        let seen = self.seen;
        let (end, piece, ended) = {
            let changed = |s: &Shown| s.end() > seen || s.ended.is_some() || !s.is_seen_by(self.id);
            let shown = self.changes.wait_for(changed).await.ok()?;
            if !shown.is_seen_by(self.id) {
                return None;
            }
            let (end, piece) = shown.piece(seen);
            (end, piece, shown.ended.clone())
        };
        if piece.is_empty() {
            self.done = true;
            return ended.map(|how| (frame(&how), self));
        }
        self.seen = end;
        self.terminal.shown.send_if_modified(|s| {
            let mine = s.is_seen_by(self.id);
            s.viewer = if mine { Some((self.id, end)) } else { s.viewer };
            mine
        });
        Some((frame(&ExecOutput::Stdout(piece)), self))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.terminal.shown.send_modify(|s| s.viewer = s.viewer.filter(|(viewer, _)| *viewer != self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_caller_has_few_terminals_and_takes_nobody_elses() {
        let (terminals, stop) = (Arc::new(Terminals::default()), CancellationToken::new());
        let mut inputs = Vec::new();
        let mut keep = |who: &str, n: usize| {
            let (input, typed) = mpsc::channel(1);
            inputs.push(typed);
            let target = StreamTarget { namespace: "team".into(), name: "web".into(), container: None };
            let key = Key { who: who.into(), target, session: n.to_string() };
            let session = ExecSession { input, output: futures::stream::pending().boxed() };
            terminals.keep(key, session, std::future::pending(), stop.clone());
        };
        for n in 0..OF_ONE - 2 {
            let place = terminals.place("ada").unwrap();
            keep("ada", n);
            drop(place);
        }
        // Two that are being opened are counted before they are there.
        let opening = [terminals.place("ada").unwrap(), terminals.place("ada").unwrap()];
        let told = terminals.place("ada").err().expect("no more of hers");
        assert!(told.contains("you have 32 terminals") && told.contains("close some"), "{told}");
        let other = terminals.place("bob").expect("others have their own");
        drop((opening, other));
        assert!(terminals.opening().is_empty() && terminals.place("ada").is_ok());
        for n in 0..MOST - (OF_ONE - 2) {
            keep(&format!("other-{}", n / OF_ONE), n);
        }
        assert!(terminals.place("ada").is_err(), "there is an end to all together, too");
        stop.cancel();
    }

    #[tokio::test]
    async fn who_comes_after_ends_the_view_before_whether_it_is_read_or_not() {
        let (input, _typed) = mpsc::channel(1);
        let terminal = Arc::new(Terminal { input, shown: watch::Sender::default() });
        let (_unread, mut taken_over) = terminal.clone().view(0);
        assert!((&mut taken_over).now_or_never().is_none());
        let (_second, second_taken_over) = terminal.clone().view(0);
        assert!(taken_over.now_or_never().is_some(), "nobody has asked the first one for anything");
        assert!(second_taken_over.now_or_never().is_none());
    }

    fn all(shown: &Shown, mut from: u64) -> (u64, Vec<u8>) {
        let mut seen = Vec::new();
        loop {
            let (end, piece) = shown.piece(from);
            if piece.is_empty() {
                return (end, seen);
            }
            seen.extend_from_slice(&piece);
            from = end;
        }
    }

    #[test]
    fn the_last_part_is_kept_and_counted_from_the_first_byte() {
        let mut shown = Shown::default();
        let text: Vec<u8> = (0..KEPT + 1000).map(|n| (n % 251) as u8).collect();
        for piece in text.chunks(7000) {
            shown.add(piece);
        }
        assert_eq!((shown.begin, shown.end()), (1000, text.len() as u64));
        assert_eq!(all(&shown, 0), (text.len() as u64, text[1000..].to_vec()));
        assert_eq!(all(&shown, 5000), (text.len() as u64, text[5000..].to_vec()));
        assert_eq!(all(&shown, u64::MAX).1, Vec::<u8>::new());
    }

    #[test]
    fn who_looks_and_is_slow_slows_it_and_who_is_gone_does_not() {
        let mut shown = Shown::default();
        shown.add(&[0; KEPT / 2]);
        assert!(shown.has_room());
        shown.viewer = Some((0, 0));
        assert!(!shown.has_room());
        shown.viewer = Some((0, 10));
        assert!(shown.has_room());
    }
}
