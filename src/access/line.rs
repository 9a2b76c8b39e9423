//! One line of JSON, written without detours: it is written once for every request.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Writes the members of a JSON object. Each name comes with its punctuation: `,"name":`.
pub(super) struct Line<'a> {
    pub(super) out: &'a mut Vec<u8>,
}

/// The bytes between the value before and the value of this name.
macro_rules! name {
    ($name:literal) => {
        concat!(",\"", $name, "\":").as_bytes()
    };
}
pub(super) use name;

impl Line<'_> {
    /// A value that is JSON already.
    #[inline]
    pub(super) fn raw(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(value);
    }

    /// Text that needs no escaping.
    #[inline]
    pub(super) fn plain(&mut self, name: &[u8], value: &str) {
        self.out.extend_from_slice(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    #[inline]
    pub(super) fn text(&mut self, name: &[u8], value: &str) {
        self.out.extend_from_slice(name);
        self.out.push(b'"');
        write_escaped(value, self.out);
        self.out.push(b'"');
    }

    pub(super) fn address(&mut self, name: &[u8], value: SocketAddr) {
        self.out.extend_from_slice(name);
        self.out.push(b'"');
        match value {
            SocketAddr::V4(value) => {
                for (n, octet) in value.ip().octets().into_iter().enumerate() {
                    if n > 0 {
                        self.out.push(b'.');
                    }
                    write_number(u64::from(octet), self.out);
                }
                self.out.push(b':');
                write_number(u64::from(value.port()), self.out);
            }
            SocketAddr::V6(value) => write_infallibly(self.out, format_args!("{value}")),
        }
        self.out.push(b'"');
    }

    #[inline]
    pub(super) fn number(&mut self, name: &[u8], value: u64) {
        self.out.extend_from_slice(name);
        write_number(value, self.out);
    }

    #[inline]
    pub(super) fn milliseconds(&mut self, name: &[u8], value: Duration) {
        self.out.extend_from_slice(name);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        write_number(micros / 1000, self.out);
        self.out.push(b'.');
        self.out.extend_from_slice(&digits::<3>(micros % 1000));
    }
}

/// Appends a number in decimal.
pub(super) fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = digit(number);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// The last `N` decimal digits.
fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [0; N];
    for place in text.iter_mut().rev() {
        *place = digit(number);
        number /= 10;
    }
    text
}

fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

/// Escapes by RFC 8259 §7. Every control character is escaped, those above U+007F too: a log is read on terminals.
fn write_escaped(text: &str, out: &mut Vec<u8>) {
    let mut written = 0;
    for (at, char) in text.char_indices() {
        if !(matches!(char, '"' | '\\' | '\u{2028}' | '\u{2029}') || char.is_control()) {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[written..at]);
        written = at + char.len_utf8();
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            char => write_infallibly(out, format_args!("\\u{:04x}", char as u32)),
        }
    }
    out.extend_from_slice(&text.as_bytes()[written..]);
}

/// Appends a moment as RFC 3339 in UTC with milliseconds: `2026-02-28T23:59:59.000Z`.
pub fn write_time(time: SystemTime, out: &mut Vec<u8>) {
    let milliseconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos().div_ceil(1_000_000)).map_or(i64::MIN, |n| -n),
    };
    let (days, rest) = (milliseconds.div_euclid(DAY_MILLISECONDS), milliseconds.rem_euclid(DAY_MILLISECONDS) as u64);
    let (year, month, day) = civil(days);
    match u64::try_from(year) {
        Ok(year @ ..=9999) => out.extend_from_slice(&digits::<4>(year)),
        _ => write_infallibly(out, format_args!("{year:04}")),
    }
    let parts = [(b'-', month as u64), (b'-', day as u64), (b'T', rest / 3_600_000), (b':', rest / 60_000 % 60)];
    for (before, part) in parts.into_iter().chain([(b':', rest / 1000 % 60)]) {
        let [tens, ones] = digits(part);
        out.extend_from_slice(&[before, tens, ones]);
    }
    let [hundreds, tens, ones] = digits(rest % 1000);
    out.extend_from_slice(&[b'.', hundreds, tens, ones, b'Z']);
}

const DAY_MILLISECONDS: i64 = 24 * 60 * 60 * 1000;

/// The Gregorian year, month and day of a day counted from 1970-01-01.
///
/// Counts in years that begin on 1 March, so that the leap day is the last of its year: then months have the lengths
/// 31 30 31 30 31 31 30 31 30 31 31 28/29, of which the first five, 153 days, repeat.
fn civil(days: i64) -> (i64, i64, i64) {
    const FOUR_CENTURIES: i64 = 146_097;
    const FROM_YEAR_ZERO: i64 = 719_468;
    let days = days + FROM_YEAR_ZERO;
    let (cycle, day) = (days.div_euclid(FOUR_CENTURIES), days.rem_euclid(FOUR_CENTURIES));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

fn write_infallibly(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a Vec takes every byte");
}
