//! The policy of a form: JSON in base64 (AWS, "POST Policy").

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::FormRefusal;
use crate::s3::form::Form;
use crate::sign::time::Stamp;

/// A policy that was understood.
#[derive(Debug)]
pub(super) struct Document {
    /// Seconds since 1970.
    pub(super) expires: u64,
    conditions: Vec<Condition>,
}

#[derive(Debug)]
enum Condition {
    /// The field has this value.
    Equals { field: String, value: String },
    /// The field has a value that starts so.
    StartsWith { field: String, prefix: String },
    /// The file has so many bytes; `None` is no range, which no length is in.
    Size(Option<RangeInclusive<u64>>),
}

type Read<T> = Result<T, FormRefusal>;

fn invalid<T>(what: &'static str) -> Read<T> {
    Err(FormRefusal::InvalidPolicyDocument(what))
}

impl Document {
    /// Reads the value of the field `policy`.
    pub(super) fn read(base64: &[u8]) -> Read<Self> {
        let plain: Vec<u8> = base64.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let Ok(json) = STANDARD.decode(plain) else { return invalid("it is not base64") };
        let Ok(Value::Object(members)) = serde_json::from_slice(&json) else { return invalid("Invalid JSON") };
        if members.keys().any(|name| name != "expiration" && name != "conditions") {
            return invalid("it has more than an expiration and conditions");
        }
        let expires = match members.get("expiration") {
            Some(Value::String(text)) => moment(text.as_bytes()),
            _ => return invalid("it has no expiration"),
        };
        let Some(expires) = expires else {
            return invalid("its expiration is not a time in UTC as ISO 8601 writes it");
        };
        let Some(Value::Array(conditions)) = members.get("conditions") else {
            return invalid("it has no list of conditions");
        };
        Ok(Self { expires, conditions: conditions.iter().map(condition).collect::<Read<_>>()? })
    }

    /// Whether a form for `bucket` meets the conditions, and they speak of all its fields. Returns how many bytes the file may
    /// have.
    pub(super) fn check(&self, form: &Form<'_>, bucket: &str) -> Read<Option<RangeInclusive<u64>>> {
        let failed = |operation, field: &str| Err(FormRefusal::Condition(operation, shown(field)));
        let value = |field: &str| match field.strip_prefix('$') {
            Some(name) if name.eq_ignore_ascii_case("bucket") => Some(bucket.as_bytes().into()),
            Some(name) => form.get(name).map(|value| form.expanded(value)),
            None => None,
        };
        let mut sizes: Option<RangeInclusive<u64>> = None;
        for condition in &self.conditions {
            match condition {
                Condition::Equals { field, value: expected } => {
                    if value(field).as_deref() != Some(expected.as_bytes()) {
                        return failed("eq", field);
                    }
                }
                Condition::StartsWith { field, prefix } => {
                    let is_list = field.eq_ignore_ascii_case("$content-type");
                    let starts = |value: &[u8]| match is_list {
                        true => value.split(|byte| *byte == b',').all(|one| one.starts_with(prefix.as_bytes())),
                        false => value.starts_with(prefix.as_bytes()),
                    };
                    if !value(field).is_some_and(|value| starts(&value)) {
                        return failed("starts-with", field);
                    }
                }
                Condition::Size(None) => return failed(SIZE, "..."),
                Condition::Size(Some(range)) => {
                    let before = sizes.take().unwrap_or(0..=u64::MAX);
                    let both = *range.start().max(before.start())..=*range.end().min(before.end());
                    if both.is_empty() {
                        return failed(SIZE, "...");
                    }
                    sizes = Some(both);
                }
            }
        }
        let is_elsewhere = form.get("bucket").is_some_and(|field| field != bucket.as_bytes());
        if is_elsewhere || !self.speaks_of(b"bucket") {
            return failed("eq", "$bucket");
        }
        let extra = form.fields().find(|field| !is_exempt(field.name) && !self.speaks_of(field.name));
        match extra {
            Some(field) => Err(FormRefusal::ExtraField(shown(&String::from_utf8_lossy(field.name)))),
            None => Ok(sizes),
        }
    }

    fn speaks_of(&self, name: &[u8]) -> bool {
        self.conditions.iter().any(|condition| match condition {
            Condition::Equals { field, .. } | Condition::StartsWith { field, .. } => {
                field.strip_prefix('$').is_some_and(|field| field.as_bytes().eq_ignore_ascii_case(name))
            }
            Condition::Size(_) => false,
        })
    }
}

/// Whether a field need not be in the conditions.
pub(super) fn is_exempt(name: &[u8]) -> bool {
    const IGNORED: &[u8] = b"x-ignore-";
    [&b"policy"[..], b"x-amz-signature"].iter().any(|exempt| name.eq_ignore_ascii_case(exempt))
        || name.get(..IGNORED.len()).is_some_and(|start| start.eq_ignore_ascii_case(IGNORED))
}

const SIZE: &str = "content-length-range";

fn condition(value: &Value) -> Read<Condition> {
    match value {
        Value::Object(members) => {
            let mut members = members.iter();
            match (members.next(), members.next()) {
                (Some((name, Value::String(value))), None) => {
                    Ok(Condition::Equals { field: format!("${name}"), value: value.clone() })
                }
                (Some(_), None) => invalid("Invalid Simple-Condition: value must be a string"),
                _ => invalid("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified"),
            }
        }
        Value::Array(items) => {
            let [Value::String(operation), first, second] = &items[..] else {
                return invalid("a condition is not an operation with two arguments");
            };
            if operation.eq_ignore_ascii_case(SIZE) {
                return size(first, second).map(Condition::Size);
            }
            let (Value::String(field), Value::String(value)) = (first, second) else {
                return invalid("the arguments of a condition are not strings");
            };
            let (field, value) = (field.clone(), value.clone());
            if operation.eq_ignore_ascii_case("eq") {
                Ok(Condition::Equals { field, value })
            } else if operation.eq_ignore_ascii_case("starts-with") {
                Ok(Condition::StartsWith { field, prefix: value })
            } else {
                invalid("the operation of a condition is not known")
            }
        }
        _ => invalid("a condition is neither a list nor an object"),
    }
}

/// S3 takes digits in a string as well, and says of other strings that the condition is not met.
fn size(min: &Value, max: &Value) -> Read<Option<RangeInclusive<u64>>> {
    let number = |value: &Value| match value {
        Value::Number(number) => match number.as_u64() {
            Some(number) => Ok(Some(number)),
            None => invalid("a length is not a whole number"),
        },
        Value::String(digits) => Ok(Some(digits)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())),
        _ => invalid("a length is not a number"),
    };
    Ok(number(min)?.zip(number(max)?).filter(|(min, max)| min <= max).map(|(min, max)| min..=max))
}

/// Reads `2015-12-30T12:00:00.000Z`, with or without a fraction of the second, as seconds since 1970.
fn moment(text: &[u8]) -> Option<u64> {
    let (whole, rest) = text.split_at_checked(19)?;
    let is_end = match rest {
        b"Z" => true,
        [b'.', digits @ .., b'Z'] => (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_end || whole[4] != b'-' || whole[7] != b'-' || whole[13] != b':' || whole[16] != b':' {
        return None;
    }
    let parts = [&whole[..4], &whole[5..7], &whole[8..13], &whole[14..16], &whole[17..], b"Z"];
    Some(Stamp::parse(&parts.concat())?.seconds())
}

/// The reverse of [`moment`].
pub(super) fn written(moment: &Stamp) -> String {
    let text = String::from_utf8_lossy(moment.text());
    let at = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}-{}-{}:{}:{}.000Z", at(0, 4), at(4, 6), at(6, 11), at(11, 13), at(13, 15))
}

/// The front of a name somebody else has chosen.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}
