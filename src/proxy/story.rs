//! What happened in one exchange, gathered along the line and told once.

use std::net::{Ipv4Addr, SocketAddr};

use crate::access::{AccessRecord, AccessSink, Ended, Party, Phase, RequestId, Said};
use crate::clock::{self, Instant, Now};
use crate::http::head::ResponseHead;
use crate::link::{Dial, Link};
use crate::policy::route::Route;
use crate::proxy::deliver::Delivered;
use crate::proxy::exchange::Request;
use crate::proxy::failure::{ClientFault, Failure, Row, UpstreamFault};
use crate::proxy::identity::form::AdmittedForm;
use crate::proxy::identity::{Asked, Identity};
use crate::proxy::secure::Wire;
use crate::proxy::shard::Shard;
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
    pub fn begin<L: Link, D: Dial, S: AccessSink>(wire: &Wire<L>, shard: &Shard<D, S>, begun: Now) -> Self {
        let (id, is_wanted) = (shard.request_id(), shard.access.wants_records());
        let peer = wire.peer().unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let mut record = AccessRecord::reusing(shard.text_memory(), begun.wall, peer);
        record.tls = wire.tls_version().map(|version| match version {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        });
        record.ended = Ended { by: Party::Gate, at: Phase::Complete };
        record.id = Some(id);
        Self { record, id, begun: begun.mono, upstream_begun: None, response_begun: false, is_wanted }
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// What the client wants.
    pub fn request(&mut self, request: &Request<'_>) {
        if !self.is_wanted {
            return;
        }
        let (head, block, record) = (request.head, request.block, &mut self.record);
        record.say(Said::Host, request.authority);
        record.say(Said::Method, request.method());
        for (what, name) in [(Said::Range, "range"), (Said::UserAgent, "user-agent")] {
            if let Some(value) = head.fields.get(block, name) {
                record.say(what, value);
            }
        }
        for (what, value) in [(Said::UserId, request.target.user_id()), (Said::UserType, request.target.user_type())] {
            if let Some(value) = value {
                record.say(what, value);
            }
        }
    }

    /// What that is by the request alone, unless somebody who knows more has said it.
    pub fn named(&mut self, request: &Request<'_>) {
        if !self.is_wanted || self.record.operation.is_some() {
            return;
        }
        if request.is_ping() {
            self.record.operation = Some("Ping");
        } else {
            self.record.operation = Some(operation::name(request.method(), request.target));
            self.record.say_decoded(Said::Key, request.target.escaped_key());
        }
    }

    /// Where it goes.
    pub fn route(&mut self, route: &Route) {
        if self.is_wanted {
            self.record.say(Said::Bucket, &route.bucket);
        }
    }

    /// Who wants it, and what it is when the bucket is known.
    pub fn asked(&mut self, asked: &Asked<'_>, identity: &Identity) {
        self.record.operation = Some(asked.operation());
        if !self.is_wanted {
            return;
        }
        self.record.say(Said::Identity, &identity.clients().get(asked.client()).name);
        // On other routes it was said already.
        if asked.is_at_endpoint()
            && let Some(bucket) = asked.place().bucket
        {
            self.record.say(Said::Bucket, &bucket.name);
        }
        self.record.say_decoded(Said::Key, asked.place().key);
    }

    /// Who uploads a form, and what.
    pub fn posted(&mut self, form: &AdmittedForm<'_>, identity: &Identity) {
        self.record.operation = Some("PostObject");
        if self.is_wanted {
            self.record.say(Said::Identity, &identity.clients().get(form.client).name);
            self.record.say(Said::Key, &form.key);
        }
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
        self.record.status = Some(head.status);
        for (what, name) in [(Said::S3RequestId, "x-amz-request-id"), (Said::S3Id2, "x-amz-id-2")] {
            if self.is_wanted
                && let Some(value) = head.fields.get(block, name)
            {
                self.record.say(what, value);
            }
        }
    }

    /// How far the answer came.
    pub fn delivered(&mut self, delivered: &mut Delivered) {
        self.record.bytes_out = delivered.bytes;
        if let Some(code) = delivered.s3_code.take() {
            self.record.say(Said::S3Code, code);
        }
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
                tracing::warn!(id = %self.id, host = self.record.said(Said::Host), "no route has this host");
            }
            _ => {}
        }
    }

    /// The client left before it had the gate's answer.
    pub fn unheard(&mut self) {
        self.record.status = None;
    }

    /// The exchange is over.
    pub fn end<D: Dial, S: AccessSink>(mut self, shard: &Shard<D, S>) {
        if self.is_wanted {
            self.record.total = clock::mono() - self.begun;
            shard.access.record(&self.record);
        }
        shard.done_with(self.record);
    }
}

/// An upstream that fails is the administrator's business; the detail goes to the journal, not only to the client.
fn warn(id: RequestId, fault: &UpstreamFault, row: &Row) {
    match fault {
        UpstreamFault::Dial(error) => tracing::warn!(%id, failure = row.slug, %error, "no connection to the upstream"),
        UpstreamFault::Untrusted(why) | UpstreamFault::Handshake(why) => {
            tracing::warn!(%id, failure = row.slug, why, "no TLS with the upstream");
        }
        // Said, and not each time, by who judged the answer.
        UpstreamFault::NotTaken(_) => tracing::debug!(%id, failure = row.slug, "{}", row.message),
        _ => tracing::warn!(%id, failure = row.slug, "{}", row.message),
    }
}
