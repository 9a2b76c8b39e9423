//! A TLS 1.3 session behind its handshake: records in both directions, and the few messages that are left.
//!
//! rustls makes the handshake and keeps the secrets; which of them is used for which record is decided here.

use std::mem;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage,
    PeerMisbehaved,
};

use super::TlsError;
use super::record::{self, Content, Opener, RECORD_HEAD_BYTES, RECORD_TAIL_BYTES, Refused, Sealer};
use super::session::{RECORD_PLAIN_BYTES_MAX, Sink, Step};
use crate::limits;

/// Bytes of a handshake message's header: its type and its length (RFC 8446 §4).
const MESSAGE_HEAD_BYTES: usize = 4;

/// New sending keys from here on, none asked for in return (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// `AlertLevel` (RFC 8446 §6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What of rustls outlives the handshake: the source of further keys, and of what a ticket needs.
pub(super) enum Keys {
    Server(Box<KernelConnection<ServerConnectionData>>),
    Client(Box<KernelConnection<ClientConnectionData>>),
}

impl Keys {
    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Server(connection) => connection.update_tx_secret(),
            Self::Client(connection) => connection.update_tx_secret(),
        }
    }

    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Server(connection) => connection.update_rx_secret(),
            Self::Client(connection) => connection.update_rx_secret(),
        }
    }
}

/// What a record came to.
enum Came {
    /// Application data: so many bytes where the record was opened.
    Data(usize),
    /// Something between the two sessions.
    Nothing,
    /// `close_notify`.
    Goodbye,
}

/// One side of a TLS 1.3 connection after the handshake.
pub(super) struct Traffic {
    opener: Opener,
    sealer: Sealer,
    keys: Keys,
    is_resumed: bool,
    /// Nothing is sent behind our `close_notify`.
    said_goodbye: bool,
    /// The front of a handshake message that goes on in the next record.
    message: Vec<u8>,
    /// The peer wants us to use new keys before our next application data (RFC 8446 §4.6.3).
    is_update_due: bool,
    /// Handshake messages since the last application data.
    messages: u8,
    /// Records without content since the last with one.
    empty_records: u8,
    warnings: u8,
}

impl Traffic {
    /// # Errors
    /// When the cipher suite is none of TLS 1.3's.
    pub(super) fn new(secrets: ExtractedSecrets, keys: Keys, is_resumed: bool) -> Result<Self, TlsError> {
        Ok(Self {
            opener: Opener::new(secrets.rx)?,
            sealer: Sealer::new(secrets.tx)?,
            keys,
            is_resumed,
            said_goodbye: false,
            message: Vec::new(),
            is_update_due: false,
            messages: 0,
            empty_records: 0,
            warnings: 0,
        })
    }

    /// Whether the handshake resumed an earlier session.
    pub(super) const fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Works on the record at the front of `incoming`. Says how many bytes are done with and what came of it; what is
    /// refused leaves an alert in the sink.
    pub(super) fn open(&mut self, incoming: &mut [u8], mut sink: Sink<'_>) -> (usize, Result<Step, TlsError>) {
        let len = match record::whole(incoming) {
            Ok(Some(len)) => len,
            Ok(None) => return (0, Ok(Step::Blocked)),
            Err(refused) => return (0, Err(self.refuse(refused, sink.outgoing))),
        };
        let opened = self.open_record(&mut incoming[..len], &mut sink);
        (len, opened.map_err(|refused| self.refuse(refused, sink.outgoing)))
    }

    fn open_record(&mut self, record: &mut [u8], sink: &mut Sink<'_>) -> Result<Step, Refused> {
        let inner = record.len().saturating_sub(RECORD_HEAD_BYTES + RECORD_TAIL_BYTES - 1);
        let is_direct = inner <= sink.plain.len();
        let came = if is_direct {
            let content = self.opener.open_into(record, sink.plain)?;
            self.take(content, &sink.plain[..content.len])?
        } else {
            let content = self.opener.open(record)?;
            self.take(content, &record[RECORD_HEAD_BYTES..][..content.len])?
        };
        Ok(match came {
            Came::Data(len) if is_direct => Step::Plain(len),
            Came::Data(len) => {
                let n = len.min(sink.plain.len());
                let (fits, rest) = record[RECORD_HEAD_BYTES..][..len].split_at(n);
                sink.plain[..n].copy_from_slice(fits);
                sink.leftover.extend_from_slice(rest);
                Step::Plain(n)
            }
            Came::Nothing => Step::Again,
            Came::Goodbye => Step::PeerClosed,
        })
    }

    /// Opens the whole `record` in place. True if it then is a slot: unpadded application data between head and tail.
    /// Padded data goes to the sink; what is refused leaves an alert there.
    pub(super) fn open_slot(&mut self, record: &mut [u8], sink: Sink<'_>) -> Result<(bool, Step), TlsError> {
        let opened = self.opener.open(record).and_then(|content| {
            let payload = &record[RECORD_HEAD_BYTES..][..content.len];
            Ok(match self.take(content, payload)? {
                Came::Data(len) if len + RECORD_HEAD_BYTES + RECORD_TAIL_BYTES == record.len() => {
                    (true, Step::Plain(len))
                }
                Came::Data(_) => {
                    sink.leftover.extend_from_slice(payload);
                    (false, Step::Plain(0))
                }
                Came::Nothing => (false, Step::Again),
                Came::Goodbye => (false, Step::PeerClosed),
            })
        });
        opened.map_err(|refused| self.refuse(refused, sink.outgoing))
    }

    /// Judges what a record holds and does what it asks for.
    fn take(&mut self, content: Content, bytes: &[u8]) -> Result<Came, Refused> {
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
                self.take_messages(bytes)?;
                return Ok(Came::Nothing);
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
            (self.empty_records, self.messages) = (0, 0);
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
    fn take_messages(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut messages = mem::take(&mut self.message);
        messages.extend_from_slice(bytes);
        let mut done = 0;
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
            } else {
                self.take_ticket(body)?;
            }
        }
        // An idle session keeps no memory for messages.
        if done < messages.len() {
            messages.drain(..done);
            self.message = messages;
        }
        Ok(())
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
        if self.messages == limits::TLS_MESSAGES_MAX {
            return Err(unexpected(PeerMisbehaved::TooManyKeyUpdateRequests));
        }
        self.messages += 1;
        Ok(())
    }

    /// The peer seals with new keys from its next record on (RFC 8446 §4.6.3).
    fn take_key_update(&mut self, body: &[u8]) -> Result<(), Refused> {
        let is_requested = match body {
            [0] => false,
            [1] => true,
            _ => return Err(Refused::new(AlertDescription::IllegalParameter, InvalidMessage::InvalidKeyUpdate)),
        };
        let next = self.keys.next_to_receive().map_err(internal)?;
        let opener = Opener::new(next);
        self.opener = opener.map_err(|error| Refused { error, alert: Some(AlertDescription::InternalError) })?;
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

    /// The error of what is refused, with the alert about it appended to `outgoing`.
    pub(super) fn refuse(&mut self, refused: Refused, outgoing: &mut Vec<u8>) -> TlsError {
        if let Some(alert) = refused.alert.filter(|_| !self.said_goodbye) {
            // Without keys there is no way to tell the peer.
            let _ = self.sealer.append(ContentType::Alert, &[FATAL, alert.into()], outgoing);
        }
        refused.error
    }

    /// Makes the sending key fit for so many records: appends a key update to `outgoing` if one is due (RFC 8446 §4.6.3,
    /// §5.5).
    ///
    /// # Errors
    /// When there is no next key; nothing may be sealed then.
    pub(super) fn prepare(&mut self, records: usize, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        // The update itself takes a number, too.
        if self.is_update_due || !self.sealer.can_seal(records.saturating_add(1)) {
            self.sealer.append(ContentType::Handshake, &KEY_UPDATE, outgoing)?;
            self.sealer = Sealer::new(self.keys.next_to_send()?)?;
            self.is_update_due = false;
        }
        Ok(())
    }

    /// Seals all of `plain` into records at the front of `sealed`, which has room for them, and says how long they are.
    pub(super) fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> Result<usize, TlsError> {
        let mut written = 0;
        for content in plain.chunks(RECORD_PLAIN_BYTES_MAX) {
            let len = RECORD_HEAD_BYTES + content.len() + RECORD_TAIL_BYTES;
            self.sealer.seal(ContentType::ApplicationData, content, &mut sealed[written..written + len])?;
            written += len;
        }
        Ok(written)
    }

    /// Seals a sequence of slots in place.
    ///
    /// # Errors
    /// `Internal` when it is no such sequence.
    pub(super) fn seal_slots(&mut self, slots: &mut [u8], before: &mut Vec<u8>) -> Result<(), TlsError> {
        let mut count = 0;
        let mut rest = &slots[..];
        while !rest.is_empty() {
            rest = slot_len(rest).and_then(|len| rest.get(len..)).ok_or_else(no_slots)?;
            count += 1;
        }
        self.prepare(count, before)?;
        let mut rest = slots;
        while let Some(len) = slot_len(rest) {
            let (slot, behind) = rest.split_at_mut(len);
            self.sealer.seal_in_place(ContentType::ApplicationData, slot)?;
            rest = behind;
        }
        Ok(())
    }

    /// Appends `close_notify` to `outgoing` (RFC 8446 §6.1).
    pub(super) fn close_notify(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.said_goodbye = true;
        self.sealer.append(ContentType::Alert, &[WARNING, AlertDescription::CloseNotify.into()], outgoing)
    }
}

/// Length of the slot at the front of `slots`.
fn slot_len(slots: &[u8]) -> Option<usize> {
    let &[_, _, _, high, low] = slots.first_chunk::<RECORD_HEAD_BYTES>()?;
    let len = RECORD_HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let payload = len.checked_sub(RECORD_HEAD_BYTES + RECORD_TAIL_BYTES)?;
    ((1..=RECORD_PLAIN_BYTES_MAX).contains(&payload) && len <= slots.len()).then_some(len)
}

fn no_slots() -> TlsError {
    TlsError::Internal(Error::General("no sequence of whole slots".to_owned()))
}

fn unexpected(error: impl Into<Error>) -> Refused {
    Refused::new(AlertDescription::UnexpectedMessage, error)
}

fn internal(error: Error) -> Refused {
    Refused::new(AlertDescription::InternalError, error)
}

#[cfg(test)]
impl Traffic {
    /// The numbers of the next records sent and received.
    pub(super) const fn sequences(&mut self) -> (&mut u64, &mut u64) {
        (self.sealer.sequence(), self.opener.sequence())
    }
}
