//! One shard: a thread on a core of its own with its own ring, listeners, buffers and upstream connections.

pub mod balance;
pub mod heart;
pub mod setting;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::Notify;

use crate::access::AccessSink;
use crate::clock::{self, Deadline};
use crate::limits;
use crate::net::dial::Dialer;
use crate::net::listen::{Arrival, Bound, Listener};
use crate::net::runtime;
use crate::net::uring;
use crate::pipe::Pipes;
use crate::proxy::connection;
use crate::proxy::shard::{Shard, Terms};
use balance::{Balance, Handed, Member};
use heart::Heart;
use setting::{Mailbox, Setting};

/// Everything one shard is made of.
pub struct Plan<S> {
    /// Its number, from 0.
    pub number: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Its listening sockets, and whether TLS is spoken there.
    pub listeners: Vec<(Bound, bool)>,
    /// What it serves by at first.
    pub setting: Arc<Setting>,
    /// What it serves by later comes here.
    pub mailbox: Arc<Mailbox>,
    /// Spreads connections over all shards, where there are several.
    pub balance: Option<Arc<Balance>>,
    /// Takes access records.
    pub access: S,
    /// Differs from start to start; makes request ids unique.
    pub start_id: u64,
    /// Told once the shard accepts connections.
    pub ready: Sender<usize>,
    /// Beats while the shard goes on.
    pub heart: Arc<Heart>,
    /// Tells the shard to stop.
    pub stop: Arc<Stop>,
}

/// Tells a shard to stop.
#[derive(Debug, Default)]
pub struct Stop {
    asked: Notify,
    is_at_once: AtomicBool,
}

impl Stop {
    /// Asks it to stop: `at_once`, or when its clients' transfers have had `timeouts.drain` to finish.
    pub fn ask(&self, at_once: bool) {
        self.is_at_once.store(at_once, Ordering::Relaxed);
        self.asked.notify_one();
    }

    /// Waits until that; how long transfers have if they may have `drain`.
    async fn asked(&self, drain: impl FnOnce() -> Duration) -> Duration {
        self.asked.notified().await;
        if self.is_at_once.load(Ordering::Relaxed) { Duration::ZERO } else { drain() }
    }
}

/// Runs a shard on the calling thread until it is told to stop and its clients have left. Returns how many of them were
/// broken off because they did not do so in time.
///
/// # Errors
/// When the kernel offers no ring or a listener cannot be used.
pub fn run<S: AccessSink + 'static>(plan: Plan<S>) -> io::Result<usize> {
    let heart = Arc::clone(&plan.heart);
    let ended = runtime::run_shard(plan.core, runtime::RING_ENTRIES, || shard(plan))?;
    if ended.is_ok() {
        heart.rest();
    }
    ended
}

async fn shard<S: AccessSink + 'static>(plan: Plan<S>) -> io::Result<usize> {
    let Terms { tls, authorities, routes, upstreams, dial, splice, timeouts, limits, identity } =
        plan.setting.terms::<S>(plan.number, None);
    let id_prefix = plan.start_id.wrapping_add(plan.number as u64);
    let shard = Shard::new(routes, upstreams, dial, timeouts, limits, plan.access, id_prefix);
    let member = plan.balance.map(|balance| Rc::new(balance.join(plan.number)));
    let mut shard = shard.with_pipes(Pipes::new(splice, uring::pipe)).with_tls(tls, authorities);
    if let Some(member) = &member {
        shard = shard.with_load(member.load());
    }
    if let Some(identity) = identity {
        shard = shard.with_identity(identity);
    }
    let latest = Rc::new(Latest(RefCell::new(Rc::new(shard))));
    let (sockets, is_tls): (Vec<_>, Vec<_>) = plan.listeners.into_iter().unzip();
    let (mut listeners, mut entrances) = (Vec::new(), Vec::new());
    for (index, socket) in sockets.into_iter().enumerate() {
        let listener = Rc::new(Listener::new(socket)?);
        let door = Door { index, listener: Rc::clone(&listener), is_tls: is_tls[index], member: member.clone() };
        entrances.push(tokio::task::spawn_local(accept(door, Rc::clone(&latest))));
        listeners.push(listener);
    }
    if let Some(member) = &member {
        entrances.push(tokio::task::spawn_local(take_over(Rc::clone(member), is_tls, Rc::clone(&latest))));
    }
    tokio::task::spawn_local(beat(plan.heart, Rc::clone(&latest)));
    tokio::task::spawn_local(renew(plan.mailbox, plan.number, plan.setting, Rc::clone(&latest)));
    // Nobody listens any more only when the process is already going down.
    let _ = plan.ready.send(plan.number);
    drop(plan.ready);
    let drain = plan.stop.asked(|| latest.get().timeouts.drain).await;
    let shard = latest.get();
    shard.drain();
    for listener in listeners {
        listener.close();
    }
    if let Some(member) = member {
        member.close();
    }
    let cut = Rc::new(Cell::new(0));
    tokio::task::spawn_local(give_up(Rc::clone(&shard), drain, Rc::clone(&cut)));
    for entrance in entrances {
        // Who is still in a queue gets a seat before the last seat is found empty.
        if let Err(error) = entrance.await {
            tracing::error!(%error, "a listener ended early");
        }
    }
    let patience = Deadline::after(drain.saturating_add(ABORT_WAIT));
    if clock::within(patience, shard.emptied()).await.is_none() {
        tracing::warn!(left = shard.connections(), "connections that were broken off do not end; leaving them");
    }
    Ok(cut.get())
}

/// The shard on the newest terms, and the only one that is kept alive without a client that it serves. Who waits keeps this,
/// not a shard: what the one before held, memory and secrets, is given back.
struct Latest<S: AccessSink>(RefCell<Rc<Shard<Dialer, S>>>);

impl<S: AccessSink> Latest<S> {
    fn get(&self) -> Rc<Shard<Dialer, S>> {
        Rc::clone(&self.0.borrow())
    }

    fn set(&self, shard: Rc<Shard<Dialer, S>>) {
        // Out of the cell first: what goes with it may look for the latest.
        drop(self.0.replace(shard));
    }

    /// Waits until one more connection fits, for a little while; whether it does.
    async fn has_room(&self) -> bool {
        clock::within(Deadline::after(limits::FULL_LOOK_AGAIN), self.get().below_max()).await.is_some()
    }

    /// Waits until one more connection fits.
    async fn room(&self) {
        while !self.has_room().await {}
    }
}

/// One listener and what stands behind it.
struct Door {
    index: usize,
    listener: Rc<Listener>,
    is_tls: bool,
    member: Option<Rc<Member>>,
}

impl Door {
    /// Hands a client over to a shard with less to do, or returns it. A full shard looks for another, or for a seat of its
    /// own, until there is one.
    async fn show_on<S: AccessSink>(&self, mut arrival: Arrival, latest: &Latest<S>) -> Option<Arrival> {
        let Some(member) = &self.member else { return Some(arrival) };
        // Others are about to leave as well.
        while !latest.get().is_draining() {
            arrival = member.hand_over(arrival, self.index)?;
            if latest.has_room().await {
                break;
            }
        }
        Some(arrival)
    }
}

/// Serves by every setting that comes, each in the place of the one before.
async fn renew<S: AccessSink + 'static>(
    mailbox: Arc<Mailbox>,
    number: usize,
    mut setting: Arc<Setting>,
    latest: Rc<Latest<S>>,
) {
    loop {
        let letter = mailbox.next().await;
        let shard = latest.get();
        if shard.is_draining() {
            continue;
        }
        let terms = letter.setting.terms(number, Some((&shard, &setting.upstreams)));
        latest.set(shard.succeed(terms));
        setting = Arc::clone(&letter.setting);
    }
}

/// Takes clients until the listener closes.
async fn accept<S: AccessSink + 'static>(door: Door, latest: Rc<Latest<S>>) {
    loop {
        if door.member.is_none() {
            latest.room().await;
        }
        let Some(arrival) = door.listener.arrival().await else { return };
        if let Some(arrival) = door.show_on(arrival, &latest).await {
            latest.room().await;
            seat(arrival, door.is_tls, &latest.get());
        }
    }
}

/// Takes clients that other shards have accepted, until that is closed.
async fn take_over<S: AccessSink + 'static>(member: Rc<Member>, is_tls: Vec<bool>, latest: Rc<Latest<S>>) {
    while let Some(Handed { arrival, listener, claim }) = member.taken_over().await {
        // The claim has kept a place for it.
        seat(arrival, is_tls[listener], &latest.get());
        drop(claim);
    }
}

/// Gives a client a seat and begins to serve it.
fn seat<S: AccessSink + 'static>(arrival: Arrival, is_tls: bool, shard: &Rc<Shard<Dialer, S>>) {
    let tls = if is_tls { shard.tls.clone() } else { None };
    if is_tls && tls.is_none() {
        // Never in plain what was meant to be protected.
        return;
    }
    let (seat, shard) = (shard.seat(), Rc::clone(shard));
    tokio::task::spawn_local(async move {
        let stream = arrival.into_stream().with_kernel_tls(shard.dial.kernel_tls());
        connection::serve(stream, tls, shard).await;
        drop(seat);
    });
}

/// Shows that the shard goes on, and how many clients it has.
async fn beat<S: AccessSink>(heart: Arc<Heart>, latest: Rc<Latest<S>>) {
    loop {
        heart.beat(latest.get().connections());
        tokio::time::sleep(heart::BEAT).await;
    }
}

/// Breaks off what is still running when the time for leaving is up, and whatever comes out of a queue after that. `cut` is
/// how many there were when it was up.
async fn give_up<S: AccessSink + 'static>(shard: Rc<Shard<Dialer, S>>, drain: Duration, cut: Rc<Cell<usize>>) {
    tokio::time::sleep(drain).await;
    cut.set(shard.connections());
    loop {
        shard.abort();
        tokio::time::sleep(ABORT_AGAIN).await;
    }
}

/// How often a shard that has given up looks for clients that were still in a queue.
const ABORT_AGAIN: Duration = Duration::from_millis(500);

/// How long connections that are broken off may take to end: a handshake under way does not know of it.
const ABORT_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::{Weak, mpsc};

    use super::*;
    use crate::access::AccessRecord;
    use crate::net::listen;
    use crate::net::resolve::Addresses;
    use crate::pipe::Splice;
    use crate::policy::route::RouteTable;
    use crate::proxy::{Limits, Timeouts};

    struct Nowhere;

    impl AccessSink for Nowhere {
        fn record(&self, _record: &AccessRecord) {}
    }

    fn output_size<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// What shards serve by that have nothing to do, and what only that holds.
    fn setting() -> (Arc<Setting>, Weak<RouteTable>) {
        let routes = Arc::new(RouteTable::new(Vec::new()));
        let held = Arc::downgrade(&routes);
        let setting = Setting {
            tls: None,
            authorities: 0,
            routes,
            upstreams: Vec::new(),
            addresses: Arc::new(Addresses::fixed(Vec::new())),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            splice: Splice::default(),
            kernel_tls: None,
            known: None,
        };
        (Arc::new(setting), held)
    }

    /// As with many listeners that nobody comes to, and with others that connections may come from.
    #[test]
    fn what_was_served_by_before_is_given_back() {
        for balance in [None, Some(Balance::new(2, 10))] {
            let ((first, of_first), (second, of_second)) = (setting(), setting());
            let listeners = (0..2).flat_map(|_| listen::bind_shards("127.0.0.1:0".parse().unwrap(), 1).unwrap());
            let (ready, is_ready) = mpsc::channel();
            let (mailbox, stop) = (Arc::new(Mailbox::default()), Arc::new(Stop::default()));
            let plan = Plan {
                number: 0,
                core: None,
                listeners: listeners.map(|listener| (listener, false)).collect(),
                setting: first,
                mailbox: Arc::clone(&mailbox),
                balance,
                access: Nowhere,
                start_id: 0,
                ready,
                heart: Arc::default(),
                stop: Arc::clone(&stop),
            };
            let shard = std::thread::spawn(move || run(plan));
            is_ready.recv().unwrap();
            assert!(of_first.strong_count() > 0);
            let (taken, is_taken) = mpsc::channel::<()>();
            mailbox.post(second, taken);
            assert!(is_taken.recv().is_err());
            let start = clock::mono();
            while of_first.strong_count() > 0 {
                assert!(start.elapsed() < Duration::from_secs(5), "somebody holds the first shard");
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(of_second.strong_count() > 0);
            stop.ask(false);
            assert_eq!(shard.join().unwrap().unwrap(), 0);
        }
    }

    #[test]
    fn the_task_of_a_connection_fits_a_page() {
        let task = 4096 - 256;
        let serving = output_size(connection::serve::<uring::Stream, Dialer, Nowhere>);
        assert!(serving <= task, "{serving} bytes for every idle client; the allocator would round it up to 5120");
    }
}
