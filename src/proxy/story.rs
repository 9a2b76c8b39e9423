//! What happened in one exchange, gathered along the line and told once.

use std::net::{Ipv4Addr, SocketAddr};

use crate::access::{AccessRecord, AccessSink, Ended, Party, Phase, Text};
use crate::clock::{self, Instant, Now};
use crate::http::head::ResponseHead;
use crate::link::Link;
use crate::policy::route::Route;
use crate::proxy::deliver::Delivered;
use crate::proxy::exchange::Request;
use crate::proxy::failure::{ClientFault, Failure, Row, UpstreamFault};
use crate::proxy::secure::Wire;
use crate::proxy::shard::RequestId;
use crate::s3::operation;
use crate::tls::config::Version;

/// The record of an exchange while it is being written.
pub struct Story {
    record: AccessRecord,
    id: RequestId,
    begun: Instant,
    upstream_begun: Option<Instant>,
    response_begun: bool,
    /// Whether anybody will read the record; where not, nothing is copied into it.
    is_wanted: bool,
}

impl Story {
    /// An exchange begins.
    #[must_use]
    pub fn begin<L: Link>(wire: &Wire<L>, id: RequestId, begun: Now, is_wanted: bool) -> Self {
        let peer = wire.peer().unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let mut record = AccessRecord::new(begun.wall, peer);
        record.tls = wire.tls_version().map(|version| match version {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        });
        record.ended = Ended { by: Party::Gate, at: Phase::Complete };
        record.id = is_wanted.then(|| Text::of(id.to_string()));
        Self { record, id, begun: begun.mono, upstream_begun: None, response_begun: false, is_wanted }
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// What the client wants.
    pub fn request(&mut self, request: &Request<'_>) {
        let (head, block) = (request.head, request.block);
        let field = |name| head.fields.get(block, name).map(Text::of);
        let record = &mut self.record;
        if !self.is_wanted {
            return;
        }
        record.host = Some(Text::of(request.authority));
        record.method = Some(Text::of(request.method()));
        if request.is_ping() {
            record.operation = Some("Ping");
        } else {
            record.operation = Some(operation::name(request.method(), request.target));
            record.key = Some(Text::of(request.target.key()));
        }
        record.range = field("range");
        record.user_agent = field("user-agent");
        record.user_id = request.target.user_id().map(Text::of);
        record.user_type = request.target.user_type().map(Text::of);
    }

    /// Where it goes.
    pub fn route(&mut self, route: &Route) {
        self.record.bucket = self.is_wanted.then(|| Text::of(&route.bucket));
    }

    /// Which connection carries it.
    pub fn upstream(&mut self, address: Option<SocketAddr>, reused: bool) {
        self.record.upstream = address;
        self.record.upstream_reused = reused;
        self.upstream_begun = Some(clock::mono());
    }

    /// A dead connection was replaced.
    pub fn retried(&mut self) {
        self.record.retries += 1;
    }

    /// Bytes of request body that went upstream.
    pub fn sent(&mut self, bytes: u64) {
        self.record.bytes_in = bytes;
    }

    /// The upstream answered.
    pub fn response(&mut self, head: &ResponseHead, block: &[u8]) {
        let field = |name| head.fields.get(block, name).filter(|_| self.is_wanted).map(Text::of);
        let (request_id, id2) = (field("x-amz-request-id"), field("x-amz-id-2"));
        self.record.status = Some(head.status);
        self.record.s3_request_id = request_id;
        self.record.s3_id2 = id2;
    }

    /// How far the answer came.
    pub fn delivered(&mut self, delivered: &mut Delivered) {
        self.record.bytes_out = delivered.bytes;
        self.record.s3_code = delivered.s3_code.take().map(Text::of);
        self.record.ttfb = delivered.first_byte.map(|at| at - self.begun);
        self.record.upstream_time = self.upstream_begun.map(|begun| clock::mono() - begun);
        self.response_begun = delivered.first_byte.is_some();
        self.record.ended = Ended { by: Party::Upstream, at: Phase::Complete };
    }

    /// The gate answered by itself.
    pub fn answered(&mut self, status: u16, bytes: u64) {
        self.record.status = Some(status);
        self.record.bytes_out = bytes;
        self.record.ttfb = Some(clock::mono() - self.begun);
    }

    /// Whether the client has part of an answer already.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.response_begun
    }

    /// Something went wrong.
    pub fn failed(&mut self, failure: &Failure, row: &Row) {
        self.record.failure = Some(row.slug);
        self.record.ended = Ended { by: row.by, at: row.at };
        if !row.is_answered() {
            let status = if self.response_begun { self.record.status } else { None };
            self.record.status = status;
        }
        match failure {
            Failure::Upstream(fault) => warn(self.id, fault, row),
            Failure::Client(ClientFault::UnknownHost) => {
                tracing::warn!(id = %self.id, host = self.record.host.as_ref().map(Text::shown), "no route has this host");
            }
            _ => {}
        }
    }

    /// The client left before it had the gate's answer.
    pub fn unheard(&mut self) {
        self.record.status = None;
    }

    /// The exchange is over.
    pub fn end<S: AccessSink>(mut self, access: &S) {
        if self.is_wanted {
            self.record.total = clock::mono() - self.begun;
            access.record(self.record);
        }
    }
}

/// An upstream that fails is the administrator's business; the detail goes to the journal, not only to the client.
fn warn(id: RequestId, fault: &UpstreamFault, row: &Row) {
    match fault {
        UpstreamFault::Dial(error) => tracing::warn!(%id, failure = row.slug, %error, "no connection to the upstream"),
        UpstreamFault::Untrusted(why) | UpstreamFault::Handshake(why) => {
            tracing::warn!(%id, failure = row.slug, why, "no TLS with the upstream");
        }
        _ => tracing::warn!(%id, failure = row.slug, "{}", row.message),
    }
}
