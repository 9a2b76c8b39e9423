//! What the gate signs with, as shards see it: a snapshot that is swapped whole.
//!
//! Who renews it writes to the [`Slot`]; shards read, never wait, and say in passing that S3 refused what they read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

use super::key::Secret;

/// A session token (`x-amz-security-token`). Wiped when it is dropped; `Debug` shows nothing of it.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes the token over.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `given`, in a time that does not tell how far the two agree.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), given).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Credentials to sign with. `Debug` shows nothing that anybody could use.
pub struct Credentials {
    /// The id of the access key; not secret.
    pub access_key: String,
    /// The secret access key.
    pub secret: Secret,
    /// The token that goes with it, for all but long-lived keys.
    pub token: Option<Token>,
    /// When S3 no longer takes them, in seconds since 1970; `None` for never.
    pub expires: Option<u64>,
    /// Which ones these are, from 1: no two of one slot have the same number, and later ones have higher numbers.
    pub generation: u64,
}

impl Credentials {
    /// Whether both are the same for S3, whatever their generation.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let has_same_token = match (&self.token, &other.token) {
            (Some(one), Some(other)) => one.is(other.as_str().as_bytes()),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.access_key == other.access_key
            && self.expires == other.expires
            && self.secret.is(&other.secret)
            && has_same_token
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("generation", &self.generation).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Where the current credentials lie. Empty before there are any, and when they have expired.
pub struct Slot {
    current: ArcSwapOption<Credentials>,
    generation: AtomicU64,
    doubted: AtomicU64,
    on_doubt: Box<dyn Fn() + Send + Sync>,
}

impl Slot {
    /// An empty slot. `on_doubt` is called from a shard whenever a generation is doubted first, and must not wait.
    #[must_use]
    pub fn new(on_doubt: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            on_doubt: Box::new(on_doubt),
        }
    }

    /// What to sign with now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.current.load_full()
    }

    /// The generation of [`current`](Self::current), 0 for none. Reading it writes nothing, so who keeps a copy asks
    /// this first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts newer credentials in.
    pub fn set(&self, credentials: Credentials) {
        let generation = credentials.generation;
        self.current.store(Some(Arc::new(credentials)));
        self.generation.store(generation, Ordering::Release);
    }

    /// Takes out what has expired.
    pub fn clear(&self) {
        self.generation.store(0, Ordering::Release);
        self.current.store(None);
    }

    /// Says that S3 refused what was signed with this generation.
    pub fn doubt(&self, generation: u64) {
        // Most doubts come many at a time; all but the first change nothing and are not even written.
        if self.doubted() < generation && self.doubted.fetch_max(generation, Ordering::AcqRel) < generation {
            (self.on_doubt)();
        }
    }

    /// The latest generation that S3 refused, 0 for none.
    #[must_use]
    pub fn doubted(&self) -> u64 {
        self.doubted.load(Ordering::Acquire)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new(|| ())
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Slot");
        shown.field("generation", &self.generation()).field("doubted", &self.doubted()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(generation: u64) -> Credentials {
        Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret: Secret::new("wJalr".into()),
            token: Some(Token::new("AQoDYXdz".into())),
            expires: Some(1_369_353_600),
            generation,
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let slot = Slot::default();
        slot.set(credentials(3));
        assert_eq!(format!("{:?}", slot), "Slot { generation: 3, doubted: 0, .. }");
        assert_eq!(
            format!("{:?} {:?}", credentials(3), Token::new("AQoDYXdz".into())),
            "Credentials { generation: 3, expires: Some(1369353600), .. } Token(..)"
        );
    }

    #[test]
    fn a_slot_holds_what_was_set_last_until_it_is_cleared() {
        let slot = Slot::default();
        assert!(slot.current().is_none() && slot.generation() == 0);
        slot.set(credentials(1));
        let kept = slot.current().unwrap();
        slot.set(credentials(2));
        assert_eq!((kept.generation, slot.current().unwrap().generation, slot.generation()), (1, 2, 2));
        slot.clear();
        assert!(slot.current().is_none() && slot.generation() == 0);
        assert_eq!(kept.token.as_ref().unwrap().as_str(), "AQoDYXdz");
    }

    #[test]
    fn a_generation_is_doubted_once_and_an_older_one_not_at_all() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let slot = Slot::new(move || _ = counted.fetch_add(1, Ordering::Relaxed));
        for (generation, doubted, called) in [(2, 2, 1), (2, 2, 1), (1, 2, 1), (3, 3, 2), (0, 3, 2)] {
            slot.doubt(generation);
            assert_eq!((slot.doubted(), calls.load(Ordering::Relaxed)), (doubted, called), "{generation}");
        }
    }

    #[test]
    fn the_same_credentials_are_told_from_others() {
        let one = credentials(1);
        assert!(one.is_same(&credentials(9)));
        let others = [
            Credentials { access_key: "AKIDOTHER".into(), ..credentials(1) },
            Credentials { secret: Secret::new("wJalR".into()), ..credentials(1) },
            Credentials { token: None, ..credentials(1) },
            Credentials { token: Some(Token::new("AQoDYXdz2".into())), ..credentials(1) },
            Credentials { expires: None, ..credentials(1) },
        ];
        for other in others {
            assert!(!one.is_same(&other));
        }
    }
}
