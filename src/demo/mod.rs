//! filmgate demo.
