//! Connections to the API: how many there may be, and how long one may say nothing, or take nothing in.

use super::places::{Full, Place, Places, of_files};
use crate::access::network;
use axum_server::accept::Accept;
use futures::future::BoxFuture;
use ipnet::IpNet;
use std::io::{Error, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Of one network: an address, or the first 64 bits of one for IPv6. Half of all where those are few.
const OF_A_NETWORK: usize = 1024;
/// Of all together, one of so many files that this process may have open: each is one, and two where it leads into a workspace.
const OF_FILES: u64 = 8;
/// Bytes by which it is known whether somebody speaks HTTP/2. Until they are there no other timer runs.
const PREFACE: usize = 24;
/// How often it is told at most that somebody found no place.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What holds for all connections.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Whoever says nothing for so long, or does not come to the end of a request's head, is hung up on.
    pub silent: Duration,
    /// Whoever has taken in nothing for so long of what is sent to them. More than they may be silent: a person in a pager reads
    /// slowly.
    pub unread: Duration,
    /// Connections of one network.
    pub of_a_network: usize,
    /// Connections of all together.
    pub of_all: usize,
    /// Everybody may come through these, so that they are counted with all together alone; this machine itself is, too.
    pub trusted: Vec<IpNet>,
}

impl Default for Bounds {
    fn default() -> Self {
        let of_all = of_files(OF_FILES);
        let of_a_network = OF_A_NETWORK.min(of_all.div_ceil(2));
        let (silent, unread) = (Duration::from_secs(60), Duration::from_secs(300));
        Self { silent, unread, of_a_network, of_all, trusted: Vec::new() }
    }
}

/// Whose a connection is: a network's, or of those that are not counted by themselves.
type Holder = Option<[u8; 8]>;

/// Lets connections in, and has `A` do the rest.
#[derive(Clone)]
pub struct Door<A> {
    inner: A,
    bounds: Arc<Bounds>,
    places: Places<Holder>,
    told: Arc<Mutex<Option<Instant>>>,
}

impl<A> Door<A> {
    /// Nobody is in yet.
    pub fn new(inner: A, bounds: Bounds) -> Self {
        let places = Places::new(bounds.of_all);
        Self { inner, bounds: Arc::new(bounds), places, told: Arc::default() }
    }

    fn let_in(&self, stream: &TcpStream) -> Result<Place<Holder>, Error> {
        let unread = u32::try_from(self.bounds.unread.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(stream, unread)?;
        // What a watch tells is small, and must not wait for an acknowledgement of what it told before.
        stream.set_nodelay(true)?;
        self.place(stream.peer_addr()?.ip().to_canonical())
    }

    fn place(&self, from: IpAddr) -> Result<Place<Holder>, Error> {
        let uncounted = from.is_loopback() || self.bounds.trusted.iter().any(|net| net.contains(&from));
        let (holder, most) = if uncounted { (None, usize::MAX) } else { (Some(network(from)), self.bounds.of_a_network) };
        self.places.take(&holder, most).map_err(|full| {
            self.tell(from, full);
            ErrorKind::ConnectionRefused.into()
        })
    }

    /// Who finds no place is many: of them one is told of now and then.
    fn tell(&self, from: IpAddr, full: Full) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        *told = Some(Instant::now());
        let Bounds { of_a_network, of_all, .. } = *self.bounds;
        match full {
            Full::OfOne => {
                tracing::warn!(%from, of_a_network, "a connection to the API was refused: its network has as many as one may have")
            }
            Full::OfAll => {
                tracing::warn!(%from, of_all, "a connection to the API was refused: there are as many as there may be")
            }
        }
    }
}

impl<A, S> Accept<TcpStream, S> for Door<A>
where
    A: Accept<TcpStream, S> + Clone + Send + 'static,
    A::Future: Send,
    S: Send + 'static,
{
    type Stream = Connection<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, Result<(Self::Stream, Self::Service), Error>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (place, inner, silent) = (self.let_in(&stream), self.inner.clone(), self.bounds.silent);
        Box::pin(async move {
            let place = place?;
            let (stream, service) = inner.accept(stream, service).await?;
            let silence = Some(Box::pin(tokio::time::sleep(silent)));
            Ok((Connection { stream, heard: 0, silence, _place: place }, service))
        })
    }
}

/// One that has been let in.
pub struct Connection<S> {
    stream: S,
    heard: usize,
    /// Until it is known what it speaks.
    silence: Option<Pin<Box<Sleep>>>,
    _place: Place<Holder>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some(silence) = &mut this.silence else { return read };
        if read.is_pending() {
            ready!(silence.as_mut().poll(cx));
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        this.heard += buf.filled().len() - before;
        if this.heard >= PREFACE {
            this.silence = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_some_connections_and_what_everybody_comes_through_has_all() {
        let trusted = vec!["192.0.2.0/28".parse().unwrap(), "2001:db8:9::/48".parse().unwrap()];
        let door = Door::new((), Bounds { of_a_network: 2, of_all: 12, trusted, ..Bounds::default() });
        let come = |from: &str| door.place(from.parse::<IpAddr>().unwrap().to_canonical());
        let (mut inside, mut refused) = (Vec::new(), Vec::new());
        let networks =
            [["198.51.100.7", "198.51.100.7"], ["198.51.100.8", "::ffff:198.51.100.8"], ["2001:db8::1", "2001:db8::2"]];
        for from in networks.iter().flatten().chain(networks.iter().flatten()) {
            match come(from) {
                Ok(place) => inside.push(place),
                Err(_) => refused.push(*from),
            }
        }
        assert_eq!(refused, networks.concat(), "each has two, and one more is refused");
        assert!(come("2001:db8:0:1::1").is_ok(), "another network");
        for from in ["127.0.0.1", "::1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8:9::1"] {
            inside.push(come(from).expect(from));
        }
        assert!(["127.0.0.1", "192.0.2.1", "203.0.113.1"].map(come).iter().all(Result::is_err), "all together have twelve");
        inside.remove(0);
        assert!(come("198.51.100.8").is_err() && come("198.51.100.7").is_ok(), "who leaves makes room");
    }

    #[test]
    fn all_connections_together_leave_files_for_the_rest() {
        let (files, bounds) = (of_files(1), Bounds::default());
        assert!(bounds.of_all <= files / 8 && bounds.of_a_network <= bounds.of_all.div_ceil(2), "{bounds:?}");
    }
}
