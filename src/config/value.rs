//! Values of the configuration file: each function turns one into its type or says what is wrong with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::file::{kind, text};
use super::keys::{Limit, Unit, in_bytes};
use crate::pipe::Splice;
use crate::policy::route::{Style, UpstreamHost};
use crate::server::AccessLog;
use crate::server::logging::Level;
use crate::tls::config::{Kernel, Records, Version};

/// How S3 spells the bucket's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Regional,
    Global,
    Dualstack,
}

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) plain: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Longest wait that is taken for meant.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Where health is answered unless something else is said; the same as the table of keys says.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// Shards of one process.
const WORKERS: RangeInclusive<u64> = 1..=1024;

/// Where to listen: an address with a port.
pub(super) fn listener(typed: &str) -> Result<SocketAddr, String> {
    typed.parse().map_err(|_| {
        let hint = match typed.rsplit_once(':') {
            Some(("", port)) => format!("write the address too, such as \"0.0.0.0:{port}\" or \"[::]:{port}\""),
            Some((name, _)) if name.contains(':') => format!("an IPv6 address needs brackets: \"[{name}]:443\""),
            Some((name, port)) if port.parse::<u16>().is_ok() && !looks_numeric(name) => {
                format!("names are not looked up here; write this machine's address, or \"0.0.0.0:{port}\" for all")
            }
            Some(_) => "an address is like 10.0.0.5, a port between 1 and 65535".to_string(),
            None => format!("write the port too, such as \"{typed}:443\""),
        };
        format!("{typed:?} is no address with a port; {hint}")
    })
}

/// The admin listener: an address, `off`, or empty for the default.
pub(super) fn admin(value: &DeValue<'_>) -> Result<Option<SocketAddr>, String> {
    match text(value)? {
        "off" => Ok(None),
        "" => Ok(Some(ADMIN)),
        typed => listener(typed).map(Some),
    }
}

/// `"auto"` or a number of shards.
pub(super) fn workers(value: &DeValue<'_>) -> Result<Option<usize>, String> {
    match value {
        DeValue::String(typed) if typed == "auto" => Ok(None),
        DeValue::Integer(_) => Ok(Some(within(integer(value)?, WORKERS)? as usize)),
        other => Err(format!("expected \"auto\" or a number without quotes, found {}", kind(other))),
    }
}

/// A time with a unit.
pub(super) fn time(value: &DeValue<'_>, zero_is_meant: bool) -> Result<Duration, String> {
    if let DeValue::Integer(number) = value {
        return Err(format!("a time needs a unit and quotes: \"{}s\"", number.as_str()));
    }
    let typed = text(value)?;
    let time = humantime::parse_duration(typed)
        .map_err(|error| format!("{typed:?} is no time ({error}); write for example \"250ms\", \"65s\" or \"2m\""))?;
    if time.is_zero() && !zero_is_meant {
        return Err("0 would end every transfer at once; write a time such as \"60s\"".to_string());
    }
    if !time.is_zero() && time < Duration::from_millis(1) {
        return Err(format!("{typed:?} is shorter than 1ms, the shortest time that works"));
    }
    if time > TIMEOUT_MAX {
        return Err(format!("{typed:?} is longer than 24h, the longest time accepted"));
    }
    Ok(time)
}

/// A bound in its own unit.
pub(super) fn limit(value: &DeValue<'_>, limit: &Limit) -> Result<u64, String> {
    let number = match (limit.unit, value) {
        (Unit::Bytes, DeValue::String(typed)) => bytes(typed)?,
        (Unit::Bytes, DeValue::Integer(_)) => integer(value)?,
        (Unit::Bytes, other) => {
            return Err(format!("expected bytes such as 8388608 or \"8 MiB\", found {}", kind(other)));
        }
        (Unit::Count, _) => integer(value)?,
    };
    within_of(number, limit.min..=limit.max, |bound| limit.show(bound))
}

/// `8 MiB`, `300MB`, `4096`: a whole number and a unit, decimal or binary.
pub(super) fn bytes(typed: &str) -> Result<u64, String> {
    let trimmed = typed.trim();
    let split = trimmed.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(format!("{typed:?} is no number of bytes; write for example \"8 MiB\"")),
    };
    let number: Option<u64> = digits.parse().ok();
    let Some(number) = number else {
        return Err(format!("{typed:?} is no number of bytes; write for example \"8 MiB\""));
    };
    number.checked_mul(factor).ok_or_else(|| format!("{typed:?} is more bytes than there are"))
}

/// `"1.2"` or `"1.3"`.
pub(super) fn version(value: &DeValue<'_>) -> Result<Version, String> {
    match value {
        DeValue::String(typed) => match typed.as_ref() {
            "1.2" => Ok(Version::Tls12),
            "1.3" => Ok(Version::Tls13),
            "1.0" | "1.1" => {
                Err(format!("TLS {typed} is broken (RFC 8996) and not spoken here; write \"1.2\" or \"1.3\""))
            }
            _ => Err(format!("{typed:?} is no TLS version; write \"1.2\" or \"1.3\"")),
        },
        DeValue::Float(number) => Err(format!("a TLS version needs quotes: \"{}\"", number.as_str())),
        other => Err(format!("expected \"1.2\" or \"1.3\", found {}", kind(other))),
    }
}

/// `"own"` or `"library"`.
pub(super) fn records(value: &DeValue<'_>) -> Result<Records, String> {
    match text(value)? {
        "own" => Ok(Records::Own),
        "library" => Ok(Records::Library),
        other => Err(format!("{other:?} is nobody who protects records; write \"own\" or \"library\"")),
    }
}

/// `"auto"` or `"off"`.
pub(super) fn kernel(value: &DeValue<'_>) -> Result<Kernel, String> {
    kernel_typed(text(value)?)
}

/// A time on a command line.
pub(super) fn time_typed(typed: &str) -> Result<Duration, String> {
    humantime::parse_duration(typed).map_err(|error| format!("{typed:?} is no time ({error}); write for example 15m"))
}

/// The same on a command line.
pub(super) fn kernel_typed(typed: &str) -> Result<Kernel, String> {
    match typed {
        "auto" => Ok(Kernel::Auto),
        "off" => Ok(Kernel::Off),
        other => Err(format!("{other:?} says nothing about the kernel's TLS; write \"auto\" or \"off\"")),
    }
}

/// Where access records go.
pub(super) fn access_log(value: &DeValue<'_>) -> Result<AccessLog, String> {
    match text(value)? {
        "-" => Ok(AccessLog::Stdout),
        "off" => Ok(AccessLog::Off),
        "" => Err("empty; write a file, \"-\" for standard output, or \"off\"".to_string()),
        "stdout" => Err("write \"-\" for standard output, or \"./stdout\" for a file of that name".to_string()),
        path => Ok(AccessLog::File(path.into())),
    }
}

/// How much filmgate says of itself.
pub(super) fn level(value: &DeValue<'_>) -> Result<Level, String> {
    let wanted = text(value)?;
    let found = Level::ALL.iter().find(|(_, name)| *name == wanted);
    found.map(|(level, _)| *level).ok_or_else(|| {
        let names = Level::ALL.map(|(_, name)| format!("{name:?}"));
        format!("{wanted:?} is no level; write one of {}", names.join(", "))
    })
}

/// Whether a route signs its requests anew.
pub(super) fn signs_anew(value: &DeValue<'_>) -> Result<bool, String> {
    match text(value)? {
        "pass-through" => Ok(false),
        "re-sign" => Ok(true),
        other => Err(format!("{other:?} is no mode; write \"pass-through\" or \"re-sign\"")),
    }
}

/// Where the upstream wants the bucket.
pub(super) fn style(value: &DeValue<'_>) -> Result<Style, String> {
    match text(value)? {
        "virtual" => Ok(Style::Virtual),
        "path" => Ok(Style::Path),
        other => Err(format!("{other:?} is no style; write \"virtual\" (BUCKET.HOST) or \"path\" (HOST/BUCKET)")),
    }
}

/// The one-line choice of S3 name.
pub(super) fn endpoint(value: &DeValue<'_>) -> Result<Endpoint, String> {
    match text(value)? {
        "regional" => Ok(Endpoint::Regional),
        "global" => Ok(Endpoint::Global),
        "dualstack" => Ok(Endpoint::Dualstack),
        other => Err(format!("{other:?} is no endpoint; write \"regional\", \"global\" or \"dualstack\"")),
    }
}

/// When bodies are spliced.
pub(super) fn splice(value: &DeValue<'_>) -> Result<Splice, String> {
    match text(value)? {
        "auto" => Ok(Splice::Auto),
        "always" => Ok(Splice::Always),
        "off" => Ok(Splice::Off),
        other => Err(format!("{other:?} is not known; write \"auto\", \"always\" or \"off\"")),
    }
}

/// A bucket's name, by S3's rules for general purpose buckets (S3 user guide, "Bucket naming rules").
pub(super) fn bucket(name: &str) -> Result<String, String> {
    let letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let wrong = if name.contains("://") || name.contains('/') {
        "write the bucket's name alone, without s3:// and without a prefix"
    } else if !(3..=63).contains(&name.len()) {
        "it must have 3 to 63 characters"
    } else if let Some(odd) = name.bytes().find(|&byte| !letter_or_digit(byte) && byte != b'-' && byte != b'.') {
        if odd.is_ascii_uppercase() {
            "it must be in lower case"
        } else {
            "it may have only lower-case letters, digits, hyphens and dots"
        }
    } else if !name.bytes().next().is_some_and(letter_or_digit) || !name.bytes().last().is_some_and(letter_or_digit) {
        "it must begin and end with a letter or digit"
    } else if name.contains("..") {
        "it must not have two dots in a row"
    } else if name.parse::<Ipv4Addr>().is_ok() {
        "it must not look like an IP address"
    } else if name.starts_with("xn--") {
        "it must not begin with xn--"
    } else {
        return Ok(name.to_string());
    };
    Err(format!("{name:?} is no S3 bucket name: {wrong}"))
}

/// What credentials are called.
pub(super) fn credential_name(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(format!("{name:?} is no name; it has up to 64 letters, digits, hyphens, underscores and dots"));
    }
    Ok(name.to_string())
}

/// A region's name, such as `us-west-2` or `us-gov-east-1`.
pub(super) fn region(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    let zone = name.strip_suffix(|last: char| last.is_ascii_lowercase());
    if let Some(region) = zone.filter(|region| is_region(region)) {
        return Err(format!("{name:?} is an availability zone; its region is \"{region}\""));
    }
    if !is_region(name) {
        return Err(format!("{name:?} is no AWS region; write it like \"us-west-2\" or \"eu-central-1\""));
    }
    Ok(name.to_string())
}

fn is_region(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let [words @ .., number] = parts.as_slice() else { return false };
    let is_word =
        |word: &&str| word.len() >= 2 && word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    (2..=4).contains(&words.len())
        && words.iter().all(is_word)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name clients use, in the spelling [`RouteTable`](crate::policy::route::RouteTable) wants.
pub(super) fn client_host(typed: &str) -> Result<String, String> {
    if typed.contains("://") || typed.contains('/') {
        return Err(format!("{typed:?}: write the name alone, without https:// and without a path"));
    }
    if typed.contains('*') {
        return Err(format!("{typed:?}: wildcards are not supported; list every name, or write default = true"));
    }
    let bare = typed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(typed);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    if typed.contains(':') {
        return Err(format!("{typed:?}: write the name without a port; every port leads to the same route"));
    }
    name(typed).map(|name| name.to_ascii_lowercase())
}

/// `HOST`, `HOST:PORT`, either with `http://` or `https://` in front; IPv6 in brackets.
pub(super) fn address(typed: &str) -> Result<Address, String> {
    let (scheme, rest) = typed.split_once("://").unwrap_or(("https", typed));
    let plain = match scheme.to_ascii_lowercase().as_str() {
        "https" => false,
        "http" => true,
        _ => return Err(format!("{typed:?}: only https:// and http:// are spoken, not {scheme:?}")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = authority(rest).map_err(|wrong| format!("{typed:?}: {wrong}"))?;
    Ok(Address { plain, host, port: port.unwrap_or(if plain { 80 } else { 443 }) })
}

/// The Host for S3: `keep`, or a name with or without a port, which stays exactly as it is typed but for
/// [a bucket](BUCKET).
pub(super) fn upstream_host(value: &DeValue<'_>) -> Result<UpstreamHost, String> {
    let typed = text(value)?;
    if typed == "keep" {
        return Ok(UpstreamHost::Keep);
    }
    authority(&typed.replacen(BUCKET, "bucket", 1)).map_err(|wrong| format!("{typed:?}: {wrong}"))?;
    Ok(UpstreamHost::Replace(typed.to_string()))
}

/// What stands for the bucket's name in a Host.
pub(super) const BUCKET: &str = "{bucket}";

/// The name in the TLS handshake: a DNS name or an IP address, without a port.
pub(super) fn server_name(value: &DeValue<'_>) -> Result<String, String> {
    let typed = text(value)?;
    if typed.contains("://") || typed.contains('/') {
        return Err(format!("{typed:?}: write the name alone, without https:// and without a path"));
    }
    let bare = typed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(typed);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if typed.contains(':') {
        return Err(format!("{typed:?}: a certificate carries no port; write the name alone"));
    }
    name(typed).map(|name| name.to_ascii_lowercase())
}

/// A host without brackets and maybe a port (RFC 3986 §3.2, without user information).
fn authority(typed: &str) -> Result<(String, Option<u16>), String> {
    if typed.contains(['/', '?', '#', '@']) {
        return Err("write a name and a port only, without a path or user".to_string());
    }
    if let Some(rest) = typed.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
        let address: Ipv6Addr = inside.parse().map_err(|_| format!("{inside:?} is no IPv6 address"))?;
        let port = match after.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if after.is_empty() => None,
            None => return Err("after the bracket only :PORT may follow".to_string()),
        };
        return Ok((address.to_string(), port));
    }
    if typed.matches(':').count() > 1 {
        return Err(format!("an IPv6 address needs brackets: \"[{typed}]\", or \"[ADDRESS]:PORT\""));
    }
    let (host, port) = match typed.split_once(':') {
        Some((host, digits)) => (host, Some(port(digits)?)),
        None => (typed, None),
    };
    Ok((name(host)?.to_ascii_lowercase(), port))
}

fn port(digits: &str) -> Result<u16, String> {
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    number.filter(|number| *number != 0).ok_or_else(|| format!("{digits:?} is no port; it is a number up to 65535"))
}

/// A host name (RFC 1123 §2.1, underscores allowed because internal names have them) or an IPv4 address, without the
/// root's dot.
fn name(typed: &str) -> Result<&str, String> {
    let name = typed.strip_suffix('.').unwrap_or(typed);
    let wrong = if name.is_empty() {
        "it is empty"
    } else if !name.is_ascii() {
        "write an international name in its xn-- form"
    } else if name.len() > 253 {
        "it is longer than 253 characters"
    } else if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        "between dots there must be 1 to 63 characters"
    } else if name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && !b"-_.".contains(&byte)) {
        "only letters, digits, hyphens and dots are allowed"
    } else if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        "a hyphen may not stand next to a dot or at an end"
    } else if looks_numeric(name) && name.parse::<Ipv4Addr>().is_err() {
        "an IPv4 address is four numbers up to 255"
    } else {
        return Ok(name);
    };
    Err(format!("{typed:?} is no host name: {wrong}"))
}

/// Whether the last label is a number, so that it can only be meant as an IPv4 address.
fn looks_numeric(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

fn integer(value: &DeValue<'_>) -> Result<u64, String> {
    let DeValue::Integer(number) = value else {
        return Err(format!("expected a number without quotes, found {}", kind(value)));
    };
    let digits = number.as_str().trim_start_matches('+');
    u64::from_str_radix(digits, number.radix()).map_err(|_| format!("{number} is not a number that fits here"))
}

fn within(number: u64, range: RangeInclusive<u64>) -> Result<u64, String> {
    within_of(number, range, |bound| bound.to_string())
}

fn within_of(number: u64, range: RangeInclusive<u64>, show: impl Fn(u64) -> String) -> Result<u64, String> {
    if range.contains(&number) {
        return Ok(number);
    }
    Err(format!("{} is outside {} to {}", show(number), show(*range.start()), show(*range.end())))
}

/// `BYTES` on the command line.
pub(super) fn size(typed: &str) -> Result<u64, String> {
    let size = bytes(typed)?;
    if size > 1 << 40 {
        return Err(format!("{} is more than 1 TiB", in_bytes(size)));
    }
    Ok(size)
}
