//! A link in memory, with room for so many bytes each way.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use filmgate::buffer::Buffer;
use filmgate::clock::Deadline;
use filmgate::link::Link;

/// One direction.
#[derive(Default)]
struct Channel {
    bytes: RefCell<VecDeque<u8>>,
    capacity: usize,
    has_ended: Cell<bool>,
    is_broken: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Channel {
    fn wake(&self) {
        self.wakers.take().into_iter().for_each(Waker::wake);
    }

    fn pending<T>(&self, context: &Context<'_>) -> Poll<T> {
        self.wakers.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }
}

/// One end.
pub(crate) struct Memory {
    inbox: Rc<Channel>,
    outbox: Rc<Channel>,
    is_reading: Cell<bool>,
    is_writing: Cell<bool>,
    is_interrupted: Cell<bool>,
}

/// Two ends with `capacity` bytes of room each way.
pub(crate) fn ends(capacity: usize) -> (Memory, Memory) {
    let channel = || Rc::new(Channel { capacity, ..Channel::default() });
    let (there, back) = (channel(), channel());
    let end = |inbox: &Rc<Channel>, outbox: &Rc<Channel>| Memory {
        inbox: Rc::clone(inbox),
        outbox: Rc::clone(outbox),
        is_reading: Cell::new(false),
        is_writing: Cell::new(false),
        is_interrupted: Cell::new(false),
    };
    (end(&back, &there), end(&there, &back))
}

async fn by<T>(until: Deadline, mut attempt: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    let far = std::time::Duration::from_secs(3600);
    let at = until.instant().unwrap_or_else(|| filmgate::clock::mono() + far);
    let mut alarm = pin!(tokio::time::sleep_until(at));
    poll_fn(|context| match attempt(context) {
        Poll::Pending => alarm.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        ready => ready,
    })
    .await
}

impl Memory {
    fn poll_readable(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        if self.is_interrupted.take() {
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        }
        if self.inbox.is_broken.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.inbox.has_ended.get() || !self.inbox.bytes.borrow().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.inbox.pending(context)
    }
}

impl Link for Memory {
    async fn readable(&self, until: Deadline) -> io::Result<()> {
        assert!(!self.is_reading.replace(true), "one read at a time");
        let result = by(until, |context| self.poll_readable(context)).await;
        self.is_reading.set(false);
        result
    }

    async fn read(&self, mut into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        assert!(into.room() > 0);
        let result = self.readable(until).await.map(|()| {
            let mut bytes = self.inbox.bytes.borrow_mut();
            let n = bytes.len().min(into.room());
            let taken: Vec<u8> = bytes.drain(..n).collect();
            into.append(&taken)
        });
        self.inbox.wake();
        (result, into)
    }

    async fn write_all(&self, mut from: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        assert!(!self.is_writing.replace(true), "one write at a time");
        let result = by(until, |context| {
            if self.outbox.is_broken.get() || self.outbox.has_ended.get() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let room = self.outbox.capacity - self.outbox.bytes.borrow().len();
            let n = room.min(from.len());
            self.outbox.bytes.borrow_mut().extend(&from.filled()[..n]);
            from.consume(n);
            if n > 0 {
                self.outbox.wake();
            }
            if from.is_empty() { Poll::Ready(Ok(())) } else { self.outbox.pending(context) }
        });
        let result = result.await;
        self.is_writing.set(false);
        (result, from)
    }

    fn interrupt(&self) {
        if self.is_reading.get() {
            self.is_interrupted.set(true);
            self.inbox.wake();
        }
    }

    async fn finish(&self, _until: Deadline) -> io::Result<()> {
        self.outbox.has_ended.set(true);
        self.outbox.wake();
        Ok(())
    }

    async fn closed(&self) {
        std::future::pending().await
    }

    fn hang_up(&self) {
        self.stop_writing();
    }

    fn stop_writing(&self) {
        self.outbox.has_ended.set(true);
        self.outbox.wake();
    }

    fn abort(&self) {
        for channel in [&self.inbox, &self.outbox] {
            channel.is_broken.set(true);
            channel.wake();
        }
    }
}

/// Runs a test under a clock that jumps over waits.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(std::time::Duration::from_secs(5))
}

pub(crate) fn buffer_of(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::detached(bytes.len());
    buffer.append(bytes);
    buffer
}
