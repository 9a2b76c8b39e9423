//! Proxy relay.
