//! Signing. The only user of aws-sigv4.

pub mod presign;
