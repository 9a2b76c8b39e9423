//! TLS as bytes in, bytes out.

mod authorities;
pub mod certificate;
pub mod config;
pub mod error;
mod hello;
mod library;
mod messages;
mod names;
mod pair;
mod record;
pub mod session;
mod traffic;

pub use error::TlsError;
