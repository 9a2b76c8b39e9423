//! A film nobody shot: bytes that are a function of their offset, so that any part of any length exists without being
//! kept, and its SHA-256.

use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

/// The film of one seed; without end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Film {
    pub(super) seed: u64,
}

impl Film {
    /// Writes the bytes from `offset` on.
    fn fill(self, offset: u64, out: &mut [u8]) {
        let mut at = offset;
        let mut out = out;
        while !out.is_empty() {
            let word = self.word(at / WORD_BYTES).to_le_bytes();
            let skip = (at % WORD_BYTES) as usize;
            let take = (word.len() - skip).min(out.len());
            let (now, rest) = out.split_at_mut(take);
            now.copy_from_slice(&word[skip..skip + take]);
            at += take as u64;
            out = rest;
        }
    }

    /// SplitMix64 in counter mode (Steele, Lea, Flood 2014): every word on its own, no two blocks alike.
    fn word(self, index: u64) -> u64 {
        let mut word = self.seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// The next piece of `range` and what is left of it.
    fn piece(self, range: Range<u64>) -> (Bytes, Range<u64>) {
        let take = (range.end - range.start).min(PIECE_BYTES);
        let mut bytes = BytesMut::zeroed(take as usize);
        self.fill(range.start, &mut bytes);
        (bytes.freeze(), range.start + take..range.end)
    }

    /// SHA-256 of a part of the film.
    pub(super) fn sha256(self, mut range: Range<u64>) -> Sha256 {
        let mut hasher = Hasher::new();
        while !range.is_empty() {
            let (bytes, rest) = self.piece(range);
            hasher.update(&bytes);
            range = rest;
        }
        hasher.finish()
    }

    /// Writes a part of the film.
    pub(super) fn write(self, mut range: Range<u64>, to: &mut impl std::io::Write) -> std::io::Result<()> {
        while !range.is_empty() {
            let (bytes, rest) = self.piece(range);
            to.write_all(&bytes)?;
            range = rest;
        }
        Ok(())
    }
}

const WORD_BYTES: u64 = 8;
const PIECE_BYTES: u64 = 128 * 1024;

/// A SHA-256 in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sha256(pub(super) String);

/// SHA-256 over pieces.
pub(super) struct Hasher(digest::Context);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Sha256 {
        Sha256(self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A request body: nothing, a few bytes, or a part of a film made while it is sent.
pub(super) enum Upload {
    Bytes(Option<Bytes>),
    Film { film: Film, range: Range<u64>, moved: Arc<AtomicU64> },
}

impl Upload {
    pub(super) const EMPTY: Self = Self::Bytes(None);

    pub(super) fn text(text: String) -> Self {
        Self::Bytes(Some(Bytes::from(text)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(match self.get_mut() {
            Self::Bytes(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Self::Film { range, .. } if range.is_empty() => None,
            Self::Film { film, range, moved } => {
                let (bytes, rest) = film.piece(range.clone());
                *range = rest;
                moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Some(Ok(Frame::data(bytes)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_none(),
            Self::Film { range, .. } => range.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Film { range, .. } => range.end - range.start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_film_is_the_same_bytes_as_in_the_whole() {
        let film = Film { seed: 7 };
        let mut whole = vec![0; 1_000];
        film.fill(0, &mut whole);
        for (start, end) in [(0, 1), (1, 8), (7, 9), (3, 1_000), (999, 1_000), (16, 16)] {
            let mut part = vec![0; end - start];
            film.fill(start as u64, &mut part);
            assert_eq!(part, whole[start..end], "{start}..{end}");
        }
    }

    #[test]
    fn the_digest_over_pieces_is_the_digest_of_the_bytes() {
        let film = Film { seed: 1 };
        let range = 5..3 * PIECE_BYTES + 11;
        let mut bytes = Vec::new();
        film.write(range.clone(), &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, range.end - range.start);
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        assert_eq!(film.sha256(range), hasher.finish());
        assert_eq!(
            Hasher::new().finish().0,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "SHA-256 of nothing (FIPS 180-4)"
        );
    }

    #[test]
    fn films_of_two_seeds_differ() {
        assert_ne!(Film { seed: 1 }.sha256(0..64), Film { seed: 2 }.sha256(0..64));
    }
}
