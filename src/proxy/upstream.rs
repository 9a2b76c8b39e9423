//! Proxy upstream.
