//! A TCP connection on the ring.
//!
//! The ring does not cancel what is dropped, so no operation here is ever dropped in flight. At a deadline the read side
//! is cancelled and *then awaited*: if bytes arrived in between they are delivered. The write side cannot be taken back,
//! so its deadline shuts the sending direction down.

mod kernel;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::time::Sleep;

use super::sys::{self, InFlight, Socket, Watch};
use crate::buffer::Buffer;
use crate::clock::{Deadline, Instant};
use crate::link::{Direction, KernelTls, Link, NotData, RecordKey};
use crate::pipe::{Ends, Pipe};
use kernel::InKernel;

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
    /// Whether a wait has just ended with something to read: then a system call has it sooner than a turn of the ring.
    is_readable: Cell<bool>,
    /// Whether the socket is non-blocking. Splicing needs that; operations of the ring would rather not have it, because
    /// they then fail where they would have waited, but they only lose a turn by it.
    nonblocking: Cell<bool>,
    /// Tells when splicing can go on. The ring could too, but takes four system calls to do so where this takes two.
    watch: RefCell<Option<Watch>>,
    /// What the kernel may be asked to do of TLS.
    kernel_tls: Option<KernelTls>,
    /// What the kernel does of it.
    in_kernel: Cell<InKernel>,
}

impl Stream {
    /// Takes over a connected, blocking socket on which [`tune`] has been called, or on its listener.
    pub(super) fn new(socket: OwnedFd, peer: SocketAddr) -> Self {
        Self::shared(Rc::new(socket), peer)
    }

    /// As [`new`](Self::new) for a socket that has been on the ring already.
    pub(super) fn shared(socket: Socket, peer: SocketAddr) -> Self {
        Self {
            socket,
            peer,
            reading: Side::default(),
            writing: Side::default(),
            interrupted: Cell::new(false),
            is_readable: Cell::new(false),
            nonblocking: Cell::new(false),
            watch: RefCell::default(),
            kernel_tls: None,
            in_kernel: Cell::default(),
        }
    }

    /// The same stream, whose TLS records may be left to the kernel.
    #[must_use]
    pub fn with_kernel_tls(mut self, kernel_tls: Option<KernelTls>) -> Self {
        self.kernel_tls = kernel_tls;
        self
    }

    /// The other end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Awaits a read-side operation, cancelled at the deadline. `Ok(None)`: it has to be done again.
    async fn read_side<T: Unpin>(&self, mut op: InFlight<T>, until: Deadline) -> (io::Result<Option<usize>>, T) {
        debug_assert!(!self.reading.busy.get(), "two read-side operations at once on one link");
        self.unwatch();
        self.reading.busy.set(true);
        self.interrupted.set(false);
        let mut timed_out = false;
        let at_deadline = || {
            timed_out = true;
            sys::cancel(&self.socket);
        };
        let (result, thing) = self.reading.complete(&mut op, until, at_deadline).await;
        self.reading.busy.set(false);
        let result = match result {
            Err(error) if is_retry(&error) && timed_out => Err(io::ErrorKind::TimedOut.into()),
            Err(error) if is_retry(&error) && self.interrupted.get() => Err(io::ErrorKind::Interrupted.into()),
            Err(error) if is_retry(&error) => Ok(None),
            other => other.map(Some),
        };
        (result, thing)
    }

    /// Waits, without an operation in the ring, until something can be spliced in or out after it could not.
    ///
    /// Only this thread's driver notes readiness, so what is noted when the wait begins is older than a system call that
    /// failed in the same turn, and is forgotten: it `is_stale`. The failure of an operation of the ring may be the older.
    async fn ready(&self, way: Way, mut is_stale: bool, until: Deadline) -> io::Result<()> {
        if self.watch.borrow().is_none() {
            *self.watch.borrow_mut() = Some(sys::watch(&self.socket)?);
        }
        let side = match way {
            Way::In => &self.reading,
            Way::Out => &self.writing,
        };
        let result = poll_fn(|context| {
            let watch = self.watch.borrow();
            let Some(watch) = &*watch else { return Poll::Ready(Ok(())) };
            loop {
                let ready = match way {
                    Way::In => watch.poll_read_ready(context),
                    Way::Out => watch.poll_write_ready(context),
                };
                match ready {
                    Poll::Ready(Ok(mut guard)) if is_stale => guard.clear_ready(),
                    Poll::Ready(result) => {
                        return Poll::Ready(result.map(|mut guard| guard.clear_ready()));
                    }
                    Poll::Pending => break,
                }
                is_stale = false;
            }
            is_stale = false;
            if way == Way::In && self.interrupted.get() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            side.waker.set(Some(context.waker().clone()));
            match until.instant() {
                Some(at) => side.poll_expired(at, context).map(|()| Err(io::ErrorKind::TimedOut.into())),
                None => Poll::Pending,
            }
        });
        let result = result.await;
        side.waker.take();
        if way == Way::Out && result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            // Fails only when the connection is gone. What was said half is not to be gone on with.
            let _ = self.shutdown(Shutdown::Write);
        }
        result
    }

    /// Calls `splice` until it neither would have to wait nor was disturbed.
    async fn splice(&self, way: Way, until: Deadline, splice: impl Fn() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            self.set_nonblocking(true)?;
            match splice() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready(way, true, until).await?,
                Err(error) if is_retry(&error) => {}
                result => return result,
            }
        }
    }

    /// Ends the watch over a socket that is not being spliced any more: it would go on waking the thread.
    fn unwatch(&self) {
        if !self.reading.busy.get() && !self.writing.busy.get() {
            self.watch.take();
        }
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        if self.nonblocking.get() != nonblocking {
            sys::set_nonblocking(&self.socket, nonblocking)?;
            self.nonblocking.set(nonblocking);
        }
        Ok(())
    }

    /// Receives into the room of `into`.
    async fn receive(&self, mut into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        if into.room() == 0 {
            return (Err(io::Error::new(io::ErrorKind::InvalidInput, "read into a full buffer")), into);
        }
        if self.is_readable.take() {
            match sys::recv_now(&self.socket, into.spare_mut()) {
                Ok(n) => {
                    into.commit(n);
                    return (Ok(n), into);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_retry(&error) => {}
                Err(error) => return (Err(error), into),
            }
        }
        loop {
            if let Err(error) = self.set_nonblocking(false) {
                return (Err(error), into);
            }
            let result;
            (result, into) = self.read_side(sys::recv(&self.socket, into), until).await;
            match result {
                Ok(None) => {}
                // The other direction began to splice before this operation was submitted.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.readable(until).await {
                        return (Err(error), into);
                    }
                }
                Ok(Some(n)) => {
                    into.commit(n);
                    return (Ok(n), into);
                }
                Err(error) => return (Err(error), into),
            }
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.check_unbroken()?;
        SockRef::from(&*self.socket).shutdown(how)
    }
}

impl Link for Stream {
    async fn readable(&self, until: Deadline) -> io::Result<()> {
        loop {
            match self.read_side(sys::poll_readable(&self.socket), until).await {
                (Ok(None), ()) => {}
                (Ok(Some(_)), ()) => {
                    self.is_readable.set(true);
                    return Ok(());
                }
                (Err(error), ()) => return Err(error),
            }
        }
    }

    async fn read(&self, into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        let (result, into) = self.receive(into, until).await;
        (result.map_err(|error| self.explain(error)), into)
    }

    async fn write_all(&self, mut from: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        debug_assert!(!self.writing.busy.get(), "two writes at once on one link");
        self.unwatch();
        self.writing.busy.set(true);
        let mut outcome = self.check_unbroken();
        while outcome.is_ok() && !from.is_empty() {
            outcome = self.set_nonblocking(false);
            let mut op = sys::send(&self.socket, from, self.has_keys());
            let mut timed_out = false;
            let at_deadline = || {
                timed_out = true;
                // Fails only when the connection is gone, and then the operation ends by itself.
                let _ = self.shutdown(Shutdown::Write);
            };
            let result;
            (result, from) = self.writing.complete(&mut op, until, at_deadline).await;
            match &result {
                _ if timed_out => outcome = Err(io::ErrorKind::TimedOut.into()),
                Ok(n) => from.consume(*n),
                // A cancelled read side takes the write with it; the kernel says how far it got, so go on from there.
                Err(error) if is_retry(error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outcome = self.ready(Way::Out, false, until).await
                }
                Err(_) => outcome = result.map(drop),
            }
        }
        self.writing.busy.set(false);
        (outcome, from)
    }

    fn can_splice(&self) -> bool {
        true
    }

    async fn splice_in(&self, pipe: &mut Pipe, max: u64, until: Deadline) -> io::Result<usize> {
        debug_assert!(!self.reading.busy.get(), "two read-side operations at once on one link");
        debug_assert!(pipe.is_empty(), "a full pipe and an empty socket look the same");
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(pipe.ends().capacity);
        self.reading.busy.set(true);
        self.interrupted.set(false);
        let result = self.splice(Way::In, until, || sys::splice(&*self.socket, &pipe.ends().writer, max)).await;
        self.reading.busy.set(false);
        pipe.filled(*result.as_ref().unwrap_or(&0));
        result.map_err(|error| self.explain_splice(error))
    }

    async fn splice_out(&self, pipe: &mut Pipe, until: Deadline) -> io::Result<()> {
        debug_assert!(!self.writing.busy.get() && !pipe.is_empty(), "two writes at once, or nothing to write");
        self.check_unbroken()?;
        self.writing.busy.set(true);
        let result = self.splice(Way::Out, until, || sys::splice(&pipe.ends().reader, &*self.socket, pipe.len())).await;
        self.writing.busy.set(false);
        pipe.drained(*result.as_ref().unwrap_or(&0));
        result.map(drop)
    }

    /// When bytes arrive at the same moment the operation delivers them instead.
    fn interrupt(&self) {
        if self.reading.busy.get() {
            self.interrupted.set(true);
            match self.reading.waker.take() {
                Some(waker) => waker.wake(),
                None => sys::cancel(&self.socket),
            }
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
            self.abort_by_closing();
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
        self.peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn is_broken(&self) -> bool {
        self.check_unbroken().is_err() || sys::is_broken(&self.socket)
    }

    fn kernel_tls(&self) -> Option<KernelTls> {
        self.kernel_tls
    }

    fn hand_keys(&self, send: &RecordKey<'_>, receive: &RecordKey<'_>) -> io::Result<bool> {
        self.take_over_records(send, receive)
    }

    fn next_key(&self, direction: Direction, key: &RecordKey<'_>) -> io::Result<()> {
        sys::set_record_key(&*self.socket, direction, key)
    }

    fn is_control_next(&self) -> bool {
        self.peek().is_err_and(|error| NotData::is(&self.explain(error)))
    }

    fn read_control(&self, into: &mut [u8]) -> io::Result<(u8, usize)> {
        sys::recv_record(&*self.socket, into).map_err(|error| self.explain(error))
    }

    async fn write_control(&self, kind: u8, content: &[u8], until: Deadline) -> io::Result<()> {
        self.send_control(kind, content, until).await
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

/// Opens a pipe for [`Link::splice_in`] and [`Link::splice_out`].
///
/// # Errors
/// When the system gives no pipe, or only a tiny one.
pub fn pipe() -> io::Result<Ends> {
    sys::pipe()
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
    /// Whom to wake out of a wait for readiness.
    waker: Cell<Option<Waker>>,
}

/// Where spliced bytes go: from the socket or into it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Side {
    /// Awaits `op`. At the deadline it does what will end `op` soon, and goes on waiting.
    fn complete<T: Unpin>(
        &self,
        op: &mut InFlight<T>,
        until: Deadline,
        mut at_deadline: impl FnMut(),
    ) -> impl Future<Output = (io::Result<usize>, T)> {
        let mut waits_until = until.instant();
        poll_fn(move |context| {
            let done = Pin::new(&mut *op).poll(context);
            if done.is_pending()
                && let Some(at) = waits_until
                && self.poll_expired(at, context).is_ready()
            {
                waits_until = None;
                at_deadline();
            }
            done
        })
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
