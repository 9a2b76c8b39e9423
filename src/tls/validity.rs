//! From when until when a certificate is valid.

use std::path::Path;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::config::{TlsConfigError, certificates_in};

/// The time a certificate is valid, in seconds of Unix time, both ends included (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub not_before: i64,
    /// Its last second.
    pub not_after: i64,
}

impl Validity {
    /// That of the first certificate in a PEM file. `None` when it cannot be made out.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn of_file(file: &Path) -> Result<Option<Self>, TlsConfigError> {
        let chain = certificates_in(file)?;
        let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        Ok(leaf.map(|(_, leaf)| Self {
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
        }))
    }
}
