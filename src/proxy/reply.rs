//! Answers the gate makes itself.

use std::io::Write;

use crate::access::{AccessSink, RequestId};
use crate::http::head::Version;
use crate::link::{Dial, Link};
use crate::proxy::connection::Client;
use crate::proxy::failure::{Failure, Row};
use crate::proxy::forward::{self, After};
use crate::proxy::relay::write_client;
use crate::proxy::shard::Shard;
use crate::s3::error::{ErrorBody, HOST_ID};

/// Whom an answer is for, as far as that is known.
pub struct Addressee {
    /// Version of the request.
    pub version: Version,
    /// Whether the request was a HEAD, whose answer has no body.
    pub is_head: bool,
    /// Path of the request, without its query.
    pub path: Vec<u8>,
    /// What happens to the connection.
    pub after: After,
}

impl Addressee {
    /// Somebody who did not get as far as a request.
    #[must_use]
    pub fn unknown() -> Self {
        Self { version: Version::Http11, is_head: false, path: Vec::new(), after: After::Close }
    }
}

/// Answers `/ping`: the gate is up, whatever the upstreams are.
///
/// # Errors
/// The client's going away.
pub async fn ping<L, D, S>(client: &Client<L>, shard: &Shard<D, S>, to: &Addressee) -> Result<u64, Failure>
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let fields: [(&[u8], &[u8]); 2] = [(b"Content-Type", b"text/plain"), (b"Cache-Control", b"no-store")];
    send(client, shard, to, 200, &fields, b"ok\n").await
}

/// Answers with a row of the failure table, in S3's XML.
///
/// # Errors
/// The client's going away.
pub async fn failure<L, D, S>(
    client: &Client<L>,
    shard: &Shard<D, S>,
    to: &Addressee,
    row: &Row,
    details: &[(&'static str, &str)],
    id: RequestId,
) -> Result<u64, Failure>
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let id = id.to_string();
    let mut body = Vec::with_capacity(1024);
    let (message, resource, request_id) = (&*row.message, &*to.path, &*id);
    ErrorBody { code: row.code, message, resource, request_id, host_id: HOST_ID, details }.write(&mut body);
    let all: [(&[u8], &[u8]); 4] = [
        (b"Content-Type", b"application/xml"),
        (b"x-filmgate-error", row.slug.as_bytes()),
        (b"x-filmgate-request-id", id.as_bytes()),
        (b"Retry-After", b"1"),
    ];
    let fields = if row.status == 503 { &all[..] } else { &all[..3] };
    send(client, shard, to, row.status, fields, &body).await
}

async fn send<L, D, S>(
    client: &Client<L>,
    shard: &Shard<D, S>,
    to: &Addressee,
    status: u16,
    fields: &[(&[u8], &[u8])],
    body: &[u8],
) -> Result<u64, Failure>
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let mut out = shard.buffers.take();
    let written = forward::own_response(&mut out, status, fields, body.len() as u64, to.version, to.after);
    debug_assert!(written.is_ok(), "the gate's own heads are small and clean");
    let body = if to.is_head { &[][..] } else { body };
    let sent = out.spare_mut().write(body).unwrap_or(0);
    out.commit(sent);
    write_client(&client.wire, out, shard.timeouts.client_write).await?;
    Ok(sent as u64)
}
