//! The files that options name: are they there, readable and what they should be?

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Problem, Severity};
use crate::clock;
use crate::creds::{self, CredentialOptions, Source};
use crate::net::runtime;
use crate::server::{AccessLog, Options, clients};
use crate::tls::certificate::Certificate;
use crate::tls::config::{self, Authorities, Identity, ServerOptions, TlsConfigError};

/// Everything wrong with the files of `options`. Keys have no lines here, and a single certificate is called
/// `tls.identity[0]`; whoever has the text can do better.
#[must_use]
pub fn probe(options: &Options) -> Vec<Problem> {
    probe_with(options, Severity::Error)
}

/// As [`probe`], for whoever is to serve by them.
pub(super) fn probe_to_start(options: &Options) -> Vec<Problem> {
    let mut problems = probe_with(options, Severity::Warning);
    if let AccessLog::File(path) = &options.access_log
        && problems.iter().all(|problem| problem.severity == Severity::Warning)
    {
        note(&mut problems, "access-log.file", can_write(path));
    }
    problems
}

/// As [`probe`]; `all_expired` is how bad it is when no certificate is good any more.
fn probe_with(options: &Options, all_expired: Severity) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(tls) = &options.tls {
        for (index, identity) in tls.identities.iter().enumerate() {
            probe_identity(&mut problems, &format!("tls.identity[{index}]"), tls, identity);
        }
        if problems.is_empty() || problems.iter().all(|problem| problem.severity == Severity::Warning) {
            probe_certificates(&mut problems, tls, options, all_expired);
        }
        if let Some(path) = &tls.client_ca {
            let usable = read(path).and_then(|pem| is_certificate(path, &pem));
            let usable = usable.and_then(|()| Authorities::load(path).map(drop).map_err(|error| error.to_string()));
            note(&mut problems, "tls.client-ca-file", usable);
        }
    }
    for (index, upstream) in options.upstreams.iter().enumerate() {
        let route = options.routes.iter().position(|route| route.upstream == index);
        if let (Some(client), Some(route)) = (&upstream.tls, route) {
            let roots = match client.ca_file.as_deref() {
                Some(path) => read(path).and_then(|pem| is_certificate(path, &pem)),
                None => Ok(()),
            };
            let usable = roots.and_then(|()| config::client(client).map(drop).map_err(|error| error.to_string()));
            note(&mut problems, &format!("route[{route}].upstream.tls.ca-file"), usable);
        }
    }
    for (index, credential) in options.credentials.iter().enumerate() {
        probe_credential(&mut problems, &format!("credential[{index}]"), credential);
    }
    for error in clients::keyring(&options.clients).err().into_iter().flatten() {
        note(&mut problems, &format!("client[{}].{}", error.client, error.key), Err(error.message));
    }
    if let AccessLog::File(path) = &options.access_log {
        note(&mut problems, "access-log.file", can_hold_file(path));
    }
    problems
}

fn probe_identity(problems: &mut Vec<Problem>, key: &str, tls: &ServerOptions, identity: &Identity) {
    let (certificate_key, private_key_key) = (format!("{key}.certificate"), format!("{key}.private-key"));
    let certificate = read(&identity.certificate).and_then(|pem| is_certificate(&identity.certificate, &pem));
    let private_key = read(&identity.private_key).and_then(|pem| is_private_key(&identity.private_key, &pem));
    if certificate.is_ok() && private_key.is_ok() {
        let alone = ServerOptions { identities: vec![identity.clone()], client_ca: None, ..tls.clone() };
        if let Err(error) = config::server(&alone) {
            let key = if is_about_key(&error, &identity.private_key) { &private_key_key } else { &certificate_key };
            note(problems, key, Err(error.to_string()));
        }
    }
    note(problems, &certificate_key, certificate);
    note(problems, &private_key_key, private_key);
    if let Some(message) = open_to_all(&identity.private_key) {
        problems.push(Problem { severity: Severity::Warning, key: private_key_key, line: None, message });
    }
}

/// How long certificates are good for, and for whom. One that has expired among others that have not is less bad than
/// nothing else: no client would take it.
fn probe_certificates(problems: &mut Vec<Problem>, tls: &ServerOptions, options: &Options, all_expired: Severity) {
    let now = clock::unix_seconds();
    let files = tls.identities.iter().map(|identity| identity.certificate.as_path());
    let certificates: Vec<_> = files.filter_map(|file| Some((file, Certificate::read(file).ok()?))).collect();
    let troubles: Vec<_> = certificates.iter().map(|(_, certificate)| certificate.trouble(now)).collect();
    let is_hopeless = troubles.iter().all(|trouble| trouble.as_ref().is_some_and(|trouble| trouble.is_expired));
    for (index, ((file, _), trouble)) in certificates.iter().zip(troubles).enumerate() {
        let Some(trouble) = trouble else { continue };
        let severity = if is_hopeless { all_expired } else { Severity::Warning };
        let message = format!("{} {}", file.display(), trouble.text);
        problems.push(Problem { severity, key: format!("tls.identity[{index}].certificate"), line: None, message });
    }
    if options.https.is_empty() {
        return;
    }
    for (index, route) in options.routes.iter().enumerate() {
        let is_missed = |host: &&String| !certificates.iter().any(|(_, certificate)| certificate.covers(host));
        let missed: Vec<_> = route.hosts.iter().filter(is_missed).map(String::as_str).collect();
        if !missed.is_empty() {
            let unless = if options.http.is_empty() { "" } else { " - unless they come through listen.http only" };
            let message = format!(
                "no certificate of [tls] is for {}: HTTPS clients will refuse it{unless}; get one with this name, or add \
                 the pair",
                missed.join(", ")
            );
            let key = format!("route[{index}].hosts");
            problems.push(Problem { severity: Severity::Warning, key, line: None, message });
        }
    }
}

fn probe_credential(problems: &mut Vec<Problem>, key: &str, options: &CredentialOptions) {
    for (index, role) in options.roles.iter().enumerate() {
        if let Some(path) = &role.policy_file {
            note(problems, &format!("{key}.role[{index}].policy-file"), creds::session_policy(path).map(drop));
        }
    }
    if options.sts.ca_file.is_some() {
        note(problems, &format!("{key}.sts.ca-file"), creds::sts_roots(&options.sts));
    }
    let keys = match options.source {
        Source::Chain | Source::Profile(_) => shared_credentials_file().filter(|path| path.exists()),
        Source::Process(_) => None,
    };
    if let Some(message) = keys.and_then(|path| clients::secret_file_problem(&path)) {
        problems.push(Problem { severity: Severity::Warning, key: key.to_string(), line: None, message });
    }
}

/// AWS SDKs and tools reference, "Location of the shared config and credentials files".
fn shared_credentials_file() -> Option<PathBuf> {
    let named = env::var_os("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".aws/credentials")))
}

fn is_about_key(error: &TlsConfigError, private_key: &Path) -> bool {
    match error {
        TlsConfigError::Key(..) | TlsConfigError::NoKey(_) | TlsConfigError::EncryptedKey(_) => true,
        TlsConfigError::Pem(path, _) | TlsConfigError::Unreadable(path, _) => path == private_key,
        _ => false,
    }
}

fn note(problems: &mut Vec<Problem>, key: &str, outcome: Result<(), String>) {
    if let Err(message) = outcome {
        problems.push(Problem { severity: Severity::Error, key: key.to_string(), line: None, message });
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = config::read(path).map_err(|error| match error {
        TlsConfigError::Unreadable(_, error) => because(path, &error),
        error => error.to_string(),
    })?;
    if bytes.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    String::from_utf8(bytes.to_vec())
        .map_err(|_| format!("{} is not PEM text; convert it (openssl x509 or pkey, -inform DER)", path.display()))
}

fn because(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("{path} does not exist"),
        io::ErrorKind::PermissionDenied => format!("{path} may not be read by the user the gate runs as"),
        io::ErrorKind::IsADirectory => format!("{path} is a directory, not a file"),
        io::ErrorKind::FileTooLarge => format!("{path} is larger than 4 MiB; is it the right file?"),
        _ => format!("{path} cannot be read: {error}"),
    }
}

fn is_certificate(path: &Path, pem: &str) -> Result<(), String> {
    if pem.contains("-----BEGIN CERTIFICATE-----") {
        return Ok(());
    }
    let hint = if pem.contains("PRIVATE KEY-----") { "; it is a key: are the two files swapped?" } else { "" };
    Err(format!("{} has no PEM certificate (BEGIN CERTIFICATE){hint}", path.display()))
}

fn is_private_key(path: &Path, pem: &str) -> Result<(), String> {
    let path = path.display();
    if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(format!("{path} has a passphrase, which nobody is there to type; remove it (openssl pkey)"));
    }
    if PRIVATE_KEYS.iter().any(|begin| pem.contains(begin)) {
        return Ok(());
    }
    let hint = if pem.contains("-----BEGIN CERTIFICATE-----") {
        "; it is a certificate: are the two files swapped?"
    } else {
        ""
    };
    Err(format!("{path} has no PEM key (BEGIN PRIVATE KEY){hint}"))
}

/// PKCS #8 (RFC 7468 §10), PKCS #1 and SEC 1 (RFC 5915 §4).
const PRIVATE_KEYS: &[&str] =
    &["-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----"];

fn open_to_all(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let path = path.display();
    (mode & 0o007 != 0).then(|| format!("{path} is open to every user of this machine; run chmod o= {path}"))
}

fn can_hold_file(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err(format!("{} is a directory; write the name of a file in it", path.display()));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent.is_dir() { Ok(()) } else { Err(format!("the directory {} does not exist", parent.display())) }
}

/// Root can write anywhere, and a file that it makes is one that the service cannot write.
fn can_write(path: &Path) -> Result<(), String> {
    if runtime::effective_ids().0 == 0 {
        return Ok(());
    }
    // A pipe may have no reader yet, and opening it would wait for one.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Ok(());
    }
    match fs::OpenOptions::new().append(true).create(true).mode(0o640).open(path) {
        // A full disk passes; what it may not write it will not be able to write later.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotFound
            ) =>
        {
            let path = path.display();
            Err(format!(
                "{path} cannot be written by the user the gate runs as: {error}; the service may write to /var/log/filmgate"
            ))
        }
        _ => Ok(()),
    }
}
