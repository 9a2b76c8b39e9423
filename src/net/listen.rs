//! Net listen.
