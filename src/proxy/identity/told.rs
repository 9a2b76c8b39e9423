//! How often the log is told that the storage refuses something.

use std::time::Duration;

use crate::clock::Instant;

/// What was told lately. Refusals are an everyday answer, and whoever has one link can cause as many as they like: one of
/// each kind is written in a minute, and the others are counted.
#[derive(Default)]
pub(super) struct Told(Vec<Kind>);

struct Kind {
    credential: usize,
    code: String,
    since: Instant,
    others: u64,
}

impl Told {
    /// Whether a refusal with this code, of what was signed with this credential, is to be written: if so, how many like it
    /// were not since the last one.
    pub(super) fn again(&mut self, credential: usize, code: &str, now: Instant) -> Option<u64> {
        let is_it = |kind: &&mut Kind| kind.credential == credential && kind.code == code;
        if let Some(kind) = self.0.iter_mut().find(is_it) {
            if now - kind.since < EVERY {
                kind.others += 1;
                return None;
            }
            kind.since = now;
            return Some(std::mem::take(&mut kind.others));
        }
        if self.0.len() == KINDS_MAX {
            self.0.retain(|kind| now - kind.since < EVERY);
        }
        (self.0.len() < KINDS_MAX).then(|| {
            self.0.push(Kind { credential, code: code.to_string(), since: now, others: 0 });
            0
        })
    }
}

const EVERY: Duration = Duration::from_secs(60);

/// Kinds that are told apart. S3 has some hundred codes; few of them are about identities.
const KINDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn one_of_a_kind_is_told_in_a_minute_and_the_others_are_counted() {
        let (mut told, now) = (Told::default(), clock::mono());
        assert_eq!(told.again(0, "AccessDenied", now), Some(0));
        for second in 0..59 {
            assert_eq!(told.again(0, "AccessDenied", now + Duration::from_secs(second)), None);
        }
        assert_eq!(told.again(1, "AccessDenied", now), Some(0), "another credential");
        assert_eq!(told.again(0, "NoSuchKey", now), Some(0), "another code");
        assert_eq!(told.again(0, "AccessDenied", now + EVERY), Some(59));
        assert_eq!(told.again(0, "AccessDenied", now + 2 * EVERY), Some(0));
    }

    #[test]
    fn kinds_without_end_do_not_fill_the_memory_or_the_log() {
        let (mut told, now) = (Told::default(), clock::mono());
        let written = (0..1000).filter(|number| told.again(0, &number.to_string(), now).is_some()).count();
        assert_eq!((written, told.0.len()), (KINDS_MAX, KINDS_MAX));
        assert_eq!(told.again(0, "AccessDenied", now + EVERY), Some(0));
        assert_eq!(told.0.len(), 1, "what was told long ago makes room");
    }
}
