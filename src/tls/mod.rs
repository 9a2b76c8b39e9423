//! TLS as bytes in, bytes out.

pub mod config;
pub mod error;
mod hello;
pub mod session;

pub use error::TlsError;
