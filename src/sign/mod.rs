//! Signature version 4: making links, and finding out whether what came was signed.

pub mod canonical;
pub mod checksum;
pub mod chunks;
pub mod claim;
pub mod key;
pub mod payload;
#[cfg(feature = "demo")]
pub mod presign;
pub mod time;
pub mod verify;
