//! The head of a request that the gate signs.

use std::borrow::Cow;
use std::rc::Rc;

use crate::buffer::Buffer;
use crate::clock;
use crate::http::encode::{EncodeError, HeadWriter};
use crate::policy::route::{Bucket, ReSign, Style};
use crate::proxy::exchange::Request;
use crate::proxy::failure::{ClientFault, Failure};
use crate::proxy::forward::{self, Sending};
use crate::proxy::identity::regions::Regions;
use crate::proxy::identity::{Admitted, Held, Identity, SignedWith, Tools};
use crate::proxy::refusal::Refused;
use crate::s3::escape;
use crate::s3::query::Kind;
use crate::s3::target::Target;
use crate::sign::chunks::Chain;
use crate::sign::key::{Scope, SigningKey};
use crate::sign::keys::Owner;
use crate::sign::request::{Composing, Signer};
use crate::sign::time::Stamp;

impl Identity {
    /// Writes the head of an admitted request and signs it with the credentials that are good now. Where the body is signed in
    /// chunks, their signatures start with what comes back beside what the head was signed with.
    ///
    /// # Errors
    /// When there are none, or the head cannot be sent.
    pub fn write(
        &self,
        out: &mut Buffer,
        request: &Request<'_>,
        admitted: &Admitted<'_>,
        sending: Sending,
        expects_continue: bool,
    ) -> Result<(SignedWith, Option<Box<Chain>>), Failure> {
        let tools = &mut *self.tools.borrow_mut();
        let Tools { own, composer, target, held, regions, stamp, .. } = tools;
        let now = clock::unix_seconds();
        let stamp = match stamp {
            Some(stamp) if stamp.seconds() == now => stamp,
            _ => stamp.insert(Stamp::at(now)),
        };
        let with = match admitted.posted() {
            Some(with) => with.clone(),
            None => self.sign_with(held, regions, admitted.resign, admitted.place.bucket)?,
        };
        let (region, credentials) = (with.region(admitted.route), with.credentials());
        let host = host_in(admitted, region);
        write_target(target, request, admitted);
        let scope = Scope::of_s3(stamp, region.as_bytes());
        let owner = Owner::Credential(admitted.resign.credential, credentials.generation);
        let key = own.get(owner, scope, || SigningKey::derive(&credentials.secret, scope));
        let signer = Signer { access_key: &credentials.access_key, key, region: region.as_bytes(), stamp };

        let method = request.method();
        let token = credentials.token.as_ref().map(|token| token.as_str().as_bytes());
        let is_signed = admitted.is_authorized() && !admitted.is_form();
        let mut writer = HeadWriter::new(out);
        writer.request_line(method, target);
        let mut composing = None;
        if is_signed {
            let by = (owner, signer, token);
            let begun = composer.begin(by, host.as_bytes(), admitted.word).map_err(unwritable)?;
            writer.lines(composing.insert(begun).own_lines());
        } else {
            writer.field(b"Host", host.as_bytes());
        }
        let mut writing = Writing { writer, composing };
        writing.fields(request, admitted, sending);
        if admitted.is_link && !matches!(method, b"GET" | b"HEAD") {
            writing.hoisted(request)?;
        }
        let Writing { mut writer, composing } = writing;
        let mut seed = None;
        if let Some(composing) = composing {
            let signed = composing.sign(method, Target::parse(target)).map_err(|_| EncodeError::TooLarge);
            let (signature, authorization) = signed.map_err(unwritable)?;
            writer.field(b"Authorization", authorization);
            seed = Some(signature);
        }
        forward::write_expectation_and_length(&mut writer, request.head, request.block, sending, expects_continue);
        writer.finish().map_err(unwritable)?;
        let has_chain = admitted.payload.form().is_some_and(|form| form.is_signed);
        let chain = seed.filter(|_| has_chain).map(|seed| Box::new(Chain::new(key.clone(), stamp, scope, seed)));
        Ok((with, chain))
    }
}

impl Identity {
    /// What to sign with now: the credentials that are good, and the region where the bucket turned out to be.
    pub(super) fn sign_with(
        &self,
        held: &mut Vec<Option<Rc<Held>>>,
        regions: &mut Regions,
        resign: &ReSign,
        bucket: Option<&Bucket>,
    ) -> Result<SignedWith, Refused> {
        let held = self.hold(held, resign.credential).ok_or(Refused::NoCredentials)?;
        let moved = regions.of(bucket, clock::mono).map(|(region, is_supposed)| (Box::from(region), is_supposed));
        let (region, is_supposed) = moved.unzip();
        Ok(SignedWith { held, region, is_supposed: is_supposed.unwrap_or(false) })
    }

    /// The credentials to sign with. A shard keeps a reference of its own, so that a request writes nothing other shards
    /// read.
    fn hold(&self, held: &mut Vec<Option<Rc<Held>>>, index: usize) -> Option<Rc<Held>> {
        let slot = self.known.credentials.get(index)?;
        held.resize_with(self.known.credentials.len(), || None);
        let mine = &mut held[index];
        if mine.as_ref().map_or(0, |mine| mine.0.generation) != slot.generation() {
            *mine = slot.current().map(|current| Rc::new(Held(current)));
        }
        mine.clone()
    }
}

/// A head on its way out, and what of it is signed.
struct Writing<'w, 'c, 's> {
    writer: HeadWriter<'w>,
    /// `None` of what is not signed by a field.
    composing: Option<Composing<'c, 's>>,
}

impl Writing<'_, '_, '_> {
    /// The client's own fields, without those that the gate says itself.
    fn fields(&mut self, request: &Request<'_>, admitted: &Admitted<'_>, sending: Sending) {
        let (fields, block) = (&request.head.fields, request.block);
        // What is to be masked must be legible.
        let is_coding = |name: &[u8]| admitted.is_told_of_us && name.eq_ignore_ascii_case(b"accept-encoding");
        let is_own = |name: &[u8]| is_replaced(name) || is_of_a_proxy(name) || is_coding(name);
        let keeps = |name: &[u8]| !is_own(name) && forward::passes(fields, block, name, sending);
        self.writer.fields_of(fields, block, keeps);
        let Some(composing) = &mut self.composing else { return };
        for (name, value) in fields.iter(block) {
            if is_signed(name) && keeps(name) {
                composing.add(name, value);
            }
        }
    }

    /// Parameters of a link that stand for fields: S3 takes them for such, but only where the query signs.
    fn hoisted(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let pairs = || request.target.pairs().without_signature().filter(|pair| pair.kind() == Kind::Field);
        for (number, pair) in pairs().enumerate() {
            let (name, value) = (pair.decoded_name(), pair.decoded_value());
            let is_same = |given: &[u8]| given.eq_ignore_ascii_case(&name);
            let is_there = request.head.fields.iter(request.block).any(|(given, _)| is_same(given))
                || pairs().take(number).any(|earlier| is_same(&earlier.decoded_name()));
            let is_plain = value.iter().all(|byte| matches!(byte, b' '..=b'~')) && value.trim_ascii() == &*value;
            let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
            if is_there || !is_plain || !is_name || is_replaced(&name) || is_of_the_coding(&name) {
                return Err(Refused::Hoisted.into());
            }
            self.writer.field(&name, &value);
            if let Some(composing) = &mut self.composing {
                composing.add(&name, &value);
            }
        }
        Ok(())
    }
}

/// Path and query for the upstream, with the bucket where the upstream wants it and without the client's signature. They
/// are written as they were read when they were verified and decided about, so that nobody can read them in another way.
fn write_target(out: &mut Vec<u8>, request: &Request<'_>, admitted: &Admitted<'_>) {
    out.clear();
    out.push(b'/');
    if let (Style::Path, Some(bucket)) = (admitted.resign.style, admitted.place.bucket) {
        out.extend_from_slice(bucket.name.as_bytes());
        out.push(b'/');
    }
    escape::recode_path(admitted.place.key, out);
    let moves_fields = !matches!(request.method(), b"GET" | b"HEAD");
    let mut separator = b'?';
    let pairs = request.target.pairs();
    let pairs = if admitted.is_link { pairs.without_signature() } else { pairs };
    for pair in pairs {
        if admitted.is_link && moves_fields && pair.kind() == Kind::Field {
            continue;
        }
        out.push(separator);
        separator = b'&';
        escape::recode_form(pair.name, out);
        if let Some(value) = pair.value {
            out.push(b'=');
            escape::recode_form(value, out);
        }
    }
}

fn host_in<'a>(admitted: &Admitted<'a>, region: &str) -> Cow<'a, str> {
    let host = match admitted.place.bucket {
        Some(bucket) => bucket.host.as_str(),
        None => admitted.resign.service_host.as_deref().unwrap_or_default(),
    };
    if region == admitted.route.region {
        return Cow::Borrowed(host);
    }
    // The name of a bucket may have that of a region in it.
    let name = admitted.place.bucket.map_or("", |bucket| &bucket.name);
    let (name, rest) = if host.starts_with(name) { host.split_at(name.len()) } else { ("", host) };
    let rest = rest.replacen(&format!(".{}.", admitted.route.region), &format!(".{region}."), 1);
    Cow::Owned(format!("{name}{rest}"))
}

/// Fields of the client's that the gate replaces by its own.
fn is_replaced(name: &[u8]) -> bool {
    if !matches!(name.first(), Some(b'a' | b'A' | b'x' | b'X')) {
        return false;
    }
    let is = |replaced: &str| name.eq_ignore_ascii_case(replaced.as_bytes());
    match name.len() {
        10 => is("x-amz-date"),
        13 => is("authorization"),
        20 => is("x-amz-content-sha256") || is("x-amz-security-token"),
        _ => false,
    }
}

/// Fields that say how a body is coded; they go with one that was looked at, and a link signs none.
fn is_of_the_coding(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"x-amz-decoded-content-length") || name.eq_ignore_ascii_case(b"x-amz-trailer")
}

/// Fields by which proxies speak to servers: of addresses, methods and paths other than those of the request. S3 has no
/// use for them, and other servers might believe a client's.
fn is_of_a_proxy(name: &[u8]) -> bool {
    let begins =
        |start: &str| name.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start.as_bytes()));
    match name.first() {
        Some(b'x' | b'X') => [
            "x-forwarded-",
            "x-real-ip",
            "x-original-",
            "x-rewrite-",
            "x-http-method",
            "x-client-ip",
            "x-method-override",
        ]
        .iter()
        .any(|start| begins(start)),
        Some(b'f' | b'F') => begins("forwarded"),
        _ => false,
    }
}

/// Fields that are signed if they are there (AWS: "CanonicalHeaders").
fn is_signed(name: &[u8]) -> bool {
    match name.first() {
        Some(b'x' | b'X') => name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-amz-")),
        Some(b'c' | b'C') => name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"content-md5"),
        _ => false,
    }
}

fn unwritable(_: EncodeError) -> Failure {
    ClientFault::Head(crate::http::head::HeadError::TooLarge).into()
}
