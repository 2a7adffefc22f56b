//! A host that forwards to its sockets over SSH, as `sshd` does; to none in `/forbidden`.

use super::ssh::{Open, listen};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelOpenFailure};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Listens for as long as the value is there.
pub struct SshHost {
    /// How many that have signed in are there.
    pub callers: Arc<AtomicUsize>,
    _open: Open,
}

impl SshHost {
    /// Shows one key, and lets another one in as `ops`. It is in the network namespace of this thread.
    pub fn start(at: &str, own: PrivateKey, lets_in: PublicKey) -> Self {
        let callers: Arc<AtomicUsize> = Arc::default();
        let count = callers.clone();
        let listener = std::net::TcpListener::bind(at).unwrap();
        let open = listen(listener, own, move || Caller { lets_in: lets_in.clone(), callers: count.clone(), counted: false });
        Self { callers, _open: open }
    }
}

struct Caller {
    lets_in: PublicKey,
    callers: Arc<AtomicUsize>,
    counted: bool,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.callers.fetch_sub(usize::from(self.counted), Ordering::Relaxed);
    }
}

impl Handler for Caller {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let known = self.lets_in.key_data() == key.public_key.key_data() && user == "ops";
        if known && !self.counted {
            self.counted = true;
            self.callers.fetch_add(1, Ordering::Relaxed);
        }
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if path.starts_with("/forbidden") {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
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
