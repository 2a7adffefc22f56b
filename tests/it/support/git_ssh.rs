//! A git host that is reached over SSH, by one deploy key.

use super::bare;
use super::ssh::{Open, key, listen};
use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;

/// Serves the repositories of a folder.
pub struct SshGit {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its public key, as a line of `known_hosts` has it.
    pub key: String,
    /// Who is let in.
    pub lets_in: Arc<Mutex<Option<PublicKey>>>,
    /// It listens for as long as this is held.
    _open: Open,
}

impl SshGit {
    /// Listens wherever the network namespace of this thread is reached.
    pub fn start(root: PathBuf) -> Self {
        let key = key(7);
        let public = key.public_key().to_openssh().unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let lets_in: Arc<Mutex<Option<PublicKey>>> = Arc::default();
        let who = lets_in.clone();
        let caller = move || Caller { root: root.clone(), lets_in: who.clone(), channels: HashMap::new() };
        let open = listen(listener, key, caller);
        Self { address, key: public, lets_in, _open: open }
    }
}

struct Caller {
    root: PathBuf,
    lets_in: Arc<Mutex<Option<PublicKey>>>,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl Handler for Caller {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let lets_in = self.lets_in.lock().unwrap();
        let known = lets_in.as_ref().is_some_and(|k| k.key_data() == key.public_key.key_data());
        Ok(if known && user == "git" { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        self.channels.insert(channel.id(), channel);
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        let line = String::from_utf8_lossy(line).into_owned();
        let (program, name) = line.split_once(' ').unwrap();
        let program = program.strip_prefix("git-").unwrap().to_owned();
        assert!(["upload-pack", "receive-pack"].contains(&program.as_str()), "{line}");
        let repository = self.root.join(name.trim_matches(['\'', '/']));
        let (channel, handle) = (self.channels.remove(&id).unwrap(), session.handle());
        session.channel_success(id)?;
        tokio::spawn(async move {
            let mut git = tokio::process::Command::from(bare("git"));
            git.arg(program).arg(repository).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut git = git.spawn().unwrap();
            let (mut input, mut output) = (git.stdin.take().unwrap(), git.stdout.take().unwrap());
            let (mut from, mut to) = tokio::io::split(channel.into_stream());
            let feeding = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from, &mut input).await;
                let _ = input.shutdown().await;
            });
            let _ = tokio::io::copy(&mut output, &mut to).await;
            let code = git.wait().await.unwrap().code().unwrap_or(1);
            let _ = handle.exit_status_request(id, code as u32).await;
            let _ = handle.eof(id).await;
            let _ = handle.close(id).await;
            feeding.abort();
        });
        Ok(())
    }
}
