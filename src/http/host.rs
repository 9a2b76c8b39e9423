//! The authority a request is meant for: syntax and equality of `Host` values.

/// A `Host` value taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    name: &'a [u8],
    port: Option<u16>,
}

impl<'a> Host<'a> {
    /// Reads `uri-host [ ":" port ]` (RFC 9110 §7.2) in the part of its grammar that names something in DNS: letters,
    /// digits, `-`, `.` and `_`, or an IPv6 address in brackets. What else RFC 3986 §3.2.2 allows (percent-coding,
    /// commas and other delimiters) is read differently by different parsers and names no studio's host.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (name, rest) = match value {
            [b'[', inner @ ..] => {
                let close = inner.iter().position(|&byte| byte == b']')?;
                let literal = std::str::from_utf8(&inner[..close]).ok()?;
                literal.parse::<std::net::Ipv6Addr>().ok()?;
                value.split_at(close + 2)
            }
            _ => {
                let end = value.iter().position(|&byte| byte == b':').unwrap_or(value.len());
                let name = &value[..end];
                let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                let meaningful = name.iter().any(u8::is_ascii_alphanumeric);
                if !meaningful || name.len() > NAME_BYTES_MAX || !name.iter().all(good) {
                    return None;
                }
                value.split_at(end)
            }
        };
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(parse_port(digits)?),
            _ => return None,
        };
        Some(Self { name, port })
    }

    /// Whether both name the same host and port where a missing port means `default_port`.
    pub(super) fn agrees_with(&self, other: &Host<'_>, default_port: u16) -> bool {
        self.name.eq_ignore_ascii_case(other.name)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port = digits.iter().fold(0_u32, |port, digit| port * 10 + u32::from(digit - b'0'));
    u16::try_from(port).ok().filter(|&port| port > 0)
}

/// A DNS name in text form with its final dot (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_with_an_optional_port_are_hosts() {
        for (value, name, port) in [
            ("s3-proxy.mystudio.com", "s3-proxy.mystudio.com", None),
            ("a_b.example.:8443", "a_b.example.", Some(8443)),
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::1]:65535", "[2001:db8::1]", Some(65535)),
            ("h:00443", "h", Some(443)),
        ] {
            let host = Host::parse(value.as_bytes()).unwrap_or_else(|| panic!("{value}"));
            assert_eq!((host.name, host.port), (name.as_bytes(), port), "{value}");
        }
    }

    #[test]
    fn anything_else_is_no_host() {
        for value in [
            "",
            ":",
            ":80",
            "h:",
            "h:0",
            "h:65536",
            "h:000443",
            "h:+1",
            "h:8 0",
            "h:80:80",
            "u@h",
            "u:p@h",
            "h/",
            "h/a",
            "h?a",
            "h#a",
            "a b",
            "a,b",
            "a\tb",
            "h%41",
            "h\\a",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[::1]:",
            "[g::]",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "h\u{e9}",
            "a;b",
            "..",
            "-",
            "*",
            "h\"",
        ] {
            assert_eq!(Host::parse(value.as_bytes()), None, "{value}");
        }
        assert!(Host::parse(&[b'a'; NAME_BYTES_MAX]).is_some());
        assert!(Host::parse(&[b'a'; NAME_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn a_missing_port_is_the_default_port() {
        let agree = |a: &str, b: &str, port| {
            Host::parse(a.as_bytes()).unwrap().agrees_with(&Host::parse(b.as_bytes()).unwrap(), port)
        };
        assert!(
            agree("H", "h", 443) && agree("h:443", "h", 443) && agree("h", "h:443", 443) && agree("h:1", "h:1", 80)
        );
        assert!(!agree("h:443", "h", 80) && !agree("h", "g", 443) && !agree("h:1", "h:2", 80));
    }
}
