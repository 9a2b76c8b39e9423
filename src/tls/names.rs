//! What the certificate of a client calls it.
//!
//! Whoever verified the certificate trusts the authority to have checked what is in it. Here it is only read, so that no
//! name of one kind can be taken for one of another: a DNS name has no `@`, `:` or `=`, an address no `:`, a URI begins with
//! its scheme, and only a subject's common name begins with `CN=`.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::limits;

/// What only the common name begins with.
const COMMON_NAME: &str = "CN=";

/// The names in `certificate` (DER): `CN=` with the subject's common name if it has exactly one, then DNS names in lower
/// case, URIs and addresses of mail as they are written, in their order. What is not well-formed is left out, and so is what
/// is beyond the bounds.
///
/// None at all when the certificate cannot be read as a whole or is not valid at `now`, in seconds of Unix time.
pub(super) fn read(certificate: &[u8], now: u64) -> Box<[String]> {
    let mut names = Names::default();
    let Ok(([], certificate)) = X509Certificate::from_der(certificate) else { return Box::default() };
    let now = i64::try_from(now).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    if !now.is_some_and(|now| certificate.validity().is_valid_at(now)) {
        return Box::default();
    }
    let mut common = certificate.subject().iter_common_name();
    // Of several it is anyone's guess which one counts.
    if let (Some(name), None) = (common.next(), common.next())
        && let Ok(name) = name.as_str()
        && !name.is_empty()
        && !name.contains(char::is_control)
    {
        names.push(format!("{COMMON_NAME}{name}"));
    }
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match *name {
                GeneralName::DNSName(name) if is_dns_name(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::URI(name) if is_uri(name) => names.push(name.to_owned()),
                GeneralName::RFC822Name(name) if is_address(name) => names.push(name.to_owned()),
                _ => {}
            }
        }
    }
    names.taken.into_boxed_slice()
}

/// Names within bounds.
#[derive(Default)]
struct Names {
    taken: Vec<String>,
    bytes: usize,
}

impl Names {
    fn push(&mut self, name: String) {
        let bytes = self.bytes + name.len();
        if self.taken.len() < limits::TLS_CLIENT_NAMES_MAX && bytes <= limits::TLS_CLIENT_NAMES_BYTES_MAX {
            self.taken.push(name);
            self.bytes = bytes;
        }
    }
}

fn is_dns_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte))
}

/// Begins with a scheme (RFC 3986 §3.1).
fn is_uri(name: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    name.bytes().all(|byte| byte.is_ascii_graphic())
        && name.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// Letters that need no quotes in front of the `@` (RFC 5322 §3.2.3).
fn is_address(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let is_local = |local: &str| !local.is_empty() && local.bytes().all(is_plain);
    let is_common = name.get(..COMMON_NAME.len()).is_some_and(|front| front.eq_ignore_ascii_case(COMMON_NAME));
    !is_common && name.split_once('@').is_some_and(|(local, domain)| is_local(local) && is_dns_name(domain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, date_time_ymd};

    /// 2030-01-01.
    const NOW: u64 = 1_893_456_000;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        (params.not_before, params.not_after) = (date_time_ymd(2029, 1, 1), date_time_ymd(2031, 1, 1));
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn of(sans: Vec<SanType>) -> Vec<String> {
        read(&certificate(|params| params.subject_alt_names = sans), NOW).into_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    fn mail(name: &str) -> SanType {
        SanType::Rfc822Name(name.try_into().unwrap())
    }

    #[test]
    fn every_kind_of_name_is_read_and_addresses_of_machines_are_not() {
        let read = read(
            &certificate(|params| {
                params.distinguished_name.push(DnType::OrganizationName, "Studio");
                params.distinguished_name.push(DnType::CommonName, "Farm 7");
                params.subject_alt_names = vec![
                    dns("Node1.Render.Studio.example"),
                    uri("spiffe://Studio/farm"),
                    SanType::IpAddress([10, 0, 0, 1].into()),
                    mail("Farm@Studio.example"),
                ];
            }),
            NOW,
        );
        let expected = ["CN=Farm 7", "node1.render.studio.example", "spiffe://Studio/farm", "Farm@Studio.example"];
        assert_eq!(*read, expected);
    }

    #[test]
    fn a_name_that_could_be_of_another_kind_is_left_out() {
        for name in ["CN=farm", "a@b", "urn:a", "a b", "", "a=b", "b\u{7f}", "a/b", "a\0b"] {
            assert_eq!(of(vec![dns(name), dns("kept")]), ["kept"], "DNS {name:?}");
        }
        for name in ["CN=farm", "a.b", "1a:b", ":b", "", "a b:c", "a:b c", "a:\0"] {
            assert_eq!(of(vec![uri(name), dns("kept")]), ["kept"], "URI {name:?}");
        }
        for name in
            ["CN=farm", "CN=a@b", "cn=a@b", "a.b", "urn:a@b", "@b", "a@", "a@b@c", "a b@c", "a@urn:b", "\"a\"@b"]
        {
            assert_eq!(of(vec![mail(name), dns("kept")]), ["kept"], "mail {name:?}");
        }
    }

    #[test]
    fn of_two_common_names_neither_counts_and_an_odd_one_is_left_out() {
        let common = |name: DnValue| {
            let read = read(&certificate(|params| params.distinguished_name.push(DnType::CommonName, name)), NOW);
            read.into_vec()
        };
        assert_eq!(common(DnValue::Utf8String("Zoë".into())), ["CN=Zoë"]);
        assert_eq!(common(DnValue::PrintableString("farm".try_into().unwrap())), ["CN=farm"]);
        assert_eq!(common(DnValue::Utf8String("farm\0".into())), [""; 0]);
        assert_eq!(common(DnValue::Utf8String(String::new())), [""; 0]);
        let twice = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "one");
            params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "two");
        });
        assert_eq!(read(&twice, NOW).into_vec(), [""; 0]);
    }

    #[test]
    fn names_are_bounded_in_number_and_bytes_and_what_fits_is_kept() {
        let many = (0..2 * limits::TLS_CLIENT_NAMES_MAX).map(|n| dns(&format!("n{n}"))).collect();
        let read = of(many);
        assert_eq!((read.len(), &*read[0], &*read[63]), (limits::TLS_CLIENT_NAMES_MAX, "n0", "n63"));
        let exact = "n".repeat(limits::TLS_CLIENT_NAMES_BYTES_MAX);
        assert_eq!(of(vec![dns(&exact)]), std::slice::from_ref(&exact));
        assert_eq!(of(vec![dns("a"), dns(&exact), dns("b")]), ["a", "b"]);
        assert_eq!(of(vec![dns(&format!("{exact}n")), dns("b")]), ["b"]);
    }

    #[test]
    fn a_certificate_that_is_not_valid_now_names_nobody() {
        let valid = certificate(|params| params.subject_alt_names = vec![dns("a")]);
        let (from, to) = (1_861_920_000, 1_924_992_000);
        for (now, len) in [(from - 1, 0), (from, 1), (to, 1), (to + 1, 0), (0, 0), (u64::MAX, 0)] {
            assert_eq!(read(&valid, now).len(), len, "{now}");
        }
    }

    #[test]
    fn what_is_no_whole_certificate_names_nobody() {
        let valid = certificate(|params| params.subject_alt_names = vec![dns("a"), uri("b:c"), mail("d@e")]);
        assert_eq!(read(&valid, NOW).len(), 3);
        assert_eq!(read(&[&valid[..], &[0]].concat(), NOW).len(), 0);
        for end in 0..valid.len() {
            assert_eq!(read(&valid[..end], NOW).len(), 0, "{end}");
        }
        // Not to be trusted, and not to be feared either.
        for at in 0..valid.len() {
            for bit in 0..8 {
                let mut changed = valid.clone();
                changed[at] ^= 1 << bit;
                assert!(read(&changed, NOW).len() <= 5);
            }
        }
    }
}
