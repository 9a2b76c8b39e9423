//! The TLS link over a link in memory. The clock is paused: deadlines cost nothing.

use std::io::{self, ErrorKind};
use std::time::Duration;

use filmgate::buffer::{Buffer, Pool};
use filmgate::clock::Deadline;
use filmgate::limits::{BUFFER_BYTES, BULK_BUFFER_BYTES};
use filmgate::link::Link;
use filmgate::proxy::secure::{Secure, SecureError, Wire};
use filmgate::tls::TlsError;
use filmgate::tls::config::Version;
use rustls::AlertDescription;

use crate::ends::{Dice, End, Theirs};
use crate::memory::{Memory, buffer_of, ends, run, soon};
use crate::pki::{Authority, ECDSA, NAME, pair, serving};

pub(crate) async fn connected(version: Version, capacity: usize) -> (Secure<Memory>, Secure<Memory>) {
    let (client_config, server_config) = pair(version, &ECDSA);
    let (here, there) = ends(capacity);
    let pool = Pool::new(1 << 20);
    let client = Secure::connect(here, &client_config, &pool, soon());
    let server = Secure::accept(there, &server_config, &pool, soon());
    let (client, server) = tokio::join!(client, server);
    (client.unwrap(), server.unwrap())
}

/// A client of ours and the other end's raw link, with an independent server that has shaken hands.
pub(crate) async fn against_theirs(capacity: usize) -> (Secure<Memory>, Memory, Theirs) {
    against_theirs_with(capacity, &Pool::new(1 << 20)).await
}

pub(crate) async fn against_theirs_with(capacity: usize, pool: &Pool) -> (Secure<Memory>, Memory, Theirs) {
    let authority = Authority::new();
    let config = serving(&[&authority.issue("leaf", &[NAME], &ECDSA)], Version::Tls13);
    let mut theirs = Theirs::server(&config);
    let (here, there) = ends(capacity);
    let client_config = authority.client(NAME, Version::Tls13);
    let shaking = async {
        while theirs.is_handshaking() {
            hear(&there, &mut theirs).await.unwrap();
            say(&there, &theirs.give()).await;
        }
    };
    let (client, ()) = tokio::join!(Secure::connect(here, &client_config, pool, soon()), shaking);
    (client.unwrap(), there, theirs)
}

pub(crate) async fn say(link: &Memory, bytes: &[u8]) {
    link.write_all(buffer_of(bytes), soon()).await.0.unwrap();
}

pub(crate) async fn hear(link: &Memory, end: &mut dyn End) -> Result<(), TlsError> {
    let (result, buffer) = link.read(Buffer::detached(BUFFER_BYTES), soon()).await;
    result.unwrap();
    end.take(buffer.filled())
}

pub(crate) async fn read<L: Link>(link: &L) -> io::Result<Vec<u8>> {
    let (result, buffer) = link.read(Buffer::detached(BUFFER_BYTES), soon()).await;
    result.map(|_| buffer.filled().to_vec())
}

async fn read_exactly<L: Link>(link: &L, len: usize, room: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let (result, buffer) = link.read(Buffer::detached(room), soon()).await;
        assert!(result.unwrap() > 0);
        all.extend_from_slice(buffer.filled());
    }
    all
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_mebibyte_flows_both_ways_at_once_through_a_narrow_link() {
    for version in [Version::Tls12, Version::Tls13] {
        run(async {
            let (client, server) = connected(version, 9_000).await;
            assert_eq!((client.version(), server.version()), (Some(version), Some(version)));
            let mut dice = Dice::new(99);
            let (up, down) = (dice.bytes(1 << 20), dice.bytes(1 << 20));
            let send = async |link: &Secure<Memory>, data: &[u8]| {
                for part in data.chunks(100_000) {
                    let (result, back) = link.write_all(buffer_of(part), soon()).await;
                    result.unwrap();
                    assert!(back.is_empty());
                }
            };
            let ((), (), at_server, at_client) = tokio::join!(
                send(&client, &up),
                send(&server, &down),
                read_exactly(&server, up.len(), 5_000),
                read_exactly(&client, down.len(), BULK_BUFFER_BYTES),
            );
            assert!(at_server == up && at_client == down);
        });
    }
}

#[test]
fn long_bodies_move_many_records_at_a_time() {
    run(async {
        let (client, server) = connected(Version::Tls13, 1 << 20).await;
        let data = Dice::new(1).bytes(16 * 16 * 1024);
        client.readable(soon()).await.unwrap_err();
        server.write_all(buffer_of(&data), soon()).await.0.unwrap();
        let (result, buffer) = client.read(Buffer::detached(BULK_BUFFER_BYTES), soon()).await;
        assert_eq!(result.unwrap(), data.len());
        assert!(buffer.filled() == data);
    });
}

#[test]
fn tickets_alone_do_not_make_a_connection_readable() {
    run(async {
        let (client, server) = connected(Version::Tls13, 1 << 16).await;
        assert_eq!(kind(client.readable(soon()).await), ErrorKind::TimedOut);
        server.write_all(buffer_of(b"data"), soon()).await.0.unwrap();
        client.readable(Deadline::NEVER).await.unwrap();
        client.readable(Deadline::NEVER).await.unwrap();
        assert_eq!(read(&client).await.unwrap(), b"data");
        assert_eq!(kind(client.readable(soon()).await), ErrorKind::TimedOut);
        server.finish(soon()).await.unwrap();
        client.readable(Deadline::NEVER).await.unwrap();
        assert_eq!(read(&client).await.unwrap(), b"");
    });
}

#[test]
fn an_orderly_end_reads_as_such_and_leaves_the_other_direction_open() {
    for version in [Version::Tls12, Version::Tls13] {
        run(async {
            let (client, server) = connected(version, 1 << 16).await;
            client.write_all(buffer_of(b"request"), soon()).await.0.unwrap();
            client.finish(soon()).await.unwrap();
            assert_eq!(read(&server).await.unwrap(), b"request");
            assert_eq!(read(&server).await.unwrap(), b"");
            assert_eq!(read(&server).await.unwrap(), b"");
            server.write_all(buffer_of(b"answer"), soon()).await.0.unwrap();
            assert_eq!(read(&client).await.unwrap(), b"answer");
        });
    }
}

#[test]
fn an_end_without_goodbye_is_no_orderly_end() {
    run(async {
        let (client, server) = connected(Version::Tls13, 1 << 16).await;
        client.write_all(buffer_of(b"half"), soon()).await.0.unwrap();
        client.stop_writing();
        assert!(client.write_all(buffer_of(b"more"), soon()).await.0.is_err());
        assert_eq!(read(&server).await.unwrap(), b"half");
        server.readable(Deadline::NEVER).await.unwrap();
        assert_eq!(kind(read(&server).await), ErrorKind::UnexpectedEof);
        assert_eq!(kind(read(&server).await), ErrorKind::UnexpectedEof);
        // The other direction is as it was.
        server.write_all(buffer_of(b"answer"), soon()).await.0.unwrap();
        assert_eq!(read(&client).await.unwrap(), b"answer");
        client.abort();
        assert_eq!(kind(read(&client).await), ErrorKind::ConnectionReset);
        assert!(server.write_all(buffer_of(b"x"), soon()).await.0.is_err());
    });
}

#[test]
fn an_interrupted_wait_loses_nothing() {
    run(async {
        let (client, there, mut theirs) = against_theirs(1 << 16).await;
        let tickets_first = client.readable(Deadline::after(Duration::from_millis(1))).await;
        assert_eq!(kind(tickets_first), ErrorKind::TimedOut);
        let interrupting = async || {
            tokio::time::sleep(Duration::from_millis(1)).await;
            client.interrupt();
        };
        for from_end in [0, 1, 20] {
            let record = theirs.seal(b"in two parts");
            let cut = if from_end == 0 { 0 } else { record.len() - from_end };
            say(&there, &record[..cut]).await;
            let (result, ()) = tokio::join!(read(&client), interrupting());
            assert_eq!(kind(result), ErrorKind::Interrupted);
            let (result, ()) = tokio::join!(client.readable(Deadline::NEVER), interrupting());
            assert_eq!(kind(result), ErrorKind::Interrupted);
            // A deadline loses nothing either.
            assert_eq!(kind(read(&client).await), ErrorKind::TimedOut);
            client.interrupt();
            say(&there, &record[cut..]).await;
            assert_eq!(read(&client).await.unwrap(), b"in two parts");
        }
    });
}

#[test]
fn plain_http_gives_the_link_back_for_an_answer() {
    run(async {
        let (_, config) = pair(Version::Tls13, &ECDSA);
        let (client, server) = ends(1 << 16);
        say(&client, b"GET /ping HTTP/1.1\r\nHost: media\r\n\r\n").await;
        let failed = Secure::accept(server, &config, &Pool::new(1 << 20), soon()).await.err().unwrap();
        assert!(matches!(failed.cause, SecureError::Tls(TlsError::PlainHttp)));
        say(&failed.link, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert_eq!(read(&client).await.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
}

#[test]
fn an_untrusted_upstream_is_reported_and_told() {
    run(async {
        let (client_config, _) = pair(Version::Tls13, &ECDSA);
        let (_, server_config) = pair(Version::Tls13, &ECDSA);
        let (here, there) = ends(1 << 16);
        let pool = Pool::new(1 << 20);
        let (client, server) = tokio::join!(
            Secure::connect(here, &client_config, &pool, soon()),
            Secure::accept(there, &server_config, &pool, soon())
        );
        let cause = client.err().unwrap().cause;
        assert!(matches!(cause, SecureError::Tls(TlsError::Untrusted(_))), "{cause}");
        assert!(cause.to_string().contains("ca-file"), "{cause}");
        let cause = server.err().unwrap().cause;
        assert!(matches!(cause, SecureError::Tls(TlsError::Alert(AlertDescription::UnknownCA))), "{cause}");
    });
}

#[test]
fn a_peer_that_leaves_or_stalls_in_the_handshake_ends_it() {
    run(async {
        let (_, config) = pair(Version::Tls13, &ECDSA);
        let pool = Pool::new(1 << 20);
        let (client, server) = ends(1 << 16);
        say(&client, &[22, 3, 1]).await;
        client.stop_writing();
        let failed = Secure::accept(server, &config, &pool, Deadline::NEVER).await.err().unwrap();
        assert!(matches!(failed.cause, SecureError::Closed), "{failed:?}");
        let (client, server) = ends(1 << 16);
        say(&client, &[22, 3, 1]).await;
        let failed = Secure::accept(server, &config, &pool, soon()).await.err().unwrap();
        assert!(matches!(&failed.cause, SecureError::Link(error) if error.kind() == ErrorKind::TimedOut), "{failed:?}");
    });
}

#[test]
fn a_handshake_message_without_end_meets_a_bound() {
    run(async {
        let (_, config) = pair(Version::Tls13, &ECDSA);
        let (client, server) = ends(1 << 20);
        // A hello that announces 65,000 bytes, three at a time.
        let mut flood = vec![22, 3, 1, 0, 4, 1, 0, 0xfd, 0xe8];
        while flood.len() < 600_000 {
            flood.extend_from_slice(&[22, 3, 1, 0, 3, 0, 0, 0]);
        }
        say(&client, &flood).await;
        let failed = Secure::accept(server, &config, &Pool::new(1 << 20), soon()).await.err().unwrap();
        assert!(
            matches!(&failed.cause, SecureError::Link(error) if error.kind() == ErrorKind::InvalidData),
            "{failed:?}"
        );
    });
}

#[test]
fn a_changed_record_is_an_error_at_both_ends() {
    run(async {
        let (client, there, mut theirs) = against_theirs(1 << 16).await;
        let mut record = theirs.seal(b"content");
        *record.last_mut().unwrap() ^= 1;
        say(&there, &record).await;
        client.readable(Deadline::NEVER).await.unwrap();
        assert_eq!(kind(read(&client).await), ErrorKind::InvalidData);
        assert_eq!(hear(&there, &mut theirs).await, Err(TlsError::Alert(AlertDescription::BadRecordMac)));
        assert_eq!(kind(client.write_all(buffer_of(b"x"), soon()).await.0), ErrorKind::InvalidData);
    });
}

#[test]
fn key_updates_and_data_arrive_while_a_write_waits_for_the_peer() {
    run(async {
        let (client, there, mut theirs) = against_theirs(20_000).await;
        let body = Dice::new(42).bytes(300_000);
        let writing = client.write_all(buffer_of(&body), soon());
        let talking = async {
            for turn in 0..4u8 {
                theirs.connection.refresh_traffic_keys().unwrap();
                let mut wire = theirs.give();
                wire.extend(theirs.seal(&[turn]));
                say(&there, &wire).await;
                assert_eq!(read(&client).await.unwrap(), [turn]);
                hear(&there, &mut theirs).await.unwrap();
            }
            while theirs.plain.len() < body.len() {
                hear(&there, &mut theirs).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(writing, talking);
        written.0.unwrap();
        assert!(theirs.plain == body);
        client.finish(soon()).await.unwrap();
        hear(&there, &mut theirs).await.unwrap();
        assert!(theirs.is_closed);
    });
}

#[test]
fn an_alert_waits_for_the_write_in_flight_and_then_goes_out() {
    run(async {
        let (client, there, mut theirs) = against_theirs(20_000).await;
        let writing = client.write_all(buffer_of(&[7; 600_000]), soon());
        let talking = async {
            let mut record = theirs.seal(b"content");
            *record.last_mut().unwrap() ^= 1;
            say(&there, &record).await;
            assert_eq!(kind(read(&client).await), ErrorKind::InvalidData);
            loop {
                if let Err(error) = hear(&there, &mut theirs).await {
                    return error;
                }
            }
        };
        let (written, error) = tokio::join!(writing, talking);
        assert_eq!(kind(written.0), ErrorKind::InvalidData);
        assert_eq!(error, TlsError::Alert(AlertDescription::BadRecordMac));
        assert!(theirs.plain.len() >= 16 * 1024 && theirs.plain.iter().all(|byte| *byte == 7));
    });
}

#[test]
fn nothing_follows_a_write_that_was_cut_off() {
    run(async {
        let (client, there, mut theirs) = against_theirs(10_000).await;
        assert_eq!(kind(client.write_all(buffer_of(&[1; 100_000]), soon()).await.0), ErrorKind::TimedOut);
        assert!(client.write_all(buffer_of(b"more"), soon()).await.0.is_err());
        let _ = client.finish(soon()).await;
        client.stop_writing();
        // Whole records at most, and no goodbye.
        let (result, buffer) = there.read(Buffer::detached(BUFFER_BYTES), soon()).await;
        assert_eq!(result.unwrap(), 10_000);
        theirs.take(buffer.filled()).unwrap();
        assert!(theirs.plain.is_empty() && !theirs.is_closed);
        assert_eq!(read(&there).await.unwrap(), b"");
    });
}

#[test]
fn reading_byte_by_byte_from_the_link_gives_the_same() {
    run(async {
        let (client, server) = connected(Version::Tls12, 1 << 16).await;
        client.write_all(buffer_of(&[3; 40_000]), soon()).await.0.unwrap();
        let mut all = Vec::new();
        while all.len() < 40_000 {
            let (result, buffer) = server.read(Buffer::detached(1), soon()).await;
            assert_eq!(result.unwrap(), 1);
            all.extend_from_slice(buffer.filled());
        }
        assert!(all == [3; 40_000]);
    });
}

#[test]
fn a_wire_is_plain_or_tls() {
    run(async {
        let (client, server) = ends(1 << 16);
        let (client, server) = (Wire::Plain(client), Wire::Plain(server));
        client.write_all(buffer_of(b"as it is"), soon()).await.0.unwrap();
        server.readable(soon()).await.unwrap();
        assert_eq!(read(&server).await.unwrap(), b"as it is");
        assert_eq!(client.tls_version(), None);

        let (client, server) = connected(Version::Tls13, 1 << 16).await;
        let (client, server) = (Wire::Tls(Box::new(client)), Wire::Tls(Box::new(server)));
        client.write_all(buffer_of(b"sealed"), soon()).await.0.unwrap();
        client.finish(soon()).await.unwrap();
        assert_eq!(read(&server).await.unwrap(), b"sealed");
        assert_eq!(read(&server).await.unwrap(), b"");
        assert_eq!(server.tls_version(), Some(Version::Tls13));
    });
}
