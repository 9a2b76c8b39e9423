//! Signature version 4: making links, and finding out whether what came was signed.

pub mod canonical;
pub mod claim;
pub mod form;
pub mod key;
#[cfg(feature = "demo")]
pub mod presign;
pub mod time;
pub mod verify;
