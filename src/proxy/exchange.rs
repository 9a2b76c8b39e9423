//! Proxy exchange.
