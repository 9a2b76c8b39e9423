//! Where the file in a form ends.

use memchr::memmem;

use super::{Boundary, FormError};

/// Looks for the end of a file while it passes by. The end is `CRLF--boundary--`; a line end may follow, and nothing else.
pub struct FileEnd {
    /// A line feed and the delimiter.
    needle: memmem::Finder<'static>,
    /// The last bytes that passed: enough for a needle that has begun, and the byte in front of it.
    tail: Vec<u8>,
    /// Bytes that passed.
    passed: u64,
    found: Option<End>,
}

struct End {
    file_bytes: u64,
    /// Bytes behind the delimiter that were as they should be.
    closed: usize,
}

/// What follows the last delimiter.
const CLOSING: &[u8] = b"--\r\n";

impl FileEnd {
    pub(super) fn new(boundary: &Boundary) -> Self {
        let needle = memmem::Finder::new(&[b"\n", &boundary.0[..]].concat()).into_owned();
        // The empty line in front of the file belongs to the head of its part and cannot be the delimiter's.
        Self { needle, tail: vec![b'\n'], passed: 0, found: None }
    }

    /// Takes the next bytes of the body. They may be passed on when there is no error.
    ///
    /// # Errors
    /// When something other than the end follows the file, or a delimiter is not on a line of its own.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FormError> {
        let Some(end) = &mut self.found else { return self.look(bytes) };
        let rest = CLOSING.get(end.closed..end.closed + bytes.len());
        if rest != Some(bytes) {
            let is_part = end.closed == 0 && bytes.first() == Some(&b'\r');
            return Err(FormError::Malformed(if is_part {
                "a field follows the file, which must be the last"
            } else {
                "something follows the file"
            }));
        }
        end.closed += bytes.len();
        Ok(())
    }

    fn look(&mut self, bytes: &[u8]) -> Result<(), FormError> {
        let length = self.needle.needle().len();
        let seam = self.tail.len();
        // A needle that began before these bytes ends within the first of them.
        self.tail.extend_from_slice(&bytes[..bytes.len().min(length)]);
        let found =
            self.needle.find(&self.tail).map(|at| (at.checked_sub(1).map(|before| self.tail[before]), at, seam));
        let found = found.or_else(|| {
            let at = self.needle.find(bytes)?;
            Some((at.checked_sub(1).map(|before| bytes[before]), at, 0))
        });
        let Some((before, at, seam)) = found else {
            self.passed += bytes.len() as u64;
            if bytes.len() > length {
                self.tail.clear();
                self.tail.extend_from_slice(&bytes[bytes.len() - length..]);
            } else {
                self.tail.drain(..self.tail.len().saturating_sub(length));
            }
            return Ok(());
        };
        // Where the line feed is, counted from the beginning of the file; without a byte of the file in front, it is the head's.
        let line_feed = (self.passed + at as u64).checked_sub(seam as u64);
        let (Some(b'\r'), Some(file_bytes)) = (before, line_feed.and_then(|at| at.checked_sub(1))) else {
            return Err(FormError::Malformed("the boundary behind the file is not on a line of its own"));
        };
        self.passed += bytes.len() as u64;
        self.found = Some(End { file_bytes, closed: 0 });
        // The last byte of the needle at least is among these bytes.
        self.feed(&bytes[at + length - seam..])
    }

    /// Bytes the file has at least, by what has passed.
    #[must_use]
    pub fn file_bytes_min(&self) -> u64 {
        match &self.found {
            Some(end) => end.file_bytes,
            None => self.passed.saturating_sub(self.needle.needle().len() as u64),
        }
    }

    /// Whether the whole end has passed, but for the line end that may follow.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.found.as_ref().is_some_and(|end| matches!(end.closed, 2 | 4))
    }

    /// Says that the body is over. Returns the bytes of the file.
    ///
    /// # Errors
    /// When the form is not complete.
    pub fn finish(&self) -> Result<u64, FormError> {
        match &self.found {
            Some(end) if self.is_complete() => Ok(end.file_bytes),
            _ => Err(FormError::Malformed("it ends before its last boundary")),
        }
    }
}
