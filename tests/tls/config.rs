//! Files into configurations.

use std::path::PathBuf;
use std::sync::Arc;

use filmgate::tls::config::{ClientOptions, Identity, ServerOptions, Version, client, server};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use crate::RECORDS;
use crate::ends::{Theirs, our_server, talk};
use crate::pki::{Authority, ECDSA, Issued, RSA, serving};

/// Takes any certificate, and only knows some kinds of signature.
#[derive(Debug)]
struct Anything(Vec<SignatureScheme>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

const RSA_SCHEMES: [SignatureScheme; 2] = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
const ECDSA_SCHEMES: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP256_SHA256];

/// The certificate a client gets that asks for `name` and knows `schemes`.
fn chosen(
    config: &Arc<ServerConfig>,
    name: Option<&str>,
    schemes: &[SignatureScheme],
) -> Option<CertificateDer<'static>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything(schemes.to_vec())));
    let mut client = builder.with_no_client_auth();
    client.enable_sni = name.is_some();
    let mut theirs = Theirs::client(client, name.unwrap_or("ignored.example"));
    let mut ours = our_server(config);
    talk(&mut theirs, &mut ours).ok()?;
    theirs.connection.peer_certificates().map(|chain| chain[0].clone())
}

fn any() -> Vec<SignatureScheme> {
    [&RSA_SCHEMES[..], &ECDSA_SCHEMES].concat()
}

#[test]
fn sni_chooses_the_certificate_and_the_first_serves_everyone_else() {
    let authority = Authority::new();
    let media = authority.issue("media", &["media.studio.example"], &ECDSA);
    let wild = authority.issue("wild", &["*.show.example", "show.example"], &ECDSA);
    let config = serving(&[&media, &wild], Version::Tls12);
    for (name, expected) in [
        (Some("media.studio.example"), &media),
        (Some("MEDIA.studio.example"), &media),
        (Some("show.example"), &wild),
        (Some("dailies.show.example"), &wild),
        // A wildcard stands for one label (RFC 6125 §6.4.3).
        (Some("a.dailies.show.example"), &media),
        (Some("unknown.example"), &media),
        (None, &media),
    ] {
        assert_eq!(chosen(&config, name, &any()).as_ref(), Some(&expected.leaf), "{name:?}");
    }
}

#[test]
fn of_two_kinds_for_one_name_each_client_gets_one_it_can_verify() {
    let authority = Authority::new();
    let other = authority.issue("other", &["other.example"], &ECDSA);
    let rsa = authority.issue("rsa", &["media.studio.example"], &RSA);
    let ecdsa = authority.issue("ecdsa", &["media.studio.example"], &ECDSA);
    let config = serving(&[&other, &rsa, &ecdsa], Version::Tls12);
    let for_name = |schemes: &[_]| chosen(&config, Some("media.studio.example"), schemes);
    assert_eq!(for_name(&RSA_SCHEMES), Some(rsa.leaf.clone()));
    assert_eq!(for_name(&ECDSA_SCHEMES), Some(ecdsa.leaf.clone()));
    assert_eq!(for_name(&any()), Some(ecdsa.leaf.clone()), "the cheaper signature");
    assert_eq!(chosen(&config, None, &RSA_SCHEMES), Some(rsa.leaf.clone()), "the first that it can verify");
    assert_eq!(chosen(&config, Some("other.example"), &RSA_SCHEMES), None, "no certificate of another name");
}

fn server_error(certificate: PathBuf, private_key: PathBuf) -> String {
    let identities = vec![Identity { certificate, private_key }];
    let options = ServerOptions { identities, min_version: Version::Tls12, records: RECORDS, client_ca: None };
    server(&options).unwrap_err().to_string()
}

#[test]
fn errors_name_the_file_and_the_fix() {
    let authority = Authority::new();
    let Issued { identity: good, .. } = authority.issue("good", &["a.example"], &ECDSA);
    let Issued { identity: other, .. } = authority.issue("other", &["b.example"], &RSA);
    let chain = std::fs::read_to_string(&good.certificate).unwrap();
    let ca = std::fs::read_to_string(&authority.file).unwrap();
    let missing = authority.file.with_file_name("missing.pem");
    let garbled = authority.write("garbled.pem", &chain.replace("-----END", "--END"));
    let no_x509 = authority.write("no-x509.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let turned = authority.write("turned.pem", &format!("{ca}{chain}"));
    let locked = authority
        .write("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let no_key = authority.write("no-key.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let key = || good.private_key.clone();
    for (certificate, private_key, says) in [
        (missing, key(), &["missing.pem", "check the path"][..]),
        (garbled, key(), &["garbled.pem", "PEM"]),
        (no_x509, key(), &["no-x509.pem", "X.509"]),
        (key(), key(), &["good.key", "BEGIN CERTIFICATE"]),
        (good.certificate.clone(), good.certificate.clone(), &["good.pem", "no private key"]),
        (good.certificate.clone(), locked, &["locked.key", "passphrase", "openssl pkey"]),
        (good.certificate.clone(), no_key, &["no-key.key", "ECDSA"]),
        (good.certificate.clone(), other.private_key, &["good.pem", "other.key", "openssl"]),
        (turned, key(), &["turned.pem", "good.key", "first"]),
    ] {
        let error = server_error(certificate, private_key);
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
    }
    let none = ServerOptions { identities: vec![], min_version: Version::Tls12, records: RECORDS, client_ca: None };
    assert!(server(&none).unwrap_err().to_string().contains("[tls]"));
    let one = ServerOptions { identities: vec![good], min_version: Version::Tls13, ..none };
    assert!(server(&one).is_ok());
}

#[test]
fn a_client_needs_a_name_and_usable_roots() {
    let authority = Authority::new();
    let options = |name: &str, ca_file: &PathBuf| ClientOptions {
        server_name: name.to_owned(),
        ca_file: Some(ca_file.clone()),
        max_version: Version::Tls13,
        records: RECORDS,
    };
    for name in ["s3.us-west-2.amazonaws.com", "s3.us-west-2.amazonaws.com.", "127.0.0.1", "my_bucket.s3.amazonaws.com"]
    {
        let config = client(&options(name, &authority.file)).unwrap();
        assert_eq!(config.server_name(), name.trim_end_matches('.'));
    }
    for name in ["", "not a name", "https://s3.amazonaws.com"] {
        let error = client(&options(name, &authority.file)).unwrap_err();
        assert!(error.to_string().contains("server name"), "{error}");
    }
    let empty = authority.write("empty.pem", "");
    let error = client(&options("a.example", &empty)).unwrap_err().to_string();
    assert!(error.contains("empty.pem") && error.contains("no certificate"), "{error}");
}
