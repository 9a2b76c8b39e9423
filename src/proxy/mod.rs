//! The line.

pub mod connection;
pub mod exchange;
pub mod failure;
pub mod relay;
pub mod secure;
pub mod upstream;
