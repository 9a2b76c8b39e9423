//! What a TLS 1.3 session's peer says behind the handshake besides data: tickets, key updates and alerts. Whoever opens
//! the records, this judges what is in them.

use std::mem;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved,
};

use super::TlsError;
use super::record::{Content, Refused};
use crate::limits;

/// Bytes of a handshake message's header: its type and its length (RFC 8446 §4).
const MESSAGE_HEAD_BYTES: usize = 4;

/// New sending keys from here on, none asked for in return (RFC 8446 §4.6.3).
pub(super) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// `AlertLevel` (RFC 8446 §6).
pub(super) const WARNING: u8 = 1;
pub(super) const FATAL: u8 = 2;

/// What of rustls outlives the handshake: the source of further keys, and of what a ticket needs.
pub(super) enum Keys {
    Server(Box<KernelConnection<ServerConnectionData>>),
    Client(Box<KernelConnection<ClientConnectionData>>),
}

/// What a record came to.
pub(super) enum Came {
    /// Application data: so many bytes where the record was opened.
    Data(usize),
    /// Something between the two sessions.
    Nothing,
    /// The peer's next record is under its next key.
    NewKey,
    /// `close_notify`.
    Goodbye,
}

/// Where the two sides of one session stand.
pub(super) struct Messages {
    keys: Keys,
    /// The front of a handshake message that goes on in the next record.
    message: Vec<u8>,
    /// The peer wants us to use new keys before our next application data (RFC 8446 §4.6.3).
    pub(super) is_update_due: bool,
    /// Handshake messages since the last application data.
    count: u8,
    /// Records without content since the last with one.
    empty_records: u8,
    warnings: u8,
}

impl Messages {
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys, message: Vec::new(), is_update_due: false, count: 0, empty_records: 0, warnings: 0 }
    }

    /// The key of what we send from now on.
    pub(super) fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match &mut self.keys {
            Keys::Server(connection) => connection.update_tx_secret(),
            Keys::Client(connection) => connection.update_tx_secret(),
        }
    }

    /// The key of what the peer sends from now on.
    pub(super) fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Refused> {
        let next = match &mut self.keys {
            Keys::Server(connection) => connection.update_rx_secret(),
            Keys::Client(connection) => connection.update_rx_secret(),
        };
        next.map_err(internal)
    }

    /// Judges what a record holds and does what it asks for.
    pub(super) fn take(&mut self, content: Content, bytes: &[u8]) -> Result<Came, Refused> {
        // "there MUST NOT be any other records between them" (RFC 8446 §5.1).
        if content.kind != ContentType::Handshake && !self.message.is_empty() {
            return Err(unexpected(PeerMisbehaved::MessageInterleavedWithHandshakeMessage));
        }
        match content.kind {
            ContentType::ApplicationData => self.take_data(content.len)?,
            // Without content they are no cover traffic but an error (RFC 8446 §5.4).
            ContentType::Handshake | ContentType::Alert if bytes.is_empty() => {
                return Err(unexpected(InvalidMessage::InvalidEmptyPayload));
            }
            ContentType::Handshake => {
                self.empty_records = 0;
                return self.take_messages(bytes);
            }
            ContentType::Alert => {
                self.empty_records = 0;
                return self.take_alert(bytes);
            }
            kind => return Err(Refused::kind(kind)),
        }
        Ok(Came::Data(content.len))
    }

    fn take_data(&mut self, len: usize) -> Result<(), Refused> {
        if len > 0 {
            (self.empty_records, self.count) = (0, 0);
            return Ok(());
        }
        if self.empty_records == limits::TLS_EMPTY_RECORDS_MAX {
            return Err(unexpected(PeerMisbehaved::TooManyEmptyFragments));
        }
        self.empty_records += 1;
        Ok(())
    }

    fn take_alert(&mut self, bytes: &[u8]) -> Result<Came, Refused> {
        // Neither cut in pieces nor put together (RFC 8446 §5.1).
        let &[level @ (WARNING | FATAL), description] = bytes else {
            let error = InvalidMessage::TrailingData("Alert");
            return Err(Refused::new(AlertDescription::DecodeError, error));
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => Ok(Came::Goodbye),
            AlertDescription::UserCanceled if level == WARNING => {
                if self.warnings == limits::TLS_WARNINGS_MAX {
                    return Err(unexpected(PeerMisbehaved::TooManyWarningAlertsReceived));
                }
                self.warnings += 1;
                Ok(Came::Nothing)
            }
            // Every other one is an error whatever its level, and is not answered (RFC 8446 §6.2).
            alert => Err(Refused { error: TlsError::Alert(alert), alert: None }),
        }
    }

    /// Handshake messages come several to a record or in several records (RFC 8446 §5.1).
    fn take_messages(&mut self, bytes: &[u8]) -> Result<Came, Refused> {
        let mut messages = mem::take(&mut self.message);
        messages.extend_from_slice(bytes);
        let (mut done, mut came) = (0, Came::Nothing);
        while let Some(&[kind, high, middle, low]) = messages[done..].first_chunk::<MESSAGE_HEAD_BYTES>() {
            let kind = HandshakeType::from(kind);
            let len = u32::from_be_bytes([0, high, middle, low]) as usize;
            self.expect_message(kind, len)?;
            let start = done + MESSAGE_HEAD_BYTES;
            let Some(body) = messages.get(start..start + len) else { break };
            done = start + len;
            self.count_message()?;
            if kind == HandshakeType::KeyUpdate {
                // What follows under the old key would span the change of keys (RFC 8446 §5.1).
                if messages.len() > done {
                    return Err(unexpected(PeerMisbehaved::KeyEpochWithPendingFragment));
                }
                self.take_key_update(body)?;
                came = Came::NewKey;
            } else {
                self.take_ticket(body)?;
            }
        }
        // An idle session keeps no memory for messages.
        if done < messages.len() {
            messages.drain(..done);
            self.message = messages;
        }
        Ok(came)
    }

    /// Refuses a message by its header, before its body takes memory.
    fn expect_message(&self, kind: HandshakeType, len: usize) -> Result<(), Refused> {
        let refused = |error| Refused::new(AlertDescription::DecodeError, error);
        match (&self.keys, kind) {
            (_, HandshakeType::KeyUpdate) if len == 1 => Ok(()),
            (_, HandshakeType::KeyUpdate) => Err(refused(InvalidMessage::InvalidKeyUpdate)),
            // Only servers give tickets (RFC 8446 §4.6.1).
            (Keys::Client(_), HandshakeType::NewSessionTicket) if len <= limits::TLS_TICKET_BYTES_MAX => Ok(()),
            (Keys::Client(_), HandshakeType::NewSessionTicket) => {
                Err(refused(InvalidMessage::HandshakePayloadTooLarge))
            }
            (_, got_type) => {
                let expect_types = vec![HandshakeType::KeyUpdate];
                Err(unexpected(Error::InappropriateHandshakeMessage { expect_types, got_type }))
            }
        }
    }

    fn count_message(&mut self) -> Result<(), Refused> {
        if self.count == limits::TLS_MESSAGES_MAX {
            return Err(unexpected(PeerMisbehaved::TooManyKeyUpdateRequests));
        }
        self.count += 1;
        Ok(())
    }

    /// The peer seals with new keys from its next record on (RFC 8446 §4.6.3).
    fn take_key_update(&mut self, body: &[u8]) -> Result<(), Refused> {
        let is_requested = match body {
            [0] => false,
            [1] => true,
            _ => return Err(Refused::new(AlertDescription::IllegalParameter, InvalidMessage::InvalidKeyUpdate)),
        };
        // Requests that come before our next data are answered as one.
        self.is_update_due |= is_requested;
        Ok(())
    }

    fn take_ticket(&mut self, body: &[u8]) -> Result<(), Refused> {
        let Keys::Client(connection) = &mut self.keys else { return Ok(()) };
        connection.handle_new_session_ticket(body).map_err(|error| match error {
            Error::InvalidMessage(_) => Refused::new(AlertDescription::DecodeError, error),
            Error::PeerMisbehaved(_) => Refused::new(AlertDescription::IllegalParameter, error),
            error => internal(error),
        })
    }
}

fn unexpected(error: impl Into<Error>) -> Refused {
    Refused::new(AlertDescription::UnexpectedMessage, error)
}

fn internal(error: Error) -> Refused {
    Refused::new(AlertDescription::InternalError, error)
}
