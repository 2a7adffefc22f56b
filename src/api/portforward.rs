//! The `portforward` subresource: connections to ports in a workspace over one WebSocket, as Kubernetes carries them.
//!
//! Port number *n* of the request has channel 2*n* for its data and 2*n* + 1 for words on what went wrong. The first message
//! of each says which port it is, as two bytes, the lower one first.

use super::ApiState;
use super::audited::opens;
use super::channels::{carry, framed, upgrade};
use super::logs::{must_exist, stream_target};
use super::request::{Params, Target};
use super::status::ApiError;
use super::streams::{ExecInput, ExecOutput};
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http::request::Parts;
use tokio_stream::StreamMap;

const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
/// Ports in one request.
const MOST: usize = 16;

/// Connects and answers with the upgrade. What goes wrong before is answered as a `Status`.
///
/// # Errors
/// 400 for a request that is no such upgrade, and when nothing listens there; 404 for no such workspace, and what the
/// container's side says.
pub async fn portforward(
    state: &ApiState,
    target: &Target,
    params: &Params,
    parts: &mut Parts,
    (ends, place): (BoxFuture<'static, ()>, impl Send + 'static),
) -> Result<Response, ApiError> {
    must_exist(state, target).await?;
    let ports = ports(params)?;
    let upgrade = upgrade("portforward", &PROTOCOLS, parts).await?;
    let target = stream_target(target, params)?;
    opens(state, &parts.extensions).await?;
    let (mut inputs, mut outputs) = (Vec::new(), StreamMap::new());
    for (channel, port) in (0u8..).step_by(2).zip(&ports) {
        // Programs that are being worked on often listen on the container's own localhost alone.
        let session = state.streams().dial(target.clone(), "localhost", *port).await?;
        inputs.push(session.input);
        outputs.insert(channel, session.output);
    }
    let begin: Vec<Bytes> = (0u8..).zip(ports.iter().flat_map(|p| [p, p])).map(|(c, p)| framed(c, &p.to_le_bytes())).collect();
    let frames = outputs.map(|(channel, said)| match said {
        ExecOutput::Stdout(bytes) => framed(channel, &bytes),
        ExecOutput::Stderr(words) => framed(channel + 1, &words),
        ExecOutput::Exit(_) => framed(channel, &[]),
        ExecOutput::Failed(why) => framed(channel + 1, why.as_bytes()),
    });
    let ends = ends.shared();
    let frames = futures::stream::iter(begin).chain(frames).take_until(ends.clone());
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _place = place;
        carry(socket, frames, inputs, said, ends).await;
    }))
}

fn ports(params: &Params) -> Result<Vec<u16>, ApiError> {
    let all = params.all("ports");
    let words: Vec<&str> = all.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty()).collect();
    if words.is_empty() || words.len() > MOST {
        return Err(ApiError::bad_request(format!("ports: say which, as ports=8080, and {MOST} at most")));
    }
    let port = |word: &&str| match word.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(ApiError::bad_request(format!("ports={word:?} is not known: must be between 1 and 65535"))),
    };
    words.iter().map(port).collect()
}

fn said(message: &[u8]) -> Option<(usize, ExecInput)> {
    let (channel, data) = message.split_first()?;
    let input = usize::from(channel / 2);
    (channel % 2 == 0 && !data.is_empty()).then(|| (input, ExecInput::Stdin(Bytes::copy_from_slice(data))))
}
