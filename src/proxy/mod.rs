//! The line: one client connection, its exchanges, their upstreams. Generic over [`Link`](crate::link::Link).

pub mod connection;
pub mod deliver;
pub mod exchange;
pub mod failure;
pub mod forward;
pub mod identity;
pub mod inspect;
pub mod load;
pub mod pump;
pub mod refusal;
pub mod relay;
pub mod reply;
pub mod room;
pub mod secure;
pub mod shard;
pub mod spool;
pub mod story;
pub mod upstream;

use std::time::Duration;

use crate::limits;

/// How long each wait may last. Every one ends in a row of [`failure`]'s table or in a quiet close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A client's TLS handshake, from accept to finished.
    pub client_handshake: Duration,
    /// A kept-alive client connection without a request.
    pub client_idle: Duration,
    /// A request head, from its first byte to its last.
    pub client_head: Duration,
    /// The next bytes of a request body.
    pub client_body: Duration,
    /// The client taking the next bytes of a response.
    pub client_write: Duration,
    /// A TCP connection to the upstream, over all its addresses.
    pub upstream_connect: Duration,
    /// The upstream's TLS handshake.
    pub upstream_handshake: Duration,
    /// The upstream taking the next bytes of a request.
    pub upstream_write: Duration,
    /// The first byte of the response once the request is sent.
    pub upstream_response: Duration,
    /// The next bytes of a response body.
    pub upstream_body: Duration,
    /// An unused upstream connection in the pool. S3 closes its side after about 5 s.
    pub upstream_idle: Duration,
    /// Transfers still running when the process is told to stop.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            client_handshake: seconds(10),
            client_idle: seconds(65),
            client_head: seconds(20),
            client_body: seconds(60),
            client_write: seconds(60),
            upstream_connect: seconds(5),
            upstream_handshake: seconds(10),
            upstream_write: seconds(60),
            upstream_response: seconds(120),
            upstream_body: seconds(60),
            upstream_idle: seconds(4),
            drain: seconds(300),
        }
    }
}

/// Bounds an administrator may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections a shard serves at once.
    pub connections_max: usize,
    /// Requests on one client connection.
    pub connection_requests_max: u64,
    /// Bytes of a length-less request body held in memory.
    pub spool_bytes_max: usize,
    /// Bytes of buffers a shard may use.
    pub buffer_bytes_max: usize,
    /// Idle connections kept to one upstream by a shard.
    pub upstream_idle_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: limits::SHARD_CONNECTIONS_MAX,
            connection_requests_max: limits::CONNECTION_REQUESTS_MAX,
            spool_bytes_max: limits::SPOOL_BYTES_MAX,
            buffer_bytes_max: limits::SHARD_BUFFER_BYTES,
            upstream_idle_max: limits::UPSTREAM_IDLE_MAX,
        }
    }
}
