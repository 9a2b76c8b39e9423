//! The ring's links and listeners over real loopback sockets.

mod net_loopback;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use filmgate::buffer::Buffer;
use filmgate::clock::{self, Deadline};
use filmgate::link::Link;
use filmgate::net::listen::Accept;
use filmgate::net::uring::Stream;
use net_loopback::{accept, full, later, listener, open_sockets, read, shard};

/// A link and its peer, an ordinary blocking socket.
async fn pair() -> (Stream, TcpStream) {
    let (listener, address) = listener();
    let peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (accept(&listener).await, peer)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(50))
}

/// More than the kernel buffers for a peer that does not read.
fn too_much() -> Buffer {
    full(&vec![7; 16 << 20])
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
        assert_eq!(read(&link, later()).await.unwrap(), [0u8; 0]);
    });
}

#[test]
fn a_deadline_in_the_past_still_delivers_what_is_there() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let past = Deadline::after(Duration::ZERO);
        assert_eq!(read(&link, past).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        peer.write_all(b"here").unwrap();
        link.readable(past).await.unwrap();
        assert_eq!(read(&link, past).await.unwrap(), b"here");
    });
}

#[test]
fn deadlines_and_interrupts_racing_with_arrivals_lose_nothing() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let link = Rc::new(link);
        let sent = pattern(400_000);
        let outgoing = sent.clone();
        let writer = std::thread::spawn(move || {
            for (i, piece) in outgoing.chunks(1000).enumerate() {
                peer.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_micros(i as u64 * 37 % 3000));
            }
        });
        let interrupting = Rc::clone(&link);
        let interrupts = tokio_uring::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(3)).await;
                interrupting.interrupt();
            }
        });
        let (mut got, mut timed_out, mut interrupted) = (Vec::new(), 0, 0);
        for i in 0.. {
            let until = match i % 4 {
                0 => Deadline::NEVER,
                n => Deadline::after(Duration::from_micros(n * 700)),
            };
            match read(&link, until).await {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => got.extend(bytes),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => timed_out += 1,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => interrupted += 1,
                Err(error) => panic!("{error}"),
            }
        }
        interrupts.abort();
        writer.join().unwrap();
        assert!(got == sent);
        assert!(timed_out > 0 && interrupted > 0, "{timed_out} {interrupted}");
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
        let (body, started) = (too_much(), clock::mono());
        let (result, _) = link.write_all(body, Deadline::after(Duration::from_millis(200))).await;
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
        let write = tokio_uring::spawn(async move { writing.write_all(too_much(), later()).await.0 });
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
        let write = tokio_uring::spawn(async move { writing.write_all(too_much(), later()).await.0 });
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
fn a_shard_that_ends_takes_everything_pending_down() {
    let (sender, peers) = std::sync::mpsc::channel();
    shard(move || async move {
        let (listener, _) = listener();
        tokio_uring::spawn(async move { listener.accept().await });
        for _ in 0..20 {
            let (link, peer) = pair().await;
            link.readable(soon().min(Deadline::after(Duration::ZERO))).await.unwrap_err();
            let link = Rc::new(link);
            let writing = Rc::clone(&link);
            tokio_uring::spawn(async move { writing.write_all(too_much(), later()).await.0 });
            tokio_uring::spawn(async move { read(&link, later()).await });
            sender.send(peer).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    assert!(peers.iter().all(|mut peer| peer.read_to_end(&mut Vec::new()).is_err()));
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
                assert_eq!(read(&link, later()).await.unwrap(), [0u8; 0]);
                drop(link);
                served.set(served.get() + 1);
            });
        }
        while served.get() < 1000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        client.join().unwrap();
        // Other tests of this process open sockets too; only those of this listener count.
        let port = format!(":{:04X}", address.port());
        assert_eq!(open_sockets(|row| row[1].ends_with(&port)), 1);
    });
}
