//! Net dial.
