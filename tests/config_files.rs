//! What is said about the files a configuration names.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use filmgate::config::{Problem, Severity, check, probe};
use filmgate::server::clients;

const ROUTE: &str = "[[route]]\nhosts = [\"a.example\"]\nbucket = \"media\"\nregion = \"us-west-2\"\n";

/// A certificate and its key, as PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["a.example".to_string()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn write(directory: &Path, name: &str, content: &[u8], mode: u32) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_string()
}

fn examined(tls: &str, rest: &str) -> Vec<Problem> {
    match check::examine(&format!("{tls}\n{ROUTE}{rest}")) {
        Ok((_, problems)) | Err(problems) => problems,
    }
}

#[test]
fn good_files_pass() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = pair();
    let certificate = write(directory.path(), "c.pem", certificate.as_bytes(), 0o644);
    let key = write(directory.path(), "k.pem", key.as_bytes(), 0o600);
    let tls = format!("[tls]\ncertificate = {certificate:?}\nprivate-key = {key:?}");
    let log = directory.path().join("access.json");
    let rest = format!("upstream.tls.ca-file = {certificate:?}\n[access-log]\nfile = {log:?}");
    assert_eq!(examined(&tls, &rest), []);
}

#[test]
fn a_bad_file_is_told_with_key_line_and_cause() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (certificate_pem, key_pem) = pair();
    let certificate = write(at, "c.pem", certificate_pem.as_bytes(), 0o644);
    let key = write(at, "k.pem", key_pem.as_bytes(), 0o600);
    let other = write(at, "other.pem", pair().1.as_bytes(), 0o600);
    let cut = write(at, "cut.pem", &certificate_pem.as_bytes()[..200], 0o644);
    let cut_key = write(at, "cut-key.pem", &key_pem.as_bytes()[..100], 0o600);
    let odd_key = write(at, "odd-key.pem", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", 0o600);
    let empty = write(at, "empty", b"", 0o600);
    let binary = write(at, "binary", b"\x30\x82\xff\xfe", 0o600);
    let locked = write(at, "locked", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", 0o600);
    let open = write(at, "open", key_pem.as_bytes(), 0o644);
    let gone = at.join("gone").to_str().unwrap().to_string();
    let folder = at.to_str().unwrap().to_string();
    let cases = [
        (&gone, &key, "tls.certificate", 2, Severity::Error, "does not exist"),
        (&folder, &key, "tls.certificate", 2, Severity::Error, "is a directory"),
        (&empty, &key, "tls.certificate", 2, Severity::Error, "is empty"),
        (&binary, &key, "tls.certificate", 2, Severity::Error, "is not PEM text"),
        (&key, &key, "tls.certificate", 2, Severity::Error, "swapped"),
        (&certificate, &certificate, "tls.private-key", 3, Severity::Error, "swapped"),
        (&certificate, &locked, "tls.private-key", 3, Severity::Error, "has a passphrase"),
        (&certificate, &gone, "tls.private-key", 3, Severity::Error, "does not exist"),
        (&certificate, &other, "tls.certificate", 2, Severity::Error, "does not belong to the key"),
        (&certificate, &cut_key, "tls.private-key", 3, Severity::Error, "PEM"),
        (&certificate, &odd_key, "tls.private-key", 3, Severity::Error, "cannot be used"),
        (&cut, &key, "tls.certificate", 2, Severity::Error, "PEM"),
        (&certificate, &open, "tls.private-key", 3, Severity::Warning, "open to every user"),
    ];
    for (certificate, private_key, key, line, severity, fragment) in cases {
        let problems = examined(&format!("[tls]\ncertificate = {certificate:?}\nprivate-key = {private_key:?}"), "");
        let problem = problems.iter().find(|problem| problem.message.contains(fragment));
        let problem = problem.unwrap_or_else(|| panic!("{fragment}: {problems:?}"));
        assert_eq!((problem.key.as_str(), problem.line), (key, Some(line)), "{fragment}");
        assert_eq!(problem.severity, severity, "{fragment}");
    }
}

#[test]
fn a_bad_file_of_client_authorities_is_told_and_does_not_blame_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (certificate_pem, key_pem) = pair();
    let certificate = write(at, "c.pem", certificate_pem.as_bytes(), 0o644);
    let key = write(at, "k.pem", key_pem.as_bytes(), 0o600);
    let examine = |file: &str| {
        examined(&format!("[tls]\ncertificate = {certificate:?}\nprivate-key = {key:?}\nclient-ca-file = {file:?}"), "")
    };
    assert_eq!(examine(&certificate), []);
    assert_eq!(examine(""), [], "as if it were not there");
    let no_x509 = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (file, fragment) in [
        (&at.join("gone").to_str().unwrap().to_owned(), "does not exist"),
        (&at.to_str().unwrap().to_owned(), "is a directory"),
        (&write(at, "empty", b"", 0o644), "is empty"),
        (&key, "swapped"),
        (&write(at, "text", b"none", 0o644), "has no PEM certificate"),
        (&write(at, "cut.pem", &certificate_pem.as_bytes()[..200], 0o644), "PEM"),
        (&write(at, "odd.pem", no_x509, 0o644), "X.509"),
    ] {
        let problems = examine(file);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problem = &problems[0];
        assert_eq!((&*problem.key, problem.line, problem.severity), ("tls.client-ca-file", Some(4), Severity::Error));
        assert!(problem.message.contains(fragment), "{problem}");
    }
}

#[test]
fn files_of_identities_routes_and_the_log_are_told_by_their_own_keys() {
    let tls = "[[tls.identity]]\ncertificate = \"/gone/c\"\nprivate-key = \"/gone/k\"";
    let rest = "upstream.tls.ca-file = \"/gone/roots\"\n[access-log]\nfile = \"/gone/log\"";
    let told: Vec<_> = examined(tls, rest).into_iter().map(|problem| (problem.key, problem.line.unwrap())).collect();
    let expected = [
        ("tls.identity[0].certificate", 2),
        ("tls.identity[0].private-key", 3),
        ("route[0].upstream.tls.ca-file", 8),
        ("access-log.file", 10),
    ];
    assert_eq!(told, expected.map(|(key, line)| (key.to_string(), line)));
    let (options, _) = check::load(&format!("{tls}\n{ROUTE}{rest}")).unwrap();
    assert_eq!(probe::probe(&options).len(), 4);
}

#[test]
fn files_of_credentials_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (certificate_pem, key_pem) = pair();
    let certificate = write(at, "c.pem", certificate_pem.as_bytes(), 0o644);
    let key = write(at, "k.pem", key_pem.as_bytes(), 0o600);
    let tls = format!("[tls]\ncertificate = {certificate:?}\nprivate-key = {key:?}");
    let policy = write(at, "policy", b"{\"Statement\": []}", 0o644);
    let list = write(at, "list", b"[]", 0o644);
    let text = write(at, "text", b"{", 0o644);
    let long = write(at, "long", format!("{{\"a\": \"{}\"}}", "x".repeat(2048)).as_bytes(), 0o644);
    let gone = at.join("gone").to_str().unwrap().to_string();
    let with = |policy: &str, roots: &str| {
        let role = format!("arn = \"arn:aws:iam::123456789012:role/A\"\npolicy-file = {policy:?}");
        let sts = format!("[credential.sts]\nca-file = {roots:?}");
        // A process, so that nothing is said about the credentials of whoever runs this.
        let source = "name = \"a\"\nprocess = \"true\"\nregion = \"us-west-2\"";
        examined(&tls, &format!("[[credential]]\n{source}\n[[credential.role]]\n{role}\n{sts}"))
    };
    assert_eq!(with(&policy, &certificate), []);
    for (file, fragment) in
        [(&list, "no JSON object"), (&text, "no JSON"), (&long, "STS takes 2048"), (&gone, "cannot be read")]
    {
        let problems = with(file, &certificate);
        assert!(problems.len() == 1 && problems[0].severity == Severity::Error, "{problems:?}");
        assert_eq!((problems[0].key.as_str(), problems[0].line), ("credential[0].role[0].policy-file", Some(14)));
        assert!(problems[0].message.contains(fragment), "{}", problems[0]);
    }
    for file in [&key, &gone] {
        let problems = with(&policy, file);
        assert!(problems.len() == 1 && problems[0].key == "credential[0].sts.ca-file", "{problems:?}");
    }
}

#[test]
fn a_file_with_a_secret_must_be_there_and_closed_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for (name, content, mode, fragment) in [
        ("closed", "secret", 0o600, None),
        ("read-only", "secret", 0o400, None),
        ("group", "secret", 0o660, Some("chmod 640")),
        ("others", "secret", 0o604, Some("chmod 640")),
        ("writable", "secret", 0o620, Some("chmod 640")),
        ("empty", "", 0o600, Some("is empty")),
    ] {
        let file = write(at, name, content.as_bytes(), mode);
        let problem = clients::secret_file_problem(Path::new(&file));
        assert_eq!(problem.is_some(), fragment.is_some(), "{name}: {problem:?}");
        assert!(problem.unwrap_or_default().contains(fragment.unwrap_or_default()), "{name}");
    }
    assert!(clients::secret_file_problem(at).unwrap().contains("no ordinary file"));
    assert!(clients::secret_file_problem(&at.join("gone")).unwrap().contains("does not exist"));
}
