//! Signing keys that were derived, kept for as long as they are used.

use crate::sign::key::{Scope, SigningKey};

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A client, by its index.
    Client(usize),
    /// A credential, by its index, of a generation.
    Credential(usize, u64),
}

/// Keys that were derived. One is good for a day, a region and an owner.
#[derive(Default)]
pub struct Keys {
    known: Vec<Known>,
    /// Where the next one goes when there is no room.
    next: usize,
}

struct Known {
    owner: Owner,
    date: Box<[u8]>,
    region: Box<[u8]>,
    service: Box<[u8]>,
    key: SigningKey,
}

impl Keys {
    /// The key of `owner` for `scope`, derived by `derive` if it is not there.
    pub fn get(&mut self, owner: Owner, scope: Scope<'_>, derive: impl FnOnce() -> SigningKey) -> &SigningKey {
        let is_it = |known: &Known| {
            let Known { date, region, service, .. } = known;
            known.owner == owner && Scope { date, region, service } == scope
        };
        let at = match self.known.iter().position(is_it) {
            Some(at) => at,
            None => {
                let Scope { date, region, service } = scope;
                let (date, region, service) = (date.into(), region.into(), service.into());
                let known = Known { owner, date, region, service, key: derive() };
                if self.known.len() < KEYS_MAX {
                    self.known.push(known);
                    self.known.len() - 1
                } else {
                    self.next = (self.next + 1) % KEYS_MAX;
                    self.known[self.next] = known;
                    self.next
                }
            }
        };
        &self.known[at].key
    }
}

/// Keys a shard keeps. A gate has few credentials and a day at a time; a client's key is derived again in microseconds.
const KEYS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::key::Secret;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    #[test]
    fn a_key_is_derived_once_for_each_owner_and_scope_and_few_are_kept() {
        let mut keys = Keys::default();
        let derived = std::cell::Cell::new(0);
        let secret = Secret::new(SECRET.into());
        let mut ask = |owner, date: &[u8], region: &[u8]| {
            let scope = Scope { date, region, service: b"s3" };
            let key = keys.get(owner, scope, || {
                derived.set(derived.get() + 1);
                SigningKey::derive(&secret, scope)
            });
            assert!(key.sign(b"x").is(&SigningKey::derive(&secret, scope).sign(b"x")));
            derived.get()
        };
        assert_eq!(ask(Owner::Client(1), b"20130524", b"us-east-1"), 1);
        assert_eq!(ask(Owner::Client(1), b"20130524", b"us-east-1"), 1);
        assert_eq!(ask(Owner::Client(2), b"20130524", b"us-east-1"), 2);
        assert_eq!(ask(Owner::Client(1), b"20130525", b"us-east-1"), 3);
        assert_eq!(ask(Owner::Client(1), b"20130524", b"us-east-2"), 4);
        assert_eq!(ask(Owner::Credential(1, 1), b"20130524", b"us-east-1"), 5);
        assert_eq!(ask(Owner::Credential(1, 2), b"20130524", b"us-east-1"), 6);
        for number in 0..100 {
            ask(Owner::Client(10 + number), b"20130524", b"us-east-1");
        }
        assert_eq!(keys.known.len(), KEYS_MAX);
    }
}
