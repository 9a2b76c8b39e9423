//! The bytes of every body: a pattern that depends on the position, so that lost, doubled or displaced bytes show.
//! Its period is a prime above the largest TLS record, so no record, page or buffer boundary hides a shift.

const PERIOD: usize = 65_521;
/// The most one slice of the pattern holds.
pub(crate) const LONGEST: usize = 256 * 1024;

pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    pub(crate) fn new() -> Pattern {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        while bytes.len() < PERIOD + LONGEST {
            let more = (PERIOD + LONGEST - bytes.len()).min(PERIOD);
            bytes.extend_from_within(..more);
        }
        Pattern(bytes)
    }

    /// What a body holds from `position` on: `length` bytes, LONGEST at most.
    pub(crate) fn at(&self, position: u64, length: u64) -> &[u8] {
        let start = (position % PERIOD as u64) as usize;
        &self.0[start..start + length.min(LONGEST as u64) as usize]
    }

    /// Compares the first and last bytes of a chunk that came from `position`; short chunks are compared whole.
    pub(crate) fn matches(&self, position: u64, chunk: &[u8]) -> bool {
        const SAMPLE: usize = 64;
        let head = chunk.len().min(SAMPLE);
        let tail = chunk.len() - head;
        self.at(position, head as u64) == &chunk[..head]
            && self.at(position + tail as u64, head as u64) == &chunk[tail..]
    }
}

/// The length a path such as /16k/movie.mov or /1g asks for, in bytes (powers of two).
pub(crate) fn length_of(path: &str) -> Option<u64> {
    let name = path.strip_prefix('/')?.split(['/', '?']).next()?;
    let digits = name.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: u64 = match &name[digits.len()..] {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_displaced_chunk_is_noticed() {
        let pattern = Pattern::new();
        for length in [1, 63, 64, 65, 4096, LONGEST as u64] {
            for position in [0, 1, 65_520, 65_521, 1 << 30] {
                let chunk = pattern.at(position, length);
                assert!(pattern.matches(position, chunk));
                assert!(length < 64 || !pattern.matches(position + 1, chunk));
                assert!(length < 64 || !pattern.matches(position + 16_384, chunk));
            }
        }
    }

    #[test]
    fn a_damaged_end_is_noticed() {
        let pattern = Pattern::new();
        let mut chunk = pattern.at(77, 10_000).to_vec();
        *chunk.last_mut().unwrap() ^= 1;
        assert!(!pattern.matches(77, &chunk));
    }

    #[test]
    fn paths_say_their_length() {
        assert_eq!(length_of("/1k"), Some(1024));
        assert_eq!(length_of("/16m?X-Amz-Date=1"), Some(16 << 20));
        assert_eq!(length_of("/16k/0a1b2c3d/movie.mov?X-Amz-Date=1"), Some(16 << 10));
        assert_eq!(length_of("/1g"), Some(1 << 30));
        assert_eq!(length_of("/7"), Some(7));
        assert_eq!(length_of("/x"), None);
        assert_eq!(length_of("/99999999999999999999g"), None);
    }
}
