//! What is known of fields and parameters: harmless, or the features they ask for.

use super::{Feature, FeatureSet};

pub(super) const NONE: FeatureSet = FeatureSet::NONE;
pub(super) const COPY: FeatureSet = FeatureSet::one(Feature::Copy);
pub(super) const ACL: FeatureSet = FeatureSet::one(Feature::Acl);
pub(super) const ENCRYPTION: FeatureSet = FeatureSet::one(Feature::Encryption);
pub(super) const TAGGING: FeatureSet = FeatureSet::one(Feature::Tagging);
pub(super) const VERSIONS: FeatureSet = FeatureSet::one(Feature::Versions);
pub(super) const OBJECT_LOCK: FeatureSet = FeatureSet::one(Feature::ObjectLock);
pub(super) const BUCKET_CONFIG: FeatureSet = FeatureSet::one(Feature::BucketConfig);
pub(super) const OVERRIDE: FeatureSet = FeatureSet::one(Feature::ResponseOverride);

/// Fields in lower case, `*` for any end, the first row that fits.
pub(super) const FIELDS: &[(&str, FeatureSet)] = &[
    ("x-amz-content-sha256", NONE),
    ("x-amz-date", NONE),
    ("x-amz-security-token", NONE),
    ("x-amz-checksum-*", NONE),
    ("x-amz-sdk-checksum-algorithm", NONE),
    ("x-amz-decoded-content-length", NONE),
    ("x-amz-trailer", NONE),
    ("x-amz-user-agent", NONE),
    ("x-amz-expected-bucket-owner", NONE),
    ("x-amz-optional-object-attributes", NONE),
    ("x-amz-object-attributes", NONE),
    ("x-amz-max-parts", NONE),
    ("x-amz-part-number-marker", NONE),
    ("x-amz-mp-object-size", NONE),
    ("x-amz-if-match-last-modified-time", NONE),
    ("x-amz-if-match-size", NONE),
    ("x-amz-copy-source-server-side-encryption-customer-*", COPY.and(ENCRYPTION)),
    ("x-amz-copy-source-if-*", COPY),
    ("x-amz-copy-source-range", COPY),
    ("x-amz-copy-source", COPY),
    ("x-amz-source-expected-bucket-owner", COPY),
    ("x-amz-metadata-directive", COPY),
    ("x-amz-tagging-directive", COPY.and(TAGGING)),
    ("x-amz-tagging", TAGGING),
    ("x-amz-acl", ACL),
    ("x-amz-grant-*", ACL),
    ("x-amz-server-side-encryption*", ENCRYPTION),
    ("x-amz-object-lock-*", OBJECT_LOCK),
    ("x-amz-bucket-object-lock-enabled", OBJECT_LOCK),
    ("x-amz-bucket-object-lock-token", OBJECT_LOCK),
    ("x-amz-bypass-governance-retention", FeatureSet::one(Feature::BypassGovernance)),
    ("x-amz-storage-class", FeatureSet::one(Feature::StorageClass)),
    ("x-amz-website-redirect-location", FeatureSet::one(Feature::Redirect)),
    ("x-amz-request-payer", FeatureSet::one(Feature::RequestPayer)),
    ("x-amz-mfa", VERSIONS),
    ("x-amz-object-ownership", BUCKET_CONFIG),
    ("x-amz-confirm-remove-self-bucket-access", BUCKET_CONFIG),
    ("x-amz-skip-destination-validation", BUCKET_CONFIG),
    ("x-amz-transition-default-minimum-object-size", BUCKET_CONFIG),
];

/// Fields that may be given once.
pub(super) const SINGLE_FIELDS: &[&str] = &["x-amz-copy-source"];

/// What other stores than S3 call their fields, and fields that would change the method: stores that understand more than
/// one dialect would act on them.
pub(super) const OTHER_DIALECTS: &[&str] = &[
    "x-minio-",
    "x-rgw-",
    "x-goog-",
    "x-oss-",
    "x-obs-",
    "x-cos-",
    "x-emc-",
    "x-ms-",
    "x-object-",
    "x-container-",
    "x-copy-from",
    "x-http-method",
    "x-method-override",
];

/// `x-id` is how SDKs repeat the operation's name; S3 ignores it.
pub(super) const ANY_PARAMETERS: &[(&str, FeatureSet)] = &[("x-id", NONE), ("encoding-type", NONE)];

pub(super) const SERVICE_PARAMETERS: &[(&str, FeatureSet)] =
    &[("max-buckets", NONE), ("continuation-token", NONE), ("prefix", NONE), ("bucket-region", NONE)];

pub(super) const BUCKET_PARAMETERS: &[(&str, FeatureSet)] = &[
    ("list-type", NONE),
    ("location", NONE),
    ("uploads", NONE),
    ("prefix", NONE),
    ("delimiter", NONE),
    ("marker", NONE),
    ("max-keys", NONE),
    ("start-after", NONE),
    ("continuation-token", NONE),
    ("fetch-owner", NONE),
    ("key-marker", NONE),
    ("upload-id-marker", NONE),
    ("max-uploads", NONE),
    ("versions", VERSIONS),
    ("version-id-marker", VERSIONS),
    ("delete", FeatureSet::one(Feature::BulkDelete)),
    ("acl", ACL.and(BUCKET_CONFIG)),
    ("object-lock", OBJECT_LOCK.and(BUCKET_CONFIG)),
    ("tagging", TAGGING.and(BUCKET_CONFIG)),
];

pub(super) const OBJECT_PARAMETERS: &[(&str, FeatureSet)] = &[
    ("partNumber", NONE),
    ("uploadId", NONE),
    ("uploads", NONE),
    ("attributes", NONE),
    ("max-parts", NONE),
    ("part-number-marker", NONE),
    ("response-cache-control", OVERRIDE),
    ("response-content-disposition", OVERRIDE),
    ("response-content-encoding", OVERRIDE),
    ("response-content-language", OVERRIDE),
    ("response-content-type", OVERRIDE),
    ("response-expires", OVERRIDE),
    ("versionId", VERSIONS),
    ("acl", ACL),
    ("tagging", TAGGING),
    ("legal-hold", OBJECT_LOCK),
    ("retention", OBJECT_LOCK),
    ("restore", FeatureSet::one(Feature::Restore)),
    ("select", FeatureSet::one(Feature::Select)),
    ("select-type", FeatureSet::one(Feature::Select)),
    ("torrent", FeatureSet::one(Feature::Torrent)),
];

/// Fields of a form that are no `x-amz-` ones, and those that sign it ("POST Object").
pub(super) const FORM_FIELDS: &[(&str, FeatureSet)] = &[
    ("key", NONE),
    ("bucket", NONE),
    ("policy", NONE),
    ("file", NONE),
    ("content-type", NONE),
    ("content-disposition", NONE),
    ("content-encoding", NONE),
    ("cache-control", NONE),
    ("expires", NONE),
    ("success_action_redirect", NONE),
    ("success_action_status", NONE),
    ("redirect", NONE),
    ("submit", NONE),
    ("x-amz-algorithm", NONE),
    ("x-amz-credential", NONE),
    ("x-amz-signature", NONE),
    ("acl", ACL),
    ("tagging", TAGGING),
];

/// Parameters that need a value.
pub(super) const VALUED_PARAMETERS: &[&str] = &["uploadId", "partNumber", "versionId"];

/// Operations that make an object.
const MAKING_OBJECTS: &[&str] = &[
    "PutObject",
    "CopyObject",
    "PostObject",
    "CreateMultipartUpload",
    "UploadPart",
    "UploadPartCopy",
    "CompleteMultipartUpload",
];

const MAKING_BUCKETS: &[&str] = &["CreateBucket"];

/// What one of these features, with one of these operations, does as well. IAM asks for these actions besides s3:PutObject
/// and s3:CreateBucket.
pub(super) const MAKING: &[(Feature, &[&str], &[&str])] = &[
    (Feature::Acl, MAKING_OBJECTS, &["PutObjectAcl"]),
    (Feature::Tagging, MAKING_OBJECTS, &["PutObjectTagging"]),
    (Feature::ObjectLock, MAKING_OBJECTS, &["PutObjectRetention", "PutObjectLegalHold"]),
    (Feature::Acl, MAKING_BUCKETS, &["PutBucketAcl"]),
    (Feature::ObjectLock, MAKING_BUCKETS, &["PutObjectLockConfiguration"]),
];
