//! Splicing between real sockets: nothing lost, nothing taken too much, and the thread never held up.

#[allow(dead_code, reason = "shared between several tests")]
mod net_loopback;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use filmgate::clock::{self, Deadline};
use filmgate::http::body::Reader;
use filmgate::limits;
use filmgate::link::Link;
use filmgate::net::uring::{self, Stream};
use filmgate::pipe::{Pipe, Pipes, Splice};
use filmgate::proxy::pump::{Filled, Pump};
use filmgate::proxy::secure::Wire;
use net_loopback::{accept, full, later, listener, read, shard};

async fn pair() -> (Stream, TcpStream) {
    let (listener, address) = listener();
    let peer = TcpStream::connect(address).unwrap();
    (accept(&listener).await, peer)
}

fn pipe() -> Pipe {
    Pipe::detached(uring::pipe().unwrap())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(50))
}

/// Moves `left` bytes from one link to the other.
async fn relay(from: &Stream, to: &Stream, mut left: u64) -> io::Result<()> {
    let mut pipe = pipe();
    while left > 0 {
        let n = from.splice_in(&mut pipe, left, later()).await?;
        assert!(n > 0 && n as u64 <= left && n == pipe.len());
        left -= n as u64;
        while !pipe.is_empty() {
            to.splice_out(&mut pipe, later()).await?;
        }
    }
    Ok(())
}

/// Puts more into `link` than its peer's socket and its own take in, and gives back what is left of it in a pipe.
async fn choke(link: &Stream) -> Pipe {
    let (source, mut feeder) = pair().await;
    std::thread::spawn(move || while feeder.write_all(&[7; 64 * 1024]).is_ok() {});
    let mut pipe = pipe();
    loop {
        source.splice_in(&mut pipe, u64::MAX, later()).await.unwrap();
        while !pipe.is_empty() {
            let started = clock::mono();
            match link.splice_out(&mut pipe, Deadline::after(Duration::from_secs(1))).await {
                Ok(()) => assert!(started.elapsed() < Duration::from_millis(900)),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    return pipe;
                }
            }
        }
    }
}

/// Fills `link` and leaves a `splice_out` waiting in a task of its own.
async fn waiting(link: &Rc<Stream>) -> tokio::task::JoinHandle<io::Result<()>> {
    let (source, mut feeder) = pair().await;
    std::thread::spawn(move || while feeder.write_all(&[7; 64 * 1024]).is_ok() {});
    let link = Rc::clone(link);
    let task = tokio::task::spawn_local(async move {
        let mut pipe = pipe();
        loop {
            source.splice_in(&mut pipe, u64::MAX, later()).await?;
            while !pipe.is_empty() {
                link.splice_out(&mut pipe, later()).await?;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!task.is_finished());
    task
}

#[test]
fn a_body_is_moved_to_a_slow_reader_byte_for_byte_and_nothing_behind_it() {
    shard(|| async {
        let ((source, mut sender), (sink, mut receiver)) = (pair().await, pair().await);
        let body = pattern(24 << 20);
        let outgoing = body.clone();
        let sending = std::thread::spawn(move || {
            for (i, piece) in outgoing.chunks(700_001).enumerate() {
                sender.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(i as u64 % 3));
            }
            sender.write_all(b"GET /next").unwrap();
            sender
        });
        let length = body.len();
        let receiving = std::thread::spawn(move || {
            let mut got = vec![0; length];
            for piece in got.chunks_mut(1_500_007) {
                std::thread::sleep(Duration::from_millis(5));
                receiver.read_exact(piece).unwrap();
            }
            (got, receiver)
        });
        relay(&source, &sink, length as u64).await.unwrap();
        assert_eq!(read(&source, later()).await.unwrap(), b"GET /next");
        let (got, mut receiver) = receiving.join().unwrap();
        assert!(got == body);
        sink.finish(later()).await.unwrap();
        assert_eq!(receiver.read(&mut [0; 1]).unwrap(), 0);
        drop(sending.join().unwrap());
    });
}

#[test]
fn the_end_of_the_stream_in_the_middle_of_a_body_is_seen() {
    shard(|| async {
        let (source, mut sender) = pair().await;
        sender.write_all(b"half").unwrap();
        sender.shutdown(std::net::Shutdown::Write).unwrap();
        let mut pipe = pipe();
        assert_eq!(source.splice_in(&mut pipe, 8, later()).await.unwrap(), 4);
        let mut got = [0; 4];
        (&pipe.ends().reader).read_exact(&mut got).unwrap();
        pipe.drained(4);
        assert_eq!(&got, b"half");
        assert_eq!(source.splice_in(&mut pipe, 4, later()).await.unwrap(), 0);
    });
}

#[test]
fn a_reset_ends_both_directions() {
    shard(|| async {
        let ((source, sender), (sink, receiver)) = (pair().await, pair().await);
        let mut pipe = pipe();
        for peer in [sender, receiver] {
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let error = source.splice_in(&mut pipe, 8, later()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        (&pipe.ends().writer).write_all(b"x").unwrap();
        pipe.filled(1);
        let error = sink.splice_out(&mut pipe, later()).await.unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
        assert_eq!(pipe.len(), 1);
    });
}

#[test]
fn a_splice_that_times_out_or_is_interrupted_loses_no_byte() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let link = Rc::new(link);
        let mut pipe = pipe();
        assert_eq!(link.splice_in(&mut pipe, 9, soon()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let interrupting = Rc::clone(&link);
        let interrupts = tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            interrupting.interrupt();
        });
        let error = link.splice_in(&mut pipe, 9, Deadline::NEVER).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        interrupts.await.unwrap();
        peer.write_all(b"after all").unwrap();
        assert_eq!(link.splice_in(&mut pipe, 5, later()).await.unwrap(), 5);
        assert_eq!(read(&link, later()).await.unwrap(), b" all");
    });
}

#[test]
fn a_peer_that_does_not_read_holds_up_its_own_splice_only_and_that_until_the_deadline() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let pipe = choke(&link).await;
        assert!(!pipe.is_empty());
        assert!(link.write_all(full(b"more"), later()).await.0.is_err());
        peer.write_all(b"still heard").unwrap();
        assert_eq!(read(&link, later()).await.unwrap(), b"still heard");
    });
}

#[test]
fn a_link_is_read_while_a_splice_out_of_it_waits() {
    shard(|| async {
        let (link, mut peer) = pair().await;
        let link = Rc::new(link);
        let early = Rc::clone(&link);
        let reading = tokio::task::spawn_local(async move { read(&early, later()).await });
        let writing = waiting(&link).await;
        assert!(!reading.is_finished());
        peer.write_all(b"begun before").unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), b"begun before");
        let during = Rc::clone(&link);
        let reading = tokio::task::spawn_local(async move { read(&during, later()).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!reading.is_finished());
        peer.write_all(b"begun during").unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), b"begun during");
        assert_eq!(read(&link, soon()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!writing.is_finished());
        let mut taken = vec![0; 32 << 20];
        let reader = std::thread::spawn(move || peer.read_exact(&mut taken).map(|()| taken));
        while !reader.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(reader.join().unwrap().unwrap().iter().all(|byte| *byte == 7));
        assert!(writing.await.unwrap().is_err());
    });
}

#[test]
fn stopping_or_aborting_a_link_ends_a_splice_that_waits() {
    shard(|| async {
        for stop in [Stream::stop_writing, Stream::abort] as [fn(&Stream); 2] {
            let (link, mut peer) = pair().await;
            let link = Rc::new(link);
            let writing = waiting(&link).await;
            stop(&link);
            assert!(writing.await.unwrap().is_err());
            let _ = peer.write_all(b"early answer");
        }
    });
}

#[test]
fn writing_waits_in_the_ring_again_after_a_splice() {
    shard(|| async {
        let ((source, mut sender), (sink, mut receiver)) = (pair().await, pair().await);
        sender.write_all(b"spliced").unwrap();
        relay(&source, &sink, 7).await.unwrap();
        let body = pattern(24 << 20);
        let (sent, length) = (full(&body), body.len());
        let receiving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            let mut got = vec![0; length + 7];
            receiver.read_exact(&mut got).unwrap();
            (got, receiver)
        });
        sink.write_all(sent, later()).await.0.unwrap();
        let (got, mut receiver) = receiving.join().unwrap();
        assert!(got.starts_with(b"spliced") && got[7..] == body);
        receiver.write_all(b"answer").unwrap();
        assert_eq!(read(&sink, later()).await.unwrap(), b"answer");
    });
}

#[test]
fn a_pipe_is_as_large_as_the_system_allows() {
    let capacity = uring::pipe().unwrap().capacity;
    assert!((limits::PIPE_BYTES_MIN..=limits::PIPE_BYTES).contains(&capacity), "{capacity}");
}

#[test]
fn after_a_turn_a_pump_waits_in_the_ring_so_that_what_others_put_there_is_submitted() {
    shard(|| async {
        let ((from, mut feeder), (to, mut sink)) = (pair().await, pair().await);
        std::thread::spawn(move || while feeder.write_all(&[7; 64 * 1024]).is_ok() {});
        std::thread::spawn(move || while sink.read(&mut [0; 64 * 1024]).is_ok_and(|n| n > 0) {});
        let (from, to) = (Wire::Plain(from), Wire::Plain(to));
        let left = 1 << 30;
        let mut pump =
            Pump::between(&Pipes::new(Splice::Always, uring::pipe), &from, &to, &Reader::Length(left)).unwrap();
        let mut moved = 0;
        while moved < limits::PUMP_TURN_BYTES {
            assert!(matches!(pump.fill(&from, left, later()).await, Ok(Filled::Bytes(_))));
            let (n, result) = pump.drain(&to, Duration::from_secs(30)).await;
            result.unwrap();
            moved += n;
        }
        from.readable(later()).await.unwrap();
        let busy = Duration::from_millis(300);
        // As long as some task merely yields, the thread does not get round to the ring.
        tokio::task::spawn_local(async move {
            let started = clock::mono();
            while started.elapsed() < busy {
                tokio::task::yield_now().await;
            }
        });
        let started = clock::mono();
        assert!(matches!(pump.fill(&from, left, later()).await, Ok(Filled::Bytes(_))));
        assert!(started.elapsed() > busy / 2);
    });
}
