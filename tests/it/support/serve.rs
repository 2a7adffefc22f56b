//! Small web servers for what lies in the network namespace of the calling thread.

use axum::Router;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::sync::oneshot;

/// Serves wherever the network namespace of this thread is reached, for as long as what is given back is held. On a thread
/// of its own: tests wait for what asks it.
pub fn everywhere(router: Router) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (open, closed) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                _ = closed => {}
            }
        });
    });
    (address, open)
}
