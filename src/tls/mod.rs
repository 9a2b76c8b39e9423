//! TLS as bytes in, bytes out.

pub mod config;
pub mod session;
