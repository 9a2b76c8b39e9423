//! PEM files into rustls configurations.
