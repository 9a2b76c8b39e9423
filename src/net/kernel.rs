//! The kernel's own TLS: whether it is there, and the form it takes keys in.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::sys;
use crate::link::{Cipher, Direction, KernelTls, RecordKey};

/// Room for the largest `tls12_crypto_info_*` of linux/tls.h.
pub(super) type CryptoInfo = [u8; 4 + 12 + 32 + 8];

/// `TLS_SET_RECORD_TYPE` and `TLS_GET_RECORD_TYPE` of linux/tls.h.
pub(super) const TLS_SET_RECORD_TYPE: libc::c_int = 1;
pub(super) const TLS_GET_RECORD_TYPE: libc::c_int = 2;

const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;
const TLS_1_3_VERSION: u16 = 0x0304;
const TLS_CIPHER_AES_GCM_128: u16 = 51;
const TLS_CIPHER_AES_GCM_256: u16 = 52;
const TLS_CIPHER_CHACHA20_POLY1305: u16 = 54;

/// Bytes of the initialisation vector that the kernel wants apart, as the salt of AES-GCM.
const SALT_BYTES: usize = 4;

/// Why the kernel's TLS is not used, and what to do about it.
#[derive(Debug)]
pub enum Unavailable {
    /// It is not there, or its module is not loaded.
    NotLoaded,
    /// It is there and takes none of the cipher suites of TLS 1.3.
    NoCipher,
    /// It could not be tried.
    Failed(io::Error),
}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOPROTOOPT) => Self::NotLoaded,
            _ => Self::Failed(error),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => f.write_str(
                "the kernel has no TLS loaded: run `modprobe tls` and start again; the line `tls` in \
                 /etc/modules-load.d/filmgate.conf keeps it loaded",
            ),
            Self::NoCipher => f.write_str("the kernel's TLS takes no cipher suite of TLS 1.3; a newer kernel does"),
            Self::Failed(error) => write!(f, "the kernel's TLS could not be tried: {error}"),
        }
    }
}

/// Tries on connections with itself what the kernel can do.
///
/// # Errors
/// Why it can do nothing.
pub fn probe() -> Result<KernelTls, Unavailable> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut found = KernelTls::default();
    for (cipher, takes) in [
        (Cipher::Aes128Gcm, &mut found.aes_128_gcm),
        (Cipher::Aes256Gcm, &mut found.aes_256_gcm),
        (Cipher::Chacha20Poly1305, &mut found.chacha20_poly1305),
    ] {
        let here = TcpStream::connect(listener.local_addr()?)?;
        let _there = listener.accept()?;
        sys::attach_tls(&here)?;
        let key = RecordKey { cipher, key: &[0x5a; 32][..key_len(cipher)], iv: &[0x17; 12], sequence: 0 };
        *takes =
            [Direction::Send, Direction::Receive].into_iter().all(|way| sys::set_record_key(&here, way, &key).is_ok());
        found.rekeys |= *takes && sys::set_record_key(&here, Direction::Receive, &key).is_ok();
    }
    if found == KernelTls::default() { Err(Unavailable::NoCipher) } else { Ok(found) }
}

const fn key_len(cipher: Cipher) -> usize {
    match cipher {
        Cipher::Aes128Gcm => 16,
        Cipher::Aes256Gcm | Cipher::Chacha20Poly1305 => 32,
    }
}

/// The socket option that takes the key of one direction.
pub(super) const fn option_of(direction: Direction) -> libc::c_int {
    match direction {
        Direction::Send => TLS_TX,
        Direction::Receive => TLS_RX,
    }
}

/// Writes a key as the kernel takes it, `tls12_crypto_info_*` of linux/tls.h: version, cipher, vector, key, salt, record
/// number. Returns the length. Whose array it is wipes it.
///
/// # Errors
/// `InvalidInput` when the key is not as long as its cipher wants it; nothing is written then.
pub(super) fn crypto_info(key: &RecordKey<'_>, info: &mut CryptoInfo) -> io::Result<usize> {
    if key.key.len() != key_len(key.cipher) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (cipher, salt_len) = match key.cipher {
        Cipher::Aes128Gcm => (TLS_CIPHER_AES_GCM_128, SALT_BYTES),
        Cipher::Aes256Gcm => (TLS_CIPHER_AES_GCM_256, SALT_BYTES),
        Cipher::Chacha20Poly1305 => (TLS_CIPHER_CHACHA20_POLY1305, 0),
    };
    let (salt, vector) = key.iv.split_at(salt_len);
    let (version, cipher, number) = (TLS_1_3_VERSION.to_ne_bytes(), cipher.to_ne_bytes(), key.sequence.to_be_bytes());
    let mut len = 0;
    for part in [&version[..], &cipher, vector, key.key, salt, &number] {
        info[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_laid_out_as_the_kernel_takes_them() {
        let (key, iv): (Vec<u8>, [u8; 12]) = ((100..132).collect(), std::array::from_fn(|at| at as u8));
        for (cipher, number, vector, salt) in [
            (Cipher::Aes128Gcm, 51_u16, &iv[4..], &iv[..4]),
            (Cipher::Aes256Gcm, 52, &iv[4..], &iv[..4]),
            (Cipher::Chacha20Poly1305, 54, &iv[..], &[]),
        ] {
            let key = &key[..key_len(cipher)];
            let mut info = [0; size_of::<CryptoInfo>()];
            let len = crypto_info(&RecordKey { cipher, key, iv: &iv, sequence: 0x0102_0304 }, &mut info).unwrap();
            let numbers = [0x0304_u16.to_ne_bytes(), number.to_ne_bytes()].concat();
            let expected = [&numbers[..], vector, key, salt, &[0, 0, 0, 0, 1, 2, 3, 4]].concat();
            assert_eq!(info[..len], expected);
            assert_eq!(len, if cipher == Cipher::Aes128Gcm { 40 } else { 56 });
            assert!(info[len..].iter().all(|byte| *byte == 0));
            assert!(crypto_info(&RecordKey { cipher, key: &key[1..], iv: &iv, sequence: 0 }, &mut info).is_err());
        }
    }

    #[test]
    fn a_kernel_without_tls_comes_with_advice_and_one_with_it_takes_a_cipher() {
        match probe() {
            Ok(found) => assert!(found.aes_128_gcm || found.aes_256_gcm || found.chacha20_poly1305),
            Err(why) => assert!(matches!(why, Unavailable::NotLoaded | Unavailable::NoCipher), "{why}"),
        }
        let not_loaded = Unavailable::from(io::Error::from_raw_os_error(libc::ENOENT)).to_string();
        assert!(not_loaded.contains("`modprobe tls`") && not_loaded.contains("modules-load.d"), "{not_loaded}");
        let failed = Unavailable::from(io::Error::from_raw_os_error(libc::EMFILE)).to_string();
        assert!(failed.contains("could not be tried") && failed.contains("open files"), "{failed}");
    }
}
