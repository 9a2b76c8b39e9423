//! Proxy connection.
