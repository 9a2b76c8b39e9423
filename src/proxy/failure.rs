//! Proxy failure.
