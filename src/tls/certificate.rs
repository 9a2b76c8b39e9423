//! What the gate's own certificates say of themselves: for whom they are, and for how long. And whether files have changed.

use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::config::{self, TlsConfigError};

/// How long before its end a certificate is complained about, in seconds: three weeks are enough to renew one by hand.
pub const WARNED_BEFORE: i64 = 21 * DAY;

const DAY: i64 = 24 * 60 * 60;

/// A chain as a file holds it.
#[derive(Clone, Debug)]
pub struct Certificate {
    leaf: CertificateDer<'static>,
    from: ASN1Time,
    until: ASN1Time,
    /// When the first of the others ends.
    others_until: Option<ASN1Time>,
}

/// What is the matter with the time a certificate is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Clients refuse it already.
    pub is_expired: bool,
    /// What to say behind the name of the file.
    pub text: String,
}

impl Certificate {
    /// Reads the chain in `file`, PEM, leaf first.
    ///
    /// # Errors
    /// When there is none, or one of its certificates is damaged.
    pub fn read(file: &Path) -> Result<Self, TlsConfigError> {
        Self::of(file, config::certificates_of(file, &config::read(file)?)?)
    }

    /// The one with this chain, leaf first, which was in `file`.
    pub(super) fn of(file: &Path, chain: Vec<CertificateDer<'static>>) -> Result<Self, TlsConfigError> {
        let damaged =
            || TlsConfigError::Certificate(file.to_owned(), Error::InvalidCertificate(CertificateError::BadEncoding));
        let (mut time, mut others_until): (Option<(ASN1Time, ASN1Time)>, Option<ASN1Time>) = (None, None);
        for certificate in &chain {
            let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| damaged())?;
            let validity = certificate.validity();
            let until = validity.not_after;
            if time.is_none() {
                time = Some((validity.not_before, until));
            } else if certificate.subject() != certificate.issuer() {
                // Of a root clients have their own copy, whatever its age.
                others_until = Some(others_until.map_or(until, |others| others.min(until)));
            }
        }
        let (leaf, (from, until)) = chain.into_iter().next().zip(time).ok_or_else(damaged)?;
        Ok(Self { leaf, from, until, others_until })
    }

    /// Whether a client that asks for `host` takes it. What is no name of a host is nobody's concern here.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else { return true };
        ParsedCertificate::try_from(&self.leaf).is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    }

    /// What is the matter at `now`, in seconds of Unix time, with the time that it and the certificates behind it are good
    /// for. One of those that has ended may be one too many, as old cross-signatures are: clients may know another way.
    #[must_use]
    pub fn trouble(&self, now: u64) -> Option<Trouble> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let left = |until: ASN1Time| until.timestamp().saturating_sub(now);
        let (from, until) = (self.from, self.until);
        let first = self.others_until.map_or(until, |others| until.min(others));
        let text = if left(until) < 0 {
            format!("expired on {until}; clients refuse it until it is renewed")
        } else if now < from.timestamp() {
            format!("is not valid before {from}; is the clock of this machine right?")
        } else if left(first) < 0 {
            format!(
                "has one of an authority behind it that expired on {first}; clients that need it refuse both: renew it with \
                 the authority's present chain"
            )
        } else if left(first) < WARNED_BEFORE {
            let days = left(first) / DAY;
            let plural = if days == 1 { "" } else { "s" };
            format!("expires on {first}, in {days} day{plural}; renew it")
        } else {
            return None;
        };
        Some(Trouble { is_expired: left(until) < 0, text })
    }
}

/// The content of files, as far as it takes to see that it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print([u8; 32]);

impl Print {
    /// Of `files`, in this order.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn of<'p>(files: impl IntoIterator<Item = &'p Path>) -> Result<Self, TlsConfigError> {
        let mut context = Context::new(&SHA256);
        for file in files {
            add(&mut context, &config::read(file)?);
        }
        Ok(Self::from(context))
    }

    /// Of what files held that were read, in this order.
    pub(super) fn of_contents<'c>(contents: impl IntoIterator<Item = &'c Zeroizing<Vec<u8>>>) -> Self {
        let mut context = Context::new(&SHA256);
        contents.into_iter().for_each(|content| add(&mut context, content));
        Self::from(context)
    }

    /// Of what is trusted.
    pub(super) fn of_roots(roots: &RootCertStore) -> Self {
        let mut context = Context::new(&SHA256);
        for root in &roots.roots {
            let constraints = root.name_constraints.as_ref().map_or(&[][..], |constraints| constraints.as_ref());
            for part in [root.subject.as_ref(), root.subject_public_key_info.as_ref(), constraints] {
                add(&mut context, part);
            }
        }
        Self::from(context)
    }
}

fn add(context: &mut Context, part: &[u8]) {
    context.update(&(part.len() as u64).to_be_bytes());
    context.update(part);
}

impl From<Context> for Print {
    fn from(context: Context) -> Self {
        let mut print = [0; 32];
        print.copy_from_slice(context.finish().as_ref());
        Self(print)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// 2030-01-01.
    const NOW: u64 = 1_893_456_000;

    fn pem(names: &[&str], until: (i32, u8, u8)) -> String {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(2029, 1, 1);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, names.first().copied().unwrap_or("nobody"));
        let issuer = CertificateParams::new(vec!["issuer.example".to_string()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(issuer, KeyPair::generate().unwrap());
        params.signed_by(&key, &issuer).unwrap().pem()
    }

    fn read(text: &str) -> Result<Certificate, TlsConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("chain.pem");
        std::fs::write(&file, text).unwrap();
        Certificate::read(&file)
    }

    #[test]
    fn the_end_is_announced_three_weeks_ahead_and_said_when_it_has_come() {
        let certificate = read(&pem(&["a.example"], (2030, 3, 1))).unwrap();
        let end = 1_898_553_600;
        let said = |now| certificate.trouble(now).map(|trouble| (trouble.is_expired, trouble.text));
        assert_eq!(said(NOW), None);
        assert_eq!(said(end - 21 * 86_400), None);
        let (is_expired, text) = said(end - 21 * 86_400 + 1).unwrap();
        assert!(!is_expired && text.contains("in 20 days") && text.contains("2030"), "{text}");
        assert!(said(end - 86_400).unwrap().1.contains("in 1 day;"));
        assert!(!said(end).unwrap().0);
        let (is_expired, text) = said(end + 1).unwrap();
        assert!(is_expired && text.contains("expired"), "{text}");
        assert!(said(u64::MAX).unwrap().0);
        let (is_expired, text) = said(1_800_000_000).unwrap();
        assert!(!is_expired && text.contains("clock"), "{text}");
    }

    #[test]
    fn a_chain_ends_with_the_first_of_its_certificates() {
        let (long, short) = (pem(&["a.example"], (2031, 1, 1)), pem(&["b.example"], (2030, 1, 9)));
        assert_eq!(read(&long).unwrap().trouble(NOW), None);
        assert!(read(&format!("{long}{short}")).unwrap().trouble(NOW).is_some());
        // An authority's that has ended is not always needed, and not the end.
        let old = pem(&["b.example"], (2029, 6, 1));
        let trouble = read(&format!("{long}{old}")).unwrap().trouble(NOW).unwrap();
        assert!(!trouble.is_expired && trouble.text.contains("authority"), "{}", trouble.text);
        assert!(read(&format!("{old}{long}")).unwrap().trouble(NOW).unwrap().is_expired);
        assert!(read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn names_are_covered_exactly_or_by_one_label_of_a_wildcard() {
        let certificate = read(&pem(&["a.example", "*.media.example"], (2031, 1, 1))).unwrap();
        for (host, is_covered) in [
            ("a.example", true),
            ("A.Example", true),
            ("b.example", false),
            ("x.media.example", true),
            ("media.example", false),
            ("y.x.media.example", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(certificate.covers(host), is_covered, "{host}");
        }
    }

    #[test]
    fn a_print_tells_contents_and_their_borders_apart() {
        let directory = tempfile::tempdir().unwrap();
        let print = |first: &str, second: &str| {
            let files = [("first", first), ("second", second)].map(|(name, content)| {
                let file = directory.path().join(name);
                std::fs::write(&file, content).unwrap();
                file
            });
            Print::of(files.iter().map(|file| file.as_path())).unwrap()
        };
        assert_eq!(print("ab", "c"), print("ab", "c"));
        assert_ne!(print("ab", "c"), print("a", "bc"));
        assert_ne!(print("ab", "c"), print("ab", "d"));
        let content = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        assert_eq!(print("ab", "c"), Print::of_contents([&content("ab"), &content("c")]));
        assert!(Print::of([directory.path().join("missing").as_path()]).is_err());
    }

    #[test]
    fn what_is_no_file_or_has_no_end_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink("/dev/zero", at("zeroes")).unwrap();
        std::fs::write(at("large"), vec![b'a'; config::PEM_BYTES_MAX as usize + 1]).unwrap();
        std::fs::write(at("largest"), vec![b'a'; config::PEM_BYTES_MAX as usize]).unwrap();
        for (name, said) in [("pipe", "no ordinary file"), ("zeroes", "no ordinary file"), ("large", "4 MiB")] {
            let error = Print::of([at(name).as_path()]).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(name), "{error}");
        }
        assert!(Print::of([at("largest").as_path()]).is_ok());
    }
}
