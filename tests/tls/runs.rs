//! Bodies from one session to another, record by record.

use std::io::ErrorKind;
use std::time::Duration;

use filmgate::buffer::{Buffer, Pool};
use filmgate::clock::Deadline;
use filmgate::limits::BULK_BUFFER_BYTES;
use filmgate::link::Link;
use filmgate::proxy::secure::{Run, RunRead, Secure};
use filmgate::tls::TlsError;
use filmgate::tls::config::Version;
use rustls::AlertDescription;

use crate::ends::{Dice, End, Theirs};
use crate::memory::{Memory, buffer_of, run, soon};
use crate::secure::{against_theirs, against_theirs_with, connected, hear, read, say};

/// Lets `link` deal with what is no data.
async fn take_notice(link: &impl Link) {
    let waited = link.readable(Deadline::after(Duration::from_millis(1))).await;
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::TimedOut);
}

async fn run_from(link: &Secure<Memory>) -> Run {
    let RunRead::Run(run) = link.read_run(u64::MAX, soon()).await.unwrap() else { panic!("no run") };
    run
}

/// `data` as it came from another session.
async fn run_of(data: &[u8]) -> Run {
    let (client, server) = connected(Version::Tls13, 1 << 20).await;
    take_notice(&client).await;
    server.write_all(buffer_of(data), soon()).await.0.unwrap();
    let run = run_from(&client).await;
    assert_eq!(run.plain_len(), data.len());
    run
}

/// Gives `client` a record that was changed, and returns what the peer hears of it in the end.
async fn fail_reading(client: &Secure<Memory>, there: &Memory, theirs: &mut Theirs) -> TlsError {
    let mut record = theirs.seal(b"content");
    *record.last_mut().unwrap() ^= 1;
    say(there, &record).await;
    assert_eq!(read(client).await.unwrap_err().kind(), ErrorKind::InvalidData);
    loop {
        if let Err(error) = hear(there, theirs).await {
            return error;
        }
    }
}

#[test]
fn an_alert_waits_for_the_run_in_flight_and_then_goes_out() {
    run(async {
        let data = Dice::new(3).bytes(100_000);
        let run = run_of(&data).await;
        let (client, there, mut theirs) = against_theirs(20_000).await;
        let failing = fail_reading(&client, &there, &mut theirs);
        let (written, error) = tokio::join!(client.write_run(run, soon()), failing);
        written.unwrap();
        assert_eq!(error, TlsError::Alert(AlertDescription::BadRecordMac));
        assert!(theirs.plain == data);
    });
}

#[test]
fn an_alert_does_not_overtake_a_run_that_waits_behind_a_key_update() {
    run(async {
        let data = Dice::new(4).bytes(100_000);
        let run = run_of(&data).await;
        let (client, there, mut theirs) = against_theirs(20_000).await;
        theirs.connection.refresh_traffic_keys().unwrap();
        say(&there, &theirs.give()).await;
        // Two records that leave no room behind them.
        let full = vec![7; 20_000 - 2 * 22];
        client.write_all(buffer_of(&full), soon()).await.0.unwrap();
        take_notice(&client).await;
        let failing = fail_reading(&client, &there, &mut theirs);
        let (written, error) = tokio::join!(client.write_run(run, soon()), failing);
        written.unwrap();
        assert_eq!(error, TlsError::Alert(AlertDescription::BadRecordMac));
        assert!(theirs.plain == [full, data].concat());
    });
}

#[test]
fn a_session_that_failed_sends_no_run_but_its_alert() {
    run(async {
        let run = run_of(b"in vain").await;
        let (client, there, mut theirs) = against_theirs(20_000).await;
        // The turn is taken while reading fails.
        let blocked = client.write_all(buffer_of(&[7; 30_000]), soon());
        let (_, error) = tokio::join!(blocked, fail_reading(&client, &there, &mut theirs));
        assert_eq!(error, TlsError::Alert(AlertDescription::BadRecordMac));
        let failed = client.write_run(run, soon()).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::InvalidData);
        let said = there.read(Buffer::detached(100), Deadline::after(Duration::from_millis(1))).await;
        assert_eq!(said.0.unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// Where the pool's bulk buffers are. One that is in use is not among them.
fn bulk_buffers(pool: &Pool) -> Vec<*const u8> {
    let mut buffers: Vec<_> = (0..4).map(|_| pool.take_bulk()).collect();
    let mut places: Vec<_> = buffers.iter_mut().map(|buffer| buffer.spare_mut().as_ptr()).collect();
    places.sort();
    places
}

/// How the body before the wait is read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    Runs,
    Copies,
}

#[test]
fn whoever_waits_behind_a_long_body_holds_no_bulk_buffer() {
    for reading in [Reading::Runs, Reading::Copies] {
        // With and without a part of what follows right behind the body.
        for at_once in [0, 1, 30] {
            run(async {
                let pool = Pool::new(1 << 20);
                let all = bulk_buffers(&pool);
                let (client, there, mut theirs) = against_theirs_with(1 << 20, &pool).await;
                take_notice(&client).await;
                let data = Dice::new(5).bytes(300_000);
                let (body, next) = (theirs.seal(&data), theirs.seal(b"the next request"));
                say(&there, &[&body[..], &next[..at_once]].concat()).await;
                let mut left = data.len();
                while left > 0 {
                    left -= match reading {
                        Reading::Runs => run_from(&client).await.plain_len(),
                        Reading::Copies => {
                            client.readable(soon()).await.unwrap();
                            client.read(Buffer::detached(BULK_BUFFER_BYTES), soon()).await.0.unwrap()
                        }
                    };
                }
                let looking = async {
                    for part in [&next[at_once..=at_once], &next[at_once + 1..]] {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        assert_eq!(bulk_buffers(&pool), all, "{reading:?} {at_once}");
                        say(&there, part).await;
                    }
                };
                let (waited, ()) = tokio::join!(client.readable(soon()), looking);
                waited.unwrap();
                assert_eq!(read(&client).await.unwrap(), b"the next request");
            });
        }
    }
}

#[test]
fn whoever_waits_within_a_run_holds_no_bulk_buffer() {
    run(async {
        let pool = Pool::new(1 << 20);
        let all = bulk_buffers(&pool);
        let (client, there, mut theirs) = against_theirs_with(1 << 20, &pool).await;
        take_notice(&client).await;
        let data = Dice::new(6).bytes(16_000);
        let record = theirs.seal(&data);
        let looking = async {
            for part in record.chunks(5_000) {
                assert_eq!(bulk_buffers(&pool), all);
                say(&there, part).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (run, ()) = tokio::join!(run_from(&client), looking);
        assert_eq!(run.plain_len(), data.len());
    });
}
