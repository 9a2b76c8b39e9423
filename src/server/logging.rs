//! Server logging.
