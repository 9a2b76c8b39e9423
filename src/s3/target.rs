//! S3 target.
