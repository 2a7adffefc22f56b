//! The log of one service of a workspace, which its supervisor keeps inside the container.

use super::failed;
use crate::api::streams::{LogRequest, StreamError};
use crate::engine::{ContainerId, Engine, ExecChunk};
use crate::image::SERVICE_LOGS;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

/// Says which services have logs where the one asked for has none.
const FIND: &str = r#"[ -e "$1/$2/current" ] && exit
echo "there is no log of a service '$2'; there are: $(ls "$1" 2>/dev/null | tr '\n' ' ')" >&2
exit 1"#;
/// Prints a log; one that is followed until nobody listens any more, which is when the input ends.
const PRINT: &str = r#"log=$1/$2/current
[ "$4" = follow ] || exec tail -n "$3" "$log"
tail -n "$3" -F "$log" 2>/dev/null &
cat >/dev/null
kill $!"#;

/// Reads it.
///
/// # Errors
/// When there is none, naming those there are, and what the engine says.
pub async fn service_log(
    engine: &dyn Engine,
    id: &ContainerId,
    service: &str,
    request: &LogRequest,
) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
    let find = ["/bin/sh", "-c", FIND, "log", SERVICE_LOGS, service].map(str::to_owned);
    let found = engine.exec_output(id, &find, 4096).await.map_err(|e| failed(&e))?;
    if found.code != 0 {
        return Err(StreamError::NotFound(String::from_utf8_lossy(&found.stderr).trim().to_owned()));
    }
    let lines = request.tail_lines.map_or_else(|| "+1".to_owned(), |n| n.to_string());
    let how = if request.follow { "follow" } else { "once" };
    let argv = ["/bin/sh", "-c", PRINT, "log", SERVICE_LOGS, service, &lines, how].map(str::to_owned).to_vec();
    let ask = crate::engine::ExecRequest { argv, stdin: request.follow, ..Default::default() };
    let session = engine.exec(id, &ask).await.map_err(|e| failed(&e))?;
    // Held for as long as somebody reads.
    let input = session.input;
    let all = session.output.map(move |chunk| {
        let _ = &input;
        match chunk {
            Ok(ExecChunk::Stdout(bytes) | ExecChunk::Stderr(bytes)) => Ok(bytes),
            Err(e) => Err(failed(&e)),
        }
    });
    Ok(all.boxed())
}
