//! Who asks, what for, and whether they may.

use std::cell::Cell;

use crate::http::framing::RequestBody;
use crate::limits;
use crate::policy::authorize::{self, Ask, Asker, Authorized};
use crate::policy::identity::{ClientId, Presence};
use crate::policy::route::{Place, ReSign, Route};
use crate::policy::rules::{Demand, Verdict};
use crate::proxy::exchange::Request;
use crate::proxy::identity::{Identity, SignedWith, Tools, mask};
use crate::proxy::inspect::Inspects;
use crate::proxy::refusal::{Reading, Refused};
use crate::s3::delete;
use crate::s3::escape;
use crate::s3::features::{self, Feature, FeatureSet};
use crate::s3::operation::{self, Level};
use crate::s3::restore;
use crate::s3::target;
use crate::sign::canonical::Scratch;
use crate::sign::checksum::Expected;
use crate::sign::chunks::Chain;
use crate::sign::claim::{self, Claim};
use crate::sign::key::{Signature, SigningKey};
use crate::sign::keyring::Entry;
use crate::sign::keys::Owner;
use crate::sign::payload::{Declared, Inspector, Payload, PayloadError};
use crate::sign::time::Stamp;
use crate::sign::verify::{self, Evidence, Refusal, UNSIGNED_PAYLOAD};

/// A request of a client who is known.
pub struct Asked<'a> {
    asker: Asker,
    /// Who else it could be: of those who are known by where they come from there may be several.
    others: Vec<Asker>,
    operation: &'static str,
    features: FeatureSet,
    outgoing: Outgoing<'a>,
}

/// What has to be read of a request's body before it can be decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// The keys of a DeleteObjects.
    Keys,
    /// What a RestoreObject is to do besides.
    Restore,
}

/// A request that may go out, signed if it was authorized.
pub struct Admitted<'a> {
    outgoing: Outgoing<'a>,
    /// `None` for a browser's question that S3 answers to anybody, and that is not signed.
    authorized: Option<Authorized>,
}

impl<'a> std::ops::Deref for Admitted<'a> {
    type Target = Outgoing<'a>;

    fn deref(&self) -> &Outgoing<'a> {
        &self.outgoing
    }
}

/// How a request goes out.
pub struct Outgoing<'a> {
    /// Its route.
    pub route: &'a Route,
    /// How the route signs.
    pub resign: &'a ReSign,
    /// What it is for.
    pub place: Place<'a>,
    /// Whether the client signed in the query.
    pub is_link: bool,
    /// Whether a success tells who signed it.
    pub is_told_of_us: bool,
    /// A form, which carries its signature in its body.
    form: Option<Posted>,
    /// What stands for the payload, as it is signed.
    pub word: &'a [u8],
    /// What that means.
    pub payload: Payload,
    /// What the client's signatures of chunks are made with.
    chain: Option<Box<ClientChain>>,
    /// Checksums the head promises.
    checksums: Vec<Expected>,
}

struct Posted {
    /// What sees to its end, once.
    end: Cell<Option<Inspects>>,
    with: SignedWith,
}

struct ClientChain {
    key: SigningKey,
    signed_at: Stamp,
    scope: Vec<u8>,
    seed: Signature,
}

impl Identity {
    /// Finds out who asks and what for. Nothing is said of buckets, keys or rules to those who are not known.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn ask<'a>(
        &self,
        request: &'a Request<'a>,
        route: &'a Route,
        resign: &'a ReSign,
        presence: &Presence<'_>,
    ) -> Result<Asked<'a>, Refused> {
        let (fields, block) = (&request.head.fields, request.block);
        let claim =
            claim::read(request.target, fields, block).map_err(Refused::Malformed)?.ok_or(Refused::Anonymous)?;
        let mut others = Vec::new();
        let (asker, word, chain) = match self.known.keyring.find(claim.access_key()) {
            Some(entry) => {
                let (word, chain) = self.verify(request, route, &claim, entry, presence)?;
                (Asker { client: entry.client, is_keyed: true }, word, chain)
            }
            None => {
                others = self.trust(route, resign, &claim, presence)?;
                (others.remove(0), UNSIGNED_PAYLOAD, None)
            }
        };
        let place = route.place(resign, request.authority, request.target.path()).ok_or(Refused::NoSuchBucket)?;
        let level = match place.bucket {
            None => Level::Service,
            Some(_) if place.key.is_empty() => Level::Bucket,
            Some(_) => Level::Object,
        };
        if level == Level::Service && resign.service_host.is_none() {
            return Err(Refused::Unknown("requests for all buckets on this route".into()));
        }
        let features = features::read(request.method(), level, request.target, fields, block)
            .map_err(|unknown| Refused::Unknown(unknown.to_string()))?;
        let mut operation = operation::at(request.method(), level, request.target);
        if features.has(Feature::Copy) {
            operation = operation::copying(operation);
        }
        let payload =
            Payload::read(word).map_err(|unsupported| Refused::Unknown(format!("a payload of {}", unsupported.0)))?;
        check_coding(request, payload)?;
        // Elsewhere they are of something other than the body: of the whole object, when its parts are put together.
        let is_of_the_body = matches!(operation, "PutObject" | "UploadPart");
        let checksums = if resign.verify_payload && is_of_the_body { expected_checksums(request)? } else { Vec::new() };
        let is_link = claim.place == claim::Place::Query;
        let is_told_of_us = mask::is_told_of_us(operation);
        let outgoing =
            Outgoing { route, resign, place, is_link, is_told_of_us, form: None, word, payload, chain, checksums };
        Ok(Asked { asker, others, operation, features, outgoing })
    }

    /// A browser's question whether it may send a request from another site's page (CORS preflight). Browsers cannot sign it,
    /// and S3 answers it from the bucket's configuration to anybody, so it goes out unsigned.
    ///
    /// # Errors
    /// When it is not such a question, or about no bucket of the route.
    pub fn preflight<'a>(
        &self,
        request: &'a Request<'a>,
        route: &'a Route,
        resign: &'a ReSign,
    ) -> Result<Admitted<'a>, Refused> {
        let asks = |name| request.head.fields.get(request.block, name).is_some();
        if !asks("origin") || !asks("access-control-request-method") || request.body != RequestBody::None {
            return Err(Refused::Anonymous);
        }
        let place = route.place(resign, request.authority, request.target.path()).ok_or(Refused::NoSuchBucket)?;
        place.bucket.ok_or(Refused::NoSuchBucket)?;
        if target::has_dots(&escape::decode(place.key)) {
            return Err(Refused::Key);
        }
        // Nobody has read them as those of other requests are, and writing compares each with each.
        if request.target.pairs().nth(limits::QUERY_PAIRS_MAX).is_some() {
            return Err(Refused::Unknown("a question with so many parameters".into()));
        }
        let (word, payload) = (UNSIGNED_PAYLOAD, Payload::Unsigned);
        let (is_link, is_told_of_us, form, chain, checksums) = (true, false, None, None, Vec::new());
        let outgoing = Outgoing { route, resign, place, is_link, is_told_of_us, form, word, payload, chain, checksums };
        Ok(Admitted { outgoing, authorized: None })
    }

    /// Verifies a signature that was made with one of the gate's own keys.
    fn verify<'a>(
        &self,
        request: &Request<'a>,
        route: &Route,
        claim: &Claim<'_>,
        entry: &Entry,
        presence: &Presence<'_>,
    ) -> Result<(&'a [u8], Option<Box<ClientChain>>), Refused> {
        self.known.clients.admits(entry.client, presence).map_err(|why| Refused::NotAdmitted(why.message()))?;
        if !entry.has_token(claim.token.as_deref()) {
            return Err(Refused::Token);
        }
        let evidence = Evidence {
            method: request.method(),
            target: request.target,
            fields: &request.head.fields,
            block: request.block,
        };
        let Tools { keys, scratch, .. } = &mut *self.tools.borrow_mut();
        let refused = |refusal, reading| Refused::Signature {
            refusal,
            place: claim.place,
            region: route.region.clone(),
            reading,
        };
        // Before a key is derived: what comes with a wrong date costs no more than reading it.
        let framed =
            verify::check_frame(claim, presence.now, &route.region).map_err(|refusal| refused(refusal, None))?;
        let owner = Owner::Client(entry.client.0);
        let key = keys.get(owner, claim.scope(), || SigningKey::derive(&entry.secret, claim.scope()));
        match verify::verify(framed, key, &evidence, scratch) {
            Ok(word) => {
                let is_chain = word.starts_with(b"STREAMING-AWS4-HMAC");
                Ok((word, is_chain.then(|| Box::new(ClientChain::new(claim, key)))))
            }
            Err(refusal) => {
                let reading = (refusal == Refusal::Mismatch).then(|| reading(claim, scratch)).flatten();
                Err(refused(refusal, reading))
            }
        }
    }

    /// Everybody who it could be, by where the request comes from, with a link of somebody else's; those first of whom the
    /// rules know something. Of the link everything is checked but the signature.
    fn trust(
        &self,
        route: &Route,
        resign: &ReSign,
        claim: &Claim<'_>,
        presence: &Presence<'_>,
    ) -> Result<Vec<Asker>, Refused> {
        let present = self.known.clients.trusted(presence).map(|client| Asker { client, is_keyed: false });
        let mut present: Vec<_> = present.collect();
        present.sort_by_key(|asker| !resign.rules.know(asker.client, false));
        let is_known = present.first().is_some_and(|first| resign.rules.know(first.client, false));
        if claim.place == claim::Place::Field || !is_known {
            return Err(Refused::UnknownKey);
        }
        verify::check_frame(claim, presence.now, &route.region).map_err(|refusal| Refused::Signature {
            refusal,
            place: claim.place,
            region: route.region.clone(),
            reading: None,
        })?;
        Ok(present)
    }
}

impl<'a> Asked<'a> {
    /// Who asks.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.asker.client
    }

    /// The operation that is asked for.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What it is about.
    #[must_use]
    pub fn place(&self) -> Place<'a> {
        self.outgoing.place
    }

    /// Whether the request's own target says which bucket it is about.
    #[must_use]
    pub fn is_at_endpoint(&self) -> bool {
        self.outgoing.resign.is_endpoint
    }

    /// What has to be read before this can be [decided](Self::decide).
    #[must_use]
    pub fn needs(&self) -> Needs {
        let Asker { client, is_keyed } = self.asker;
        let rules = &self.outgoing.resign.rules;
        match self.operation {
            "DeleteObjects" if rules.needs_keys(client, is_keyed, self.features) => Needs::Keys,
            RESTORE => {
                let key = escape::decode(self.outgoing.place.key);
                let demand = Demand { operation: RESTORE, key, features: self.features };
                match rules.decide(client, is_keyed, &demand) {
                    Verdict::Allowed { .. } => Needs::Restore,
                    _ => Needs::Nothing,
                }
            }
            _ => Needs::Nothing,
        }
    }

    /// Asks the rules. `body` is what was needed of it.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn decide(self, request: &Request<'_>, body: Option<&[u8]>) -> Result<Admitted<'a>, Refused> {
        let Self { asker, mut others, operation, features, outgoing } = self;
        let rules = &outgoing.resign.rules;
        let authorized = match (operation, body) {
            ("DeleteObjects", Some(xml)) => {
                let keys = delete::keys(xml).map_err(Refused::Document)?;
                authorize::authorize(rules, asker, authorize::deletions(&keys, features))
            }
            _ => {
                let key = escape::decode(outgoing.place.key);
                let ask = Ask {
                    operation,
                    key: &key,
                    features,
                    target: request.target,
                    copy_source: request.head.fields.get(request.block, "x-amz-copy-source"),
                };
                let buckets = &outgoing.resign.buckets;
                let demands = authorize::demands(&ask, buckets);
                if others.is_empty() {
                    demands.and_then(|demands| authorize::authorize(rules, asker, demands))
                } else {
                    others.insert(0, asker);
                    let demands: Result<Vec<_>, _> = demands.map(Iterator::collect);
                    demands.and_then(|demands| authorize::authorize_any(rules, &others, || demands.iter().cloned()))
                }
            }
        };
        let authorized = authorized.map_err(|refused| Refused::of_policy(refused, operation))?;
        if operation == RESTORE {
            let xml = body.ok_or_else(|| Refused::Unknown("a RestoreObject without its body".into()))?;
            restore::check(xml).map_err(not_restored)?;
        }
        Ok(Admitted { outgoing, authorized: Some(authorized) })
    }
}

impl<'a> Outgoing<'a> {
    /// A form, which is signed within its body.
    pub(super) fn of_form(
        route: &'a Route,
        resign: &'a ReSign,
        place: Place<'a>,
        word: &'a [u8],
        payload: Payload,
        end: Inspects,
        with: SignedWith,
    ) -> Self {
        let form = Some(Posted { end: Cell::new(Some(end)), with });
        let (is_link, is_told_of_us, chain, checksums) = (false, false, None, Vec::new());
        Self { route, resign, place, is_link, is_told_of_us, form, word, payload, chain, checksums }
    }

    /// What a form was signed with.
    pub(super) fn posted(&self) -> Option<&SignedWith> {
        self.form.as_ref().map(|form| &form.with)
    }

    /// Whether it is a form.
    #[must_use]
    pub fn is_form(&self) -> bool {
        self.form.is_some()
    }
}

impl<'a> Admitted<'a> {
    /// Something that was authorized.
    pub(super) fn new(outgoing: Outgoing<'a>, authorized: Authorized) -> Self {
        Self { outgoing, authorized: Some(authorized) }
    }
}

impl Admitted<'_> {
    /// Whether it may be signed.
    #[must_use]
    pub fn is_authorized(&self) -> bool {
        self.authorized.is_some()
    }

    /// The most bytes a chunk of the body can have, where chunks are held until they are verified.
    #[must_use]
    pub fn held_chunk(&self, request: &Request<'_>) -> Option<u64> {
        let is_signed = self.payload.form().is_some_and(|form| form.is_signed);
        is_signed.then(|| decoded_length(request).ok().flatten().unwrap_or(u64::MAX))
    }

    /// What looks at the body on its way, if anything has to. `ours` is where the gate's own signatures of chunks start.
    ///
    /// # Errors
    /// When what the head says of the body does not fit together.
    pub fn inspector(&self, request: &Request<'_>, ours: Option<Box<Chain>>) -> Result<Option<Inspects>, Refused> {
        if let Some(form) = &self.form {
            return Ok(form.end.take());
        }
        let (fields, block) = (&request.head.fields, request.block);
        let verifies = self.resign.verify_payload;
        let is_checked = self.payload.form().is_some()
            || (verifies
                && (matches!(self.payload, Payload::Digest(_) | Payload::Empty) || !self.checksums.is_empty()));
        if !is_checked {
            return Ok(None);
        }
        let declared = Declared {
            decoded_length: decoded_length(request)?,
            trailer: fields.get(block, "x-amz-trailer"),
            checksums: &self.checksums,
        };
        let theirs = self.chain.as_ref().map(|chain| chain.begin());
        Inspector::new(self.payload, declared, theirs, ours.map(|chain| *chain), verifies)
            .map(|by| Some(Inspects::Payload(Box::new(by))))
            .map_err(Refused::Payload)
    }
}

impl ClientChain {
    fn new(claim: &Claim<'_>, key: &SigningKey) -> Self {
        let mut scope = Vec::with_capacity(48);
        claim.scope().write(&mut scope);
        Self { key: key.clone(), signed_at: claim.signed_at, scope, seed: claim.signature }
    }

    fn begin(&self) -> Chain {
        Chain::in_scope(self.key.clone(), &self.signed_at, &self.scope, self.seed)
    }
}

/// Brings back what was archived, and with a body of more than that anything else.
const RESTORE: &str = "RestoreObject";

fn not_restored(why: restore::NotTaken) -> Refused {
    match why {
        restore::NotTaken::Document(why) => Refused::Document(why),
        restore::NotTaken::Element(name) => Refused::Unknown(format!("{name} in a RestoreRequest")),
    }
}

/// What the gate has read, for the owner of the key to compare with what they signed. Nothing that is longer than an answer
/// may be, and nothing with a session token in it.
fn reading(claim: &Claim<'_>, scratch: &Scratch) -> Option<Box<Reading>> {
    if claim.token.is_some() || scratch.text().len() > READING_BYTES_MAX {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Box::new(Reading {
        access_key: text(claim.access_key()),
        string_to_sign: text(scratch.string_to_sign()),
        canonical: text(scratch.text()),
    }))
}

const READING_BYTES_MAX: usize = 4 * 1024;

/// Whether the coding of the body is what its payload says. S3 stores the frames of chunks where the two differ.
fn check_coding(request: &Request<'_>, payload: Payload) -> Result<(), Refused> {
    let (fields, block) = (&request.head.fields, request.block);
    if payload.form().is_some() {
        return Ok(());
    }
    let mut codings = fields.all(block, "content-encoding").flat_map(|value| value.split(|&byte| byte == b','));
    if codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"aws-chunked")) {
        return Err(Refused::Unknown("the content-encoding aws-chunked without a payload that streams".into()));
    }
    for name in ["x-amz-decoded-content-length", "x-amz-trailer"] {
        if fields.get(block, name).is_some() {
            return Err(Refused::Unknown(format!("{name} without a payload that streams")));
        }
    }
    Ok(())
}

fn decoded_length(request: &Request<'_>) -> Result<Option<u64>, Refused> {
    let mut given = request.head.fields.all(request.block, "x-amz-decoded-content-length");
    let (Some(value), None) = (given.next(), given.next()) else { return Ok(None) };
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = is_number.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten();
    number.map(Some).ok_or(Refused::Payload(PayloadError::LengthMismatch))
}

/// The checksums a head promises of its body.
fn expected_checksums(request: &Request<'_>) -> Result<Vec<Expected>, Refused> {
    let fields = request.head.fields.iter(request.block);
    let expected = fields.filter_map(|(name, value)| Expected::of_field(name, value).transpose());
    expected.collect::<Result<_, _>>().map_err(|_| Refused::Payload(PayloadError::Malformed("a checksum is none")))
}
