//! Signing.

pub mod presign;
