//! The gate's own identity: who asks, whether they may, and signing for them.
//!
//! A route that signs anew lends the studio's role to whoever it lets through, so nothing passes unless it was decided
//! here. [`Identity::ask`] finds out who asks and what for, [`Asked::decide`] asks the policy, and only what comes out
//! of that, an [`Admitted`], can be [written](Identity::write) for the storage.

mod ask;
pub mod form;
pub mod judge;
pub mod veil;
mod write;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::policy::identity::Clients;
use crate::policy::route::{Bucket, ReSign, Route};
use crate::sign::canonical::Scratch;
use crate::sign::credentials::{Credentials, Slot};
use crate::sign::keyring::Keyring;
use crate::sign::request::{Composer, Keys};
use crate::sign::time::Stamp;

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
    /// Of clients.
    keys: Keys,
    /// Of the gate's own credentials, which no request of a client can drive out.
    own: Keys,
    scratch: Scratch,
    composer: Composer,
    target: Vec<u8>,
    held: Vec<Option<Arc<Credentials>>>,
    moved: Vec<Moved>,
    /// Of the second in which something was signed last.
    stamp: Option<Stamp>,
    /// When the storage last took what was signed by each credential, and with which generation.
    proved: Vec<Option<(u64, Instant)>>,
}

/// A bucket that turned out to be in another region than its route says.
#[derive(Clone)]
struct Moved {
    /// Its host by the route, which no bucket of another provider has.
    host: String,
    region: String,
    /// Whether anything was served from there. Until then it is no more than what one answer said.
    is_proved: bool,
}

impl Identity {
    /// An identity that has signed nothing yet.
    #[must_use]
    pub fn new(known: Known) -> Self {
        Self { known, tools: RefCell::default() }
    }

    /// One with other clients or credentials, which knows what this one has learned of the storage, and of credentials that
    /// stay.
    #[must_use]
    pub fn succeeded_by(&self, known: Known) -> Self {
        let tools = self.tools.borrow();
        let proved = known.credentials.iter().map(|slot| {
            let before = self.known.credentials.iter().position(|before| Arc::ptr_eq(before, slot))?;
            tools.proved.get(before).copied().flatten()
        });
        let proved = proved.collect();
        let moved = tools.moved.iter().filter(|moved| moved.is_proved).cloned().collect();
        Self { known, tools: RefCell::new(Tools { proved, moved, ..Tools::default() }) }
    }

    /// Who is known.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.known.clients
    }

    /// Notes that the storage took what was signed with credentials of this generation.
    pub fn prove(&self, resign: &ReSign, generation: u64) {
        let proved = &mut self.tools.borrow_mut().proved;
        proved.resize(self.known.credentials.len(), None);
        if let Some(last) = proved.get_mut(resign.credential) {
            *last = Some((generation, clock::mono()));
        }
    }

    /// Whether the storage took what was signed with credentials of this generation not long ago. Then a refusal is about
    /// the request: S3 says the same of a key that does not exist to those who may not list, for one.
    #[must_use]
    pub fn is_proved(&self, resign: &ReSign, generation: u64) -> bool {
        let last = self.tools.borrow().proved.get(resign.credential).copied().flatten();
        last.is_some_and(|(proved, at)| proved == generation && clock::mono() - at < PROVED_FOR)
    }

    /// Supposes that a bucket is where the storage says, until an answer from there [settles](Self::settle) it.
    pub fn suppose(&self, bucket: &Bucket, region: &str) {
        let known = &mut self.tools.borrow_mut().moved;
        if known.iter().any(|moved| moved.host == bucket.host && moved.region == region) {
            return;
        }
        known.retain(|moved| moved.host != bucket.host);
        if known.len() < MOVED_MAX {
            known.push(Moved { host: bucket.host.clone(), region: region.to_string(), is_proved: false });
        }
    }

    /// The region that requests for `bucket` are signed for now, if that is no more than supposed.
    #[must_use]
    pub fn supposed(&self, bucket: Option<&Bucket>) -> Option<String> {
        let moved = &self.tools.borrow().moved;
        let found = moved.iter().find(|moved| bucket.is_some_and(|bucket| bucket.host == moved.host))?;
        (!found.is_proved).then(|| found.region.clone())
    }

    /// Remembers a region that was supposed, or forgets it. Says whether it is remembered from now on.
    pub fn settle(&self, bucket: &Bucket, region: &str, is_right: bool) -> bool {
        let known = &mut self.tools.borrow_mut().moved;
        let is_it = |moved: &Moved| moved.host == bucket.host && moved.region == region && !moved.is_proved;
        match known.iter().position(is_it) {
            Some(index) if is_right => known[index].is_proved = true,
            Some(index) => drop(known.swap_remove(index)),
            None => return false,
        }
        is_right
    }

    /// The region that requests for `bucket` are signed for.
    #[must_use]
    pub fn region_of(&self, route: &Route, bucket: Option<&Bucket>) -> String {
        write::region_of(&self.tools.borrow().moved, route, bucket).to_string()
    }

    /// What the gate signs with for `resign` now.
    #[must_use]
    pub fn credentials(&self, resign: &ReSign) -> Option<Arc<Credentials>> {
        self.known.credentials.get(resign.credential)?.current()
    }

    /// Tells the thread that keeps the credentials of `resign` that the storage refused those of `generation`.
    pub fn doubt(&self, resign: &ReSign, generation: u64) {
        if let Some(slot) = self.known.credentials.get(resign.credential) {
            slot.doubt(generation);
        }
    }
}

/// How long an answer speaks for the credentials it was given to.
const PROVED_FOR: Duration = Duration::from_secs(60);

/// Buckets whose region was learned.
const MOVED_MAX: usize = 64;

#[cfg(test)]
mod identity_tests;
