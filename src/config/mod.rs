//! What was typed, turned into options.
//!
//! [`keys`] is the one table of everything that may be written; [`file`] reads a document against it and remembers
//! where each value stood; [`check`], `route`, `credential` and `value` turn values into the option structs of other modules and
//! gather every problem on the way; [`probe`] looks at the files those options name.

pub mod check;
pub mod cli;
mod client;
mod credential;
pub mod explain;
pub mod file;
pub mod keys;
pub mod presign;
pub mod probe;
mod route;
mod rules;
mod value;

use std::fmt;

/// Whether a gate can start with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Works, but is likely not what was meant.
    Warning,
    /// Refused.
    Error,
}

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops the gate.
    pub severity: Severity,
    /// Path of the key, such as `route[0].upstream.connect[1]`; empty for the document itself.
    pub key: String,
    /// Line in the file, from 1, where one is known.
    pub line: Option<usize>,
    /// Likely cause and fix, in one line.
    pub message: String,
}

/// `LINE: KEY: MESSAGE`, without what is not known; the caller puts the file's name in front.
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(out, "{line}: ")?;
        }
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        if self.severity == Severity::Warning {
            out.write_str("warning: ")?;
        }
        out.write_str(&self.message)
    }
}
