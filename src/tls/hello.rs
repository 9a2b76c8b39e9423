//! The server's name in a client's hello (RFC 6066 §3), which rustls' unbuffered sessions keep to themselves.

/// `server_name` is extension 0, and 0 is the one kind of name there is.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The name asked for in the record at the front of `bytes`, if it holds a whole ClientHello (RFC 8446 §4.1.2) with one.
///
/// Only for the log: what the name leads to is decided by rustls, which also refuses a malformed hello.
pub(super) fn server_name(bytes: &[u8]) -> Option<&str> {
    let mut bytes = Reader(bytes);
    let _type_and_version = bytes.take(3)?;
    let mut message = bytes.nested(2)?;
    let _client_hello = message.take(1).filter(|kind| *kind == [1])?;
    let mut hello = message.nested(3)?;
    let _version_and_random = hello.take(2 + 32)?;
    let _session_id = hello.nested(1)?;
    let _cipher_suites = hello.nested(2)?;
    let _compressions = hello.nested(1)?;
    let mut extensions = hello.nested(2)?;
    loop {
        let kind = extensions.number(2)?;
        let mut extension = extensions.nested(2)?;
        if kind == usize::from(SERVER_NAME) {
            let mut names = extension.nested(2)?;
            let _kind = names.take(1).filter(|kind| *kind == [HOST_NAME])?;
            return std::str::from_utf8(names.nested(2)?.0).ok();
        }
    }
}

/// Bytes not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What a length of `width` bytes is in front of.
    fn nested(&mut self, width: usize) -> Option<Self> {
        let len = self.number(width)?;
        self.take(len).map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut record = vec![22, 3, 1];
        record.extend((body.len() as u16 + 4).to_be_bytes());
        record.extend([1, 0]);
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    #[test]
    fn the_name_is_found_behind_other_extensions_and_with_bytes_behind_the_record() {
        let mut bytes = hello(b"\x00\x0a\x00\x02\xff\xff\x00\x00\x00\x0a\x00\x08\x00\x00\x05a.b.c");
        assert_eq!(server_name(&bytes), Some("a.b.c"));
        bytes.extend(b"trailing");
        assert_eq!(server_name(&bytes), Some("a.b.c"));
    }

    #[test]
    fn a_hello_cut_off_anywhere_or_without_the_extension_has_no_name() {
        let bytes = hello(b"\x00\x00\x00\x0a\x00\x08\x00\x00\x05a.b.c");
        for end in 0..bytes.len() {
            assert_eq!(server_name(&bytes[..end]), None, "{end}");
        }
        assert_eq!(server_name(&hello(b"")), None);
        assert_eq!(server_name(&hello(b"\x00\x0a\x00\x02\xff\xff")), None);
        let not_utf8 = hello(b"\x00\x00\x00\x06\x00\x04\x00\x00\x01\xff");
        assert_eq!(server_name(&not_utf8), None);
    }
}
