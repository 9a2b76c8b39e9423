//! The request target of a virtual-hosted S3 request: the path is the key, the bucket is in the host.
//!
//! ```text
//!   /prefix/4f1c…/9a0e…/shot%2001.mov?X-Amz-Algorithm=AWS4-HMAC-SHA256&…&X-Amz-Signature=…
//!   |------------ path --------------|------------------- query -------------------------|
//! ```
//!
//! Nothing here changes a byte: what goes to S3 is what came in. Decoded forms are for the log and for decisions.

use std::borrow::Cow;

use super::escape;
use super::query::{self, Index, Kind, Pair, Pairs, Part};

/// A borrowed request target, cut at its first `?`.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    path: &'a [u8],
    query: Option<&'a [u8]>,
    /// Of the query, if one was made.
    index: Option<&'a Index>,
}

/// How a request's query signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureKind {
    /// Not at all.
    None,
    /// Signature Version 4 in the query.
    V4Query,
    /// Signature Version 2 in the query.
    V2Query,
}

/// When a presigned link stops working, as written (decoded, not checked). For diagnosis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry<'a> {
    /// `X-Amz-Date`, `20210616T093012Z`; absent in Version 2 links.
    pub signed_at: Option<Cow<'a, [u8]>>,
    /// `X-Amz-Expires` in seconds after `signed_at`, or Version 2's `Expires` in seconds after 1970.
    pub expires: Option<Cow<'a, [u8]>>,
}

impl<'a> Target<'a> {
    /// Cuts the raw target of an origin-form request. Every byte string is a target.
    #[must_use]
    pub fn parse(path_and_query: &'a [u8]) -> Self {
        match memchr::memchr(b'?', path_and_query) {
            Some(at) => Self { path: &path_and_query[..at], query: Some(&path_and_query[at + 1..]), index: None },
            None => Self { path: path_and_query, query: None, index: None },
        }
    }

    /// The same, with an index of the query made in `index`: worth it where the query is looked at more than once.
    #[must_use]
    pub fn indexed(path_and_query: &'a [u8], index: &'a mut Index) -> Self {
        let target = Self::parse(path_and_query);
        let is_made = index.read(target.query.unwrap_or_default());
        Self { index: is_made.then_some(&*index), ..target }
    }

    /// The path as received.
    #[must_use]
    pub fn path(self) -> &'a [u8] {
        self.path
    }

    /// The query as received, without its `?`; `Some` and empty for a lone `?`.
    #[must_use]
    pub fn query(self) -> Option<&'a [u8]> {
        self.query
    }

    /// The decoded object key, empty for the bucket itself. For logs only: decoding cannot be undone.
    #[must_use]
    pub fn key(self) -> Cow<'a, [u8]> {
        escape::decode(self.escaped_key())
    }

    /// The object key as received, empty for the bucket itself.
    #[must_use]
    pub fn escaped_key(self) -> &'a [u8] {
        self.path.strip_prefix(b"/").unwrap_or(self.path)
    }

    /// Whether the target names the bucket and no object in it.
    #[must_use]
    pub fn is_bucket(self) -> bool {
        matches!(self.path, b"" | b"/")
    }

    /// The pairs of the query, in order.
    #[must_use]
    pub fn pairs(self) -> Pairs<'a> {
        let query = self.query.unwrap_or_default();
        self.index.map_or_else(|| query::pairs(query), |index| index.pairs(query))
    }

    /// The decoded value of the first parameter with exactly this name, empty for one without a value.
    #[must_use]
    pub fn param(self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.pairs().find(|pair| pair.is(name)).map(Pair::decoded_value)
    }

    /// How the query signs the request.
    ///
    /// Liberal on purpose: names match in any case and however they are escaped, and one telling parameter is enough.
    /// S3 refuses a request that carries a second signature in `Authorization` (400 InvalidArgument, "Only one auth
    /// mechanism allowed"), and it is as liberal when it looks for the first.
    #[must_use]
    pub fn signature(self) -> SignatureKind {
        let mut kind = SignatureKind::None;
        for pair in self.pairs() {
            match pair.kind() {
                Kind::Signature(Part::Signature | Part::Algorithm)
                | Kind::Misspelled(Part::Signature | Part::Algorithm) => return SignatureKind::V4Query,
                Kind::OldSignature => kind = SignatureKind::V2Query,
                _ => {}
            }
        }
        kind
    }

    /// ShotGrid's id of the user the link was made for (`x-amz-meta-user-id`), for the log.
    #[must_use]
    pub fn user_id(self) -> Option<Cow<'a, [u8]>> {
        self.field("x-amz-meta-user-id")
    }

    /// ShotGrid's type of that user (`x-amz-meta-user-type`: `HumanUser`, `ApiUser`), for the log.
    #[must_use]
    pub fn user_type(self) -> Option<Cow<'a, [u8]>> {
        self.field("x-amz-meta-user-type")
    }

    /// When the link was signed and when it expires.
    #[must_use]
    pub fn expiry(self) -> Expiry<'a> {
        Expiry {
            signed_at: self.param_like("X-Amz-Date"),
            expires: self.param_like("X-Amz-Expires").or_else(|| self.param_like("Expires")),
        }
    }

    fn field(self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut fields = self.pairs().without_signature().filter(|pair| pair.kind() == Kind::Field);
        fields.find(|pair| pair.is_like(name)).map(Pair::decoded_value)
    }

    fn param_like(self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.pairs().find(|pair| pair.is_like(name)).map(Pair::decoded_value)
    }
}

/// Whether a decoded key has a segment of one or two dots.
#[must_use]
pub fn has_dots(key: &[u8]) -> bool {
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let begins = |at: &usize| *at == 0 || is_slash(&key[*at - 1]);
    memchr::memchr_iter(b'.', key).filter(begins).any(|at| {
        let behind = key[at..].strip_prefix(b"..").unwrap_or(&key[at + 1..]);
        behind.first().is_none_or(is_slash)
    })
}

impl std::fmt::Debug for Target<'_> {
    /// Sizes only: the query is a capability, and a client that escapes its `?` has it in the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({} bytes of path, {:?} of query)", self.path.len(), self.query.map(<[u8]>::len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &[u8] =
        b"/shotgun/0a1b/2c3d/my%20shot+v%C3%A9.mov?response-content-disposition=filename%3D%22my%20shot.mov\
        %22&x-amz-meta-user-id=93&x-amz-meta-user-type=ApiUser&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=\
        ASIAEXAMPLE%2F20210616%2Fus-west-2%2Fs3%2Faws4_request&X-Amz-Date=20210616T093012Z&X-Amz-Expires=900&\
        X-Amz-SignedHeaders=host&X-Amz-Security-Token=IQoJb3Jp%2F%2F&X-Amz-Signature=0123abcd";
    const V2: &[u8] = b"/0a1b/2c3d/a.mov?AWSAccessKeyId=AKIAEXAMPLE&Expires=1500000000&Signature=abc%3D&\
        x-amz-meta-user-id=24";

    #[test]
    fn a_version_4_link_is_read() {
        let target = Target::parse(V4);
        assert_eq!(target.path(), b"/shotgun/0a1b/2c3d/my%20shot+v%C3%A9.mov");
        assert_eq!(&*target.key(), "shotgun/0a1b/2c3d/my shot+vé.mov".as_bytes());
        assert_eq!(target.signature(), SignatureKind::V4Query);
        assert_eq!(target.user_id().as_deref(), Some(&b"93"[..]));
        assert_eq!(target.user_type().as_deref(), Some(&b"ApiUser"[..]));
        let expiry = target.expiry();
        assert_eq!(expiry.signed_at.as_deref(), Some(&b"20210616T093012Z"[..]));
        assert_eq!(expiry.expires.as_deref(), Some(&b"900"[..]));
        assert_eq!(target.param("response-content-disposition").as_deref(), Some(&b"filename=\"my shot.mov\""[..]));
        let mut rejoined = target.path().to_vec();
        rejoined.push(b'?');
        rejoined.extend_from_slice(target.query().unwrap());
        assert_eq!(rejoined, V4);
    }

    #[test]
    fn a_version_2_link_is_read() {
        let target = Target::parse(V2);
        assert_eq!(target.signature(), SignatureKind::V2Query);
        assert_eq!(target.user_id().as_deref(), Some(&b"24"[..]));
        assert_eq!(target.user_type(), None);
        assert_eq!(target.expiry(), Expiry { signed_at: None, expires: Some(Cow::Borrowed(b"1500000000")) });
    }

    #[test]
    fn signatures_are_found_however_their_names_are_written() {
        use SignatureKind::{None, V2Query, V4Query};
        let table: &[(&[u8], SignatureKind)] = &[
            (b"/k", None),
            (b"/k?", None),
            (b"/k?versionId=1&partNumber=2", None),
            (b"/k?X-Amz-Signature=1", V4Query),
            (b"/k?X-Amz-Algorithm=AWS4-HMAC-SHA256", V4Query),
            (b"/k?x-amz-signature", V4Query),
            (b"/k?a=b&X%2DAmz%2dSignature=1", V4Query),
            (b"/k?%58-AMZ-SIGNATURE=1", V4Query),
            (b"/k?Signature=1&AWSAccessKeyId=2", V2Query),
            (b"/k?Signature=1", V2Query),
            (b"/k?awsaccesskeyid=2", V2Query),
            (b"/k?%53ignature=1", V2Query),
            (b"/k?Signature=1&X-Amz-Signature=2", V4Query),
            (b"/X-Amz-Signature=1", None),
            (b"/k%3FX-Amz-Signature=1", None),
            (b"/k?a=X-Amz-Signature=1", None),
            (b"/k?X-Amz-SignedHeaders=host", None),
            (b"/k?Signatures=1&XSignature=1", None),
        ];
        for (raw, kind) in table {
            assert_eq!(Target::parse(raw).signature(), *kind, "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn odd_targets_are_cut_at_the_first_question_mark_only() {
        type Row = (&'static [u8], &'static [u8], Option<&'static [u8]>, &'static [u8]);
        let table: &[Row] = &[
            (b"", b"", None, b""),
            (b"/", b"/", None, b""),
            (b"?", b"", Some(b""), b""),
            (b"*", b"*", None, b"*"),
            (b"//a//b", b"//a//b", None, b"/a//b"),
            (b"/a/../b", b"/a/../b", None, b"a/../b"),
            (b"/a%2Fb%3Fc", b"/a%2Fb%3Fc", None, b"a/b?c"),
            (b"/a?b?c=d", b"/a", Some(b"b?c=d"), b"a"),
            (b"/100%", b"/100%", None, b"100%"),
        ];
        for (raw, path, query, key) in table {
            let target = Target::parse(raw);
            assert_eq!((target.path(), target.query()), (*path, *query), "{}", raw.escape_ascii());
            assert_eq!(&*target.key(), *key, "{}", raw.escape_ascii());
        }
        assert!(Target::parse(b"/?acl").is_bucket() && !Target::parse(b"//").is_bucket());
    }

    #[test]
    fn a_segment_of_dots_is_found_wherever_it_stands() {
        for key in
            [".", "..", "./a", "a/.", "a/..", "../a", "a/./b", "a/../b", "a\\..\\b", "a.b/..", "..a/.", "/..", "a/..\\"]
        {
            assert!(has_dots(key.as_bytes()), "{key}");
        }
        for key in ["", "a", "a.b", ".a", "a.", "...", "a/...", "..a/b", "a../b", "a/.../b", "a/.b.", "a..b", "/a."] {
            assert!(!has_dots(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn parameters_are_found_by_exact_name_and_the_first_one_counts() {
        let target = Target::parse(b"/k?acl&a=1&a=2&A=3&b=x%26y");
        assert_eq!(target.param("acl").as_deref(), Some(&b""[..]));
        assert_eq!(target.param("a").as_deref(), Some(&b"1"[..]));
        assert_eq!(target.param("A").as_deref(), Some(&b"3"[..]));
        assert_eq!(target.param("b").as_deref(), Some(&b"x&y"[..]));
        assert_eq!(target.param("c"), None);
    }

    #[test]
    fn debug_output_shows_no_content() {
        let shown = format!("{:?}", Target::parse(b"/a?X-Amz-Signature=1"));
        assert_eq!(shown, "Target(2 bytes of path, Some(17) of query)");
    }
}
