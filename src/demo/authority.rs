//! A certificate authority that lives as long as the demo.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Problem;
use crate::clock;

/// The authority: what the demo's clients and the gate trust.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate for some names and its key.
pub(super) struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(super) fn new() -> Result<Self, Problem> {
        let mut params = params("filmgate demo authority", Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(no_certificate)?);
        Ok(Self { issuer: issuer.map_err(no_certificate)? })
    }

    /// A server certificate for `names`, host names or addresses.
    pub(super) fn issue(&self, names: &[&str]) -> Result<Issued, Problem> {
        let key = KeyPair::generate().map_err(no_certificate)?;
        let common_name = names.first().copied().unwrap_or_default();
        let mut params = params(common_name, names.iter().map(|&name| name.to_owned()).collect())?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(no_certificate)?;
        Ok(Issued { certificate, key })
    }

    /// Writes the authority's certificate for curl's `--cacert` and the gate's `ca-file`.
    pub(super) fn write(&self, path: &Path) -> Result<(), Problem> {
        write(path, &self.issuer.pem(), PUBLIC)
    }

    /// TLS for a client that trusts this authority and nothing else.
    pub(super) fn client(&self) -> Result<Arc<rustls::ClientConfig>, Problem> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).map_err(no_tls)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Ok(Arc::new(config.map_err(no_tls)?.with_root_certificates(roots).with_no_client_auth()))
    }
}

impl Issued {
    /// Writes chain and key as PEM; the key is for its owner only.
    pub(super) fn write(&self, certificate: &Path, key: &Path) -> Result<(), Problem> {
        write(certificate, &self.certificate.pem(), PUBLIC)?;
        write(key, &self.key.serialize_pem(), PRIVATE)
    }

    /// TLS for a server with this certificate.
    pub(super) fn server(&self) -> Result<Arc<rustls::ServerConfig>, Problem> {
        let chain = vec![CertificateDer::from(self.certificate.der().to_vec())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.map_err(no_tls)?.with_no_client_auth().with_single_cert(chain, key).map_err(no_tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, Problem> {
    let mut params = CertificateParams::new(names).map_err(no_certificate)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = clock::now().wall;
    params.not_before = (now - CLOCK_SLACK).into();
    params.not_after = (now + LIFETIME).into();
    Ok(params)
}

fn write(path: &Path, pem: &str, mode: u32) -> Result<(), Problem> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(pem.as_bytes()))
        .map_err(|error| Problem::new(format_args!("cannot write {}", path.display()), error))
}

fn no_certificate(error: rcgen::Error) -> Problem {
    Problem::new("cannot make a certificate", error)
}

fn no_tls(error: rustls::Error) -> Problem {
    Problem::new("cannot set up TLS", error)
}

const CLOCK_SLACK: Duration = Duration::from_secs(60 * 60);
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;
