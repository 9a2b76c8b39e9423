//! What a session knows of its peer.

use std::mem;

use super::{Session, Side};
use crate::tls::config::Version;
use crate::tls::{TlsError, hello};

impl Session {
    /// The version agreed upon.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match &self.side {
            Side::Library(library) => library.version(),
            Side::Own(_) | Side::Kernel(_) | Side::Nobody => Some(Version::Tls13),
        }
    }

    /// The name the client asked for, unless its hello came in more than one record.
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// What the client's verified certificate calls it, once the handshake is over: `CN=` with the subject's common name, DNS
    /// names in lower case, URIs and addresses of mail. A DNS name has no `@`, `:` or `=`, and only the common name begins
    /// with `CN=`. Empty without a certificate, and when it has expired since the session that is resumed.
    #[must_use]
    pub fn client_names(&self) -> &[String] {
        &self.client_names
    }

    /// As [`client_names`](Self::client_names), which is empty from then on.
    pub fn take_client_names(&mut self) -> Box<[String]> {
        mem::take(&mut self.client_names)
    }

    /// Whether the handshake resumed an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        match &self.side {
            Side::Library(library) => library.is_resumed(),
            Side::Own(traffic) => traffic.is_resumed(),
            Side::Kernel(left) => left.is_resumed(),
            Side::Nobody => false,
        }
    }

    /// Recognises plain HTTP, and the name in a client's hello.
    pub(super) fn look_at_hello(&mut self, incoming: &[u8]) -> Result<(), TlsError> {
        let Side::Library(library) = &self.side else { return Ok(()) };
        if !library.is_server() {
            return Ok(());
        }
        if let Some(first) = incoming.first() {
            // Every request begins with a letter, no TLS record does.
            if !mem::replace(&mut self.has_begun, true) && first.is_ascii_alphabetic() {
                return Err(self.fail(TlsError::PlainHttp));
            }
        }
        if self.sni.is_none() && library.version().is_none() {
            self.sni = hello::server_name(incoming).map(Box::from);
        }
        Ok(())
    }
}
