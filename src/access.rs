//! The access record.
