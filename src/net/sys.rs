//! Net sys.
