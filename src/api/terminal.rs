//! The `terminal` subresource: the user's shell on a terminal that survives its connection.
//!
//! `session` names the terminal, as its caller likes; the first request opens it, later ones go on with it. `offset` is how many
//! bytes the caller has seen of it. The channels are those of `exec`.

use super::ApiState;
use super::audited::opens;
use super::channels::{carry, upgrade};
use super::exec::{PROTOCOLS, said};
use super::logs::{must_exist, stream_target};
use super::request::{Params, Target};
use super::status::ApiError;
use super::streams::{ExecInput, ExecRequest, Run};
use super::terminals::{Key, Terminal};
use crate::access::Identity;
use axum::response::Response;
use futures::future::{BoxFuture, select};
use futures::{FutureExt, StreamExt};
use http::request::Parts;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest name of a terminal.
const MAX_SESSION: usize = 64;

/// Opens a terminal, or goes on with it, and answers with the upgrade.
///
/// # Errors
/// 400 for a request that is no such upgrade, 404 for no such workspace, 410 when the terminal that the caller has seen is
/// gone, and what the container's side says.
pub async fn terminal(
    state: &ApiState,
    identity: &Identity,
    target: &Target,
    params: &Params,
    parts: &mut Parts,
    ends: BoxFuture<'static, ()>,
) -> Result<Response, ApiError> {
    must_exist(state, target).await?;
    let session = params.get("session").unwrap_or_default().to_owned();
    let plain = session.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if session.is_empty() || session.len() > MAX_SESSION || !plain {
        let allowed = format!("session: must be a name of 1 to {MAX_SESSION} letters, digits and hyphens, such as a new UUID");
        return Err(ApiError::bad_request(allowed));
    }
    let offset = params.number("offset")?.unwrap_or(0);
    let upgrade = upgrade("terminal", &PROTOCOLS, parts).await?;
    let ends = ends.shared();
    let key = Key { who: identity.holder(), target: stream_target(target, params)?, session };
    let there = state.terminals().get(&key);
    if there.is_some() || offset == 0 {
        opens(state, &parts.extensions).await?;
    }
    let terminal = match there {
        Some(there) => there,
        None if offset > 0 => {
            let why =
                "the terminal is gone: its program has ended, nobody looked at it for long, or the control plane was restarted";
            return Err(ApiError::expired(why));
        }
        None => open(state, key, ends.clone()).await?,
    };
    let size = (params.number("columns")?, params.number("rows")?);
    if let (Some(Ok(width)), Some(Ok(height))) = (size.0.map(u16::try_from), size.1.map(u16::try_from)) {
        let _ = terminal.input.send(ExecInput::Resize { width, height }).await;
    }
    let input = terminal.input.clone();
    Ok(upgrade.on_upgrade(move |socket| {
        let (view, taken_over) = terminal.view(offset);
        // Who has come after is seen here, too, while this one does not read.
        let ends = select(ends, taken_over).map(drop).shared();
        carry(socket, view.take_until(ends.clone()), vec![input], said, ends)
    }))
}

async fn open(state: &ApiState, key: Key, over: impl Future<Output = ()> + Send + 'static) -> Result<Arc<Terminal>, ApiError> {
    // Held until it is kept.
    let _place = state.terminals().place(&key.who).map_err(ApiError::unavailable)?;
    let env = BTreeMap::from([("TERM".to_owned(), "xterm-256color".to_owned())]);
    let request = ExecRequest { env, tty: true, ..ExecRequest::piped(Run::Shell(None)) };
    let session = state.streams().exec(key.target.clone(), request).await?;
    Ok(state.terminals().keep(key, session, over, state.shutdown().clone()))
}
