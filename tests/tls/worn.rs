//! A gate over kernels that cannot change keys: connections end between messages before their keys are spent. Nobody
//! sends the many bytes that takes; the links only say that they did.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use filmgate::access::AccessRecord;
use filmgate::clock::Deadline;
use filmgate::link::{Dial, DialError, KernelTls};
use filmgate::pipe::{Ends, Pipes, Splice};
use filmgate::policy::route::{Mode, Route, RouteTable, UpstreamHost};
use filmgate::proxy::connection;
use filmgate::proxy::shard::Shard;
use filmgate::proxy::upstream::Upstream;
use filmgate::proxy::{Limits, Timeouts};
use filmgate::tls::config::{ServerConfig, Version};
use rustls::RootCertStore;
use tokio::task::LocalSet;

use crate::ends::{End, Theirs};
use crate::kernel::{EVERYTHING, KEY_BYTES, Kernel, Manner, OLDER, hear, read, say};
use crate::memory::{Memory, ends, run};
use crate::pki::{Authority, ECDSA, NAME, serving};

/// One more than a key may protect.
const LONG: u64 = KEY_BYTES + 1;

/// Connections to a storage that answers everything.
struct Storage {
    server: Arc<ServerConfig>,
    can: KernelTls,
    imagined: Rc<Cell<u64>>,
    dials: Rc<Cell<usize>>,
}

impl Dial for Storage {
    type Link = Kernel;

    async fn dial(&self, _: usize, _: Deadline) -> Result<Kernel, DialError> {
        let (here, there) = ends(1 << 20);
        self.dials.set(self.dials.get() + 1);
        tokio::task::spawn_local(answer(there, Theirs::server(&self.server)));
        Ok(Kernel::imagining(here, self.can, Manner::Takes, &self.imagined))
    }
}

async fn answer(there: Memory, mut theirs: Theirs) {
    loop {
        let Ok(bytes) = read(&there).await else { return };
        if bytes.is_empty() {
            return;
        }
        theirs.take(&bytes).unwrap();
        say(&there, &theirs.give()).await;
        if theirs.plain.ends_with(b"\r\n\r\n") {
            // An upload is all there by then.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let len = if theirs.plain.starts_with(b"GET /film") { LONG } else { 0 };
            theirs.plain.clear();
            say(&there, &theirs.seal(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").as_bytes())).await;
        }
    }
}

/// What a client of the gate sees, and what the gate needs for it.
struct Scene {
    client: Theirs,
    link: Memory,
    dials: Rc<Cell<usize>>,
}

impl Scene {
    /// So many bytes are said to come in from the storage, and from the client.
    async fn set(can: KernelTls, down: u64, up: u64) -> Self {
        let authority = Authority::new();
        let server = serving(&[&authority.issue("leaf", &[NAME], &ECDSA)], Version::Tls13);
        let (timeouts, limits, dials) = (Timeouts::default(), Limits::default(), Rc::default());
        let route = Route {
            hosts: vec![NAME.to_owned()],
            default: false,
            bucket: "bucket".to_owned(),
            region: "eu-north-1".to_owned(),
            mode: Mode::PassThrough,
            host: UpstreamHost::Replace(NAME.to_owned()),
            upstream: 0,
        };
        let tls = Some(authority.client(NAME, Version::Tls13));
        let upstream = Upstream::new(0, tls, timeouts.upstream_idle, limits.upstream_idle_max);
        let storage =
            Storage { server: Arc::clone(&server), can, imagined: Rc::new(Cell::new(down)), dials: Rc::clone(&dials) };
        let routes = Arc::new(RouteTable::new(vec![route]));
        let records = Rc::<RefCell<Vec<AccessRecord>>>::default();
        let shard = Shard::new(routes, vec![upstream], storage, timeouts, limits, records, 7);
        let open = || io::pipe().map(|(reader, writer)| Ends { reader, writer, capacity: 64 * 1024 });
        let shard = Rc::new(shard.with_pipes(Pipes::new(Splice::Always, open)));
        let (here, link) = ends(1 << 20);
        let kernel = Kernel::imagining(here, can, Manner::Takes, &Rc::new(Cell::new(up)));
        tokio::task::spawn_local(connection::serve(kernel, Some(server), shard));

        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let calling = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut client = Theirs::client(calling, NAME);
        while client.is_handshaking() {
            say(&link, &client.give()).await;
            hear(&link, &mut client).await.unwrap();
        }
        say(&link, &client.give()).await;
        Self { client, link, dials }
    }

    /// Sends a request without its body and returns the head of the answer, in lower case.
    async fn ask(&mut self, what: &str, len: u64) -> String {
        let head = format!("{what} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {len}\r\n\r\n");
        self.client.plain.clear();
        say(&self.link, &self.client.seal(head.as_bytes())).await;
        while !self.client.plain.ends_with(b"\r\n\r\n") {
            hear(&self.link, &mut self.client).await.unwrap();
        }
        let head = String::from_utf8_lossy(&self.client.plain).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        head
    }
}

fn play(scene: impl Future<Output = ()>) {
    run(LocalSet::new().run_until(scene));
}

#[test]
fn a_client_whose_key_is_worn_is_served_once_more_and_told() {
    for (can, closes) in [(OLDER, true), (EVERYTHING, false)] {
        play(async {
            let mut scene = Scene::set(can, LONG, 0).await;
            assert!(!scene.ask("GET /film", 0).await.contains("connection: close"));
            assert_eq!(scene.ask("GET /still", 0).await.contains("connection: close"), closes);
            assert_eq!(scene.dials.get(), 1, "the other side has sent little");
        });
    }
}

#[test]
fn the_gates_own_answers_tell_so_too() {
    play(async {
        let mut scene = Scene::set(OLDER, LONG, 0).await;
        assert!(!scene.ask("GET /film", 0).await.contains("connection: close"));
        assert!(scene.ask("HEAD /ping", 0).await.contains("connection: close"));
    });
}

#[test]
fn an_upstream_connection_whose_key_is_worn_is_not_lent_again() {
    for (can, dials) in [(OLDER, 2), (EVERYTHING, 1)] {
        play(async {
            let mut scene = Scene::set(can, 0, LONG).await;
            for (request, len) in [("PUT /film", LONG), ("GET /still", 0), ("GET /still", 0)] {
                assert!(!scene.ask(request, len).await.contains("connection: close"), "the client has sent it all");
            }
            assert_eq!(scene.dials.get(), dials);
        });
    }
}
