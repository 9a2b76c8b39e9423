//! Every bound in the program, in one place, with units.
//!
//! A peer may send anything and as much of it as it likes; whatever it sends meets one of these numbers before it
//! meets memory. Values an administrator may change are *defaults* here and travel in option structs; values that the
//! code's shape depends on are constants, asserted against each other at compile time.

use std::time::Duration;

/// Bytes of one message head (request line or status line plus all field lines and the empty line).
///
/// S3 itself refuses more than 8 KB of header fields; a presigned request line with an STS token is 1–2 KB and
/// ShotGrid's may grow, so request lines of 16 KB and more must fit. A head always fits one [`BUFFER_BYTES`] buffer.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Field lines in one message head.
pub const HEAD_FIELDS_MAX: usize = 128;

/// Bytes of the trailer section of a chunked body, field lines included.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Bytes of one chunk-size line, extensions included. aws-chunked signatures live *inside* the chunked body, so the
/// transfer coding's own lines stay short.
pub const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of one pooled buffer: one read from or write to a socket.
///
/// Holds four full TLS records with their overhead (16 KiB + 256 each is the TLS 1.2 worst case of RFC 5246 §6.2.3
/// plus headers) and any message head.
pub const BUFFER_BYTES: usize = 68 * 1024;

/// Bytes of one bulk buffer, taken when a body is long enough to fill it: fewer turns of the ring per gigabyte.
pub const BULK_BUFFER_BYTES: usize = 272 * 1024;

/// Largest TLS record on the wire: 5 bytes of header, 2^14 of payload and 2048 of expansion (RFC 5246 §6.2.3; TLS 1.3
/// allows only 256, RFC 8446 §5.2).
pub const TLS_RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;

/// Bytes of buffers one exchange holds at its busiest: bulk plaintext on its way, bulk ciphertext in and out, and the
/// heads. A shard serves `buffer-bytes / EXCHANGE_BYTES_MAX` exchanges at once; more of them wait their turn.
pub const EXCHANGE_BYTES_MAX: usize = 3 * BULK_BUFFER_BYTES + 2 * BUFFER_BYTES;

/// Sessions with one upstream kept for resumption, over all shards.
pub const TLS_SESSIONS_MAX: usize = 256;

/// Default ceiling of buffer memory a shard may use, in bytes.
pub const SHARD_BUFFER_BYTES: usize = 1024 * 1024 * 1024;

/// Part of a shard's buffer memory that spooled bodies may take, and as much again for unfinished request heads: neither
/// needs a signature, so neither may starve those who have one.
pub const UNSIGNED_SHARE: usize = 8;

/// Least average rate of a request body, in bytes per second of waiting for the client, once
/// [`Timeouts::client_body`](crate::proxy::Timeouts) has passed: a client that drips is a client that stopped.
pub const BODY_RATE_MIN: u64 = 4 * 1024;

/// How long an exchange waits for its share of the buffer memory before it is told to slow down.
pub const ROOM_WAIT: Duration = Duration::from_secs(10);

/// How often a wait for an upstream looks whether the client is still there.
pub const CLIENT_CHECK: Duration = Duration::from_secs(1);

/// How old an idle upstream connection may be to carry a body that cannot be sent twice.
pub const UPSTREAM_FRESH: Duration = Duration::from_secs(1);

/// Default number of client connections a shard accepts before it stops taking new ones.
pub const SHARD_CONNECTIONS_MAX: usize = 16 * 1024;

/// Idle upstream connections a shard keeps for one upstream.
pub const UPSTREAM_IDLE_MAX: usize = 256;

/// Requests served on one client connection before it is closed; bounds what one peer can pin for ever.
pub const CONNECTION_REQUESTS_MAX: u64 = 100_000;

/// Default bytes of a length-less request body that is spooled in memory to learn its length (RFC 9112 §6.3; S3 answers
/// 501 to a chunked upload). Above it: 413.
pub const SPOOL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of an upstream error body that are read to learn S3's error code for the access log.
pub const ERROR_BODY_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a refused request's body that are read and thrown away so that the client gets to see the answer.
pub const DISCARD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Addresses remembered for one upstream name. S3 answers eight at a time out of many.
pub const UPSTREAM_ADDRESSES_MAX: usize = 64;

/// Connection attempts in flight for one dial.
pub const DIAL_RACE_MAX: usize = 4;

/// Bytes of access log lines a shard prepares for before its log is busy: what it says in 20 ms at its fastest.
pub const ACCESS_LINES_BYTES: usize = 1024 * 1024;

/// Bytes of access log lines of one shard waiting for the log thread, and one line more; beyond it records are counted
/// as lost, never waited for.
pub const ACCESS_LINES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of texts of one access record that a shard keeps for the next record.
pub const TEXT_MEMORY_BYTES_MAX: usize = 4 * 1024;

/// Memories for the texts of access records that a shard keeps: as many exchanges as usually go on at once.
pub const TEXT_MEMORIES_MAX: usize = 1024;

/// Bytes kept of any one logged string (a key, a user agent).
pub const LOGGED_STRING_BYTES_MAX: usize = 2 * 1024;

/// Upstreams and routes in one configuration.
pub const ROUTES_MAX: usize = 1024;

/// How long a connect to one address may be alone before the next address is tried as well (RFC 8305 §5 says 250 ms).
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);

/// How long the gate waits for S3's `100 Continue` before it lets the client send its body anyway (RFC 9110 §10.1.1).
pub const CONTINUE_WAIT: Duration = Duration::from_secs(1);

const _: () = assert!(HEAD_BYTES_MAX < BUFFER_BYTES);
const _: () = assert!(HEAD_BYTES_MAX >= 2 * 16 * 1024);
const _: () = assert!(TLS_RECORD_BYTES_MAX * 3 < BUFFER_BYTES);
const _: () = assert!(CHUNK_LINE_BYTES_MAX < BUFFER_BYTES && TRAILER_BYTES_MAX < BUFFER_BYTES);
const _: () = assert!(EXCHANGE_BYTES_MAX * 64 < SHARD_BUFFER_BYTES);
