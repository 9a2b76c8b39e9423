//! Config cli.
