//! Signature version 4: who has signed what, and signing with the gate's own credentials.

pub mod canonical;
pub mod checksum;
pub mod chunks;
pub mod claim;
pub mod credentials;
pub mod form;
pub mod key;
pub mod keyring;
pub mod keys;
mod own_fields;
pub mod payload;
pub mod presign;
pub mod request;
pub mod time;
pub mod verify;
