//! `SimLink`: the seam to the kernel, played in memory under tokio's paused clock.
//!
//! Each link has a near end, which the code under test holds, and a far end, which a script holds. Whatever the rules of
//! [`filmgate::link`] ask of callers is watched at both ends and written down in [`World::violations`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use filmgate::buffer::Buffer;
use filmgate::clock::Deadline;
use filmgate::link::Link;
use filmgate::pipe::{self, Ends};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::faults::{Cut, Direction, LinkFaults};
use crate::rng::Rng;

/// What one seed's world remembers.
pub struct World {
    pub seed: u64,
    /// Broken rules, in the order they were broken.
    pub violations: RefCell<Vec<String>>,
    /// Set before the world is torn down: what is dropped then was not dropped by anyone's fault.
    pub over: Cell<bool>,
    /// Near ends that are alive.
    pub near_open: Cell<i64>,
    operations: Cell<u64>,
    /// Says everything that happens: `SIM_TRACE=1`.
    traced: bool,
    start: Instant,
}

impl World {
    pub fn new(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            seed,
            violations: RefCell::default(),
            over: Cell::new(false),
            near_open: Cell::new(0),
            operations: Cell::new(0),
            traced: std::env::var_os("SIM_TRACE").is_some(),
            start: Instant::now(),
        })
    }

    pub fn violation(&self, what: String) {
        if !self.over.get() {
            self.violations.borrow_mut().push(what);
        }
    }

    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>12.6} {}", self.start.elapsed().as_secs_f64(), what());
        }
    }

    fn count_operation(&self) {
        self.operations.set(self.operations.get() + 1);
        assert!(self.operations.get() < OPERATIONS_MAX, "seed {}: a loop that never ends", self.seed);
    }
}

/// Which end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The code under test.
    Near = 0,
    /// The script.
    Far = 1,
}

/// One end of a simulated connection.
pub struct SimLink {
    world: Rc<World>,
    name: String,
    wire: Rc<Wire>,
    end: End,
    reading: Cell<bool>,
    writing: Cell<bool>,
    interrupted: Cell<bool>,
    hung_up: Cell<bool>,
}

/// Both directions. `pipes[end]` is what that end writes.
struct Wire {
    pipes: [RefCell<Pipe>; 2],
    rng: Rng,
    /// The ends that are no more: the far one once it has met its cut, either one after its own abort.
    gone: [Cell<bool>; 2],
}

struct Pipe {
    direction: Direction,
    /// Chunks with the moment at which each can be read.
    chunks: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes of the first chunk that were read.
    consumed: usize,
    in_flight: usize,
    /// Bytes the reader has taken.
    taken: Rc<Cell<u64>>,
    written: u64,
    /// Nothing written earlier arrives later than this.
    newest: Instant,
    /// The writer is done; the reader sees the end after the last chunk.
    finished: bool,
    /// Nothing that comes now arrives.
    stalled: bool,
    /// The reader is gone: writes fail.
    unread: bool,
    /// Broken off: both ends fail.
    broken: Option<io::ErrorKind>,
    reader: Option<Waker>,
    watcher: Option<Waker>,
    writer: Option<Waker>,
}

/// A new connection: what the gate holds and what the script holds.
pub fn pair(world: &Rc<World>, name: &str, faults: LinkFaults, rng: &Rng) -> (SimLink, SimLink) {
    world.trace(|| format!("{name}: connected, {faults:?}"));
    let pipes = [RefCell::new(Pipe::new(faults.outward)), RefCell::new(Pipe::new(faults.inward))];
    let wire = Rc::new(Wire { pipes, rng: rng.fork(), gone: Default::default() });
    world.near_open.set(world.near_open.get() + 1);
    let end = |end: End| SimLink {
        world: Rc::clone(world),
        name: name.to_owned(),
        wire: Rc::clone(&wire),
        end,
        reading: Cell::new(false),
        writing: Cell::new(false),
        interrupted: Cell::new(false),
        hung_up: Cell::new(false),
    };
    (end(End::Near), end(End::Far))
}

/// A pipe of the system's own, through which simulated links splice without ever waiting for it.
pub fn open_pipe() -> io::Result<Ends> {
    io::pipe().map(|(reader, writer)| Ends { reader, writer, capacity: 64 * 1024 })
}

impl Link for SimLink {
    async fn readable(&self, until: Deadline) -> io::Result<()> {
        let operation = Operation::begin(self, &self.reading, "read");
        let result = self.wait_readable(until).await;
        self.trace(|| format!("readable: {result:?}"));
        operation.end();
        result
    }

    async fn read(&self, mut into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        if into.room() == 0 {
            self.violation("read into a buffer without room");
            return (Err(io::ErrorKind::InvalidInput.into()), into);
        }
        let operation = Operation::begin(self, &self.reading, "read");
        let mut result = self.wait_readable(until).await.map(|()| 0);
        if result.is_ok() {
            let n = self.incoming().borrow_mut().take(into.spare_mut(), &self.wire.rng);
            into.commit(n);
            result = Ok(n);
        }
        self.trace(|| format!("read: {result:?}"));
        operation.end();
        (result, into)
    }

    async fn write_all(&self, mut from: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        let result = self.write(&mut from, until).await;
        from.clear();
        (result, from)
    }

    fn can_splice(&self) -> bool {
        true
    }

    async fn splice_in(&self, pipe: &mut pipe::Pipe, max: u64, until: Deadline) -> io::Result<usize> {
        if !pipe.is_empty() {
            self.violation("splice into a pipe that holds bytes");
        }
        if max == 0 {
            self.violation("splice of no bytes");
        }
        let operation = Operation::begin(self, &self.reading, "read");
        let mut result = self.wait_readable(until).await.map(|()| 0);
        if result.is_ok() {
            let mut bytes = vec![0; pipe.ends().capacity.min(usize::try_from(max).unwrap_or(usize::MAX))];
            let n = self.incoming().borrow_mut().take(&mut bytes, &self.wire.rng);
            (&pipe.ends().writer).write_all(&bytes[..n]).unwrap();
            pipe.filled(n);
            result = Ok(n);
        }
        self.trace(|| format!("splice in: {result:?}"));
        operation.end();
        result
    }

    async fn splice_out(&self, pipe: &mut pipe::Pipe, until: Deadline) -> io::Result<()> {
        if pipe.is_empty() {
            self.violation("splice out of an empty pipe");
        }
        // The kernel takes what there is room for.
        let n = if self.wire.rng.chance(500) { pipe.len() } else { self.wire.rng.between(1, pipe.len()) };
        let mut from = Buffer::detached(n);
        (&pipe.ends().reader).read_exact(from.spare_mut()).unwrap();
        from.commit(n);
        let result = self.write(&mut from, until).await;
        pipe.drained(n - from.len());
        result
    }

    fn interrupt(&self) {
        if self.writing.get() {
            self.violation("interrupt while a write is in flight");
        }
        self.trace(|| format!("interrupt, reading: {}", self.reading.get()));
        if self.reading.get() {
            self.interrupted.set(true);
            wake(&mut self.incoming().borrow_mut().reader);
        }
    }

    async fn finish(&self, _until: Deadline) -> io::Result<()> {
        if self.writing.get() {
            self.violation("finish while a write is in flight");
        }
        self.trace(|| "finish".to_owned());
        let mut pipe = self.outgoing().borrow_mut();
        if let Some(kind) = pipe.broken {
            return Err(kind.into());
        }
        pipe.finish();
        Ok(())
    }

    fn stop_writing(&self) {
        self.trace(|| "stop writing".to_owned());
        let mut pipe = self.outgoing().borrow_mut();
        pipe.finish();
        wake(&mut pipe.writer);
    }

    async fn closed(&self) {
        let mut timer = None;
        poll_fn(|cx| self.poll_closed(cx, &mut timer)).await;
        self.trace(|| "closed".to_owned());
    }

    fn hang_up(&self) {
        self.trace(|| "hang up".to_owned());
        self.stop_writing();
        self.hung_up.set(true);
        let mut incoming = self.incoming().borrow_mut();
        wake(&mut incoming.reader);
        wake(&mut incoming.watcher);
    }

    fn is_quiet(&self) -> bool {
        let pipe = self.incoming().borrow();
        pipe.broken.is_none() && pipe.arrives().is_none_or(|at| at > Instant::now())
    }

    fn abort(&self) {
        self.trace(|| "abort".to_owned());
        self.wire.gone[self.end as usize].set(true);
        self.wire.break_off(io::ErrorKind::ConnectionReset);
        // Its own operations end even where the network has forgotten the peer.
        let mut incoming = self.incoming().borrow_mut();
        wake(&mut incoming.reader);
        wake(&mut incoming.watcher);
        wake(&mut self.outgoing().borrow_mut().writer);
    }
}

impl SimLink {
    /// Counts what the other end has read so far, and goes on counting when this end is gone.
    pub fn taken(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.outgoing().borrow().taken)
    }

    fn incoming(&self) -> &RefCell<Pipe> {
        &self.wire.pipes[1 - self.end as usize]
    }

    fn outgoing(&self) -> &RefCell<Pipe> {
        &self.wire.pipes[self.end as usize]
    }

    fn violation(&self, what: &str) {
        self.world.violation(format!("{} ({:?} end): {what}", self.name, self.end));
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        self.world.trace(|| format!("{} {:?}: {}", self.name, self.end, what()));
    }

    fn is_gone(&self) -> bool {
        self.wire.gone[self.end as usize].get()
    }

    async fn write(&self, from: &mut Buffer, until: Deadline) -> io::Result<()> {
        let operation = Operation::begin(self, &self.writing, "write");
        let mut timer = None;
        let length = from.len();
        let result = poll_fn(|cx| self.poll_write(cx, from, until, &mut timer)).await;
        if result.is_err() {
            // Part of it may have gone out: no later write may follow it.
            self.outgoing().borrow_mut().unread = true;
        }
        // A ring may tell of a completed write after the peer has answered it.
        if self.end == End::Near && self.wire.rng.chance(300) {
            tokio::task::yield_now().await;
        }
        self.trace(|| format!("write: {result:?}, {} of {length}", length - from.len()));
        operation.end();
        result
    }

    async fn wait_readable(&self, until: Deadline) -> io::Result<()> {
        let mut timer = None;
        poll_fn(|cx| self.poll_readable(cx, until, &mut timer)).await
    }

    /// The end of the peer's sending shows when it arrives, whether or not what came before it has been read.
    fn poll_closed(&self, cx: &mut Context<'_>, timer: &mut Timer) -> Poll<()> {
        loop {
            let mut pipe = self.incoming().borrow_mut();
            let ends_at = (pipe.finished && !pipe.stalled).then_some(pipe.newest);
            let has_ended = ends_at.is_some_and(|at| at <= Instant::now());
            if has_ended || pipe.broken.is_some() || self.is_gone() || self.hung_up.get() {
                return Poll::Ready(());
            }
            pipe.watcher = Some(cx.waker().clone());
            drop(pipe);
            if poll_timer(timer, ends_at, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_readable(&self, cx: &mut Context<'_>, until: Deadline, timer: &mut Timer) -> Poll<io::Result<()>> {
        self.world.count_operation();
        loop {
            let mut pipe = self.incoming().borrow_mut();
            let now = Instant::now();
            let arrived = pipe.arrives().is_some_and(|at| at <= now);
            // An interrupt and an arrival race each other; either may win.
            if self.interrupted.get() && !(arrived && self.wire.rng.chance(500)) {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            if self.is_gone() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if let Some(kind) = pipe.broken.filter(|_| pipe.chunks.is_empty()) {
                return Poll::Ready(Err(kind.into()));
            }
            if arrived {
                return Poll::Ready(Ok(()));
            }
            if until.instant().is_some_and(|at| at <= now) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            pipe.reader = Some(cx.waker().clone());
            let next = [pipe.arrives(), until.instant()].into_iter().flatten().min();
            drop(pipe);
            if poll_timer(timer, next, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        from: &mut Buffer,
        until: Deadline,
        timer: &mut Timer,
    ) -> Poll<io::Result<()>> {
        self.world.count_operation();
        loop {
            let mut pipe = self.outgoing().borrow_mut();
            if let Some(kind) = pipe.broken {
                return Poll::Ready(Err(kind.into()));
            }
            if pipe.unread || pipe.finished || self.is_gone() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if from.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let taken = pipe.put(from.filled(), &self.wire.rng);
            from.consume(taken);
            let written = pipe.written;
            if let Some((_, how)) = pipe.direction.cut.take_if(|(at, _)| *at <= written) {
                drop(pipe);
                self.wire.cut(&self.world, &self.name, how);
                continue;
            }
            if taken > 0 {
                continue;
            }
            if until.instant().is_some_and(|at| at <= Instant::now()) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            pipe.writer = Some(cx.waker().clone());
            drop(pipe);
            if poll_timer(timer, until.instant(), cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for SimLink {
    /// As the kernel closes a socket: FIN when everything was read, RST when the peer's bytes are thrown away.
    fn drop(&mut self) {
        self.trace(|| format!("drop, unread: {}", self.incoming().borrow().in_flight));
        if self.end == End::Near {
            self.world.near_open.set(self.world.near_open.get() - 1);
        }
        if self.incoming().borrow().in_flight > 0 && !self.is_gone() {
            self.wire.break_off(io::ErrorKind::ConnectionReset);
            return;
        }
        let mut incoming = self.incoming().borrow_mut();
        incoming.unread = true;
        wake(&mut incoming.writer);
        drop(incoming);
        self.outgoing().borrow_mut().finish();
    }
}

impl Wire {
    /// RST: the peer learns it at once and may lose what it had not read yet.
    fn break_off(&self, kind: io::ErrorKind) {
        for pipe in &self.pipes {
            let mut pipe = pipe.borrow_mut();
            if pipe.stalled {
                continue;
            }
            pipe.broken.get_or_insert(kind);
            if self.rng.chance(500) {
                pipe.chunks.clear();
                pipe.consumed = 0;
                pipe.in_flight = 0;
            }
            wake(&mut pipe.reader);
            wake(&mut pipe.watcher);
            wake(&mut pipe.writer);
        }
    }

    fn cut(&self, world: &World, name: &str, how: Cut) {
        world.trace(|| format!("{name}: cut, {how:?}"));
        match how {
            Cut::Reset => {
                self.gone[End::Far as usize].set(true);
                self.break_off(io::ErrorKind::ConnectionReset);
            }
            Cut::Close => {
                self.gone[End::Far as usize].set(true);
                self.pipes[End::Far as usize].borrow_mut().finish();
                let mut near = self.pipes[End::Near as usize].borrow_mut();
                near.unread = true;
                wake(&mut near.writer);
                wake(&mut near.reader);
                wake(&mut self.pipes[End::Far as usize].borrow_mut().writer);
            }
            Cut::Stall => self.pipes.iter().for_each(|pipe| pipe.borrow_mut().stalled = true),
        }
    }
}

impl Pipe {
    fn new(direction: Direction) -> Self {
        Self {
            direction,
            chunks: VecDeque::new(),
            consumed: 0,
            in_flight: 0,
            taken: Rc::default(),
            written: 0,
            newest: Instant::now(),
            finished: false,
            stalled: false,
            unread: false,
            broken: None,
            reader: None,
            watcher: None,
            writer: None,
        }
    }

    /// When a reader finds something: bytes or the end.
    fn arrives(&self) -> Option<Instant> {
        match self.chunks.front() {
            Some((at, _)) => Some(*at),
            None if self.finished && !self.stalled => Some(self.newest),
            None => None,
        }
    }

    fn put(&mut self, from: &[u8], rng: &Rng) -> usize {
        let room = self.direction.window_bytes.saturating_sub(self.in_flight);
        let until_cut = self.direction.cut.map_or(u64::MAX, |(at, _)| at.saturating_sub(self.written));
        let n = from.len().min(room).min(usize::try_from(until_cut).unwrap_or(usize::MAX));
        if n == 0 {
            return 0;
        }
        self.in_flight += n;
        self.written += n as u64;
        if self.stalled {
            return n;
        }
        let now = Instant::now();
        let late = self.direction.delay_permille > 0 && rng.chance(self.direction.delay_permille);
        let delay = if late { rng.below(self.direction.delay_max.as_micros() as u64 + 1) } else { 0 };
        self.newest = self.newest.max(now + Duration::from_micros(delay));
        self.chunks.push_back((self.newest, from[..n].to_vec()));
        wake(&mut self.reader);
        n
    }

    /// Moves what has arrived, in one go up to the read limit.
    fn take(&mut self, into: &mut [u8], rng: &Rng) -> usize {
        let limit = self.direction.read_bytes_max.map_or(into.len(), |max| into.len().min(rng.between(1, max)));
        let now = Instant::now();
        let mut n = 0;
        while let Some((at, chunk)) = self.chunks.front() {
            if n == limit || *at > now {
                break;
            }
            let part = (chunk.len() - self.consumed).min(limit - n);
            into[n..n + part].copy_from_slice(&chunk[self.consumed..self.consumed + part]);
            n += part;
            self.consumed += part;
            if self.consumed == chunk.len() {
                self.chunks.pop_front();
                self.consumed = 0;
            }
        }
        self.in_flight -= n;
        self.taken.set(self.taken.get() + n as u64);
        if n > 0 {
            wake(&mut self.writer);
        }
        n
    }

    fn finish(&mut self) {
        self.finished = true;
        wake(&mut self.reader);
        wake(&mut self.watcher);
    }
}

/// Watches that an operation is alone on its side and is awaited to its end.
struct Operation<'a> {
    link: &'a SimLink,
    flag: &'a Cell<bool>,
    side: &'static str,
    ended: bool,
}

impl<'a> Operation<'a> {
    fn begin(link: &'a SimLink, flag: &'a Cell<bool>, side: &'static str) -> Self {
        if flag.replace(true) {
            link.violation(&format!("a second {side} operation while one is in flight"));
        }
        Self { link, flag, side, ended: false }
    }

    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.flag.set(false);
        if self.side == "read" {
            self.link.interrupted.set(false);
        }
        if !self.ended {
            self.link.violation(&format!("a {} operation was dropped in flight", self.side));
        }
    }
}

type Timer = Option<Pin<Box<Sleep>>>;

/// Ready once `at` has come; pending for ever without one.
fn poll_timer(timer: &mut Timer, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(at) = at else { return Poll::Pending };
    let sleep = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
    if sleep.deadline() != at {
        sleep.as_mut().reset(at);
    }
    sleep.as_mut().poll(cx)
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Polls of one seed; more is a loop that does not wait.
const OPERATIONS_MAX: u64 = 5_000_000;
