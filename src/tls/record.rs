//! Protection of TLS 1.3 records (RFC 8446 §5), one direction of a session at a time.
//!
//! What fails to verify leaves nothing behind: the AEAD blanks its output and reports no plaintext.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::{AlertDescription, ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved};
use zeroize::Zeroizing;

use super::TlsError;
use crate::limits;

/// Bytes of a TLS 1.3 record in front of its payload: the header (RFC 8446 §5.2).
pub const RECORD_HEAD_BYTES: usize = 5;

/// Bytes of an unpadded TLS 1.3 record behind its payload: the inner content type and the tag (RFC 8446 §5.2).
pub const RECORD_TAIL_BYTES: usize = 1 + TAG_BYTES;

/// Bytes of the tag of every AEAD of TLS 1.3 (RFC 8446 §B.4, RFC 5116 §5).
const TAG_BYTES: usize = 16;

/// Content bytes of one record (RFC 8446 §5.1).
const CONTENT_BYTES_MAX: usize = 1 << 14;

/// Bytes that a header may announce (RFC 8446 §5.2).
const SEALED_BYTES_MAX: usize = CONTENT_BYTES_MAX + 256;

/// What every protected record says it is (RFC 8446 §5.2).
const OUTER_KIND: u8 = 23;

/// Why something received ends the session, and what the peer is told about it (RFC 8446 §6.2).
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) error: TlsError,
    pub(super) alert: Option<AlertDescription>,
}

impl Refused {
    pub(super) fn new(alert: AlertDescription, error: impl Into<Error>) -> Self {
        Self { error: error.into().into(), alert: Some(alert) }
    }

    /// A record or message of a kind that has no place here.
    pub(super) fn kind(got_type: ContentType) -> Self {
        let expect_types = vec![ContentType::ApplicationData, ContentType::Handshake, ContentType::Alert];
        Self::new(AlertDescription::UnexpectedMessage, Error::InappropriateMessage { expect_types, got_type })
    }
}

/// Length of the record at the front of `bytes` once all of it is there.
///
/// # Errors
/// As soon as the header is there: a record that is not protected, or announces more than RFC 8446 §5.2 allows. That
/// includes `change_cipher_spec`, which has no place behind the handshake (RFC 8446 §5).
pub(super) fn whole(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    let Some(&[kind, _, _, high, low]) = bytes.first_chunk::<RECORD_HEAD_BYTES>() else { return Ok(None) };
    if kind != OUTER_KIND {
        return Err(Refused::kind(ContentType::from(kind)));
    }
    let sealed = usize::from(u16::from_be_bytes([high, low]));
    if sealed > SEALED_BYTES_MAX {
        return Err(Refused::new(AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord));
    }
    let len = RECORD_HEAD_BYTES + sealed;
    Ok((bytes.len() >= len).then_some(len))
}

/// What an opened record holds: `len` bytes of `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: ContentType,
    pub(super) len: usize,
}

/// The receiving direction under one key.
pub(super) struct Opener(Key);

impl Opener {
    /// # Errors
    /// When the secrets are of no kind known here.
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, TlsError> {
        Key::new(secrets).map(Self)
    }

    /// Opens the whole `record` in place: its content is then behind the first [`RECORD_HEAD_BYTES`].
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Content, Refused> {
        let Some((head, inner, tag)) = parts(record) else { return Err(undecipherable()) };
        let nonce = self.0.next_nonce().ok_or_else(undecipherable)?;
        let opened = self.0.aead.open_in_place_separate_tag(nonce, Aad::from(&*head), tag, inner);
        content(opened.map_err(|_| undecipherable())?)
    }

    /// Opens the whole `record` into `plain`, which must have room for all of the record but its header and tag.
    pub(super) fn open_into(&mut self, record: &mut [u8], plain: &mut [u8]) -> Result<Content, Refused> {
        let Some((head, inner, tag)) = parts(record) else { return Err(undecipherable()) };
        let nonce = self.0.next_nonce().ok_or_else(undecipherable)?;
        let plain = &mut plain[..inner.len()];
        let opened = self.0.aead.open_separate_gather(nonce, Aad::from(&*head), inner, tag, plain);
        opened.map_err(|_| undecipherable())?;
        content(plain)
    }
}

/// The header, what is encrypted, and the tag.
fn parts(record: &mut [u8]) -> Option<(&mut [u8], &mut [u8], &mut [u8])> {
    let (head, sealed) = record.split_at_mut_checked(RECORD_HEAD_BYTES)?;
    let (inner, tag) = sealed.split_at_mut_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
    Some((head, inner, tag))
}

/// "If the decryption fails, the receiver MUST terminate the connection with a "bad_record_mac" alert" (RFC 8446 §5.2).
fn undecipherable() -> Refused {
    Refused::new(AlertDescription::BadRecordMac, Error::DecryptError)
}

/// Finds the content type behind the content and in front of the padding (RFC 8446 §5.4).
fn content(inner: &[u8]) -> Result<Content, Refused> {
    if inner.len() > CONTENT_BYTES_MAX + 1 {
        return Err(Refused::new(AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord));
    }
    let Some(len) = inner.iter().rposition(|byte| *byte != 0) else {
        return Err(Refused::new(AlertDescription::UnexpectedMessage, PeerMisbehaved::IllegalTlsInnerPlaintext));
    };
    Ok(Content { kind: ContentType::from(inner[len]), len })
}

/// The sending direction under one key.
pub(super) struct Sealer(Key);

impl Sealer {
    /// # Errors
    /// When the secrets are of no kind known here.
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, TlsError> {
        Key::new(secrets).map(Self)
    }

    /// Whether the key may protect so many records more before it has to be replaced (RFC 8446 §5.5).
    pub(super) fn can_seal(&self, records: usize) -> bool {
        self.0.sequence.saturating_add(records as u64) <= limits::TLS_KEY_RECORDS_MAX
    }

    /// Makes a record of `content`, which is as long as `record` but for head and tail.
    pub(super) fn seal(&mut self, kind: ContentType, content: &[u8], record: &mut [u8]) -> Result<(), TlsError> {
        let head = header(record);
        let nonce = self.0.next_nonce().ok_or(TlsError::Spent)?;
        let (front, tail) = record.split_at_mut(record.len() - RECORD_TAIL_BYTES);
        front[..RECORD_HEAD_BYTES].copy_from_slice(&head);
        let inner = &mut front[RECORD_HEAD_BYTES..];
        let sealed =
            self.0.aead.seal_out_of_place_scatter(nonce, Aad::from(head), content, inner, &[kind.into()], tail);
        sealed.map_err(|_| TlsError::Internal(Error::EncryptError))
    }

    /// Makes a record of a slot whose payload stands between head and tail already.
    pub(super) fn seal_in_place(&mut self, kind: ContentType, slot: &mut [u8]) -> Result<(), TlsError> {
        let head = header(slot);
        let nonce = self.0.next_nonce().ok_or(TlsError::Spent)?;
        slot[..RECORD_HEAD_BYTES].copy_from_slice(&head);
        let (front, tag) = slot.split_at_mut(slot.len() - TAG_BYTES);
        let inner = &mut front[RECORD_HEAD_BYTES..];
        if let Some(last) = inner.last_mut() {
            *last = kind.into();
        }
        let sealed = self.0.aead.seal_in_place_separate_tag(nonce, Aad::from(head), inner);
        tag.copy_from_slice(sealed.map_err(|_| TlsError::Internal(Error::EncryptError))?.as_ref());
        Ok(())
    }

    /// Appends a record of `content` to `out`.
    pub(super) fn append(&mut self, kind: ContentType, content: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let at = out.len();
        out.resize(at + RECORD_HEAD_BYTES + content.len() + RECORD_TAIL_BYTES, 0);
        let sealed = self.seal(kind, content, &mut out[at..]);
        if sealed.is_err() {
            out.truncate(at);
        }
        sealed
    }
}

/// The header of a record that is so long in all, which is its additional data as well (RFC 8446 §5.2).
fn header(record: &[u8]) -> [u8; RECORD_HEAD_BYTES] {
    let [.., high, low] = (record.len() - RECORD_HEAD_BYTES).to_be_bytes();
    [OUTER_KIND, 3, 3, high, low]
}

/// A traffic key and the number of its next record. The library cleanses its copy of the key.
struct Key {
    aead: LessSafeKey,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    sequence: u64,
}

impl Key {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, TlsError> {
        let unusable = || TlsError::Internal(Error::General("traffic secrets of an unknown kind".to_owned()));
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => return Err(unusable()),
        };
        let aead = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable())?);
        let iv = Zeroizing::new(<[u8; NONCE_LEN]>::try_from(iv.as_ref()).map_err(|_| unusable())?);
        Ok(Self { aead, iv, sequence })
    }

    /// The initialisation vector XOR the record's number (RFC 8446 §5.3). Numbers never wrap and none is given twice.
    fn next_nonce(&mut self) -> Option<Nonce> {
        let following = self.sequence.checked_add(1)?;
        let mut nonce = *self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = following;
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

#[cfg(test)]
impl Sealer {
    /// The next record's number.
    pub(super) const fn sequence(&mut self) -> &mut u64 {
        &mut self.0.sequence
    }
}

#[cfg(test)]
impl Opener {
    /// The next record's number.
    pub(super) const fn sequence(&mut self) -> &mut u64 {
        &mut self.0.sequence
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::cipher::{AeadKey, Iv};

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter_map(|c| char::from(c).to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn pair(sequence: u64) -> (Sealer, Opener) {
        let secrets = || {
            let (key, iv) = (AeadKey::from([0x5a; 32]), Iv::from([0x17; NONCE_LEN]));
            (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv })
        };
        (Sealer::new(secrets()).unwrap(), Opener::new(secrets()).unwrap())
    }

    #[test]
    fn the_three_ways_to_seal_and_the_two_to_open_agree() {
        for len in [1, 15, 16, 17, 5000, CONTENT_BYTES_MAX] {
            let content: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut sealed = vec![0; RECORD_HEAD_BYTES + len + RECORD_TAIL_BYTES];
            pair(7).0.seal(ContentType::Handshake, &content, &mut sealed).unwrap();
            let mut appended = b"front".to_vec();
            pair(7).0.append(ContentType::Handshake, &content, &mut appended).unwrap();
            let mut slot = [&[9; RECORD_HEAD_BYTES], &content[..], &[9; RECORD_TAIL_BYTES]].concat();
            pair(7).0.seal_in_place(ContentType::Handshake, &mut slot).unwrap();
            assert!(sealed == appended[5..] && sealed == slot);
            assert_eq!(whole(&sealed), Ok(Some(sealed.len())));
            assert_eq!(whole(&sealed[..sealed.len() - 1]), Ok(None));

            let mut plain = vec![0; len + 10];
            let expected = Content { kind: ContentType::Handshake, len };
            assert_eq!(pair(7).1.open_into(&mut sealed.clone(), &mut plain), Ok(expected));
            assert!(plain[..len] == content && plain[len..] == [22, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(pair(7).1.open(&mut slot), Ok(expected));
            assert!(slot[RECORD_HEAD_BYTES..][..len] == content);
            // With another number it is another record, and nothing of it is left.
            plain.fill(1);
            assert_eq!(pair(8).1.open_into(&mut sealed.clone(), &mut plain), Err(undecipherable()));
            assert!(plain[..len].iter().all(|byte| *byte == 0));
            assert_eq!(pair(8).1.open(&mut sealed), Err(undecipherable()));
            assert!(sealed[RECORD_HEAD_BYTES..][..len].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn numbers_never_wrap() {
        let (mut sealer, mut opener) = pair(u64::MAX - 1);
        let mut record = Vec::new();
        sealer.append(ContentType::ApplicationData, b"last", &mut record).unwrap();
        assert!(opener.open(&mut record).is_ok());
        assert!(!sealer.can_seal(1));
        let mut more = Vec::new();
        assert_eq!(sealer.append(ContentType::ApplicationData, b"one more", &mut more), Err(TlsError::Spent));
        assert!(more.is_empty());
        assert_eq!(sealer.seal_in_place(ContentType::ApplicationData, &mut [0; 30]), Err(TlsError::Spent));
        assert_eq!(opener.open(&mut [0; 30]), Err(undecipherable()));
    }

    #[test]
    fn a_key_has_an_end() {
        let (mut sealer, _) = pair(0);
        let most = usize::try_from(limits::TLS_KEY_RECORDS_MAX).unwrap();
        assert!(sealer.can_seal(most) && !sealer.can_seal(most + 1) && !sealer.can_seal(usize::MAX));
        *sealer.sequence() = limits::TLS_KEY_RECORDS_MAX - 1;
        assert!(sealer.can_seal(1) && !sealer.can_seal(2));
    }

    /// The records of RFC 8448 §3 behind the handshake, under its traffic keys.
    #[test]
    fn the_records_of_rfc_8448_open_and_seal() {
        let client = ("17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9");
        let server = ("9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984");
        let data: Vec<u8> = (0..50).collect();
        let from_client = "17030300 43a23f70 54b62c94 d0affafe 8228ba55 cbefacea 42f914aa 66bcab3f 2b9819a8 a5b46b39 \
                           5bd54a9a 20441e2b 62974e1f 5a6292a2 977014bd 1e3deae6 3aeebb21 694915e4";
        let from_server = "17030300 432e937e 11ef4ac7 40e538ad 36005fc4 a46932fc 3225d05f 82aa1b36 e30efaf9 7d90e6df \
                           fc602dcb 501a59a8 fcc49c4b f2e5f0a2 1c0047c2 abf33254 0dd032e1 67c2955d";
        let client_alert = "17030300 13c98727 60655666 b74d7ff1 153efd6d b6d0b0e3";
        let server_alert = "17030300 13b58fd6 7166ebf5 99d24720 cfbe7efa 7a8864a9";
        for (keys, sequence, kind, content, record) in [
            (client, 0, ContentType::ApplicationData, &data[..], from_client),
            (server, 1, ContentType::ApplicationData, &data, from_server),
            (client, 1, ContentType::Alert, &[1, 0], client_alert),
            (server, 2, ContentType::Alert, &[1, 0], server_alert),
        ] {
            let key = || {
                let aead = LessSafeKey::new(UnboundKey::new(&aead::AES_128_GCM, &bytes(keys.0)).unwrap());
                Key { aead, iv: Zeroizing::new(bytes(keys.1).try_into().unwrap()), sequence }
            };
            let mut sealed = Vec::new();
            Sealer(key()).append(kind, content, &mut sealed).unwrap();
            assert_eq!(sealed, bytes(record));
            assert_eq!(Opener(key()).open(&mut sealed), Ok(Content { kind, len: content.len() }));
            assert_eq!(&sealed[RECORD_HEAD_BYTES..][..content.len()], content);
        }
    }
}
