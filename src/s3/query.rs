//! The parameters of a query: the walk over its raw pairs, and what each is to a signature.
//!
//! A request that is signed anew has its query looked at by whoever reads the claim, decides, verifies and writes. An
//! [`Index`] is made once, and all of them go by it, so that they cannot see different things.

use std::borrow::Cow;

use super::escape;
use crate::limits;

/// A parameter that signs a link (AWS, "Using Query Parameters (AWS Signature Version 4)").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `X-Amz-Algorithm`.
    Algorithm,
    /// `X-Amz-Credential`.
    Credential,
    /// `X-Amz-Date`.
    Date,
    /// `X-Amz-Expires`.
    Expires,
    /// `X-Amz-SignedHeaders`.
    SignedHeaders,
    /// `X-Amz-Signature`.
    Signature,
    /// `X-Amz-Security-Token`.
    SecurityToken,
    /// `X-Amz-Content-Sha256`.
    ContentSha256,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = PARTS.len();

    /// The name of the parameter, as it has to be written.
    #[must_use]
    pub fn name(self) -> &'static str {
        PARTS[self as usize].1
    }

    /// The one that is written as it has to be.
    fn written(name: &[u8]) -> Option<Self> {
        PARTS.iter().find(|(_, known)| name == known.as_bytes()).map(|(part, _)| *part)
    }

    /// The one that is written so, in any mixture of cases.
    fn named(name: &[u8]) -> Option<Self> {
        PARTS.iter().find(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(part, _)| *part)
    }
}

const PARTS: [(Part, &str); 8] = [
    (Part::Algorithm, "X-Amz-Algorithm"),
    (Part::Credential, "X-Amz-Credential"),
    (Part::Date, "X-Amz-Date"),
    (Part::Expires, "X-Amz-Expires"),
    (Part::SignedHeaders, "X-Amz-SignedHeaders"),
    (Part::Signature, "X-Amz-Signature"),
    (Part::SecurityToken, "X-Amz-Security-Token"),
    (Part::ContentSha256, "X-Amz-Content-Sha256"),
];

/// Those of version 2.
const OLD_SIGNATURE_PARAMETERS: [&str; 2] = ["AWSAccessKeyId", "Signature"];

/// What the name of a parameter says, in whatever case and however it is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It signs a link.
    Signature(Part),
    /// It would, if it were spelled as it has to be.
    Misspelled(Part),
    /// A parameter that signs a link by version 2.
    OldSignature,
    /// Another `x-amz-` one: it stands for the field of that name.
    Field,
    /// Anything else.
    Other,
}

impl Kind {
    fn of(name: &[u8]) -> Self {
        // Most are told by their first byte.
        if !matches!(name.first(), Some(b'X' | b'x' | b'A' | b'a' | b'S' | b's' | b'%')) {
            return Self::Other;
        }
        if let Some(part) = Part::written(name) {
            return Self::Signature(part);
        }
        let name = &*escape::decode_form(name);
        if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-amz-")) {
            // An escape does not change what a name is, the case of a letter does.
            let is_exact = |part: Part| part.name().as_bytes() == name;
            let kind = |part| if is_exact(part) { Self::Signature(part) } else { Self::Misspelled(part) };
            return Part::named(name).map_or(Self::Field, kind);
        }
        let is_old = OLD_SIGNATURE_PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        if is_old { Self::OldSignature } else { Self::Other }
    }
}

/// One `name=value` of a query, as written.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The name before decoding.
    pub name: &'a [u8],
    /// The value before decoding; `None` where there was no `=`.
    pub value: Option<&'a [u8]>,
    /// Where it begins in the query.
    pub start: usize,
    /// What an index knows of the name.
    kind: Option<Kind>,
}

impl<'a> Pair<'a> {
    /// What the name says.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.kind.unwrap_or_else(|| Kind::of(self.name))
    }

    /// Whether the decoded name is exactly `wanted`.
    #[must_use]
    pub fn is(self, wanted: &str) -> bool {
        // An escape makes a name longer than what it stands for.
        self.name == wanted.as_bytes() || (self.name.len() >= wanted.len() && self.is_escaped(wanted))
    }

    fn is_escaped(self, wanted: &str) -> bool {
        memchr::memchr2(b'%', b'+', self.name).is_some() && escape::form_bytes(self.name).eq(wanted.bytes())
    }

    /// Whether the decoded name is `wanted` in any mixture of cases.
    #[must_use]
    pub fn is_like(self, wanted: &str) -> bool {
        if self.name.len() <= wanted.len() {
            // An escape makes a name longer, never as long as what it stands for.
            return self.name.eq_ignore_ascii_case(wanted.as_bytes());
        }
        let fold = |byte: u8| byte.to_ascii_lowercase();
        memchr::memchr(b'%', self.name).is_some()
            && escape::form_bytes(self.name).map(fold).eq(wanted.bytes().map(fold))
    }

    /// The decoded name.
    #[must_use]
    pub fn decoded_name(self) -> Cow<'a, [u8]> {
        escape::decode_form(self.name)
    }

    /// The decoded value, empty where there was none.
    #[must_use]
    pub fn decoded_value(self) -> Cow<'a, [u8]> {
        escape::decode_form(self.value.unwrap_or_default())
    }
}

/// The pairs of a query (without its `?`), in order, empty ones left out.
#[must_use]
pub fn pairs(query: &[u8]) -> Pairs<'_> {
    Pairs { query, seen: [].iter(), at: 0, has_parts: true }
}

/// See [`pairs`].
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    query: &'a [u8],
    /// What an index has of it.
    seen: std::slice::Iter<'a, Seen>,
    /// Where the walk is.
    at: usize,
    /// Whether those are among them that sign a link.
    has_parts: bool,
}

impl Pairs<'_> {
    /// Those of them that do not sign a link.
    #[must_use]
    pub fn without_signature(self) -> Self {
        Self { has_parts: false, ..self }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let has_parts = self.has_parts;
        let is_wanted = |kind| has_parts || !matches!(kind, Kind::Signature(_) | Kind::Misspelled(_));
        if let Some(seen) = self.seen.find(|seen| is_wanted(seen.kind)) {
            return Some(seen.place.pair(self.query, Some(seen.kind)));
        }
        while let Some(place) = Place::next(self.query, self.at) {
            self.at = place.end as usize + 1;
            let pair = place.pair(self.query, None);
            if has_parts || is_wanted(pair.kind()) {
                return Some(pair);
            }
        }
        None
    }
}

/// Where the pairs of one query are and what they are, in memory that can be used again.
#[derive(Debug, Default)]
pub struct Index {
    seen: Vec<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    place: Place,
    kind: Kind,
}

impl Index {
    /// Reads `query`. Whether it could: one that is longer than a head or has more than [`limits::QUERY_PAIRS_MAX`] pairs
    /// has no index, and nobody signs it.
    pub fn read(&mut self, query: &[u8]) -> bool {
        self.seen.clear();
        let (mut at, mut fits) = (0, query.len() <= limits::HEAD_BYTES_MAX);
        while fits && let Some(place) = Place::next(query, at) {
            at = place.end as usize + 1;
            fits = self.seen.len() < limits::QUERY_PAIRS_MAX;
            self.seen.push(Seen { place, kind: place.pair(query, None).kind() });
        }
        if !fits {
            self.seen.clear();
        }
        fits
    }

    /// The pairs of the query that was read.
    pub(super) fn pairs<'a>(&'a self, query: &'a [u8]) -> Pairs<'a> {
        Pairs { query, seen: self.seen.iter(), at: query.len(), has_parts: true }
    }
}

/// Where a pair is in its query.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    name_end: u32,
    /// Behind the value; where there is none, `name_end`.
    end: u32,
}

impl Place {
    /// The first pair from `at` on that is not empty.
    fn next(query: &[u8], mut at: usize) -> Option<Self> {
        while query.get(at) == Some(&b'&') {
            at += 1;
        }
        let rest = query.get(at..).filter(|rest| !rest.is_empty())?;
        let len = memchr::memchr(b'&', rest).unwrap_or(rest.len());
        let name_len = memchr::memchr(b'=', &rest[..len]).unwrap_or(len);
        Some(Self { start: at as u32, name_end: (at + name_len) as u32, end: (at + len) as u32 })
    }

    fn pair(self, query: &[u8], kind: Option<Kind>) -> Pair<'_> {
        let (start, name_end, end) = (self.start as usize, self.name_end as usize, self.end as usize);
        let value = (end > name_end).then(|| &query[name_end + 1..end]);
        Pair { name: &query[start..name_end], value, start, kind }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(text: &'static [u8]) -> Pair<'static> {
        pairs(text).next().unwrap()
    }

    #[test]
    fn a_query_is_walked_pair_by_pair() {
        let seen: Vec<_> = pairs(b"&uploads&a=1&&b=&=c&d=e=f%26&").map(|p| (p.name, p.value)).collect();
        let expected: Vec<(&[u8], Option<&[u8]>)> =
            vec![(b"uploads", None), (b"a", Some(b"1")), (b"b", Some(b"")), (b"", Some(b"c")), (b"d", Some(b"e=f%26"))];
        assert_eq!(seen, expected);
        assert_eq!(pairs(b"").count(), 0);
    }

    #[test]
    fn names_are_compared_after_decoding() {
        let pair = pair(b"X%2dAmz-%53ignature=a%20b+c");
        assert!(pair.is("X-Amz-Signature") && pair.is_like("x-amz-signature"));
        assert!(!pair.is("x-amz-signature") && !pair.is_like("x-amz-signatur") && !pair.is_like("x-amz-signatures"));
        assert_eq!(&*pair.decoded_name(), b"X-Amz-Signature");
        assert_eq!(&*pair.decoded_value(), b"a b c");
        assert_eq!(pair.kind(), Kind::Signature(Part::Signature));
    }

    #[test]
    fn a_name_has_its_kind_however_it_is_written() {
        let table: &[(&[u8], Kind)] = &[
            (b"X-Amz-Algorithm", Kind::Signature(Part::Algorithm)),
            (b"x-AMZ-date", Kind::Misspelled(Part::Date)),
            (b"%58%2d%41mz-Content-Sha256", Kind::Signature(Part::ContentSha256)),
            (b"%78%2d%41mz-Content-Sha256", Kind::Misspelled(Part::ContentSha256)),
            (b"x%2Damz-meta-user-id", Kind::Field),
            (b"X-AMZ-acl", Kind::Field),
            (b"x-amz-", Kind::Field),
            (b"X-Amz-Signature+", Kind::Field),
            (b"x-amz", Kind::Other),
            (b"x+amz-acl", Kind::Other),
            (b"signature", Kind::OldSignature),
            (b"%41WSAccessKeyID", Kind::OldSignature),
            (b"Signatures", Kind::Other),
            (b"Expires", Kind::Other),
            (b"response-content-type", Kind::Other),
            (b"", Kind::Other),
        ];
        for (name, kind) in table {
            assert_eq!(Kind::of(name), *kind, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn every_part_stands_in_its_place() {
        for (place, (part, name)) in PARTS.into_iter().enumerate() {
            assert_eq!((part as usize, part.name()), (place, name));
        }
    }

    #[test]
    fn a_query_of_too_many_pairs_has_no_index() {
        let mut index = Index::default();
        let query = "a=1&".repeat(limits::QUERY_PAIRS_MAX);
        assert!(index.read(query.as_bytes()) && index.pairs(query.as_bytes()).count() == limits::QUERY_PAIRS_MAX);
        assert!(index.read(format!("{query}&&").as_bytes()));
        assert!(!index.read(format!("{query}b").as_bytes()) && index.seen.is_empty());
        assert!(!index.read(&vec![b'a'; limits::HEAD_BYTES_MAX + 1]));
        assert!(index.read(b"") && index.pairs(b"").count() == 0);
    }

    /// Names and values that are nearly, or exactly, what they should be.
    fn queries() -> impl Strategy<Value = Vec<u8>> {
        let name = "(X-Amz-Date|x-amz-(date|acl|meta-a)|%58-Amz-Expires|Signature|x-id|a|[ -~]{0,4}|é)?";
        let value = "(([a-zA-Z0-9._~-]|%[0-9A-F]{2}|%[0-9a-f]{2}|[ -~]|%|%4|é){0,6})?";
        let text = format!("({name}(=?{value})&{{0,2}}){{0,6}}");
        let text = proptest::string::string_regex(&text).unwrap();
        prop_oneof![text.prop_map(String::into_bytes), any::<Vec<u8>>()]
    }

    proptest! {
        #[test]
        fn an_index_says_what_a_walk_says(query in queries()) {
            let mut index = Index::default();
            prop_assert!(index.read(&query));
            let (seen, walked): (Vec<_>, Vec<_>) = (index.pairs(&query).collect(), pairs(&query).collect());
            prop_assert_eq!(seen.len(), walked.len());
            for (one, other) in seen.into_iter().zip(walked) {
                prop_assert_eq!((one.name, one.value, one.kind()), (other.name, other.value, other.kind()));
            }
        }

        #[test]
        fn what_signs_a_link_can_be_left_out(query in queries()) {
            let mut index = Index::default();
            prop_assert!(index.read(&query));
            let names = |pairs: Pairs<'_>| pairs.map(|pair| pair.name.to_vec()).collect::<Vec<_>>();
            let own = pairs(&query).filter(|pair| !matches!(pair.kind(), Kind::Signature(_) | Kind::Misspelled(_)));
            let own: Vec<_> = own.map(|pair| pair.name.to_vec()).collect();
            prop_assert_eq!(names(pairs(&query).without_signature()), &own[..]);
            prop_assert_eq!(names(index.pairs(&query).without_signature()), &own[..]);
        }

        #[test]
        fn a_kind_is_that_of_the_decoded_name(query in queries()) {
            for pair in pairs(&query) {
                let part = PARTS.iter().find(|(_, known)| pair.is_like(known)).map(|(part, _)| *part);
                let is_old = pair.is_like("AWSAccessKeyId") || pair.is_like("Signature");
                let name = pair.decoded_name().to_ascii_lowercase();
                let expected = match part {
                    Some(part) if pair.is(part.name()) => Kind::Signature(part),
                    Some(part) => Kind::Misspelled(part),
                    None if name.starts_with(b"x-amz-") => Kind::Field,
                    None if is_old => Kind::OldSignature,
                    None => Kind::Other,
                };
                prop_assert_eq!(pair.kind(), expected);
            }
        }

        #[test]
        fn a_walk_sees_no_more_than_there_is(raw: Vec<u8>) {
            let joined: usize = pairs(&raw).map(|p| p.name.len() + p.value.map_or(0, |v| v.len() + 1)).sum();
            prop_assert!(joined <= raw.len());
        }
    }
}
