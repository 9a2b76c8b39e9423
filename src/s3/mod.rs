//! What the bytes mean to S3.

pub mod chunks;
pub mod error;
pub mod escape;
pub mod operation;
pub mod target;
