//! TLS from PEM files to a link, against itself and against rustls' buffered API as an independent peer. TLS 1.3 records
//! are ours; `tests/tls_library.rs` asks the same of rustls.

mod clients;
mod config;
mod endings;
mod ends;
#[path = "../fuzz/bodies/forge.rs"]
mod forge;
mod kernel;
mod memory;
mod pki;
mod records;
mod runs;
mod secure;
mod session;
mod worn;

/// Who protects TLS 1.3 records in these tests.
const RECORDS: filmgate::tls::config::Records = filmgate::tls::config::Records::Own;
