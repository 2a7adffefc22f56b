//! One caller's connection: who it is, and what it asks for.

use super::keys::fingerprint;
use super::present::Present;
use super::waiting::Knock;
use super::{Gateway, forward, program};
use crate::access::{Action, Identity};
use crate::api::Place;
use crate::api::streams::StreamTarget;
use crate::resource::GROUP;
use crate::resource::names::dns_label;
use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Programs and connections in one connection at once.
const CHANNELS: usize = 64;
/// The one subsystem there is.
pub const SFTP: &str = "sftp";

/// Who came in, once somebody has.
pub struct Login {
    /// With the place their connection has among theirs; in words why there is none.
    caller: OnceLock<Result<(Caller, Place<String>), String>>,
    present: Arc<Present>,
    /// Cancelled when it is known.
    pub done: CancellationToken,
    /// Cancelled when the connection is over: nothing on it goes on then.
    pub over: CancellationToken,
    /// Until somebody has.
    knock: Mutex<Option<Knock>>,
    /// Cancelled when it has to make room for another one before that.
    pub gives_way: CancellationToken,
}

impl Login {
    /// Nobody's yet.
    pub fn new(knock: Knock, present: Arc<Present>) -> Self {
        let (done, over) = (CancellationToken::new(), CancellationToken::new());
        let gives_way = knock.gives_way.clone();
        Self { caller: OnceLock::new(), present, done, over, knock: Mutex::new(Some(knock)), gives_way }
    }

    /// Somebody came in; `false` where somebody has before.
    fn is(&self, caller: Caller) -> bool {
        if self.caller.get().is_some() {
            return false;
        }
        let place = self.present.place(&caller.who.name);
        // Whoever finds none stays with those who wait until they are gone.
        if place.is_ok() {
            drop(self.knock.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        let first = self.caller.set(place.map(|place| (caller, place))).is_ok();
        self.done.cancel();
        first
    }

    /// Who it is; `None` before it is known.
    ///
    /// # Errors
    /// In words for them, why they cannot come in now.
    pub fn caller(&self) -> Option<Result<&Caller, &str>> {
        self.caller.get().map(|known| known.as_ref().map(|(caller, _)| caller).map_err(String::as_str))
    }
}

/// A caller who has proved to hold a user's key.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who that is.
    pub who: Identity,
    /// By which key.
    pub fingerprint: String,
    /// The workspace it named as its user name.
    pub target: StreamTarget,
    /// Where from.
    pub address: Option<IpAddr>,
    /// Cancelled when something was opened for them.
    pub used: CancellationToken,
    /// How much is open for them now.
    open: watch::Sender<usize>,
}

/// Something is open for a caller, until it is dropped.
pub struct Open(watch::Sender<usize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Caller {
    /// Something is opened for them, which they may have.
    pub fn opens(&self) -> Open {
        self.used.cancel();
        self.open.send_modify(|open| *open += 1);
        Open(self.open.clone())
    }

    /// Waits until nothing was open for so long. What they may not have does not count, nor does a channel on which they ask for nothing.
    pub async fn idle(&self, longest: Duration) {
        let mut open = self.open.subscribe();
        loop {
            let _ = open.wait_for(|open| *open == 0).await.map(drop);
            if tokio::time::timeout(longest, open.wait_for(|open| *open > 0)).await.is_err() {
                return;
            }
        }
    }

    /// Something they want to do to the workspace.
    pub fn action<'a>(&'a self, verb: &'a str, subresource: &'a str) -> Action<'a> {
        let (namespace, name) = (Some(self.target.namespace.as_str()), Some(self.target.name.as_str()));
        Action { verb, group: GROUP, resource: "workspaces", subresource, namespace, name }
    }
}

/// `WORKSPACE.PROJECT`, or `SIDECAR.WORKSPACE.PROJECT`.
fn target(user: &str) -> Option<StreamTarget> {
    let words: Vec<&str> = user.split('.').collect();
    let (container, name, namespace) = match words[..] {
        [name, namespace] => (None, name, namespace),
        [container, name, namespace] => (Some(container), name, namespace),
        _ => return None,
    };
    let all_named = words.iter().all(|word| dns_label(word).is_ok());
    all_named.then(|| StreamTarget { namespace: namespace.into(), name: name.into(), container: container.map(Into::into) })
}

/// What one caller's connection does.
pub struct Connection {
    gateway: Arc<Gateway>,
    login: Arc<Login>,
    room: Arc<Semaphore>,
    address: Option<IpAddr>,
}

impl Connection {
    /// A connection whose caller is not known yet.
    pub fn new(gateway: Arc<Gateway>, login: Arc<Login>, address: Option<IpAddr>) -> Self {
        Self { gateway, login, room: Arc::new(Semaphore::new(CHANNELS)), address }
    }

    /// The caller, and a place for one more channel where there is one.
    fn entrance(&self) -> Option<(Caller, OwnedSemaphorePermit)> {
        Some((self.login.caller()?.ok()?.clone(), self.room.clone().try_acquire_owned().ok()?))
    }

    fn identify(&self, user: &str, key: &PublicKey) -> Option<Caller> {
        let fingerprint = fingerprint(key);
        let who = self.gateway.keys.holder(&fingerprint)?;
        let (used, open) = (CancellationToken::new(), watch::Sender::new(0));
        Some(Caller { who, fingerprint, target: target(user)?, address: self.address, used, open })
    }
}

fn answer(known: bool) -> Auth {
    if known { Auth::Accept } else { Auth::reject() }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        Ok(answer(self.identify(user, offer.public_key).is_some()))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Some(caller) = self.identify(user, key.public_key) else { return Ok(answer(false)) };
        tracing::info!(user = caller.who.name, workspace = user, key = caller.fingerprint, "came in by SSH");
        Ok(answer(self.login.is(caller)))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((caller, place)) = self.entrance() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        reply.accept().await;
        let (gateway, over) = (self.gateway.clone(), self.login.over.clone());
        tokio::spawn(async move {
            let _ = over.run_until_cancelled(program::serve(&gateway, &caller, channel)).await;
            drop(place);
        });
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((caller, place)) = self.entrance() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let (gateway, over, host) = (self.gateway.clone(), self.login.over.clone(), host.to_owned());
        tokio::spawn(async move {
            let _ = over.run_until_cancelled(forward::serve(&gateway, &caller, channel, (&host, port), reply)).await;
            drop(place);
        });
        Ok(())
    }

    // What a channel is asked for reaches `program` as messages of its own; here it is only answered.

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn env_request(&mut self, channel: ChannelId, _: &str, _: &str, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(&mut self, channel: ChannelId, _: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn subsystem_request(&mut self, channel: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        if name == SFTP { session.channel_success(channel) } else { session.channel_failure(channel) }
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_names_a_workspace() {
        let of = |user| target(user).map(|t| (t.namespace, t.name, t.container));
        assert_eq!(of("web.team"), Some(("team".into(), "web".into(), None)));
        assert_eq!(of("db.web.team"), Some(("team".into(), "web".into(), Some("db".into()))));
        for bad in ["", "web", "web.", ".team", "a.b.c.d", "Web.team", "web.team/x", "web.team ", "w_b.team"] {
            assert!(of(bad).is_none(), "{bad:?}");
        }
    }
}
