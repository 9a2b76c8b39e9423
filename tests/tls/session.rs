//! What goes right.

use std::sync::Arc;

use filmgate::tls::config::Version;
use filmgate::tls::session::{OpenState, Session};

use crate::ends::{Dice, End, Theirs, our_client, our_server, talk, talk_by};
use crate::pki::{Authority, ECDSA, NAME, RSA, pair, serving};

#[test]
fn both_versions_and_both_kinds_of_key_carry_data_both_ways() {
    for version in [Version::Tls12, Version::Tls13] {
        for algorithm in [&ECDSA, &RSA] {
            let (client, server) = pair(version, algorithm);
            let (mut client, mut server) = (our_client(&client), our_server(&server));
            assert!(client.is_handshaking() && client.session.version().is_none());
            talk(&mut client, &mut server).unwrap();
            assert!(!client.is_handshaking() && !server.is_handshaking());
            assert_eq!((client.session.version(), server.session.version()), (Some(version), Some(version)));
            server.take(&client.seal(b"GET / HTTP/1.1\r\n\r\n").unwrap()).unwrap();
            assert_eq!(server.plain, b"GET / HTTP/1.1\r\n\r\n");
            client.take(&server.seal(b"HTTP/1.1 200 OK\r\n\r\n").unwrap()).unwrap();
            assert_eq!(client.plain, b"HTTP/1.1 200 OK\r\n\r\n");
        }
    }
}

#[test]
fn fed_byte_by_byte_nothing_changes() {
    for version in [Version::Tls12, Version::Tls13] {
        let (client, server) = pair(version, &ECDSA);
        let (mut client, mut server) = (our_client(&client), our_server(&server));
        talk_by(1, &mut client, &mut server).unwrap();
        let wire = client.seal(b"one").unwrap();
        for byte in &wire {
            assert!(server.plain.is_empty());
            server.take(&[*byte]).unwrap();
        }
        assert_eq!(server.plain, b"one");
    }
}

#[test]
fn bytes_behind_the_last_whole_record_are_left_as_they_are() {
    let (client, server) = pair(Version::Tls13, &ECDSA);
    let (mut client, mut server) = (our_client(&client), our_server(&server));
    talk(&mut client, &mut server).unwrap();
    let mut wire = client.seal(b"first").unwrap();
    let first = wire.len();
    wire.extend(client.seal(b"second").unwrap());
    let mut incoming = wire[..wire.len() - 1].to_vec();
    let (mut plain, mut outgoing) = ([0; 100], Vec::new());
    let opened = server.session.open(&mut incoming, &mut plain, &mut outgoing).unwrap();
    assert_eq!((opened.consumed, opened.produced, opened.state), (first, 5, OpenState::Blocked));
    assert_eq!(incoming[first..], wire[first..wire.len() - 1]);
    assert_eq!(server.session.next_record(&incoming[first..]), None);
    assert_eq!(server.session.next_record(&wire[first..]), Some(wire.len() - first));
    server.take(&wire[first..]).unwrap();
    assert_eq!(server.plain, b"second");
}

#[test]
fn a_mebibyte_each_way_arrives_whole_whatever_the_splits() {
    for version in [Version::Tls12, Version::Tls13] {
        let (client, server) = pair(version, &ECDSA);
        let (mut client, mut server) = (our_client(&client), our_server(&server));
        talk(&mut client, &mut server).unwrap();
        let mut dice = Dice::new(0x5eed);
        let (up, down) = (dice.bytes(1 << 20), dice.bytes(1 << 20));
        let (mut up_wire, mut down_wire) = (Vec::new(), Vec::new());
        let (mut sent_up, mut sent_down) = (0, 0);
        while server.plain.len() < up.len() || client.plain.len() < down.len() {
            let end = up.len().min(sent_up + dice.up_to(60_000));
            up_wire.extend(client.seal(&up[sent_up..end]).unwrap());
            let sent = (end, down.len().min(sent_down + dice.up_to(60_000)));
            down_wire.extend(server.seal(&down[sent_down..sent.1]).unwrap());
            (sent_up, sent_down) = sent;
            (client.room, server.room) = (dice.up_to(40_000), dice.up_to(40_000));
            let (n, m) = (dice.up_to(50_000).min(up_wire.len()), dice.up_to(50_000).min(down_wire.len()));
            server.take(&up_wire.drain(..n).collect::<Vec<_>>()).unwrap();
            client.take(&down_wire.drain(..m).collect::<Vec<_>>()).unwrap();
        }
        assert!(server.plain == up && client.plain == down);
    }
}

#[test]
fn a_request_in_the_flight_of_the_handshakes_end_is_kept() {
    let (client, server) = pair(Version::Tls13, &ECDSA);
    let (mut client, mut server) = (our_client(&client), our_server(&server));
    server.take(&client.give()).unwrap();
    client.take(&server.give()).unwrap();
    let mut flight = client.give();
    flight.extend(client.seal(b"early").unwrap());
    // As in a handshake: with no room for plaintext at all.
    let mut outgoing = Vec::new();
    let opened = server.session.open(&mut flight, &mut [], &mut outgoing).unwrap();
    assert_eq!((opened.consumed, opened.produced, opened.state), (flight.len(), 0, OpenState::PlainFull));
    assert!(!server.is_handshaking() && server.session.has_pending_plain());
    // Sending is possible with plaintext kept.
    client.take(&outgoing).unwrap();
    client.take(&server.seal(b"answer").unwrap()).unwrap();
    assert_eq!(client.plain, b"answer");
    let mut plain = [0; 3];
    let mut taken = Vec::new();
    while server.session.has_pending_plain() {
        let opened = server.session.open(&mut [], &mut plain, &mut outgoing).unwrap();
        taken.extend_from_slice(&plain[..opened.produced]);
    }
    assert_eq!(taken, b"early");
}

#[test]
fn sealing_fills_the_room_with_full_records_and_goes_on_where_it_stopped() {
    for version in [Version::Tls12, Version::Tls13] {
        let (client, server) = pair(version, &ECDSA);
        let (mut client, mut server) = (our_client(&client), our_server(&server));
        talk(&mut client, &mut server).unwrap();
        let data = Dice::new(7).bytes(100_000);
        let mut sealed = vec![0; Session::sealed_len(data.len())];
        let all = client.session.seal(&data, &mut sealed).unwrap();
        assert_eq!(all.consumed, data.len());
        server.take(&sealed[..all.written]).unwrap();
        let two_and_a_half = client.session.seal(&data, &mut sealed[..40_000]).unwrap();
        assert_eq!(two_and_a_half.consumed, 2 * 16 * 1024);
        server.take(&sealed[..two_and_a_half.written]).unwrap();
        let cut_short = client.session.seal(&data[two_and_a_half.consumed..], &mut sealed[..1000]).unwrap();
        assert!((900..1000).contains(&cut_short.consumed));
        server.take(&sealed[..cut_short.written]).unwrap();
        let none = client.session.seal(&data, &mut sealed[..10]).unwrap();
        assert_eq!((none.consumed, none.written), (0, 0));
        let mut expected = data.clone();
        expected.extend_from_slice(&data[..two_and_a_half.consumed + cut_short.consumed]);
        assert!(server.plain == expected);
    }
}

#[test]
fn sessions_resume_where_the_same_process_serves() {
    for version in [Version::Tls12, Version::Tls13] {
        let authority = Authority::new();
        let issued = authority.issue("leaf", &[NAME], &ECDSA);
        let client = authority.client(NAME, version);
        let (here, elsewhere) = (serving(&[&issued], Version::Tls12), serving(&[&issued], Version::Tls12));
        let is_resumed = |config| {
            let (mut client, mut server) = (our_client(&client), our_server(config));
            talk(&mut client, &mut server).unwrap();
            assert_eq!(client.session.is_resumed(), server.session.is_resumed());
            client.session.is_resumed()
        };
        assert!(!is_resumed(&here));
        assert!(is_resumed(&here));
        assert!(is_resumed(&here));
        assert!(!is_resumed(&elsewhere));
    }
}

/// Both ends ask for new keys, twice, with data before and after.
#[test]
fn key_updates_are_followed_in_both_directions() {
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], &ECDSA);
    let mut ours = our_client(&authority.client(NAME, Version::Tls13));
    let mut theirs = Theirs::server(&serving(&[&issued], Version::Tls13));
    talk(&mut ours, &mut theirs).unwrap();
    for turn in 0..5u8 {
        theirs.connection.refresh_traffic_keys().unwrap();
        let mut wire = theirs.give();
        wire.extend(theirs.seal(&[turn; 3]));
        ours.take(&wire).unwrap();
        // The answer goes with the next data, in front of it (RFC 8446 §4.6.3).
        let plain_len = if turn == 4 { 1 } else { 30_000 };
        theirs.take(&ours.seal(&vec![turn; plain_len]).unwrap()).unwrap();
    }
    assert_eq!(ours.plain, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    assert_eq!(theirs.plain.len(), 4 * 30_000 + 1);
}

#[test]
fn the_answer_to_a_key_update_goes_first_even_where_no_data_fits() {
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], &ECDSA);
    let mut ours = our_client(&authority.client(NAME, Version::Tls13));
    let mut theirs = Theirs::server(&serving(&[&issued], Version::Tls13));
    talk(&mut ours, &mut theirs).unwrap();
    theirs.connection.refresh_traffic_keys().unwrap();
    ours.take(&theirs.give()).unwrap();
    let mut sealed = [0; 30];
    let mut sent = 0;
    for _ in 0..10 {
        let done = ours.session.seal(&b"abcd"[sent..], &mut sealed).unwrap();
        theirs.take(&sealed[..done.written]).unwrap();
        sent += done.consumed;
    }
    assert_eq!(theirs.plain, b"abcd");
}

#[test]
fn an_independent_client_and_server_understand_us() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let authority = Authority::new();
        let issued = authority.issue("leaf", &[NAME], &RSA);
        let config = serving(&[&issued], Version::Tls12);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let data = Dice::new(3).bytes(200_000);

        let (mut theirs, mut ours) = (Theirs::client(client, NAME), our_server(&config));
        talk_by(777, &mut theirs, &mut ours).unwrap();
        ours.take(&theirs.seal(&data)).unwrap();
        theirs.take(&ours.seal(&data).unwrap()).unwrap();
        assert!(ours.plain == data && theirs.plain == data);

        let (mut ours, mut theirs) = (our_client(&authority.client(NAME, Version::Tls13)), Theirs::server(&config));
        talk_by(777, &mut ours, &mut theirs).unwrap();
        ours.take(&theirs.seal(&data)).unwrap();
        theirs.take(&ours.seal(&data).unwrap()).unwrap();
        assert!(ours.plain == data && theirs.plain == data);
    }
}

/// The server cuts its messages, tickets included, into records of 59 bytes of payload.
#[test]
fn sealing_between_the_fragments_of_a_ticket_disturbs_nothing() {
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], &ECDSA);
    let mut config = Arc::unwrap_or_clone(serving(&[&issued], Version::Tls13));
    config.max_fragment_size = Some(64);
    let mut theirs = Theirs::server(&Arc::new(config));
    let mut ours = our_client(&authority.client(NAME, Version::Tls13));
    while ours.is_handshaking() {
        theirs.take(&ours.give()).unwrap();
        ours.take(&theirs.give()).unwrap();
    }
    theirs.take(&ours.give()).unwrap();
    let tickets = theirs.give();
    assert!(tickets.len() > 3 * 64);
    let mut expected = Vec::new();
    for (at, byte) in tickets.iter().enumerate() {
        ours.take(&[*byte]).unwrap();
        if at % 40 == 0 {
            theirs.take(&ours.seal(&[at as u8]).unwrap()).unwrap();
            expected.push(at as u8);
        }
    }
    assert!(ours.incoming.is_empty());
    assert_eq!(theirs.plain, expected);
    ours.take(&theirs.seal(b"after")).unwrap();
    assert_eq!(ours.plain, b"after");
}

#[test]
fn the_name_a_client_asks_for_is_known() {
    let (client_config, server_config) = pair(Version::Tls13, &ECDSA);
    let mut server = our_server(&server_config);
    let hello = our_client(&client_config).give();
    assert_eq!(server.session.sni(), None);
    for byte in hello {
        server.take(&[byte]).unwrap();
    }
    assert_eq!(server.session.sni(), Some(NAME));
}
