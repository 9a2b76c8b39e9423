//! Keys of signature version 4, and what is made with them.
//!
//! AWS: "Create a signed AWS API request", steps "Derive a signing key" and "Calculate the signature".

use std::fmt;

use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use crate::sign::time::Stamp;

/// A secret access key. Wiped when it is dropped; `Debug` shows nothing of it.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the secret over.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// Whether the two are the same, in a time that does not tell how far they agree.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a signing key is good for: a day, a region, a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The day, `20130524`.
    pub date: &'a [u8],
    /// The region, `us-east-1`.
    pub region: &'a [u8],
    /// The service, `s3`.
    pub service: &'a [u8],
}

/// The end of every scope.
pub const TERMINATOR: &[u8] = b"aws4_request";

impl<'a> Scope<'a> {
    /// The scope of what is signed for S3 at a time.
    #[must_use]
    pub fn of_s3(at: &'a Stamp, region: &'a [u8]) -> Self {
        Self { date: at.date(), region, service: b"s3" }
    }

    /// Writes `20130524/us-east-1/s3/aws4_request`.
    pub fn write(self, out: &mut Vec<u8>) {
        for part in [self.date, self.region, self.service] {
            out.extend_from_slice(part);
            out.push(b'/');
        }
        out.extend_from_slice(TERMINATOR);
    }
}

/// A key derived for one scope. It is worth keeping: deriving it takes four times the work of using it.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Derives the key for `scope`.
    #[must_use]
    pub fn derive(secret: &Secret, scope: Scope<'_>) -> Self {
        let first = Zeroizing::new([b"AWS4", secret.0.as_bytes()].concat());
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, &first);
        for part in [scope.date, scope.region, scope.service, TERMINATOR] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part).as_ref());
        }
        Self(key)
    }

    /// The signature of a string to sign.
    #[must_use]
    pub fn sign(&self, string_to_sign: &[u8]) -> Signature {
        let tag = hmac::sign(&self.0, string_to_sign);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Signature(bytes)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// A signature. Compared in constant time; `Debug` does not show it, for a signature is a capability.
#[derive(Clone, Copy)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Reads 64 hexadecimal digits, lower case as AWS writes them.
    #[must_use]
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        let hex: &[u8; 64] = hex.try_into().ok()?;
        // Without a branch for each digit.
        let (mut digits, mut are_digits) = ([0; 64], true);
        for (digit, byte) in digits.iter_mut().zip(hex) {
            let (number, letter) = (byte.wrapping_sub(b'0'), byte.wrapping_sub(b'a'));
            *digit = if number < 10 { number } else { letter.wrapping_add(10) };
            are_digits &= number < 10 || letter < 6;
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = high << 4 | low;
        }
        are_digits.then_some(Self(bytes))
    }

    /// Writes 64 hexadecimal digits.
    pub fn write_hex(&self, out: &mut Vec<u8>) {
        write_hex(&self.0, out);
    }

    /// Its 32 bytes.
    #[must_use]
    pub(crate) fn into_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Whether the two are the same, in a time that does not tell how far they agree.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// Writes the SHA-256 of `bytes` in hexadecimal digits.
pub fn write_sha256(bytes: &[u8], out: &mut Vec<u8>) {
    write_hex(digest::digest(&digest::SHA256, bytes).as_ref(), out);
}

/// SHA-256 of nothing.
pub const EMPTY_SHA256: &[u8] = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Writes `bytes` in hexadecimal digits.
pub(crate) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for bytes in bytes.chunks(32) {
        let mut hex = [0; 64];
        for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [byte >> 4, byte & 15];
        }
        // Without a table, so that many are written together.
        let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
        out.extend_from_slice(&hex.map(digit)[..2 * bytes.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_read_and_written_in_lower_case_digits_only() {
        let hex: String = (0..32_u8).map(|byte| format!("{:02x}", byte.wrapping_mul(37))).collect();
        let signature = Signature::from_hex(hex.as_bytes()).unwrap();
        let mut out = Vec::new();
        signature.write_hex(&mut out);
        assert_eq!(out, hex.as_bytes());
        for wrong in [&hex[1..], &hex[2..], &format!("{hex}0"), &format!("{hex}00"), &hex.to_uppercase(), ""] {
            assert!(Signature::from_hex(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let secret = Secret::new("wJalr".into());
        let scope = Scope { date: b"20130524", region: b"us-east-1", service: b"s3" };
        let key = SigningKey::derive(&secret, scope);
        assert_eq!(format!("{secret:?} {key:?} {:?}", key.sign(b"")), "Secret(..) SigningKey(..) Signature(..)");
    }
}
