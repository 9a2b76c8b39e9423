//! The part of the line that only routes have that sign anew.

use std::net::{IpAddr, Ipv4Addr};

use crate::access::AccessSink;
use crate::buffer::Buffer;
use crate::clock::{self, Deadline};
use crate::http::body::Reader;
use crate::http::framing;
use crate::http::head::ResponseHead;
use crate::limits;
use crate::link::{Dial, Link};
use crate::policy::identity::Presence;
use crate::policy::route::{ReSign, Route};
use crate::proxy::exchange::{Done, Exchange};
use crate::proxy::failure::{Failure, UpstreamFault};
use crate::proxy::forward::Sending;
use crate::proxy::identity::{Admitted, Identity, Needs, Verdict, Written, judge};
use crate::proxy::inspect::Inspection;
use crate::proxy::refusal::Refused;
use crate::proxy::relay::{Received, Upload};
use crate::proxy::story::Story;
use crate::proxy::upstream::Lease;

impl<L: Link, D: Dial, S: AccessSink> Exchange<'_, L, D, S> {
    /// From a request of a route that signs anew to its answer: who asks, whether they may, and on with a signature of the
    /// gate's own.
    pub(super) async fn sign_and_carry(
        &self,
        route: &Route,
        resign: &ReSign,
        head: &mut ResponseHead,
        story: &mut Story,
    ) -> Result<Done, Failure> {
        let (request, identity) = (&self.request, self.identity()?);
        if request.method() == b"OPTIONS" {
            let admitted = identity.preflight(request, route, resign)?;
            return self.carry(route, Some(&admitted), None, head, story).await;
        }
        let wire = &self.client.wire;
        let presence = Presence {
            address: wire.peer().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip()),
            certificate_names: wire.client_names(),
            now: clock::unix_seconds(),
        };
        let asked = identity.ask(request, route, resign, &presence)?;
        story.asked(&asked, identity);
        let _room;
        let body = match asked.needs() {
            Needs::Nothing => None,
            Needs::Keys => {
                _room = self.shard.spool_room().await?;
                Some(self.read_body(limits::DELETE_BODY_BYTES_MAX).await?)
            }
        };
        let admitted = asked.decide(request, body.as_ref().map(|body| &body.data[..]))?;
        self.carry(route, Some(&admitted), body, head, story).await
    }

    /// Writes and signs the head, and sets up what the body needs.
    pub(super) fn write_signed(
        &self,
        out: &mut Buffer,
        admitted: &Admitted<'_>,
        sending: Sending,
        holds_back: bool,
        upload: &mut Upload<'_>,
    ) -> Result<Box<Written>, Failure> {
        let (written, chain) = self.identity()?.write(out, &self.request, admitted, sending, holds_back)?;
        let inspector = admitted.inspector(&self.request, chain)?;
        let is_chunked = sending == Sending::Chunked;
        upload.inspection = inspector.map(|inspector| Box::new(Inspection { inspector, is_chunked }));
        Ok(Box::new(written))
    }

    /// Looks at an answer that may be about the gate's own signature. Returns the region the bucket is in, when the request
    /// has to be signed for another one.
    ///
    /// # Errors
    /// When the answer is not for the client.
    pub(super) async fn judge(
        &self,
        admitted: &Admitted<'_>,
        written: &Written,
        lease: &Lease<D::Link>,
        received: &mut Received,
        head: &ResponseHead,
    ) -> Result<Option<String>, Failure> {
        let block = &received.buffer.filled()[..received.head_len];
        let body = framing::response(head, block, self.request.method())
            .map_err(|_| UpstreamFault::Malformed("the length of its response is ambiguous"))?;
        self.await_error(lease, received, body.into()).await;
        let (block, body) = received.buffer.filled().split_at(received.head_len);
        let verdict = judge::judge(head.status, &head.fields, block, body, &written.region);
        let identity = self.identity()?;
        match verdict {
            Verdict::Passes => Ok(None),
            Verdict::PassesInDoubt => {
                identity.doubt(admitted.resign, written.generation);
                Ok(None)
            }
            Verdict::Revoked(code) => {
                identity.doubt(admitted.resign, written.generation);
                Err(UpstreamFault::Revoked(code).into())
            }
            Verdict::Elsewhere(region) => {
                let Some(bucket) = admitted.place.bucket.filter(|_| !region.is_empty()) else {
                    return Err(UpstreamFault::Elsewhere(region).into());
                };
                identity.learn(&bucket.name, &region);
                tracing::warn!(
                    bucket = bucket.name,
                    region,
                    "the storage says that the bucket is in another region; write it into the route"
                );
                Ok(Some(region))
            }
        }
    }

    /// Waits until the beginning of an error body is here, as far as it comes. What it is to mean if it does not come is for
    /// whoever passes it on to say.
    async fn await_error(&self, lease: &Lease<D::Link>, received: &mut Received, reader: Reader) {
        let until = Deadline::after(self.shard.timeouts.upstream_body);
        loop {
            let body = &received.buffer.filled()[received.head_len..];
            let is_whole = reader.clone().skim(body).is_ok_and(|skim| skim.done);
            if is_whole || body.len() >= limits::ERROR_BODY_BYTES_MAX || received.buffer.room() == 0 {
                return;
            }
            let buffer = std::mem::replace(&mut received.buffer, Buffer::detached(0));
            let (result, buffer) = lease.wire().read(buffer, until).await;
            received.buffer = buffer;
            if !matches!(result, Ok(1..)) {
                return;
            }
        }
    }

    fn identity(&self) -> Result<&Identity, Failure> {
        self.shard.identity.as_deref().ok_or_else(|| Refused::NoCredentials.into())
    }
}
