//! TLS as bytes in, bytes out.

pub mod config;
pub mod error;
pub mod session;

pub use error::TlsError;
