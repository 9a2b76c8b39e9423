//! HTTP head.
