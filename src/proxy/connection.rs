//! One client connection: handshake, exchanges, goodbye.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::access::AccessSink;
use crate::buffer::Buffer;
use crate::clock::{self, Deadline, Now};
use crate::http::head::Scan;
use crate::limits;
use crate::link::{Dial, Link};
use crate::proxy::exchange::{self, Inbound, Next};
use crate::proxy::failure::{ClientFault, Failure};
use crate::proxy::secure::{HandshakeError, Secure, SecureError, Wire};
use crate::proxy::shard::{Nudge, Shard};
use crate::tls::TlsError;
use crate::tls::config::ServerConfig;

/// One client.
pub struct Client<L: Link> {
    /// Its stream.
    pub wire: Wire<L>,
    /// Whether it is between two requests.
    idle: Cell<bool>,
    /// Who vouched for its certificate, if it has one; see [`Shard::authorities`].
    authorities: u64,
}

impl<L: Link> Client<L> {
    fn new(wire: Wire<L>, authorities: u64) -> Self {
        Self { wire, idle: Cell::new(false), authorities }
    }

    /// Whether it presented a certificate that others than `authorities` vouched for.
    fn is_distrusted(&self, authorities: u64) -> bool {
        self.authorities != authorities && !self.wire.client_names().is_empty()
    }
}

impl<L: Link> Nudge for Client<L> {
    fn nudge(&self) {
        if self.idle.get() {
            self.wire.interrupt();
        }
    }

    fn abort(&self) {
        self.wire.abort();
    }

    fn distrust(&self, authorities: u64) {
        if self.is_distrusted(authorities) {
            self.nudge();
        }
    }
}

/// Serves a client until one of the two has had enough.
///
/// The handshake is a future in a box of its own: the room for it would stay with every idle client.
pub fn serve<L, D, S>(link: L, tls: Option<Arc<ServerConfig>>, shard: Rc<Shard<D, S>>) -> impl Future<Output = ()>
where
    L: Link + 'static,
    D: Dial + 'static,
    S: AccessSink + 'static,
{
    let arriving = Box::pin(welcome(link, tls, Rc::clone(&shard)));
    async move {
        if let Some(client) = arriving.await {
            let nudge: Weak<dyn Nudge> = Rc::downgrade(&(Rc::clone(&client) as Rc<dyn Nudge>));
            let _registration = shard.register(nudge);
            attend(&client, shard).await;
        }
    }
}

/// Gets a client as far as its first request.
async fn welcome<L, D, S>(link: L, tls: Option<Arc<ServerConfig>>, shard: Rc<Shard<D, S>>) -> Option<Rc<Client<L>>>
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let wire = match tls {
        None => Wire::Plain(link),
        Some(config) => {
            let until = Deadline::after(shard.timeouts.client_handshake);
            match Secure::accept(link, &config, &shard.buffers, until).await {
                Ok(secure) => Wire::Tls(Box::new(secure)),
                Err(failed) => {
                    turned_away(failed, &shard).await;
                    return None;
                }
            }
        }
    };
    Some(Rc::new(Client::new(wire, shard.authorities)))
}

/// Serves one request after another, each on the terms of the shard that is the latest when it has come.
async fn attend<L, D, S>(client: &Client<L>, mut shard: Rc<Shard<D, S>>)
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let mut carried = None;
    for served in 0.. {
        // Before it waits, because it may wait for long; and after, because much may have happened.
        if is_let_go(client, &mut shard) {
            let _ = client.wire.finish(Deadline::after(FAREWELL)).await;
            return;
        }
        let awaited = next_head(client, &shard, carried.take(), served == 0).await;
        if is_let_go(client, &mut shard) {
            let _ = client.wire.finish(Deadline::after(FAREWELL)).await;
            return;
        }
        let is_last = served + 1 >= shard.limits.connection_requests_max || client.wire.is_worn();
        let mut inbound = match awaited {
            Awaited::Head(buffer, head_len, begun) => Inbound { buffer, head_len, begun, is_last },
            Awaited::Failed(failure, begun) => {
                exchange::refuse(client, &shard, &failure, begun).await;
                return linger(&client.wire, &shard).await;
            }
            Awaited::Nothing => {
                let _ = client.wire.finish(Deadline::after(FAREWELL)).await;
                return;
            }
        };
        match exchange::run(client, &shard, &mut inbound).await {
            Next::Request(leftover) => carried = leftover.or(Some(inbound.buffer)),
            Next::Close => return linger(&client.wire, &shard).await,
            Next::Break => return client.wire.abort(),
        }
    }
}

/// Goes on with the latest shard; whether that does not trust who vouched for the client.
fn is_let_go<L, D, S>(client: &Client<L>, shard: &mut Rc<Shard<D, S>>) -> bool
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    if !shard.is_succeeded() {
        return false;
    }
    *shard = shard.latest();
    client.is_distrusted(shard.authorities)
}

/// A client that did not get as far as TLS. One that speaks plain HTTP to the TLS port is told so, in plain HTTP.
async fn turned_away<L, D, S>(failed: HandshakeError<L>, shard: &Shard<D, S>)
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    tracing::debug!(error = %failed.cause, "a client's TLS handshake failed");
    if matches!(failed.cause, SecureError::Tls(TlsError::PlainHttp)) {
        let client = Client::new(Wire::Plain(failed.link), shard.authorities);
        exchange::refuse(&client, shard, &ClientFault::PlainHttp.into(), clock::now()).await;
        linger(&client.wire, shard).await;
    }
}

/// What waiting for a request came to.
enum Awaited {
    /// A buffer that starts with a whole head of this many bytes, begun then.
    Head(Buffer, usize, Now),
    /// The client left, or has been idle for too long, or the shard is going down.
    Nothing,
    /// Part of a request came, and it is wrong or late.
    Failed(Failure, Now),
}

async fn next_head<L, D, S>(client: &Client<L>, shard: &Shard<D, S>, carried: Option<Buffer>, first: bool) -> Awaited
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let mut scan = Scan::default();
    let carried = carried.filter(|buffer| !buffer.is_empty());
    if carried.is_none() {
        let patience = if first { shard.timeouts.client_head } else { shard.timeouts.client_idle };
        // Who was already in the queue when the shard began to drain is served once.
        let patience = match (shard.is_draining(), first) {
            (true, false) => return Awaited::Nothing,
            (true, true) => patience.min(FAREWELL),
            (false, _) => patience,
        };
        client.idle.set(true);
        let result = client.wire.readable(Deadline::after(patience)).await;
        client.idle.set(false);
        if result.is_err() {
            return Awaited::Nothing;
        }
    }
    let begun = clock::now();
    let until = Deadline::at(begun.mono + shard.timeouts.client_head);
    let mut buffer = carried.unwrap_or_else(|| shard.buffers.take());
    if buffer.capacity() < limits::BUFFER_BYTES || buffer.room() < limits::HEAD_BYTES_MAX {
        buffer.compact();
    }
    let mut room = None;
    loop {
        if !buffer.is_empty() {
            match scan.feed(buffer.filled()) {
                Ok(Some(head_len)) => return Awaited::Head(buffer, head_len, begun),
                Ok(None) => {
                    room = room.or_else(|| shard.head_room());
                    if room.is_none() {
                        return Awaited::Failed(Failure::Overloaded, begun);
                    }
                }
                Err(error) => return Awaited::Failed(ClientFault::Head(error).into(), begun),
            }
        }
        let (result, back) = client.wire.read(buffer, until).await;
        buffer = back;
        match result {
            Ok(0) => return Awaited::Nothing,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut && !buffer.is_empty() => {
                return Awaited::Failed(ClientFault::HeadTimedOut.into(), begun);
            }
            Err(_) => return Awaited::Nothing,
        }
    }
}

/// Closes in a way that lets the client read what was sent: says goodbye, then takes in and forgets what is still
/// coming, within bounds. Closing a socket with unread bytes would reset the stream and could destroy the answer.
async fn linger<L, D, S>(wire: &Wire<L>, shard: &Shard<D, S>)
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    if wire.finish(Deadline::after(shard.timeouts.client_write)).await.is_err() {
        return;
    }
    let end = clock::mono() + LINGER;
    let mut discarded = 0;
    while discarded < limits::DISCARD_BYTES_MAX {
        let until = Deadline::at(end).min(Deadline::after(FAREWELL));
        if wire.readable(until).await.is_err() {
            return;
        }
        match wire.read(shard.buffers.take(), until).await.0 {
            Ok(0) | Err(_) => return,
            Ok(n) => discarded += n as u64,
        }
    }
}

/// How long a goodbye may take, and how long the client may be silent after it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a client may go on sending a body nobody wants.
const LINGER: Duration = Duration::from_secs(30);
