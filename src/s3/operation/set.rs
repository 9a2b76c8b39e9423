//! Sets of operations, the groups rules may speak of, and what of a bucket an operation reaches.

use std::fmt;

/// A handful of operations under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Looking at one object.
    Read,
    /// Making or changing one object, multipart uploads included.
    Write,
    /// Removing objects.
    Delete,
    /// Finding out what is in a bucket.
    List,
    /// Multipart uploads, and looking at unfinished ones.
    Multipart,
}

impl Group {
    /// Every group.
    pub const ALL: &[Self] = &[Self::Read, Self::Write, Self::Delete, Self::List, Self::Multipart];

    /// As it is written in a rule.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Multipart => "multipart",
        }
    }

    /// The group a rule calls `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|group| group.name() == name)
    }

    /// What is in it. What changes a bucket or tells its configuration is in no group, and has to be named itself.
    #[must_use]
    pub fn operations(self) -> Operations {
        match self {
            Self::Read => Operations::of(READ),
            Self::Write => Operations::of(WRITE).and(Operations::of(MULTIPART_WRITE)),
            Self::Delete => Operations::of(DELETE),
            Self::List => Operations::of(LIST),
            Self::Multipart => Operations::of(MULTIPART_WRITE).and(Operations::of(MULTIPART_READ)),
        }
    }
}

const READ: &[&str] = &[
    "GetObject",
    "HeadObject",
    "GetObjectAttributes",
    "GetObjectAcl",
    "GetObjectTagging",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTorrent",
    "SelectObjectContent",
];

const WRITE: &[&str] = &[
    "PutObject",
    "CopyObject",
    "PostObject",
    "PutObjectAcl",
    "PutObjectTagging",
    "DeleteObjectTagging",
    "PutObjectLegalHold",
    "PutObjectRetention",
    "RestoreObject",
];

const MULTIPART_WRITE: &[&str] =
    &["CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload"];

const MULTIPART_READ: &[&str] = &["ListParts", "ListMultipartUploads"];

const DELETE: &[&str] = &["DeleteObject", "DeleteObjects"];

const LIST: &[&str] = &["ListObjects", "ListObjectsV2", "ListObjectVersions", "HeadBucket", "GetBucketLocation"];

/// What of a bucket an operation touches or tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One object.
    Object,
    /// Every object whose key begins as asked for.
    Prefix,
    /// All of the bucket.
    Bucket,
    /// That there is such a bucket, and nothing in it.
    Name,
}

/// What `operation` reaches. An operation nobody knows reaches everything.
#[must_use]
pub fn reach(operation: &str) -> Reach {
    match operation {
        "HeadBucket" | "GetBucketLocation" | "ListBuckets" => Reach::Name,
        "ListObjects" | "ListObjectsV2" | "ListObjectVersions" | "ListMultipartUploads" => Reach::Prefix,
        "CopyObject" | "UploadPartCopy" | "PostObject" | "DeleteObjects" | "CorsPreflight" => Reach::Object,
        _ if super::OBJECT.iter().any(|row| row.1 == operation) => Reach::Object,
        _ if super::OBJECT_PARTS.iter().any(|row| row.2 == operation) => Reach::Object,
        _ => Reach::Bucket,
    }
}

/// A set of operations.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Operations(u128);

impl Operations {
    /// None.
    pub const NONE: Self = Self(0);

    /// Every operation there is a name for.
    #[must_use]
    pub fn all() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// The operation called `name`, if there is one.
    #[must_use]
    pub fn one(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(|index| Self(1 << index))
    }

    fn of(names: &[&str]) -> Self {
        names.iter().filter_map(|name| Self::one(name)).fold(Self::NONE, Self::and)
    }

    /// This set and `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the operation called `name` is in it. None that has no name is.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        Self::one(name).is_some_and(|one| self.0 & one.0 != 0)
    }

    /// Whether the two share an operation.
    #[must_use]
    pub fn touches(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(index, _)| self.0 & (1 << index) != 0).map(|(_, name)| *name)
    }

    /// This set and every operation by which one of it could be had under another name: a copy makes an object as well as
    /// a PutObject does. What is forbidden is forbidden in all its forms.
    #[must_use]
    pub fn with_equals(self) -> Self {
        EQUALS.iter().filter(|(name, _)| self.has(name)).fold(self, |set, (_, equals)| set.and(Self::of(equals)))
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Operation, and others that do the same to the same objects (IAM has one action for most of these: `s3:PutObject`).
const EQUALS: &[(&str, &[&str])] = &[
    ("GetObject", &["HeadObject", "GetObjectAttributes", "GetObjectTorrent", "SelectObjectContent"]),
    (
        "PutObject",
        &[
            "CopyObject",
            "PostObject",
            "CreateMultipartUpload",
            "UploadPart",
            "UploadPartCopy",
            "CompleteMultipartUpload",
        ],
    ),
    ("CopyObject", &["UploadPartCopy"]),
    ("DeleteObject", &["DeleteObjects"]),
    ("ListObjects", &["ListObjectsV2", "ListObjectVersions"]),
    ("ListObjectsV2", &["ListObjects", "ListObjectVersions"]),
];

/// Every name of [`super::name`] but [`super::UNKNOWN`], the usual ones first: they are looked for one by one.
const NAMES: &[&str] = &[
    "GetObject",
    "HeadObject",
    "PutObject",
    "UploadPart",
    "ListObjectsV2",
    "CreateMultipartUpload",
    "CompleteMultipartUpload",
    "DeleteObject",
    "CopyObject",
    "UploadPartCopy",
    "ListBuckets",
    "CorsPreflight",
    "ListParts",
    "AbortMultipartUpload",
    "GetObjectAcl",
    "PutObjectAcl",
    "GetObjectAttributes",
    "GetObjectLegalHold",
    "PutObjectLegalHold",
    "GetObjectRetention",
    "PutObjectRetention",
    "GetObjectTagging",
    "PutObjectTagging",
    "DeleteObjectTagging",
    "GetObjectTorrent",
    "RenameObject",
    "RestoreObject",
    "SelectObjectContent",
    "ListObjects",
    "HeadBucket",
    "CreateBucket",
    "DeleteBucket",
    "PostObject",
    "ListObjectVersions",
    "ListMultipartUploads",
    "DeleteObjects",
    "GetBucketLocation",
    "GetBucketAccelerateConfiguration",
    "PutBucketAccelerateConfiguration",
    "GetBucketAcl",
    "PutBucketAcl",
    "GetBucketCors",
    "PutBucketCors",
    "DeleteBucketCors",
    "GetBucketEncryption",
    "PutBucketEncryption",
    "DeleteBucketEncryption",
    "GetBucketLifecycleConfiguration",
    "PutBucketLifecycleConfiguration",
    "DeleteBucketLifecycle",
    "GetBucketLogging",
    "PutBucketLogging",
    "GetBucketNotificationConfiguration",
    "PutBucketNotificationConfiguration",
    "GetObjectLockConfiguration",
    "PutObjectLockConfiguration",
    "GetBucketOwnershipControls",
    "PutBucketOwnershipControls",
    "DeleteBucketOwnershipControls",
    "GetBucketPolicy",
    "PutBucketPolicy",
    "DeleteBucketPolicy",
    "GetBucketPolicyStatus",
    "GetPublicAccessBlock",
    "PutPublicAccessBlock",
    "DeletePublicAccessBlock",
    "GetBucketReplication",
    "PutBucketReplication",
    "DeleteBucketReplication",
    "GetBucketRequestPayment",
    "PutBucketRequestPayment",
    "CreateSession",
    "GetBucketTagging",
    "PutBucketTagging",
    "DeleteBucketTagging",
    "GetBucketVersioning",
    "PutBucketVersioning",
    "GetBucketWebsite",
    "PutBucketWebsite",
    "DeleteBucketWebsite",
];

const _: () = assert!(NAMES.len() < 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_tables_is_in_the_set_of_all_and_once() {
        let tables =
            super::super::OBJECT.iter().chain(super::super::BUCKET).chain(super::super::SERVICE).map(|row| row.1);
        let parts = super::super::OBJECT_PARTS.iter().chain(super::super::BUCKET_PARTS).map(|row| row.2);
        for name in tables.chain(parts).chain(["CorsPreflight", "CopyObject", "UploadPartCopy"]) {
            assert_eq!(NAMES.iter().filter(|known| **known == name).count(), 1, "{name}");
            assert!(Operations::all().has(name), "{name}");
        }
        assert!(!Operations::all().has(super::super::UNKNOWN));
    }

    #[test]
    fn groups_and_equals_name_only_what_there_is() {
        let groups = [READ, WRITE, DELETE, LIST, MULTIPART_READ, MULTIPART_WRITE];
        let equals = EQUALS.iter().flat_map(|(name, equals)| equals.iter().chain([name]));
        for name in groups.into_iter().flatten().chain(equals) {
            assert!(Operations::one(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_operation_on_one_object_is_in_a_group() {
        let grouped = Group::ALL.iter().map(|group| group.operations()).fold(Operations::NONE, Operations::and);
        let lonely: Vec<_> = Operations::all().names().filter(|name| !grouped.has(name)).collect();
        for name in &lonely {
            assert!(reach(name) != Reach::Object || ["RenameObject", "CorsPreflight"].contains(name), "{name}");
        }
        for name in ["ListBuckets", "CreateBucket", "DeleteBucket", "PutBucketPolicy", "GetBucketAcl", "CorsPreflight"]
        {
            assert!(lonely.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_an_operation_reaches_is_known() {
        use Reach::{Bucket, Name, Object, Prefix};
        let table = [
            ("GetObject", Object),
            ("PutObjectAcl", Object),
            ("UploadPartCopy", Object),
            ("PostObject", Object),
            ("DeleteObjects", Object),
            ("ListObjectsV2", Prefix),
            ("ListMultipartUploads", Prefix),
            ("ListParts", Object),
            ("HeadBucket", Name),
            ("ListBuckets", Name),
            ("PutBucketPolicy", Bucket),
            ("DeleteBucket", Bucket),
            ("CreateBucket", Bucket),
            ("NoSuchThing", Bucket),
        ];
        for (name, expected) in table {
            assert_eq!(reach(name), expected, "{name}");
        }
    }

    #[test]
    fn a_set_with_equals_has_everything_that_does_the_same() {
        let puts = Operations::one("PutObject").unwrap().with_equals();
        for name in ["PutObject", "CopyObject", "PostObject", "CreateMultipartUpload", "UploadPart"] {
            assert!(puts.has(name), "{name}");
        }
        assert!(!puts.has("DeleteObject") && !puts.has("GetObject"));
        assert!(Operations::one("DeleteObject").unwrap().with_equals().has("DeleteObjects"));
        assert!(!Operations::one("DeleteObjects").unwrap().with_equals().has("DeleteObject"));
        assert_eq!(Operations::all().with_equals(), Operations::all());
    }
}
