//! Who may hold how much of a shard's buffer memory.
//!
//! ```text
//!   ├── strangers: spooled bodies, heads ──┤── documents ──┤── exchanges ───────────────┤
//!                                                          half of it: signed chunks
//! ```
//!
//! First come, first served, but nobody waits for long: most exchanges end in milliseconds, so a queue that does not move is
//! an overload.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::{self, Deadline};
use crate::limits;
use crate::proxy::failure::Failure;

/// The shares there are of each kind.
pub struct Rooms {
    exchanges: Shares,
    /// Of the same shares, those that uploads in signed chunks may take: there is always room for others beside them.
    chunked: Shares,
    spools: Shares,
    documents: Shares,
    heads: Shares,
}

/// What one exchange holds.
pub struct Room<'a> {
    _of_chunks: Option<SemaphorePermit<'a>>,
    _share: SemaphorePermit<'a>,
}

struct Shares {
    free: Semaphore,
    max: u32,
}

impl Rooms {
    /// The rooms in so many bytes of buffers, of which spooled bodies take at most `spool_bytes` each. Documents have a budget
    /// of their own if there are any, which exchanges then do without.
    #[must_use]
    pub fn new(bytes: usize, spool_bytes: usize, has_documents: bool) -> Self {
        let part = bytes / limits::UNSIGNED_SHARE;
        let (parts, documents) = if has_documents { (3, part) } else { (2, 0) };
        let exchanges = Shares::new(bytes - parts * part, limits::EXCHANGE_BYTES_MAX);
        Self {
            chunked: Shares::of((exchanges.max / 2).max(1)),
            exchanges,
            spools: Shares::new(part, spool_bytes),
            documents: Shares::new(documents, limits::DOCUMENT_SHARE_BYTES),
            heads: Shares::new(part, limits::BUFFER_BYTES),
        }
    }

    /// How many exchanges there is room for at once.
    #[must_use]
    pub fn exchanges_max(&self) -> u32 {
        self.exchanges.max
    }

    /// Takes the share of one exchange.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] after [`limits::ROOM_WAIT`].
    pub async fn exchange(&self) -> Result<Room<'_>, Failure> {
        Ok(Room { _of_chunks: None, _share: self.exchanges.take(1, soon).await? })
    }

    /// The same for an upload in signed chunks of at most `chunk` bytes, which holds four times that besides (see
    /// [`limits::SIGNED_CHUNKS_HELD_BYTES`]): it takes the shares of as many exchanges as would fit there.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn chunked(&self, chunk: u64) -> Result<Room<'_>, Failure> {
        let shares = shares_of_chunks(chunk).min(self.chunked.max);
        let until = soon();
        // In this order: whoever waits for the half of the others has the first of it when there is room.
        let of_chunks = self.chunked.take(shares, || until).await?;
        Ok(Room { _share: self.exchanges.take(shares, || until).await?, _of_chunks: Some(of_chunks) })
    }

    /// Takes the share of a document that has to be read before the request it comes with can be decided about. `length` is
    /// what it says of itself, `most` what it may have.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn document(&self, length: Option<u64>, most: usize) -> Result<SemaphorePermit<'_>, Failure> {
        self.documents.take(shares_of_document(length, most).min(self.documents.max), soon).await
    }

    /// Takes the share of one spooled body. These have a small budget of their own: spooling happens before S3 has seen
    /// the request, for anybody who can connect.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn spool(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.spools.take(1, soon).await
    }

    /// Takes the share of a request head that did not come in one piece, if one is left.
    #[must_use]
    pub fn head(&self) -> Option<SemaphorePermit<'_>> {
        self.heads.free.try_acquire().ok()
    }
}

/// Until when somebody waits for room who comes now.
fn soon() -> Deadline {
    Deadline::after(limits::ROOM_WAIT)
}

/// Shares of exchanges that an upload in chunks of this size takes, its own included.
fn shares_of_chunks(chunk: u64) -> u32 {
    let held = limits::SIGNED_CHUNKS_HELD_BYTES as u64 / limits::SIGNED_CHUNK_BYTES_MAX;
    let held = held * chunk.min(limits::SIGNED_CHUNK_BYTES_MAX);
    1 + held.div_ceil(limits::EXCHANGE_BYTES_MAX as u64) as u32
}

/// Shares of documents: for its bytes and for what is read out of them, and twice that where the memory grows with what comes.
fn shares_of_document(length: Option<u64>, most: usize) -> u32 {
    let held = match length {
        Some(length) => 2 * length.min(most as u64),
        None => 4 * most as u64,
    };
    held.div_ceil(limits::DOCUMENT_SHARE_BYTES as u64).max(1) as u32
}

impl Shares {
    /// How many of `each` bytes there are in `bytes`: one at least.
    fn new(bytes: usize, each: usize) -> Self {
        Self::of((bytes / each.max(1)).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize)) as u32)
    }

    fn of(max: u32) -> Self {
        Self { free: Semaphore::new(max as usize), max }
    }

    /// The clock is read only where there is a wait.
    async fn take(&self, shares: u32, until: impl FnOnce() -> Deadline) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(permit) = self.free.try_acquire_many(shares) {
            return Ok(permit);
        }
        match clock::within(until(), self.free.acquire_many(shares)).await {
            Some(Ok(permit)) => Ok(permit),
            _ => Err(Failure::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const MIB: usize = 1024 * 1024;

    /// What comes at once, `None` where it would have to be waited for.
    fn at_once<T>(room: impl Future<Output = Result<T, Failure>>) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        match std::pin::pin!(room).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => Some(room.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn an_upload_in_signed_chunks_takes_as_much_as_it_can_hold() {
        assert_eq!(shares_of_chunks(0), 1);
        assert_eq!(shares_of_chunks(1024), 2);
        assert_eq!(shares_of_chunks(limits::EXCHANGE_BYTES_MAX as u64 / 4), 2);
        assert_eq!(shares_of_chunks(limits::EXCHANGE_BYTES_MAX as u64 / 4 + 1), 3);
        assert_eq!((shares_of_chunks(MIB as u64), shares_of_chunks(u64::MAX)), (6, 6));
    }

    #[test]
    fn uploads_in_signed_chunks_leave_room_for_others() {
        let rooms = Rooms::new(64 * MIB, MIB, true);
        let uploads: Vec<_> = std::iter::from_fn(|| at_once(rooms.chunked(u64::MAX))).collect();
        assert_eq!(uploads.len() as u32, rooms.exchanges_max() / 2 / 6);
        let others: Vec<_> = std::iter::from_fn(|| at_once(rooms.exchange())).collect();
        assert_eq!((others.len() + 6 * uploads.len()) as u32, rooms.exchanges_max());
        drop((uploads, others));
        let small = std::iter::from_fn(|| at_once(rooms.chunked(1024))).collect::<Vec<_>>();
        assert_eq!(small.len() as u32, rooms.exchanges_max() / 2 / 2);
    }

    #[test]
    fn an_upload_is_served_where_there_is_room_for_one_exchange_only() {
        let rooms = Rooms::new(1, 0, true);
        assert_eq!(rooms.exchanges_max(), 1);
        let upload = at_once(rooms.chunked(u64::MAX)).unwrap();
        assert!(at_once(rooms.exchange()).is_none());
        drop(upload);
        assert!(at_once(rooms.exchange()).is_some());
        assert!(at_once(rooms.document(None, 2 * MIB)).is_some());
    }

    #[test]
    fn a_document_takes_as_much_as_it_says_and_the_most_if_it_does_not() {
        assert_eq!((shares_of_document(Some(0), MIB), shares_of_document(Some(200), MIB)), (1, 1));
        assert_eq!(shares_of_document(Some(MIB as u64), 2 * MIB), 32);
        assert_eq!((shares_of_document(Some(u64::MAX), MIB), shares_of_document(None, MIB)), (32, 64));
        let rooms = Rooms::new(64 * MIB, MIB, true);
        let many: Vec<_> = std::iter::from_fn(|| at_once(rooms.document(Some(1000), 2 * MIB))).collect();
        assert_eq!(many.len(), 128);
    }
}
