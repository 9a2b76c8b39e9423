//! Networks of addresses (RFC 4632, RFC 4291 §2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// `10.0.0.0/8`, `fd00::/8`, or one address. Addresses of IPv4 written as IPv6 (`::ffff:10.0.0.1`) are what they are: IPv4.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    length: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNetwork {
    /// The part before the slash is no address.
    Address,
    /// The part behind the slash is no number, or too large a one.
    Length,
    /// The address has bits behind the prefix; the network would be this one.
    HostBits(Network),
}

impl Network {
    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.length)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.length)
            }
            _ => false,
        }
    }

    /// Whether it is all there is of its kind: a guard that lets everybody pass.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.length == 0
    }
}

impl FromStr for Network {
    type Err = NotNetwork;

    fn from_str(text: &str) -> Result<Self, NotNetwork> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| NotNetwork::Address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|length| *length <= bits).ok_or(NotNetwork::Length)?
            }
            Some(_) => return Err(NotNetwork::Length),
        };
        let first = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        let network = match (first, first.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(v4)) if length >= 96 => Self { first: IpAddr::V4(v4), length: length - 96 },
            _ => Self { first, length },
        };
        if first == address { Ok(network) } else { Err(NotNetwork::HostBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_its_network_and_no_other() {
        let table = [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.20.30.40", "10.20.30.40", true),
            ("10.20.30.40", "10.20.30.41", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/31", "10.0.0.1", true),
            ("10.0.0.0/31", "10.0.0.2", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("::/0", "::ffff:10.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("::1", "::1", true),
            ("::1/128", "::2", false),
        ];
        for (network, address, expected) in table {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        let table = [
            ("", NotNetwork::Address),
            ("10.0.0", NotNetwork::Address),
            ("10.0.0.0.0/8", NotNetwork::Address),
            ("render/8", NotNetwork::Address),
            ("10.0.0.0/", NotNetwork::Length),
            ("10.0.0.0/33", NotNetwork::Length),
            ("10.0.0.0/+8", NotNetwork::Length),
            ("10.0.0.0/8/8", NotNetwork::Length),
            ("fd00::/129", NotNetwork::Length),
            ("10.0.0.0/999", NotNetwork::Length),
            ("10.0.0.5/8", NotNetwork::HostBits("10.0.0.0/8".parse().unwrap())),
            ("fd00::1/8", NotNetwork::HostBits("fd00::/8".parse().unwrap())),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Network>(), Err(expected), "{text}");
        }
    }
}
