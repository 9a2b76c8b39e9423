//! Net resolve.
