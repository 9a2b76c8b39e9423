//! What was typed, turned into options.

pub mod check;
pub mod cli;
pub mod file;
