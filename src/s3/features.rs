//! The dangerous things a request may ask for besides its operation, each of which a rule has to name.
//!
//! This is a list of what is known. A field that S3 looks at (`x-amz-*`) and a parameter of the query are either known and
//! harmless, or one of the [features](Feature), or [not understood](Unknown): then nothing is signed.

mod known;

use std::fmt;

use crate::http::fields::Fields;
use crate::limits;

use known::{
    ANY_PARAMETERS, BUCKET_PARAMETERS, FIELDS, FORM_FIELDS, MAKING, NONE, OBJECT_PARAMETERS, OTHER_DIALECTS,
    SERVICE_PARAMETERS, SINGLE_FIELDS, VALUED_PARAMETERS,
};

use super::operation::{self, Level, Operations};
use super::query::{Kind, Pair};
use super::target::Target;

/// Something a rule has to name before a request may do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Feature {
    /// `x-amz-copy-source`: reads another object.
    Copy,
    /// `x-amz-acl`, `x-amz-grant-*`, `?acl`: gives others access.
    Acl,
    /// `x-amz-server-side-encryption*`: chooses keys.
    Encryption,
    /// `x-amz-tagging*`, `?tagging`: policies and lifecycles go by tags.
    Tagging,
    /// `?versionId`, `?versions`: what was overwritten or deleted.
    Versions,
    /// `x-amz-object-lock-*`, `?legal-hold`, `?retention`, `?object-lock`.
    ObjectLock,
    /// `x-amz-bypass-governance-retention`.
    BypassGovernance,
    /// `x-amz-storage-class`: costs, and archives.
    StorageClass,
    /// `x-amz-website-redirect-location`.
    Redirect,
    /// Making, removing and configuring buckets: `?policy`, `?lifecycle`, `?cors`.
    BucketConfig,
    /// `?restore`.
    Restore,
    /// `?select`.
    Select,
    /// `x-amz-request-payer`.
    RequestPayer,
    /// `?delete`: many keys in one request.
    BulkDelete,
    /// A form of a browser.
    PostForm,
    /// `response-*`: the client chooses fields of the response. In every presigned link of ShotGrid, and always allowed.
    ResponseOverride,
    /// `?torrent`.
    Torrent,
}

impl Feature {
    /// Every feature.
    pub const ALL: &[Self] = &[
        Self::Copy,
        Self::Acl,
        Self::Encryption,
        Self::Tagging,
        Self::Versions,
        Self::ObjectLock,
        Self::BypassGovernance,
        Self::StorageClass,
        Self::Redirect,
        Self::BucketConfig,
        Self::Restore,
        Self::Select,
        Self::RequestPayer,
        Self::BulkDelete,
        Self::PostForm,
        Self::ResponseOverride,
        Self::Torrent,
    ];

    /// As it is written in a rule.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Acl => "acl",
            Self::Encryption => "encryption",
            Self::Tagging => "tagging",
            Self::Versions => "versions",
            Self::ObjectLock => "object-lock",
            Self::BypassGovernance => "bypass-governance",
            Self::StorageClass => "storage-class",
            Self::Redirect => "redirect",
            Self::BucketConfig => "bucket-config",
            Self::Restore => "restore",
            Self::Select => "select",
            Self::RequestPayer => "request-payer",
            Self::BulkDelete => "bulk-delete",
            Self::PostForm => "post-form",
            Self::ResponseOverride => "response-override",
            Self::Torrent => "torrent",
        }
    }

    /// The feature a rule calls `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|feature| feature.name() == name)
    }
}

/// A set of features.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FeatureSet(u32);

impl FeatureSet {
    /// None.
    pub const NONE: Self = Self(0);

    /// One.
    #[must_use]
    pub const fn one(feature: Feature) -> Self {
        Self(1 << feature as u8)
    }

    /// This set and `feature`.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | Self::one(feature).0)
    }

    /// This set and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What of this set is not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether `feature` is in it.
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & Self::one(feature).0 != 0
    }

    /// Whether the two share a feature.
    #[must_use]
    pub const fn touches(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The operations by which one could have what `operation` does with these features: who makes an object and says who
    /// may read it has made the object and set its access.
    #[must_use]
    pub fn implied(self, operation: &str) -> Operations {
        let rows = MAKING.iter().filter(|(feature, ..)| self.has(*feature));
        let implied = rows.filter(|(_, making, _)| making.contains(&operation)).flat_map(|(.., implied)| *implied);
        implied.filter_map(|name| Operations::one(name)).fold(Operations::NONE, Operations::and)
    }

    /// What is in it.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.iter().copied().filter(move |feature| self.has(*feature))
    }
}

impl FromIterator<Feature> for FeatureSet {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        features.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Something in a request that is not understood, so that nobody can say what S3 would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The name of the field or parameter: printable, of bounded length, never its value.
    pub what: String,
    /// What about it.
    pub why: Why,
}

/// What about a field or parameter is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing is known of it, here or with this method.
    NotKnown,
    /// It is given twice, and which one counts is anybody's guess.
    Twice,
    /// It names an operation where another parameter already did.
    TwoOperations,
    /// It has no value. To some servers it is then not there, and the request another one.
    Empty,
    /// It means something only together with another one, which is not there.
    Alone,
}

impl Unknown {
    fn new(name: &[u8], why: Why) -> Self {
        let name = &name[..name.len().min(limits::FEATURE_NAME_BYTES_MAX)];
        Self { what: name.escape_ascii().to_string(), why }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::NotKnown => write!(f, "{} is not understood here", self.what),
            Why::Twice => write!(f, "{} is given twice", self.what),
            Why::TwoOperations => write!(f, "{} names a second operation", self.what),
            Why::Empty => write!(f, "{} without a value", self.what),
            Why::Alone => write!(f, "{} without what belongs to it", self.what),
        }
    }
}

/// The features of a request at `level`.
///
/// # Errors
/// The first thing that is not understood.
pub fn read(
    method: &[u8],
    level: Level,
    target: Target<'_>,
    fields: &Fields,
    block: &[u8],
) -> Result<FeatureSet, Unknown> {
    let mut set = of_query(method, level, target)?;
    let mut singles = SINGLE_FIELDS.iter().filter(|name| fields.count(block, name) > 1);
    if let Some(name) = singles.next() {
        return Err(Unknown::new(name.as_bytes(), Why::Twice));
    }
    for (name, value) in fields.extensions(block) {
        set = set.and(field(name, value)?);
    }
    Ok(match (level, method) {
        (Level::Bucket, b"PUT" | b"DELETE") => set.with(Feature::BucketConfig),
        (Level::Bucket, b"POST") if !set.has(Feature::BulkDelete) => set.with(Feature::PostForm),
        _ => set,
    })
}

/// The features of a browser's form with fields of these names.
///
/// # Errors
/// The first field that is not understood.
pub fn of_form<'n>(names: impl Iterator<Item = &'n [u8]>) -> Result<FeatureSet, Unknown> {
    let mut set = FeatureSet::one(Feature::PostForm);
    for name in names {
        let lower = name.to_ascii_lowercase();
        let known = FORM_FIELDS.iter().find(|(known, _)| known.as_bytes() == lower).map(|(_, set)| *set);
        set = set.and(match known {
            Some(known) => known,
            None if has_prefix(name, b"x-ignore-") => NONE,
            // A form brings its object with it.
            None if has_prefix(name, b"x-amz-copy-source") => return Err(Unknown::new(name, Why::NotKnown)),
            None if has_prefix(name, b"x-amz-") => field(name, b"")?,
            None => return Err(Unknown::new(name, Why::NotKnown)),
        });
    }
    Ok(set)
}

/// The features of a query.
fn of_query(method: &[u8], level: Level, target: Target<'_>) -> Result<FeatureSet, Unknown> {
    let mut set = FeatureSet::NONE;
    let mut chosen = false;
    let own = target.pairs().without_signature();
    for (index, pair) in own.clone().enumerate() {
        if index >= limits::QUERY_PAIRS_MAX {
            return Err(Unknown::new(&pair.decoded_name(), Why::NotKnown));
        }
        let name = pair.decoded_name();
        if pair.kind() == Kind::Field {
            set = set.and(signed_parameter(pair, &name)?);
            continue;
        }
        if own.clone().take(index).any(|earlier| earlier.decoded_name() == name) {
            return Err(Unknown::new(&name, Why::Twice));
        }
        if method == b"OPTIONS" {
            continue;
        }
        match operation::chooses(method, level, &name) {
            Some(true) if chosen => return Err(Unknown::new(&name, Why::TwoOperations)),
            Some(true) => chosen = true,
            Some(false) => return Err(Unknown::new(&name, Why::NotKnown)),
            None => {}
        }
        set = set.and(parameter(level, pair, &name).ok_or_else(|| Unknown::new(&name, Why::NotKnown))?);
        if is_valued(&name) && pair.decoded_value().iter().all(|byte| *byte <= b' ') {
            return Err(Unknown::new(&name, Why::Empty));
        }
    }
    if method == b"PUT" {
        check_part(target)?;
    }
    Ok(set)
}

/// Whether a parameter is nothing without a value: Ceph takes an empty `uploadId` for none, and deletes the object whose
/// upload S3 would have ended.
fn is_valued(name: &[u8]) -> bool {
    VALUED_PARAMETERS.iter().any(|known| known.as_bytes() == name)
}

/// Refuses half of what names a part: whether that uploads one or the object is for each server to say.
fn check_part(target: Target<'_>) -> Result<(), Unknown> {
    let has = |name| target.pairs().without_signature().any(|pair| pair.is(name));
    match (has("uploadId"), has("partNumber")) {
        (true, false) => Err(Unknown::new(b"uploadId", Why::Alone)),
        (false, true) => Err(Unknown::new(b"partNumber", Why::Alone)),
        _ => Ok(()),
    }
}

/// A parameter that S3 does not take for a field.
fn parameter(level: Level, pair: Pair<'_>, name: &[u8]) -> Option<FeatureSet> {
    let rows = match level {
        Level::Service => SERVICE_PARAMETERS,
        Level::Bucket => BUCKET_PARAMETERS,
        Level::Object => OBJECT_PARAMETERS,
    };
    let mut common = rows.iter().chain(ANY_PARAMETERS);
    if let Some((_, set)) = common.find(|(known, _)| known.as_bytes() == name) {
        let is_second_version = name == b"list-type" && pair.decoded_value().as_ref() != b"2";
        return (!is_second_version).then_some(*set);
    }
    // A session would hand the gate's own access to the client.
    let configures = level == Level::Bucket && name != b"session" && operation::chooses_any(level, name);
    configures.then_some(FeatureSet::one(Feature::BucketConfig))
}

/// A parameter that S3 takes for a field of that name, because presigned links carry fields in the query.
fn signed_parameter(pair: Pair<'_>, name: &[u8]) -> Result<FeatureSet, Unknown> {
    // What a copy reads is looked for among the fields, and there only.
    if has_prefix(name, b"x-amz-copy-source") {
        return Err(Unknown::new(name, Why::NotKnown));
    }
    field(name, &pair.decoded_value())
}

/// A field.
fn field(name: &[u8], value: &[u8]) -> Result<FeatureSet, Unknown> {
    if !matches!(name.first(), Some(b'x' | b'X')) {
        return Ok(FeatureSet::NONE);
    }
    // Some servers make no difference between _ and -.
    let folded = |at: usize| name.get(at).map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() });
    let begins = |prefix: &str| prefix.bytes().enumerate().all(|(at, byte)| folded(at) == Some(byte));
    if !begins("x-") {
        return Ok(FeatureSet::NONE);
    }
    if !begins("x-amz-") {
        let other = OTHER_DIALECTS.iter().any(|prefix| begins(prefix));
        return if other { Err(Unknown::new(name, Why::NotKnown)) } else { Ok(FeatureSet::NONE) };
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(b"x-amz-meta-") {
        return Ok(FeatureSet::NONE);
    }
    // The class an object has of which none is said.
    if lower == b"x-amz-storage-class" && value == b"STANDARD" {
        return Ok(FeatureSet::NONE);
    }
    let row = FIELDS.iter().find(|(known, _)| match known.strip_suffix('*') {
        Some(prefix) => lower.starts_with(prefix.as_bytes()),
        None => lower == known.as_bytes(),
    });
    match row {
        Some((_, set)) if !lower.contains(&b'_') => Ok(*set),
        _ => Err(Unknown::new(name, Why::NotKnown)),
    }
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
