//! Leaving a session's records to the kernel. What stays here is what is not data: tickets, key updates, alerts.

use std::hint::black_box;

use rustls::crypto::cipher::Iv;
use rustls::{AlertDescription, ConnectionTrafficSecrets, ContentType, Error};

use super::{RECORD_PLAIN_BYTES_MAX, Session, Side, Sink, Step};
use crate::limits;
use crate::link::{Cipher, RecordKey};
use crate::tls::TlsError;
use crate::tls::messages::{Came, FATAL, KEY_UPDATE, Messages, WARNING};
use crate::tls::record::{Content, RECORD_HEAD_BYTES, Refused};
use crate::tls::traffic::Spare;

/// Bytes that may go out under one key before it is replaced.
const KEY_BYTES_MAX: u64 = limits::TLS_KEY_RECORDS_MAX * RECORD_PLAIN_BYTES_MAX as u64;

/// Content type and content of a record that is no application data.
pub type Control = (u8, &'static [u8]);

/// What ended the session, and the alert that the peer is to be sent about it.
pub type Refusal = (TlsError, Option<[u8; 2]>);

/// One direction's key and the number of its next record. Wiped when dropped.
pub struct TrafficKey(pub(in crate::tls) (u64, ConnectionTrafficSecrets));

impl TrafficKey {
    /// The key in the form a link takes it; `None` when it is of no kind known here.
    #[must_use]
    pub fn record_key(&self) -> Option<RecordKey<'_>> {
        let (sequence, secrets) = &self.0;
        let (cipher, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::Chacha20Poly1305, key, iv),
            _ => return None,
        };
        Some(RecordKey { cipher, key: key.as_ref(), iv: iv.as_ref().try_into().ok()?, sequence: *sequence })
    }
}

impl Drop for TrafficKey {
    fn drop(&mut self) {
        use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        // The key wipes itself.
        if let Aes128Gcm { iv, .. } | Aes256Gcm { iv, .. } | Chacha20Poly1305 { iv, .. } = &mut self.0.1 {
            *iv = Iv::default();
            // Or the compiler would know that nobody looks.
            black_box(iv);
        }
    }
}

/// The keys of both directions. They stay in the box they were kept in: what is moved leaves a copy behind.
pub struct Keys(Box<Spare>);

impl Keys {
    /// What goes out.
    #[must_use]
    pub fn send(&self) -> &TrafficKey {
        &self.0.send
    }

    /// What comes in.
    #[must_use]
    pub fn receive(&self) -> &TrafficKey {
        &self.0.receive
    }
}

/// What is left of a session whose records the kernel protects.
pub(super) struct Left {
    messages: Messages,
    is_resumed: bool,
    rekeys: bool,
    /// Bytes sent under the present key.
    sent_bytes: u64,
}

impl Left {
    pub(super) const fn is_resumed(&self) -> bool {
        self.is_resumed
    }
}

impl Session {
    /// Has the session keep its first keys for [`take_keys`](Self::take_keys). To be called before the handshake.
    pub fn keep_keys(&mut self) {
        self.keeps_keys = true;
    }

    /// Opens every whole record of `incoming` and keeps what data is in them for [`open`](Self::open). Returns the bytes
    /// done with, and how many more are needed to make the next record whole: 0 when nothing is left of it, or when there
    /// is something to tell first.
    pub fn open_all(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, usize) {
        let mut consumed = 0;
        while self.failed.is_none() && !self.peer_closed {
            let Side::Own(traffic) = &mut self.side else { break };
            let rest = &mut incoming[consumed..];
            let sink = Sink { plain: &mut [], leftover: &mut self.leftover, outgoing };
            let (bytes, step) = traffic.open(rest, sink);
            consumed += bytes;
            match step {
                Ok(Step::Blocked) => return (consumed, missing(&incoming[consumed..])),
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(_) => {}
                Err(error) => drop(self.fail(error)),
            }
        }
        (consumed, 0)
    }

    /// The keys of both directions with the numbers of the next records, once, for whoever is to protect the records from
    /// now on. `None` when they were not kept, are not ours, or have been replaced since the handshake.
    pub fn take_keys(&mut self) -> Option<Keys> {
        let Side::Own(traffic) = &mut self.side else { return None };
        let keys = Keys(traffic.take_keys()?);
        if self.failed.is_some() || self.said_goodbye || self.peer_closed || !self.pending.is_empty() {
            return None;
        }
        Some(keys)
    }

    /// The kernel has [taken](Self::take_keys) the records over. `rekeys`: it can change keys.
    pub fn leave_to_kernel(&mut self, rekeys: bool) {
        self.side = match std::mem::replace(&mut self.side, Side::Nobody) {
            Side::Own(traffic) => {
                let is_resumed = traffic.is_resumed();
                Side::Kernel(Box::new(Left { messages: traffic.into_messages(), is_resumed, rekeys, sent_bytes: 0 }))
            }
            side => side,
        };
    }

    /// Deals with what a record that the kernel opened holds. `Some`: the kernel is to open what follows with that key.
    ///
    /// # Errors
    /// What ended the session.
    pub fn take_control(&mut self, kind: u8, bytes: &[u8]) -> Result<Option<TrafficKey>, Refusal> {
        let Side::Kernel(left) = &mut self.side else { return Err((TlsError::Spent, None)) };
        let content = Content { kind: ContentType::from(kind), len: bytes.len() };
        let taken = left.messages.take(content, bytes).and_then(|came| match came {
            Came::NewKey if !left.rekeys => {
                Err(Refused { error: TlsError::KernelKeys, alert: Some(AlertDescription::InternalError) })
            }
            Came::NewKey => left.messages.next_to_receive().map(|next| Some(TrafficKey(next))),
            Came::Goodbye => {
                self.peer_closed = true;
                Ok(None)
            }
            Came::Nothing => Ok(None),
            // Data is read, not looked at.
            Came::Data(_) => Err(Refused { error: out_of_place(), alert: Some(AlertDescription::InternalError) }),
        });
        taken.map_err(|refused| self.refuse(refused))
    }

    fn refuse(&mut self, refused: Refused) -> Refusal {
        let alert = refused.alert.filter(|_| !self.said_goodbye).map(|alert| [FATAL, alert.into()]);
        (self.fail(refused.error), alert)
    }

    /// Notes that the kernel gave out so many bytes of data.
    ///
    /// # Errors
    /// When there may be no data now, or what ended the session before.
    pub fn took_data(&mut self, len: usize) -> Result<(), Refusal> {
        let Side::Kernel(left) = &mut self.side else { return Ok(()) };
        let taken = left.messages.take(Content { kind: ContentType::ApplicationData, len }, &[]);
        taken.map(drop).map_err(|refused| self.refuse(refused))
    }

    /// To be asked before `bytes` of data are sent through the kernel, which are counted. `Some`: the record to send before
    /// them, and the key that the kernel is to use behind it.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn before_sending(&mut self, bytes: usize) -> Result<Option<(Control, TrafficKey)>, TlsError> {
        self.check_can_seal()?;
        self.sent_data(bytes);
        let Side::Kernel(left) = &mut self.side else { return Err(TlsError::Spent) };
        if left.messages.is_update_due || (left.rekeys && left.sent_bytes > KEY_BYTES_MAX) {
            left.messages.is_update_due = false;
            left.sent_bytes = bytes as u64;
            let next = left.messages.next_to_send().map_err(|error| self.fail(error.into()))?;
            return Ok(Some(((ContentType::Handshake.into(), &KEY_UPDATE), TrafficKey(next))));
        }
        // Twice that is still within what RFC 8446 §5.5 allows.
        if left.sent_bytes > 2 * KEY_BYTES_MAX {
            return Err(self.fail(TlsError::Spent));
        }
        Ok(None)
    }

    /// Whether the kernel's sending key has done its work and cannot be replaced: nothing more should be begun.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        matches!(&self.side, Side::Kernel(left) if !left.rekeys && left.sent_bytes > KEY_BYTES_MAX)
    }

    /// Counts bytes of data that were sent through the kernel.
    pub fn sent_data(&mut self, bytes: usize) {
        if let Side::Kernel(left) = &mut self.side {
            left.sent_bytes = left.sent_bytes.saturating_add(bytes as u64);
        }
    }

    /// As [`close_notify`](Self::close_notify) where the kernel protects the records: what it is to send, if anything.
    pub fn goodbye(&mut self) -> Option<Control> {
        if self.failed.is_some() || std::mem::replace(&mut self.said_goodbye, true) {
            return None;
        }
        const CLOSE_NOTIFY: [u8; 2] = [WARNING, 0];
        Some((ContentType::Alert.into(), &CLOSE_NOTIFY))
    }

    /// Ends the session because the kernel failed. The error that was there first stays.
    pub fn give_up(&mut self, error: TlsError) -> TlsError {
        match &self.failed {
            Some(failed) => failed.clone(),
            None => self.fail(error),
        }
    }
}

/// Bytes missing to a whole record at the front of `incoming`.
fn missing(incoming: &[u8]) -> usize {
    match incoming {
        [] => 0,
        &[_, _, _, high, low, ref sealed @ ..] => {
            usize::from(u16::from_be_bytes([high, low])).saturating_sub(sealed.len())
        }
        _ => RECORD_HEAD_BYTES - incoming.len(),
    }
}

fn out_of_place() -> TlsError {
    TlsError::Internal(Error::General("the kernel gave out data as something else".to_owned()))
}
