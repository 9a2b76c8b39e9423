//! What a route's rules say of one thing that somebody asks for.
//!
//! Nothing is allowed that no rule allows, and what a rule denies is denied whatever another allows. So the order of rules
//! means nothing, and one more rule that denies never gives access.

use std::borrow::Cow;
use std::fmt;

use super::identity::ClientId;
use crate::s3::features::{Feature, FeatureSet};
use crate::s3::operation::{Operations, Reach, reach};

/// One thing that a request asks for. A request may ask for several: a copy reads one object and writes another.
#[derive(Clone, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The operation's name in the S3 API.
    pub operation: &'static str,
    /// The decoded key; for listings the decoded prefix asked for; else empty.
    pub key: Cow<'a, [u8]>,
    /// What has to be named besides.
    pub features: FeatureSet,
}

impl fmt::Debug for Demand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.operation, self.key.escape_ascii().to_string(), self.features)
    }
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody. A rule that allows means by it everybody with a key of their own.
    All,
    /// These.
    Named(Vec<ClientId>),
}

/// One rule. Whether it allows or denies is a matter of the list it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is about.
    pub who: Who,
    /// What they may or may not do.
    pub operations: Operations,
    /// Those of the operations that were written by their own names, not by a group's.
    pub named: Operations,
    /// Beginnings of keys it is about.
    pub prefixes: Vec<Vec<u8>>,
    /// A rule that allows allows these, together or not; one that denies is about requests with any of these, or about
    /// all requests if it is `None`.
    pub features: Option<FeatureSet>,
}

/// The rules of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes: this rule, of those that allow, says so, and none denies.
    Allowed {
        /// Index among the rules that allow.
        rule: usize,
    },
    /// No: this rule says so.
    Denied {
        /// Index among the rules that deny.
        rule: usize,
    },
    /// No rule allows it.
    NotAllowed,
}

/// What keeps a rule from allowing a demand, the first thing that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It is about others.
    Client,
    /// It does not name the operation.
    Operation,
    /// It does, but a client without key may not do it at all, or only where it is named itself.
    Unsigned,
    /// It is about other keys.
    Prefix,
    /// It does not name these.
    Features(FeatureSet),
}

impl Rules {
    /// The rules that allow, and those that deny.
    #[must_use]
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        let widen = |rule: Rule| Rule { operations: rule.operations.with_equals(), ..rule };
        Self { allow, deny: deny.into_iter().map(widen).collect() }
    }

    /// What the rules say of `demand` by `client`, who has a key of their own or not.
    #[must_use]
    pub fn decide(&self, client: ClientId, is_keyed: bool, demand: &Demand<'_>) -> Verdict {
        if let Some(rule) = self.deny.iter().position(|rule| rule.denies(client, demand)) {
            return Verdict::Denied { rule };
        }
        let allows = |rule: &Rule| rule.misses(client, is_keyed, demand).is_none();
        self.allow.iter().position(allows).map_or(Verdict::NotAllowed, |rule| Verdict::Allowed { rule })
    }

    /// Whether what the rules say of a DeleteObjects with these features (without those of single keys) depends on the
    /// keys in its body. If not, it is denied or not allowed whatever they are.
    #[must_use]
    pub fn needs_keys(&self, client: ClientId, is_keyed: bool, features: FeatureSet) -> bool {
        let any_key = |rule: &Rule| {
            let operation = "DeleteObjects";
            let prefix = rule.prefixes.first().map_or(&[][..], Vec::as_slice);
            let demand = Demand { operation, key: Cow::Borrowed(prefix), features };
            rule.misses(client, is_keyed, &demand).is_none()
        };
        let every_key = |rule: &Rule| {
            let demand = Demand { operation: "DeleteObjects", key: Cow::Borrowed(&[]), features };
            rule.prefixes.iter().any(Vec::is_empty) && rule.denies(client, &demand)
        };
        self.allow.iter().any(any_key) && !self.deny.iter().any(every_key)
    }

    /// What keeps each rule that allows from allowing `demand`, in order; `None` for one that does allow it.
    pub fn misses<'a>(
        &'a self,
        client: ClientId,
        is_keyed: bool,
        demand: &'a Demand<'_>,
    ) -> impl Iterator<Item = Option<Miss>> + 'a {
        self.allow.iter().map(move |rule| rule.misses(client, is_keyed, demand))
    }

    /// Whether some rule allows something to `client`.
    #[must_use]
    pub fn know(&self, client: ClientId, is_keyed: bool) -> bool {
        self.allow.iter().any(|rule| rule.is_for(client, is_keyed))
    }

    /// Number of rules that allow.
    #[must_use]
    pub fn allowing(&self) -> usize {
        self.allow.len()
    }
}

impl Rule {
    fn is_for(&self, client: ClientId, is_keyed: bool) -> bool {
        match &self.who {
            Who::All => is_keyed,
            Who::Named(clients) => clients.contains(&client),
        }
    }

    fn misses(&self, client: ClientId, is_keyed: bool, demand: &Demand<'_>) -> Option<Miss> {
        if !self.is_for(client, is_keyed) {
            return Some(Miss::Client);
        }
        if !self.operations.has(demand.operation) {
            return Some(Miss::Operation);
        }
        let may_unsigned = UNSIGNED.contains(&demand.operation)
            || (UNSIGNED_NAMED.contains(&demand.operation) && self.named.has(demand.operation));
        if !(is_keyed || may_unsigned) {
            return Some(Miss::Unsigned);
        }
        if !self.allows_key(demand) {
            return Some(Miss::Prefix);
        }
        let missing = demand.features.without(self.features.unwrap_or_default()).without(HARMLESS);
        (!missing.is_empty()).then_some(Miss::Features(missing))
    }

    /// What is asked for must lie below a prefix, whole.
    fn allows_key(&self, demand: &Demand<'_>) -> bool {
        let mut prefixes = self.prefixes.iter();
        match reach(demand.operation) {
            Reach::Name => true,
            Reach::Object | Reach::Prefix => prefixes.any(|prefix| demand.key.starts_with(prefix)),
            Reach::Bucket => prefixes.any(Vec::is_empty),
        }
    }

    fn denies(&self, client: ClientId, demand: &Demand<'_>) -> bool {
        let is_for = match &self.who {
            Who::All => true,
            Who::Named(clients) => clients.contains(&client),
        };
        is_for
            && (self.operations.has(demand.operation)
                || self.operations.touches(demand.features.implied(demand.operation)))
            && self.features.is_none_or(|features| features.touches(demand.features))
            && self.denies_key(demand)
    }

    /// What is asked for must not touch a prefix, in no part. Some servers take many slashes for one, and none for those
    /// in front; so do rules that deny.
    fn denies_key(&self, demand: &Demand<'_>) -> bool {
        let key = demand.key.as_ref();
        let plain = with_single_slashes(key);
        let mut prefixes = self.prefixes.iter();
        match reach(demand.operation) {
            Reach::Name => prefixes.any(Vec::is_empty),
            Reach::Object => prefixes.any(|prefix| {
                key.starts_with(prefix) || plain.as_ref().is_some_and(|plain| plain.starts_with(&slashed(prefix)))
            }),
            Reach::Prefix => prefixes.any(|prefix| {
                let touches = |key: &[u8], prefix: &[u8]| key.starts_with(prefix) || prefix.starts_with(key);
                touches(key, prefix) || plain.as_ref().is_some_and(|plain| touches(plain, &slashed(prefix)))
            }),
            Reach::Bucket => !self.prefixes.is_empty(),
        }
    }
}

fn slashed(prefix: &[u8]) -> Cow<'_, [u8]> {
    with_single_slashes(prefix).map_or(Cow::Borrowed(prefix), Cow::Owned)
}

/// `//a//b` as `a/b`; `None` for what is so already.
fn with_single_slashes(key: &[u8]) -> Option<Vec<u8>> {
    if key.first() != Some(&b'/') && !key.windows(2).any(|pair| pair == b"//") {
        return None;
    }
    let mut plain = Vec::with_capacity(key.len());
    for &byte in key {
        if byte != b'/' || plain.last().is_some_and(|last| *last != b'/') {
            plain.push(byte);
        }
    }
    Some(plain)
}

/// What nobody has to name: it changes what the one who asked gets to see, and nothing else.
const HARMLESS: FeatureSet = FeatureSet::one(Feature::ResponseOverride);

/// What a client without key may do where a rule allows it.
const UNSIGNED: &[&str] = &["GetObject", "HeadObject", "PutObject", "UploadPart"];

/// What a client without key may do where a rule names it.
const UNSIGNED_NAMED: &[&str] =
    &["CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload", "ListParts"];
