//! Connecting to upstreams: spread over all addresses, past the dead ones.
//!
//! Attempts are raced in the manner of RFC 8305 §5: the next address is tried when the one before has failed or has not
//! answered for [`limits::DIAL_STAGGER`], and the first connection wins.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Type};

use super::resolve::Addresses;
use super::sys::{self, InFlight, Socket};
use super::uring::{Stream, tune};
use crate::clock::{self, Deadline, Instant};
use crate::limits;
use crate::link::{Dial, DialError, KernelTls};

/// Opens connections to upstreams for one shard.
pub struct Dialer {
    addresses: Arc<Addresses>,
    turn: Cell<usize>,
    quarantine: RefCell<Quarantine>,
    kernel_tls: Option<KernelTls>,
}

impl Dialer {
    /// A dialer that starts at the `seed`-th address: a different number in every shard spreads the first connections.
    #[must_use]
    pub fn new(addresses: Arc<Addresses>, seed: usize) -> Self {
        Self { addresses, turn: Cell::new(seed), quarantine: RefCell::default(), kernel_tls: None }
    }

    /// The same dialer, for connections whose TLS records may be left to the kernel.
    #[must_use]
    pub fn with_kernel_tls(self, kernel_tls: Option<KernelTls>) -> Self {
        Self { kernel_tls, ..self }
    }

    /// A dialer to other upstreams that avoids the same addresses.
    #[must_use]
    pub fn turned_to(&self, addresses: Arc<Addresses>, kernel_tls: Option<KernelTls>) -> Self {
        let (turn, quarantine) = (self.turn.clone(), self.quarantine.clone());
        Self { addresses, turn, quarantine, kernel_tls }
    }

    /// What the kernel may be asked to do of TLS.
    #[must_use]
    pub fn kernel_tls(&self) -> Option<KernelTls> {
        self.kernel_tls
    }

    /// Notes that `address` does not serve, so that others are preferred for a while. For failures that show only after
    /// the connection stands.
    pub fn blame(&self, address: SocketAddr) {
        self.quarantine.borrow_mut().blame(address, clock::mono());
    }

    /// All addresses in the order to try them: the healthy ones from a different start each time, then the bad ones.
    fn order(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let mut order = addresses.to_vec();
        if !order.is_empty() {
            order.rotate_left(turn % addresses.len());
        }
        let (quarantine, now) = (self.quarantine.borrow(), clock::mono());
        order.sort_by_key(|address| quarantine.until(*address, now));
        order
    }
}

impl Dial for Dialer {
    type Link = Stream;

    async fn dial(&self, upstream: usize, until: Deadline) -> Result<Stream, DialError> {
        let resolved = self.addresses.snapshot(upstream);
        if resolved.addresses.is_empty() {
            let why = resolved.error.clone().unwrap_or_else(|| "no answer has come yet".to_owned());
            return Err(DialError::Unresolved(why));
        }
        let waiting = self.order(&resolved.addresses).into_iter();
        let mut race = Race { dialer: self, waiting, running: Vec::new(), tried: 0, error: None };
        let outcome = race.run(until).await;
        race.wind_down();
        outcome
    }

    fn blame(&self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            Dialer::blame(self, address);
        }
    }
}

/// One dial.
struct Race<'a> {
    dialer: &'a Dialer,
    waiting: std::vec::IntoIter<SocketAddr>,
    running: Vec<Attempt>,
    tried: usize,
    error: Option<io::Error>,
}

struct Attempt {
    address: SocketAddr,
    socket: Socket,
    started: Instant,
    op: InFlight<Box<SockAddr>>,
}

impl Race<'_> {
    async fn run(&mut self, until: Deadline) -> Result<Stream, DialError> {
        self.start_next();
        while !self.running.is_empty() {
            let may_start = self.running.len() < limits::DIAL_RACE_MAX && self.waiting.len() > 0;
            let stagger = if may_start { Deadline::after(limits::DIAL_STAGGER) } else { Deadline::NEVER };
            match self.first_ended(stagger.min(until)).await {
                Some((attempt, Ok(()))) => return Ok(self.won(attempt)),
                Some((attempt, Err(error))) => {
                    if !is_local(&error) {
                        self.dialer.blame(attempt.address);
                    }
                    self.error = Some(error);
                    self.start_next();
                }
                None if until.instant().is_some_and(|at| clock::mono() >= at) => {
                    self.blame_slow(clock::mono());
                    return Err(DialError::TimedOut);
                }
                None => self.start_next(),
            }
        }
        let error = self.error.take().unwrap_or_else(|| io::ErrorKind::NotFound.into());
        Err(DialError::Unreachable(error, self.tried))
    }

    /// Starts an attempt on the next address that lets itself be attempted.
    fn start_next(&mut self) {
        for address in self.waiting.by_ref() {
            self.tried += 1;
            match open(address) {
                Ok(socket) => {
                    let op = sys::connect(&socket, address);
                    self.running.push(Attempt { address, socket, started: clock::mono(), op });
                    return;
                }
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// The attempt that ends next, or `None` at the deadline.
    async fn first_ended(&mut self, until: Deadline) -> Option<(Attempt, io::Result<()>)> {
        // A dial without any deadline and with nothing left to try still wakes up now and then; it costs nothing.
        let at = until.instant().unwrap_or_else(|| clock::mono() + Duration::from_secs(3600));
        let mut timer = pin!(tokio::time::sleep_until(at));
        let ended = poll_fn(|context| {
            for (index, attempt) in self.running.iter_mut().enumerate() {
                if let Poll::Ready((result, _)) = Pin::new(&mut attempt.op).poll(context) {
                    return Poll::Ready(Some((index, result.map(drop))));
                }
            }
            timer.as_mut().poll(context).map(|()| None)
        });
        let (index, result) = ended.await?;
        Some((self.running.swap_remove(index), result))
    }

    fn won(&mut self, winner: Attempt) -> Stream {
        self.dialer.quarantine.borrow_mut().absolve(winner.address);
        self.blame_slow(winner.started);
        Stream::shared(winner.socket, winner.address).with_kernel_tls(self.dialer.kernel_tls)
    }

    /// Blames the addresses that had a whole stagger's time before `moment` and have not answered: black holes would
    /// otherwise cost every dial whose turn they are.
    fn blame_slow(&self, moment: Instant) {
        for attempt in &self.running {
            if moment.duration_since(attempt.started) >= limits::DIAL_STAGGER {
                self.dialer.blame(attempt.address);
            }
        }
    }

    /// Cancels the attempts that are still under way and sees them to their end in the background.
    fn wind_down(self) {
        if self.running.is_empty() {
            return;
        }
        for attempt in &self.running {
            sys::cancel(&attempt.socket);
        }
        tokio_uring::spawn(async move {
            for attempt in self.running {
                // Whether it was cancelled or connected after all: the descriptor is closed with the attempt.
                let _ = attempt.op.await;
            }
        });
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    tune(&socket)?;
    Ok(Rc::new(socket.into()))
}

/// Whether the failure is this machine's and says nothing about the address.
fn is_local(error: &io::Error) -> bool {
    let local = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EAGAIN];
    error.raw_os_error().is_some_and(|code| local.contains(&code))
}

/// Addresses to be avoided for a while.
#[derive(Clone, Default)]
struct Quarantine {
    bad: HashMap<SocketAddr, Bad>,
}

#[derive(Clone)]
struct Bad {
    until: Instant,
    strikes: u32,
}

impl Quarantine {
    /// Locks an address away for 10 seconds, twice as long each time it fails again, at most for a minute. Failures
    /// while it is locked away count as the same one.
    fn blame(&mut self, address: SocketAddr, now: Instant) {
        self.bad.retain(|_, bad| now < bad.until + FORGIVEN_AFTER);
        let bad = self.bad.entry(address).or_insert(Bad { until: now, strikes: 0 });
        if bad.until <= now {
            bad.until = now + QUARANTINE_MAX.min(QUARANTINE_FIRST * (1 << bad.strikes.min(8)));
            bad.strikes += 1;
        }
    }

    fn absolve(&mut self, address: SocketAddr) {
        self.bad.remove(&address);
    }

    /// Until when the address is to be avoided; `None` when it is not.
    fn until(&self, address: SocketAddr, now: Instant) -> Option<Instant> {
        self.bad.get(&address).map(|bad| bad.until).filter(|until| *until > now)
    }
}

const QUARANTINE_FIRST: Duration = Duration::from_secs(10);
const QUARANTINE_MAX: Duration = Duration::from_secs(60);
/// Strikes count together when they follow each other within this.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect()
    }

    #[test]
    fn quarantine_doubles_up_to_a_minute_and_forgives() {
        let (mut quarantine, start) = (Quarantine::default(), clock::mono());
        let address = addresses(1)[0];
        let mut now = start;
        for expected in [10, 20, 40, 60, 60] {
            quarantine.blame(address, now);
            quarantine.blame(address, now);
            assert_eq!(quarantine.until(address, now), Some(now + Duration::from_secs(expected)));
            now += Duration::from_secs(expected);
            assert_eq!(quarantine.until(address, now), None);
        }
        now += FORGIVEN_AFTER;
        quarantine.blame(address, now);
        assert_eq!(quarantine.until(address, now), Some(now + QUARANTINE_FIRST));
        quarantine.absolve(address);
        assert_eq!(quarantine.until(address, now), None);
    }

    #[test]
    fn dials_start_at_a_different_address_each_time_and_leave_bad_ones_for_last() {
        let all = addresses(3);
        let dialer = Dialer::new(Arc::new(Addresses::fixed(vec![all.clone()])), 1);
        let firsts: Vec<_> = (0..3).map(|_| dialer.order(&all)[0]).collect();
        assert_eq!(firsts, [all[1], all[2], all[0]]);
        dialer.blame(all[1]);
        for _ in 0..3 {
            assert_eq!(dialer.order(&all)[2], all[1]);
        }
        dialer.blame(all[0]);
        dialer.blame(all[2]);
        assert_eq!(dialer.order(&all).len(), 3);
        assert!(dialer.order(&[]).is_empty());
    }
}
