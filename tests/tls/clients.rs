//! Clients that present certificates, as an independent client does.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use filmgate::buffer::{Buffer, Pool};
use filmgate::limits;
use filmgate::link::Link;
use filmgate::proxy::secure::{Secure, SecureError, Wire};
use filmgate::tls::TlsError;
use filmgate::tls::config::{Authorities, Version};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::ends::{End, Ours, Theirs, our_server, talk, talk_by};
use crate::memory::{Memory, ends, run, soon};
use crate::pki::{Authority, ECDSA, Issued, NAME, RSA, asking, serving};
use crate::secure::{hear, say};

static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// The gate, its authority and the one of its clients.
struct Studio {
    gate: Authority,
    issued: Issued,
    farm: Authority,
}

impl Studio {
    fn new() -> Self {
        let (gate, farm) = (Authority::new(), Authority::new());
        let issued = gate.issue("leaf", &[NAME], &ECDSA);
        Self { gate, issued, farm }
    }

    fn server(&self) -> Arc<ServerConfig> {
        asking(&self.issued, &self.farm.file)
    }

    /// A client with a certificate, and others behind it.
    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        certificate: Option<&Issued>,
        behind: &[&CertificateDer<'static>],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.gate.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let builder = builder.with_root_certificates(roots);
        let Some(Issued { identity, leaf }) = certificate else { return builder.with_no_client_auth() };
        let chain = [&[leaf], behind].concat().into_iter().cloned().collect();
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&identity.private_key).unwrap()).unwrap()
    }

    fn node(&self) -> Issued {
        client_of(&self.farm, |_| {})
    }
}

fn client_of(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Issued {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let stem = format!("client{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    authority.issue_with(&stem, &["Node7.render.example"], &ECDSA, |params| {
        params.distinguished_name.push(DnType::CommonName, "Node 7");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names.push(SanType::URI("spiffe://studio/node".try_into().unwrap()));
        change(params);
    })
}

const NAMES: [&str; 3] = ["CN=Node 7", "node7.render.example", "spiffe://studio/node"];

/// Both ends after their handshake, with data carried both ways.
fn met(client: &ClientConfig, server: &Arc<ServerConfig>) -> (Theirs, Ours) {
    let (mut theirs, mut ours) = (Theirs::client(client.clone(), NAME), our_server(server));
    talk(&mut theirs, &mut ours).unwrap();
    assert!(!ours.is_handshaking());
    ours.take(&theirs.seal(b"GET")).unwrap();
    theirs.take(&ours.seal(b"200").unwrap()).unwrap();
    assert_eq!((&*ours.plain, &*theirs.plain), (&b"GET"[..], &b"200"[..]));
    (theirs, ours)
}

/// What the server says against the client, and the alert that the client is sent.
fn refused(client: &ClientConfig, server: &Arc<ServerConfig>) -> (TlsError, TlsError) {
    let (mut theirs, mut ours) = (Theirs::client(client.clone(), NAME), our_server(server));
    let (error, by) = talk(&mut theirs, &mut ours).unwrap_err();
    assert_eq!(by, "server", "{error}");
    assert_eq!(ours.session.client_names(), [""; 0]);
    assert!(ours.plain.is_empty() && ours.session.seal(b"200", &mut [0; 100]).is_err());
    (error, theirs.take(&ours.give()).unwrap_err())
}

#[test]
fn a_client_is_known_by_the_names_in_its_certificate_and_without_one_it_is_nobody() {
    let studio = Studio::new();
    let (node, server) = (studio.node(), studio.server());
    let rsa = studio.farm.issue_with("rsa", &["rsa.example"], &RSA, |params| {
        params.distinguished_name.push(DnType::CommonName, "Node 8");
    });
    for version in VERSIONS {
        let (_, mut known) = met(&studio.client(version, Some(&node), &[]), &server);
        assert_eq!(known.session.client_names(), NAMES);
        assert_eq!(*known.session.take_client_names(), NAMES);
        assert_eq!(known.session.client_names(), [""; 0]);
        let (_, known) = met(&studio.client(version, Some(&rsa), &[]), &server);
        assert_eq!(known.session.client_names(), ["CN=Node 8", "rsa.example"], "any purpose is this one as well");
        let (_, nobody) = met(&studio.client(version, None, &[]), &server);
        assert_eq!(nobody.session.client_names(), [""; 0]);
        // Whoever is not asked does not say.
        let (_, nobody) = met(&studio.client(version, Some(&node), &[]), &serving(&[&studio.issued], Version::Tls12));
        assert_eq!(nobody.session.client_names(), [""; 0]);
    }
}

#[test]
fn nobody_has_a_name_before_the_handshake_is_over() {
    let studio = Studio::new();
    let (node, server) = (studio.node(), studio.server());
    for version in VERSIONS {
        let mut theirs = Theirs::client(studio.client(version, Some(&node), &[]), NAME);
        let mut ours = our_server(&server);
        ours.take(&theirs.give()).unwrap();
        theirs.take(&ours.give()).unwrap();
        let flight = theirs.give();
        for byte in &flight[..flight.len() - 1] {
            ours.take(&[*byte]).unwrap();
            assert_eq!(ours.session.client_names(), [""; 0]);
        }
        ours.take(&flight[flight.len() - 1..]).unwrap();
        assert_eq!(ours.session.client_names(), NAMES);
    }
}

#[test]
fn a_certificate_that_does_not_verify_ends_the_handshake_with_its_alert() {
    let studio = Studio::new();
    let server = studio.server();
    let expired = client_of(&studio.farm, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let unborn = client_of(&studio.farm, |params| params.not_before = date_time_ymd(4000, 1, 1));
    let web = client_of(&studio.farm, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let elsewhere = Authority::new();
    let stranger = client_of(&elsewhere, |_| {});
    let own = client_of(&studio.gate, |_| {});
    for (certificate, alert, remedy) in [
        (&expired, AlertDescription::CertificateExpired, "renew it"),
        (&unborn, AlertDescription::CertificateExpired, "clock"),
        (&web, AlertDescription::UnsupportedCertificate, "clientAuth"),
        (&stranger, AlertDescription::UnknownCA, "client-ca-file"),
        (&own, AlertDescription::UnknownCA, "client-ca-file"),
    ] {
        for version in VERSIONS {
            let (error, told) = refused(&studio.client(version, Some(certificate), &[]), &server);
            assert!(matches!(error, TlsError::UntrustedClient(_)) && error.is_peer_fault(), "{error}");
            assert!(error.to_string().contains(remedy), "{error}");
            assert_eq!(told, TlsError::Alert(alert));
        }
    }
}

#[test]
fn an_authority_of_the_same_name_vouches_for_nobody() {
    let (one, other) = (Authority::named("farm"), Authority::named("farm"));
    let studio = Studio { farm: one, ..Studio::new() };
    let forged = client_of(&other, |_| {});
    for version in VERSIONS {
        let (error, told) = refused(&studio.client(version, Some(&forged), &[]), &studio.server());
        assert!(matches!(error, TlsError::UntrustedClient(CertificateError::BadSignature)), "{error}");
        assert_eq!(told, TlsError::Alert(AlertDescription::DecryptError));
    }
}

/// Signs with a key that is not the certificate's.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn a_certificate_without_its_key_is_nobodys() {
    let studio = Studio::new();
    let (node, other) = (studio.node(), studio.farm.issue("other", &["other.example"], &ECDSA));
    for version in VERSIONS {
        let mut client = studio.client(version, None, &[]);
        let key = PrivateKeyDer::from_pem_file(&other.identity.private_key).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        client.client_auth_cert_resolver = Arc::new(Thief(Arc::new(CertifiedKey::new(vec![node.leaf.clone()], key))));
        let (error, told) = refused(&client, &studio.server());
        assert!(matches!(error, TlsError::UntrustedClient(CertificateError::BadSignature)), "{error}");
        assert_eq!(told, TlsError::Alert(AlertDescription::DecryptError));
    }
}

#[test]
fn authorities_in_between_are_the_clients_to_send() {
    let studio = Studio::new();
    let floor = studio.farm.subordinate("Floor");
    let rack = floor.subordinate("Rack");
    let node = client_of(&rack, |_| {});
    for version in VERSIONS {
        let behind = [&rack.certificate, &floor.certificate];
        let (_, ours) = met(&studio.client(version, Some(&node), &behind), &studio.server());
        assert_eq!(ours.session.client_names(), NAMES);
        let (error, told) = refused(&studio.client(version, Some(&node), &behind[..1]), &studio.server());
        assert!(error.to_string().contains("in between"), "{error}");
        assert_eq!(told, TlsError::Alert(AlertDescription::UnknownCA));
    }
}

/// A certificate of so many bytes and a few more, good for nothing.
fn ballast(bytes: usize) -> CertificateDer<'static> {
    let name = "a".repeat(bytes);
    Authority::new().issue("ballast", &[&name], &ECDSA).leaf
}

#[test]
fn a_chain_is_bounded_in_number_and_bytes() {
    let studio = Studio::new();
    let (node, server) = (studio.node(), studio.server());
    let small = &studio.farm.certificate;
    let fits = ballast(limits::TLS_CLIENT_CHAIN_BYTES_MAX - node.leaf.len() - 1024);
    let (too_long, longest) = (ballast(limits::TLS_CLIENT_CHAIN_BYTES_MAX), ballast(60_000));
    for version in VERSIONS {
        for behind in [&[small; limits::TLS_CLIENT_CHAIN_MAX - 1][..], &[&fits]] {
            let client = studio.client(version, Some(&node), behind);
            let (_, ours) = met(&client, &server);
            assert_eq!(ours.session.client_names(), NAMES);
            // In the smallest records there are, and with each byte on its own.
            for (fragment, step) in [(32, usize::MAX), (16 * 1024, 1)] {
                let mut client = client.clone();
                client.max_fragment_size = Some(fragment);
                let (mut theirs, mut ours) = (Theirs::client(client, NAME), our_server(&server));
                talk_by(step, &mut theirs, &mut ours).unwrap();
                assert_eq!(ours.session.client_names(), NAMES);
            }
        }
        for behind in [&[small; limits::TLS_CLIENT_CHAIN_MAX][..], &[&too_long], &[&longest]] {
            let (error, told) = refused(&studio.client(version, Some(&node), behind), &server);
            let says = format!("{} certificates or 16 KiB", limits::TLS_CLIENT_CHAIN_MAX);
            assert!(error.to_string().contains(&says), "{error}");
            assert_eq!(told, TlsError::Alert(AlertDescription::CertificateUnknown));
        }
    }
}

#[test]
fn who_resumes_a_session_is_who_began_it() {
    let studio = Studio::new();
    let (node, server) = (studio.node(), studio.server());
    for version in VERSIONS {
        let known = studio.client(version, Some(&node), &[]);
        let nobody = studio.client(version, None, &[]);
        for is_resumed in [false, true, true, true] {
            let (_, ours) = met(&known, &server);
            assert_eq!(
                (ours.session.is_resumed(), ours.session.client_names()),
                (is_resumed, &NAMES.map(String::from)[..])
            );
            let (_, ours) = met(&nobody, &server);
            assert_eq!((ours.session.is_resumed(), ours.session.client_names()), (is_resumed, &[][..]));
        }
    }
}

#[test]
fn a_session_is_not_resumed_where_other_authorities_are_trusted() {
    let studio = Studio::new();
    let node = studio.node();
    let (here, again) = (studio.server(), studio.server());
    let elsewhere = asking(&studio.issued, &studio.gate.file);
    let unasking = serving(&[&studio.issued], Version::Tls12);
    for version in VERSIONS {
        let client = studio.client(version, Some(&node), &[]);
        met(&client, &here);
        assert!(met(&client, &here).1.session.is_resumed());
        let (error, _) = refused(&client, &elsewhere);
        assert!(matches!(error, TlsError::UntrustedClient(CertificateError::UnknownIssuer)), "{error}");
        // From where nobody is asked nobody comes with a name.
        met(&client, &unasking);
        let (_, ours) = met(&client, &again);
        assert_eq!((ours.session.is_resumed(), ours.session.client_names()), (false, &NAMES.map(String::from)[..]));
    }
}

/// A clock that is set by hand.
#[derive(Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

#[test]
fn a_session_outlives_the_certificate_it_began_with_and_the_names_do_not() {
    let studio = Studio::new();
    let node = client_of(&studio.farm, |params| params.not_after = date_time_ymd(2030, 1, 1));
    let end = node_end();
    for version in VERSIONS {
        let clock = Arc::new(Clock(AtomicU64::new(end - 100)));
        let mut server = Arc::unwrap_or_clone(studio.server());
        server.time_provider = Arc::clone(&clock) as _;
        let server = Arc::new(server);
        let client = studio.client(version, Some(&node), &[]);
        met(&client, &server);
        for (now, len) in [(end - 50, 3), (end, 3), (end + 1, 0), (end + 50, 0)] {
            clock.0.store(now, Ordering::Relaxed);
            let (_, ours) = met(&client, &server);
            assert_eq!((ours.session.is_resumed(), ours.session.client_names().len()), (true, len), "{now}");
        }
        let (error, _) = refused(&studio.client(version, Some(&node), &[]), &server);
        assert!(error.to_string().contains("renew it"), "{error}");
    }
}

/// 2030-01-01 in Unix time.
const fn node_end() -> u64 {
    1_893_456_000
}

/// Notes how many authorities are named to it, and has nothing to present.
#[derive(Debug, Default)]
struct Listener(Mutex<Vec<usize>>);

impl ResolvesClientCert for Listener {
    fn resolve(&self, authorities: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().push(authorities.len());
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn authorities_are_named_to_the_client_unless_they_are_many() {
    let studio = Studio::new();
    let number = AtomicUsize::new(0);
    let pem = || {
        let name = format!("{}{}", number.fetch_add(1, Ordering::Relaxed), "a".repeat(2000));
        std::fs::read_to_string(Authority::named(&name).file).unwrap()
    };
    let farm = std::fs::read_to_string(&studio.farm.file).unwrap();
    let node = studio.node();
    for (others, named) in [(0, 1), (3, 4), (5, 0), (40, 0)] {
        let all: String = (0..others).map(|_| pem()).chain([farm.clone()]).collect();
        let file = studio.farm.write("all.pem", &all);
        let server = asking(&studio.issued, &file);
        for version in VERSIONS {
            let listener = Arc::new(Listener::default());
            let mut client = studio.client(version, None, &[]);
            client.client_auth_cert_resolver = Arc::clone(&listener) as _;
            met(&client, &server);
            assert_eq!(*listener.0.lock().unwrap(), [named], "{others}");
            let (_, ours) = met(&studio.client(version, Some(&node), &[]), &server);
            assert_eq!(ours.session.client_names(), NAMES);
        }
    }
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_told_in_a_sentence() {
    let authority = Authority::new();
    let Issued { identity, .. } = authority.issue("leaf", &[NAME], &ECDSA);
    let pem = std::fs::read_to_string(&authority.file).unwrap();
    let no_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (file, says) in [
        (authority.file.with_file_name("gone.pem"), &["gone.pem", "check the path"][..]),
        (authority.write("empty.pem", ""), &["empty.pem", "no certificate"]),
        (identity.private_key, &["leaf.key", "no certificate"]),
        (authority.write("cut.pem", &pem[..200]), &["cut.pem", "PEM"]),
        (authority.write("odd.pem", no_x509), &["odd.pem", "X.509"]),
        (authority.write("both.pem", &format!("{pem}{no_x509}")), &["both.pem", "X.509"]),
    ] {
        let error = Authorities::load(&file).unwrap_err().to_string();
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
    }
    Authorities::load(&authority.file).unwrap();
}

async fn greet(there: &Memory, theirs: &mut Theirs) {
    say(there, &theirs.give()).await;
    while theirs.is_handshaking() {
        hear(there, theirs).await.unwrap();
        say(there, &theirs.give()).await;
    }
}

#[test]
fn a_connection_knows_its_client_as_long_as_it_lasts() {
    let studio = Studio::new();
    let (node, server) = (studio.node(), studio.server());
    for version in VERSIONS {
        for (certificate, names) in [(Some(&node), &NAMES[..]), (None, &[])] {
            run(async {
                let mut theirs = Theirs::client(studio.client(version, certificate, &[]), NAME);
                let (here, there) = ends(1 << 20);
                let pool = Pool::new(1 << 20);
                let accepting = Secure::accept(here, &server, &pool, soon());
                let (accepted, ()) = tokio::join!(accepting, greet(&there, &mut theirs));
                let wire = Wire::Tls(Box::new(accepted.unwrap()));
                assert_eq!(wire.client_names(), names);
            });
        }
    }
    assert_eq!(Wire::Plain(ends(1).0).client_names(), [""; 0]);
}

#[test]
fn a_chain_beyond_what_a_connection_reads_at_once_is_refused() {
    let studio = Studio::new();
    let (node, server) = (studio.node(), studio.server());
    let (long, part) = (ballast(60_000), ballast(30_000));
    let longer = [&part; 3];
    for version in VERSIONS {
        for (behind, is_told) in [(&[&long][..], true), (&longer, false)] {
            run(async {
                let mut theirs = Theirs::client(studio.client(version, Some(&node), behind), NAME);
                let (here, there) = ends(1 << 20);
                let pool = Pool::new(1 << 20);
                let accepting = Secure::accept(here, &server, &pool, soon());
                let calling = async {
                    while theirs.is_handshaking() {
                        say(&there, &theirs.give()).await;
                        let (result, buffer) = there.read(Buffer::detached(limits::BUFFER_BYTES), soon()).await;
                        if result.is_err() || theirs.take(buffer.filled()).is_err() {
                            return;
                        }
                    }
                    say(&there, &theirs.give()).await;
                };
                let (accepted, ()) = tokio::join!(accepting, calling);
                let cause = accepted.err().unwrap().cause;
                let is_judged = matches!(cause, SecureError::Tls(TlsError::UntrustedClient(_)));
                assert_eq!(is_judged, is_told, "{cause}");
            });
        }
    }
}
