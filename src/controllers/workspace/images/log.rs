//! What builders say, kept for whoever asks why a build failed or what takes so long.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Builds remembered, the newest.
const BUILDS: usize = 32;
/// Lines kept of one; the first ones go.
const LINES: usize = 5000;

/// The last builds of this process.
#[derive(Default)]
pub struct BuildLogs(Mutex<VecDeque<Build>>);

struct Build {
    server: String,
    image: String,
    log: Arc<BuildLog>,
}

impl BuildLogs {
    /// A build begins; what is known of an earlier one of the image is forgotten.
    pub(super) fn begin(&self, server: &str, image: &str) -> Arc<BuildLog> {
        let (log, mut all) = (Arc::new(BuildLog::default()), self.lock());
        all.retain(|b| (b.server.as_str(), b.image.as_str()) != (server, image));
        all.truncate(BUILDS - 1);
        all.push_front(Build { server: server.to_owned(), image: image.to_owned(), log: log.clone() });
        log
    }

    /// What was said of the last build of an image on a server, if it is known.
    pub fn of(&self, server: &str, image: &str) -> Option<Arc<BuildLog>> {
        self.lock().iter().find(|b| (b.server.as_str(), b.image.as_str()) == (server, image)).map(|b| b.log.clone())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Build>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one builder says.
pub struct BuildLog {
    said: Mutex<Said>,
    /// It has said more, or has ended.
    more: watch::Sender<()>,
}

#[derive(Default)]
struct Said {
    lines: VecDeque<String>,
    /// Lines that are no longer kept.
    gone: usize,
    ended: bool,
}

impl Default for BuildLog {
    fn default() -> Self {
        Self { said: Mutex::default(), more: watch::Sender::new(()) }
    }
}

impl BuildLog {
    pub(super) fn say(&self, line: &str) {
        {
            let mut said = self.lock();
            if said.lines.len() == LINES {
                said.lines.pop_front();
                said.gone += 1;
            }
            said.lines.push_back(line.to_owned());
        }
        self.more.send_replace(());
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.more.send_replace(());
    }

    /// Its last lines, oldest first.
    pub(super) fn last(&self, lines: usize) -> Vec<String> {
        let said = self.lock();
        said.lines.iter().skip(said.lines.len().saturating_sub(lines)).cloned().collect()
    }

    /// What was said, from the last `tail` lines on, and with `follow` what is said until the build ends.
    pub fn read(self: Arc<Self>, tail: Option<usize>, follow: bool) -> BoxStream<'static, Bytes> {
        let first = {
            let said = self.lock();
            said.gone + said.lines.len().saturating_sub(tail.unwrap_or(usize::MAX))
        };
        self.from(first, follow).boxed()
    }

    fn from(self: Arc<Self>, first: usize, follow: bool) -> impl Stream<Item = Bytes> {
        let changes = self.more.subscribe();
        stream::unfold((self, changes, first), move |(log, mut changes, at)| async move {
            loop {
                // Before looking, so that nothing said after it goes unseen.
                changes.mark_unchanged();
                let (text, next, ended) = log.since(at);
                if !text.is_empty() {
                    return Some((Bytes::from(text), (log, changes, next)));
                }
                if ended || !follow || changes.changed().await.is_err() {
                    return None;
                }
            }
        })
    }

    /// All lines from this one on, the number of the next, and whether it has ended.
    fn since(&self, at: usize) -> (String, usize, bool) {
        let said = self.lock();
        let text = said.lines.iter().skip(at.saturating_sub(said.gone)).map(|line| format!("{line}\n")).collect();
        (text, said.gone + said.lines.len(), said.ended)
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(log: &Arc<BuildLog>, tail: Option<usize>, follow: bool) -> String {
        let all: Vec<Bytes> = log.clone().read(tail, follow).collect().await;
        String::from_utf8(all.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_log_is_read_from_where_one_asks_and_followed_to_its_end() {
        let logs = BuildLogs::default();
        let log = logs.begin("s", "i");
        log.say("one");
        log.say("two");
        assert_eq!(text(&log, None, false).await, "one\ntwo\n");
        assert_eq!(text(&log, Some(1), false).await, "two\n");
        let followed = tokio::spawn({
            let log = log.clone();
            async move { text(&log, Some(1), true).await }
        });
        tokio::task::yield_now().await;
        log.say("three");
        tokio::task::yield_now().await;
        log.end();
        assert_eq!(followed.await.unwrap(), "two\nthree\n");
        assert_eq!(log.last(2), ["two", "three"]);
        assert!(logs.of("s", "i").is_some() && logs.of("t", "i").is_none());
    }

    #[tokio::test]
    async fn of_many_builds_and_lines_the_last_are_kept() {
        let logs = BuildLogs::default();
        for i in 0..=BUILDS {
            logs.begin("s", &format!("i{i}"));
        }
        assert!(logs.of("s", "i0").is_none() && logs.of("s", "i1").is_some());
        let log = logs.begin("s", "i1");
        (0..=LINES).for_each(|i| log.say(&i.to_string()));
        let read = text(&log, None, false).await;
        assert!(read.starts_with("1\n") && read.ends_with(&format!("{LINES}\n")));
        assert_eq!(text(&log, Some(1), false).await, format!("{LINES}\n"));
    }
}
