//! Our TLS 1.3 record layer against a peer that seals what it likes: what is refused, with which alert, and what is not.

use filmgate::tls::TlsError;
use filmgate::tls::config::{Records, Version};
use filmgate::tls::session::{OpenState, RECORD_HEAD_BYTES, RECORD_TAIL_BYTES, Run, Session};
use rustls::{AlertDescription, HandshakeType};

use crate::ends::{Dice, End, Ours, Theirs, our_client, our_server, talk};
use crate::forge::{ALERT, DATA, Forge, Forged, HANDSHAKE, SUITES, Suite, forged, key_update};
use crate::pki::{Authority, ECDSA, NAME, pair, serving};

const UNEXPECTED: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;

fn server() -> Forged {
    forged(true, Suite::Aes128, Records::Own)
}

fn client() -> Forged {
    forged(false, Suite::Aes128, Records::Own)
}

/// A small ticket's message (RFC 8446 §4.6.1).
fn ticket() -> Vec<u8> {
    let body = b"\x00\x00\x1c\x20\x01\x02\x03\x04\x01n\x00\x05thing\x00\x00";
    [&[4, 0, 0, body.len() as u8], &body[..]].concat()
}

/// How a session ended: the error, and the alert it sent.
type Ending = (TlsError, Option<u8>);

/// What the session makes of `wire`: plaintext and verdict.
fn hear(forged: &mut Forged, wire: &[u8]) -> (Vec<u8>, Result<OpenState, Ending>) {
    let (mut incoming, mut plain, mut room, mut protocol) = (wire.to_vec(), Vec::new(), vec![0; 40_000], Vec::new());
    loop {
        match forged.session.open(&mut incoming, &mut room, &mut protocol) {
            Ok(opened) => {
                incoming.drain(..opened.consumed);
                plain.extend_from_slice(&room[..opened.produced]);
                if opened.state != OpenState::PlainFull {
                    assert!(protocol.is_empty());
                    return (plain, Ok(opened.state));
                }
            }
            Err(error) => {
                let alerts = forged.from_session.open(&protocol);
                assert!(alerts.len() <= 1 && alerts.iter().all(|(kind, content)| *kind == ALERT && content[0] == 2));
                assert_eq!(forged.session.seal(b"x", &mut room), Err(error.clone()), "a failure is for good");
                assert!(!forged.session.carries_runs());
                return (plain, Err((error, alerts.first().map(|(_, content)| content[1]))));
            }
        }
    }
}

/// Nothing but the alert comes of `wire`.
fn refused(mut forged: Forged, wire: &[u8], alert: u8) -> TlsError {
    let (plain, verdict) = hear(&mut forged, wire);
    let (error, sent) = verdict.expect_err("it was accepted");
    assert_eq!((plain.as_slice(), sent), (&b""[..], Some(alert)), "{error}");
    assert!(error.is_peer_fault());
    error
}

#[test]
fn every_suite_carries_every_length_and_padding_both_ways() {
    for suite in SUITES {
        for is_server in [true, false] {
            let mut forged = forged(is_server, suite, Records::Own);
            assert!(forged.session.carries_runs() && forged.session.version() == Some(Version::Tls13));
            for (len, padding) in [(1, 0), (1, 16_383), (2, 1), (16_383, 1), (16_384, 0), (5_000, 300), (1, 255)] {
                let content = Dice::new(len as u64).bytes(len);
                let wire = forged.to_session.padded(DATA, &content, padding);
                assert_eq!(hear(&mut forged, &wire), (content.clone(), Ok(OpenState::Blocked)));
                let mut room = vec![0; Session::sealed_len(len)];
                let sealed = forged.session.seal(&content, &mut room).unwrap();
                assert_eq!(sealed.written, len + RECORD_HEAD_BYTES + RECORD_TAIL_BYTES);
                assert!(forged.from_session.open(&room[..sealed.written]) == [(DATA, content)]);
            }
        }
    }
}

#[test]
fn a_change_to_any_byte_of_a_record_is_noticed() {
    for suite in SUITES {
        let content = b"some content to be tampered with";
        let len = content.len() + RECORD_HEAD_BYTES + RECORD_TAIL_BYTES;
        for at in (0..len).filter(|at| *at != 3 && *at != 4) {
            let mut forged = forged(true, suite, Records::Own);
            let mut wire = forged.to_session.record(DATA, content);
            wire[at] ^= 0x40;
            // A record of another kind is refused for that, whatever is in it.
            refused(forged, &wire, if at == 0 { UNEXPECTED } else { BAD_RECORD_MAC });
        }
    }
}

#[test]
fn a_changed_length_is_waited_for_or_noticed() {
    let mut forged = server();
    let mut wire = forged.to_session.record(DATA, b"content");
    wire[4] += 1;
    assert_eq!(hear(&mut forged, &wire), (vec![], Ok(OpenState::Blocked)));
    wire.push(0);
    refused(forged, &wire, BAD_RECORD_MAC);
    let mut forged = server();
    let mut wire = forged.to_session.record(DATA, b"content");
    wire[4] -= 1;
    assert_eq!(refused(forged, &wire, BAD_RECORD_MAC), TlsError::Decrypt);
    for len in 0..16 {
        let wire = [&[23, 3, 3, 0, len], &vec![0; usize::from(len)][..]].concat();
        assert_eq!(refused(server(), &wire, BAD_RECORD_MAC), TlsError::Decrypt);
    }
    // As soon as the header is there.
    assert_eq!(hear(&mut server(), &[23, 3, 3, 0x41, 0]).1, Ok(OpenState::Blocked));
    refused(server(), &[23, 3, 3, 0x41, 1], RECORD_OVERFLOW);
}

#[test]
fn records_out_of_turn_are_noticed_and_nothing_of_them_is_handed_out() {
    for order in [&[0, 0][..], &[1], &[1, 0], &[0, 2]] {
        let mut forged = server();
        let records: Vec<_> = [b"a", b"b", b"c"].map(|content| forged.to_session.record(DATA, content)).to_vec();
        let wire: Vec<u8> = order.iter().flat_map(|at| records[*at].clone()).collect();
        let (plain, verdict) = hear(&mut forged, &wire);
        assert_eq!(plain, if order[0] == 0 { &b"a"[..] } else { b"" });
        assert_eq!(verdict, Err((TlsError::Decrypt, Some(BAD_RECORD_MAC))));
    }
}

#[test]
fn a_record_of_another_session_is_noticed() {
    let (mut one, other) = (server(), server());
    let wire = one.to_session.record(DATA, b"content");
    refused(other, &wire, BAD_RECORD_MAC);
    // One direction's for the other.
    let mut forged = server();
    let wire = forged.from_session.record(DATA, b"content");
    forged.from_session.sequence -= 1;
    refused(forged, &wire, BAD_RECORD_MAC);
}

#[test]
fn what_is_not_protected_is_refused() {
    for kind in [20, 21, 22, 24, 0, 255] {
        refused(server(), &[kind, 3, 3, 0, 1, 1], UNEXPECTED);
        let mut forged = server();
        let mut wire = forged.to_session.record(DATA, b"content");
        wire[0] = kind;
        refused(forged, &wire, UNEXPECTED);
    }
}

#[test]
fn inner_plaintext_has_one_kind_that_is_known_and_a_bounded_length() {
    for len in [0, 1, 17, 16_385] {
        let mut forged = server();
        let wire = forged.to_session.seal(&vec![0; len]);
        refused(forged, &wire, UNEXPECTED);
    }
    for kind in [1, 19, 20, 24, 255] {
        let mut forged = server();
        let wire = forged.to_session.record(kind, &[1]);
        refused(forged, &wire, UNEXPECTED);
    }
    for (len, padding) in [(16_385, 0), (16_384, 1), (1, 16_384), (0, 16_386)] {
        let mut forged = server();
        let wire = forged.to_session.padded(DATA, &vec![7; len], padding);
        assert!(matches!(refused(forged, &wire, RECORD_OVERFLOW), TlsError::Protocol(_)));
    }
}

#[test]
fn records_without_content_are_taken_for_a_while() {
    let mut forged = server();
    for _ in 0..3 {
        let mut wire: Vec<u8> = (0..32).flat_map(|at| forged.to_session.padded(DATA, b"", at)).collect();
        wire.extend(forged.to_session.record(DATA, b"x"));
        assert_eq!(hear(&mut forged, &wire), (b"x".to_vec(), Ok(OpenState::Blocked)));
    }
    let wire: Vec<u8> = (0..33).flat_map(|_| forged.to_session.record(DATA, b"")).collect();
    refused(forged, &wire, UNEXPECTED);
    // Only data comes without content (RFC 8446 §5.4).
    for kind in [HANDSHAKE, ALERT] {
        let mut forged = server();
        let wire = forged.to_session.record(kind, b"");
        refused(forged, &wire, UNEXPECTED);
    }
}

#[test]
fn key_updates_are_followed_and_asked_for_ones_answered_once() {
    for suite in SUITES {
        for is_server in [true, false] {
            let mut forged = forged(is_server, suite, Records::Own);
            for turn in 0..40_u8 {
                for request in [0, 1, 1] {
                    let mut wire = forged.to_session.record(HANDSHAKE, &key_update(request));
                    forged.to_session.update();
                    wire.extend(forged.to_session.record(DATA, &[turn]));
                    assert_eq!(hear(&mut forged, &wire), (vec![turn], Ok(OpenState::Blocked)));
                }
                let mut room = [0; 200];
                let sealed = forged.session.seal(b"data", &mut room).unwrap();
                let records = forged.from_session.open(&room[..sealed.written]);
                assert_eq!(records, [(HANDSHAKE, key_update(0).to_vec()), (DATA, b"data".to_vec())]);
                let sealed = forged.session.seal(b"data", &mut room).unwrap();
                assert_eq!(forged.from_session.open(&room[..sealed.written]), [(DATA, b"data".to_vec())]);
            }
        }
    }
}

#[test]
fn a_record_under_the_key_before_the_update_is_refused() {
    let mut forged = server();
    let mut wire = forged.to_session.record(HANDSHAKE, &key_update(0));
    wire.extend(forged.to_session.record(DATA, b"old key"));
    refused(forged, &wire, BAD_RECORD_MAC);
}

#[test]
fn malformed_key_updates_are_refused() {
    for (message, alert) in [
        (&key_update(2)[..], ILLEGAL_PARAMETER),
        (&[24, 0, 0, 0], DECODE_ERROR),
        (&[24, 0, 0, 2, 0, 0], DECODE_ERROR),
        (&[24, 0xff, 0xff, 0xff], DECODE_ERROR),
        // What follows in its record spans the change of keys.
        (&[24, 0, 0, 1, 0, 24], UNEXPECTED),
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], UNEXPECTED),
    ] {
        let mut forged = server();
        let wire = forged.to_session.record(HANDSHAKE, message);
        refused(forged, &wire, alert);
    }
}

#[test]
fn messages_without_end_are_refused() {
    let mut forged = client();
    let send_updates = |forged: &mut Forged, count: usize| -> Vec<u8> {
        let update = |forge: &mut Forge| {
            let record = forge.record(HANDSHAKE, &key_update(1));
            forge.update();
            record
        };
        (0..count).flat_map(|_| update(&mut forged.to_session)).collect()
    };
    for _ in 0..3 {
        let mut wire = send_updates(&mut forged, 32);
        wire.extend(forged.to_session.record(DATA, b"x"));
        assert_eq!(hear(&mut forged, &wire).1, Ok(OpenState::Blocked));
    }
    let wire = send_updates(&mut forged, 33);
    refused(forged, &wire, UNEXPECTED);
    let mut forged = client();
    let wire: Vec<u8> = (0..33).flat_map(|_| forged.to_session.record(HANDSHAKE, &ticket())).collect();
    refused(forged, &wire, UNEXPECTED);
}

#[test]
fn messages_come_in_pieces_and_together() {
    let mut forged = client();
    for message in [ticket(), key_update(1).to_vec(), ticket(), ticket()] {
        let mut wire: Vec<u8> = message.iter().flat_map(|byte| forged.to_session.record(HANDSHAKE, &[*byte])).collect();
        if message[0] == 24 {
            forged.to_session.update();
        }
        wire.extend(forged.to_session.record(DATA, b"x"));
        assert_eq!(hear(&mut forged, &wire), (b"x".to_vec(), Ok(OpenState::Blocked)));
    }
    // Two and a half in one record, the rest with a key update behind it.
    let many = [ticket(), ticket(), ticket()].concat();
    let (front, back) = many.split_at(many.len() - 7);
    let mut wire = forged.to_session.record(HANDSHAKE, front);
    wire.extend(forged.to_session.record(HANDSHAKE, &[back, &key_update(0)].concat()));
    forged.to_session.update();
    wire.extend(forged.to_session.record(DATA, b"x"));
    assert_eq!(hear(&mut forged, &wire), (b"x".to_vec(), Ok(OpenState::Blocked)));
}

#[test]
fn nothing_comes_between_the_pieces_of_a_message() {
    for (kind, content) in [(DATA, &b"x"[..]), (DATA, b""), (ALERT, &[1, 0]), (ALERT, &[2, 20])] {
        let mut forged = client();
        let mut wire = forged.to_session.record(HANDSHAKE, &ticket()[..9]);
        wire.extend(forged.to_session.record(kind, content));
        refused(forged, &wire, UNEXPECTED);
    }
}

#[test]
fn messages_that_have_no_place_are_refused_by_their_header() {
    for kind in [0, 1, 2, 4, 5, 8, 11, 13, 15, 20, 254] {
        let mut forged = server();
        let wire = forged.to_session.record(HANDSHAKE, &[kind, 0, 1, 0]);
        let error = refused(forged, &wire, UNEXPECTED);
        assert!(matches!(&error, TlsError::Protocol(rustls::Error::InappropriateHandshakeMessage { got_type, .. })
            if *got_type == HandshakeType::from(kind)));
    }
    for (message, alert) in [
        // 64 KiB of ticket, and tickets that are none.
        (vec![4, 1, 0, 0], DECODE_ERROR),
        (vec![4, 0, 0, 3, 0, 0, 0], DECODE_ERROR),
        (vec![4, 0, 0, 0], DECODE_ERROR),
    ] {
        let mut forged = client();
        let wire = forged.to_session.record(HANDSHAKE, &message);
        refused(forged, &wire, alert);
    }
}

#[test]
fn alerts_end_the_session_unless_they_are_harmless() {
    for (alert, description) in [
        ([2, 20], AlertDescription::BadRecordMac),
        ([1, 20], AlertDescription::BadRecordMac),
        ([2, 90], AlertDescription::UserCanceled),
        ([1, 250], AlertDescription::Unknown(250)),
    ] {
        let mut forged = server();
        let wire = forged.to_session.record(ALERT, &alert);
        assert_eq!(hear(&mut forged, &wire), (vec![], Err((TlsError::Alert(description), None))));
    }
    for alert in [&[1][..], &[1, 0, 0], &[1, 0, 1, 0], &[0, 0], &[3, 0]] {
        let mut forged = server();
        let wire = forged.to_session.record(ALERT, alert);
        refused(forged, &wire, DECODE_ERROR);
    }
    let mut forged = server();
    let mut wire: Vec<u8> = (0..4).flat_map(|_| forged.to_session.record(ALERT, &[1, 90])).collect();
    wire.extend(forged.to_session.record(DATA, b"x"));
    assert_eq!(hear(&mut forged, &wire), (b"x".to_vec(), Ok(OpenState::Blocked)));
    let wire = forged.to_session.record(ALERT, &[1, 90]);
    refused(forged, &wire, UNEXPECTED);
}

#[test]
fn nothing_counts_behind_a_goodbye_and_nothing_is_said_behind_ours() {
    let mut forged = server();
    let mut wire = forged.to_session.record(ALERT, &[1, 0]);
    wire.extend(b"whatever this is");
    assert_eq!(hear(&mut forged, &wire), (vec![], Ok(OpenState::PeerClosed)));
    let mut goodbye = Vec::new();
    forged.session.close_notify(&mut goodbye);
    assert_eq!(forged.from_session.open(&goodbye), [(ALERT, vec![1, 0])]);

    let mut forged = server();
    forged.session.close_notify(&mut Vec::new());
    forged.from_session.sequence += 1;
    let mut wire = forged.to_session.record(DATA, b"x");
    *wire.last_mut().unwrap() ^= 1;
    let (_, verdict) = hear(&mut forged, &wire);
    assert_eq!(verdict, Err((TlsError::Decrypt, None)), "no alert behind a goodbye (RFC 8446 §6.1)");
}

/// Payload bytes of the slots.
fn payload(slots: &[u8]) -> Vec<u8> {
    let (mut rest, mut plain) = (slots, Vec::new());
    while !rest.is_empty() {
        let len = RECORD_HEAD_BYTES + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        plain.extend_from_slice(&rest[RECORD_HEAD_BYTES..len - RECORD_TAIL_BYTES]);
        rest = &rest[len..];
    }
    plain
}

#[test]
fn a_run_passes_from_one_session_to_another_in_place() {
    let mut dice = Dice::new(77);
    for suite in SUITES {
        let (mut from, mut to) = (forged(true, suite, Records::Own), forged(false, Suite::ChaCha20, Records::Own));
        let (mut said, mut arrived) = (Vec::new(), Vec::new());
        for turn in 0..20 {
            let mut wire = Vec::new();
            for _ in 0..dice.up_to(6) {
                let len = if dice.up_to(3) == 1 { 16_384 } else { dice.up_to(16_384) };
                let content = dice.bytes(len);
                wire.extend(from.to_session.record(DATA, &content));
                said.extend(content);
            }
            if turn % 4 == 3 {
                wire.extend(to_wire_update(&mut from.to_session));
                let update = to_wire_update(&mut to.to_session);
                assert_eq!(hear(&mut to, &update).1, Ok(OpenState::Blocked));
            }
            let updates = usize::from(turn % 4 == 3) * 27;
            let run = from.session.open_run(&mut wire, u64::MAX).unwrap();
            assert_eq!((run.wire + updates, run.consumed), (wire.len(), wire.len()));
            let mut before = Vec::new();
            to.session.seal_run(&mut wire[..run.wire], &mut before).unwrap();
            assert_eq!(before.len(), updates, "the answer goes first");
            before.extend_from_slice(&wire[..run.wire]);
            for (kind, content) in to.from_session.open(&before) {
                arrived.extend(if kind == DATA { content } else { vec![] });
            }
        }
        assert!(said == arrived);
    }
}

fn to_wire_update(forge: &mut Forge) -> Vec<u8> {
    let wire = forge.record(HANDSHAKE, &key_update(1));
    forge.update();
    wire
}

#[test]
fn a_run_stops_where_it_must_and_nothing_is_lost() {
    let mut forged = client();
    let (mut plain, mut protocol) = (vec![0; 100], Vec::new());
    let mut wire = Vec::new();
    for content in [&b"first"[..], b"second"] {
        wire.extend(forged.to_session.record(DATA, content));
    }
    let whole = wire.clone();
    // In front of what is too long or incomplete, bytes stay as they were.
    assert_eq!(forged.session.open_run(&mut wire, 4).unwrap(), Run { wire: 0, plain: 0, consumed: 0 });
    assert_eq!(wire, whole);
    let (first, len) = (5 + 22, wire.len());
    assert_eq!(forged.session.open_run(&mut wire, 10).unwrap(), Run { wire: first, plain: 5, consumed: first });
    assert_eq!((payload(&wire[..first]), &wire[first..]), (b"first".to_vec(), &whole[first..]));
    let cut = forged.session.open_run(&mut wire[first..len - 1], 10).unwrap();
    assert_eq!((cut.consumed, &wire[first..]), (0, &whole[first..]));
    // Padded data, tickets and goodbyes are no slots; the first is kept, the others are dealt with.
    let mut wire = wire.split_off(first);
    let second = wire.len();
    wire.extend(forged.to_session.padded(DATA, b"padded", 3));
    let padded = wire.len();
    wire.extend(forged.to_session.record(HANDSHAKE, &ticket()));
    let run = forged.session.open_run(&mut wire, 100).unwrap();
    assert_eq!((run, payload(&wire[..second])), (Run { wire: second, plain: 6, consumed: padded }, b"second".to_vec()));
    wire.drain(..run.consumed);
    assert!(forged.session.has_pending_plain());
    assert_eq!(forged.session.open_run(&mut wire, 100).unwrap().consumed, 0, "what is kept comes first");
    let opened = forged.session.open(&mut wire, &mut plain, &mut protocol).unwrap();
    assert_eq!((&plain[..opened.produced], opened.consumed), (&b"padded"[..], wire.len()));
    let mut wire = forged.to_session.record(HANDSHAKE, &ticket());
    let run = forged.session.open_run(&mut wire, 100).unwrap();
    assert_eq!(run, Run { wire: 0, plain: 0, consumed: wire.len() });
    let mut wire = forged.to_session.record(DATA, b"");
    assert_eq!(forged.session.open_run(&mut wire, 100).unwrap().consumed, 0, "left to open, which counts them");
    assert_eq!(forged.session.open(&mut wire, &mut plain, &mut protocol).unwrap().consumed, 22);
    let mut wire = forged.to_session.record(ALERT, &[1, 0]);
    assert_eq!(forged.session.open_run(&mut wire, 100).unwrap(), Run { wire: 0, plain: 0, consumed: 24 });
    let opened = forged.session.open(&mut [], &mut plain, &mut protocol).unwrap();
    assert_eq!(opened.state, OpenState::PeerClosed);
    assert!(protocol.is_empty() && forged.session.carries_runs());
}

#[test]
fn a_failure_in_a_run_comes_after_what_was_good() {
    for at in [0, 3, 30] {
        let mut forged = server();
        let mut wire = forged.to_session.record(DATA, b"good");
        let good = wire.len();
        let mut bad = forged.to_session.record(DATA, &[7; 30]);
        bad[at] ^= if at == 3 { 0x80 } else { 1 };
        wire.extend(bad);
        let run = forged.session.open_run(&mut wire, 100).unwrap();
        assert_eq!((run.wire, payload(&wire[..run.wire])), (good, b"good".to_vec()));
        assert!(
            !wire[good..].windows(8).any(|window| window == [7; 8]),
            "no plaintext of a record that is not genuine"
        );
        let error = forged.session.open_run(&mut wire[good..], 100).unwrap_err();
        let (plain, verdict) = hear(&mut forged, &[]);
        let alert = [UNEXPECTED, RECORD_OVERFLOW, BAD_RECORD_MAC][[0, 3, 30].iter().position(|n| *n == at).unwrap()];
        assert_eq!((plain, verdict), (vec![], Err((error.clone(), Some(alert)))));
        assert_eq!(forged.session.seal_run(&mut [], &mut Vec::new()), Err(error));
    }
}

#[test]
fn what_is_no_sequence_of_slots_is_not_sealed() {
    let good = [&[0, 0, 0, 0, 18], &[7; 18][..]].concat();
    for slots in [
        good[..22].to_vec(),
        [&good[..], &good[..4]].concat(),
        [&[0, 0, 0, 0, 17], &[0; 17][..]].concat(),
        [&[0, 0, 0, 0x40, 0x12], &[0; 0x4012][..]].concat(),
    ] {
        let mut forged = server();
        let mut untouched = slots.clone();
        let mut before = Vec::new();
        assert!(matches!(forged.session.seal_run(&mut untouched, &mut before), Err(TlsError::Internal(_))));
        assert!(untouched == slots && before.is_empty());
    }
    let mut forged = server();
    assert_eq!(forged.session.seal_run(&mut [], &mut Vec::new()), Ok(()));
    forged.session.close_notify(&mut Vec::new());
    assert_eq!(forged.session.seal_run(&mut good.clone(), &mut Vec::new()), Err(TlsError::Spent));
}

#[test]
fn runs_are_for_our_records_and_tls13_only() {
    let mut forged = forged(true, Suite::Aes128, Records::Library);
    assert!(!forged.session.carries_runs());
    let mut wire = forged.to_session.record(DATA, b"x");
    assert_eq!(forged.session.open_run(&mut wire, 100), Ok(Run { wire: 0, plain: 0, consumed: 0 }));
    assert_eq!(forged.session.seal_run(&mut wire, &mut Vec::new()), Err(TlsError::Spent));
    let (client, server) = pair(Version::Tls12, &ECDSA);
    let (mut client, mut server) = (our_client(&client), our_server(&server));
    assert!(!client.session.carries_runs());
    talk(&mut client, &mut server).unwrap();
    assert!(!client.session.carries_runs() && !server.session.carries_runs());
}

/// Both are rustls' doing, and must survive the change of hands: tickets go out before it, and come in behind it.
#[test]
fn tickets_are_given_and_taken_by_sessions_of_ours() {
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], &ECDSA);
    let config = serving(&[&issued], Version::Tls13);
    let client = authority.client(NAME, Version::Tls13);
    let connect = |server: &mut dyn End| {
        let mut ours = our_client(&client);
        talk(&mut ours, server).unwrap();
        assert!(ours.session.carries_runs());
        ours.session.is_resumed()
    };
    assert!(!connect(&mut Theirs::server(&config)));
    assert!(connect(&mut Theirs::server(&config)));
    let mut ours = our_server(&config);
    assert!(connect(&mut ours) && ours.session.is_resumed() && ours.session.carries_runs());
}

/// Whatever is sent when, with whichever new keys, the other side hears it.
#[test]
fn a_long_talk_with_an_independent_peer_loses_nothing() {
    let authority = Authority::new();
    let config = serving(&[&authority.issue("leaf", &[NAME], &ECDSA)], Version::Tls13);
    for seed in 1..9 {
        let mut dice = Dice::new(seed);
        let (mut ours, mut theirs) = (our_client(&authority.client(NAME, Version::Tls13)), Theirs::server(&config));
        talk(&mut ours, &mut theirs).unwrap();
        let (mut up, mut down, mut to_ours) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..60 {
            match dice.up_to(4) {
                1 => theirs.connection.refresh_traffic_keys().unwrap(),
                2 => {
                    let len = dice.up_to(50_000);
                    let data = dice.bytes(len);
                    to_ours.extend(theirs.seal(&data));
                    down.extend(data);
                }
                3 => {
                    let len = dice.up_to(50_000);
                    let data = dice.bytes(len);
                    theirs.take(&ours.seal(&data).unwrap()).unwrap();
                    up.extend(data);
                }
                _ => {
                    to_ours.extend(theirs.give());
                    let n = dice.up_to(70_000).min(to_ours.len());
                    ours.room = dice.up_to(40_000);
                    hear_in_runs(&mut ours, &to_ours.drain(..n).collect::<Vec<_>>(), dice.up_to(30_000) as u64);
                }
            }
        }
        to_ours.extend(theirs.give());
        ours.take(&to_ours).unwrap();
        assert!(ours.plain == down && theirs.plain == up);
        let mut goodbye = Vec::new();
        ours.session.close_notify(&mut goodbye);
        theirs.take(&goodbye).unwrap();
        assert!(theirs.is_closed);
    }
}

/// By runs as far as they go, and the ordinary way from there.
fn hear_in_runs(ours: &mut Ours, bytes: &[u8], plain_max: u64) {
    ours.incoming.extend_from_slice(bytes);
    while let Ok(run @ Run { consumed: 1.., .. }) = ours.session.open_run(&mut ours.incoming, plain_max) {
        ours.plain.extend(payload(&ours.incoming[..run.wire]));
        ours.incoming.drain(..run.consumed);
    }
    ours.take(&[]).unwrap();
}
