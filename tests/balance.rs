//! Connections of a gate with several shards, over real loopback sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use filmgate::pipe::Splice;
use filmgate::policy::route::{Mode, Route, UpstreamHost};
use filmgate::proxy::upstream::UpstreamOptions;
use filmgate::proxy::{Limits, Timeouts};
use filmgate::server::{AccessLog, Gate, Options};
use filmgate::tls::config::{Identity, Records, ServerOptions, Version};

const FILM_BYTES: usize = 8 * 1024 * 1024;

/// What of a film is sent at once; the rest when the storage is told to go on.
const TRAILER_BYTES: usize = 64 * 1024;

/// Answers every request with a film that stops at its beginning until [`go_on`](Self::go_on).
struct Storage {
    address: SocketAddr,
    goes_on: Arc<(Mutex<bool>, Condvar)>,
}

impl Storage {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, goes_on) = (listener.local_addr().unwrap(), Arc::<(Mutex<bool>, Condvar)>::default());
        let gone_on = Arc::clone(&goes_on);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let goes_on = Arc::clone(&gone_on);
                thread::spawn(move || show(stream.unwrap(), &goes_on));
            }
        });
        Self { address, goes_on }
    }

    fn go_on(&self) {
        *self.goes_on.0.lock().unwrap() = true;
        self.goes_on.1.notify_all();
    }
}

fn show(mut stream: TcpStream, goes_on: &(Mutex<bool>, Condvar)) {
    let film = film();
    while read_head(&mut stream).is_some() {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {FILM_BYTES}\r\n\r\n").unwrap();
        stream.write_all(&film[..TRAILER_BYTES]).unwrap();
        drop(goes_on.1.wait_while(goes_on.0.lock().unwrap(), |goes_on| !*goes_on).unwrap());
        if stream.write_all(&film[TRAILER_BYTES..]).is_err() {
            return;
        }
    }
}

fn film() -> &'static [u8] {
    static FILM: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..FILM_BYTES).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect());
    &FILM
}

/// A head without its body, or `None` at the end of the stream.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

fn options(workers: usize, storage: SocketAddr) -> Options {
    let route = Route {
        hosts: vec!["media".to_owned()],
        default: true,
        bucket: "films".to_owned(),
        region: "eu-west-1".to_owned(),
        mode: Mode::PassThrough,
        host: UpstreamHost::Replace("films.test".to_owned()),
        upstream: 0,
    };
    Options {
        https: Vec::new(),
        http: vec!["127.0.0.1:0".parse().unwrap()],
        admin: None,
        tls: None,
        kernel: filmgate::tls::config::Kernel::Off,
        workers: Some(workers),
        pin: false,
        routes: vec![route],
        upstreams: vec![UpstreamOptions {
            name: "films.test".to_owned(),
            connect: vec![(storage.ip().to_string(), storage.port())],
            tls: None,
        }],
        timeouts: Timeouts { drain: Duration::from_secs(20), ..Timeouts::default() },
        limits: Limits::default(),
        splice: Splice::default(),
        clients: Vec::new(),
        credentials: Vec::new(),
        access_log: AccessLog::Off,
        log_level: filmgate::server::logging::Level::default(),
    }
}

/// A gate without an upstream that answers.
fn gate(workers: usize) -> Gate {
    Gate::start(options(workers, "127.0.0.1:1".parse().unwrap())).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, path: &str) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: media\r\n\r\n").unwrap();
}

/// The status of an answer whose short body is read as well.
fn answer(stream: &mut TcpStream) -> Option<u16> {
    let head = read_head(stream)?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    head.split(' ').nth(1)?.parse().ok()
}

/// A client that has been served and stays.
fn idle(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    ask(&mut stream, "/ping");
    assert_eq!(answer(&mut stream), Some(200));
    stream
}

/// A client in the middle of a film.
fn watching(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    ask(&mut stream, "/film.mov");
    let head = read_head(&mut stream).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    stream
}

fn watch_to_the_end(stream: &mut TcpStream) {
    let mut rest = vec![0; FILM_BYTES - 1];
    stream.read_exact(&mut rest).unwrap();
    assert!(rest == film()[1..], "the film has changed on its way");
}

fn wait_for_empty(gate: &Gate) {
    for _ in 0..200 {
        if gate.connections().iter().all(|count| *count == 0) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("connections that nobody has: {:?}", gate.connections());
}

#[test]
fn sixty_four_connections_one_after_another_are_the_same_number_on_every_shard() {
    for workers in [2, 4] {
        let gate = gate(workers);
        let clients: Vec<_> = (0..64).map(|_| idle(gate.http_addrs()[0])).collect();
        let (connections, mean) = (gate.connections(), 64 / workers);
        assert_eq!(connections.iter().sum::<usize>(), 64);
        assert!(connections.iter().all(|count| count.abs_diff(mean) <= 2), "{connections:?}");
        drop(clients);
        wait_for_empty(&gate);
        gate.stop().unwrap();
    }
}

#[test]
fn long_transfers_spread_evenly_and_arrive_whole() {
    let storage = Storage::start();
    let gate = Gate::start(options(4, storage.address)).unwrap();
    let mut clients: Vec<_> = (0..8).map(|_| watching(gate.http_addrs()[0])).collect();
    assert_eq!(gate.connections(), [2, 2, 2, 2]);
    storage.go_on();
    clients.iter_mut().for_each(watch_to_the_end);
    drop(clients);
    wait_for_empty(&gate);
    gate.stop().unwrap();
}

#[test]
fn new_connections_avoid_a_shard_with_a_long_transfer_until_that_is_over() {
    let storage = Storage::start();
    let gate = Gate::start(options(2, storage.address)).unwrap();
    let address = gate.http_addrs()[0];
    let mut film = watching(address);
    let mut others: Vec<_> = (0..8).map(|_| idle(address)).collect();
    let busy = gate.connections().iter().position(|count| *count == 1).expect("the film has a shard for itself");
    assert_eq!(gate.connections()[1 - busy], 8);
    storage.go_on();
    watch_to_the_end(&mut film);
    // The next answer on that connection comes after the end of the exchange.
    ask(&mut film, "/ping");
    assert_eq!(answer(&mut film), Some(200));
    others.extend((0..7).map(|_| idle(address)));
    assert_eq!(gate.connections(), [8, 8]);
    gate.stop().unwrap();
}

#[test]
fn a_connection_keeps_the_listener_it_came_through() {
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["media".to_owned()]).unwrap();
    let identity =
        Identity { certificate: folder.path().join("gate.pem"), private_key: folder.path().join("gate.key") };
    std::fs::write(&identity.certificate, issued.cert.pem()).unwrap();
    std::fs::write(&identity.private_key, issued.signing_key.serialize_pem()).unwrap();
    let (min_version, records) = (Version::Tls12, Records::default());
    let tls = ServerOptions { identities: vec![identity], min_version, records, client_ca: None };
    let https = vec!["127.0.0.1:0".parse().unwrap()];
    let options = options(3, "127.0.0.1:1".parse().unwrap());
    let gate = Gate::start(Options { https, tls: Some(tls), ..options }).unwrap();
    let mut plain = Vec::new();
    for _ in 0..12 {
        plain.push(idle(gate.http_addrs()[0]));
        // Whoever speaks plain HTTP to the TLS listener is told so.
        let mut lost = connect(gate.https_addrs()[0]);
        ask(&mut lost, "/ping");
        assert_eq!(answer(&mut lost), Some(400));
    }
    gate.stop().unwrap();
}

#[test]
fn whoever_has_connected_and_asked_is_answered_however_soon_the_gate_stops() {
    for workers in [1, 2, 3] {
        for _ in 0..6 {
            let gate = gate(workers);
            let mut clients: Vec<_> = (0..24).map(|_| connect(gate.http_addrs()[0])).collect();
            clients.iter_mut().for_each(|client| ask(client, "/ping"));
            let stopping = thread::spawn(move || gate.stop());
            let answers: Vec<_> = clients.iter_mut().map(answer).collect();
            drop(clients);
            stopping.join().unwrap().unwrap();
            assert!(answers.iter().all(|answer| *answer == Some(200)), "{workers} workers: {answers:?}");
        }
    }
}

#[test]
fn transfers_that_were_handed_over_are_finished_when_the_gate_stops() {
    let storage = Storage::start();
    let gate = Gate::start(options(2, storage.address)).unwrap();
    let mut clients: Vec<_> = (0..6).map(|_| watching(gate.http_addrs()[0])).collect();
    assert_eq!(gate.connections(), [3, 3]);
    let stopping = thread::spawn(move || gate.stop());
    thread::sleep(Duration::from_millis(100));
    storage.go_on();
    clients.iter_mut().for_each(watch_to_the_end);
    stopping.join().unwrap().unwrap();
}

#[test]
fn clients_that_vanish_on_the_way_leave_nothing_behind() {
    let gate = gate(3);
    let address = gate.http_addrs()[0];
    for round in 0..200 {
        let client = connect(address);
        if round % 2 == 0 {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    wait_for_empty(&gate);
    drop(idle(address));
    wait_for_empty(&gate);
    gate.stop().unwrap();
}

#[test]
fn no_shard_serves_more_clients_than_it_may_and_the_others_wait() {
    let options = options(2, "127.0.0.1:1".parse().unwrap());
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let gate = Gate::start(Options { limits, ..options }).unwrap();
    let address = gate.http_addrs()[0];
    let first: Vec<_> = (0..4).map(|_| idle(address)).collect();
    assert_eq!(gate.connections(), [2, 2]);
    let mut waiting: Vec<_> = (0..4).map(|_| connect(address)).collect();
    waiting.iter_mut().for_each(|client| ask(client, "/ping"));
    thread::sleep(Duration::from_millis(200));
    for client in &waiting {
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.peek(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
    }
    assert_eq!(gate.connections(), [2, 2]);
    drop(first);
    // Each leaves when it has its answer: the kernel may have put all of them on one shard.
    let served: Vec<_> = waiting.into_iter().map(|mut client| thread::spawn(move || answer(&mut client))).collect();
    assert!(served.into_iter().all(|client| client.join().unwrap() == Some(200)));
    gate.stop().unwrap();
}

#[test]
fn a_gate_of_one_shard_keeps_no_count_for_others() {
    let gate = gate(1);
    let _client = idle(gate.http_addrs()[0]);
    assert!(gate.connections().is_empty());
    gate.stop().unwrap();
}
