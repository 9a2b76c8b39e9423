//! Pipes for moving bytes between two sockets inside the kernel, and the pool each shard takes them from.
//!
//! A pipe belongs to one body at a time. It goes back to the pool empty or not at all: bytes that somebody left in it
//! would otherwise turn up in the next body.

use std::cell::{Cell, RefCell};
use std::io::{self, PipeReader, PipeWriter};
use std::rc::Rc;

use crate::limits;

/// When bodies between two plain connections go through a pipe instead of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Splice {
    /// Never.
    Off,
    /// When at least [`limits::SPLICE_BYTES_MIN`] are still to come.
    #[default]
    Auto,
    /// Whenever the length is known.
    Always,
}

impl Splice {
    /// Fewest bytes for which a pipe is taken, `None` for never.
    #[must_use]
    pub fn bytes_min(self) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::Auto => Some(limits::SPLICE_BYTES_MIN),
            Self::Always => Some(1),
        }
    }
}

/// Both ends of a pipe.
#[derive(Debug)]
pub struct Ends {
    /// Where bytes come out.
    pub reader: PipeReader,
    /// Where bytes go in.
    pub writer: PipeWriter,
    /// Bytes it can hold at best; many small pieces fill it earlier.
    pub capacity: usize,
}

/// A pipe on loan, and how many bytes are in it.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    len: usize,
    home: Option<Rc<Rack>>,
}

impl Pipe {
    /// A pipe of its own that belongs to no pool. For tests.
    #[must_use]
    pub fn detached(ends: Ends) -> Self {
        Self { ends: Some(ends), len: 0, home: None }
    }

    /// The ends, for moving bytes. Whoever does says so with [`filled`](Self::filled) or [`drained`](Self::drained).
    ///
    /// # Panics
    /// Never: a pipe gives its ends away only when it is dropped.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("a pipe holds its ends")
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Counts `n` bytes that went in.
    pub fn filled(&mut self, n: usize) {
        self.len += n;
    }

    /// Counts `n` bytes that came out.
    ///
    /// # Panics
    /// When that is more than there were.
    pub fn drained(&mut self, n: usize) {
        assert!(n <= self.len, "more came out of a pipe than went in");
        self.len -= n;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let (Some(home), Some(ends)) = (self.home.take(), self.ends.take()) {
            home.lent.set(home.lent.get() - 1);
            let mut free = home.free.borrow_mut();
            if self.len == 0 && free.len() < limits::PIPES_KEPT_MAX {
                free.push(ends);
            }
        }
    }
}

/// The pipes of one shard.
#[derive(Debug)]
pub struct Pipes {
    bytes_min: Option<u64>,
    rack: Rc<Rack>,
}

#[derive(Debug)]
struct Rack {
    open: fn() -> io::Result<Ends>,
    free: RefCell<Vec<Ends>>,
    lent: Cell<usize>,
}

impl Pipes {
    /// An empty pool that makes its pipes with `open`.
    #[must_use]
    pub fn new(splice: Splice, open: fn() -> io::Result<Ends>) -> Self {
        Self {
            bytes_min: splice.bytes_min(),
            rack: Rc::new(Rack { open, free: RefCell::default(), lent: Cell::new(0) }),
        }
    }

    /// No pipes at all: everything is copied.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Splice::Off, || Err(io::ErrorKind::Unsupported.into()))
    }

    /// The same pool, lending as `splice` says.
    #[must_use]
    pub fn taken(&self, splice: Splice) -> Self {
        Self { bytes_min: splice.bytes_min(), rack: Rc::clone(&self.rack) }
    }

    /// An empty pipe for a body of which `left` bytes are still to come. `None` when it is too short to be worth one,
    /// when too many are lent, or when the system gives no more: then the body is copied.
    #[must_use]
    pub fn take(&self, left: u64) -> Option<Pipe> {
        if left < self.bytes_min? || self.rack.lent.get() >= limits::PIPES_LENT_MAX {
            return None;
        }
        let free = self.rack.free.borrow_mut().pop();
        let ends = free.or_else(|| (self.rack.open)().ok())?;
        self.rack.lent.set(self.rack.lent.get() + 1);
        Some(Pipe { ends: Some(ends), len: 0, home: Some(Rc::clone(&self.rack)) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn open() -> io::Result<Ends> {
        io::pipe().map(|(reader, writer)| Ends { reader, writer, capacity: 64 * 1024 })
    }

    fn number(pipe: &Pipe) -> i32 {
        pipe.ends().reader.as_raw_fd()
    }

    #[test]
    fn an_empty_pipe_is_lent_again() {
        let pipes = Pipes::new(Splice::Auto, open);
        let mut first = pipes.take(1 << 20).unwrap();
        first.filled(7);
        first.drained(7);
        let fd = number(&first);
        drop(first);
        assert_eq!(number(&pipes.take(1 << 20).unwrap()), fd);
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_closed_and_never_lent_again() {
        let pipes = Pipes::new(Splice::Auto, open);
        let mut first = pipes.take(1 << 20).unwrap();
        first.filled(1);
        drop(first);
        assert!(pipes.rack.free.borrow().is_empty());
        assert_eq!(pipes.rack.lent.get(), 0);
    }

    #[test]
    fn short_bodies_get_no_pipe_unless_every_body_does() {
        assert!(Pipes::new(Splice::Auto, open).take(limits::SPLICE_BYTES_MIN - 1).is_none());
        assert!(Pipes::new(Splice::Auto, open).take(limits::SPLICE_BYTES_MIN).is_some());
        assert!(Pipes::new(Splice::Always, open).take(1).is_some());
        assert!(Pipes::new(Splice::Always, open).take(0).is_none());
        assert!(Pipes::new(Splice::Off, open).take(u64::MAX).is_none());
        assert!(Pipes::none().take(u64::MAX).is_none());
    }

    #[test]
    fn no_more_pipes_are_lent_than_the_limit_says() {
        let pipes = Pipes::new(Splice::Always, open);
        pipes.rack.lent.set(limits::PIPES_LENT_MAX - 1);
        let last = pipes.take(1).unwrap();
        assert!(pipes.take(1).is_none());
        drop(last);
        assert!(pipes.take(1).is_some());
    }

    #[test]
    fn a_system_without_pipes_means_copying() {
        let pipes = Pipes::new(Splice::Always, || Err(io::ErrorKind::QuotaExceeded.into()));
        assert!(pipes.take(1 << 30).is_none());
        assert_eq!(pipes.rack.lent.get(), 0);
    }
}
