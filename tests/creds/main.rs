//! Credentials are got, renewed, doubted and lost, against an STS that does what each test says.
#![expect(clippy::disallowed_methods, reason = "tests measure how long things take")]

mod sts;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filmgate::creds::store::Store;
use filmgate::creds::{Command, CredentialOptions, Pace, Role, Source, State, Status};
use filmgate::server::logging;
use filmgate::sign::credentials::{Credentials, Slot};
use sts::{Reply, SECRET, Sts};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Everything this process has logged, at every level.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Logged {
    static LOG: OnceLock<Logged> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Logged::default();
        let writer = log.clone();
        logging::subscriber("trace".parse().unwrap(), move || writer.clone(), false).try_init().unwrap();
        log
    })
}

fn logged() -> String {
    String::from_utf8_lossy(&log().0.lock().unwrap()).into_owned()
}

/// Lines about one credential.
fn logged_about(name: &str) -> Vec<String> {
    logged().lines().filter(|line| line.contains(&format!("credential=\"{name}\""))).map(str::to_owned).collect()
}

struct Kept {
    store: Store,
    slots: Vec<Arc<Slot>>,
}

impl Kept {
    fn start(options: CredentialOptions) -> Self {
        log();
        let (store, slots) = Store::start(vec![options]).unwrap();
        assert!(store.wait_first(Duration::from_secs(20)));
        Self { store, slots }
    }

    fn slot(&self) -> &Slot {
        &self.slots[0]
    }

    fn current(&self) -> Option<Arc<Credentials>> {
        self.slot().current()
    }

    fn status(&self) -> Status {
        self.store.statuses().now().remove(0)
    }

    /// Waits until it is as wanted.
    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "never {what}: {:?}", self.status());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !thread::panicking() {
            let text = logged();
            let told = text.lines().find(|line| line.contains(SECRET));
            assert!(told.is_none(), "{told:?}");
            let status = format!("{:?}", self.status());
            assert!(!status.contains(SECRET), "{status}");
        }
    }
}

fn printing(key: &str, rest: &str) -> Source {
    let json = format!(
        "{{\"Version\":1,\"AccessKeyId\":\"{key}\",\"SecretAccessKey\":\"{SECRET}base\",\"SessionToken\":\"{SECRET}first\"{rest}}}"
    );
    Source::Process(Command(format!("echo '{json}'")))
}

fn role(name: &str) -> Role {
    Role {
        arn: format!("arn:aws:iam::123456789012:role/{name}"),
        external_id: None,
        session_name: "filmgate".into(),
        duration: Duration::from_secs(3600),
        policy_file: None,
        policy_arns: Vec::new(),
        tags: Vec::new(),
        transitive_tags: Vec::new(),
        source_identity: None,
    }
}

fn options(name: &str, endpoint: Option<String>, roles: Vec<Role>) -> CredentialOptions {
    CredentialOptions {
        name: name.into(),
        source: printing("AKIDBASE", ""),
        region: Some("us-west-2".into()),
        roles,
        sts: filmgate::creds::Sts { endpoint, ca_file: None },
        pace: Pace {
            attempt: Duration::from_secs(10),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_millis(200),
            recheck: Duration::from_secs(60),
            doubt: Duration::from_millis(800),
        },
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn every_parameter_of_a_role_arrives_and_its_credentials_are_there() {
    let sts = Sts::start(Reply::Give(3600));
    let directory = tempfile::tempdir().unwrap();
    let policy_file = directory.path().join("policy.json");
    let policy = "{\"Version\": \"2012-10-17\", \"Statement\": []}";
    std::fs::write(&policy_file, policy).unwrap();
    let full = Role {
        external_id: Some("studio-7f3a".into()),
        session_name: "gate@edge".into(),
        duration: Duration::from_secs(1800),
        policy_file: Some(policy_file),
        policy_arns: vec!["arn:aws:iam::aws:policy/ReadOnlyAccess".into()],
        tags: vec![("project".into(), "feature & more".into()), ("team".into(), "comp".into())],
        transitive_tags: vec!["project".into()],
        source_identity: Some("edge-1".into()),
        ..role("Media")
    };
    let kept = Kept::start(options("full", sts.endpoint(), vec![full]));
    let current = kept.current().unwrap();
    assert_eq!((current.access_key.as_str(), current.generation), ("ASIA0000000000000001", 1));
    assert_eq!(current.token.as_ref().unwrap().as_str(), "SEKRETtoken1");
    let left = current.expires.unwrap() - unix_now();
    assert!((3500..=3600).contains(&left), "{left}");
    let asked = sts.asked();
    assert_eq!(asked.len(), 1);
    for (key, value) in [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", "arn:aws:iam::123456789012:role/Media"),
        ("RoleSessionName", "gate@edge"),
        ("ExternalId", "studio-7f3a"),
        ("DurationSeconds", "1800"),
        ("Policy", policy),
        ("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
        ("Tags.member.1.Key", "project"),
        ("Tags.member.1.Value", "feature & more"),
        ("Tags.member.2.Key", "team"),
        ("Tags.member.2.Value", "comp"),
        ("TransitiveTagKeys.member.1", "project"),
        ("SourceIdentity", "edge-1"),
    ] {
        assert_eq!(asked[0].form.get(key).map(String::as_str), Some(value), "{key} in {:?}", asked[0].form);
    }
    assert_eq!(asked[0].form.len(), 14, "{:?}", asked[0].form);
    assert!(asked[0].authorization.contains("Credential=AKIDBASE/"), "{}", asked[0].authorization);
    assert!(asked[0].authorization.contains("/us-west-2/sts/aws4_request"), "{}", asked[0].authorization);
    assert_eq!(asked[0].token.as_deref(), Some("SEKRETfirst"));
    let lines = logged_about("full");
    assert!(lines.len() == 1 && lines[0].contains("INFO") && lines[0].contains("credentials are there"), "{lines:?}");
    assert_eq!(kept.status().state, State::Valid);
}

#[test]
fn a_role_that_says_little_sends_little() {
    let sts = Sts::start(Reply::Give(3600));
    let kept = Kept::start(options("bare", sts.endpoint(), vec![role("Media")]));
    assert_eq!(kept.slot().generation(), 1);
    let mut keys: Vec<_> = sts.asked()[0].form.keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["Action", "DurationSeconds", "RoleArn", "RoleSessionName", "Version"]);
}

#[test]
fn the_second_role_of_a_chain_is_asked_for_with_the_keys_of_the_first() {
    let sts = Sts::start(Reply::Give(3600));
    let kept = Kept::start(options("chain", sts.endpoint(), vec![role("Hub"), role("Media")]));
    let asked = sts.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].form["RoleArn"].ends_with("/Hub") && asked[1].form["RoleArn"].ends_with("/Media"));
    assert!(asked[1].authorization.contains("Credential=ASIA0000000000000001/"), "{}", asked[1].authorization);
    assert_eq!(asked[1].token.as_deref(), Some("SEKRETtoken1"));
    assert_eq!(kept.current().unwrap().access_key, "ASIA0000000000000002");
}

#[test]
fn credentials_are_renewed_before_they_expire_and_are_never_missing() {
    let sts = Sts::start(Reply::Give(4));
    let kept = Kept::start(options("renewed", sts.endpoint(), vec![role("Media")]));
    let start = Instant::now();
    kept.until("renewed twice", |kept| {
        let current = kept.current().expect("there are always credentials");
        assert!(current.expires.unwrap() >= unix_now());
        current.generation == 3
    });
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(sts.asked().len(), 3);
}

#[test]
fn one_request_is_under_way_at_a_time_however_many_doubt() {
    let sts = Sts::start(Reply::Give(3600));
    let kept = Kept::start(options("single", sts.endpoint(), vec![role("Media")]));
    sts.delay(Duration::from_millis(300));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..1000).for_each(|_| kept.slot().doubt(1)));
        }
    });
    kept.until("renewed", |kept| kept.slot().generation() == 2);
    thread::sleep(Duration::from_millis(300));
    assert_eq!((sts.asked().len(), sts.at_once_max()), (2, 1));
}

#[test]
fn an_outage_is_survived_until_expiry_and_ended_by_the_first_answer() {
    let sts = Sts::start(Reply::Give(4));
    let kept = Kept::start(options("outage", sts.endpoint(), vec![role("Media")]));
    let expires = kept.current().unwrap().expires.unwrap();
    sts.reply(Reply::Broken(500));
    kept.until("failing", |kept| kept.status().state == State::Failing);
    assert_eq!(kept.current().unwrap().generation, 1);
    assert!(kept.status().error.unwrap().contains("500"), "{:?}", kept.status());
    kept.until("missing", |kept| kept.current().is_none());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let late = now.checked_sub(Duration::from_secs(expires)).expect("not before they expire");
    assert!(late < Duration::from_millis(1500), "{late:?}");
    assert_eq!((kept.slot().generation(), kept.status().state, kept.status().expires), (0, State::Missing, None));
    let tried = kept.status().failures;
    kept.until("tried again and again", |kept| kept.status().failures > tried + 1);
    sts.reply(Reply::Give(3600));
    kept.until("back", |kept| kept.slot().generation() == 2);
    kept.until("valid", |kept| kept.status().state == State::Valid);
    assert_eq!(kept.status().error, None);
    let levels: Vec<_> =
        logged_about("outage").iter().map(|line| line.trim_start()[28..33].trim().to_owned()).collect();
    assert_eq!(levels, ["INFO", "WARN", "ERROR", "INFO"], "{:#?}", logged_about("outage"));
}

#[test]
fn an_attempt_that_hangs_does_not_keep_what_has_expired() {
    let sts = Sts::start(Reply::Give(3));
    let kept = Kept::start(options("hangs", sts.endpoint(), vec![role("Media")]));
    let expires = kept.current().unwrap().expires.unwrap();
    sts.delay(Duration::from_secs(6));
    kept.until("missing", |kept| kept.current().is_none());
    assert!(unix_now() - expires <= 2);
    assert_eq!((sts.asked().len(), kept.status().failures), (2, 0));
    kept.until("back, with what was under way", |kept| kept.slot().generation() == 2);
}

#[test]
fn an_sts_that_never_answers_is_given_up() {
    let sts = Sts::start(Reply::Give(3600));
    sts.delay(Duration::from_secs(30));
    let mut options = options("mute", sts.endpoint(), vec![role("Media")]);
    options.pace.attempt = Duration::from_millis(300);
    let kept = Kept::start(options);
    assert_eq!(kept.status().state, State::Missing);
    assert!(kept.status().error.unwrap().contains("no answer within 300ms"));
    sts.delay(Duration::ZERO);
    kept.until("there", |kept| kept.slot().generation() == 1);
}

#[test]
fn what_cannot_be_reached_or_understood_is_told_in_one_line() {
    let sts = Sts::start(Reply::Give(3600));
    let cases = [
        ("a", Reply::Broken(200), "STS does not give the role arn:aws:iam::123456789012:role/Media"),
        ("b", Reply::HangUp, "STS does not give the role arn:aws:iam::123456789012:role/Media"),
        ("c", Reply::Refuse("AccessDenied", "User: x is not authorized"), "AccessDenied: User: x is not authorized"),
        ("d", Reply::Refuse("SignatureDoesNotMatch", "TOKEN is odd\nTOKEN"), "SignatureDoesNotMatch: (...) is odd"),
        ("e", Reply::Give(0), "has expired already"),
    ];
    for (name, reply, text) in cases {
        sts.reply(reply);
        let kept = Kept::start(options(name, sts.endpoint(), vec![role("Media")]));
        let status = kept.status();
        assert_eq!((status.state, status.generation, kept.current().is_none()), (State::Missing, 0, true), "{name}");
        let error = status.error.unwrap();
        assert!(error.contains(text) && !error.contains('\n') && !error.contains(SECRET), "{name}: {error}");
        let lines = logged_about(name);
        assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains(text), "{lines:#?}");
    }
    let nowhere = sts::nowhere();
    assert!(!sts::answers(nowhere));
    let kept = Kept::start(options("f", Some(format!("http://{nowhere}")), vec![role("Media")]));
    let error = kept.status().error.unwrap();
    assert!(error.contains("onnection refused"), "{error}");
}

#[test]
fn a_doubt_renews_once_and_then_it_is_said_that_it_does_not_help() {
    let sts = Sts::start(Reply::Give(3600));
    let mut options = options("doubted", sts.endpoint(), vec![role("Media")]);
    options.pace.doubt = Duration::from_secs(2);
    let kept = Kept::start(options);
    kept.slot().doubt(1);
    kept.until("renewed", |kept| kept.slot().generation() == 2);
    kept.slot().doubt(1);
    kept.slot().doubt(2);
    kept.until("refused", |kept| kept.status().state == State::Refused);
    assert_eq!((sts.asked().len(), kept.slot().generation()), (2, 2));
    kept.until("renewed for another time, but later", |kept| kept.slot().generation() == 3);
    kept.slot().doubt(3);
    // Twice the pause now.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!((sts.asked().len(), kept.slot().generation()), (3, 3));
    assert_eq!((kept.status().state, kept.status().doubts), (State::Refused, 2));
    let lines = logged_about("doubted");
    let told: Vec<_> = lines.iter().filter(|line| line.contains("WARN")).collect();
    assert!(told.len() == 1 && told[0].contains("renewing them did not help"), "{lines:#?}");
}

#[test]
fn doubted_keys_that_have_no_others_behind_them_stay() {
    let kept = Kept::start(options("static", None, Vec::new()));
    let current = kept.current().unwrap();
    assert_eq!((current.access_key.as_str(), current.expires), ("AKIDBASE", None));
    kept.slot().doubt(1);
    kept.until("refused", |kept| kept.status().state == State::Refused);
    assert_eq!((kept.slot().generation(), kept.status().refreshes), (1, 2));
    assert!(logged_about("static").iter().any(|line| line.contains("there are no others to be had")));
}

#[test]
fn a_process_is_run_again_before_what_it_printed_expires() {
    let expires = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(3));
    let mut options = options("process", None, Vec::new());
    options.source = printing("AKIDBASE", &format!(",\"Expiration\":\"{expires}\""));
    let kept = Kept::start(options);
    assert!(kept.current().unwrap().expires.unwrap() - unix_now() <= 3);
    kept.until("asked again", |kept| kept.status().refreshes > 1);
    assert_eq!(kept.slot().generation(), 1, "the same keys are the same generation");
    kept.until("expired", |kept| kept.current().is_none());
}

#[test]
fn a_process_that_fails_is_told_without_what_it_wrote() {
    let cases = [
        ("p1", "echo SEKRETout; echo SEKRETerr >&2; exit 3 # SEKRETargument", "exit status: 3"),
        ("p2", "echo SEKRETout", "no JSON"),
        ("p3", "yes SEKRETout", "more than 64 KiB"),
        ("p4", "/nonexistent/SEKRETprogram", "exit status: 127"),
        ("p5", "kill -9 $$", "signal: 9"),
    ];
    for (name, command, text) in cases {
        let mut options = options(name, None, Vec::new());
        options.source = Source::Process(Command(command.into()));
        assert!(!format!("{options:?}").contains("SEKRET"));
        let kept = Kept::start(options);
        let error = kept.status().error.unwrap();
        assert!(error.contains(text) && !error.contains("SEKRET"), "{name}: {error}");
    }
}

#[test]
fn a_process_that_hangs_is_ended_and_so_is_what_it_has_started() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("pid");
    let mut options = options("hung", None, Vec::new());
    options.source = Source::Process(Command(format!("sleep 60 & echo $! $$ > {}; wait", mark.display())));
    options.pace.attempt = Duration::from_millis(400);
    options.pace.retry_min = Duration::from_secs(60);
    options.pace.retry_max = Duration::from_secs(60);
    let kept = Kept::start(options);
    assert!(kept.status().error.unwrap().contains("no answer within"));
    let pids = std::fs::read_to_string(&mark).unwrap();
    for pid in pids.split_whitespace() {
        kept.until("ended", |_| has_ended(pid));
    }
    assert_eq!(pids.split_whitespace().count(), 2);
}

/// Whether there is no such process, or nothing of it but a status that nobody has asked for: whoever inherits orphans may
/// be in no hurry.
fn has_ended(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_err() || status.is_ok_and(|status| status.contains("State:\tZ"))
}

#[test]
fn sts_over_tls_must_have_a_certificate_of_the_configured_authority() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let sts = Sts::start_with(Reply::Give(3600), Some(Arc::new(tls)));
    let directory = tempfile::tempdir().unwrap();
    let (good, other) = (directory.path().join("good.pem"), directory.path().join("other.pem"));
    std::fs::write(&good, made.cert.pem()).unwrap();
    let another = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    std::fs::write(&other, another.cert.pem()).unwrap();
    for (name, ca_file, is_there) in [("tls-good", good, true), ("tls-other", other, false)] {
        let mut options = options(name, Some(format!("https://{}", sts.address)), vec![role("Media")]);
        options.sts.ca_file = Some(ca_file);
        let kept = Kept::start(options);
        assert_eq!(kept.current().is_some(), is_there, "{name}: {:?}", kept.status());
    }
    assert_eq!(sts.asked().len(), 1);
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("odd");
    std::fs::write(&odd, "not a policy, and no certificate").unwrap();
    let mut no_region = options("one", None, vec![role("Media")]);
    no_region.region = None;
    let mut no_policy = options("two", None, vec![role("Media")]);
    no_policy.roles[0].policy_file = Some(odd.clone());
    let mut no_roots = options("three", None, vec![role("Media")]);
    no_roots.sts.ca_file = Some(odd);
    for (options, text) in [(no_region, "region"), (no_policy, "no JSON"), (no_roots, "odd")] {
        let error = Store::start(vec![options.clone()]).err().unwrap().to_string();
        assert!(error.contains(text) && error.contains(&options.name), "{error}");
    }
}

#[test]
fn several_credentials_do_not_wait_for_each_other() {
    log();
    let (fast, slow) = (Sts::start(Reply::Give(3600)), Sts::start(Reply::Give(3600)));
    slow.delay(Duration::from_secs(5));
    let all = vec![
        options("slow", slow.endpoint(), vec![role("Media")]),
        options("fast", fast.endpoint(), vec![role("Media")]),
    ];
    let (store, slots) = Store::start(all).unwrap();
    assert!(!store.wait_first(Duration::from_secs(2)));
    assert!(slots[0].current().is_none() && slots[1].current().is_some());
    let states: Vec<_> = store.statuses().now().iter().map(|status| (status.name.clone(), status.state)).collect();
    assert_eq!(states, [("slow".to_owned(), State::Awaited), ("fast".to_owned(), State::Valid)]);
    let start = Instant::now();
    drop(store);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Runs one test of this file, which is `run_only_in_an_environment`, in a process with these variables.
fn in_environment(variables: &[(&str, &str)], expected: &str) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "run_only_in_an_environment", "--nocapture"]).env("CREDS_EXPECTED", expected);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        child.env_remove(name);
    }
    let output = child.envs(variables.iter().copied()).env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn run_only_in_an_environment() {
    let Ok(expected) = std::env::var("CREDS_EXPECTED") else { return };
    let mut options = options("environment", None, Vec::new());
    options.source = std::env::var("CREDS_PROFILE").map_or(Source::Chain, Source::Profile);
    let kept = Kept::start(options);
    let status = kept.status();
    let found = kept.current().map_or_else(|| status.error.unwrap(), |current| current.access_key.clone());
    assert!(found.contains(&expected), "{found}");
}

#[test]
fn the_default_chain_and_a_profile_are_found_where_the_sdk_looks() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    let config = directory.path().join("config");
    let text = "[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = SEKRETa\n\
                [studio]\naws_access_key_id = AKIDSTUDIO\naws_secret_access_key = SEKRETb\n";
    std::fs::write(&file, text).unwrap();
    let command = "sh -c 'echo SEKRETerr >&2; exit 4'";
    std::fs::write(&config, format!("[profile broken]\ncredential_process = {command}\n")).unwrap();
    let (file, config) = (file.to_str().unwrap(), config.to_str().unwrap());
    let files = [("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_CONFIG_FILE", config)];
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "SEKRETc")];
    in_environment(&files, "AKIDDEFAULT");
    in_environment(&[files[0], files[1], keys[0], keys[1]], "AKIDENV");
    in_environment(&[files[0], files[1], keys[0], keys[1], ("CREDS_PROFILE", "studio")], "AKIDSTUDIO");
    in_environment(&[files[0], files[1], ("CREDS_PROFILE", "nobody")], "profile \"nobody\" has no credentials");
    in_environment(&[files[0], files[1], ("CREDS_PROFILE", "broken")], "what the command wrote is not shown");
    in_environment(
        &[("AWS_CONFIG_FILE", "/nonexistent"), ("HOME", "/nonexistent")],
        "default chain has no credentials",
    );
}
