//! The name AWS gives to a request ("Amazon S3 API Reference", Actions), from its method and target: for the log, and for
//! rules, which speak of these names.

use super::target::Target;

mod set;

pub use set::{Group, Operations, Reach, reach};

/// The name for a request no row knows.
pub const UNKNOWN: &str = "Unknown";

/// The operation's name as in the S3 API reference; `CorsPreflight` for any `OPTIONS`, [`UNKNOWN`] for the rest.
///
/// Copies look like their plain counterparts here, the difference being a field: see [`copying`].
#[must_use]
pub fn name(method: &[u8], target: Target<'_>) -> &'static str {
    at(method, if target.is_bucket() { Level::Bucket } else { Level::Object }, target)
}

/// What a request is about. Whether the bucket stands in the host or in the path, only a route knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All buckets.
    Service,
    /// One bucket.
    Bucket,
    /// One object.
    Object,
}

/// Like [`name`], for a target whose path has been looked at by somebody else.
#[must_use]
pub fn at(method: &[u8], level: Level, target: Target<'_>) -> &'static str {
    if method == b"OPTIONS" {
        return "CorsPreflight";
    }
    let (plain, subresources) = rows(level);
    for pair in target.pairs().without_signature() {
        let name = pair.decoded_name();
        let mut rows = subresources.iter();
        if let Some(row) = rows.find(|row| *name == *row.1.as_bytes() && row.0.as_bytes() == method) {
            return row.2;
        }
    }
    plain.iter().find(|row| row.0.as_bytes() == method).map_or(UNKNOWN, |row| row.1)
}

/// Whether a parameter of this decoded name chooses the operation: `Some(false)` when it does so for other methods only.
pub(super) fn chooses(method: &[u8], level: Level, name: &[u8]) -> Option<bool> {
    let mut named = rows(level).1.iter().filter(|row| name == row.1.as_bytes()).peekable();
    named.peek()?;
    Some(named.any(|row| row.0.as_bytes() == method))
}

/// Whether a parameter of this name chooses the operation, for some method.
pub(super) fn chooses_any(level: Level, name: &[u8]) -> bool {
    rows(level).1.iter().any(|row| name == row.1.as_bytes())
}

fn rows(level: Level) -> (Plain, Parts) {
    match level {
        Level::Service => (SERVICE, &[]),
        Level::Bucket => (BUCKET, BUCKET_PARTS),
        Level::Object => (OBJECT, OBJECT_PARTS),
    }
}

/// The name once the request is known to carry `x-amz-copy-source`.
#[must_use]
pub fn copying(name: &'static str) -> &'static str {
    match name {
        "PutObject" => "CopyObject",
        "UploadPart" => "UploadPartCopy",
        other => other,
    }
}

/// Method and name, without a sub-resource.
type Plain = &'static [(&'static str, &'static str)];
/// Method, parameter that names the sub-resource, and name.
type Parts = &'static [(&'static str, &'static str, &'static str)];

const SERVICE: Plain = &[("GET", "ListBuckets")];

const OBJECT: Plain = &[("GET", "GetObject"), ("HEAD", "HeadObject"), ("PUT", "PutObject"), ("DELETE", "DeleteObject")];

const OBJECT_PARTS: Parts = &[
    ("PUT", "uploadId", "UploadPart"),
    ("GET", "uploadId", "ListParts"),
    ("POST", "uploadId", "CompleteMultipartUpload"),
    ("DELETE", "uploadId", "AbortMultipartUpload"),
    ("POST", "uploads", "CreateMultipartUpload"),
    ("GET", "acl", "GetObjectAcl"),
    ("PUT", "acl", "PutObjectAcl"),
    ("GET", "attributes", "GetObjectAttributes"),
    ("GET", "legal-hold", "GetObjectLegalHold"),
    ("PUT", "legal-hold", "PutObjectLegalHold"),
    ("GET", "retention", "GetObjectRetention"),
    ("PUT", "retention", "PutObjectRetention"),
    ("GET", "tagging", "GetObjectTagging"),
    ("PUT", "tagging", "PutObjectTagging"),
    ("DELETE", "tagging", "DeleteObjectTagging"),
    ("GET", "torrent", "GetObjectTorrent"),
    ("PUT", "renameObject", "RenameObject"),
    ("POST", "restore", "RestoreObject"),
    ("POST", "select", "SelectObjectContent"),
];

const BUCKET: Plain = &[
    ("GET", "ListObjects"),
    ("HEAD", "HeadBucket"),
    ("PUT", "CreateBucket"),
    ("DELETE", "DeleteBucket"),
    ("POST", "PostObject"),
];

const BUCKET_PARTS: Parts = &[
    ("GET", "list-type", "ListObjectsV2"),
    ("GET", "versions", "ListObjectVersions"),
    ("GET", "uploads", "ListMultipartUploads"),
    ("POST", "delete", "DeleteObjects"),
    ("GET", "location", "GetBucketLocation"),
    ("GET", "accelerate", "GetBucketAccelerateConfiguration"),
    ("PUT", "accelerate", "PutBucketAccelerateConfiguration"),
    ("GET", "acl", "GetBucketAcl"),
    ("PUT", "acl", "PutBucketAcl"),
    ("GET", "cors", "GetBucketCors"),
    ("PUT", "cors", "PutBucketCors"),
    ("DELETE", "cors", "DeleteBucketCors"),
    ("GET", "encryption", "GetBucketEncryption"),
    ("PUT", "encryption", "PutBucketEncryption"),
    ("DELETE", "encryption", "DeleteBucketEncryption"),
    ("GET", "lifecycle", "GetBucketLifecycleConfiguration"),
    ("PUT", "lifecycle", "PutBucketLifecycleConfiguration"),
    ("DELETE", "lifecycle", "DeleteBucketLifecycle"),
    ("GET", "logging", "GetBucketLogging"),
    ("PUT", "logging", "PutBucketLogging"),
    ("GET", "notification", "GetBucketNotificationConfiguration"),
    ("PUT", "notification", "PutBucketNotificationConfiguration"),
    ("GET", "object-lock", "GetObjectLockConfiguration"),
    ("PUT", "object-lock", "PutObjectLockConfiguration"),
    ("GET", "ownershipControls", "GetBucketOwnershipControls"),
    ("PUT", "ownershipControls", "PutBucketOwnershipControls"),
    ("DELETE", "ownershipControls", "DeleteBucketOwnershipControls"),
    ("GET", "policy", "GetBucketPolicy"),
    ("PUT", "policy", "PutBucketPolicy"),
    ("DELETE", "policy", "DeleteBucketPolicy"),
    ("GET", "policyStatus", "GetBucketPolicyStatus"),
    ("GET", "publicAccessBlock", "GetPublicAccessBlock"),
    ("PUT", "publicAccessBlock", "PutPublicAccessBlock"),
    ("DELETE", "publicAccessBlock", "DeletePublicAccessBlock"),
    ("GET", "replication", "GetBucketReplication"),
    ("PUT", "replication", "PutBucketReplication"),
    ("DELETE", "replication", "DeleteBucketReplication"),
    ("GET", "requestPayment", "GetBucketRequestPayment"),
    ("PUT", "requestPayment", "PutBucketRequestPayment"),
    ("GET", "session", "CreateSession"),
    ("GET", "tagging", "GetBucketTagging"),
    ("PUT", "tagging", "PutBucketTagging"),
    ("DELETE", "tagging", "DeleteBucketTagging"),
    ("GET", "versioning", "GetBucketVersioning"),
    ("PUT", "versioning", "PutBucketVersioning"),
    ("GET", "website", "GetBucketWebsite"),
    ("PUT", "website", "PutBucketWebsite"),
    ("DELETE", "website", "DeleteBucketWebsite"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn named(method: &str, target: &str) -> &'static str {
        name(method.as_bytes(), Target::parse(target.as_bytes()))
    }

    #[test]
    fn requests_have_the_names_of_the_s3_api() {
        let table = [
            ("GET", "/a/b.mov", "GetObject"),
            ("GET", "/a/b.mov?X-Amz-Signature=1&response-content-type=video%2Fmp4", "GetObject"),
            ("GET", "/a?partNumber=2&versionId=x", "GetObject"),
            ("HEAD", "/a?X-Amz-Algorithm=y", "HeadObject"),
            ("HEAD", "/a?partNumber=1", "HeadObject"),
            ("PUT", "/a", "PutObject"),
            ("PUT", "/a?x-id=PutObject", "PutObject"),
            ("PUT", "/a?partNumber=3&uploadId=abc&X-Amz-Signature=1", "UploadPart"),
            ("PUT", "/a?X-Amz-Signature=1&%75ploadId=abc", "UploadPart"),
            ("POST", "/a?uploads", "CreateMultipartUpload"),
            ("POST", "/a?uploads=", "CreateMultipartUpload"),
            ("POST", "/a?uploadId=abc", "CompleteMultipartUpload"),
            ("DELETE", "/a?uploadId=abc", "AbortMultipartUpload"),
            ("GET", "/a?uploadId=abc&max-parts=5", "ListParts"),
            ("DELETE", "/a?versionId=v", "DeleteObject"),
            ("GET", "/a?acl", "GetObjectAcl"),
            ("PUT", "/a?tagging", "PutObjectTagging"),
            ("POST", "/a?select&select-type=2", "SelectObjectContent"),
            ("POST", "/?delete", "DeleteObjects"),
            ("POST", "/", "PostObject"),
            ("GET", "/", "ListObjects"),
            ("GET", "/?list-type=2&prefix=a%2F", "ListObjectsV2"),
            ("GET", "?list-type=2", "ListObjectsV2"),
            ("GET", "/?versions", "ListObjectVersions"),
            ("GET", "/?uploads", "ListMultipartUploads"),
            ("GET", "/?acl", "GetBucketAcl"),
            ("PUT", "/?policy", "PutBucketPolicy"),
            ("HEAD", "/", "HeadBucket"),
            ("PUT", "/", "CreateBucket"),
            ("DELETE", "/", "DeleteBucket"),
            ("OPTIONS", "/a?X-Amz-Signature=1", "CorsPreflight"),
            ("OPTIONS", "*", "CorsPreflight"),
        ];
        for (method, target, expected) in table {
            assert_eq!(named(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn what_s3_does_not_know_is_unknown() {
        for (method, target) in [("PATCH", "/a"), ("get", "/a"), ("POST", "/a"), ("", "/"), ("TRACE", "/?acl")] {
            assert_eq!(named(method, target), UNKNOWN, "{method} {target}");
        }
    }

    #[test]
    fn copies_are_named_after_their_plain_counterparts() {
        assert_eq!(copying(named("PUT", "/a")), "CopyObject");
        assert_eq!(copying(named("PUT", "/a?uploadId=1&partNumber=1")), "UploadPartCopy");
        assert_eq!(copying(named("GET", "/a")), "GetObject");
    }

    #[test]
    fn no_row_is_shadowed_by_an_earlier_one() {
        for rows in [OBJECT_PARTS, BUCKET_PARTS] {
            for (index, row) in rows.iter().enumerate() {
                let first = rows.iter().position(|other| (other.0, other.1) == (row.0, row.1));
                assert_eq!(first, Some(index), "{row:?}");
            }
        }
    }
}
