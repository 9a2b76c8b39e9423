//! Net uring.
