//! The ring and the sockets.

pub mod dial;
pub mod inherit;
pub mod kernel;
pub mod listen;
pub mod resolve;
pub mod runtime;
mod sys;
pub mod uring;
