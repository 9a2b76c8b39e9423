//! From a request to what it asks for, and from that to yes or no.
//!
//! ```text
//!   PUT /new  x-amz-copy-source: /bucket/old   ─►  GetObject old, CopyObject new  ─►  Authorized, or Refused and why
//! ```

use std::borrow::Cow;
use std::fmt;

use super::identity::ClientId;
use super::route::Bucket;
use super::rules::{Demand, Rules, Verdict};
use crate::limits;
use crate::s3::delete::Deletion;
use crate::s3::escape;
use crate::s3::features::{Feature, FeatureSet};
use crate::s3::operation::{Reach, reach};
use crate::s3::target::{self, Target};

/// A request as far as rules look at it.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The operation's name, copies by their own.
    pub operation: &'static str,
    /// The decoded key, empty for a bucket.
    pub key: &'a [u8],
    /// What [`features::read`](crate::s3::features::read) found.
    pub features: FeatureSet,
    /// For the prefix of listings.
    pub target: Target<'a>,
    /// The value of `x-amz-copy-source`.
    pub copy_source: Option<&'a [u8]>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The client.
    pub client: ClientId,
    /// Whether it signed with a key of its own.
    pub is_keyed: bool,
}

/// That somebody may do all that a request asks for. Only [`authorize`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorized {
    asker: Asker,
    rule: usize,
}

impl Authorized {
    /// Who.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.asker.client
    }

    /// The rule that allows the last of the demands, for the log.
    #[must_use]
    pub fn rule(&self) -> usize {
        self.rule
    }
}

/// Why a request is refused. Whoever asked is told no more than that it is: see [`Refused::message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A rule denies part of it.
    Denied {
        /// The operation.
        operation: &'static str,
        /// Index among the rules that deny.
        rule: usize,
    },
    /// No rule allows part of it.
    NotAllowed {
        /// The operation.
        operation: &'static str,
    },
    /// A key that servers understand differently: what is wrong with it.
    Key(&'static str),
    /// It asks for nothing, so nothing can be allowed.
    Nothing,
    /// It copies, but what, where from or with what operation is not clear: what is wrong.
    CopySource(&'static str),
}

impl Refused {
    /// For a log or a person who administers the gate.
    #[must_use]
    pub fn message(&self) -> impl fmt::Display + use<> {
        let refused = *self;
        fmt::from_fn(move |f| match refused {
            Self::Denied { operation, rule } => write!(f, "{operation} is denied by route.deny[{rule}]"),
            Self::NotAllowed { operation } => write!(f, "no rule allows {operation}"),
            Self::Key(wrong) | Self::CopySource(wrong) => f.write_str(wrong),
            Self::Nothing => f.write_str("the request asks for nothing"),
        })
    }
}

/// What `ask` asks for, on a route with `buckets`: one demand, or the source's and the destination's of a copy. Not for
/// DeleteObjects with its many keys (see [`deletions`]) nor PostObject, whose key is in its form (see [`post`]).
///
/// # Errors
/// A copy whose source is not one object of the route's buckets.
pub fn demands<'a>(ask: &Ask<'a>, buckets: &[Bucket]) -> Result<impl Iterator<Item = Demand<'a>> + use<'a>, Refused> {
    let copies = matches!(ask.operation, "CopyObject" | "UploadPartCopy");
    let source = match ask.copy_source {
        Some(source) if copies && !ask.key.is_empty() => Some(source_demand(source, ask.features, buckets)?),
        None if !copies && !ask.features.has(Feature::Copy) => None,
        _ => return Err(Refused::CopySource("only an object can be copied, by PUT, and from one source")),
    };
    let key = match reach(ask.operation) {
        Reach::Prefix => ask.target.param("prefix").unwrap_or_default(),
        _ => Cow::Borrowed(ask.key),
    };
    let own = Demand { operation: ask.operation, key, features: ask.features };
    Ok(source.into_iter().chain([own]))
}

/// One demand for each key of a DeleteObjects; `features` are those of the request without its body.
pub fn deletions<'a>(keys: &'a [Deletion], features: FeatureSet) -> impl Iterator<Item = Demand<'a>> {
    keys.iter().map(move |deletion| Demand {
        operation: "DeleteObjects",
        key: Cow::Borrowed(&deletion.key),
        features: if deletion.has_version { features.with(Feature::Versions) } else { features },
    })
}

/// The demand of a browser's form for `key`; `features` are those of its fields.
#[must_use]
pub fn post(key: &[u8], features: FeatureSet) -> Demand<'_> {
    Demand { operation: "PostObject", key: Cow::Borrowed(key), features: features.with(Feature::PostForm) }
}

/// Whether `asker` may do all that is demanded. Nothing demanded is nothing allowed.
///
/// # Errors
/// The first demand that is not.
pub fn authorize<'a>(
    rules: &Rules,
    asker: Asker,
    demands: impl IntoIterator<Item = Demand<'a>>,
) -> Result<Authorized, Refused> {
    let mut authorized = Err(Refused::Nothing);
    for demand in demands {
        let operation = demand.operation;
        match rules.decide(asker.client, asker.is_keyed, &demand) {
            Verdict::Allowed { rule } => {
                check_key(&demand)?;
                authorized = Ok(Authorized { asker, rule });
            }
            Verdict::Denied { rule } => return Err(Refused::Denied { operation, rule }),
            Verdict::NotAllowed => return Err(Refused::NotAllowed { operation }),
        }
    }
    authorized
}

/// Whether somebody who is one or more of `askers` may do all that is demanded: one of them is allowed to, and none is
/// denied it.
///
/// # Errors
/// A denial, if there is one, or else why the last of them may not.
pub fn authorize_any<'a, D: IntoIterator<Item = Demand<'a>>>(
    rules: &Rules,
    askers: &[Asker],
    demands: impl Fn() -> D,
) -> Result<Authorized, Refused> {
    for demand in demands() {
        for asker in askers {
            if let Verdict::Denied { rule } = rules.decide(asker.client, asker.is_keyed, &demand) {
                return Err(Refused::Denied { operation: demand.operation, rule });
            }
        }
    }
    let mut verdict = Err(Refused::Nothing);
    for asker in askers {
        verdict = authorize(rules, *asker, demands());
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

/// Refuses keys that not every server understands as S3 does: to many, `a/../b` is `b`.
fn check_key(demand: &Demand<'_>) -> Result<(), Refused> {
    let key = demand.key.as_ref();
    // The end of a prefix may be the beginning of a name with dots.
    let is_prefix = reach(demand.operation) == Reach::Prefix;
    let whole = if is_prefix && key.ends_with(b".") && !key.ends_with(b"..") { &key[..key.len() - 1] } else { key };
    if key.contains(&0) {
        return Err(Refused::Key("a key with a NUL is not served here"));
    }
    if target::has_dots(whole) {
        return Err(Refused::Key("a key with . or .. between its slashes is not served here"));
    }
    // To servers that take many slashes for one, and none for those in front, a key of slashes is none: the bucket.
    let is_nothing = key.iter().all(|byte| *byte == b'/');
    if is_nothing && reach(demand.operation) == Reach::Object && demand.operation != "CorsPreflight" {
        return Err(Refused::Key("there is no key, or none but slashes"));
    }
    if key.len() > limits::KEY_BYTES_MAX {
        return Err(Refused::Key("the key is longer than 1024 bytes"));
    }
    Ok(())
}

/// What a copy reads: `[/]BUCKET/KEY[?versionId=ID]`, escaped (Amazon S3 API Reference, CopyObject).
fn source_demand<'a>(source: &'a [u8], features: FeatureSet, buckets: &[Bucket]) -> Result<Demand<'a>, Refused> {
    let (path, query) = match source.iter().position(|byte| *byte == b'?') {
        Some(at) => (&source[..at], Some(&source[at + 1..])),
        None => (source, None),
    };
    if path.contains(&b'+') {
        return Err(Refused::CopySource("x-amz-copy-source has a +, which stands for + or for a space: escape it"));
    }
    let path = escape::decode(path);
    let start = usize::from(path.first() == Some(&b'/'));
    let slash = path.iter().skip(start).position(|byte| *byte == b'/').map(|at| start + at);
    let Some(slash) = slash else {
        return Err(Refused::CopySource("x-amz-copy-source is not BUCKET/KEY"));
    };
    if !buckets.iter().any(|bucket| bucket.name.as_bytes() == &path[start..slash]) {
        return Err(Refused::CopySource("x-amz-copy-source is in no bucket of this route"));
    }
    let key = match path {
        Cow::Borrowed(path) => Cow::Borrowed(&path[slash + 1..]),
        Cow::Owned(path) => Cow::Owned(path[slash + 1..].to_vec()),
    };
    let encryption =
        if features.has(Feature::Encryption) { FeatureSet::one(Feature::Encryption) } else { FeatureSet::NONE };
    let features = match query {
        None => encryption,
        Some(query) if is_version(query) => encryption.with(Feature::Versions),
        Some(_) => return Err(Refused::CopySource("x-amz-copy-source may end in ?versionId=ID and nothing else")),
    };
    Ok(Demand { operation: "GetObject", key, features })
}

fn is_version(query: &[u8]) -> bool {
    query.strip_prefix(b"versionId=").is_some_and(|id| !id.is_empty() && !id.contains(&b'&'))
}
