//! Server signals.
