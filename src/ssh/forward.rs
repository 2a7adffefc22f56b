//! A connection to a port, as the workspace itself would make it (`ssh -L`, `-D` and `-J`).

use super::Gateway;
use super::connection::{Caller, Open};
use super::program::pump;
use super::wake::awake;
use crate::api::streams::ExecSession;
use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure};

/// Longest name of a host.
const MAX_HOST: usize = 253;

/// Serves a channel to its end. It is opened once the connection stands.
pub async fn serve(gateway: &Gateway, caller: &Caller, channel: Channel<Msg>, to: (&str, u32), reply: ChannelOpenHandle) {
    let (session, _open) = match dial(gateway, caller, to).await {
        Ok(dialled) => dialled,
        Err(why) => return reply.reject(why).await,
    };
    reply.accept().await;
    let (mut read, write) = channel.split();
    if pump(session, Vec::new(), &mut read, &write).await.is_some() {
        let _ = write.eof().await;
    }
    let _ = write.close().await;
}

async fn dial(gateway: &Gateway, caller: &Caller, (host, port): (&str, u32)) -> Result<(ExecSession, Open), ChannelOpenFailure> {
    let plain = !host.is_empty() && host.len() <= MAX_HOST && !host.starts_with('-');
    let plain = plain && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:%".contains(&b));
    let port = u16::try_from(port).ok().filter(|port| plain && *port != 0).ok_or(ChannelOpenFailure::ConnectFailed)?;
    let open = gateway.opens(caller, "portforward").await.map_err(|_| ChannelOpenFailure::AdministrativelyProhibited)?;
    awake(gateway, caller, None).await.map_err(|_| ChannelOpenFailure::ConnectFailed)?;
    gateway.still(caller, "portforward").await.map_err(|_| ChannelOpenFailure::AdministrativelyProhibited)?;
    let dialled = gateway.streams.dial(caller.target.clone(), host, port).await.map_err(|error| {
        tracing::debug!(workspace = caller.target.name, %error, "a connection was not made");
        ChannelOpenFailure::ConnectFailed
    });
    dialled.map(|session| (session, open))
}
