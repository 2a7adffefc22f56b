//! The SSH gateway: `ssh WORKSPACE.PROJECT@HOST` is a shell in a workspace.
//!
//! Who may come in is known by the public keys of `User` records, and what they may do is decided where everything is
//! (`access::decide`). Programs are run by the engine, as `exec` runs them: nothing listens in a workspace, and no port
//! of it is published. A workspace that is stopped is started first.

mod connection;
mod forward;
mod keys;
mod present;
mod program;
mod waiting;
mod wake;

pub use keys::Keys;

use crate::access::{Decision, Directory};
use crate::api::streams::WorkspaceStreams;
use crate::api::{Ledger, Starts};
use crate::audit::Entry;
use axum::Router;
use connection::{Caller, Connection, Login, Open};
use futures::FutureExt;
use present::Present;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{Config, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, Preferred, SshId, kex};
use std::borrow::Cow;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use waiting::Waiting;

/// A caller who sends nothing is asked this often whether it is still there, and is given up after three times.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// How much a caller may send ahead, in bytes for each channel.
const WINDOW: u32 = 4 << 20;
/// How long a caller who was told why it is sent away may take to go.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long to wait after a connection that could not be taken: most often too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// How much callers may have.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest time from when a connection is taken until its caller has proved who it is.
    pub login_grace: Duration,
    /// Longest time that nothing is open on a connection.
    pub idle: Duration,
    /// Connections at once of one user who has logged in.
    pub of_user: usize,
    /// Connections at once of all who have logged in. Those who have not have places of their own.
    pub of_all: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { login_grace: Duration::from_secs(60), idle: Duration::from_secs(600), of_user: 64, of_all: 1024 }
    }
}

/// What the gateway needs.
pub struct Gateway {
    /// The API.
    pub api: Router,
    /// The workspaces' containers.
    pub streams: Arc<dyn WorkspaceStreams>,
    /// Who may come in.
    pub keys: Keys,
    /// What they may do is decided from this.
    pub directory: Arc<Directory>,
    /// Where it is told who came in.
    pub audit: Ledger,
    /// Starts workspaces that are stopped.
    pub starts: Starts,
    /// How much callers may have.
    pub limits: Limits,
}

impl Gateway {
    /// Asks whether a caller may do this to the workspace they named.
    ///
    /// # Errors
    /// In words for the caller, when they may not.
    async fn may(&self, caller: &Caller, verb: &str, subresource: &str) -> Result<(), String> {
        match self.directory.judge(&caller.who, &caller.action(verb, subresource), false).await {
            Ok((Decision::Allow(_), _)) => Ok(()),
            Ok((Decision::Deny(_), why)) => Err(format!("you may not: {why}")),
            Ok((Decision::Hidden, _)) => Err(no_workspace(&caller.target.name, &caller.target.namespace)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// As [`Gateway::may`], and writes into the audit log that they came in, or wanted to, before they do. What is opened is so until
    /// what this gives is dropped.
    ///
    /// # Errors
    /// In words for the caller, when they may not, or it cannot be written.
    async fn opens(&self, caller: &Caller, subresource: &str) -> Result<Open, String> {
        let judged = self.may(caller, "create", subresource).await;
        let target = &caller.target;
        let unwritten = |_| "the audit log cannot be written, so nobody is let in: try again".to_owned();
        let begun = self.audit.begin(&caller.who.name, &target.namespace).await.map_err(unwritten)?;
        let (code, reason) = match &judged {
            Ok(()) => (101, "let through to the workspace".to_owned()),
            Err(words) => (403, words.clone()),
        };
        let entry = Entry {
            how: "ssh-key".into(),
            proof: caller.fingerprint.clone(),
            address: caller.address.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
            verb: "create".into(),
            kind: "Workspace".into(),
            name: target.name.clone(),
            subresource: subresource.into(),
            code,
            reason,
            ..begun
        };
        self.audit.write(entry).await.map_err(unwritten)?;
        judged.map(|()| caller.opens())
    }

    /// Asks whether what was opened for a caller may begin after all: it had to wait for the workspace.
    ///
    /// # Errors
    /// In words for the caller, when they may not any more.
    async fn still(&self, caller: &Caller, subresource: &str) -> Result<(), String> {
        if self.keys.holder(&caller.fingerprint).as_ref() != Some(&caller.who) {
            return Err("the key you came in by is no longer yours".into());
        }
        self.may(caller, "create", subresource).await
    }

    /// Waits until a connection is to end, whoever its caller is; why, in words for them.
    async fn ends(&self, login: &Login, until: Instant) -> String {
        if timeout_at(until, login.done.cancelled()).await.is_err() {
            return "nobody logged in in time".into();
        }
        let caller = match login.caller() {
            Some(Ok(caller)) => caller,
            Some(Err(words)) => return words.to_owned(),
            None => std::future::pending().await,
        };
        let (mut keys, idle) = (self.keys.clone(), self.limits.idle);
        tokio::select! {
            () = keys.lost(&caller.fingerprint, &caller.who) => "the key you came in by is no longer yours".into(),
            () = self.shut_out(caller) => "you may no longer use this workspace".into(),
            () = caller.idle(idle) => format!("nothing was open for {} seconds", idle.as_secs()),
        }
    }

    /// Waits until a caller who could use the workspace no longer may.
    async fn shut_out(&self, caller: &Caller) {
        let mut moved = self.directory.moved();
        // One who may not is told so by each channel, and may be let in later: by the records, or by the channel that asked them.
        while self.may(caller, "create", "exec").await.is_err() {
            tokio::select! {
                () = caller.used.cancelled() => break,
                changed = moved.changed() => if changed.is_err() {
                    return std::future::pending().await;
                }
            }
        }
        self.directory.lost(&caller.who, &caller.action("create", "exec")).await;
    }
}

/// What somebody is told of a workspace that is not there, or not theirs to see.
fn no_workspace(name: &str, project: &str) -> String {
    format!("there is no workspace {name:?} in project {project:?}")
}

/// The key by which callers know this host, from 32 secret bytes.
pub fn host_key(seed: &[u8; 32]) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(seed))
}

/// How keys are agreed on: all that the library takes to be safe but Diffie-Hellman in groups of 2,048 bits, which is weaker than
/// the rest (112 bits). Where the caller chooses the group, it may choose such a one.
fn exchanges() -> Vec<kex::Name> {
    let weak = [kex::DH_G14_SHA256, kex::DH_GEX_SHA256];
    Preferred::DEFAULT.kex.iter().filter(|name| !weak.contains(name)).copied().collect()
}

fn config(key: PrivateKey) -> Config {
    Config {
        preferred: Preferred { kex: exchanges().into(), ..Preferred::DEFAULT },
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-DevSanctum")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // Clients ask first, without a key, what there is to prove who they are.
        auth_rejection_time_initial: Some(Duration::ZERO),
        auth_rejection_time: Duration::from_millis(300),
        // Agents offer all the keys they have.
        max_auth_attempts: 20,
        keys: vec![key],
        window_size: WINDOW,
        maximum_packet_size: 64 << 10,
        inactivity_timeout: None,
        keepalive_interval: Some(ASK_EVERY),
        keepalive_max: 3,
        nodelay: true,
        ..Config::default()
    }
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, key: PrivateKey, gateway: Gateway, stop: CancellationToken) {
    let (config, gateway) = (Arc::new(config(key)), Arc::new(gateway));
    let (waiting, present) = (Arc::new(Waiting::default()), Arc::new(Present::new(&gateway.limits)));
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "an SSH connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let login = Arc::new(Login::new(waiting.knock(peer.ip()), present.clone()));
        let (config, gateway, stop) = (config.clone(), gateway.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = carry(config, stream, gateway, login, stop).await {
                tracing::debug!(%peer, %error, "an SSH connection ended");
            }
        });
    }
}

/// Carries one connection to its end: its caller's, this program's, or that of the key it came in by. Its socket is closed then.
async fn carry(
    config: Arc<Config>,
    stream: TcpStream,
    gateway: Arc<Gateway>,
    login: Arc<Login>,
    stop: CancellationToken,
) -> Result<(), russh::Error> {
    let until = Instant::now() + gateway.limits.login_grace;
    let socket = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    let address = stream.peer_addr().ok().map(|peer| peer.ip());
    let gives_way = login.gives_way.clone();
    let _over = login.over.clone().drop_guard();
    let connection = Connection::new(gateway.clone(), login.clone(), address);
    let began = tokio::select! {
        began = timeout_at(until, run_stream(config, stream, connection)) => began,
        () = gives_way.cancelled() => return Ok(()),
    };
    let mut session = began.map_err(|_| russh::Error::ConnectionTimeout)??;
    let handle = session.handle();
    let why = tokio::select! {
        ended = &mut session => return ended,
        () = gives_way.cancelled() => "others wait, too".to_owned(),
        () = stop.cancelled() => "the control plane is stopping".to_owned(),
        why = gateway.ends(&login, until) => why,
    };
    // Where it cannot be said at once, the caller does not listen.
    let _ = handle.disconnect(Disconnect::ByApplication, why, "en".into()).now_or_never();
    login.over.cancel();
    let patience = if gives_way.is_cancelled() { Duration::ZERO } else { LAST_WORDS };
    if timeout(patience, &mut session).await.is_ok() {
        return Ok(());
    }
    // The library waits for callers to close, and hears of no end while keys are agreed on, or nothing more can be sent.
    let _ = socket.shutdown(Shutdown::Both);
    let _ = session.await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_agreed_on_in_a_group_of_2048_bits() {
        let offered: Vec<String> = config(host_key(&[7; 32])).preferred.kex.iter().map(|name| name.as_ref().to_owned()).collect();
        for strong in ["mlkem768x25519-sha256", "curve25519-sha256", "diffie-hellman-group16-sha512"] {
            assert!(offered.iter().any(|name| name == strong), "{offered:?}");
        }
        // A new release of the library may have others: a name of a group is one that is known here, of 3,072 bits or more.
        for name in offered.iter().filter(|name| name.starts_with("diffie-hellman")) {
            assert!(["15", "16", "17", "18"].iter().any(|n| *name == format!("diffie-hellman-group{n}-sha512")), "{name}");
        }
    }
}
