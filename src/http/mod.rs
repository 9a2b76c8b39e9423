//! HTTP/1.1 (RFC 9112), sans-IO.

pub mod body;
pub mod encode;
pub mod fields;
pub mod framing;
pub mod head;
