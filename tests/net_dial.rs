//! Dialling over real loopback sockets.

mod net_loopback;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use filmgate::clock::{self, Deadline};
use filmgate::link::{Dial, DialError, Link};
use filmgate::net::dial::Dialer;
use filmgate::net::resolve::Addresses;
use net_loopback::{accept, full, later, listener, open_sockets, read, shard};

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

/// An address where nothing listens, kept from others while the socket lives.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn a_refused_address_is_skipped_at_once_and_then_avoided() {
    shard(|| async {
        let (listener, good) = listener();
        let (_nobody, bad) = refusing();
        let dialer = dialer(&[bad, good]);
        for _ in 0..4 {
            let started = clock::mono();
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
            let started = clock::mono();
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
    open_sockets(|row| row[2] == remote && row[3] == "02")
}

#[test]
fn a_dial_says_why_it_failed() {
    shard(|| async {
        let (_hole, silent, _clients) = black_hole();
        let nobody = [refusing(), refusing()];
        match dialer(&nobody.each_ref().map(|(_, address)| *address)).dial(0, later()).await.unwrap_err() {
            DialError::Unreachable(error, 2) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
            other => panic!("{other}"),
        }
        let started = clock::mono();
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
