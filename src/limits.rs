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

/// Parsed heads, a request's and a response's, that a shard keeps for the exchanges to come.
pub const PARSED_HEADS_KEPT_MAX: usize = 256;

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

/// Records sealed under one key before it is replaced (RFC 8446 §5.5 allows AES-GCM 2^24.5 full ones).
pub const TLS_KEY_RECORDS_MAX: u64 = 1 << 23;

/// Tickets and key updates a TLS 1.3 peer may send without application data between them.
pub const TLS_MESSAGES_MAX: u8 = 32;

/// Records without content a TLS 1.3 peer may send in a row (RFC 8446 §5.1 allows them as cover traffic).
pub const TLS_EMPTY_RECORDS_MAX: u8 = 32;

/// `user_canceled` alerts that are ignored on one TLS 1.3 session (RFC 8446 §6.1).
pub const TLS_WARNINGS_MAX: u8 = 4;

/// Bytes of a TLS 1.3 session ticket's message, which is put together from its records in memory (RFC 8446 §4.6.1).
pub const TLS_TICKET_BYTES_MAX: usize = 64 * 1024 - 1;

/// Certificates in the chain that a client presents, its own included.
pub const TLS_CLIENT_CHAIN_MAX: usize = 8;

/// Bytes of the certificates in the chain that a client presents. The chain stays with the connection, and each of its two
/// tickets holds it.
pub const TLS_CLIENT_CHAIN_BYTES_MAX: usize = 16 * 1024;

/// Names in a client's certificate that count, in the order they have there, the subject's common name first.
pub const TLS_CLIENT_NAMES_MAX: usize = 64;

/// Bytes of them; a name for which no room is left is passed over.
pub const TLS_CLIENT_NAMES_BYTES_MAX: usize = 4 * 1024;

/// Bytes of the names of authorities that a client is told its certificate may come from; it is told none when there are
/// more (RFC 8446 §4.2.4 has room for 64 KiB).
pub const TLS_AUTHORITY_NAMES_BYTES_MAX: usize = 8 * 1024;

/// How long a connection that is to be left to the kernel's TLS may take to complete the record it has begun.
pub const KERNEL_RECORD_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a record that is no application data which are looked at in one go; the rest of it comes next.
pub const TLS_CONTROL_BYTES: usize = 2 * 1024;

/// Bytes of buffers one exchange holds at its busiest: bulk plaintext on its way, bulk ciphertext in and out, and the
/// heads. A shard serves `buffer-bytes / EXCHANGE_BYTES_MAX` exchanges at once; more of them wait their turn.
pub const EXCHANGE_BYTES_MAX: usize = 3 * BULK_BUFFER_BYTES + 2 * BUFFER_BYTES;

/// Sessions with one upstream kept for resumption, over all shards.
pub const TLS_SESSIONS_MAX: usize = 256;

/// Default ceiling of buffer memory a shard may use, in bytes.
pub const SHARD_BUFFER_BYTES: usize = 1024 * 1024 * 1024;

/// Part of a shard's buffer memory that spooled bodies may take, and as much again for unfinished request heads: neither
/// needs a signature, so neither may starve those who have one. Where routes sign anew, as much again is for documents that
/// are read before the request is decided about; those who send them are known, and starve nobody but each other.
pub const UNSIGNED_SHARE: usize = 8;

/// Fewest bytes still to come of a body between two plain connections for which a pipe is taken; below it a copy is
/// cheaper than the turns of the ring that a pipe needs.
pub const SPLICE_BYTES_MIN: u64 = 64 * 1024;

/// Fewest bytes still to come of a body between two TLS sessions for which records are opened and sealed in place.
pub const RUN_BYTES_MIN: u64 = 32 * 1024;

/// Bytes a pipe should hold; the most that Linux lets anybody ask for unless told otherwise (pipe(7), `pipe-max-size`).
pub const PIPE_BYTES: usize = 1024 * 1024;

/// Bytes a pipe must hold to be worth having: system calls a megabyte go up as it goes down.
pub const PIPE_BYTES_MIN: usize = 128 * 1024;

/// Pipes that a shard's bodies hold at once, two descriptors each; beyond it bodies are copied.
pub const PIPES_LENT_MAX: usize = 1024;

/// Unused pipes a shard keeps.
pub const PIPES_KEPT_MAX: usize = 64;

/// Bytes of one body after which other connections of the shard get their turn, however fast its peers are.
pub const PUMP_TURN_BYTES: usize = 4 * PIPE_BYTES;

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

/// Fewest bytes still to come of a body that counts in its shard's load. Shorter ones are over before the next connection
/// could be placed by them.
pub const LONG_BODY_BYTES_MIN: u64 = 1024 * 1024;

/// Connections without a long body that weigh as much as a long body, when a new connection is placed.
pub const LONG_BODY_WEIGHT: usize = 16;

/// Accepted connections that may be on their way from other shards to one; beyond it they stay where they were accepted.
pub const HANDED_OVER_MAX: usize = 1024;

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

/// Sets of credentials in one configuration.
pub const CREDENTIALS_MAX: usize = 64;

/// Roles on the way to one set of credentials.
pub const ROLES_MAX: usize = 8;

/// How long a response head may be held back for a short body that is on its way: it leaves with it in one write.
pub const HEAD_HELD_BACK: Duration = Duration::from_millis(5);

/// Parameters of a query that is signed: the canonical form sorts them. S3's own operations take about 20.
pub const QUERY_PAIRS_MAX: usize = 256;

/// Data bytes of one signed chunk of an upload. It is held whole until its signature has been verified. AWS's own clients
/// send 64 KiB and 128 KiB; S3 asks for 8 KiB at least.
pub const SIGNED_CHUNK_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes that an upload whose chunks are signed holds besides its buffers: the chunk that comes in and the one that goes out,
/// each in memory that may be twice as long, because it grew.
pub const SIGNED_CHUNKS_HELD_BYTES: usize = 4 * SIGNED_CHUNK_BYTES_MAX as usize;

/// Bytes of a payload that are held back until all of it has been verified. One would do; a few more are no small packet.
pub const PAYLOAD_TAIL_BYTES: usize = 8 * 1024;

/// Bytes of verified payload after which an inspector takes no more input before they are sent.
pub const PAYLOAD_RELEASE_BYTES: usize = 256 * 1024;

/// Bytes of the id of an access key (AWS, `GetAccessKeyInfo`: 16 to 128).
pub const ACCESS_KEY_BYTES_MAX: usize = 128;

/// Bytes told of the name of a field or parameter that is not understood.
pub const FEATURE_NAME_BYTES_MAX: usize = 64;

/// Bytes of the XML body of a DeleteObjects.
pub const DELETE_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of one share of the memory for documents that are read before a request is decided about.
pub const DOCUMENT_SHARE_BYTES: usize = 64 * 1024;

/// Bytes of the XML body of a RestoreObject. What is taken of it has some 200.
pub const RESTORE_BODY_BYTES_MAX: usize = 64 * 1024;

/// Keys in one DeleteObjects (Amazon S3 API Reference, DeleteObjects).
pub const DELETE_KEYS_MAX: usize = 1000;

/// Bytes of an object's key (Amazon S3 User Guide, "Naming Amazon S3 objects").
pub const KEY_BYTES_MAX: usize = 1024;

/// Clients in one configuration.
pub const CLIENTS_MAX: usize = 4096;

/// Rules of one route, those that allow and those that deny, each.
pub const RULES_MAX: usize = 256;

/// Bytes of a file that holds one secret.
pub const SECRET_FILE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a form in front of the file it uploads, boundaries and fields (AWS, "POST Object": 20 KB).
pub const FORM_HEAD_BYTES_MAX: usize = 20 * 1024;

/// Bytes that are held until the head of a form is whole: it, and what came in one piece with its end.
pub const FORM_FRONT_BYTES_MAX: usize = FORM_HEAD_BYTES_MAX + BUFFER_BYTES;

/// Parts of a form in front of its file. S3 knows some 40 fields; the rest are metadata.
pub const FORM_PARTS_MAX: usize = 128;

/// How often a full shard looks whether it, or another, has become less so.
pub const FULL_LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a connect to one address may be alone before the next address is tried as well (RFC 8305 §5 says 250 ms).
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);

/// How long the gate waits for S3's `100 Continue` before it lets the client send its body anyway (RFC 9110 §10.1.1).
pub const CONTINUE_WAIT: Duration = Duration::from_secs(1);

const _: () = assert!(HEAD_BYTES_MAX < BUFFER_BYTES);
const _: () = assert!(HEAD_BYTES_MAX >= 2 * 16 * 1024);
const _: () = assert!(TLS_RECORD_BYTES_MAX * 3 < BUFFER_BYTES);
const _: () = assert!(TLS_CLIENT_CHAIN_BYTES_MAX + 1024 < TLS_TICKET_BYTES_MAX);
const _: () = assert!(CHUNK_LINE_BYTES_MAX < BUFFER_BYTES && TRAILER_BYTES_MAX < BUFFER_BYTES);
const _: () = assert!(FORM_HEAD_BYTES_MAX < BUFFER_BYTES);
const _: () = assert!(PIPE_BYTES_MIN <= PIPE_BYTES && PIPES_KEPT_MAX <= PIPES_LENT_MAX);
const _: () = assert!(EXCHANGE_BYTES_MAX * 64 < SHARD_BUFFER_BYTES);
const _: () = assert!((EXCHANGE_BYTES_MAX + SIGNED_CHUNKS_HELD_BYTES) * 64 < SHARD_BUFFER_BYTES);
