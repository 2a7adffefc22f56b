//! What plays a host that is reached over SSH.

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{self, Handler};
use std::net::TcpListener;
use std::sync::Arc;

/// It listens for as long as the value is there.
pub struct Open {
    _until_dropped: tokio::sync::oneshot::Sender<()>,
}

/// A key made of a number, so that it is the same each time.
pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// Serves whoever comes, on a thread of its own: tests wait for what asks it.
pub fn listen<H: Handler + Send + 'static>(
    listener: TcpListener,
    own: PrivateKey,
    caller: impl Fn() -> H + Send + 'static,
) -> Open {
    let config = Arc::new(server::Config { keys: vec![own], ..Default::default() });
    listener.set_nonblocking(true).unwrap();
    let (until_dropped, closed) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let serve = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(server::run_stream(config.clone(), stream, caller()));
                }
            };
            tokio::select! {
                () = serve => {}
                _ = closed => {}
            }
        });
    });
    Open { _until_dropped: until_dropped }
}
