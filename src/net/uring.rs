//! A TCP connection on the ring.
//!
//! The ring does not cancel what is dropped, so no operation here is ever dropped in flight. At a deadline the read side
//! is cancelled and *then awaited*: if bytes arrived in between they are delivered. The write side cannot be taken back,
//! so its deadline shuts the sending direction down.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::time::Sleep;

use super::sys::{self, InFlight, Socket};
use crate::buffer::Buffer;
use crate::clock::{Deadline, Instant};
use crate::link::Link;

/// A connected TCP socket.
///
/// When it is dropped with an operation in flight (a panic in its task) the connection is broken off, so that the
/// operation ends and the descriptor is freed.
pub struct Stream {
    socket: Socket,
    peer: SocketAddr,
    reading: Side,
    writing: Side,
    interrupted: Cell<bool>,
}

impl Stream {
    /// Takes over a connected, blocking socket on which [`tune`] has been called, or on its listener.
    pub(super) fn new(socket: OwnedFd, peer: SocketAddr) -> Self {
        Self::shared(Rc::new(socket), peer)
    }

    /// As [`new`](Self::new) for a socket that has been on the ring already.
    pub(super) fn shared(socket: Socket, peer: SocketAddr) -> Self {
        Self { socket, peer, reading: Side::default(), writing: Side::default(), interrupted: Cell::new(false) }
    }

    /// The other end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Awaits a read-side operation, cancelled at the deadline. `Ok(None)`: it has to be done again.
    async fn read_side<T: Unpin>(&self, mut op: InFlight<T>, until: Deadline) -> (io::Result<Option<usize>>, T) {
        debug_assert!(!self.reading.busy.get(), "two read-side operations at once on one link");
        self.reading.busy.set(true);
        self.interrupted.set(false);
        let (mut timed_out, mut done) = (false, self.reading.race(&mut op, until).await);
        if done.is_none() {
            timed_out = true;
            sys::cancel(&self.socket);
        }
        let (result, thing) = match done.take() {
            Some(done) => done,
            None => op.await,
        };
        self.reading.busy.set(false);
        let result = match result {
            Err(error) if is_retry(&error) && timed_out => Err(io::ErrorKind::TimedOut.into()),
            Err(error) if is_retry(&error) && self.interrupted.get() => Err(io::ErrorKind::Interrupted.into()),
            Err(error) if is_retry(&error) => Ok(None),
            other => other.map(Some),
        };
        (result, thing)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(&*self.socket).shutdown(how)
    }
}

impl Link for Stream {
    async fn readable(&self, until: Deadline) -> io::Result<()> {
        loop {
            match self.read_side(sys::poll_readable(&self.socket), until).await {
                (Ok(None), ()) => {}
                (Ok(Some(_)), ()) => return Ok(()),
                (Err(error), ()) => return Err(error),
            }
        }
    }

    async fn read(&self, mut into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        if into.room() == 0 {
            return (Err(io::Error::new(io::ErrorKind::InvalidInput, "read into a full buffer")), into);
        }
        loop {
            let result;
            (result, into) = self.read_side(sys::recv(&self.socket, into), until).await;
            match result {
                Ok(None) => {}
                Ok(Some(n)) => {
                    into.commit(n);
                    return (Ok(n), into);
                }
                Err(error) => return (Err(error), into),
            }
        }
    }

    async fn write_all(&self, mut from: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        debug_assert!(!self.writing.busy.get(), "two writes at once on one link");
        self.writing.busy.set(true);
        let mut outcome = Ok(());
        while outcome.is_ok() && !from.is_empty() {
            let mut op = sys::send(&self.socket, from);
            let (mut result, buffer) = match self.writing.race(&mut op, until).await {
                Some(done) => done,
                None => {
                    // Fails only when the connection is gone, and then the operation ends by itself.
                    let _ = self.shutdown(Shutdown::Write);
                    (Err(io::ErrorKind::TimedOut.into()), op.await.1)
                }
            };
            from = buffer;
            match &mut result {
                Ok(n) => from.consume(*n),
                // A cancelled read side takes the write with it; the kernel says how far it got, so go on from there.
                Err(error) if is_retry(error) => {}
                Err(_) => outcome = result.map(drop),
            }
        }
        self.writing.busy.set(false);
        (outcome, from)
    }

    /// When bytes arrive at the same moment the operation delivers them instead.
    fn interrupt(&self) {
        if self.reading.busy.get() {
            self.interrupted.set(true);
            sys::cancel(&self.socket);
        }
    }

    async fn finish(&self, _until: Deadline) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn stop_writing(&self) {
        // Fails only when there is no connection any more.
        let _ = self.shutdown(Shutdown::Write);
    }

    /// The peer gets a reset (RST), never a FIN, and what it has not been sent yet is dropped.
    fn abort(&self) {
        if sys::reset(&self.socket).is_err() {
            let socket = SockRef::from(&*self.socket);
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    async fn closed(&self) {
        loop {
            match sys::poll_closed(&self.socket).await.0 {
                // A cancelled read side takes this wait with it.
                Err(error) if is_retry(&error) => {}
                _ => return,
            }
        }
    }

    fn hang_up(&self) {
        // Fails only when there is no connection any more.
        let _ = self.shutdown(Shutdown::Both);
    }

    fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let seen = SockRef::from(&*self.socket).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
        seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn is_broken(&self) -> bool {
        sys::is_broken(&self.socket)
    }

    fn peer(&self) -> Option<SocketAddr> {
        Some(self.peer_addr())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.reading.busy.get() || self.writing.busy.get() {
            self.abort();
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({})", self.peer)
    }
}

/// Sets what every connection of the gate wants; connections inherit it from their listener.
///
/// No `SO_RCVBUF` and `SO_SNDBUF`: they switch the kernel's autotuning off. No `TCP_USER_TIMEOUT`: it would also break
/// off a client that pauses a film and so keeps its window closed; how long that may last is the deadlines' business.
///
/// # Errors
/// What setsockopt(2) says.
pub(super) fn tune(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&probes.with_retries(KEEPALIVE_PROBES))
}

/// One direction of a stream: whether an operation is in flight, and the timer that watches it.
///
/// The timer is not set anew for every operation. It is left ticking for an earlier deadline and, should it go off
/// before the present one, set again: microsecond operations under minute deadlines hardly ever touch the timer wheel.
#[derive(Default)]
struct Side {
    busy: Cell<bool>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Side {
    /// Awaits `op` until the deadline; `None` leaves it in flight.
    async fn race<T: Unpin>(&self, op: &mut InFlight<T>, until: Deadline) -> Option<(io::Result<usize>, T)> {
        let Some(at) = until.instant() else {
            return Some(op.await);
        };
        poll_fn(|context| match Pin::new(&mut *op).poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll_expired(at, context).map(|()| None),
        })
        .await
    }

    fn poll_expired(&self, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() == at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

/// Whether an operation ended without having done anything, by a cancellation or a signal.
fn is_retry(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR))
}

const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{listen, runtime};

    #[test]
    fn an_accepted_connection_inherits_the_options_of_its_listener() {
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = async move || {
            let _client = std::net::TcpStream::connect(address).unwrap();
            let listen::Accept::Client(stream, _) = listen::Listener::from_std(listener).unwrap().accept().await else {
                panic!("the listener is closed");
            };
            let socket = SockRef::from(&*stream.socket);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        };
        runtime::run_shard(None, 8, accepted).unwrap();
    }
}
