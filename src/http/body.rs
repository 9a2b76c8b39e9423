//! HTTP body.
