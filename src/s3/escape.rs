//! S3 escape.
