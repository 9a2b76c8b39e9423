//! One TLS session.
