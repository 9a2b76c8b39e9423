//! Owned buffers and the pool each shard takes them from.
//!
//! The kernel owns a buffer while an operation is in flight, so a buffer moves: into the operation and back out of its
//! completion. A buffer is one allocation with a filled window:
//!
//! ```text
//!   0        start            end             capacity
//!   | consumed | filled bytes  | spare room    |
//! ```
//!
//! Dropping a buffer hands its allocation back to the pool it came from. The pool keeps what it has been given up to its
//! limit and is never shared between threads.

use std::cell::RefCell;
use std::rc::Rc;

use crate::limits;

/// One owned byte buffer with a filled window.
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Where the room ends.
    limit: usize,
    home: Option<Rc<Shelf>>,
}

impl Buffer {
    /// A buffer of its own that belongs to no pool. For tests and for start-up.
    #[must_use]
    pub fn detached(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into_boxed_slice(), start: 0, end: 0, limit: capacity, home: None }
    }

    /// The filled bytes.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The filled bytes, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// The room behind the filled bytes. Its content is old but initialised.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..self.limit]
    }

    /// Bytes of room behind the filled window.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit - self.end
    }

    /// Makes the buffer end after `n` bytes, filled ones included, until it is given back: a read then brings so many at
    /// most.
    ///
    /// # Panics
    /// When more is filled, or the buffer is smaller.
    pub fn limit(&mut self, n: usize) {
        assert!(self.start + n <= self.bytes.len() && n >= self.len(), "a limit that does not fit the buffer");
        self.limit = self.start + n;
    }

    /// Number of filled bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is filled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Size of the allocation in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Takes `n` bytes of the spare room into the filled window.
    ///
    /// # Panics
    /// When `n` exceeds [`room`](Self::room).
    pub fn commit(&mut self, n: usize) {
        assert!(n <= self.room(), "commit past the end of a buffer");
        self.end += n;
    }

    /// Drops `n` bytes from the front of the filled window.
    ///
    /// # Panics
    /// When `n` exceeds [`len`](Self::len).
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consume past the end of a buffer");
        self.start += n;
        if self.start == self.end {
            self.clear();
        }
    }

    /// Bytes of room in front of the filled window: those that were consumed.
    #[must_use]
    pub fn front(&self) -> usize {
        self.start
    }

    /// Puts `bytes` in front of the filled window.
    ///
    /// # Panics
    /// When they exceed [`front`](Self::front).
    pub fn prepend(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.start, "prepend past the front of a buffer");
        self.start -= bytes.len();
        self.bytes[self.start..self.start + bytes.len()].copy_from_slice(bytes);
    }

    /// Cuts the filled window to its first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start + n);
    }

    /// Forgets the content.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Moves the filled bytes to the front so that the whole rest is room.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Appends as much of `from` as fits and says how much that was.
    pub fn append(&mut self, from: &[u8]) -> usize {
        let n = from.len().min(self.room());
        self.bytes[self.end..self.end + n].copy_from_slice(&from[..n]);
        self.end += n;
        n
    }
}

impl std::fmt::Debug for Buffer {
    /// Sizes only: the content may be a signature.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} of {})", self.len(), self.capacity())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

/// The buffers of one shard. Cloning shares the pool.
#[derive(Clone)]
pub struct Pool {
    small: Rc<Shelf>,
    bulk: Rc<Shelf>,
}

impl Pool {
    /// A pool that keeps at most `bytes_max` bytes of unused buffers for reuse.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let shelf = |capacity: usize, share: usize| {
            Rc::new(Shelf { capacity, kept_max: (share / capacity).max(4), free: RefCell::default() })
        };
        Self {
            small: shelf(limits::BUFFER_BYTES, bytes_max / 4),
            bulk: shelf(limits::BULK_BUFFER_BYTES, bytes_max / 4 * 3),
        }
    }

    /// An empty buffer of [`limits::BUFFER_BYTES`].
    #[must_use]
    pub fn take(&self) -> Buffer {
        Shelf::take(&self.small)
    }

    /// An empty buffer of [`limits::BULK_BUFFER_BYTES`].
    #[must_use]
    pub fn take_bulk(&self) -> Buffer {
        Shelf::take(&self.bulk)
    }
}

/// Buffers of one size.
struct Shelf {
    capacity: usize,
    kept_max: usize,
    free: RefCell<Vec<Box<[u8]>>>,
}

impl Shelf {
    fn take(self: &Rc<Self>) -> Buffer {
        let bytes = self.free.borrow_mut().pop();
        let bytes = bytes.unwrap_or_else(|| vec![0; self.capacity].into_boxed_slice());
        Buffer { bytes, start: 0, end: 0, limit: self.capacity, home: Some(Rc::clone(self)) }
    }

    fn give_back(&self, bytes: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        if free.len() < self.kept_max {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_taken_again_and_starts_empty() {
        let pool = Pool::new(1 << 20);
        let mut first = pool.take();
        first.append(b"secret");
        let address = first.bytes.as_ptr();
        drop(first);
        let second = pool.take();
        assert_eq!(second.bytes.as_ptr(), address);
        assert!(second.is_empty());
    }

    #[test]
    fn consuming_everything_gives_the_whole_room_back() {
        let mut buffer = Buffer::detached(8);
        assert_eq!(buffer.append(b"0123456789"), 8);
        buffer.consume(3);
        assert_eq!(buffer.filled(), b"34567");
        assert_eq!(buffer.room(), 0);
        buffer.compact();
        assert_eq!((buffer.filled(), buffer.room()), (&b"34567"[..], 3));
        buffer.consume(5);
        assert_eq!(buffer.room(), 8);
    }

    #[test]
    fn a_limit_ends_the_room_of_a_buffer_and_not_of_the_next_one() {
        let pool = Pool::new(1 << 20);
        let mut buffer = pool.take();
        buffer.append(b"abcdef");
        buffer.consume(2);
        buffer.limit(7);
        assert_eq!((buffer.room(), buffer.spare_mut().len()), (3, 3));
        assert_eq!(buffer.append(b"0123456"), 3);
        assert_eq!(buffer.filled(), b"cdef012");
        drop(buffer);
        assert_eq!(pool.take().room(), limits::BUFFER_BYTES);
    }

    #[test]
    fn debug_output_shows_no_content() {
        let mut buffer = Buffer::detached(16);
        buffer.append(b"X-Amz-Signature");
        assert_eq!(format!("{buffer:?}"), "Buffer(15 of 16)");
    }
}
