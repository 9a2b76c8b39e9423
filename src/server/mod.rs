//! The process.

pub mod admin;
pub mod logging;
pub mod signals;
