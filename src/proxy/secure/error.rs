//! Why there is no TLS session.

use std::fmt;
use std::io;

use crate::tls::TlsError;

/// A handshake that failed.
pub struct HandshakeError<L> {
    /// The link below, for a last word ([`TlsError::PlainHttp`]) or to be dropped.
    pub link: L,
    /// What went wrong.
    pub cause: SecureError,
}

impl<L> fmt::Debug for HandshakeError<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

/// Why there is no TLS session.
#[derive(Debug)]
pub enum SecureError {
    /// The link failed; `TimedOut` at the deadline.
    Link(io::Error),
    /// The peer closed before the handshake was over.
    Closed,
    /// TLS itself failed.
    Tls(TlsError),
}

impl From<io::Error> for SecureError {
    fn from(error: io::Error) -> Self {
        Self::Link(error)
    }
}

impl From<TlsError> for SecureError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl fmt::Display for SecureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => write!(f, "the connection failed during the TLS handshake: {error}"),
            Self::Closed => f.write_str("the peer closed the connection during the TLS handshake"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SecureError {}
