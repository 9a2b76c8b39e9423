//! Forms that upload a file: verified, decided about and signed anew in front of the file, which follows as it comes.

use crate::clock;
use crate::http::framing::RequestBody;
use crate::policy::authorize::{self, Asker};
use crate::policy::identity::{ClientId, Presence};
use crate::policy::route::{Place, ReSign, Route};
use crate::proxy::exchange::Request;
use crate::proxy::identity::ask::Outgoing;
use crate::proxy::identity::{Admitted, Identity, Tools};
use crate::proxy::inspect::Inspects;
use crate::proxy::refusal::Refused;
use crate::s3::features;
use crate::s3::form::{Boundary, Form, FormError};
use crate::sign::claim::Malformed;
use crate::sign::form::{self, Circumstances, FormClaim, FormRefusal, Signer};
use crate::sign::key::{Scope, SigningKey};
use crate::sign::keys::Owner;
use crate::sign::payload::Payload;
use crate::sign::time::Stamp;
use crate::sign::verify::UNSIGNED_PAYLOAD;

/// A form that may go out.
pub struct AdmittedForm<'a> {
    /// How it goes out.
    pub admitted: Admitted<'a>,
    /// Who sent it.
    pub client: ClientId,
    /// The key of its object.
    pub key: Vec<u8>,
    /// What stands in front of the file, signed by the gate.
    pub head: Vec<u8>,
    /// Bytes that stood there before.
    pub replaced: usize,
}

/// The boundary of a form that a request for a bucket uploads; `None` when it is another request. Bodies of forms have a
/// length (Amazon S3 API Reference, "POST Object").
///
/// # Errors
/// A form that cannot be one.
pub fn boundary(request: &Request<'_>, place: &Place<'_>) -> Result<Option<Boundary>, Refused> {
    let is_upload = request.method() == b"POST" && place.bucket.is_some() && place.key.is_empty();
    if !is_upload || request.target.pairs().next().is_some() {
        return Ok(None);
    }
    let fields = &request.head.fields;
    if fields.get(request.block, "authorization").is_some() {
        return Err(Refused::Malformed(Malformed::TwoMechanisms));
    }
    if fields.all(request.block, "content-type").nth(1).is_some() {
        return Err(Refused::FormShape(FormError::NotAForm));
    }
    let content_type = fields.get(request.block, "content-type").unwrap_or_default();
    let boundary = Boundary::of(content_type).map_err(Refused::FormShape)?;
    match request.body {
        RequestBody::Length(_) => Ok(Some(boundary)),
        _ => Err(Refused::FormLength),
    }
}

impl Identity {
    /// Whether anybody whose forms the route might take could be there.
    #[must_use]
    pub fn expects_forms(&self, resign: &ReSign, presence: &Presence<'_>) -> bool {
        self.clients().keyed(presence).any(|client| resign.rules.know(client, true))
    }

    /// Finds out who sent a form and whether they may, and signs it anew. `total` is the length of the whole body.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit_form<'a>(
        &self,
        (request, route, resign): (&Request<'_>, &'a Route, &'a ReSign),
        place: Place<'a>,
        form: &Form<'_>,
        total: u64,
        presence: &Presence<'_>,
    ) -> Result<AdmittedForm<'a>, Refused> {
        let bucket = place.bucket.ok_or(Refused::NoSuchBucket)?;
        let claim = FormClaim::read(form).map_err(Refused::Form)?;
        let entry = self.known.keyring.find(claim.access_key).ok_or(Refused::UnknownKey)?;
        self.clients().admits(entry.client, presence).map_err(|why| Refused::NotAdmitted(why.message()))?;
        if !entry.has_token(claim.token) {
            return Err(Refused::Token);
        }
        // Before a key is derived, as for other requests.
        if claim.scope.region != route.region.as_bytes() || claim.scope.service != b"s3" {
            return Err(Refused::Form(FormRefusal::WrongScope));
        }
        let tools = &mut *self.tools.borrow_mut();
        let owner = Owner::Client(entry.client.0);
        let key = tools.keys.get(owner, claim.scope, || SigningKey::derive(&entry.secret, claim.scope));
        let at = Circumstances { bucket: &bucket.name, region: &route.region, now: presence.now };
        let verified = form::verify(form, &claim, key, at).map_err(Refused::Form)?;

        let names = form.fields().map(|field| field.name);
        let unknown = |unknown: features::Unknown| Refused::Unknown(unknown.to_string());
        let fields = &request.head.fields;
        let features = features::of_form(names).map_err(unknown)?;
        let of_head =
            features::read(b"POST", crate::s3::operation::Level::Bucket, request.target, fields, request.block);
        let features = features.and(of_head.map_err(unknown)?);
        let asker = Asker { client: entry.client, is_keyed: true };
        let authorized = authorize::authorize(&resign.rules, asker, [authorize::post(verified.key(), features)]);
        let authorized = authorized.map_err(|refused| Refused::of_policy(refused, "PostObject"))?;

        let now = Stamp::at(clock::unix_seconds());
        let Tools { own, held, regions, .. } = tools;
        let with = self.sign_with(held, regions, resign, Some(bucket))?;
        let (region, credentials) = (with.region(route), with.credentials());
        let scope = Scope { date: now.date(), region: region.as_bytes(), service: b"s3" };
        let owner = Owner::Credential(resign.credential, credentials.generation);
        let signer = Signer {
            access_key: &credentials.access_key,
            token: credentials.token.as_ref().map(|token| token.as_str()),
            key: own.get(owner, scope, || SigningKey::derive(&credentials.secret, scope)),
            region,
            now,
            seconds: FORM_SECONDS,
        };
        let head = verified.rewrite(&signer, Some(total)).map_err(Refused::Form)?;
        let (word, payload) = (UNSIGNED_PAYLOAD, Payload::Unsigned);
        let end = Inspects::Form { head: head.len(), end: Box::new(form.file_end()), held: Vec::new() };
        let outgoing = Outgoing::of_form(route, resign, place, word, payload, end, with);
        Ok(AdmittedForm {
            admitted: Admitted::new(outgoing, authorized),
            client: entry.client,
            key: verified.key().to_vec(),
            head,
            replaced: form.head_bytes(),
        })
    }
}

/// How long the gate's own policy of a form is good: S3 looks at it when the upload begins.
const FORM_SECONDS: u64 = 15 * 60;

impl From<FormRefusal> for Refused {
    fn from(refusal: FormRefusal) -> Self {
        Self::Form(refusal)
    }
}
