//! A way to a server that breaks after so many bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on. Ends when dropped, with all of them.
pub struct Cutter {
    pub address: SocketAddr,
    ways: Arc<Ways>,
}

/// What passes each way before all is cut; negative while nothing is to be cut.
struct Ways {
    left: [AtomicI64; 2],
    cut: watch::Sender<u64>,
}

const UNTOUCHED: i64 = i64::MIN / 2;

impl Cutter {
    /// Leads to a server.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ways = Arc::new(Ways { left: [UNTOUCHED, UNTOUCHED].map(AtomicI64::new), cut: watch::Sender::new(0) });
        let weak = Arc::downgrade(&ways);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Some(ways) = weak.upgrade() else { return };
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let ((from, to), (back, forth)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from, forth, 0, ways.clone()));
                tokio::spawn(pass(back, to, 1, ways));
            }
        });
        Self { address, ways }
    }

    /// Cuts all connections once so many bytes more have gone to the server, or come back from it.
    pub fn cut_after(&self, bytes: u32, coming_back: bool) {
        self.ways.left[usize::from(coming_back)].store(i64::from(bytes), Ordering::SeqCst);
    }

    /// How often all was cut.
    pub fn cuts(&self) -> u64 {
        *self.ways.cut.borrow()
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: usize, ways: Arc<Ways>) {
    let mut cut = ways.cut.subscribe();
    let mut piece = vec![0; 4096];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read.unwrap_or(0),
            _ = cut.changed() => return,
        };
        if read == 0 {
            return;
        }
        let left = ways.left[way].fetch_sub(read as i64, Ordering::SeqCst);
        let passes = if (0..read as i64).contains(&left) { left as usize } else { read };
        if to.write_all(&piece[..passes]).await.is_err() {
            return;
        }
        if passes < read {
            ways.left.iter().for_each(|left| left.store(UNTOUCHED, Ordering::SeqCst));
            ways.cut.send_modify(|n| *n += 1);
            return;
        }
    }
}
