//! The gate's own identity: who asks, whether they may, and signing for them.
//!
//! A route that signs anew lends the studio's role to whoever it lets through, so nothing passes unless it was decided
//! here. [`Identity::ask`] finds out who asks and what for, [`Asked::decide`] asks the policy, and only what comes out
//! of that, an [`Admitted`], can be [written](Identity::write) for the storage.

mod ask;
pub mod form;
pub mod judge;
mod write;

use std::cell::RefCell;
use std::sync::Arc;

use crate::policy::identity::Clients;
use crate::policy::route::{Bucket, ReSign, Route};
use crate::sign::canonical::Scratch;
use crate::sign::credentials::{Credentials, Slot};
use crate::sign::keyring::Keyring;
use crate::sign::request::{Composer, Keys};

pub use ask::{Admitted, Asked, Needs};
pub use judge::Verdict;

/// What all shards know.
#[derive(Clone)]
pub struct Known {
    /// Who may ask.
    pub clients: Arc<Clients>,
    /// Their keys.
    pub keyring: Arc<Keyring>,
    /// What the gate signs with, by the index routes hold.
    pub credentials: Vec<Arc<Slot>>,
}

/// What a shard verifies, decides and signs with.
pub struct Identity {
    known: Known,
    tools: RefCell<Tools>,
}

/// Memory that is used again for every request. Borrowed for as long as one head is read or written, never longer.
#[derive(Default)]
struct Tools {
    keys: Keys,
    scratch: Scratch,
    composer: Composer,
    target: Vec<u8>,
    held: Vec<Option<Arc<Credentials>>>,
    moved: Vec<Moved>,
}

/// A bucket that turned out to be in another region than its route says.
struct Moved {
    bucket: String,
    region: String,
}

impl Identity {
    /// An identity that has signed nothing yet.
    #[must_use]
    pub fn new(known: Known) -> Self {
        Self { known, tools: RefCell::default() }
    }

    /// Who is known.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.known.clients
    }

    /// Remembers where a bucket is.
    pub fn learn(&self, bucket: &str, region: &str) {
        let known = &mut self.tools.borrow_mut().moved;
        known.retain(|moved| moved.bucket != bucket);
        if known.len() < MOVED_MAX {
            known.push(Moved { bucket: bucket.to_string(), region: region.to_string() });
        }
    }

    /// The region that requests for `bucket` are signed for.
    #[must_use]
    pub fn region_of(&self, route: &Route, bucket: Option<&Bucket>) -> String {
        write::region_of(&self.tools.borrow().moved, route, bucket).to_string()
    }

    /// Tells the thread that keeps the credentials of `resign` that the storage refused those of `generation`.
    pub fn doubt(&self, resign: &ReSign, generation: u64) {
        if let Some(slot) = self.known.credentials.get(resign.credential) {
            slot.doubt(generation);
        }
    }
}

/// Buckets whose region was learned.
const MOVED_MAX: usize = 64;
