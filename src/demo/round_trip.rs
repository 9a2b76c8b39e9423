//! The round trip: everything a studio does with a media link, once, checked byte for byte.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, RANGE};

use super::client::{Answer, Client};
use super::film::{Film, Sha256, Upload};
use super::report::{Progress, Report, Row};
use super::storage;
use crate::clock;
use crate::sign::presign::{Credentials, Link, presign, unsigned_target};

/// Makes links for the demo's bucket.
#[derive(Clone, Debug)]
pub(super) struct Links {
    pub(super) credentials: Credentials,
}

impl Links {
    /// A link that is good for [`GOOD_FOR`] from now.
    pub(super) fn make(&self, method: &str, key: &str, query: &[(&str, &str)]) -> Result<String, String> {
        self.sign(method, key, query, Duration::ZERO, GOOD_FOR)
    }

    fn sign(
        &self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        age: Duration,
        expires_in: Duration,
    ) -> Result<String, String> {
        let signed_at = clock::now().wall - age;
        let link = Link { method, host: storage::HOST, key, query, region: storage::REGION, signed_at, expires_in };
        presign(&self.credentials, &link).map_err(|error| error.to_string())
    }
}

/// The round trip under way.
pub(super) struct RoundTrip {
    client: Client,
    links: Links,
    film: Film,
    film_bytes: u64,
    progress: Arc<Progress>,
    rows: Vec<Row>,
}

impl RoundTrip {
    pub(super) fn new(client: Client, links: Links, film_bytes: u64, progress: Arc<Progress>) -> Self {
        Self { client, links, film: FILM, film_bytes, progress, rows: Vec::new() }
    }

    /// Every step in order; one that fails does not keep the next from being tried.
    pub(super) async fn run(mut self) -> Report {
        let whole = self.film.sha256(0..self.film_bytes);
        self.step("GET /ping answers 200", 0, async |trip| trip.ping().await).await;
        self.single(&whole).await;
        self.ranges().await;
        self.refusals().await;
        self.step("DELETE", 0, async |trip| {
            trip.request("DELETE", SINGLE_KEY, &[], &[], Upload::EMPTY).await.and_then(|a| status(&a, 204))?;
            trip.request("GET", SINGLE_KEY, &[], &[], Upload::EMPTY).await.and_then(|a| refusal(&a, 404, "NoSuchKey"))
        })
        .await;
        self.multipart(&whole).await;
        Report { rows: self.rows, sha256: whole.0, film_bytes: self.film_bytes }
    }

    async fn step<T>(
        &mut self,
        name: &str,
        bytes: u64,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, String>,
    ) -> Option<T> {
        self.progress.begin(name, bytes);
        let since = clock::mono();
        let outcome = work(self).await;
        let elapsed = clock::mono().saturating_duration_since(since);
        let (value, outcome) = match outcome {
            Ok(value) => (Some(value), Ok(())),
            Err(why) => (None, Err(why)),
        };
        self.rows.push(Row { step: name.to_owned(), bytes, elapsed, outcome });
        value
    }

    /// A request by a link made for it.
    async fn request(
        &mut self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        fields: &[(HeaderName, &str)],
        body: Upload,
    ) -> Result<Answer, String> {
        let target = self.links.make(method, key, query)?;
        self.client.exchange(method, &target, fields, body).await
    }

    fn upload(&self, range: Range<u64>) -> Upload {
        Upload::Film { film: self.film, range, moved: Arc::clone(self.progress.moved()) }
    }

    async fn ping(&mut self) -> Result<(), String> {
        let answer = self.client.exchange("GET", "/ping", &[], Upload::EMPTY).await?;
        status(&answer, 200)?;
        let kind = answer.field(&CONTENT_TYPE).unwrap_or_default();
        check(kind.starts_with("text/plain"), || format!("Content-Type is {kind:?}"))
    }

    async fn single(&mut self, whole: &Sha256) {
        let size = self.film_bytes;
        let put = async |trip: &mut Self| {
            let body = trip.upload(0..size);
            let answer = trip.request("PUT", SINGLE_KEY, &[], &[(CONTENT_TYPE, MOVIE)], body).await?;
            status(&answer, 200)?;
            answer.field(&ETAG).map(str::to_owned).ok_or_else(|| "no ETag".to_owned())
        };
        let etag = self.step("PUT, one presigned link", size, put).await;
        let head = async |trip: &mut Self| {
            let answer = trip.request("HEAD", SINGLE_KEY, &[], &[], Upload::EMPTY).await?;
            status(&answer, 200)?;
            let length = answer.content_length();
            check(length == Some(size), || format!("Content-Length {length:?}, not {size}"))?;
            let kind = answer.field(&CONTENT_TYPE);
            check(kind == Some(MOVIE), || format!("Content-Type {kind:?}, not {MOVIE}"))?;
            check(answer.field(&ETAG) == etag.as_deref(), || "another ETag than the PUT got".to_owned())
        };
        self.step("HEAD, size and type and ETag", 0, head).await;
        self.step("GET, whole", size, async |trip| trip.get_whole(SINGLE_KEY, whole).await).await;
    }

    async fn get_whole(&mut self, key: &str, whole: &Sha256) -> Result<(), String> {
        let answer = self.request("GET", key, &[], &[], Upload::EMPTY).await?;
        status(&answer, 200)?;
        same(&answer, self.film_bytes, whole)
    }

    async fn ranges(&mut self) {
        let size = self.film_bytes;
        let middle = size / 2 - size / 16 + 1..size / 2 + size / 16;
        let suffix_bytes = (size / 10 + 1).min(size);
        for (name, asked, range) in [
            ("GET, first 64 KiB", "bytes=0-65535".to_owned(), 0..size.min(65_536)),
            ("GET, a range in the middle", format!("bytes={}-{}", middle.start, middle.end - 1), middle),
            ("GET, the end by suffix", format!("bytes=-{suffix_bytes}"), size - suffix_bytes..size),
            ("GET, the last byte", format!("bytes={}-", size - 1), size - 1..size),
        ] {
            let bytes = range.end - range.start;
            let expected = self.film.sha256(range.clone());
            let get = async |trip: &mut Self| {
                let answer = trip.request("GET", SINGLE_KEY, &[], &[(RANGE, &asked)], Upload::EMPTY).await?;
                status(&answer, 206)?;
                let stated = answer.field(&CONTENT_RANGE).unwrap_or_default();
                let right = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                check(stated == right, || format!("Content-Range {stated:?}, not {right:?}"))?;
                same(&answer, bytes, &expected)
            };
            self.step(name, bytes, get).await;
        }
        let beyond = format!("bytes={size}-");
        let past = async |trip: &mut Self| {
            let answer = trip.request("GET", SINGLE_KEY, &[], &[(RANGE, &beyond)], Upload::EMPTY).await?;
            refusal(&answer, 416, "InvalidRange")
        };
        self.step("GET, past the end: S3's 416", 0, past).await;
    }

    async fn refusals(&mut self) {
        let tampered = async |trip: &mut Self| {
            let mut target = trip.links.make("GET", SINGLE_KEY, &[])?;
            let last = target.pop();
            target.push(if last == Some('0') { '1' } else { '0' });
            let answer = trip.client.exchange("GET", &target, &[], Upload::EMPTY).await?;
            refusal(&answer, 403, "SignatureDoesNotMatch")
        };
        self.step("tampered signature: S3's 403", 0, tampered).await;
        let renamed = async |trip: &mut Self| {
            let target = trip.links.make("GET", SINGLE_KEY, &[])?.replacen("final", "draft", 1);
            let answer = trip.client.exchange("GET", &target, &[], Upload::EMPTY).await?;
            refusal(&answer, 403, "SignatureDoesNotMatch")
        };
        self.step("link for another key: S3's 403", 0, renamed).await;
        let reused = async |trip: &mut Self| {
            let target = trip.links.make("GET", SINGLE_KEY, &[])?;
            let body = Upload::text("not the film".to_owned());
            let answer = trip.client.exchange("PUT", &target, &[], body).await?;
            refusal(&answer, 403, "SignatureDoesNotMatch")
        };
        self.step("PUT by a link for GET: S3's 403", 0, reused).await;
        let expired = async |trip: &mut Self| {
            let (age, expires_in) = (Duration::from_secs(3_600), Duration::from_secs(60));
            let target = trip.links.sign("GET", SINGLE_KEY, &[], age, expires_in)?;
            let answer = trip.client.exchange("GET", &target, &[], Upload::EMPTY).await?;
            refusal(&answer, 403, "AccessDenied")
        };
        self.step("expired link: S3's 403", 0, expired).await;
        let unsigned = async |trip: &mut Self| {
            let target = unsigned_target(SINGLE_KEY, &[]);
            let answer = trip.client.exchange("GET", &target, &[], Upload::EMPTY).await?;
            refusal(&answer, 403, "AccessDenied")
        };
        self.step("no signature: S3's 403", 0, unsigned).await;
    }

    async fn multipart(&mut self, whole: &Sha256) {
        let create = async |trip: &mut Self| {
            let fields = [(CONTENT_TYPE, MOVIE)];
            let answer = trip.request("POST", PARTS_KEY, &[("uploads", "")], &fields, Upload::EMPTY).await?;
            status(&answer, 200)?;
            answer.element("UploadId").map(str::to_owned).ok_or_else(|| "no UploadId".to_owned())
        };
        let upload = self.step("multipart: create", 0, create).await.unwrap_or_default();
        let parts = parts(self.film_bytes);
        let name = format!("multipart: PUT {} parts", parts.len());
        let put = async |trip: &mut Self| trip.put_parts(&upload, parts).await;
        let etags = self.step(&name, self.film_bytes, put).await.unwrap_or_default();
        let complete = async |trip: &mut Self| {
            let query = [("uploadId", upload.as_str())];
            let body = Upload::text(completion(&etags));
            let fields = [(CONTENT_TYPE, "application/xml")];
            let answer = trip.request("POST", PARTS_KEY, &query, &fields, body).await?;
            status(&answer, 200)?;
            // S3 may find a fault after it has said 200; then the body is an error.
            check(answer.element("ETag").is_some(), || said(&answer))
        };
        self.step("multipart: complete", 0, complete).await;
        let get = async |trip: &mut Self| trip.get_whole(PARTS_KEY, whole).await;
        self.step("multipart: GET, whole", self.film_bytes, get).await;
    }

    async fn put_parts(&mut self, upload: &str, parts: Vec<Range<u64>>) -> Result<Vec<String>, String> {
        let mut etags = Vec::with_capacity(parts.len());
        for (index, range) in parts.into_iter().enumerate() {
            let number = (index + 1).to_string();
            let query = [("partNumber", number.as_str()), ("uploadId", upload)];
            let body = self.upload(range);
            let answer = self.request("PUT", PARTS_KEY, &query, &[], body).await?;
            status(&answer, 200).map_err(|why| format!("part {number}: {why}"))?;
            etags.push(answer.field(&ETAG).ok_or_else(|| format!("part {number}: no ETag"))?.to_owned());
        }
        Ok(etags)
    }
}

/// Equal parts of at least S3's 5 MiB; only the last may be smaller.
fn parts(size: u64) -> Vec<Range<u64>> {
    let part_bytes = size.div_ceil(PARTS).max(PART_BYTES_MIN);
    (0..size.div_ceil(part_bytes)).map(|part| part * part_bytes..((part + 1) * part_bytes).min(size)).collect()
}

fn completion(etags: &[String]) -> String {
    let mut xml = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (index, etag) in etags.iter().enumerate() {
        let number = index + 1;
        xml.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
    }
    xml.push_str("</CompleteMultipartUpload>");
    xml
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn status(answer: &Answer, expected: u16) -> Result<(), String> {
    check(answer.status.as_u16() == expected, || format!("{}, not {expected}", said(answer)))
}

/// The status and the code and message of an error, on one line.
fn said(answer: &Answer) -> String {
    let parts = [answer.element("Code"), answer.element("Message")];
    let words: Vec<_> = parts.into_iter().flatten().collect();
    format!("{} {}", answer.status, words.join(": ")).trim_end().to_owned()
}

/// A refusal that must be S3's own and not the gate's.
fn refusal(answer: &Answer, expected: u16, code: &str) -> Result<(), String> {
    status(answer, expected)?;
    check(answer.element("Code") == Some(code), || format!("{}, not {code}", said(answer)))?;
    let gate = answer.fields.keys().find(|name| name.as_str().starts_with("x-filmgate-"));
    check(gate.is_none(), || "the gate said so, not S3".to_owned())
}

fn same(answer: &Answer, bytes: u64, sha256: &Sha256) -> Result<(), String> {
    check(answer.body_bytes == bytes, || format!("{} bytes, not {bytes}", answer.body_bytes))?;
    check(answer.sha256 == *sha256, || format!("SHA-256 {}, not {}", answer.sha256.0, sha256.0))
}

/// Spaces, `+`, `%`, parentheses and three scripts: names artists do give.
pub(super) const SINGLE_KEY: &str = "shots/sq 010/café + 100% final (v2) 日本.mov";

/// What else a URL would take for its own: `?`, `#`, `&`, `=`, quotes, and an escape that is part of the name.
const PARTS_KEY: &str = "shots/sq 010/what? #42 & 'b=c' 50%25 «рендер».mov";

pub(super) const FILM: Film = Film { seed: 2010 };

/// How long the demo's links are good for.
pub(super) const GOOD_FOR: Duration = Duration::from_secs(12 * 60 * 60);

const MOVIE: &str = "video/quicktime";
const PARTS: u64 = 10;
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::demo::film::Hasher;

    fn answer(status: u16, body: &str) -> Answer {
        let mut hasher = Hasher::new();
        hasher.update(body.as_bytes());
        Answer {
            status: hyper::StatusCode::from_u16(status).unwrap(),
            fields: HeaderMap::new(),
            body_bytes: body.len() as u64,
            sha256: hasher.finish(),
            beginning: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn only_the_expected_refusal_of_s3_itself_is_taken() {
        let body = "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>";
        let mut given = answer(403, body);
        assert_eq!(refusal(&given, 403, "AccessDenied"), Ok(()));
        let other = refusal(&given, 403, "SignatureDoesNotMatch").unwrap_err();
        assert_eq!(other, "403 Forbidden AccessDenied: No., not SignatureDoesNotMatch");
        assert!(refusal(&given, 404, "AccessDenied").is_err());
        assert!(refusal(&answer(403, "no XML"), 403, "AccessDenied").is_err());
        given.fields.insert("x-filmgate-error", HeaderValue::from_static("upstream-unreachable"));
        assert!(refusal(&given, 403, "AccessDenied").is_err());
    }

    #[test]
    fn a_body_of_another_length_or_digest_is_not_the_same() {
        let expected = answer(200, "film").sha256;
        assert_eq!(same(&answer(200, "film"), 4, &expected), Ok(()));
        assert_eq!(same(&answer(200, "fil"), 4, &expected), Err("3 bytes, not 4".to_owned()));
        assert!(same(&answer(200, "fi1m"), 4, &expected).unwrap_err().starts_with("SHA-256 "));
    }

    #[test]
    fn parts_cover_the_film_without_gap_and_only_the_last_is_small() {
        for size in [1, PART_BYTES_MIN - 1, PART_BYTES_MIN, PART_BYTES_MIN + 1, 8 << 20, 320 << 20, (320 << 20) + 7] {
            let parts = parts(size);
            assert!(parts.len() <= 10, "{size}");
            assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, size));
            for pair in parts.windows(2) {
                assert_eq!(pair[0].end, pair[1].start);
                assert!(pair[0].end - pair[0].start >= PART_BYTES_MIN);
            }
        }
    }

    #[test]
    fn completion_lists_the_parts_in_order() {
        let xml = completion(&["\"a\"".to_owned(), "\"b\"".to_owned()]);
        let parts = "<Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part>\
                     <Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag></Part></CompleteMultipartUpload>";
        assert!(xml.ends_with(parts), "{xml}");
    }
}
