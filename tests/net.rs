//! The ring's links, listener and dialer over real loopback sockets.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use filmgate::buffer::Buffer;
use filmgate::clock::Deadline;
use filmgate::link::{Dial, DialError, Link};
use filmgate::net::dial::Dialer;
use filmgate::net::listen::{Accept, Listener, bind};
use filmgate::net::resolve::Addresses;
use filmgate::net::runtime::run_shard;
use filmgate::net::uring::Stream;

/// Runs a test in a shard of its own; one that hangs fails.
fn shard<F: Future<Output = ()>>(make: impl FnOnce() -> F + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        run_shard(None, 64, make).unwrap();
        done.send(()).unwrap();
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs"),
        _ => thread.join().unwrap(),
    }
}

fn listener() -> (Listener, SocketAddr) {
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (Listener::from_std(socket).unwrap(), address)
}

/// A link and its peer, an ordinary blocking socket.
async fn pair() -> (Stream, TcpStream) {
    let (listener, address) = listener();
    let peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (accept(&listener).await, peer)
}

async fn accept(listener: &Listener) -> Stream {
    match listener.accept().await {
        Accept::Client(stream, from) => {
            assert_eq!(stream.peer_addr(), from);
            stream
        }
        Accept::Closed => panic!("the listener is closed"),
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(50))
}

fn later() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn full(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::detached(bytes.len());
    buffer.append(bytes);
    buffer
}

async fn read(link: &Stream, until: Deadline) -> io::Result<Vec<u8>> {
    let (result, buffer) = link.read(Buffer::detached(64 * 1024), until).await;
    result.map(|n| {
        assert_eq!(n, buffer.len());
        buffer.filled().to_vec()
    })
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[test]
fn ten_megabytes_come_back_as_they_went() {
    shard(|| async {
        let (link, peer) = pair().await;
        let sent = pattern(10 << 20);
        let mut writer = peer.try_clone().unwrap();
        let outgoing = sent.clone();
        let client = std::thread::spawn(move || {
            let writing = std::thread::spawn(move || {
                writer.write_all(&outgoing).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut back = Vec::new();
            (&peer).read_to_end(&mut back).unwrap();
            writing.join().unwrap();
            back
        });
        let mut buffer = Buffer::detached(272 * 1024);
        loop {
            let result;
            (result, buffer) = link.read(buffer, later()).await;
            if result.unwrap() == 0 {
                break;
            }
            let result;
            (result, buffer) = link.write_all(buffer, later()).await;
            result.unwrap();
            assert!(buffer.is_empty());
        }
        link.finish(later()).await.unwrap();
        assert!(client.join().unwrap() == sent);
    });
}

#[test]
fn a_read_that_times_out_loses_no_byte() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        for round in 0..3u8 {
            assert_eq!(read(&link, soon()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(link.readable(soon()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            peer.write_all(&[round; 5]).unwrap();
            link.readable(later()).await.unwrap();
            assert_eq!(read(&link, later()).await.unwrap(), [round; 5]);
        }
        drop(peer);
        assert_eq!(read(&link, later()).await.unwrap(), []);
    });
}

#[test]
fn a_read_side_is_interrupted_and_goes_on_later() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let link = Rc::new(link);
        link.interrupt();
        for wait in [Deadline::NEVER, later()] {
            let pending = Rc::clone(&link);
            let waiting = tokio_uring::spawn(async move {
                let readable = pending.readable(wait).await.unwrap_err().kind();
                (readable, read(&pending, wait).await.unwrap_err().kind())
            });
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                link.interrupt();
            }
            assert_eq!(waiting.await.unwrap(), (io::ErrorKind::Interrupted, io::ErrorKind::Interrupted));
            peer.write_all(b"after").unwrap();
            assert_eq!(read(&link, later()).await.unwrap(), b"after");
        }
    });
}

#[test]
fn a_cancelled_read_does_not_hurt_a_write_in_flight() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let link = Rc::new(link);
        let sent = pattern(24 << 20);
        let (outgoing, writing) = (full(&sent), Rc::clone(&link));
        let write = tokio_uring::spawn(async move { writing.write_all(outgoing, later()).await.0 });
        for _ in 0..5 {
            assert_eq!(read(&link, soon()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 24 << 20];
            peer.read_exact(&mut got).unwrap();
            got
        });
        write.await.unwrap().unwrap();
        assert!(reader.join().unwrap() == sent);
    });
}

#[test]
fn a_write_to_a_peer_that_does_not_read_ends_at_its_deadline() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let started = Instant::now();
        let (result, _) = link.write_all(full(&pattern(64 << 20)), Deadline::after(Duration::from_millis(200))).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!((150..5000).contains(&started.elapsed().as_millis()));
        assert!(link.write_all(full(b"more"), later()).await.0.is_err());
        peer.write_all(b"still heard").unwrap();
        assert_eq!(read(&link, later()).await.unwrap(), b"still heard");
    });
}

#[test]
fn an_aborted_link_resets_its_peer_and_ends_what_is_pending() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let link = Rc::new(link);
        let (reading, writing) = (Rc::clone(&link), Rc::clone(&link));
        let read = tokio_uring::spawn(async move { read(&reading, later()).await });
        let write = tokio_uring::spawn(async move { writing.write_all(full(&pattern(64 << 20)), later()).await.0 });
        tokio::time::sleep(Duration::from_millis(50)).await;
        link.abort();
        assert!(read.await.unwrap().is_err());
        assert!(write.await.unwrap().is_err());
        let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_aborted_idle_link_looks_like_no_orderly_end() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        link.abort();
        let error = peer.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(link.write_all(full(b"x"), later()).await.0.is_err());
    });
}

#[test]
fn a_link_that_stops_writing_still_reads() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let link = Rc::new(link);
        let writing = Rc::clone(&link);
        let write = tokio_uring::spawn(async move { writing.write_all(full(&pattern(64 << 20)), later()).await.0 });
        tokio::time::sleep(Duration::from_millis(50)).await;
        link.stop_writing();
        assert!(write.await.unwrap().is_err());
        peer.write_all(b"early answer").unwrap();
        assert_eq!(read(&link, later()).await.unwrap(), b"early answer");
    });
}

#[test]
fn a_task_that_dies_in_an_operation_takes_its_connection_along() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let task = tokio_uring::spawn(async move { read(&link, later()).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(peer.read(&mut [0; 8]).is_err());
    });
}

#[test]
fn a_quiet_link_is_told_from_one_with_news() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        assert!(link.is_quiet());
        peer.write_all(b"x").unwrap();
        link.readable(later()).await.unwrap();
        assert!(!link.is_quiet());
        read(&link, later()).await.unwrap();
        assert!(link.is_quiet());
        drop(peer);
        link.readable(later()).await.unwrap();
        assert!(!link.is_quiet());
    });
}

#[test]
fn closing_a_listener_wakes_accept_and_swallows_no_client() {
    shard(|| async {
        let (listener, address) = listener();
        let listener = Rc::new(listener);
        let closing = Rc::clone(&listener);
        let waiting = tokio_uring::spawn(async move { matches!(closing.accept().await, Accept::Closed) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        listener.close();
        assert!(waiting.await.unwrap());
        assert!(matches!(listener.accept().await, Accept::Closed));
        assert!(TcpStream::connect(address).is_err());
    });
}

#[test]
fn clients_that_were_connected_before_the_close_are_served() {
    shard(|| async {
        let (listener, address) = listener();
        let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        listener.close();
        let mut taken = Vec::new();
        while let Accept::Client(stream, _) = listener.accept().await {
            assert!(stream.write_all(full(b"hello"), later()).await.0.is_ok());
            taken.push(stream);
        }
        assert_eq!(taken.len(), clients.len());
        for mut client in clients {
            client.read_exact(&mut [0; 5]).unwrap();
        }
    });
}

#[test]
fn a_thousand_connections_leave_no_descriptor_behind() {
    shard(|| async {
        let (listener, address) = listener();
        let served = Rc::new(Cell::new(0_usize));
        let client = std::thread::spawn(move || {
            for _ in 0..1000 {
                let mut peer = TcpStream::connect(address).unwrap();
                peer.write_all(b"ping").unwrap();
                peer.read_exact(&mut [0; 4]).unwrap();
            }
        });
        for _ in 0..1000 {
            let (link, served) = (accept(&listener).await, Rc::clone(&served));
            tokio_uring::spawn(async move {
                let (result, buffer) = link.read(Buffer::detached(16), later()).await;
                assert_eq!(result.unwrap(), 4);
                link.write_all(buffer, later()).await.0.unwrap();
                assert_eq!(read(&link, later()).await.unwrap(), []);
                drop(link);
                served.set(served.get() + 1);
            });
        }
        while served.get() < 1000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        client.join().unwrap();
        // Other tests of this process open sockets too; only those of this listener count.
        assert_eq!(sockets_of(address), 1);
    });
}

/// Descriptors of this process on `address` as their own address, by the kernel's table of TCP sockets.
fn sockets_of(address: SocketAddr) -> usize {
    let own: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let inodes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&port).then(|| format!("socket:[{}]", fields[9]))
    });
    inodes.filter(|inode| own.contains(inode)).count()
}

fn dialer(addresses: &[SocketAddr]) -> Dialer {
    Dialer::new(Arc::new(Addresses::fixed(vec![addresses.to_vec()])), 0)
}

/// An address that takes connections into a queue of one and then answers nothing: its listener never accepts.
fn black_hole() -> (socket2::Socket, SocketAddr, Vec<socket2::Socket>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let clients = (0..4).map(|_| {
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address.into());
        client
    });
    let clients = clients.collect();
    (socket, address, clients)
}

/// An address where nothing listens.
fn refusing() -> SocketAddr {
    listener().1
}

#[test]
fn a_refused_address_is_skipped_at_once_and_then_avoided() {
    shard(|| async {
        let (listener, good) = listener();
        let bad = refusing();
        let dialer = dialer(&[bad, good]);
        for _ in 0..4 {
            let started = Instant::now();
            let link = dialer.dial(0, later()).await.unwrap();
            assert!(started.elapsed() < Duration::from_millis(200));
            assert_eq!(link.peer_addr(), good);
            let accepted = accept(&listener).await;
            link.write_all(full(b"hi"), later()).await.0.unwrap();
            assert_eq!(read(&accepted, later()).await.unwrap(), b"hi");
        }
    });
}

#[test]
fn a_black_hole_costs_one_stagger_once() {
    shard(|| async {
        let (_hole, bad, _clients) = black_hole();
        let (_listener, good) = listener();
        let dialer = dialer(&[bad, good]);
        let waiting = connecting_to(bad);
        assert!(waiting > 0, "the hole is not black");
        let mut waits = Vec::new();
        for _ in 0..4 {
            let started = Instant::now();
            assert_eq!(dialer.dial(0, later()).await.unwrap().peer_addr(), good);
            waits.push(started.elapsed());
        }
        assert!(waits[0] >= Duration::from_millis(240) && waits[0] < Duration::from_secs(2), "{waits:?}");
        assert!(waits[1..].iter().all(|wait| *wait < Duration::from_millis(200)), "{waits:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(connecting_to(bad), waiting, "the loser's descriptor is still open");
    });
}

/// Sockets that wait for a connection to `address`.
fn connecting_to(address: SocketAddr) -> usize {
    let remote = format!("0100007F:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let waiting = table.lines().skip(1).filter(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[2] == remote && fields[3] == "02"
    });
    waiting.count()
}

#[test]
fn a_dial_says_why_it_failed() {
    shard(|| async {
        let (_hole, silent, _clients) = black_hole();
        let bad = [refusing(), refusing()];
        match dialer(&bad).dial(0, later()).await.unwrap_err() {
            DialError::Unreachable(error, 2) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
            other => panic!("{other}"),
        }
        let started = Instant::now();
        let outcome = dialer(&[silent]).dial(0, Deadline::after(Duration::from_millis(400))).await;
        assert!(matches!(outcome.unwrap_err(), DialError::TimedOut));
        assert!((350..5000).contains(&started.elapsed().as_millis()));
        match dialer(&[]).dial(0, later()).await.unwrap_err() {
            DialError::Unresolved(why) => assert!(!why.is_empty()),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn an_address_all_of_whose_kind_are_bad_is_tried_again() {
    shard(|| async {
        let (listener, good) = listener();
        let dialer = dialer(&[good]);
        dialer.blame(good);
        assert_eq!(dialer.dial(0, later()).await.unwrap().peer_addr(), good);
        accept(&listener).await;
    });
}
