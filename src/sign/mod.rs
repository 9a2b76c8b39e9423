//! Signature version 4: making links, and finding out whether what came was signed.

pub mod canonical;
pub mod claim;
pub mod key;
pub mod keyring;
#[cfg(feature = "demo")]
pub mod presign;
pub mod request;
pub mod time;
pub mod verify;
