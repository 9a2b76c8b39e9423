//! The part of the line that only routes have that sign anew.

use std::net::{IpAddr, Ipv4Addr};

use tokio::sync::SemaphorePermit;

use crate::access::AccessSink;
use crate::buffer::Buffer;
use crate::clock::{self, Deadline};
use crate::http::body::Reader;
use crate::http::framing::{self, RequestBody, ResponseBody};
use crate::http::head::{ResponseHead, Scan};
use crate::limits;
use crate::link::{Dial, Link};
use crate::policy::identity::Presence;
use crate::policy::route::{Place, ReSign, Route};
use crate::proxy::exchange::Exchange;
use crate::proxy::failure::{Failure, UpstreamFault};
use crate::proxy::forward::Sending;
use crate::proxy::identity::veil::{self, Veiled};
use crate::proxy::identity::{Admitted, Asked, Identity, Needs, Verdict, form, judge};
use crate::proxy::inspect::Inspection;
use crate::proxy::refusal::Refused;
use crate::proxy::relay::{self, Received, Upload};
use crate::proxy::spool::{self, Spooled};
use crate::proxy::story::Story;
use crate::proxy::upstream::Lease;
use crate::s3::delete::NotTaken;
use crate::s3::form::{Boundary, Form};
use crate::sign::form::FormRefusal;

/// That a request may go out, and what had to be read of it to know.
pub(super) struct Admission<'a> {
    /// How it goes out.
    pub(super) admitted: Admitted<'a>,
    /// Its body, or the beginning of it.
    pub(super) body: Option<Box<Spooled>>,
    _room: Option<SemaphorePermit<'a>>,
}

impl<'a> Admission<'a> {
    fn whole(admitted: Admitted<'a>) -> Box<Self> {
        Box::new(Self { admitted, body: None, _room: None })
    }
}

/// What a head was signed with.
pub(super) struct SignedWith {
    /// The generation of the credentials.
    generation: u64,
    /// The region, where the storage named it and has not served anything from there yet.
    supposed: Option<String>,
}

/// How far a request has come on the way to its admission.
pub(super) enum Step<'a> {
    /// All the way.
    Admitted(Box<Admission<'a>>),
    /// What it would do is in its body, of at most so many bytes.
    Document(Box<Asked<'a>>, usize),
    /// Who sent it, and what for, is in its body.
    Form(Box<(&'a Route, &'a ReSign, Place<'a>, Boundary)>),
}

impl<L: Link, D: Dial, S: AccessSink> Exchange<'_, L, D, S> {
    /// Finds out who sent a request of a route that signs anew, and whether they may, as far as its head tells.
    pub(super) fn admit<'a>(
        &'a self,
        route: &'a Route,
        resign: &'a ReSign,
        story: &mut Story,
    ) -> Result<Step<'a>, Failure> {
        let (request, identity) = (&self.request, self.identity()?);
        if request.method() == b"OPTIONS" {
            let admitted = identity.preflight(request, route, resign)?;
            return Ok(Step::Admitted(Admission::whole(admitted)));
        }
        let presence = self.presence();
        if request.method() == b"POST"
            && let Some(place) = route.place(resign, request.authority, request.target.path())
            && let Some(boundary) = form::boundary(request, &place)?
        {
            if !identity.expects_forms(resign, &presence) {
                return Err(Refused::Anonymous.into());
            }
            return Ok(Step::Form(Box::new((route, resign, place, boundary))));
        }
        let asked = identity.ask(request, route, resign, &presence)?;
        story.asked(&asked, identity);
        match asked.needs() {
            Needs::Nothing => Ok(Step::Admitted(Admission::whole(asked.decide(request, None)?))),
            Needs::Keys => Ok(Step::Document(Box::new(asked), limits::DELETE_BODY_BYTES_MAX)),
            Needs::Restore => Ok(Step::Document(Box::new(asked), limits::RESTORE_BODY_BYTES_MAX)),
        }
    }

    /// The same for what only a body tells.
    pub(super) async fn admit_by_body<'a>(
        &'a self,
        step: Step<'a>,
        story: &mut Story,
    ) -> Result<Box<Admission<'a>>, Failure> {
        match step {
            Step::Admitted(admission) => Ok(admission),
            Step::Document(asked, bytes_max) => {
                if matches!(self.request.body, RequestBody::Length(length) if length > bytes_max as u64) {
                    return Err(Refused::Document(NotTaken::TooMuch("the XML is longer than it may be")).into());
                }
                let room = self.shard.document_room().await?;
                let body = self.read_body(bytes_max).await?;
                let admitted = asked.decide(&self.request, Some(&body.data))?;
                Ok(Box::new(Admission { admitted, body: Some(body), _room: Some(room) }))
            }
            Step::Form(form) => {
                let (route, resign, place, boundary) = *form;
                self.admit_form((route, resign), place, &boundary, &self.presence(), story).await
            }
        }
    }

    /// What is known of the client besides what it sent.
    fn presence(&self) -> Presence<'_> {
        let wire = &self.client.wire;
        Presence {
            address: wire.peer().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip()),
            certificate_names: wire.client_names(),
            now: clock::unix_seconds(),
        }
    }

    /// The same for a form.
    async fn admit_form<'a>(
        &'a self,
        (route, resign): (&'a Route, &'a ReSign),
        place: Place<'a>,
        boundary: &Boundary,
        presence: &Presence<'_>,
        story: &mut Story,
    ) -> Result<Box<Admission<'a>>, Failure> {
        let (request, shard, identity) = (&self.request, self.shard, self.identity()?);
        // Nobody knows yet who this is: it shares the room of heads that are not whole.
        let room = shard.head_room().ok_or(Failure::Overloaded)?;
        if request.holds_back {
            relay::say_continue(&self.client.wire, &shard.buffers, shard.timeouts.client_write).await?;
        }
        let is_enough = |body: &[u8]| Ok(Form::read(boundary, body).map_err(Refused::FormShape)?.is_some());
        let (wire, reader) = (&self.client.wire, request.body.into());
        let most = limits::FORM_FRONT_BYTES_MAX;
        let mut body =
            spool::read_until(wire, &shard.buffers, &shard.timeouts, reader, self.first, most, is_enough).await?;
        let form = Form::read(boundary, &body.data).map_err(Refused::FormShape)?;
        let form = form.ok_or(Refused::Form(FormRefusal::CutShort))?;
        let found = identity.admit_form((request, route, resign), place, &form, body.total(), presence)?;
        // From here on it has the room of an exchange.
        drop(room);
        story.posted(&found, identity);
        body.data.splice(..found.replaced, found.head);
        Ok(Box::new(Admission { admitted: found.admitted, body: Some(Box::new(body)), _room: None }))
    }

    /// Writes and signs the head, and sets up what the body needs.
    pub(super) fn write_signed(
        &self,
        out: &mut Buffer,
        admitted: &Admitted<'_>,
        sending: Sending,
        holds_back: bool,
        upload: &mut Upload<'_>,
    ) -> Result<SignedWith, Failure> {
        let supposed = self.identity()?.supposed(admitted.place.bucket);
        let (generation, chain) = self.identity()?.write(out, &self.request, admitted, sending, holds_back)?;
        let inspector = admitted.inspector(&self.request, chain)?;
        let is_chunked = sending == Sending::Chunked;
        upload.inspection = inspector.map(|by| Box::new(Inspection { by, is_chunked }));
        Ok(SignedWith { generation, supposed })
    }

    /// Whether an answer has to be looked at, because it may be about the gate's own signature or speak of its identity.
    /// What is not about the signature proves the credentials good, and the region right.
    pub(super) fn is_judged(&self, admitted: &Admitted<'_>, with: &SignedWith, status: u16) -> bool {
        let is_telling = judge::is_telling(status);
        self.settle(admitted, with, !is_telling);
        if !is_telling
            && admitted.is_authorized()
            && let Ok(identity) = self.identity()
        {
            identity.prove(admitted.resign, with.generation);
        }
        is_telling || status >= 400
    }

    /// Ends the supposition that a request was signed with, if it was.
    pub(super) fn settle(&self, admitted: &Admitted<'_>, with: &SignedWith, is_right: bool) {
        if let (Some(region), Some(bucket), Ok(identity)) = (&with.supposed, admitted.place.bucket, self.identity())
            && identity.settle(bucket, region, is_right)
        {
            tracing::warn!(
                bucket = bucket.name,
                region,
                "the storage says that the bucket is in another region; write it into the route"
            );
        }
    }

    /// Looks at an answer that may be about the gate's own signature or speak of its identity. Returns the region the bucket
    /// is in, when the request has to be signed for another one.
    ///
    /// # Errors
    /// When the answer is not for the client.
    pub(super) async fn judge(
        &self,
        admitted: &Admitted<'_>,
        with: &SignedWith,
        lease: &Lease<D::Link>,
        received: &mut Received,
        head: &mut ResponseHead,
        story: &Story,
    ) -> Result<Option<String>, Failure> {
        let generation = with.generation;
        let block = &received.buffer.filled()[..received.head_len];
        let framed = framing::response(head, block, self.request.method())
            .map_err(|_| UpstreamFault::Malformed("the length of its response is ambiguous"))?;
        let is_whole = self.await_error(lease, received, framed.into()).await;
        let (block, raw) = received.buffer.filled().split_at(received.head_len);
        let body = &plain(framed.into(), raw)[..];
        let identity = self.identity()?;
        let signed_for = with.supposed.clone();
        let signed_for = signed_for.unwrap_or_else(|| identity.region_of(admitted.route, admitted.place.bucket));
        let verdict = judge::judge(head.status, &head.fields, block, body, &signed_for);
        match verdict {
            Verdict::Passes | Verdict::PassesInDoubt => {
                if verdict == Verdict::PassesInDoubt
                    && admitted.is_authorized()
                    && !identity.is_proved(admitted.resign, generation)
                {
                    identity.doubt(admitted.resign, generation);
                }
                if framed != ResponseBody::None {
                    self.veil(admitted.resign, is_whole, received, head, story)?;
                }
                Ok(None)
            }
            Verdict::Revoked(code) => {
                identity.doubt(admitted.resign, generation);
                Err(UpstreamFault::Revoked(code).into())
            }
            Verdict::Elsewhere(region) => {
                if region.is_empty() || admitted.place.bucket.is_none() {
                    return Err(UpstreamFault::Elsewhere(region).into());
                }
                Ok(Some(region))
            }
        }
    }

    /// Lets requests for the bucket be signed for the region that the storage has named.
    pub(super) fn suppose(&self, admitted: &Admitted<'_>, region: &str) {
        if let (Some(bucket), Ok(identity)) = (admitted.place.bucket, self.identity()) {
            identity.suppose(bucket, region);
        }
    }

    /// Puts other words in the place of an answer that speaks of the gate's own identity, or may do so where it is not seen.
    fn veil(
        &self,
        resign: &ReSign,
        is_whole: bool,
        received: &mut Received,
        head: &mut ResponseHead,
        story: &Story,
    ) -> Result<(), Failure> {
        let credentials = self.identity()?.credentials(resign);
        let access_key = credentials.as_ref().map_or("", |credentials| &credentials.access_key);
        let (block, raw) = received.buffer.filled().split_at(received.head_len);
        let framed = framing::response(head, block, self.request.method()).unwrap_or(ResponseBody::UntilClose);
        let body = plain(framed.into(), raw);
        let is_coded = head.fields.get(block, "content-encoding").is_some();
        if is_whole && !is_coded && !veil::names_identity(&body, access_key) {
            return Ok(());
        }
        let token = credentials.as_ref().and_then(|credentials| credentials.token.as_ref());
        // As a field: a message that repeats a client's key would stand beside the gate's own fields as if it were some.
        let said = veil::said(&body, token.map(|token| token.as_str()));
        let id = story.id().to_string();
        tracing::warn!(id, status = head.status, said, "the storage refuses what the gate has signed");
        let is_the_last = framed == ResponseBody::UntilClose;
        let closes = !is_whole || is_the_last || !framing::keeps_alive(head.version, &head.fields, block);
        let path = self.request.target.path();
        let mut out = self.shard.buffers.take();
        Veiled { head, block, body: &body, path, id: &id, closes }
            .write(&mut out, access_key)
            .map_err(|_| UpstreamFault::Malformed("its response head cannot be passed on"))?;
        let head_len = Scan::default().feed(out.filled()).ok().flatten().unwrap_or(0);
        head.parse_into(&out.filled()[..head_len])
            .map_err(|_| UpstreamFault::Malformed("its response head cannot be passed on"))?;
        (received.buffer, received.head_len) = (out, head_len);
        Ok(())
    }

    /// Waits until the beginning of an error body is here, as far as it comes, and says whether that is all of it. What it is
    /// to mean if it does not come is for whoever passes it on to say.
    async fn await_error(&self, lease: &Lease<D::Link>, received: &mut Received, reader: Reader) -> bool {
        let until = Deadline::after(self.shard.timeouts.upstream_body);
        loop {
            let body = &received.buffer.filled()[received.head_len..];
            let mut seen = reader.clone();
            let Ok(skim) = seen.skim(body) else { return false };
            if skim.done {
                // More than that is for nobody.
                return skim.consumed == body.len();
            }
            if body.len() >= limits::ERROR_BODY_BYTES_MAX || received.buffer.room() == 0 {
                return false;
            }
            let buffer = std::mem::replace(&mut received.buffer, Buffer::detached(0));
            let (result, buffer) = lease.wire().read(buffer, until).await;
            received.buffer = buffer;
            if !matches!(result, Ok(1..)) {
                return matches!(result, Ok(0)) && seen.at_end_of_stream().is_ok();
            }
        }
    }

    fn identity(&self) -> Result<&Identity, Failure> {
        self.shard.identity.as_deref().ok_or_else(|| Refused::NoCredentials.into())
    }
}

/// The payload of what there is of a body.
fn plain(mut reader: Reader, raw: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < raw.len() && !reader.finished() {
        let Ok(piece) = reader.advance(&raw[at..]) else { break };
        out.extend_from_slice(&raw[at..][piece.data]);
        at += piece.consumed;
    }
    out
}
