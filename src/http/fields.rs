//! The field lines of a message head, as ranges into the block they were read from.

use std::ops::Range;

use super::{head::HeadError, trim};

/// A range of bytes of a head block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The range of `part` within `block`, of which it must be a slice; an empty range otherwise.
    pub(super) fn within(block: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(block.as_ptr() as usize);
        match start.checked_add(part.len()) {
            Some(end) if end <= block.len() => Self::new(start, end),
            _ => Self::default(),
        }
    }

    /// The range `start..end`. Blocks are bounded by [`limits::HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX).
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes this range names.
    ///
    /// # Panics
    /// When `block` is shorter than the block the range was made from.
    #[must_use]
    pub fn of(self, block: &[u8]) -> &[u8] {
        &block[self.start as usize..self.end as usize]
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the range names no byte.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Offset behind the last byte within the block.
    pub(super) fn end(self) -> usize {
        self.end as usize
    }

    /// Offset of the first byte within the block.
    #[must_use]
    pub fn start(self) -> usize {
        self.start as usize
    }
}

/// One field line: a name, and a value without the white space around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The name as it was spelled. Never empty.
    pub name: Span,
    /// The value. May be empty.
    pub value: Span,
}

impl Field {
    /// Where its line is in the block, line end included, if it is written there as the gate would write it.
    pub(super) fn line(self, block: &[u8]) -> Option<Range<usize>> {
        let (name_end, value_end) = (self.name.end(), self.value.end());
        let is_plain = self.value.start() == name_end + 2
            && block.get(name_end..name_end + 2) == Some(b": ")
            && block.get(value_end..value_end + 2) == Some(b"\r\n");
        is_plain.then_some(self.name.start()..value_end + 2)
    }
}

/// The field lines of one head, in the order they came in.
///
/// Every method takes the block the fields were parsed from. Names are compared without regard to ASCII case.
#[derive(Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    connection_names_fields: bool,
    /// Whether the name of any begins with an x.
    has_extensions: bool,
}

impl Fields {
    /// Forgets the fields and keeps the allocation.
    pub fn clear(&mut self) {
        self.list.clear();
        self.list.reserve(TYPICAL);
        self.connection_names_fields = false;
        self.has_extensions = false;
    }

    /// Adds a field line read from `block`.
    ///
    /// # Errors
    /// When it is a `Connection` field with too many options: each option is compared with each field on the way out.
    pub(super) fn push(&mut self, block: &[u8], field: Field) -> Result<(), HeadError> {
        self.list.push(field);
        self.has_extensions |= is_extension(field.name.of(block));
        if field.name.len() == CONNECTION.len() && field.name.of(block).eq_ignore_ascii_case(CONNECTION.as_bytes()) {
            let mut options = members(field.value.of(block));
            self.connection_names_fields |= options.clone().any(|option| !is_plain_option(option));
            if options.nth(CONNECTION_OPTIONS_MAX).is_some() {
                return Err(HeadError::Malformed("the Connection field lists too many options"));
            }
        }
        Ok(())
    }

    /// Number of field lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no field line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The field lines as ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[Field] {
        &self.list
    }

    /// Name and value of every field line, in order.
    pub fn iter<'b>(&self, block: &'b [u8]) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + Clone {
        self.list.iter().map(move |field| (field.name.of(block), field.value.of(block)))
    }

    /// Name and value of every field line whose name begins with an `x`, as those of S3's own fields do, in order.
    pub fn extensions<'b>(&self, block: &'b [u8]) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
        let list = if self.has_extensions { &self.list[..] } else { &[] };
        let pairs = list.iter().map(|field| (field.name.of(block), field.value.of(block)));
        pairs.filter(|(name, _)| is_extension(name))
    }

    /// Those among which one of this name would be. The requests of browsers and players, by links, have none with an `x`.
    fn candidates(&self, name: &str) -> &[Field] {
        if self.has_extensions || !is_extension(name.as_bytes()) { &self.list } else { &[] }
    }

    /// The value of the first field of this name.
    #[must_use]
    pub fn get<'a>(&self, block: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.candidates(name).iter().find(|field| is_named(**field, block, name)).map(|field| field.value.of(block))
    }

    /// The values of all fields of this name, in order.
    pub fn all<'b>(&self, block: &'b [u8], name: &str) -> impl Iterator<Item = &'b [u8]> + Clone {
        self.candidates(name)
            .iter()
            .filter(move |field| is_named(**field, block, name))
            .map(move |field| field.value.of(block))
    }

    /// How many field lines have this name.
    #[must_use]
    pub fn count(&self, block: &[u8], name: &str) -> usize {
        self.all(block, name).count()
    }

    /// Whether the comma-separated list (RFC 9110 §5.6.1) that all fields of this name make up has the member `token`,
    /// compared without regard to ASCII case.
    #[must_use]
    pub fn list_has(&self, block: &[u8], name: &str, token: &str) -> bool {
        self.all(block, name).any(|value| members(value).any(|member| member.eq_ignore_ascii_case(token.as_bytes())))
    }
}

/// Whether a field of this name is meant for one connection only and is never forwarded (RFC 9110 §7.6.1).
///
/// `Proxy-Authorization` and `Proxy-Authenticate` are meant for the nearest proxy only (RFC 9110 §11.7), which is the
/// gate; the former is a credential besides.
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    let candidates: &[&str] = match name.len() {
        2 => &["te"],
        7 => &["trailer", "upgrade"],
        10 => &["connection", "keep-alive"],
        16 => &["proxy-connection"],
        17 => &["transfer-encoding"],
        18 => &["proxy-authenticate"],
        19 => &["proxy-authorization"],
        _ => &[],
    };
    candidates.iter().any(|candidate| name.eq_ignore_ascii_case(candidate.as_bytes()))
}

/// Whether the sender's `Connection` field names `name`, which makes it a field for one connection only.
///
/// RFC 9110 §7.6.1 forbids naming a field meant for every recipient, and a client that does so anyway could have the
/// gate take away what a signature or the framing depends on. Such names are never reported here.
#[must_use]
pub fn named_by_connection(fields: &Fields, block: &[u8], name: &[u8]) -> bool {
    fields.connection_names_fields
        && !is_protected(name)
        && fields.all(block, CONNECTION).any(|value| members(value).any(|option| option.eq_ignore_ascii_case(name)))
}

/// Whether a `Connection` field cannot take this field away.
fn is_protected(name: &[u8]) -> bool {
    let starts_with =
        |prefix: &&str| name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix.as_bytes()));
    PROTECTED_PREFIXES.iter().any(starts_with)
        || PROTECTED.iter().any(|protected| name.eq_ignore_ascii_case(protected.as_bytes()))
}

/// The members of a comma-separated list. Empty members count as none (RFC 9110 §5.6.1.2).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

fn is_extension(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'x' | b'X'))
}

fn is_named(field: Field, block: &[u8], name: &str) -> bool {
    field.name.len() == name.len() && field.name.of(block).eq_ignore_ascii_case(name.as_bytes())
}

/// Whether a connection option says something about the connection itself and names no field worth looking for.
fn is_plain_option(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"close") || is_hop_by_hop(option)
}

const CONNECTION: &str = "connection";

/// Options of one `Connection` field. Ten times what is seen in the wild.
const CONNECTION_OPTIONS_MAX: usize = 32;

const PROTECTED_PREFIXES: &[&str] = &["content-", "if-", "x-amz-", "access-control-"];

const PROTECTED: &[&str] = &[
    "accept-ranges",
    "authorization",
    "cache-control",
    "date",
    "etag",
    "expect",
    "expires",
    "host",
    "last-modified",
    "location",
    "origin",
    "range",
    "retry-after",
    "server",
    "transfer-encoding",
    "vary",
    "www-authenticate",
];

/// Field lines most heads stay below: one allocation, not five.
const TYPICAL: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::RequestHead;

    fn read(lines: &str) -> (Vec<u8>, Fields) {
        let block = format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes();
        let fields = RequestHead::parse(&block).expect("a good head").fields;
        (block, fields)
    }

    #[test]
    fn fields_of_s3_are_found_wherever_they_stand_and_asked_for_only_where_one_is() {
        for (lines, expected) in [
            ("Host: h\r\nA: 1\r\n", &[][..]),
            ("Host: h\r\nX-Amz-Date: 1\r\nA: 2\r\nx: 3\r\n", &[("X-Amz-Date", "1"), ("x", "3")]),
            ("x-AMZ-date: 1\r\nHost: h\r\n", &[("x-AMZ-date", "1")]),
        ] {
            let (block, fields) = read(lines);
            let found: Vec<_> = fields.extensions(&block).collect();
            let expected: Vec<_> = expected.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            assert_eq!(found, expected);
            let has_date = lines.to_ascii_lowercase().contains("x-amz-date");
            assert_eq!(fields.get(&block, "x-amz-date").is_some(), has_date);
            assert_eq!(fields.count(&block, "X-Amz-Date"), usize::from(has_date));
        }
        let (_, mut fields) = read("Host: h\r\nx-a: 1\r\n");
        fields.clear();
        assert!(!fields.has_extensions);
    }

    #[test]
    fn fields_are_found_whatever_the_case_of_their_names() {
        let (block, fields) = read("hOsT: a\r\nX-One:1\r\nx-one: \t2 \t\r\nX-Empty:\r\nX-Blank: \t \r\n");
        assert_eq!(fields.get(&block, "Host"), Some(&b"a"[..]));
        assert_eq!(fields.get(&block, "x-ONE"), Some(&b"1"[..]));
        assert_eq!(fields.all(&block, "X-One").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!((fields.count(&block, "x-one"), fields.count(&block, "x-on")), (2, 0));
        assert_eq!(fields.get(&block, "x-empty"), Some(&b""[..]));
        assert_eq!(fields.get(&block, "x-blank"), Some(&b""[..]));
        assert_eq!(fields.get(&block, "x-absent"), None);
        assert_eq!(fields.iter(&block).next(), Some((&b"hOsT"[..], &b"a"[..])));
        assert_eq!((fields.len(), fields.is_empty()), (5, false));
    }

    #[test]
    fn list_members_are_whole_words_over_all_lines() {
        let (block, fields) = read("Accept: a,b ,\t C\r\naccept: ,,d\r\n");
        for (token, expected) in [("A", true), ("b", true), ("c", true), ("d", true), ("", false), ("a,b", false)] {
            assert_eq!(fields.list_has(&block, "ACCEPT", token), expected, "{token}");
        }
    }

    #[test]
    fn fields_for_one_connection_are_told_from_the_others() {
        for name in [
            "Connection",
            "Keep-Alive",
            "PROXY-CONNECTION",
            "te",
            "Trailer",
            "Transfer-Encoding",
            "upgrade",
            "Proxy-Authorization",
            "Proxy-Authenticate",
        ] {
            assert!(is_hop_by_hop(name.as_bytes()), "{name}");
        }
        for name in ["", "Host", "Content-Length", "Connectio", "Connection2", "tf", "Authorization", "Via", "x-amz-te"]
        {
            assert!(!is_hop_by_hop(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn connection_takes_away_what_it_names_but_nothing_that_matters_to_everyone() {
        let names = "X-Hop, close, Host, content-length, Range, if-match, X-Amz-Date, AUTHORIZATION, date, origin";
        let (block, fields) = read(&format!("Connection: keep-alive\r\nConnection: {names}\r\n"));
        assert!(named_by_connection(&fields, &block, b"x-hop"));
        for name in names.split(", ").skip(2) {
            assert!(!named_by_connection(&fields, &block, name.as_bytes()), "{name}");
        }
        assert!(!named_by_connection(&fields, &block, b"x-other"));
        assert!(!named_by_connection(&fields, &block, b"x-ho"));
    }

    #[test]
    fn a_later_connection_field_takes_nothing_back() {
        let (block, fields) = read("Connection: x-hop\r\nConnection: close\r\n");
        assert!(named_by_connection(&fields, &block, b"X-Hop"));
    }

    #[test]
    fn a_plain_connection_field_names_no_other() {
        let (block, fields) = read("Connection: close, Keep-Alive, TE, Upgrade\r\nX-Hop: 1\r\n");
        assert!(!fields.connection_names_fields);
        assert!(!named_by_connection(&fields, &block, b"x-hop"));
    }

    #[test]
    fn cleared_fields_forget_what_connection_named() {
        let (block, mut fields) = read("Connection: x-hop\r\n");
        assert!(named_by_connection(&fields, &block, b"x-hop"));
        fields.clear();
        assert!(fields.is_empty() && !fields.connection_names_fields);
    }

    #[test]
    fn a_connection_field_with_too_many_options_is_refused() {
        let head = |n: usize| format!("GET / HTTP/1.1\r\nConnection: {}\r\n\r\n", vec!["a"; n].join(","));
        assert!(RequestHead::parse(head(CONNECTION_OPTIONS_MAX).as_bytes()).is_ok());
        let refused = RequestHead::parse(head(CONNECTION_OPTIONS_MAX + 1).as_bytes());
        assert!(matches!(refused, Err(HeadError::Malformed(_))), "{refused:?}");
    }

    #[test]
    fn a_span_of_something_outside_the_block_is_empty() {
        let block = b"abcdef".to_vec();
        assert_eq!(Span::within(&block, &block[2..4]).of(&block), b"cd");
        assert!(Span::within(&block[..3], &block[2..4]).is_empty());
        assert!(Span::within(&block[3..], &block[..2]).is_empty());
    }
}
