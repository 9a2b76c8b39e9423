//! The signing test suite of AWS, as it is published with `aws-sigv4`, against the gate's own canonical form: every
//! intermediate value of every case.
//!
//! The suite is not S3's: for other services a path is normalised and encoded twice. Where a case does that, the path is
//! the only thing that may differ, and the test says so.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use filmgate::http::framing;
use filmgate::http::head::RequestHead;
use filmgate::s3::target::Target;
use filmgate::sign::canonical::{Scratch, Signed, write_string_to_sign};
use filmgate::sign::key::{Scope, Secret, SigningKey};

/// Cases whose path S3 reads in another way.
const OTHER_PATHS: &[&str] = &[
    "get-relative-normalized",
    "get-relative-relative-normalized",
    "get-slash-dot-slash-normalized",
    "get-slash-normalized",
    "get-slash-pointless-dot-normalized",
    "get-slashes-normalized",
];

/// Where cargo has put the crate that carries the suite.
fn suite() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
        .arg(manifest)
        .output()
        .expect("cargo metadata runs");
    let metadata: serde_json::Value = serde_json::from_slice(&cargo.stdout).expect("cargo metadata writes JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let package = packages.iter().find(|package| package["name"] == "aws-sigv4").expect("aws-sigv4 is a dependency");
    let manifest = package["manifest_path"].as_str().expect("a package has a manifest");
    Path::new(manifest).parent().expect("a manifest is in a directory").join("aws-signing-test-suite/v4")
}

struct Case {
    directory: PathBuf,
    context: serde_json::Value,
}

impl Case {
    fn read(directory: &Path) -> Self {
        let context = std::fs::read(directory.join("context.json")).expect("a case has a context");
        Self { directory: directory.to_path_buf(), context: serde_json::from_slice(&context).expect("which is JSON") }
    }

    fn name(&self) -> &str {
        self.directory.file_name().and_then(|name| name.to_str()).expect("a case has a name")
    }

    fn text(&self, file: &str) -> String {
        let text = std::fs::read_to_string(self.directory.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        text.replace("\r\n", "\n")
    }

    fn said(&self, key: &str) -> &str {
        self.context[key].as_str().unwrap_or_else(|| panic!("{}: no {key}", self.name()))
    }

    /// The request as it would be sent: what may not stand in a target is encoded, and no field goes over several lines.
    fn wire(&self) -> Vec<u8> {
        let text = self.text("request.txt");
        let (head, _) = text.split_once("\n\n").unwrap_or((text.trim_end_matches('\n'), ""));
        let mut lines: Vec<String> = Vec::new();
        for line in head.lines() {
            match lines.last_mut() {
                Some(before) if line.starts_with(' ') => {
                    let _ = write!(before, " {}", line.trim());
                }
                _ => lines.push(line.to_string()),
            }
        }
        let (method, rest) = lines[0].split_once(' ').expect("a request line has a method");
        let target = rest.strip_suffix(" HTTP/1.1").expect("a request line has a version");
        let mut encoded = String::new();
        for byte in target.bytes() {
            if byte.is_ascii_graphic() {
                encoded.push(char::from(byte));
            } else {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        lines[0] = format!("{method} {encoded} HTTP/1.1");
        // What is added when it is signed.
        lines.retain(|line| !line.to_ascii_lowercase().starts_with("x-amz-date"));
        let date = self.said("timestamp").replace(['-', ':'], "");
        lines.push(format!("X-Amz-Date: {date}"));
        if let Some(token) = self.context["credentials"]["token"].as_str()
            && self.context["omit_session_token"] != serde_json::Value::Bool(true)
        {
            lines.push(format!("X-Amz-Security-Token: {token}"));
        }
        format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
    }
}

/// Compares one case. Returns what is different in its canonical form, line by line.
fn compare(case: &Case) -> Vec<(usize, String, String)> {
    let expected = case.text("header-canonical-request.txt");
    let wire = case.wire();
    let head = RequestHead::parse(&wire).unwrap_or_else(|error| panic!("{}: {error}", case.name()));
    let lines: Vec<&str> = expected.split('\n').collect();
    let (payload, names) = (lines[lines.len() - 1], lines[lines.len() - 2]);
    // A digest in the head is part of what is signed.
    let digest = format!("x-amz-content-sha256:{payload}");
    let mut wire = wire;
    let head = if lines.contains(&digest.as_str()) {
        wire.truncate(wire.len() - 2);
        wire.extend_from_slice(format!("{digest}\r\n\r\n").as_bytes());
        RequestHead::parse(&wire).expect("a digest is a good field")
    } else {
        head
    };
    let mut scratch = Scratch::default();
    let signed = Signed {
        method: head.method(&wire),
        target: Target::parse(framing::origin_target(&head, &wire)),
        fields: &head.fields,
        block: &wire,
        names: names.as_bytes(),
        payload: payload.as_bytes(),
        without: None,
    };
    scratch.write(&signed).unwrap_or_else(|error| panic!("{}: {error:?}", case.name()));
    let found = String::from_utf8(scratch.text().to_vec()).expect("a canonical form is ASCII");
    let found: Vec<&str> = found.split('\n').collect();
    assert_eq!(found.len(), lines.len(), "{}", case.name());
    let pairs = lines.iter().zip(&found).enumerate().filter(|(_, (one, other))| one != other);
    let different: Vec<_> = pairs.map(|(at, (one, other))| (at, one.to_string(), other.to_string())).collect();

    let date = case.said("timestamp").replace(['-', ':'], "");
    let scope = Scope {
        date: &date.as_bytes()[..8],
        region: case.said("region").as_bytes(),
        service: case.said("service").as_bytes(),
    };
    let mut string_to_sign = Vec::new();
    write_string_to_sign(date.as_bytes(), scope, expected.as_bytes(), &mut string_to_sign);
    assert_eq!(String::from_utf8_lossy(&string_to_sign), case.text("header-string-to-sign.txt"), "{}", case.name());
    let secret = case.context["credentials"]["secret_access_key"].as_str().expect("a case has a secret");
    let key = SigningKey::derive(&Secret::new(secret.to_string()), scope);
    let mut signature = Vec::new();
    key.sign(&string_to_sign).write_hex(&mut signature);
    assert_eq!(String::from_utf8_lossy(&signature), case.text("header-signature.txt").trim(), "{}", case.name());
    different
}

#[test]
fn every_intermediate_value_is_that_of_the_suite_but_for_paths_that_s3_reads_differently() {
    let mut seen = 0;
    for entry in std::fs::read_dir(suite()).expect("the suite is there") {
        let directory = entry.expect("a case can be read").path();
        // Two of them, on encoding a path twice, say nothing of key and time.
        if !directory.join("context.json").is_file() {
            continue;
        }
        let case = Case::read(&directory);
        let different = compare(&case);
        seen += 1;
        if OTHER_PATHS.contains(&case.name()) {
            assert!(matches!(different[..], [(1, ..)]), "{}: {different:?}", case.name());
        } else {
            assert!(different.is_empty(), "{}: {different:?}", case.name());
        }
    }
    assert!(seen >= 38, "{seen} cases");
}
