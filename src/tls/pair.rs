//! A certificate chain with its key, and which of several a client is shown.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};

use super::certificate::{Certificate, Print};
use super::config::{self, Identity, TlsConfigError};

/// A chain and its key, read and found to belong together.
#[derive(Clone, Debug)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    certificate: Certificate,
    print: Print,
}

impl Pair {
    /// Reads the two files of `identity`.
    ///
    /// # Errors
    /// When one cannot be read, or they do not belong together.
    pub fn load(identity: &Identity) -> Result<Self, TlsConfigError> {
        let Identity { certificate, private_key } = identity;
        let (chain_pem, key_pem) = (config::read(certificate)?, config::read(private_key)?);
        let chain = config::certificates_of(certificate, &chain_pem)?;
        let key = config::key_of(private_key, &key_pem)?;
        let certified = certified(identity, chain.clone(), key, &config::provider())?;
        let certificate = Certificate::of(certificate, chain)?;
        Ok(Self { certified: Arc::new(certified), certificate, print: Print::of_contents([&chain_pem, &key_pem]) })
    }

    /// What the chain says of itself.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What the files held, the chain's first.
    #[must_use]
    pub fn print(&self) -> Print {
        self.print
    }
}

fn certified(
    identity: &Identity,
    chain: Vec<CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsConfigError> {
    let Identity { certificate, private_key } = identity;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| TlsConfigError::Key(private_key.clone(), error))?;
    let mut certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            let chain = std::mem::take(&mut certified.cert);
            let matches_key = |cert: &CertificateDer<'static>| {
                CertifiedKey::new(vec![cert.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
            };
            let leaf_is_not_first = chain.iter().skip(1).any(matches_key);
            let (certificate, private_key) = (certificate.clone(), private_key.clone());
            Err(TlsConfigError::KeyMismatch { certificate, private_key, leaf_is_not_first })
        }
        Err(error) => Err(TlsConfigError::Certificate(certificate.clone(), error)),
    }
}

/// Pairs in the order of the configuration.
#[derive(Debug)]
pub(super) struct Pairs(Vec<Arc<CertifiedKey>>);

impl Pairs {
    pub(super) fn new(pairs: &[Pair]) -> Self {
        Self(pairs.iter().map(|pair| Arc::clone(&pair.certified)).collect())
    }
}

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |identity: &&Arc<CertifiedKey>| identity.key.choose_scheme(hello.signature_schemes()).is_some();
        let named: Vec<_> = match hello.server_name().and_then(|name| ServerName::try_from(name).ok()) {
            Some(name) if self.0.len() > 1 => self.0.iter().filter(|identity| is_valid_for(identity, &name)).collect(),
            _ => Vec::new(),
        };
        // An ECDSA signature costs a small part of an RSA one.
        let cheap = |identity: &&Arc<CertifiedKey>| identity.key.algorithm() != SignatureAlgorithm::RSA;
        let mut candidates = named.iter().copied().filter(usable);
        let chosen = candidates.clone().find(cheap).or_else(|| candidates.next());
        let chosen = chosen.or_else(|| named.is_empty().then(|| self.0.iter().find(usable)).flatten());
        // Nothing usable: with the wrong key at hand rustls sends the right alert.
        chosen.or_else(|| named.first().copied()).or_else(|| self.0.first()).cloned()
    }
}

/// Whether the certificate carries `name`, wildcards for one label included (RFC 6125 §6.4).
fn is_valid_for(identity: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = identity.end_entity_cert().and_then(ParsedCertificate::try_from);
    leaf.is_ok_and(|leaf| verify_server_name(&leaf, name).is_ok())
}
