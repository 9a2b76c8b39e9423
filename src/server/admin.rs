//! Server admin.
