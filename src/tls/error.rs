//! Why a TLS session ended, grouped by who has to do something about it.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

/// The end of a TLS session that should not have been.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError {
    /// The client speaks plain HTTP to the TLS port.
    PlainHttp,
    /// The upstream's certificate is not to be trusted; the administrator has to look.
    Untrusted(CertificateError),
    /// A client presents a certificate that is not to be trusted.
    UntrustedClient(CertificateError),
    /// The two sides have no version, cipher suite, signature scheme or application protocol in common.
    NothingInCommon(Error),
    /// The peer gave up and said so.
    Alert(AlertDescription),
    /// A record was changed, repeated or left out on its way.
    Decrypt,
    /// The peer breaks the rules of the protocol.
    Protocol(Error),
    /// The peer changes its keys, which the kernel that protects the records cannot follow.
    KernelKeys,
    /// The session has no keys left for another record, or was used after its end.
    Spent,
    /// Nobody's fault but the gate's.
    Internal(Error),
}

impl TlsError {
    /// Whether the peer, or someone between, is to blame, and not the gate.
    #[must_use]
    pub const fn is_peer_fault(&self) -> bool {
        !matches!(self, Self::KernelKeys | Self::Spent | Self::Internal(_))
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(why) => Self::Untrusted(why),
            Error::NoCertificatesPresented => Self::Untrusted(CertificateError::BadEncoding),
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::NothingInCommon(error),
            Error::AlertReceived(alert) => Self::Alert(alert),
            Error::DecryptError => Self::Decrypt,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord => Self::Protocol(error),
            Error::EncryptError | Error::HandshakeNotComplete => Self::Spent,
            error => Self::Internal(error),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp => f.write_str("plain HTTP spoken to the HTTPS port"),
            Self::Untrusted(why) => write!(f, "the certificate is not trusted: {why}; {}", remedy(why)),
            Self::UntrustedClient(why) => {
                let said: &dyn fmt::Display = if let CertificateError::Other(OtherError(other)) = why { other } else { why };
                write!(f, "the client's certificate is not trusted: {said}; {}", remedy_for_client(why))
            }
            Self::NothingInCommon(Error::NoApplicationProtocol) => {
                f.write_str("the client offers protocols by ALPN, and http/1.1 is not among them")
            }
            Self::NothingInCommon(Error::PeerIncompatible(why)) => {
                write!(f, "nothing in common to speak TLS with: {why:?}")
            }
            Self::Alert(AlertDescription::UnknownCA) => {
                f.write_str("the peer does not trust our certificate (alert UnknownCA); is the chain complete?")
            }
            Self::Alert(alert) => write!(f, "the peer gave up with alert {alert:?}"),
            Self::Decrypt => f.write_str("a record could not be decrypted: it was changed on its way"),
            Self::KernelKeys => f.write_str(
                "the peer changes its keys, which the kernel's TLS can only do since Linux 6.14; `tls.kernel = \"off\"` \
                 leaves the records to the gate",
            ),
            Self::Spent => f.write_str("the session can carry no more"),
            Self::NothingInCommon(error) | Self::Protocol(error) | Self::Internal(error) => write!(f, "{error}"),
        }
    }
}

/// What the administrator can do about a certificate that is refused.
fn remedy(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "if the endpoint uses a private authority, name its certificate in `ca-file`; else something between is \
             reading along"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "set `server-name` to a name that the certificate carries"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew it, or set this machine's clock",
        _ => "the endpoint needs another certificate",
    }
}

/// What can be done about a client's certificate that is refused.
fn remedy_for_client(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::UnknownIssuer => {
            "the authority it comes from has to stand in `client-ca-file`, and the client has to send those in between"
        }
        CertificateError::BadSignature => {
            "the client does not hold its key, or an authority of the same name signed it"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew it, or set this machine's clock",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage has to include clientAuth"
        }
        _ => "the client needs another certificate",
    }
}

impl std::error::Error for TlsError {}

impl From<TlsError> for std::io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}
