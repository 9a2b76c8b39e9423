//! S3 error.
