//! The gate's own identity: who asks, whether they may, and signing for them.
//!
//! A route that signs anew lends the studio's role to whoever it lets through, so nothing passes unless it was decided
//! here. [`Identity::ask`] finds out who asks and what for, [`Asked::decide`] asks the policy, and only what comes out
//! of that, an [`Admitted`], can be [written](Identity::write) for the storage.

mod ask;
pub mod form;
pub mod judge;
pub mod mask;
mod regions;
mod told;
pub mod veil;
mod write;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::policy::identity::Clients;
use crate::policy::route::{Bucket, ReSign, Route};
use crate::sign::canonical::Scratch;
use crate::sign::credentials::{Credentials, Slot};
use crate::sign::keyring::Keyring;
use crate::sign::keys::Keys;
use crate::sign::request::Composer;
use crate::sign::time::Stamp;

pub use ask::{Admitted, Asked, Needs};
pub use judge::Verdict;
use regions::Regions;
use told::Told;

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
    held: Vec<Option<Rc<Held>>>,
    regions: Regions,
    told: Told,
    /// Of the second in which something was signed last.
    stamp: Option<Stamp>,
    /// When the storage last took what was signed by each credential, and with which generation.
    proved: Vec<Option<(u64, Instant)>>,
}

/// A reference of the shard's own to credentials: taking one more writes nothing that other shards read.
struct Held(Arc<Credentials>);

/// What a head was signed with. What comes back is about this, whatever is good in the meantime.
#[derive(Clone)]
pub struct SignedWith {
    held: Rc<Held>,
    /// The region, where it is not that of the route.
    region: Option<Box<str>>,
    /// Whether the storage has named that region and not served anything from there yet.
    is_supposed: bool,
}

impl SignedWith {
    /// The credentials.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.held.0
    }

    /// The region.
    #[must_use]
    pub fn region<'r>(&'r self, route: &'r Route) -> &'r str {
        self.region.as_deref().unwrap_or(&route.region)
    }
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
        let regions = tools.regions.proved();
        Self { known, tools: RefCell::new(Tools { proved, regions, ..Tools::default() }) }
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

    /// Whether something was served from the region that was learned for a bucket.
    #[must_use]
    pub fn knows_region(&self, bucket: &Bucket) -> bool {
        self.tools.borrow().regions.knows(bucket)
    }

    /// Supposes that a bucket is where the storage says, until an answer from there [settles](Self::settle) it.
    pub fn suppose(&self, bucket: &Bucket, region: &str) {
        self.tools.borrow_mut().regions.suppose(bucket, region, clock::mono());
    }

    /// Notes whether the region that a request was signed for on supposition is right. Says whether it is known since then.
    pub fn settle(&self, bucket: &Bucket, with: &SignedWith, is_right: bool) -> bool {
        let region = with.region.as_deref().filter(|_| with.is_supposed);
        let regions = &mut self.tools.borrow_mut().regions;
        region.is_some_and(|region| regions.settle(bucket, region, is_right, clock::mono()))
    }

    /// Whether the log is to be told that the storage refused what was signed with the credentials of `resign`, with this
    /// code: if so, of how many like it since the last one it was not.
    #[must_use]
    pub fn tells(&self, resign: &ReSign, code: &str) -> Option<u64> {
        self.tools.borrow_mut().told.again(resign.credential, code, clock::mono())
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

#[cfg(test)]
mod identity_tests;
