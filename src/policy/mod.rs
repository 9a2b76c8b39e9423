//! Decisions.

pub mod authorize;
pub mod identity;
pub mod network;
pub mod route;
pub mod rules;
