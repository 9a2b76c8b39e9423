//! The parameters of a `Content-Type` or `Content-Disposition` field (RFC 2045 §5.1, RFC 9110 §5.6.6).

use std::ops::Range;

use super::FormError;

/// Name, and place of the value.
type Parameter<'a> = (&'a [u8], Range<usize>);

/// Walks over `head; name=value; name="value"`.
pub(super) struct Parameters<'a> {
    text: &'a [u8],
    head: &'a [u8],
    at: usize,
}

impl<'a> Parameters<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        let at = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
        Self { text, head: text[..at].trim_ascii(), at }
    }

    /// What stands in front of the parameters.
    pub(super) fn head(&self) -> &'a [u8] {
        self.head
    }

    /// The name of the next parameter, and where in the text its value is, without quotation marks. In between them `\"` is
    /// no end; every other backslash is one.
    pub(super) fn next_parameter(&mut self) -> Result<Option<Parameter<'a>>, FormError> {
        const WRONG: FormError = FormError::Malformed("a parameter of a field is not name=value");
        self.pass(|byte| matches!(byte, b';' | b' ' | b'\t'));
        if self.at == self.text.len() {
            return Ok(None);
        }
        let start = self.at;
        self.pass(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        let name = &self.text[start..self.at];
        if name.is_empty() || self.text.get(self.at) != Some(&b'=') {
            return Err(WRONG);
        }
        self.at += 1;
        let value = match self.text.get(self.at) {
            Some(b'"') => self.quoted().ok_or(WRONG)?,
            _ => {
                let start = self.at;
                self.pass(|byte| !matches!(byte, b'"' | b'\\' | b';' | b' ' | b'\t'));
                start..self.at
            }
        };
        self.pass(|byte| matches!(byte, b' ' | b'\t'));
        match self.text.get(self.at) {
            None | Some(b';') => Ok(Some((name, value))),
            Some(_) => Err(WRONG),
        }
    }

    fn quoted(&mut self) -> Option<Range<usize>> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            end += memchr::memchr(b'"', self.text.get(end..)?)?;
            if end == start || self.text[end - 1] != b'\\' {
                break;
            }
            end += 1;
        }
        self.at = end + 1;
        Some(start..end)
    }

    fn pass(&mut self, is_passed: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|byte| is_passed(*byte)) {
            self.at += 1;
        }
    }
}
