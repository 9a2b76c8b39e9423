//! Forms that upload a file ("POST Object"): `multipart/form-data` up to the content of the file, and where that ends.
//!
//! RFC 7578, RFC 2046 §5.1, AWS "POST Object". Read more strictly than the standards ask for (no preamble, no padding, no
//! field twice, nothing behind the file): what two readers could understand in two ways is refused, not guessed.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use memchr::memmem;

use crate::limits;

mod end;
mod parameters;

pub use end::FileEnd;
use parameters::Parameters;

/// What is wrong with a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// The content is no `multipart/form-data`. S3: 412 `PreconditionFailed`.
    NotAForm,
    /// It is not well-formed, or not plain enough, and what about it. S3: 400 `MalformedPOSTRequest`.
    Malformed(&'static str),
    /// It ends without a file. S3: 400 `InvalidArgument`.
    NoFile,
    /// More than [`limits::FORM_HEAD_BYTES_MAX`] bytes or [`limits::FORM_PARTS_MAX`] parts stand in front of the file.
    /// S3: 400 `MaxPostPreDataLengthExceededError`.
    TooLong,
}

impl FormError {
    /// The status and the code that S3 answers with.
    #[must_use]
    pub fn code(self) -> (u16, &'static str) {
        match self {
            Self::NotAForm => (412, "PreconditionFailed"),
            Self::Malformed(_) => (400, "MalformedPOSTRequest"),
            Self::NoFile => (400, "InvalidArgument"),
            Self::TooLong => (400, "MaxPostPreDataLengthExceededError"),
        }
    }
}

impl std::fmt::Display for FormError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAForm => f.write_str("A POST to a bucket must be multipart/form-data."),
            Self::Malformed(what) => write!(f, "The form is not well-formed multipart/form-data: {what}."),
            Self::NoFile => f.write_str("The form has no file, and must have one."),
            Self::TooLong => f.write_str("The fields in front of the file are too long."),
        }
    }
}

/// What stands between the parts of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary(
    /// With its two leading hyphens.
    Vec<u8>,
);

impl Boundary {
    /// Reads the value of a `Content-Type` field.
    ///
    /// # Errors
    /// When it is not `multipart/form-data` with a boundary.
    pub fn of(content_type: &[u8]) -> Result<Self, FormError> {
        let mut parameters = Parameters::of(content_type);
        if !parameters.head().eq_ignore_ascii_case(b"multipart/form-data") {
            return Err(FormError::NotAForm);
        }
        let mut found = None;
        while let Some((name, value)) = parameters.next_parameter()? {
            if name.eq_ignore_ascii_case(b"boundary") && found.replace(&content_type[value]).is_some() {
                return Err(FormError::Malformed("its boundary is given twice"));
            }
        }
        match found {
            Some(text) if (1..=70).contains(&text.len()) && text.iter().all(is_boundary) => {
                Ok(Self([b"--", text].concat()))
            }
            _ => Err(FormError::Malformed("its boundary is missing or not made of 1 to 70 plain characters")),
        }
    }

    /// Bytes of the end of a form behind its file, without the line end that may follow.
    fn closing_bytes(&self) -> u64 {
        (b"\r\n".len() + self.0.len() + b"--".len()) as u64
    }
}

/// RFC 2046 §5.1.1 without the space.
fn is_boundary(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(byte)
}

/// A form as far as the content of its file. `Debug` shows no values: signatures and tokens are among them.
pub struct Form<'a> {
    boundary: &'a Boundary,
    /// All in front of the content of the file.
    head: &'a [u8],
    parts: Vec<Part>,
    /// Where the part of the file begins, at its delimiter.
    file: usize,
    filename: Option<Cow<'a, [u8]>>,
}

impl std::fmt::Debug for Form<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Form({} fields, {} bytes)", self.parts.len(), self.head.len())
    }
}

/// Places in the head.
struct Part {
    /// The delimiter.
    start: usize,
    name: Range<usize>,
    value: Range<usize>,
}

/// A field of a form that is not the file.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// The name as written. S3 does not tell upper from lower case in it.
    pub name: &'a [u8],
    /// The value as written, before [`Form::expanded`]. UTF-8.
    pub value: &'a [u8],
}

/// What becomes of a field when a form is written anew.
#[derive(Clone, Copy)]
pub enum Fate<'a> {
    /// It stays as it is.
    Kept,
    /// It gets another value.
    Replaced(&'a [u8]),
    /// It goes.
    Dropped,
}

impl<'a> Form<'a> {
    /// Reads a form from the start of its body; `None` when the file has not begun yet. What stands behind the beginning of
    /// the file is not looked at.
    ///
    /// # Errors
    /// See [`FormError`].
    pub fn read(boundary: &'a Boundary, body: &'a [u8]) -> Result<Option<Self>, FormError> {
        let bytes = &body[..body.len().min(limits::FORM_HEAD_BYTES_MAX)];
        match scan(boundary, bytes)? {
            None if bytes.len() == limits::FORM_HEAD_BYTES_MAX => Err(FormError::TooLong),
            form => Ok(form),
        }
    }

    /// The fields in front of the file, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> {
        self.parts
            .iter()
            .map(|part| Field { name: &self.head[part.name.clone()], value: &self.head[part.value.clone()] })
    }

    /// The value of the field `name`, in whatever case it is written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
    }

    /// A value with the name of the file in place of every `${filename}`, or as it is when the file has no name (AWS, "POST
    /// Object": the text behind the last slash or backslash of the name).
    #[must_use]
    pub fn expanded(&self, value: &'a [u8]) -> Cow<'a, [u8]> {
        const VARIABLE: &[u8] = b"${filename}";
        let Some(filename) = self.filename.as_deref().filter(|_| memmem::find(value, VARIABLE).is_some()) else {
            return Cow::Borrowed(value);
        };
        let (mut out, mut rest) = (Vec::new(), value);
        while let Some(at) = memmem::find(rest, VARIABLE) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(filename);
            rest = &rest[at + VARIABLE.len()..];
        }
        out.extend_from_slice(rest);
        Cow::Owned(out)
    }

    /// Bytes in front of the content of the file.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.head.len()
    }

    /// How long the file can be when the whole body has `total` bytes: two lengths, for a line end may follow the form.
    /// `None` when the body cannot hold the end of the form.
    #[must_use]
    pub fn file_bytes(&self, total: u64) -> Option<RangeInclusive<u64>> {
        let longest = total.checked_sub(self.head.len() as u64 + self.boundary.closing_bytes())?;
        Some(longest.saturating_sub(2)..=longest)
    }

    /// Finds the end of the file in what follows the head.
    #[must_use]
    pub fn file_end(&self) -> FileEnd {
        FileEnd::new(self.boundary)
    }

    /// Writes the head anew, all bytes as they were but for what `fate` says of a field by its name and for fields in
    /// `added`, which come last.
    pub fn write<'v>(&self, fate: impl Fn(&[u8]) -> Fate<'v>, added: &[(&str, &[u8])], out: &mut Vec<u8>) {
        for (index, part) in self.parts.iter().enumerate() {
            let next = self.parts.get(index + 1).map_or(self.file, |part| part.start);
            match fate(&self.head[part.name.clone()]) {
                Fate::Kept => out.extend_from_slice(&self.head[part.start..next]),
                Fate::Replaced(value) => {
                    out.extend_from_slice(&self.head[part.start..part.value.start]);
                    out.extend_from_slice(value);
                    out.extend_from_slice(&self.head[part.value.end..next]);
                }
                Fate::Dropped => {}
            }
        }
        for (name, value) in added {
            out.extend_from_slice(&self.boundary.0);
            out.extend_from_slice(b"\r\nContent-Disposition: form-data; name=\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\"\r\n\r\n");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.head[self.file..]);
    }
}

fn scan<'a>(boundary: &'a Boundary, bytes: &'a [u8]) -> Result<Option<Form<'a>>, FormError> {
    let delimiter = &boundary.0[..];
    if !bytes.starts_with(delimiter) {
        let can_be = delimiter.starts_with(bytes);
        return if can_be { Ok(None) } else { Err(FormError::Malformed("it does not begin with its boundary")) };
    }
    let (mut parts, mut start) = (Vec::<Part>::new(), 0);
    loop {
        let after = start + delimiter.len();
        match bytes.get(after..after + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(b"--") => return Err(FormError::NoFile),
            Some(_) => return Err(FormError::Malformed("a boundary is not at the end of its line")),
        }
        let Some(head) = PartHead::read(delimiter, bytes, after + 2)? else { return Ok(None) };
        let name = &bytes[head.name.clone()];
        if name.eq_ignore_ascii_case(b"file") {
            let filename = head.filename.map(|range| base_name(&bytes[range]));
            return Ok(Some(Form { boundary, head: &bytes[..head.content], parts, file: start, filename }));
        }
        let is_again = |part: &Part| bytes[part.name.clone()].eq_ignore_ascii_case(name);
        if parts.iter().any(is_again) {
            return Err(FormError::Malformed("a field is given twice"));
        }
        if parts.len() == limits::FORM_PARTS_MAX {
            return Err(FormError::TooLong);
        }
        let Some(length) = memmem::find(&bytes[head.content..], delimiter) else { return Ok(None) };
        let next = head.content + length;
        let value = match bytes[head.content..next].strip_suffix(b"\r\n") {
            Some(value) => head.content..head.content + value.len(),
            None => return Err(FormError::Malformed("a boundary is not on a line of its own")),
        };
        if std::str::from_utf8(&bytes[value.clone()]).is_err() {
            return Err(FormError::Malformed("a field is not UTF-8"));
        }
        parts.push(Part { start, name: head.name, value });
        start = next;
    }
}

/// What the fields at the head of a part say. Places are in the bytes of the form.
struct PartHead {
    name: Range<usize>,
    filename: Option<Range<usize>>,
    /// Where the content begins.
    content: usize,
}

impl PartHead {
    /// Reads the lines from `at` to the empty one; `None` when it has not come yet.
    fn read(delimiter: &[u8], bytes: &[u8], mut at: usize) -> Result<Option<Self>, FormError> {
        let mut disposition = None;
        loop {
            let Some(length) = memchr::memchr(b'\n', &bytes[at..]) else { return Ok(None) };
            let Some(line) = bytes[at..at + length].strip_suffix(b"\r") else {
                return Err(FormError::Malformed("a line in the head of a part does not end in CRLF"));
            };
            if line.is_empty() {
                let content = at + length + 1;
                return match disposition {
                    Some((name, filename)) => Ok(Some(Self { name, filename, content })),
                    None => Err(FormError::Malformed("a part has no Content-Disposition")),
                };
            }
            if memmem::find(line, delimiter).is_some() {
                return Err(FormError::Malformed("a boundary is in the head of a part"));
            }
            let (name, value) = split_line(line)?;
            let value_at = at + line.len() - value.len();
            if name.eq_ignore_ascii_case(b"content-disposition") {
                if disposition.replace(read_disposition(value, value_at)?).is_some() {
                    return Err(FormError::Malformed("a part has two Content-Dispositions"));
                }
            } else if name.eq_ignore_ascii_case(b"content-transfer-encoding")
                && ![&b"7bit"[..], b"8bit", b"binary"]
                    .iter()
                    .any(|plain| value.trim_ascii().eq_ignore_ascii_case(plain))
            {
                return Err(FormError::Malformed("a part has a Content-Transfer-Encoding"));
            }
            at += length + 1;
        }
    }
}

/// Name and value of a field line. Folded lines have no name in front of them.
fn split_line(line: &[u8]) -> Result<(&[u8], &[u8]), FormError> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    match line.iter().position(|byte| *byte == b':') {
        Some(colon) if colon > 0 && line[..colon].iter().all(is_token) && line.iter().all(is_text) => {
            Ok((&line[..colon], &line[colon + 1..]))
        }
        _ => Err(FormError::Malformed("a line in the head of a part is not a field")),
    }
}

/// The places of the field's name and the file's name.
type Names = (Range<usize>, Option<Range<usize>>);

fn read_disposition(value: &[u8], at: usize) -> Result<Names, FormError> {
    let mut parameters = Parameters::of(value);
    if !parameters.head().eq_ignore_ascii_case(b"form-data") {
        return Err(FormError::Malformed("a Content-Disposition is not form-data"));
    }
    let (mut name, mut filename) = (None, None);
    while let Some((parameter, range)) = parameters.next_parameter()? {
        let slot = if parameter.eq_ignore_ascii_case(b"name") {
            &mut name
        } else if parameter.eq_ignore_ascii_case(b"filename") {
            &mut filename
        } else if parameter.eq_ignore_ascii_case(b"name*") {
            return Err(FormError::Malformed("a field has a name that is encoded"));
        } else {
            continue;
        };
        if slot.replace(at + range.start..at + range.end).is_some() {
            return Err(FormError::Malformed("a Content-Disposition has a parameter twice"));
        }
    }
    let is_plain = |name: &[u8]| {
        !name.is_empty() && !name.iter().any(|byte| b"\\\t\"".contains(byte)) && std::str::from_utf8(name).is_ok()
    };
    let text = |range: &Range<usize>| &value[range.start - at..range.end - at];
    if filename.as_ref().is_some_and(|range| std::str::from_utf8(text(range)).is_err()) {
        return Err(FormError::Malformed("the name of a file is not UTF-8"));
    }
    match name {
        Some(name) if is_plain(text(&name)) => Ok((name, filename)),
        _ => Err(FormError::Malformed("a field has no name, or not a plain one")),
    }
}

/// What is left of the name of a file. Browsers put a backslash as it is and a quote as `%22`, others a quote as `\"`.
fn base_name(written: &[u8]) -> Cow<'_, [u8]> {
    let mut name = Cow::Borrowed(written);
    if memmem::find(written, b"\\\"").is_some() {
        let mut plain = Vec::with_capacity(written.len());
        for (index, byte) in written.iter().enumerate() {
            if *byte != b'\\' || written.get(index + 1) != Some(&b'"') {
                plain.push(*byte);
            }
        }
        name = Cow::Owned(plain);
    }
    match name.iter().rposition(|byte| matches!(byte, b'/' | b'\\')) {
        None => name,
        Some(slash) => match name {
            Cow::Borrowed(name) => Cow::Borrowed(&name[slash + 1..]),
            Cow::Owned(name) => Cow::Owned(name[slash + 1..].to_vec()),
        },
    }
}

#[cfg(test)]
#[path = "form/form_tests.rs"]
mod tests;
