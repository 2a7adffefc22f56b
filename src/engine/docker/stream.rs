//! Byte streams of an engine: JSON lines, and the frames that carry standard output and error on one connection.

use crate::engine::{EngineError, ExecChunk};
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use std::collections::VecDeque;

/// One event is well below; a longer line means that this is not Docker.
const MAX_LINE: usize = 4 << 20;

type Chunks = BoxStream<'static, Result<Bytes, EngineError>>;

/// Cuts a stream into lines, without their ends. A last line without an end is dropped: it was cut off.
pub(super) fn lines(chunks: Chunks) -> impl Stream<Item = Result<Bytes, EngineError>> + Send {
    stream::unfold(Some((chunks, BytesMut::new())), |state| async move {
        let (mut chunks, mut buffer) = state?;
        loop {
            if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let line = buffer.split_to(end + 1).freeze().slice(..end);
                return Some((Ok(line), Some((chunks, buffer))));
            }
            if buffer.len() > MAX_LINE {
                return Some((Err(EngineError::Failed("the engine sent an endless line".into())), None));
            }
            match chunks.next().await? {
                Ok(more) => buffer.extend_from_slice(&more),
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
}

/// Where a [`Demultiplexer`] is.
enum At {
    Header,
    Payload { stderr: bool, left: usize },
}

/// Takes Docker's frames apart: 8 bytes of header (stream, three zeros, length), then the payload. Payloads are
/// passed on as they come in, so a frame's length is never a size to allocate.
pub(super) struct Demultiplexer {
    at: At,
    buffer: BytesMut,
}

impl Demultiplexer {
    pub(super) fn new() -> Self {
        Self { at: At::Header, buffer: BytesMut::new() }
    }

    /// Takes bytes in and gives the pieces that are complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<VecDeque<ExecChunk>, EngineError> {
        self.buffer.extend_from_slice(bytes);
        let mut done = VecDeque::new();
        loop {
            match self.at {
                At::Header => {
                    let Some(header) = self.buffer.first_chunk::<8>() else { return Ok(done) };
                    let [stream, 0, 0, 0, a, b, c, d] = *header else {
                        return Err(garbled());
                    };
                    if stream > 2 {
                        return Err(garbled());
                    }
                    self.buffer.advance(8);
                    self.at = At::Payload { stderr: stream == 2, left: u32::from_be_bytes([a, b, c, d]) as usize };
                }
                At::Payload { left: 0, .. } => self.at = At::Header,
                At::Payload { .. } if self.buffer.is_empty() => return Ok(done),
                At::Payload { stderr, left } => {
                    let piece = self.buffer.split_to(left.min(self.buffer.len())).freeze();
                    self.at = At::Payload { stderr, left: left - piece.len() };
                    done.push_back(if stderr { ExecChunk::Stderr(piece) } else { ExecChunk::Stdout(piece) });
                }
            }
        }
    }
}

fn garbled() -> EngineError {
    EngineError::Failed("the engine's output stream is garbled".into())
}

/// Output of a command or a log. With a terminal the bytes come as they are; without one, in frames.
pub(super) fn output(chunks: Chunks, tty: bool) -> BoxStream<'static, Result<ExecChunk, EngineError>> {
    if tty {
        return chunks.map(|chunk| chunk.map(ExecChunk::Stdout)).boxed();
    }
    let start = Some((chunks, Demultiplexer::new(), VecDeque::new()));
    let next = |state: Option<(Chunks, Demultiplexer, VecDeque<ExecChunk>)>| async move {
        let (mut chunks, mut frames, mut ready) = state?;
        loop {
            if let Some(piece) = ready.pop_front() {
                return Some((Ok(piece), Some((chunks, frames, ready))));
            }
            match chunks.next().await?.and_then(|bytes| frames.push(&bytes)) {
                Ok(more) => ready = more,
                Err(error) => return Some((Err(error), None)),
            }
        }
    };
    stream::unfold(start, next).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut all = vec![stream, 0, 0, 0];
        all.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        all.extend(text.bytes());
        all
    }

    #[test]
    fn frames_cut_anywhere_give_the_same_bytes() {
        let mut wire = frame(1, "hello");
        wire.extend(frame(1, ""));
        wire.extend(frame(2, "oops"));
        for cut in 0..wire.len() {
            let mut frames = Demultiplexer::new();
            let mut all = frames.push(&wire[..cut]).unwrap();
            all.extend(frames.push(&wire[cut..]).unwrap());
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for piece in all {
                match piece {
                    ExecChunk::Stdout(b) => out.extend(b),
                    ExecChunk::Stderr(b) => err.extend(b),
                }
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello"[..], &b"oops"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn a_garbled_header_is_an_error_and_not_a_panic() {
        assert!(Demultiplexer::new().push(b"not a frame at all").is_err());
        assert!(Demultiplexer::new().push(&[3, 0, 0, 0, 0, 0, 0, 1, 65]).is_err());
    }

    #[tokio::test]
    async fn a_terminal_s_control_bytes_pass_as_they_are() {
        let chunks = stream::iter([Ok(Bytes::from_static(b"\x01\x00\x00\x00\xff\xff\xff\xffx"))]).boxed();
        let all: Vec<_> = output(chunks, true).collect().await;
        assert_eq!(all, [Ok(ExecChunk::Stdout(Bytes::from_static(b"\x01\x00\x00\x00\xff\xff\xff\xffx")))]);
    }

    #[tokio::test]
    async fn lines_are_put_together_over_chunks() {
        let chunks = stream::iter([Ok(Bytes::from_static(b"a\nb")), Ok(Bytes::from_static(b"c\nrest"))]).boxed();
        let all: Vec<_> = lines(chunks).collect().await;
        assert_eq!(all, [Ok(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"bc"))]);
    }
}
