//! What the bytes mean to S3.

pub mod chunks;
pub mod delete;
pub mod error;
pub mod escape;
pub mod features;
pub mod form;
pub mod operation;
pub mod query;
pub mod restore;
pub mod target;
mod xml;
