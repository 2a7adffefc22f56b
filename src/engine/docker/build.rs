//! Building images.

use super::{DockerEngine, Engine, EngineError, ImageBuild, Labels, PROGRESS, Said, harden, query};
use crate::image::{File, Word};
use bytes::Bytes;
use futures::StreamExt;
use std::time::Duration;

/// A builder may be silent while a compiler works.
const SILENCE: Duration = Duration::from_secs(1800);
/// What is kept of a line nobody ends.
const LONGEST_LINE: usize = 4096;

impl DockerEngine {
    pub(super) async fn build_image(&self, build: &ImageBuild, said: &Said<'_>) -> Result<(), EngineError> {
        harden::check_reference(&build.tag)?;
        let files: Vec<File> = build.files.iter().map(|file| labelled(file, &build.labels)).collect();
        let context = pack(&files).map_err(|e| EngineError::Invalid(format!("the build context cannot be packed: {e}")))?;
        let mut options = query::BuildImageOptionsBuilder::new().t(&build.tag).rm(true).forcerm(true);
        if let Some(network) = &build.network {
            options = options.networkmode(network);
        }
        let mut lines = Lines::default();
        let logins = build.login.as_ref().map(super::image::credentials_by_host);
        let mut told = Box::pin(self.docker.build_image(options.build(), logins, Some(bollard::body_full(context))));
        let mut patience = PROGRESS;
        let ended = loop {
            match self.within(patience, async { told.next().await.transpose() }).await {
                Ok(Some(more)) => lines.push(more.stream.as_deref().unwrap_or_default(), said),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            patience = SILENCE;
        };
        lines.end(said);
        ended?;
        // An answer that ended says nothing of what was built.
        match self.image(&build.tag).await? {
            Some(_) => Ok(()),
            None => Err(EngineError::Failed(format!("the builder ended without making {}", build.tag))),
        }
    }
}

/// A Dockerfile with the labels as its second step, which later builds find done; the engine itself would set them in a step of
/// its own at the end of each build, which takes as long as any.
fn labelled(file: &File, labels: &Labels) -> File {
    let Some((from, rest)) = file.content.split_once('\n').filter(|_| file.path == "Dockerfile" && !labels.is_empty()) else {
        return file.clone();
    };
    let all: String = labels.iter().map(|(key, value)| format!(" {}={}", Word::text(key), Word::text(value))).collect();
    File { content: format!("{from}\nLABEL{all}\n{rest}"), ..file.clone() }
}

/// A build context. The same files are the same bytes, so that the builder finds what it built before.
fn pack(files: &[File]) -> std::io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        header.set_mtime(0);
        archive.append_data(&mut header, &file.path, file.content.as_bytes())?;
    }
    archive.into_inner().map(Bytes::from)
}

/// Makes lines of what a builder says, without what would move a terminal's cursor.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn push(&mut self, text: &str, said: &Said<'_>) {
        for c in text.chars() {
            if c == '\n' || self.0.len() >= LONGEST_LINE {
                self.end(said);
            }
            if c != '\n' {
                self.0.push(c);
            }
        }
    }

    fn end(&mut self, said: &Said<'_>) {
        let line = plain(&std::mem::take(&mut self.0));
        if !line.trim().is_empty() {
            said(&line);
        }
    }
}

/// A line without control sequences. Of one that was written over (`\r`), what stood there last.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let (mut out, mut rest) = (String::new(), line.rsplit('\r').next().unwrap_or_default().chars());
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                if rest.next() == Some('[') {
                    rest.find(|c| ('@'..='~').contains(c));
                }
            }
            c if c.is_control() && c != '\t' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let file = |path: &str, executable| File { path: path.into(), content: "x".into(), executable };
        let files = [file("Dockerfile", false), file("services.d/web/run", true)];
        assert_eq!(pack(&files).unwrap(), pack(&files).unwrap());
        let packed = pack(&files).unwrap();
        let mut archive = tar::Archive::new(packed.as_ref());
        let found: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().header().mode().unwrap()).collect();
        assert_eq!(found, [0o644, 0o755]);
    }

    #[test]
    fn labels_are_a_dockerfile_s_second_step() {
        let file = |path: &str| File { path: path.into(), content: "FROM a\nRUN b\n".into(), executable: false };
        let labels = Labels::from([("k".to_owned(), "a\" b=\"c\nRUN x".to_owned())]);
        let content = labelled(&file("Dockerfile"), &labels).content;
        assert_eq!(content, "FROM a\nLABEL \"k\"=\"a\\\" b=\\\"c RUN x\"\nRUN b\n");
        assert_eq!(labelled(&file("other"), &labels), file("other"));
        assert_eq!(labelled(&file("Dockerfile"), &Labels::new()), file("Dockerfile"));
    }

    #[test]
    fn lines_are_whole_and_plain() {
        let (said, mut lines) = (Mutex::new(Vec::new()), Lines::default());
        let say = |line: &str| said.lock().unwrap().push(line.to_owned());
        for text in ["Step 1/2 : ", "FROM x\n", "\n", "\u{1b}[91mred\u{1b}[0m\u{7}\n10 %\r20 %\r\nlast"] {
            lines.push(text, &say);
        }
        lines.end(&say);
        lines.push(&"y".repeat(LONGEST_LINE + 1), &say);
        lines.end(&say);
        let said = said.into_inner().unwrap();
        assert_eq!(said[..4], ["Step 1/2 : FROM x", "red", "20 %", "last"]);
        assert_eq!(said[4..].iter().map(String::len).collect::<Vec<_>>(), [LONGEST_LINE, 1]);
    }
}
