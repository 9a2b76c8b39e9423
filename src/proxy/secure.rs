//! Proxy secure.
