//! S3 operation.
