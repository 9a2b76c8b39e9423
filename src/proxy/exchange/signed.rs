//! The part of the line that only routes have that sign anew.

use std::borrow::Cow;
use std::io::ErrorKind;
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
use crate::proxy::failure::{ClientFault, Failure, UpstreamFault};
use crate::proxy::forward::Sending;
use crate::proxy::identity::mask::Mask;
use crate::proxy::identity::veil::{self, Veiled, Why};
use crate::proxy::identity::{Admitted, Asked, Identity, Needs, SignedWith, Verdict, form, judge};
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
                let length = match self.request.body {
                    RequestBody::None => Some(0),
                    RequestBody::Length(length) => Some(length),
                    RequestBody::Chunked => None,
                };
                let room = self.shard.rooms.document(length, bytes_max).await?;
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
        let room = shard.rooms.head().ok_or(Failure::Overloaded)?;
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
        let (with, chain) = self.identity()?.write(out, &self.request, admitted, sending, holds_back)?;
        let inspector = admitted.inspector(&self.request, chain)?;
        let is_chunked = sending == Sending::Chunked;
        upload.inspection = inspector.map(|by| Box::new(Inspection { by, is_chunked }));
        Ok(with)
    }

    /// Whether an answer has to be looked at, because it may be about the gate's own signature or speak of its identity.
    /// What is given only to who signed well proves the credentials good, and the region right.
    pub(super) fn is_judged(&self, admitted: &Admitted<'_>, with: &SignedWith, status: u16) -> bool {
        if judge::is_served(status)
            && admitted.is_authorized()
            && let Ok(identity) = self.identity()
        {
            identity.prove(admitted.resign, with.credentials().generation);
            self.settle(admitted, with, true);
        }
        judge::is_telling(status) || status >= 400
    }

    /// What keeps the gate's own identity out of a successful answer that would tell of it.
    ///
    /// # Errors
    /// When the answer cannot be read.
    pub(super) fn mask(
        &self,
        admitted: &Admitted<'_>,
        with: &SignedWith,
        head: &ResponseHead,
        received: &Received,
    ) -> Result<Option<Box<Mask>>, Failure> {
        if !admitted.is_told_of_us || head.status >= 400 {
            return Ok(None);
        }
        let block = &received.buffer.filled()[..received.head_len];
        if is_coded(head, block) {
            return Err(UpstreamFault::Malformed("it is coded, which it was not asked to be").into());
        }
        Ok(Some(Box::new(Mask::new(&with.credentials().access_key))))
    }

    /// Ends the supposition that a request was signed with, if it was.
    fn settle(&self, admitted: &Admitted<'_>, with: &SignedWith, is_right: bool) {
        if let (Some(bucket), Ok(identity)) = (admitted.place.bucket, self.identity())
            && identity.settle(bucket, with, is_right)
        {
            tracing::warn!(
                bucket = bucket.name,
                region = with.region(admitted.route),
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
        let block = &received.buffer.filled()[..received.head_len];
        let framed = framing::response(head, block, self.request.method())
            .map_err(|_| UpstreamFault::Malformed("the length of its response is ambiguous"))?;
        let is_whole = self.await_error(lease, received, framed.into()).await?;
        let (block, raw) = received.buffer.filled().split_at(received.head_len);
        let answer = Answer { head, block, raw, framed, body: plain(framed.into(), raw), is_whole };
        let verdict = judge::judge(head.status, &head.fields, block, &answer.body, with.region(admitted.route));
        if let Some(region) = self.heed(admitted, with, verdict)? {
            return Ok(Some(region));
        }
        if let Some(out) = self.veil(admitted.resign, with, &answer, story)? {
            let head_len = Scan::default().feed(out.filled()).ok().flatten().unwrap_or(0);
            head.parse_into(&out.filled()[..head_len]).map_err(|_| UNSPEAKABLE)?;
            (received.buffer, received.head_len) = (out, head_len);
        }
        Ok(None)
    }

    /// Draws the consequences of an answer for the credentials and the region. Returns the region to sign for instead.
    fn heed(&self, admitted: &Admitted<'_>, with: &SignedWith, verdict: Verdict) -> Result<Option<String>, Failure> {
        let (identity, resign) = (self.identity()?, admitted.resign);
        let generation = with.credentials().generation;
        match verdict {
            Verdict::Elsewhere(region) => {
                if admitted.is_authorized() {
                    self.settle(admitted, with, false);
                }
                match admitted.place.bucket {
                    Some(_) if !region.is_empty() => Ok(Some(region)),
                    _ => Err(UpstreamFault::Elsewhere(region).into()),
                }
            }
            // What was not signed says nothing of signatures, and anybody can send it.
            _ if !admitted.is_authorized() => Ok(None),
            Verdict::Passes => Ok(None),
            Verdict::PassesInDoubt => {
                if !identity.is_proved(resign, generation) {
                    identity.doubt(resign, generation);
                }
                Ok(None)
            }
            Verdict::Revoked(code) => {
                if code == judge::REGION_IS_WRONG {
                    self.settle(admitted, with, false);
                }
                if !judge::blames_credentials(&code) && identity.is_proved(resign, generation) {
                    // A client may cause this as often as it likes.
                    if let Some(others) = identity.tells(resign, &code) {
                        tracing::warn!(code, others, "the storage does not take what the gate has signed");
                    }
                    return Err(UpstreamFault::NotTaken(code).into());
                }
                identity.doubt(resign, generation);
                Err(UpstreamFault::Revoked(code).into())
            }
        }
    }

    /// Lets requests for the bucket be signed for the region that the storage has named. In answer to what was not signed it
    /// does not outweigh a region that is known.
    pub(super) fn suppose(&self, admitted: &Admitted<'_>, region: &str) {
        if let (Some(bucket), Ok(identity)) = (admitted.place.bucket, self.identity())
            && (admitted.is_authorized() || !identity.knows_region(bucket))
        {
            identity.suppose(bucket, region);
        }
    }

    /// Other words for an answer that speaks of the gate's own identity, or may do so where it is not seen.
    fn veil(
        &self,
        resign: &ReSign,
        with: &SignedWith,
        answer: &Answer<'_>,
        story: &Story,
    ) -> Result<Option<Buffer>, Failure> {
        let Answer { head, block, framed, ref body, .. } = *answer;
        let access_key = &with.credentials().access_key[..];
        let is_read = framed == ResponseBody::None || (answer.is_whole && !is_coded(head, block));
        let why = match () {
            () if veil::names_identity(body, access_key) => Why::Names,
            () if !is_read => Why::Unread,
            () if !veil::head_names_identity(head, block, access_key) => return Ok(None),
            () => {
                let mut out = self.shard.buffers.take();
                let closes = !framing::keeps_alive(head.version, &head.fields, block);
                veil::strip(&mut out, head, (block, answer.raw), access_key, closes).map_err(|_| UNSPEAKABLE)?;
                return Ok(Some(out));
            }
        };
        self.tell_log(resign, with, answer, why, story);
        let is_the_last = framed == ResponseBody::UntilClose;
        let closes = !answer.is_whole || is_the_last || !framing::keeps_alive(head.version, &head.fields, block);
        let (path, id) = (self.request.target.path(), &story.id().to_string());
        let mut out = self.shard.buffers.take();
        Veiled { head, block, body, path, id, why, closes }.write(&mut out, access_key).map_err(|_| UNSPEAKABLE)?;
        Ok(Some(out))
    }

    /// Writes into the log what the client is not told.
    fn tell_log(&self, resign: &ReSign, with: &SignedWith, answer: &Answer<'_>, why: Why, story: &Story) {
        let status = answer.head.status;
        let code = veil::code_of(&answer.body, status);
        let others = self.identity().ok().and_then(|identity| identity.tells(resign, code));
        if others.is_none() && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let id = story.id();
        let token = with.credentials().token.as_ref().map(|token| token.as_str());
        // As a field: a message that repeats a client's key would stand beside the gate's own fields as if it were some.
        let said = veil::said(&answer.body, token);
        let what = match why {
            Why::Names => "the storage refuses what the gate has signed",
            Why::Unread => "an error of the storage could not be read to its end",
        };
        match others {
            Some(others) => tracing::warn!(%id, status, code, said, others, "{what}"),
            None => tracing::debug!(%id, status, code, said, "{what}"),
        }
    }

    /// Waits until the beginning of an error body is here, as far as it comes, and says whether that is all of it. What it is
    /// to mean if it does not come is for whoever passes it on to say.
    ///
    /// # Errors
    /// When the client has left in the meantime.
    async fn await_error(
        &self,
        lease: &Lease<D::Link>,
        received: &mut Received,
        reader: Reader,
    ) -> Result<bool, Failure> {
        let end = clock::mono() + self.shard.timeouts.upstream_body;
        loop {
            let body = &received.buffer.filled()[received.head_len..];
            let mut seen = reader.clone();
            let Ok(skim) = seen.skim(body) else { return Ok(false) };
            if skim.done {
                // More than that is for nobody.
                return Ok(skim.consumed == body.len());
            }
            if body.len() >= limits::ERROR_BODY_BYTES_MAX || received.buffer.room() == 0 {
                return Ok(false);
            }
            let buffer = std::mem::replace(&mut received.buffer, Buffer::detached(0));
            let until = Deadline::at(end).min(Deadline::after(limits::CLIENT_CHECK));
            let (result, buffer) = lease.wire().read(buffer, until).await;
            received.buffer = buffer;
            match result {
                Ok(0) => return Ok(seen.at_end_of_stream().is_ok()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut && clock::mono() < end => {
                    if self.client.wire.is_broken() {
                        return Err(ClientFault::Gone.into());
                    }
                }
                Err(_) => return Ok(false),
            }
        }
    }

    fn identity(&self) -> Result<&Identity, Failure> {
        self.shard.identity.as_deref().ok_or_else(|| Refused::NoCredentials.into())
    }
}

/// An error of the storage's, as far as it has come.
struct Answer<'a> {
    head: &'a ResponseHead,
    block: &'a [u8],
    /// What came behind the head.
    raw: &'a [u8],
    framed: ResponseBody,
    /// The payload in that.
    body: Cow<'a, [u8]>,
    /// Whether that is all of it, and nothing is behind it.
    is_whole: bool,
}

const UNSPEAKABLE: UpstreamFault = UpstreamFault::Malformed("its response head cannot be passed on");

/// Whether a body is not what it says.
fn is_coded(head: &ResponseHead, block: &[u8]) -> bool {
    head.fields.all(block, "content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// The payload of what there is of a body.
fn plain(mut reader: Reader, raw: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Cow::Borrowed(&raw[..0]);
    let mut at = 0;
    while at < raw.len() && !reader.finished() {
        let Ok(piece) = reader.advance(&raw[at..]) else { break };
        let data = &raw[at..][piece.data];
        if out.is_empty() {
            out = Cow::Borrowed(data);
        } else if !data.is_empty() {
            out.to_mut().extend_from_slice(data);
        }
        at += piece.consumed;
    }
    out
}
