//! What goes wrong, and the goodbye.

use std::sync::Arc;

use filmgate::tls::TlsError;
use filmgate::tls::config::{ClientOptions, Version, client};
use filmgate::tls::session::{OpenState, Session};
use rcgen::date_time_ymd;
use rustls::AlertDescription;

use crate::RECORDS;
use crate::ends::{Dice, End, Ours, Theirs, our_client, our_server, talk};
use crate::pki::{Authority, ECDSA, NAME, pair, serving};

fn connected(version: Version) -> (Ours, Ours) {
    let (client, server) = pair(version, &ECDSA);
    let (mut client, mut server) = (our_client(&client), our_server(&server));
    talk(&mut client, &mut server).unwrap();
    (client, server)
}

/// `victim` has failed: what `peer` makes of the alert.
fn alert_seen(victim: &mut Ours, peer: &mut Ours) -> TlsError {
    peer.take(&victim.give()).unwrap_err()
}

#[test]
fn a_changed_record_ends_the_session_with_bad_record_mac() {
    for version in [Version::Tls12, Version::Tls13] {
        for at_end in [0, 5, 20] {
            let (mut client, mut server) = connected(version);
            let mut wire = client.seal(b"what was asked for").unwrap();
            let at = wire.len() - 1 - at_end;
            wire[at] ^= 1;
            assert_eq!(server.take(&wire), Err(TlsError::Decrypt));
            assert!(server.plain.is_empty());
            assert_eq!(alert_seen(&mut server, &mut client), TlsError::Alert(AlertDescription::BadRecordMac));
            // For good.
            assert_eq!(server.take(&[]), Err(TlsError::Decrypt));
            assert_eq!(server.session.seal(b"x", &mut [0; 100]), Err(TlsError::Decrypt));
            assert!(TlsError::Decrypt.is_peer_fault());
        }
    }
}

#[test]
fn a_record_that_is_repeated_left_out_or_overtaken_is_refused() {
    for version in [Version::Tls12, Version::Tls13] {
        for order in [&[0, 0][..], &[1], &[1, 0]] {
            let (mut client, mut server) = connected(version);
            let records = [client.seal(b"first").unwrap(), client.seal(b"second").unwrap()];
            let result = order.iter().try_for_each(|at| server.take(&records[*at]));
            assert_eq!(result, Err(TlsError::Decrypt));
            assert_eq!(server.plain, if order[0] == 0 { &b"first"[..] } else { b"" });
        }
    }
}

#[test]
fn plaintext_from_before_a_failure_is_handed_out_first() {
    let (mut client, mut server) = connected(Version::Tls13);
    let mut wire = client.seal(b"good").unwrap();
    wire.extend(client.seal(b"bad").unwrap());
    *wire.last_mut().unwrap() ^= 1;
    let mut plain = [0; 100];
    let opened = server.session.open(&mut wire, &mut plain, &mut server.outgoing).unwrap();
    assert_eq!((&plain[..opened.produced], opened.state), (&b"good"[..], OpenState::PlainFull));
    assert!(server.session.has_pending_plain());
    assert_eq!(server.session.open(&mut [], &mut plain, &mut Vec::new()), Err(TlsError::Decrypt));
    assert_eq!(alert_seen(&mut server, &mut client), TlsError::Alert(AlertDescription::BadRecordMac));
}

#[test]
fn a_cut_off_record_is_waited_for() {
    let (mut client, mut server) = connected(Version::Tls13);
    let wire = client.seal(b"whole").unwrap();
    server.take(&wire[..wire.len() - 1]).unwrap();
    assert!(server.plain.is_empty() && !server.is_closed && !server.session.has_pending_plain());
}

#[test]
fn after_a_goodbye_the_other_direction_goes_on() {
    for version in [Version::Tls12, Version::Tls13] {
        let (mut client, mut server) = connected(version);
        let mut wire = client.seal(b"last words").unwrap();
        client.session.close_notify(&mut wire);
        let len = wire.len();
        client.session.close_notify(&mut wire);
        assert_eq!(wire.len(), len, "one goodbye is enough");
        assert_eq!(client.session.seal(b"x", &mut [0; 100]), Err(TlsError::Spent));
        server.take(&wire).unwrap();
        assert!(server.is_closed);
        assert_eq!(server.plain, b"last words");
        client.take(&server.seal(b"answer").unwrap()).unwrap();
        assert_eq!(client.plain, b"answer");
        assert!(!client.is_closed);
        let mut goodbye = Vec::new();
        server.session.close_notify(&mut goodbye);
        client.take(&goodbye).unwrap();
        assert!(client.is_closed);
        // Whatever follows a goodbye is ignored (RFC 8446 §6.1).
        server.take(b"\x17\x03\x03\x00\x05junk!").unwrap();
        assert!(server.is_closed && server.incoming.is_empty());
    }
}

#[test]
fn an_independent_peer_takes_our_goodbye_and_we_take_its() {
    for version in [Version::Tls12, Version::Tls13] {
        let authority = Authority::new();
        let issued = authority.issue("leaf", &[NAME], &ECDSA);
        let mut ours = our_client(&authority.client(NAME, version));
        let mut theirs = Theirs::server(&serving(&[&issued], Version::Tls12));
        talk(&mut ours, &mut theirs).unwrap();
        let mut goodbye = Vec::new();
        ours.session.close_notify(&mut goodbye);
        theirs.take(&goodbye).unwrap();
        assert!(theirs.is_closed);
        theirs.connection.send_close_notify();
        ours.take(&theirs.give()).unwrap();
        assert!(ours.is_closed);
    }
}

#[test]
fn no_goodbye_is_said_before_there_is_a_session() {
    let (client, _) = pair(Version::Tls13, &ECDSA);
    let mut client = our_client(&client);
    client.give();
    let mut goodbye = Vec::new();
    client.session.close_notify(&mut goodbye);
    assert!(goodbye.is_empty());
    assert_eq!(client.session.seal(b"x", &mut [0; 100]), Err(TlsError::Spent));
}

#[test]
fn plain_http_on_the_tls_port_is_recognised_by_its_first_byte() {
    let (client, server) = pair(Version::Tls13, &ECDSA);
    for first in ["G", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "delete"] {
        let mut server = our_server(&server);
        assert_eq!(server.take(first.as_bytes()), Err(TlsError::PlainHttp));
        assert!(server.give().is_empty());
    }
    let mut client = our_client(&client);
    assert!(matches!(client.take(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Err(TlsError::Protocol(_))));
}

#[test]
fn an_old_version_is_refused_with_an_alert() {
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], &ECDSA);
    let mut client = our_client(&authority.client(NAME, Version::Tls12));
    let mut server = our_server(&serving(&[&issued], Version::Tls13));
    let (error, by) = talk(&mut client, &mut server).unwrap_err();
    assert_eq!(by, "server");
    assert!(matches!(error, TlsError::NothingInCommon(_)), "{error}");
    assert_eq!(alert_seen(&mut server, &mut client), TlsError::Alert(AlertDescription::ProtocolVersion));
}

#[test]
fn a_client_that_offers_only_http2_is_told_so() {
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], &ECDSA);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    for (offered, accepted) in [(&["h2"][..], false), (&["h2", "http/1.1"], true), (&[], true)] {
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut theirs = Theirs::client(config.clone(), NAME);
        let mut ours = our_server(&serving(&[&issued], Version::Tls12));
        let result = talk(&mut theirs, &mut ours);
        assert_eq!(result.is_ok(), accepted);
        if let Err((error, _)) = result {
            assert!(error.to_string().contains("http/1.1"), "{error}");
            let seen = theirs.take(&ours.give()).unwrap_err();
            assert_eq!(seen, TlsError::Alert(AlertDescription::NoApplicationProtocol));
        }
    }
}

#[test]
fn an_upstream_that_cannot_be_trusted_is_told_apart_with_a_remedy() {
    let authority = Authority::named("Studio");
    let good = authority.issue("good", &[NAME], &ECDSA);
    let expired = authority.issue_with("expired", &[NAME], &ECDSA, |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let unborn = authority.issue_with("unborn", &[NAME], &ECDSA, |params| {
        params.not_before = date_time_ymd(3001, 1, 1);
        params.not_after = date_time_ymd(3002, 1, 1);
    });
    let stranger = Authority::new();
    let forged = stranger.issue("forged", &[NAME], &ECDSA);
    // As after an authority was made anew under its old name.
    let namesake = Authority::named("Studio");
    let outdated = namesake.issue("outdated", &[NAME], &ECDSA);
    for (issued, name, remedy, alert) in [
        (&outdated, NAME, "ca-file", AlertDescription::DecryptError),
        (&expired, NAME, "clock", AlertDescription::CertificateExpired),
        (&unborn, NAME, "clock", AlertDescription::CertificateExpired),
        (&forged, NAME, "ca-file", AlertDescription::UnknownCA),
        (&good, "other.example", "server-name", AlertDescription::BadCertificate),
    ] {
        for version in [Version::Tls12, Version::Tls13] {
            let mut client = our_client(&authority.client(name, version));
            let mut server = our_server(&serving(&[issued], Version::Tls12));
            let (error, by) = talk(&mut client, &mut server).unwrap_err();
            assert_eq!(by, "client");
            assert!(matches!(error, TlsError::Untrusted(_)), "{error}");
            assert!(error.to_string().contains(remedy), "{error}");
            assert_eq!(alert_seen(&mut client, &mut server), TlsError::Alert(alert));
        }
    }
}

#[test]
fn the_systems_roots_do_not_trust_a_private_authority() {
    let options =
        ClientOptions { server_name: NAME.to_owned(), ca_file: None, max_version: Version::Tls13, records: RECORDS };
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], &ECDSA);
    match client(&options) {
        Ok(config) => {
            let (mut client, mut server) = (our_client(&config), our_server(&serving(&[&issued], Version::Tls12)));
            let (error, _) = talk(&mut client, &mut server).unwrap_err();
            assert!(matches!(error, TlsError::Untrusted(_)), "{error}");
        }
        Err(error) => assert!(error.to_string().contains("ca-certificates"), "{error}"),
    }
}

#[test]
fn no_change_to_any_byte_of_a_handshake_does_worse_than_end_it() {
    for version in [Version::Tls12, Version::Tls13] {
        let (client_config, server_config) = pair(version, &ECDSA);
        let mut dice = Dice::new(11);
        for flight in 0..3 {
            for _ in 0..60 {
                let (mut client, mut server) = (our_client(&client_config), our_server(&server_config));
                for at in 0..4 {
                    let (from, to): (&mut Ours, &mut Ours) =
                        if at % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
                    let mut bytes = from.give();
                    if at == flight && !bytes.is_empty() {
                        let n = dice.up_to(bytes.len()) - 1;
                        bytes[n] ^= dice.up_to(255) as u8;
                    }
                    if to.take(&bytes).is_err() {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn the_front_of_a_message_behind_the_last_piece_of_the_hello_is_refused() {
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], &ECDSA);
    let record = |payload: &[u8]| [&[22, 3, 1, 0, payload.len() as u8], payload].concat();
    for version in [Version::Tls12, Version::Tls13] {
        let hello = our_client(&authority.client(NAME, version)).give();
        let (last, front) =
            hello[5..].chunks(100).collect::<Vec<_>>().split_last().map(|(a, b)| (*a, b.to_vec())).unwrap();
        for behind in [&[16][..], &[16, 0, 0, 33], &[16, 0, 0, 33, 32, 9, 9]] {
            let mut server = our_server(&serving(&[&issued], Version::Tls12));
            front.iter().for_each(|piece| server.take(&record(piece)).unwrap());
            assert!(matches!(server.take(&record(&[last, behind].concat())), Err(TlsError::Protocol(_))));
            assert_eq!(server.session.seal(b"x", &mut [0; 100]).map(|_| ()), server.take(&[]));
        }
    }
}

#[test]
fn noise_never_gets_further_than_an_error() {
    let (_, config) = pair(Version::Tls13, &ECDSA);
    let mut dice = Dice::new(5);
    for _ in 0..300 {
        let mut server = Ours::new(Session::server(&config).unwrap());
        let len = dice.up_to(2000);
        let mut noise = dice.bytes(len);
        // Sometimes with the header of a handshake record that is there in full.
        if dice.up_to(2) == 1 && noise.len() > 5 {
            let payload = (noise.len() - 5) as u16;
            noise[..5].copy_from_slice(&[22, 3, 1, (payload >> 8) as u8, payload as u8]);
        }
        let _ = server.take(&noise);
        assert!(server.is_handshaking());
    }
}
