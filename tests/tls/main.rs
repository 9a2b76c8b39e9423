//! TLS from PEM files to a link, against itself and against rustls' buffered API as an independent peer.

mod config;
mod endings;
mod ends;
mod memory;
mod pki;
mod secure;
mod session;
