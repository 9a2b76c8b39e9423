//! TLS as bytes in, bytes out.

pub mod config;
pub mod error;
mod hello;
mod library;
mod record;
pub mod session;
mod traffic;

pub use error::TlsError;
