//! Presigned links.
