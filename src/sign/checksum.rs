//! Checksums of payloads: what a client says they are, and what they are.
//!
//! AWS: "Checking object integrity for data uploads in Amazon S3".

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;

/// The checksums that are verified here. S3 knows others; those it verifies alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// CRC-32 of Ethernet and ZIP.
    Crc32,
    /// CRC-32 of iSCSI (Castagnoli).
    Crc32C,
    /// CRC-64 of NVM Express.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32C, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// The algorithm whose value the field or trailer `name` carries.
    #[must_use]
    pub fn of_field(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| name.eq_ignore_ascii_case(algorithm.field().as_bytes()))
    }

    /// The field or trailer that carries a value of it.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32C => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The name S3 gives it, `CRC32`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32C => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Bytes of a value of it.
    #[must_use]
    pub fn value_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32C => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Reads a value as it is written in a field or trailer: base64.
    ///
    /// # Errors
    /// When it is no value of this algorithm.
    pub fn read(self, text: &[u8]) -> Result<Value, Invalid> {
        let mut value = Value::default();
        let room = STANDARD.decode_slice(text, &mut value.bytes).map_err(|_| Invalid)?;
        value.len = room;
        if room == self.value_bytes() { Ok(value) } else { Err(Invalid) }
    }
}

/// A value of some algorithm.
#[derive(Clone, Copy, Default)]
pub struct Value {
    bytes: [u8; 32],
    len: usize,
}

impl Value {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl From<[u8; 32]> for Value {
    fn from(bytes: [u8; 32]) -> Self {
        Self { bytes, len: bytes.len() }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.bytes()))
    }
}

/// What stands in a checksum field is no such checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// A checksum that a payload should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Which checksum.
    pub algorithm: Algorithm,
    /// What it should be.
    pub value: Value,
}

impl Expected {
    /// Reads the field `name: value`; `None` when it is no checksum that is verified here.
    ///
    /// Where a request is about the checksum of an object and not of its own body (`CompleteMultipartUpload`), these fields
    /// say something else and must not be read.
    ///
    /// # Errors
    /// When it names a checksum and carries none.
    pub fn of_field(name: &[u8], value: &[u8]) -> Result<Option<Self>, Invalid> {
        let Some(algorithm) = Algorithm::of_field(name) else { return Ok(None) };
        algorithm.read(value).map(|value| Some(Self { algorithm, value }))
    }
}

/// A checksum being computed.
#[derive(Clone)]
pub struct Running(Sum);

#[derive(Clone)]
enum Sum {
    Crc(Box<crc_fast::Digest>, usize),
    Sha(digest::Context),
}

impl Running {
    /// The checksum of nothing yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let crc = |kind| Sum::Crc(Box::new(crc_fast::Digest::new(kind)), algorithm.value_bytes());
        Self(match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32C => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => Sum::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Algorithm::Sha256 => Sum::Sha(digest::Context::new(&digest::SHA256)),
        })
    }

    /// Goes on over `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Sum::Crc(crc, _) => crc.update(bytes),
            Sum::Sha(sha) => sha.update(bytes),
        }
    }

    /// The checksum of everything so far.
    #[must_use]
    pub fn finish(self) -> Value {
        let mut value = Value::default();
        let mut take = |bytes: &[u8]| {
            value.len = bytes.len();
            value.bytes[..bytes.len()].copy_from_slice(bytes);
        };
        match self.0 {
            Sum::Crc(crc, len) => take(&crc.finalize().to_be_bytes()[8 - len..]),
            Sum::Sha(sha) => take(sha.finish().as_ref()),
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue of parametrised CRC algorithms, and the digests of FIPS 180 by `sha1sum`.
    const CHECKS: [(Algorithm, &str, &str); 5] = [
        (Algorithm::Crc32, "y/Q5Jg==", "AAAAAA=="),
        (Algorithm::Crc32C, "4waSgw==", "AAAAAA=="),
        (Algorithm::Crc64Nvme, "rosUhgp5mIg=", "AAAAAAAAAAA="),
        (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE=", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
        (
            Algorithm::Sha256,
            "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ),
    ];

    #[test]
    fn known_values_come_out() {
        for (algorithm, nine, nothing) in CHECKS {
            for (text, value) in [("123456789", nine), ("", nothing)] {
                let expected = Expected::of_field(algorithm.field().as_bytes(), value.as_bytes()).unwrap().unwrap();
                assert_eq!((expected.algorithm, format!("{:?}", expected.value)), (algorithm, value.to_owned()));
                for step in [1, 4, 9] {
                    let mut running = Running::new(algorithm);
                    text.as_bytes().chunks(step).for_each(|piece| running.update(piece));
                    assert_eq!(running.finish(), expected.value, "{algorithm:?} of {text:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (algorithm, value, _) in CHECKS {
            let wrongs = [
                String::new(),
                value[1..].to_owned(),
                value.trim_end_matches('=').to_owned(),
                format!("{value}="),
                format!("{value}-3"),
                format!(" {value}"),
                format!("{value}AAAA"),
                format!("AAAA{value}"),
                value.replacen(|_| true, "*", 1),
                "A".repeat(100_000),
            ];
            for wrong in wrongs {
                assert_eq!(algorithm.read(wrong.as_bytes()), Err(Invalid), "{algorithm:?} {wrong:.60}");
            }
        }
        // Bits behind the value that nobody looks at.
        assert_eq!(Algorithm::Crc32.read(b"y/Q5Jh=="), Err(Invalid));
    }

    #[test]
    fn other_fields_are_no_expectation() {
        for name in ["x-amz-checksum-algorithm", "x-amz-checksum-crc", "x-amz-checksum-crc32cc", "content-md5", ""] {
            assert_eq!(Expected::of_field(name.as_bytes(), b"CRC32"), Ok(None), "{name}");
        }
        assert!(Expected::of_field(b"X-Amz-Checksum-CRC32", b"y/Q5Jg==").unwrap().is_some());
    }
}
