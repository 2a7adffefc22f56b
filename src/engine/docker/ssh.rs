//! An engine behind SSH: for each of our connections one to its host, and in it a channel to the engine's socket. Nothing of the engine
//! needs to listen on the network. (Docker's own `ssh://` does the same, by a child process.)
//!
//! Channels do not share a connection: the library takes in what a host sends for one that nobody reads until it must stop reading for
//! all, and `logs -f` in a terminal that was halted would halt the engine for everybody.

use super::connect::CONNECT_TIMEOUT;
use super::error::Misfit;
use crate::engine::{Cause, EngineError, SshEndpoint, Told};
use hyper_util::client::legacy::connect::{Connected, Connection};
use ring::hmac;
use russh::client::{self, Handle, Msg};
use russh::keys::ssh_key::known_hosts::{HostPatterns, KnownHosts, Marker};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, decode_secret_key};
use russh::{ChannelOpenFailure, ChannelStream, Preferred};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// A connection that is not answered on is given up after three of these.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Callers that have not signed in yet. Of more than ten, `sshd` turns some away by chance (`MaxStartups`).
const SIGNING_IN: usize = 6;

/// The host of an engine, and how to get there.
pub(super) struct Host {
    to: SshEndpoint,
    key: Arc<PrivateKey>,
    known: Vec<PublicKey>,
    signing_in: Semaphore,
}

impl Host {
    /// Reads the key and the host keys; nothing is connected yet.
    pub(super) fn new(to: &SshEndpoint) -> Result<Self, EngineError> {
        let bad = |what: &str, why: String| EngineError::Invalid(format!("the Secret's {what} cannot be used: {why}"));
        let text = |what: &str, bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|e| bad(what, e.to_string()));
        let key = decode_secret_key(&text("sshKey", &to.key)?, None);
        let key =
            key.map_err(|e| bad("sshKey", format!("{e}; it must be an Ed25519 or ECDSA private key without a passphrase")))?;
        let known = known(&text("knownHosts", &to.known_hosts)?, &to.host, to.port).map_err(|e| bad("knownHosts", e))?;
        Ok(Self { to: to.clone(), key: Arc::new(key), known, signing_in: Semaphore::new(SIGNING_IN) })
    }

    /// A channel to the engine's socket, in a connection of its own.
    pub(super) async fn open(&self) -> io::Result<Tunnel> {
        let opening = async {
            let session = {
                // The semaphore is never closed.
                let _turn = self.signing_in.acquire().await.ok();
                self.connect().await?
            };
            let channel = session.channel_open_direct_streamlocal(self.to.socket.clone()).await?;
            Ok(Tunnel { channel: channel.into_stream(), _session: session })
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(opened) => opened.map_err(|failed| self.told(failed)),
            Err(late) => Err(io::Error::new(io::ErrorKind::TimedOut, late)),
        }
    }

    async fn connect(&self) -> Result<Handle<Caller>, Failed> {
        let mut preferred = Preferred::DEFAULT;
        // A host has several keys; it is to show one that is known.
        let shown = |a: &&Algorithm| self.known.iter().any(|k| k.algorithm() == **a);
        let keys: Vec<_> = preferred.key.iter().filter(shown).cloned().collect();
        if !keys.is_empty() {
            preferred.key = keys.into();
        }
        let config = client::Config {
            preferred,
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: 3,
            nodelay: true,
            ..Default::default()
        };
        let stream = TcpStream::connect((self.to.host.as_str(), self.to.port)).await.map_err(russh::Error::IO)?;
        let caller = Caller { known: self.known.clone() };
        let mut session = client::connect_stream(Arc::new(config), stream, caller).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
        match session.authenticate_publickey(self.to.user.clone(), key).await?.success() {
            true => Ok(session),
            false => Err(Failed::KeyRefused),
        }
    }

    /// Words for what went wrong. What the network says stays as it is.
    fn told(&self, failed: Failed) -> io::Error {
        let SshEndpoint { user, host, socket, .. } = &self.to;
        let (cause, words) = match failed {
            Failed::Ssh(russh::Error::IO(e)) => return e,
            Failed::HostUnknown(shown) => (
                Cause::SshHostKeyUnknown,
                format!(
                    "the host shows a key that 'knownHosts' in the Secret does not have for it ({shown}); compare it with the host's own \
                     (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there), then add what `ssh-keyscan {host}` prints"
                ),
            ),
            Failed::KeyRefused => (
                Cause::SshKeyRefused,
                format!(
                    "the host does not let {user} in with 'sshKey': put its public half into that user's ~/.ssh/authorized_keys"
                ),
            ),
            Failed::Ssh(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited)) => (
                Cause::SshForwardingRefused,
                format!(
                    "the host lets {user} in and forwards to no sockets: set 'AllowStreamLocalForwarding yes' in its sshd_config, and take \
                     'restrict' off the key's line in ~/.ssh/authorized_keys"
                ),
            ),
            Failed::Ssh(russh::Error::ChannelOpenFailure(why)) => (
                Cause::SocketMissing,
                format!(
                    "the host does not connect to {socket} ({why:?}): is dockerd running there, and is {user} in the group 'docker'?"
                ),
            ),
            Failed::Ssh(other) => return io::Error::other(format!("SSH: {other}")),
        };
        io::Error::other(Misfit(Told::of(cause, words)))
    }
}

/// The keys that a host is known by. A key that is revoked is so whichever host shows it.
fn known(file: &str, host: &str, port: u16) -> Result<Vec<PublicKey>, String> {
    let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
    let (mut keys, mut revoked) = (Vec::new(), Vec::new());
    for entry in KnownHosts::new(file) {
        let entry = entry.map_err(|e| e.to_string())?;
        match entry.marker() {
            Some(Marker::Revoked) => revoked.push(entry.public_key().key_data().clone()),
            None if is_for(entry.host_patterns(), &name) => keys.push(entry.public_key().clone()),
            None | Some(Marker::CertAuthority) => {}
        }
    }
    let had = keys.len();
    keys.retain(|key| !revoked.contains(key.key_data()));
    if keys.is_empty() && had > 0 {
        return Err(format!("the key it has for {name} is revoked in it: give the host another key, and put that in its place"));
    }
    if keys.is_empty() {
        return Err(format!("no line in it is for {name}; `ssh-keyscan` prints one, to be compared with the host's own key"));
    }
    Ok(keys)
}

/// Whole names alone: a pattern that takes in more than was meant would let others be the host.
fn is_for(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(all) => all.iter().any(|p| p.eq_ignore_ascii_case(name)),
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
    }
}

/// Looks whether the host is the one that is known.
struct Caller {
    known: Vec<PublicKey>,
}

impl client::Handler for Caller {
    type Error = Failed;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Failed> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Err(Failed::HostUnknown("a certificate".into()));
        };
        if self.known.iter().any(|k| k.key_data() == key.key_data()) {
            return Ok(true);
        }
        Err(Failed::HostUnknown(format!("{} {}", key.algorithm(), key.fingerprint(Default::default()))))
    }
}

/// Why there is no channel.
#[derive(Debug)]
enum Failed {
    /// The host shows another key; which.
    HostUnknown(String),
    /// Our key is not let in.
    KeyRefused,
    /// All else.
    Ssh(russh::Error),
}

impl From<russh::Error> for Failed {
    fn from(e: russh::Error) -> Self {
        Self::Ssh(e)
    }
}

/// A channel, as a connection.
pub(super) struct Tunnel {
    channel: ChannelStream<Msg>,
    /// The connection to the host ends with it.
    _session: Handle<Caller>,
}

impl Connection for Tunnel {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.channel).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_host_is_known_by_its_whole_name_and_port() {
        let file = format!("# ours\nrack.example,10.0.0.7 {KEY}\n[rack.example]:2222 {KEY}\n*.wild.example {KEY}\n");
        for (host, port, is) in [
            ("rack.example", 22, true),
            ("10.0.0.7", 22, true),
            ("rack.example", 2222, true),
            ("10.0.0.7", 2222, false),
            ("a.wild.example", 22, false),
        ] {
            assert_eq!(known(&file, host, port).is_ok(), is, "{host}:{port}");
        }
        assert!(known("nonsense", "x", 22).is_err());
    }

    #[test]
    fn a_revoked_key_is_nobody_s() {
        for pattern in ["*", "rack.example", "old.example"] {
            for file in [
                format!("rack.example {KEY}\n@revoked {pattern} {KEY}\n"),
                format!("@revoked {pattern} {KEY}\nrack.example {KEY}\n"),
            ] {
                let why = known(&file, "rack.example", 22).unwrap_err();
                assert!(why.contains("revoked"), "{pattern}: {why}");
            }
        }
        let other = KEY.replace("AAAAIJdD", "AAAAIKdD");
        assert_eq!(known(&format!("rack.example {KEY}\n@revoked * {other}\n"), "rack.example", 22).unwrap().len(), 1);
    }

    #[test]
    fn hashed_names_are_known() {
        // ssh-keygen -H makes these: |1|salt|HMAC-SHA1 of the name.
        let salt = [7; 20];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let hash: [u8; 20] = hmac::sign(&key, b"rack.example").as_ref().try_into().unwrap();
        let hashed = HostPatterns::HashedName { salt: salt.to_vec(), hash };
        assert!(is_for(&hashed, "rack.example"));
        assert!(!is_for(&hashed, "[rack.example]:2222"));
    }
}
