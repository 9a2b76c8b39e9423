//! One request, from its head to its log line. Read [`line`] from top to bottom: that is what the gate does.

mod signed;

use std::time::Duration;

use tokio::sync::SemaphorePermit;

use crate::access::AccessSink;
use crate::buffer::Buffer;
use crate::clock::Now;
use crate::http::body::Reader;
use crate::http::framing::{self, RequestBody, ResponseBody};
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::limits;
use crate::link::{Dial, Link};
use crate::policy::route::{Mode, Route};
use crate::proxy::connection::Client;
use crate::proxy::deliver::{Delivered, Delivery};
use crate::proxy::exchange::signed::Step;
use crate::proxy::failure::{ClientFault, Failure, UpstreamFault};
use crate::proxy::forward::{self, After, Sending};
use crate::proxy::identity::Admitted;
use crate::proxy::identity::mask::Mask;
use crate::proxy::relay::{self, Received, Transfer, Turn, Upload};
use crate::proxy::reply::{self, Addressee};
use crate::proxy::shard::Shard;
use crate::proxy::spool;
use crate::proxy::story::Story;
use crate::proxy::upstream::Lease;
use crate::s3::query::Index;
use crate::s3::target::{SignatureKind, Target};

/// What the connection does next.
pub enum Next {
    /// It serves another request. Its first bytes may be here already: these, or else what is left in [`Inbound`].
    Request(Option<Buffer>),
    /// It says goodbye.
    Close,
    /// It breaks off, visibly.
    Break,
}

/// What a client has sent so far: a whole head, and perhaps more.
pub struct Inbound {
    /// Starts with the head.
    pub buffer: Buffer,
    /// Bytes of the head.
    pub head_len: usize,
    /// When the request's first byte was noticed.
    pub begun: Now,
    /// Whether this is the last request the connection may make.
    pub is_last: bool,
}

/// Serves one request and leaves one record.
pub async fn run<L, D, S>(client: &Client<L>, shard: &Shard<D, S>, inbound: &mut Inbound) -> Next
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let mut story = Story::begin(&client.wire, shard, inbound.begun);
    let (block, first) = inbound.buffer.filled().split_at(inbound.head_len);
    let mut parsed = shard.parsed();
    let (head, query, answer) = parsed.all();
    let is_last = inbound.is_last;
    let cx = Request::read(head, query, block).map(|request| Exchange { client, shard, request, first, is_last });
    let outcome = match cx {
        Ok(ref cx) => {
            story.request(&cx.request);
            let outcome = line(cx, answer, &mut story).await;
            story.named(&cx.request);
            outcome.map_err(|failure| (failure, cx.addressee()))
        }
        Err(failure) => Err((failure, Addressee::unknown())),
    };
    let done = match outcome {
        Ok(done) => Some(done),
        Err((failure, to)) => {
            let answered = tell(client, shard, &mut story, &failure, &to).await;
            answered.then_some(Done { after: to.after, first_used: 0, leftover: None })
        }
    };
    story.end(shard);
    match done {
        None => Next::Break,
        Some(done) if done.after == After::Close => Next::Close,
        Some(done) => {
            inbound.buffer.consume(inbound.head_len + done.first_used);
            Next::Request(done.leftover)
        }
    }
}

/// Answers a head that never became a request, and leaves one record.
pub async fn refuse<L, D, S>(client: &Client<L>, shard: &Shard<D, S>, failure: &Failure, begun: Now)
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let mut story = Story::begin(&client.wire, shard, begun);
    tell(client, shard, &mut story, failure, &Addressee::unknown()).await;
    story.end(shard);
}

/// How an exchange went that ended well.
struct Done {
    after: After,
    /// Bytes behind the head that belonged to the request.
    first_used: usize,
    /// The next request's bytes, where they are not behind the head.
    leftover: Option<Buffer>,
}

/// The straight line.
async fn line<L, D, S>(cx: &Exchange<'_, L, D, S>, head: &mut ResponseHead, story: &mut Story) -> Result<Done, Failure>
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let (shard, request) = (cx.shard, &cx.request);
    if request.is_ping() {
        let to = cx.addressee();
        story.answered(200, reply::ping(cx.client, shard, &to).await?);
        return Ok(Done { after: to.after, first_used: 0, leftover: None });
    }
    let route = shard.routes.find(request.authority).ok_or(ClientFault::UnknownHost)?;
    story.route(route);
    let mut admission = match &route.mode {
        Mode::PassThrough => None,
        Mode::ReSign(resign) => Some(match cx.admit(route, resign, story)? {
            Step::Admitted(admission) => admission,
            // In a box: what it takes to read bodies would be part of every idle connection.
            step => Box::pin(cx.admit_by_body(step, story)).await?,
        }),
    };
    let spooled = admission.as_mut().and_then(|admission| admission.body.take());
    let admitted = admission.as_ref().map(|admission| &admission.admitted);
    let announced = match spooled {
        Some(ref spooled) => Some(Sending::Spooled(spooled.total())),
        None => forward::sending(request.head, request.block, request.body),
    };
    let (sending, spooled, spool) = match announced {
        Some(sending) => (sending, spooled, None),
        None => Box::pin(cx.spool()).await?,
    };
    let _room = match admitted.and_then(|admitted| admitted.held_chunk(request)) {
        Some(chunk) => shard.rooms.chunked(chunk).await?,
        None => shard.rooms.exchange().await?,
    };
    let first = spooled.as_ref().map_or(cx.first, |spooled| &spooled.data);
    let reader = spooled.as_ref().map_or(request.body.into(), |spooled| Reader::Length(spooled.total()));
    let mut upload = Upload::new(reader, first);
    let _uploading = shard.carry(upload.reader.remaining());
    let conversed = cx.converse(route, admitted, sending, &mut upload, head, story).await;
    story.sent(upload.bytes);
    let Conversed { lease, received, client_holds_back, mask } = conversed?;
    // What the request took to be read is of no use to its answer, which may take its time.
    let (first_used, leftover) = (upload.first_used, upload.leftover);
    let (first_used, leftover) = match spooled {
        Some(spooled) => (spooled.first_used, spooled.leftover.or(leftover)),
        None => (first_used, leftover),
    };
    drop((admission, spool));
    let (head, block) = (&*head, &received.buffer.filled()[..received.head_len]);
    story.response(head, block);
    let body = framing::response(head, block, request.method())
        .map_err(|_| UpstreamFault::Malformed("the length of its response is ambiguous"))?;
    let returning = forward::returning(body, request.head.version);
    let keeps = request.keeps_alive
        && received.request_complete
        && !client_holds_back
        && !cx.is_last
        && !shard.is_draining()
        && body != ResponseBody::UntilClose
        && returning != forward::Returning::Unchunked;
    let after = if keeps { After::Keep } else { After::Close };
    let upstream_keeps = received.request_complete
        && body != ResponseBody::UntilClose
        && framing::keeps_alive(head.version, &head.fields, block);
    let mut out = shard.buffers.take();
    forward::response(&mut out, head, block, body, request.head.version, after)
        .map_err(|_| UpstreamFault::Malformed("its response head cannot be passed on"))?;
    let delivery = Delivery {
        client: &cx.client.wire,
        upstream: lease.wire(),
        buffers: &shard.buffers,
        pipes: &shard.pipes,
        timeouts: &shard.timeouts,
        returning,
        is_error: head.status >= 400,
        mask,
    };
    let mut delivered = Delivered::default();
    let mut from = received.buffer;
    from.consume(received.head_len);
    let reader = Reader::from(body);
    let _downloading = shard.carry(reader.remaining());
    let result = delivery.run(out, from, reader, &mut delivered).await;
    story.delivered(&mut delivered);
    result?;
    match (delivered.is_clean, upstream_keeps) {
        (true, true) => lease.give_back(),
        (true, false) => lease.close(),
        (false, _) => drop(lease),
    }
    Ok(Done { after, first_used, leftover })
}

/// An answer as far as its head.
struct Conversed<U: Link> {
    lease: Lease<U>,
    received: Received,
    /// Whether the client never got its `100 Continue`.
    client_holds_back: bool,
    /// What hides the gate's own identity in it.
    mask: Option<Box<Mask>>,
}

/// One request and everything it meets.
struct Exchange<'a, L: Link, D: Dial, S: AccessSink> {
    client: &'a Client<L>,
    shard: &'a Shard<D, S>,
    request: Request<'a>,
    /// What came along behind the head.
    first: &'a [u8],
    is_last: bool,
}

impl<L: Link, D: Dial, S: AccessSink> Exchange<'_, L, D, S> {
    /// Reads a body that does not say how long it is.
    async fn spool(&self) -> Result<(Sending, Option<Box<spool::Spooled>>, Option<SemaphorePermit<'_>>), Failure> {
        let room = self.shard.rooms.spool().await?;
        let spooled = self.read_body(self.shard.limits.spool_bytes_max).await?;
        Ok((Sending::Spooled(spooled.total()), Some(spooled), Some(room)))
    }

    /// Reads the whole body, if it has no more than `limit` bytes.
    async fn read_body(&self, limit: usize) -> Result<Box<spool::Spooled>, Failure> {
        let (request, shard) = (&self.request, self.shard);
        if request.holds_back && limit > 0 {
            relay::say_continue(&self.client.wire, &shard.buffers, shard.timeouts.client_write).await?;
        }
        let reader = request.body.into();
        let spooled = spool::read(&self.client.wire, &shard.buffers, &shard.timeouts, reader, self.first, limit);
        spooled.await.map(Box::new)
    }

    /// Sends the request and gets the response head. A reused connection that died without a byte of response is
    /// replaced once, if everything sent so far is still here and the method may be repeated (RFC 9110 §9.2.2).
    async fn converse(
        &self,
        route: &Route,
        admitted: Option<&Admitted<'_>>,
        sending: Sending,
        upload: &mut Upload<'_>,
        head: &mut ResponseHead,
        story: &mut Story,
    ) -> Result<Conversed<D::Link>, Failure> {
        let (shard, request) = (self.shard, &self.request);
        let upstream = &shard.upstreams[route.upstream];
        let mut holds_back = request.holds_back && !matches!(sending, Sending::Spooled(_));
        let body = upload.reader.clone();
        let has_second_try = request.is_repeatable() && upload.is_at_hand();
        let mut moved = false;
        let mut is_first = true;
        loop {
            // Before a connection is taken: what cannot be sent costs none.
            let mut out = shard.buffers.take();
            let written = match admitted {
                None => {
                    forward::request(&mut out, request.head, request.block, route, sending, holds_back)
                        .map_err(|_| ClientFault::Head(crate::http::head::HeadError::TooLarge))?;
                    None
                }
                Some(admitted) => Some(self.write_signed(&mut out, admitted, sending, holds_back, upload)?),
            };
            let reused = std::mem::take(&mut is_first)
                .then(|| upstream.reuse(if has_second_try { Duration::MAX } else { limits::UPSTREAM_FRESH }));
            let lease = match reused.flatten() {
                Some(lease) => lease,
                // In a box: connections are opened rarely, and what that needs would be part of every idle client.
                None => Box::pin(upstream.open(&shard.dial, &shard.buffers, &shard.timeouts)).await?,
            };
            story.upstream(lease.wire().peer(), lease.is_reused());
            let turn = Turn::new(holds_back);
            let transfer = Transfer {
                client: &self.client.wire,
                upstream: &lease,
                buffers: &shard.buffers,
                pipes: &shard.pipes,
                timeouts: &shard.timeouts,
            };
            let outcome = transfer.exchange(&turn, out, upload, head).await;
            match outcome {
                Ok(mut received) => {
                    if let (Some(admitted), Some(written)) = (admitted, &written)
                        && self.is_judged(admitted, written, head.status)
                        && let Some(region) =
                            Box::pin(self.judge(admitted, written, &lease, &mut received, head, story)).await?
                    {
                        // The storage did nothing, and the region is known now: again, if all of the body is still here.
                        let was_moved = std::mem::replace(&mut moved, true);
                        if !was_moved {
                            self.suppose(admitted, &region);
                        }
                        if was_moved || upload.consumed || admitted.is_form() {
                            return Err(UpstreamFault::Elsewhere(region).into());
                        }
                        holds_back = turn.client_holds_back();
                        *upload = Upload::new(body.clone(), upload.first);
                        story.retried();
                        continue;
                    }
                    let mask = match (admitted, &written) {
                        (Some(admitted), Some(written)) => self.mask(admitted, written, head, &received)?,
                        _ => None,
                    };
                    return Ok(Conversed { lease, received, client_holds_back: turn.client_holds_back(), mask });
                }
                Err(Failure::Upstream(UpstreamFault::Closed))
                    if lease.is_reused() && !turn.is_answered() && !upload.consumed && request.is_repeatable() =>
                {
                    holds_back = turn.client_holds_back();
                    *upload = Upload::new(body.clone(), upload.first);
                    story.retried();
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Whom the gate's own answer is for. The connection stays only if nothing of a body can be in the way.
    fn addressee(&self) -> Addressee {
        let request = &self.request;
        let keeps = request.keeps_alive
            && matches!(request.body, RequestBody::None | RequestBody::Length(0))
            && !self.is_last
            && !self.shard.is_draining();
        Addressee {
            version: request.head.version,
            is_head: request.method() == b"HEAD",
            path: request.target.path().to_vec(),
            after: if keeps { After::Keep } else { After::Close },
        }
    }
}

/// A request that can be read in one way only.
pub struct Request<'a> {
    /// The parsed head.
    pub head: &'a RequestHead,
    /// The head's bytes.
    pub block: &'a [u8],
    /// The host the client asked for.
    pub authority: &'a [u8],
    /// Path and query as they came.
    pub target: Target<'a>,
    /// The body's framing.
    pub body: RequestBody,
    /// Whether the client waits for `100 Continue` before it sends its body.
    pub holds_back: bool,
    /// Whether the client would make another request on this connection.
    pub keeps_alive: bool,
}

impl<'a> Request<'a> {
    /// Parses and judges a head.
    fn read(head: &'a mut RequestHead, query: &'a mut Index, block: &'a [u8]) -> Result<Self, Failure> {
        head.parse_into(block).map_err(ClientFault::Head)?;
        let head = &*head;
        let body = framing::request(head, block).map_err(ClientFault::Framing)?;
        let authority = framing::authority(head, block).map_err(ClientFault::Framing)?;
        if matches!(head.method(block), b"CONNECT" | b"TRACE") {
            return Err(ClientFault::Method.into());
        }
        let expects = framing::expects_continue(head, block);
        if !expects && head.version == Version::Http11 && head.fields.get(block, "expect").is_some() {
            return Err(ClientFault::Expectation.into());
        }
        Ok(Self {
            head,
            block,
            authority,
            target: Target::indexed(framing::origin_target(head, block), query),
            body,
            holds_back: expects && !matches!(body, RequestBody::None | RequestBody::Length(0)),
            keeps_alive: framing::keeps_alive(head.version, &head.fields, block),
        })
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.head.method(self.block)
    }

    /// ShotGrid's and load balancers' health check. A signed link is never one: it is for an object of that name.
    #[must_use]
    pub fn is_ping(&self) -> bool {
        self.target.path() == b"/ping"
            && matches!(self.method(), b"GET" | b"HEAD")
            && self.target.signature() == SignatureKind::None
    }

    fn is_repeatable(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
    }
}

/// Tells the client about a failure, where it can still be told, and the story always. Says whether the connection is
/// in order.
async fn tell<L, D, S>(
    client: &Client<L>,
    shard: &Shard<D, S>,
    story: &mut Story,
    failure: &Failure,
    to: &Addressee,
) -> bool
where
    L: Link,
    D: Dial,
    S: AccessSink,
{
    let row = failure.row();
    story.failed(failure, &row);
    if !row.is_answered() || story.is_answered() {
        return false;
    }
    match reply::failure(client, shard, to, &row, &failure.details(), story.id()).await {
        Ok(bytes) => {
            story.answered(row.status, bytes);
            true
        }
        Err(_) => {
            story.unheard();
            false
        }
    }
}
