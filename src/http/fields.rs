//! HTTP fields.
