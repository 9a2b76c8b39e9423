//! Net runtime.
