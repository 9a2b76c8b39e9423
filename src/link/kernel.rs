//! What passes between a TLS session and a kernel that protects its records (kernel TLS, TLS 1.3 only).

use std::error::Error;
use std::fmt;
use std::io;

/// What a kernel's TLS can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelTls {
    /// Takes `TLS_AES_128_GCM_SHA256`.
    pub aes_128_gcm: bool,
    /// Takes `TLS_AES_256_GCM_SHA384`.
    pub aes_256_gcm: bool,
    /// Takes `TLS_CHACHA20_POLY1305_SHA256`.
    pub chacha20_poly1305: bool,
    /// Changes keys on a connection that has some (Linux 6.14).
    pub rekeys: bool,
}

impl KernelTls {
    /// Whether it takes keys of this kind.
    #[must_use]
    pub const fn takes(self, cipher: Cipher) -> bool {
        match cipher {
            Cipher::Aes128Gcm => self.aes_128_gcm,
            Cipher::Aes256Gcm => self.aes_256_gcm,
            Cipher::Chacha20Poly1305 => self.chacha20_poly1305,
        }
    }
}

impl fmt::Display for KernelTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ciphers = [
            (self.aes_128_gcm, "AES-128-GCM"),
            (self.aes_256_gcm, "AES-256-GCM"),
            (self.chacha20_poly1305, "ChaCha20-Poly1305"),
        ];
        let taken: Vec<_> = ciphers.into_iter().filter_map(|(is_taken, name)| is_taken.then_some(name)).collect();
        f.write_str(&taken.join(", "))?;
        if self.rekeys { f.write_str(", key updates") } else { Ok(()) }
    }
}

/// The AEADs of TLS 1.3 (RFC 8446 §B.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AEAD_AES_128_GCM, a key of 16 bytes.
    Aes128Gcm,
    /// AEAD_AES_256_GCM, a key of 32 bytes.
    Aes256Gcm,
    /// AEAD_CHACHA20_POLY1305, a key of 32 bytes.
    Chacha20Poly1305,
}

/// One direction's traffic key (RFC 8446 §7.3). Whoever copies it wipes the copy.
pub struct RecordKey<'a> {
    /// What it is a key of.
    pub cipher: Cipher,
    /// The key.
    pub key: &'a [u8],
    /// The initialisation vector that the record's number is added to.
    pub iv: &'a [u8; 12],
    /// The number of the next record.
    pub sequence: u64,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What goes out.
    Send,
    /// What comes in.
    Receive,
}

/// What comes next is no application data that the kernel could give out as such: it has to be read, or there is a
/// record of another kind to be dealt with first. Nothing was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotData;

impl NotData {
    /// Whether that is what `error` says.
    #[must_use]
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for NotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a TLS record that is no application data comes next")
    }
}

impl Error for NotData {}

impl From<NotData> for io::Error {
    fn from(next: NotData) -> Self {
        Self::other(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_what_it_takes() {
        let kernel = KernelTls { aes_128_gcm: true, chacha20_poly1305: true, ..KernelTls::default() };
        assert!(kernel.takes(Cipher::Aes128Gcm) && kernel.takes(Cipher::Chacha20Poly1305));
        assert!(!kernel.takes(Cipher::Aes256Gcm));
        assert_eq!(kernel.to_string(), "AES-128-GCM, ChaCha20-Poly1305");
        let kernel = KernelTls { aes_256_gcm: true, rekeys: true, ..KernelTls::default() };
        assert_eq!(kernel.to_string(), "AES-256-GCM, key updates");
    }

    #[test]
    fn what_is_no_data_is_told_from_other_errors() {
        assert!(NotData::is(&NotData.into()));
        assert!(!NotData::is(&io::ErrorKind::Other.into()) && !NotData::is(&io::Error::other("other")));
    }
}
