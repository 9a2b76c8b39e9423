//! Commands and exit codes of the binary.

use std::path::Path;
use std::process::{Command, Output};

fn filmgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_filmgate")).args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn check(path: &Path) -> Output {
    filmgate(&["check", "--config", path.to_str().unwrap()])
}

const PLAIN: &str = r#"
[listen]
https = []
http = ["127.0.0.1:8080"]
[[route]]
hosts = ["s3-proxy.mystudio.com"]
bucket = "mystudio-media"
region = "us-west-2"
[[route]]
default = true
bucket = "mystudio-old"
region = "eu-west-1"
upstream = { connect = ["http://10.0.0.5:9000"], allow-plaintext = true, host = "keep" }
"#;

#[test]
fn version_and_help_exit_with_0() {
    let version = filmgate(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(out(&version), format!("filmgate {}\n", env!("CARGO_PKG_VERSION")));
    let help = filmgate(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["run", "check", "print-default", "demo"] {
        assert!(out(&help).contains(&format!("\n  {command}")), "{}", out(&help));
    }
    let run = out(&filmgate(&["run", "--help"]));
    assert!(run.contains("/etc/filmgate/filmgate.toml"), "{run}");
}

#[test]
fn a_command_line_that_means_nothing_exits_with_2() {
    let cases: [&[&str]; 6] = [
        &[],
        &["serve"],
        &["check", "--file", "x"],
        &["demo", "--size", "big"],
        &["demo", "--listen", "70000"],
        &["demo", "--tls-kernel", "on"],
    ];
    for arguments in cases {
        let output = filmgate(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(out(&output).is_empty() && !err(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn print_default_prints_the_file_of_the_table_of_keys() {
    let printed = filmgate(&["print-default"]);
    assert_eq!(printed.status.code(), Some(0));
    assert!(err(&printed).is_empty());
    assert_eq!(out(&printed), filmgate::config::keys::default_file());
}

#[test]
fn the_packaged_file_is_what_print_default_prints() {
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/filmgate.toml");
    let packaged = std::fs::read_to_string(packaged).unwrap();
    assert_eq!(packaged, out(&filmgate(&["print-default"])), "filmgate print-default > packaging/filmgate.toml");
}

#[test]
fn check_of_a_good_file_prints_its_routes_and_exits_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.toml");
    std::fs::write(&path, PLAIN).unwrap();
    let output = check(&path);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    // What is said of the machine depends on the machine.
    assert!(err(&output).lines().all(|line| line.contains(": warning: ")), "{}", err(&output));
    let expected = format!(
        "\
{}: ok
  https       none
  http        127.0.0.1:8080
  admin       127.0.0.1:9180
  workers     one per core, pinned
  access log  standard output
routes
  NAMES                  BUCKET          REGION     HOST SIGNED                                UPSTREAM
  s3-proxy.mystudio.com  mystudio-media  us-west-2  mystudio-media.s3.us-west-2.amazonaws.com  \
mystudio-media.s3.us-west-2.amazonaws.com
  (all others)           mystudio-old    eu-west-1  (the client's)                             \
10.0.0.5:9000 (plain http)
",
        path.display()
    );
    assert_eq!(out(&output), expected);
}

#[test]
fn check_of_a_bad_file_prints_every_problem_with_file_and_line_and_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.toml");
    std::fs::write(&path, PLAIN.replace("127.0.0.1:8080", "8080").replace("hosts", "host")).unwrap();
    let output = check(&path);
    assert_eq!(output.status.code(), Some(2));
    assert!(out(&output).is_empty());
    let told = err(&output);
    let file = path.display();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(lines[0].starts_with(&format!("{file}:4: listen.http[0]: \"8080\" is no address")), "{told}");
    assert!(lines[1].starts_with(&format!("{file}:5: route[0].hosts: missing")), "{told}");
    assert_eq!(lines[2], format!("{file}:6: route[0].host: unknown key `host`; did you mean `hosts`?"), "{told}");
}

#[test]
fn a_file_without_routes_is_told_without_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.toml");
    std::fs::write(&path, "[listen]\nhttps = []\nhttp = [\"127.0.0.1:8080\"]\n").unwrap();
    let told = err(&check(&path));
    assert!(told.starts_with(&format!("{}: route: there is no [[route]]", path.display())), "{told}");
}

#[test]
fn a_file_that_is_not_there_or_not_text_exits_with_2_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.toml");
    for command in ["check", "run"] {
        let output = filmgate(&[command, "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains("does not exist; make one with: filmgate print-default"), "{}", err(&output));
    }
    std::fs::write(&path, b"\xff\xfe").unwrap();
    let output = check(&path);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("is not UTF-8 text"), "{}", err(&output));
}

#[test]
fn run_with_a_bad_file_exits_with_2_before_it_does_anything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.toml");
    std::fs::write(&path, "[listen\n").unwrap();
    let output = filmgate(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).starts_with(&format!("{}:1: not TOML: ", path.display())), "{}", err(&output));
}

#[test]
fn a_gate_that_cannot_start_says_why_and_exits_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.toml");
    let upstream = "upstream = { connect = [\"http://127.0.0.1:9\"], allow-plaintext = true }\n";
    let one_route = PLAIN.split("[[route]]\ndefault").next().unwrap().replace("127.0.0.1:8080", &address);
    let text = one_route.replace("[listen]", "[workers]\ncount = 1\n[listen]\nadmin = \"off\"");
    std::fs::write(&path, format!("{text}{upstream}")).unwrap();
    let output = filmgate(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains(&address), "{}", err(&output));
}

#[cfg(not(feature = "demo"))]
#[test]
fn a_build_without_the_demo_says_how_to_get_it_and_exits_with_2() {
    let output = filmgate(&["demo", "--once"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("--features demo"), "{}", err(&output));
}

#[test]
fn check_to_start_refuses_what_a_start_refuses_and_asks_nothing_of_ports() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["s3-proxy.mystudio.com".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    std::fs::write(at("chain.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(at("key.pem"), key.serialize_pem()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("https = [\"127.0.0.1:0\"]\nhttp = [\"{}\"]\nadmin = \"off\"", taken.local_addr().unwrap());
    let tls = format!("[tls]\ncertificate = {:?}\nprivate-key = {:?}", at("chain.pem"), at("key.pem"));
    let text = PLAIN.replace("https = []\nhttp = [\"127.0.0.1:8080\"]", &format!("{listen}\n{tls}"));
    let asked = |text: &str, extra: &[&str]| {
        std::fs::write(at("gate.toml"), text).unwrap();
        let asked = filmgate(&[&["check", "--config", &at("gate.toml")], extra].concat());
        (asked.status.code(), err(&asked))
    };
    let (status, said) = asked(&text, &[]);
    assert!(status == Some(2) && said.contains("expired"), "{said}");
    let (status, said) = asked(&text, &["--to-start"]);
    assert!(status == Some(0) && said.contains("warning: ") && said.contains("expired"), "{said}");
    assert!(!said.contains("cannot listen"), "{said}");
    let reread = filmgate::config::cli::reread(Path::new(&at("gate.toml")));
    let (_, warnings) = reread.expect("a gate that serves with it reads the configuration anew with it as well");
    assert!(warnings.iter().any(|warning| warning.contains("expired")), "{warnings:?}");
    let plain = text.replace("https = [\"127.0.0.1:0\"]", "https = []").replace(&tls, "");
    assert!(asked(&plain, &[]).1.contains("cannot listen"), "what it would have said");
    for broken in [text.replace("key.pem", "gone.pem"), text.replace("region =", "regoin =")] {
        assert_eq!(asked(&broken, &["--to-start"]).0, Some(2));
    }
}
