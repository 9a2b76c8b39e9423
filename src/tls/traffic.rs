//! A TLS 1.3 session behind its handshake: records in both directions, and the few messages that are left.
//!
//! rustls makes the handshake and keeps the secrets; which of them is used for which record is decided here.

use rustls::{AlertDescription, ContentType, Error, ExtractedSecrets};

use super::TlsError;
use super::messages::{Came, FATAL, KEY_UPDATE, Keys, Messages, WARNING};
use super::record::{self, Content, Opener, RECORD_HEAD_BYTES, RECORD_TAIL_BYTES, Refused, Sealer};
use super::session::{RECORD_PLAIN_BYTES_MAX, Sink, Step, TrafficKey};

/// One side of a TLS 1.3 connection after the handshake.
pub(super) struct Traffic {
    opener: Opener,
    sealer: Sealer,
    messages: Messages,
    is_resumed: bool,
    /// Nothing is sent behind our `close_notify`.
    said_goodbye: bool,
    /// The keys in use, for whoever may take over the records.
    spare: Option<Box<Spare>>,
}

/// The keys of both directions.
pub(super) struct Spare {
    pub(super) send: TrafficKey,
    pub(super) receive: TrafficKey,
}

impl Traffic {
    /// `keeps_keys`: they are kept in case somebody else is to protect the records.
    ///
    /// # Errors
    /// When the cipher suite is none of TLS 1.3's.
    pub(super) fn new(
        secrets: ExtractedSecrets,
        keys: Keys,
        is_resumed: bool,
        keeps_keys: bool,
    ) -> Result<Self, TlsError> {
        let spare = Box::new(Spare { send: TrafficKey(secrets.tx), receive: TrafficKey(secrets.rx) });
        Ok(Self {
            opener: Opener::new(&spare.receive.0)?,
            sealer: Sealer::new(&spare.send.0)?,
            messages: Messages::new(keys),
            is_resumed,
            said_goodbye: false,
            spare: keeps_keys.then_some(spare),
        })
    }

    /// The keys in use with the numbers of the next records, once, if they were kept and are the first ones, and the peer
    /// is not owed new ones.
    pub(super) fn take_keys(&mut self) -> Option<Box<Spare>> {
        let mut spare = self.spare.take()?;
        if self.messages.is_update_due || self.said_goodbye {
            return None;
        }
        (spare.send.0.0, spare.receive.0.0) = (self.sealer.next_number(), self.opener.next_number());
        Some(spare)
    }

    /// What the peer says is from now on for somebody else to open. The rest is dropped, and so wiped, where it is.
    #[expect(clippy::boxed_local, reason = "what is moved out of a box leaves a copy in it")]
    pub(super) fn into_messages(self: Box<Self>) -> Messages {
        self.messages
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
            Came::Nothing | Came::NewKey => Step::Again,
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
                Came::Nothing | Came::NewKey => (false, Step::Again),
                Came::Goodbye => (false, Step::PeerClosed),
            })
        });
        opened.map_err(|refused| self.refuse(refused, sink.outgoing))
    }

    /// Judges what a record holds and does what it asks for.
    fn take(&mut self, content: Content, bytes: &[u8]) -> Result<Came, Refused> {
        let came = self.messages.take(content, bytes)?;
        if let Came::NewKey = came {
            self.spare = None;
            let opener = Opener::new(&self.messages.next_to_receive()?);
            self.opener = opener.map_err(|error| Refused { error, alert: Some(AlertDescription::InternalError) })?;
        }
        Ok(came)
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
        if self.messages.is_update_due || !self.sealer.can_seal(records.saturating_add(1)) {
            self.sealer.append(ContentType::Handshake, &KEY_UPDATE, outgoing)?;
            self.spare = None;
            self.sealer = Sealer::new(&self.messages.next_to_send()?)?;
            self.messages.is_update_due = false;
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

#[cfg(test)]
impl Traffic {
    /// The numbers of the next records sent and received.
    pub(super) const fn sequences(&mut self) -> (&mut u64, &mut u64) {
        (self.sealer.sequence(), self.opener.sequence())
    }
}
