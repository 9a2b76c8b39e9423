//! A whole gate in one thread without a socket: a client, the line, and an S3 stand-in, joined by pipes in memory.
//!
//! Shared by the bench of a whole exchange, the count of instructions and the test that counts heap
//! allocations. Nothing in here allocates once an exchange has been made.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use filmgate::access::{AccessRecord, AccessSink};
use filmgate::buffer::{Buffer, Pool};
use filmgate::clock::Deadline;
use filmgate::link::{Dial, DialError, Link};
use filmgate::policy::route::RouteTable;
use filmgate::proxy::connection;
use filmgate::proxy::identity::Identity;
use filmgate::proxy::secure::{Secure, Wire};
use filmgate::proxy::shard::Shard;
use filmgate::proxy::upstream::Upstream;
use filmgate::proxy::{Limits, Timeouts};
use filmgate::tls::config::{self, ClientConfig, ClientOptions, Records, ServerConfig, ServerOptions};
use tokio::task::LocalSet;

pub(crate) mod samples;
pub(crate) mod signing;

use samples::{HOST, request_head, response_head, routes};

/// Whether both sides of the gate speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaking {
    Plain,
    Tls,
}

/// Runs `script` with a client that can make exchanges, each with a body of `body_bytes`, through a gate of its own.
pub(crate) fn with_client<T>(speaking: Speaking, body_bytes: usize, script: impl AsyncFnOnce(Client) -> T) -> T {
    run(speaking, routes(1), None, request_head(), body_bytes, script)
}

/// The same with a gate that verifies the client's signature and signs anew, without TLS.
pub(crate) fn with_signing_client<T>(body_bytes: usize, script: impl AsyncFnOnce(Client) -> T) -> T {
    let identity = Identity::new(signing::known());
    run(Speaking::Plain, signing::routes(), Some(identity), signing::request_head(), body_bytes, script)
}

fn run<T>(
    speaking: Speaking,
    routes: RouteTable,
    identity: Option<Identity>,
    request: Vec<u8>,
    body_bytes: usize,
    script: impl AsyncFnOnce(Client) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let tls = (speaking == Speaking::Tls).then(Tls::new);
        let response = Rc::new([response_head(body_bytes), vec![b'x'; body_bytes]].concat());
        let mut shard = Shard::new(
            Arc::new(routes),
            vec![Upstream::new(0, tls.as_ref().map(|tls| tls.calling.clone()), Timeouts::default().upstream_idle, 8)],
            Storage { tls: tls.as_ref().map(|tls| Arc::clone(&tls.serving)), response: Rc::clone(&response) },
            Timeouts::default(),
            Limits::default(),
            Forgetful,
            7,
        );
        if let Some(identity) = identity {
            shard = shard.with_identity(identity);
        }
        let shard = Rc::new(shard);
        let (near, far) = pair();
        let serving = tls.as_ref().map(|tls| Arc::clone(&tls.serving));
        tokio::task::spawn_local(connection::serve(near, serving, shard));
        let pool = Pool::new(1 << 20);
        let wire = match &tls {
            None => Wire::Plain(far),
            Some(tls) => Wire::Tls(Box::new(Secure::connect(far, &tls.calling, &pool, soon()).await.unwrap())),
        };
        script(Client { wire, pool, request, body_bytes }).await
    })
}

/// The one client of a gate.
pub(crate) struct Client {
    wire: Wire<Memory>,
    pool: Pool,
    request: Vec<u8>,
    body_bytes: usize,
}

impl Client {
    /// Sends a request and reads the answer to its end.
    pub(crate) async fn exchange(&self) {
        let mut out = self.pool.take();
        assert_eq!(out.append(&self.request), self.request.len());
        self.wire.write_all(out, soon()).await.0.unwrap();
        let mut buffer = self.pool.take();
        let mut missing = usize::MAX;
        while missing > 0 {
            let result;
            (result, buffer) = self.wire.read(buffer, soon()).await;
            assert!(result.unwrap() > 0, "the gate hung up");
            if missing == usize::MAX
                && let Some(end) = buffer.filled().windows(4).position(|four| four == b"\r\n\r\n")
            {
                assert!(buffer.filled().starts_with(b"HTTP/1.1 206 "), "not the upstream's answer");
                missing = self.body_bytes;
                buffer.consume(end + 4);
            }
            if missing != usize::MAX {
                missing = missing.checked_sub(buffer.len()).expect("more than the body");
                buffer.clear();
            }
        }
    }
}

/// Wants records and forgets them.
struct Forgetful;

impl AccessSink for Forgetful {
    fn record(&self, record: &AccessRecord) {
        assert_eq!(record.status, Some(206));
    }
}

/// One identity for both ends.
struct Tls {
    serving: Arc<ServerConfig>,
    calling: ClientConfig,
}

impl Tls {
    fn new() -> Self {
        let upstream = "mystudio-media-00.s3.us-west-2.amazonaws.com";
        let made = rcgen::generate_simple_self_signed([HOST.to_owned(), upstream.to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (certificate, private_key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&private_key, made.signing_key.serialize_pem()).unwrap();
        let (ca_file, max_version) = (Some(certificate.clone()), config::Version::Tls13);
        let identities = vec![config::Identity { certificate, private_key }];
        let serving = config::server(&ServerOptions {
            identities,
            min_version: config::Version::Tls12,
            records: Records::default(),
            client_ca: None,
        })
        .unwrap();
        let calling = config::client(&ClientOptions {
            server_name: HOST.into(),
            ca_file,
            max_version,
            records: Records::default(),
        })
        .unwrap();
        Self { serving, calling }
    }
}

/// Answers every request with the same bytes.
struct Storage {
    tls: Option<Arc<ServerConfig>>,
    response: Rc<Vec<u8>>,
}

impl Dial for Storage {
    type Link = Memory;

    async fn dial(&self, _upstream: usize, _until: Deadline) -> Result<Memory, DialError> {
        let (near, far) = pair();
        tokio::task::spawn_local(store(far, self.tls.clone(), Rc::clone(&self.response)));
        Ok(near)
    }
}

async fn store(link: Memory, tls: Option<Arc<ServerConfig>>, response: Rc<Vec<u8>>) {
    let pool = Pool::new(1 << 20);
    let wire = match tls {
        None => Wire::Plain(link),
        Some(tls) => Wire::Tls(Box::new(Secure::accept(link, &tls, &pool, soon()).await.unwrap())),
    };
    loop {
        let (result, buffer) = wire.read(pool.take(), soon()).await;
        if matches!(result, Ok(0) | Err(_)) {
            return;
        }
        assert!(buffer.filled().ends_with(b"\r\n\r\n"), "a request that came in parts");
        drop(buffer);
        let mut rest = &response[..];
        while !rest.is_empty() {
            let mut out = pool.take_bulk();
            rest = &rest[out.append(rest)..];
            wire.write_all(out, soon()).await.0.unwrap();
        }
    }
}

/// One end of a connection in memory.
pub(crate) struct Memory {
    inbox: Rc<Pipe>,
    outbox: Rc<Pipe>,
}

#[derive(Default)]
struct Pipe {
    bytes: RefCell<Vec<u8>>,
    ended: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

const PIPE_BYTES: usize = 1 << 20;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn pair() -> (Memory, Memory) {
    let pipe = || Rc::new(Pipe { bytes: RefCell::new(Vec::with_capacity(PIPE_BYTES)), ..Pipe::default() });
    let (one, other) = (pipe(), pipe());
    (Memory { inbox: Rc::clone(&one), outbox: Rc::clone(&other) }, Memory { inbox: other, outbox: one })
}

impl Pipe {
    fn wake(waker: &RefCell<Option<Waker>>) {
        if let Some(waker) = waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn end(&self) {
        self.ended.set(true);
        Self::wake(&self.reader);
        Self::wake(&self.writer);
    }
}

impl Link for Memory {
    async fn readable(&self, _until: Deadline) -> io::Result<()> {
        poll_fn(|context| {
            if !self.inbox.bytes.borrow().is_empty() || self.inbox.ended.get() {
                return Poll::Ready(Ok(()));
            }
            *self.inbox.reader.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn read(&self, mut into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        let result = self.readable(until).await.map(|()| {
            let mut bytes = self.inbox.bytes.borrow_mut();
            let n = into.append(&bytes);
            bytes.drain(..n);
            n
        });
        Pipe::wake(&self.inbox.writer);
        (result, into)
    }

    async fn write_all(&self, mut from: Buffer, _until: Deadline) -> (io::Result<()>, Buffer) {
        let result = poll_fn(|context| {
            if self.outbox.ended.get() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let mut bytes = self.outbox.bytes.borrow_mut();
            let n = (PIPE_BYTES - bytes.len()).min(from.len());
            bytes.extend_from_slice(&from.filled()[..n]);
            from.consume(n);
            Pipe::wake(&self.outbox.reader);
            if from.is_empty() {
                return Poll::Ready(Ok(()));
            }
            *self.outbox.writer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        });
        (result.await, from)
    }

    fn interrupt(&self) {}

    async fn finish(&self, _until: Deadline) -> io::Result<()> {
        self.outbox.end();
        Ok(())
    }

    fn stop_writing(&self) {
        self.outbox.end();
    }

    fn abort(&self) {
        self.outbox.end();
        self.inbox.end();
    }

    async fn closed(&self) {
        std::future::pending().await
    }

    fn hang_up(&self) {
        self.abort();
    }

    fn is_quiet(&self) -> bool {
        self.inbox.bytes.borrow().is_empty() && !self.inbox.ended.get()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.abort();
    }
}
