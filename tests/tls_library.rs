//! The tests of `tests/tls` that hold whoever protects the records of TLS 1.3, with rustls doing it.

#[path = "tls/clients.rs"]
mod clients;
#[path = "tls/config.rs"]
mod config;
#[path = "tls/endings.rs"]
mod endings;
#[path = "tls/ends.rs"]
mod ends;
#[path = "tls/memory.rs"]
mod memory;
#[path = "tls/pki.rs"]
mod pki;
#[path = "tls/secure.rs"]
mod secure;
#[path = "tls/session.rs"]
mod session;

/// Who protects TLS 1.3 records in these tests.
const RECORDS: filmgate::tls::config::Records = filmgate::tls::config::Records::Library;
