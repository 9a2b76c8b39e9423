//! Certificates on disk, made for one test.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use filmgate::tls::config::{ClientConfig, ClientOptions, Identity, ServerOptions, Version, client, server};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::RECORDS;

pub(crate) use rcgen::{PKCS_ECDSA_P256_SHA256 as ECDSA, PKCS_RSA_SHA256 as RSA};

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// An authority and the directory its files are in.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) file: PathBuf,
}

/// One issued certificate.
pub(crate) struct Issued {
    pub(crate) identity: Identity,
    pub(crate) leaf: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named(&format!("Authority {}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn named(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let file = dir.path().join("ca.pem");
        fs::write(&file, certificate.pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key), certificate: certificate.der().clone(), file }
    }

    /// An authority this one vouches for.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = dir.path().join("ca.pem");
        fs::write(&file, certificate.pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key), certificate: certificate.der().clone(), file }
    }

    /// Issues a certificate for `names`, as `<stem>.pem` and `<stem>.key`.
    pub(crate) fn issue(&self, stem: &str, names: &[&str], algorithm: &'static SignatureAlgorithm) -> Issued {
        self.issue_with(stem, names, algorithm, |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        stem: &str,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let certificate = self.write(&format!("{stem}.pem"), &leaf.pem());
        let private_key = self.write(&format!("{stem}.key"), &key.serialize_pem());
        Issued { identity: Identity { certificate, private_key }, leaf: leaf.der().clone() }
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A client that trusts this authority.
    pub(crate) fn client(&self, name: &str, max_version: Version) -> ClientConfig {
        let server_name = name.to_owned();
        client(&ClientOptions { server_name, ca_file: Some(self.file.clone()), max_version, records: RECORDS }).unwrap()
    }
}

/// A server with these identities.
pub(crate) fn serving(issued: &[&Issued], min_version: Version) -> std::sync::Arc<rustls::ServerConfig> {
    server(&options(issued, min_version)).unwrap()
}

/// A server with one identity that asks its clients for certificates.
pub(crate) fn asking(issued: &Issued, client_ca: &std::path::Path) -> std::sync::Arc<rustls::ServerConfig> {
    server(&ServerOptions { client_ca: Some(client_ca.to_owned()), ..options(&[issued], Version::Tls12) }).unwrap()
}

fn options(issued: &[&Issued], min_version: Version) -> ServerOptions {
    let identities = issued.iter().map(|issued| issued.identity.clone()).collect();
    ServerOptions { identities, min_version, records: RECORDS, client_ca: None }
}

/// Where studios' names point to in these tests.
pub(crate) const NAME: &str = "media.studio.example";

/// A client and a server that trust each other and speak `version` at most.
pub(crate) fn pair(
    version: Version,
    algorithm: &'static SignatureAlgorithm,
) -> (ClientConfig, std::sync::Arc<rustls::ServerConfig>) {
    let authority = Authority::new();
    let issued = authority.issue("leaf", &[NAME], algorithm);
    (authority.client(NAME, version), serving(&[&issued], Version::Tls12))
}
