//! `SimLink` keeps the rules of `filmgate::link`, and notices callers that do not.

use std::future::Future;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use filmgate::buffer::Buffer;
use filmgate::clock::Deadline;
use filmgate::link::Link;
use filmgate::pipe::Pipe;
use tokio::time::{Instant, timeout};

use crate::faults::{Cut, Direction, LinkFaults};
use crate::link::{SimLink, World, open_pipe, pair};
use crate::rng::Rng;

const NEVER: Deadline = Deadline::NEVER;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(1))
}

/// Runs `test` under a paused clock with a new pair of ends: near, far.
fn with_pair<F: Future<Output = ()>>(faults: LinkFaults, test: impl FnOnce(Rc<World>, SimLink, SimLink) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(0);
        let (near, far) = pair(&world, "test", faults, &Rng::new(1));
        let patient = timeout(Duration::from_secs(3600), test(Rc::clone(&world), near, far));
        patient.await.expect("the test hangs");
    });
}

fn filled(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::detached(bytes.len().max(1));
    buffer.append(bytes);
    buffer
}

async fn write(link: &SimLink, bytes: &[u8], until: Deadline) -> Result<(), ErrorKind> {
    let (result, buffer) = link.write_all(filled(bytes), until).await;
    assert!(buffer.is_empty());
    result.map_err(|error| error.kind())
}

async fn read(link: &SimLink, until: Deadline) -> Result<Vec<u8>, ErrorKind> {
    let (result, buffer) = link.read(Buffer::detached(1000), until).await;
    result.map(|_| buffer.filled().to_vec()).map_err(|error| error.kind())
}

async fn read_all(link: &SimLink) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut all = Vec::new();
    loop {
        match read(link, NEVER).await {
            Ok(bytes) if bytes.is_empty() => return (all, Ok(())),
            Ok(bytes) => all.extend(bytes),
            Err(kind) => return (all, Err(kind)),
        }
    }
}

#[test]
fn a_deadline_ends_a_read_and_loses_nothing() {
    with_pair(LinkFaults::CLEAR, |world, near, far| async move {
        let start = Instant::now();
        assert_eq!(read(&near, soon()).await, Err(ErrorKind::TimedOut));
        assert_eq!(near.readable(soon()).await.map_err(|e| e.kind()), Err(ErrorKind::TimedOut));
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        write(&far, b"late", NEVER).await.unwrap();
        near.readable(soon()).await.unwrap();
        assert_eq!(read(&near, soon()).await.unwrap(), b"late");
        assert!(world.violations.borrow().is_empty());
    });
}

#[test]
fn short_reads_delays_and_a_small_window_keep_every_byte_in_order() {
    let direction = Direction {
        read_bytes_max: Some(3),
        window_bytes: 5,
        delay_permille: 500,
        delay_max: Duration::from_millis(20),
        cut: None,
    };
    with_pair(LinkFaults { inward: direction, outward: Direction::CLEAR }, |_, near, far| async move {
        let sent: Vec<u8> = (0..500_u32).map(|n| n as u8).collect();
        let writing = async {
            write(&far, &sent, NEVER).await.unwrap();
            far.finish(NEVER).await.unwrap();
        };
        let ((), (received, end)) = tokio::join!(writing, read_all(&near));
        assert_eq!((received, end), (sent.clone(), Ok(())));
    });
}

#[test]
fn a_full_window_holds_the_writer_until_its_deadline_and_then_the_link_takes_no_more() {
    let outward = Direction { window_bytes: 4, ..Direction::CLEAR };
    with_pair(LinkFaults { inward: Direction::CLEAR, outward }, |_, near, far| async move {
        assert_eq!(write(&near, b"12345", soon()).await, Err(ErrorKind::TimedOut));
        assert_eq!(read(&far, soon()).await.unwrap(), b"1234");
        assert_eq!(write(&near, b"5", soon()).await, Err(ErrorKind::BrokenPipe));
        write(&far, b"still", NEVER).await.unwrap();
        assert_eq!(read(&near, soon()).await.unwrap(), b"still");
    });
}

#[test]
fn an_interrupt_ends_a_pending_read_and_only_a_pending_one() {
    with_pair(LinkFaults::CLEAR, |world, near, far| async move {
        near.interrupt();
        let interrupting = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            near.interrupt();
        };
        let (result, ()) = tokio::join!(read(&near, NEVER), interrupting);
        assert_eq!(result, Err(ErrorKind::Interrupted));
        write(&far, b"after", NEVER).await.unwrap();
        assert_eq!(read(&near, NEVER).await.unwrap(), b"after");
        assert!(world.violations.borrow().is_empty());
    });
}

#[test]
fn a_goodbye_ends_one_direction_only() {
    with_pair(LinkFaults::CLEAR, |_, near, far| async move {
        near.finish(NEVER).await.unwrap();
        assert_eq!(read(&far, NEVER).await.unwrap(), b"");
        write(&far, b"answer", NEVER).await.unwrap();
        assert_eq!(read(&near, NEVER).await.unwrap(), b"answer");
        assert_eq!(write(&near, b"more", NEVER).await, Err(ErrorKind::BrokenPipe));
    });
}

#[test]
fn stop_writing_ends_a_pending_write_and_leaves_reading_alone() {
    let outward = Direction { window_bytes: 1, ..Direction::CLEAR };
    with_pair(LinkFaults { inward: Direction::CLEAR, outward }, |_, near, far| async move {
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            near.stop_writing();
        };
        let (result, ()) = tokio::join!(write(&near, b"12", NEVER), stopping);
        assert_eq!(result, Err(ErrorKind::BrokenPipe));
        write(&far, b"answer", NEVER).await.unwrap();
        assert_eq!(read(&near, NEVER).await.unwrap(), b"answer");
    });
}

#[test]
fn an_abort_fails_everything_pending_at_both_ends() {
    with_pair(LinkFaults::CLEAR, |_, near, far| async move {
        let aborting = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            near.abort();
        };
        let (mine, theirs, ()) = tokio::join!(read(&near, NEVER), read(&far, NEVER), aborting);
        assert_eq!(mine, Err(ErrorKind::ConnectionAborted));
        assert_eq!(theirs, Err(ErrorKind::ConnectionReset));
        assert_eq!(write(&far, b"x", NEVER).await, Err(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_link_dropped_with_unread_bytes_resets_its_peer() {
    with_pair(LinkFaults::CLEAR, |world, near, far| async move {
        write(&far, b"unread", NEVER).await.unwrap();
        assert_eq!(world.near_open.get(), 1);
        drop(near);
        assert_eq!(world.near_open.get(), 0);
        assert_eq!(read(&far, NEVER).await, Err(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_cut_comes_at_its_byte() {
    for (cut, end) in
        [(Cut::Close, Some(Ok(()))), (Cut::Reset, Some(Err(ErrorKind::ConnectionReset))), (Cut::Stall, None)]
    {
        let inward = Direction { cut: Some((10, cut)), ..Direction::CLEAR };
        with_pair(LinkFaults { inward, outward: Direction::CLEAR }, |_, near, far| async move {
            let written = write(&far, &[7; 20], NEVER).await;
            assert_eq!(written.is_ok(), cut == Cut::Stall);
            match end {
                Some(end) => {
                    let (bytes, ended) = read_all(&near).await;
                    // An RST may overtake what was not read yet.
                    assert!(bytes.len() == 10 || (cut == Cut::Reset && bytes.is_empty()), "{cut:?}");
                    assert_eq!(ended, end, "{cut:?}");
                    assert!(write(&near, b"x", NEVER).await.is_err());
                }
                None => {
                    assert_eq!(read(&near, soon()).await.unwrap(), [7; 10]);
                    assert_eq!(read(&near, soon()).await, Err(ErrorKind::TimedOut));
                    near.abort();
                    assert_eq!(read(&near, NEVER).await, Err(ErrorKind::ConnectionAborted));
                }
            }
        });
    }
}

#[test]
fn an_operation_dropped_in_flight_is_noticed() {
    with_pair(LinkFaults::CLEAR, |world, near, far| async move {
        let _open = far;
        drop(near.read(Buffer::detached(1), NEVER));
        assert!(world.violations.borrow().is_empty(), "nothing was in flight yet");
        let _ = timeout(Duration::from_millis(1), near.readable(NEVER)).await;
        assert_eq!(world.violations.borrow().len(), 1);
    });
}

#[test]
fn a_second_operation_on_one_side_is_noticed() {
    with_pair(LinkFaults::CLEAR, |world, near, far| async move {
        let _open = far;
        let both = async { tokio::join!(near.readable(soon()), read(&near, soon())) };
        let _ = both.await;
        assert_eq!(world.violations.borrow().len(), 1);
    });
}

#[test]
fn an_interrupt_or_a_goodbye_during_a_write_is_noticed() {
    let outward = Direction { window_bytes: 1, ..Direction::CLEAR };
    with_pair(LinkFaults { inward: Direction::CLEAR, outward }, |world, near, far| async move {
        let _open = far;
        let meddling = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            near.interrupt();
            let _ = near.finish(NEVER).await;
        };
        let _ = tokio::join!(write(&near, b"12", soon()), meddling);
        assert_eq!(world.violations.borrow().len(), 2);
    });
}

#[test]
fn bytes_go_through_a_pipe_in_order_and_no_more_of_them_than_asked() {
    let narrow = Direction { window_bytes: 7, read_bytes_max: Some(5), ..Direction::CLEAR };
    with_pair(LinkFaults { inward: narrow, outward: narrow }, |world, near, far| async move {
        let sent: Vec<u8> = (0..500_u32).map(|n| n as u8).collect();
        let mut pipe = Pipe::detached(open_pipe().unwrap());
        let relaying = async {
            let mut left = 400;
            while left > 0 {
                left -= near.splice_in(&mut pipe, left, NEVER).await.unwrap() as u64;
                while !pipe.is_empty() {
                    near.splice_out(&mut pipe, NEVER).await.unwrap();
                }
            }
            near.finish(NEVER).await.unwrap();
        };
        let (_, (back, end), ()) = tokio::join!(write(&far, &sent[..400], NEVER), read_all(&far), relaying);
        assert_eq!((back.as_slice(), end), (&sent[..400], Ok(())));
        assert!(world.violations.borrow().is_empty());
    });
}

#[test]
fn what_cannot_be_sent_stays_in_the_pipe() {
    let outward = Direction { window_bytes: 4, ..Direction::CLEAR };
    with_pair(LinkFaults { inward: Direction::CLEAR, outward }, |_, near, far| async move {
        write(&far, b"1234567", NEVER).await.unwrap();
        let mut pipe = Pipe::detached(open_pipe().unwrap());
        assert_eq!(near.splice_in(&mut pipe, 6, NEVER).await.unwrap(), 6);
        assert_eq!(pipe.len(), 6);
        while near.splice_out(&mut pipe, soon()).await.is_ok() {}
        assert_eq!((read(&far, soon()).await.unwrap(), pipe.len()), (b"1234".to_vec(), 2));
        assert_eq!(read(&near, soon()).await.unwrap(), b"7");
    });
}
