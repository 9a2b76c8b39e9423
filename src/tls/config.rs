//! PEM files into rustls configurations.

use std::path::PathBuf;

/// A TLS protocol version the gate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// A certificate chain and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM key: PKCS #8, PKCS #1 or SEC 1.
    pub private_key: PathBuf,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// At least one. A client without SNI, or asking for an unknown name, gets the first.
    pub identities: Vec<Identity>,
    /// Oldest version accepted.
    pub min_version: Version,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// SNI, and the name the certificate must carry.
    pub server_name: String,
    /// PEM roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Newest version offered; some VPC endpoints drop a TLS 1.3 hello.
    pub max_version: Version,
}
