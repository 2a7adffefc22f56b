//! A host that forwards to its sockets over SSH, as `sshd` does.

use super::ssh::{Open, listen};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelOpenFailure};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Listens for as long as the value is there.
pub struct SshHost {
    /// How many have signed in.
    pub sessions: Arc<AtomicUsize>,
    _open: Open,
}

impl SshHost {
    /// Shows one key, and lets another one in as `ops`. It is in the network namespace of this thread.
    pub fn start(at: &str, own: PrivateKey, lets_in: PublicKey) -> Self {
        let sessions: Arc<AtomicUsize> = Arc::default();
        let count = sessions.clone();
        let listener = std::net::TcpListener::bind(at).unwrap();
        let open = listen(listener, own, move || Caller { lets_in: lets_in.clone(), sessions: count.clone() });
        Self { sessions, _open: open }
    }
}

struct Caller {
    lets_in: PublicKey,
    sessions: Arc<AtomicUsize>,
}

impl Handler for Caller {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let known = self.lets_in.key_data() == key.public_key.key_data() && user == "ops";
        self.sessions.fetch_add(usize::from(known), Ordering::Relaxed);
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let Ok(mut to) = tokio::net::UnixStream::connect(path).await else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        reply.accept().await;
        tokio::spawn(async move {
            let mut from = channel.into_stream();
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        });
        Ok(())
    }
}
