//! Decisions.

pub mod route;
