//! HTTP encode.
