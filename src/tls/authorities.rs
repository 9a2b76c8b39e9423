//! Who vouches for clients: their certificates are asked for, not demanded, and what is presented must verify.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

use super::certificate::Print;
use super::config::{self, TlsConfigError};
use crate::limits;

/// Who may vouch for clients.
#[derive(Clone, Debug)]
pub struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    print: Print,
}

impl Authorities {
    /// Those in `file`.
    ///
    /// # Errors
    /// When the file cannot be read, holds no certificate or one that cannot be used.
    pub fn load(file: &Path) -> Result<Self, TlsConfigError> {
        let (roots, print) = config::roots_in(file)?;
        let roots = Arc::new(roots);
        let names: usize = roots.subjects().iter().map(|name| name.as_ref().len()).sum();
        let provider = Arc::new(config::provider());
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated();
        // Every client would be sent the names of all of them; without, it presents what it has.
        let builder = match names <= limits::TLS_AUTHORITY_NAMES_BYTES_MAX {
            true => builder,
            false => builder.clear_root_hint_subjects(),
        };
        let verifier = builder.build().map_err(|error| TlsConfigError::Library(Error::General(error.to_string())))?;
        Ok(Self { verifier: Arc::new(Bounded(verifier)), print })
    }

    /// What the file held.
    #[must_use]
    pub fn print(&self) -> Print {
        self.print
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }
}

/// Refuses chains that would take too long to verify or too much memory to keep: they stay with the connection, and
/// travel in its tickets.
#[derive(Debug)]
struct Bounded(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Bounded {
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = intermediates.iter().fold(end_entity.len(), |sum, certificate| sum + certificate.len());
        if intermediates.len() >= limits::TLS_CLIENT_CHAIN_MAX || bytes > limits::TLS_CLIENT_CHAIN_BYTES_MAX {
            return Err(CertificateError::Other(OtherError(Arc::new(ChainTooLong))).into());
        }
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A chain beyond the bounds.
#[derive(Debug)]
struct ChainTooLong;

impl fmt::Display for ChainTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it came in a chain of more than {} certificates or {} KiB",
            limits::TLS_CLIENT_CHAIN_MAX,
            limits::TLS_CLIENT_CHAIN_BYTES_MAX / 1024
        )
    }
}

impl std::error::Error for ChainTooLong {}
