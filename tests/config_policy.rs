//! Clients, rules and routes that sign anew: what a file turns into, what is refused, and what `policy explain` says.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use filmgate::config::{Problem, Severity, check};
use filmgate::policy::route::{Mode, ReSign, Style, UpstreamHost};
use filmgate::server::Options;
use filmgate::server::clients::{self, SecretSource};

const TOP: &str = "[listen]\nhttps = []\nhttp = [\"127.0.0.1:8080\"]\n[[credential]]\nname = \"role\"\n";
const FARM: &str = "[[client]]\nname = \"farm\"\naccess-key = \"AKFARM\"\nsecret-file = \"s\"\n";
const ROUTE: &str =
    "[[route]]\nhosts = [\"s3.test\"]\nregion = \"us-west-2\"\nmode = \"re-sign\"\ncredential = \"role\"\n";
const ALLOW: &str = "[[route.allow]]\nclients = [\"farm\"]\noperations = [\"read\"]\n";

fn load(text: &str) -> Options {
    check::load(text).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}")).0
}

fn errors(text: &str) -> Vec<Problem> {
    let mut problems = check::load(text).err().unwrap_or_default();
    problems.retain(|problem| problem.severity == Severity::Error);
    problems
}

/// A route with `lines` at its end, in an otherwise good file.
fn with_route(lines: &str) -> String {
    format!("{TOP}{FARM}{ROUTE}{lines}")
}

/// A client with `lines`, in an otherwise good file. Its lines begin at 6.
fn with_client(lines: &str) -> String {
    format!("{TOP}[[client]]\n{lines}\n{FARM}{ROUTE}bucket = \"media\"\n{ALLOW}")
}

fn resign(options: &Options) -> &ReSign {
    match &options.routes[0].mode {
        Mode::ReSign(resign) => resign,
        Mode::PassThrough => panic!("it passes through"),
    }
}

fn hosts(resign: &ReSign) -> Vec<&str> {
    resign.buckets.iter().map(|bucket| bucket.host.as_str()).collect()
}

#[test]
fn a_route_that_signs_anew_knows_its_buckets_by_their_hosts() {
    let one = load(&with_route(&format!("bucket = \"media\"\n{ALLOW}")));
    let (signs, name) = (resign(&one), "media.s3.us-west-2.amazonaws.com");
    assert_eq!((hosts(signs), signs.is_endpoint, signs.style), (vec![name], false, Style::Virtual));
    assert_eq!((signs.credential, signs.verify_payload, &signs.service_host), (0, false, &None));
    assert_eq!(one.upstreams[0].connect, [(name.to_string(), 443)]);
    assert_eq!(one.routes[0].host, UpstreamHost::Replace(name.into()));

    let many = "buckets = [\"media\", \"plates\"]\nverify-payload = true\n";
    let two = load(&with_route(&format!("{many}{ALLOW}")));
    let expected = ["media", "plates"].map(|bucket| format!("{bucket}.s3.us-west-2.amazonaws.com"));
    assert_eq!((hosts(resign(&two)), resign(&two).is_endpoint), (expected.iter().map(String::as_str).collect(), true));
    assert_eq!(resign(&two).service_host.as_deref(), Some("s3.us-west-2.amazonaws.com"));
    assert_eq!(two.upstreams[0].connect, [("s3.us-west-2.amazonaws.com".to_string(), 443)]);
    assert_eq!(two.upstreams[0].tls.as_ref().unwrap().server_name, "s3.us-west-2.amazonaws.com");
    assert!(resign(&two).verify_payload);
    assert_eq!(two.routes[0].bucket, "media, plates");

    let path =
        load(&with_route(&format!("{many}{ALLOW}[route.upstream]\nstyle = \"path\"\nhost = \"minio.test:9000\"\n")));
    assert_eq!(hosts(resign(&path)), ["minio.test:9000", "minio.test:9000"]);
    assert_eq!(resign(&path).service_host.as_deref(), Some("minio.test:9000"));

    let pattern = load(&with_route(&format!("{many}{ALLOW}[route.upstream]\nhost = \"{{bucket}}.minio.test\"\n")));
    assert_eq!(hosts(resign(&pattern)), ["media.minio.test", "plates.minio.test"]);
    assert_eq!(resign(&pattern).service_host.as_deref(), Some("minio.test"));
}

#[test]
fn a_client_is_read_with_all_that_is_said_of_it() {
    let lines = "name = \"a\"\naccess-key = \"AKA\"\nsecret-credential = \"x\"\nsession-token-file = \"t\"\n\
                 addresses = [\"10.0.0.0/8\", \"fd00::1\"]\nnot-before = \"2026-01-01T00:00:00Z\"\n\
                 not-after = \"2027-01-01T00:00:00Z\"\n";
    let options = load(&with_client(lines));
    let read = &options.clients[0];
    assert_eq!(read.secret, Some(SecretSource::Credential("x".into())));
    assert_eq!(read.session_token.as_deref(), Some("t".as_ref()));
    assert_eq!(read.client.networks.len(), 2);
    assert_eq!((read.client.not_before, read.client.not_after), (Some(1_767_225_600), Some(1_798_761_600)));
    let (_, problems) = check::load(&with_client(lines)).unwrap();
    assert!(problems[0].to_string().contains("warning: no rule of any route allows this client anything"));
    let tls = "[tls]\ncertificate = \"c\"\nprivate-key = \"k\"\nclient-ca-file = \"a\"\n";
    let named = with_client("name = \"a\"\ncertificate-names = [\"*.render.test\", \"CN=farm\"]");
    let options = load(&format!("{tls}{named}"));
    assert_eq!(options.clients[0].client.certificate_names[0].as_str(), "*.render.test");
    assert_eq!(options.clients[0].client.access_key, None);
}

#[test]
fn bad_clients_are_refused() {
    let keyed = "name = \"a\"\naccess-key = \"AKA\"\nsecret-file = \"s\"\n";
    let open = "name = \"a\"\naddresses = [\"10.0.0.0/8\"]\n";
    let rows: &[(&str, &str, &str, &str)] = &[
        ("access-key = \"AKA\"\nsecret-file = \"s\"", "", "client[0].name", "missing"),
        ("name = \"farm\"\naddresses = \"10.0.0.1\"", "", "client[1].name", "the name of an earlier client"),
        ("name = \"a\"\naccess-key = \"AKFARM\"\nsecret-file = \"s\"", "", "client[1].access-key", "earlier client"),
        ("name = \"a\"", "", "client[0].addresses", "else it is everybody"),
        ("name = \"a\"\naddresses = []", "", "client[0].addresses", ""),
        ("name = \"a\"\naddresses = [\"0.0.0.0/0\"]", "", "client[0].addresses[0]", "lets everybody in"),
        ("name = \"a\"\naccess-key = \"AKA\"", "", "client[0].secret-file", "missing"),
        ("name = \"a\"\naccess-key = \"A K\"\nsecret-file = \"s\"", "", "client[0].access-key", "letters, digits"),
        (keyed, "secret-credential = \"x\"", "client[0].secret-credential", "not both"),
        (open, "secret-file = \"s\"", "client[0].secret-file", "no access-key"),
        (open, "session-token-file = \"s\"", "client[0].session-token-file", "signs nothing"),
        (keyed, "addresses = [\"10.0.0\"]", "client[0].addresses[0]", "is no network"),
        (keyed, "addresses = [\"10.0.0.0/33\"]", "client[0].addresses[0]", "behind the slash"),
        (keyed, "addresses = [\"10.0.0.1/8\"]", "client[0].addresses[0]", "write \"10.0.0.0/8\""),
        (keyed, "certificate-names = [\"*\"]", "client[0].certificate-names[0]", "is no name"),
        (keyed, "certificate-names = [\"CN=x\"]", "client[0].certificate-names", "no tls.client-ca-file"),
        (keyed, "not-before = \"tomorrow\"", "client[0].not-before", "is no moment"),
        (
            keyed,
            "not-before = \"2027-01-01T00:00:00Z\"\nnot-after = \"2026-01-01T00:00:00Z\"",
            "client[0].not-after",
            "not later than not-before",
        ),
    ];
    for (lines, more, key, fragment) in rows {
        let problems = errors(&with_client(&format!("{lines}\n{more}")));
        let told = problems.iter().find(|problem| problem.key == *key || key.replace("[0]", "[1]") == problem.key);
        let told = told.unwrap_or_else(|| panic!("{lines}\n{more}: {problems:#?}"));
        assert!(told.message.contains(fragment), "{told}");
        assert!(told.line.is_some_and(|line| line >= 6), "{told}");
    }
}

#[test]
fn bad_rules_and_routes_are_refused() {
    let one = "bucket = \"media\"\n";
    let allow = |lines: &str| format!("{one}[[route.allow]]\n{lines}\n");
    let rows: &[(String, &str, &str)] = &[
        (one.to_string(), "route[0].allow", "at least one [[route.allow]]"),
        (format!("{one}allow = []\n"), "route[0].allow", "at least one"),
        (allow("operations = [\"read\"]"), "route[0].allow[0].clients", "missing"),
        (allow("clients = []\noperations = [\"read\"]"), "route[0].allow[0].clients", "the list is empty"),
        (allow("clients = [\"farm\"]"), "route[0].allow[0].operations", "missing"),
        (allow("clients = [\"nobody\"]\noperations = [\"read\"]"), "route[0].allow[0].clients[0]", "known: farm"),
        (
            allow("clients = [\"farm\"]\noperations = [\"getobject\"]"),
            "route[0].allow[0].operations[0]",
            "\"GetObject\"",
        ),
        (allow("clients = [\"farm\"]\noperations = [\"Read\"]"), "route[0].allow[0].operations[0]", "\"read\""),
        (allow("clients = [\"farm\"]\noperations = [\"everything\"]"), "route[0].allow[0].operations[0]", "no group"),
        (allow("clients = [\"farm\"]\noperations = [\"*\"]"), "route[0].allow[0].operations[0]", "name the operations"),
        (
            allow("clients = [\"farm\"]\noperations = [\"read\"]\nfeatures = [\"acls\"]"),
            "route[0].allow[0].features[0]",
            "known: copy, acl",
        ),
        (
            allow("clients = [\"farm\"]\noperations = [\"read\"]\nprefixes = [\"/shots\"]"),
            "route[0].allow[0].prefixes[0]",
            "write \"shots\"",
        ),
        (
            allow("clients = [\"farm\"]\noperations = [\"read\"]\nprefixes = [\"shots/*\"]"),
            "route[0].allow[0].prefixes[0]",
            "not a pattern",
        ),
        (
            allow("clients = [\"farm\"]\noperations = [\"read\"]\nprefixes = []"),
            "route[0].allow[0].prefixes",
            "the list is empty",
        ),
        (
            allow("clients = \"farm\"\noperations = [\"read\"]\nfeature = []"),
            "route[0].allow[0].feature",
            "did you mean `features`?",
        ),
        (format!("{one}{ALLOW}[[route.deny]]\nclients = [\"x\"]\n"), "route[0].deny[0].clients[0]", "known: farm"),
        (format!("{one}{ALLOW}[[route.deny]]\nfeatures = []\n"), "route[0].deny[0].features", "the list is empty"),
        (format!("{one}buckets = [\"media\"]\n{ALLOW}"), "route[0].buckets", "not both"),
        (format!("buckets = []\n{ALLOW}"), "route[0].buckets", "the list is empty"),
        (format!("buckets = [\"media\", \"media\"]\n{ALLOW}"), "route[0].buckets[1]", "listed twice"),
        (ALLOW.to_string(), "route[0].bucket", "missing"),
        (format!("{one}{ALLOW}[route.upstream]\nhost = \"keep\"\n"), "route[0].upstream.host", "Host of S3's"),
        (
            format!("buckets = [\"media\", \"plates\"]\n{ALLOW}[route.upstream]\nhost = \"minio.test\"\n"),
            "route[0].upstream.host",
            "cannot share one Host",
        ),
        (
            format!("{one}{ALLOW}[route.upstream]\nstyle = \"path\"\nhost = \"{{bucket}}.minio.test\"\n"),
            "route[0].upstream.host",
            "leave {bucket} out",
        ),
        (format!("{one}{ALLOW}[route.upstream]\nstyle = \"dns\"\n"), "route[0].upstream.style", "is no style"),
    ];
    for (lines, key, fragment) in rows {
        let problems = errors(&with_route(lines));
        let [problem] = problems.as_slice() else { panic!("{lines}\n{problems:#?}") };
        assert_eq!(problem.key, *key, "{problem}");
        assert!(problem.message.contains(fragment) && problem.line.is_some(), "{problem}");
    }
}

#[test]
fn what_only_signing_anew_needs_is_refused_without_it_and_the_other_way_round() {
    let plain = "[[route]]\nhosts = [\"s3.test\"]\nbucket = \"media\"\nregion = \"us-west-2\"\n";
    let good = with_route(&format!("bucket = \"media\"\n{ALLOW}"));
    let rows = [
        (format!("{TOP}{plain}credential = \"role\"\n"), "route[0].credential", "it has no effect"),
        (format!("{TOP}{plain}verify-payload = true\n"), "route[0].verify-payload", "it has no effect"),
        (format!("{TOP}{FARM}{plain}{ALLOW}"), "route[0].allow", "it has no effect"),
        (format!("{TOP}{plain}upstream.style = \"path\"\n"), "route[0].upstream.style", "only with mode"),
        (
            format!("{TOP}{}", plain.replace("bucket = \"media\"", "buckets = [\"media\"]")),
            "route[0].buckets",
            "re-sign",
        ),
        (good.replace("credential = \"role\"\n", ""), "route[0].credential", "missing"),
        (good.replace("credential = \"role\"", "credential = \"rule\""), "route[0].credential", "no [[credential]] is"),
        (good.replace("[\"farm\"]", "[\"*\"]").replace(FARM, ""), "route[0].allow[0].clients[0]", "none has one"),
        (good.replace("mode = \"re-sign\"", "mode = \"resign\""), "route[0].mode", "is no mode"),
        (
            format!("{good}[[route]]\nhosts = [\"media.s3.test\"]\nbucket = \"x-y\"\nregion = \"us-west-2\"\n")
                .replace("\nbucket = \"media\"", "\nbuckets = [\"media\"]"),
            "route[1].hosts[0]",
            "already leads to route[0].buckets",
        ),
    ];
    for (text, key, fragment) in rows {
        let problems = errors(&text);
        assert!(problems.iter().any(|one| one.key == key && one.message.contains(fragment)), "{text}\n{problems:#?}");
    }
    assert!(errors(&good).is_empty());
}

#[test]
fn secrets_are_read_from_files_that_nobody_else_may_read() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_string()
    };
    let text = |secret: &str, token: &str| {
        let farm = FARM.replace("\"s\"", &format!("{secret:?}\nsession-token-file = {token:?}"));
        format!("{TOP}{farm}{ROUTE}bucket = \"media\"\n{ALLOW}")
    };
    let (good, token) = (write("good", "hush/+=\n", 0o600), write("token", "tok", 0o400));
    let keyring = clients::keyring(&load(&text(&good, &token)).clients).unwrap();
    let entry = keyring.find(b"AKFARM").unwrap();
    assert!(entry.has_token(Some(b"tok")) && !entry.has_token(None) && entry.name == "farm");
    assert!(!format!("{keyring:?}").contains("hush"));
    let rows = [
        (write("group", "hush", 0o660), "chmod 640 "),
        (write("world", "hush", 0o604), "chmod 640 "),
        (write("empty", "", 0o600), "is empty"),
        (write("newline", "\n", 0o600), "is empty"),
        (write("words", "a b\n", 0o600), "more than one word"),
        (write("lines", "a\nb\n", 0o600), "more than one word"),
        (write("large", &"a".repeat(5000), 0o600), "larger than 4 KiB"),
        (directory.path().to_str().unwrap().to_string(), "no ordinary file"),
        (format!("{good}.not"), "does not exist"),
    ];
    for (path, fragment) in &rows {
        let errors = clients::keyring(&load(&text(path, &token)).clients).unwrap_err();
        assert!(errors[0].message.contains(fragment) && errors[0].key == "secret-file", "{path}: {errors:?}");
        let problems = check::examine(&text(&good, path)).unwrap_err();
        let told = problems.iter().find(|problem| problem.key == "client[0].session-token-file");
        assert!(told.is_some_and(|told| told.message.contains(fragment) && told.line == Some(10)), "{problems:?}");
    }
    let unset = text(&good, &token).replace(&format!("secret-file = {good:?}"), "secret-credential = \"x\"");
    let error = clients::keyring(&load(&unset).clients).unwrap_err().remove(0);
    assert!(error.to_string().contains("client[0].secret-credential"), "{error}");
}

#[test]
fn explain_says_which_rule_decides_and_exits_accordingly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.toml");
    let rules = "buckets = [\"media\", \"plates\"]\n[[route.allow]]\nclients = [\"farm\"]\n\
        operations = [\"read\", \"write\", \"delete\"]\nprefixes = [\"shots/\"]\nfeatures = [\"copy\", \"bulk-delete\"]\n\
        [[route.allow]]\nclients = [\"desk\"]\noperations = [\"read\"]\n\
        [[route.deny]]\noperations = [\"PutObject\"]\nprefixes = [\"shots/final/\"]\n";
    let desk = "[[client]]\nname = \"desk\"\naddresses = [\"10.20.0.0/16\"]\n";
    std::fs::write(&path, format!("{desk}{}", with_route(rules).replace(TOP, "")).replacen("", TOP, 1)).unwrap();
    let rows: &[(&[&str], i32, &[&str])] = &[
        (&["--client", "farm", "GET", "/media/shots/a"], 0, &["allowed by route[0].allow[0] (line ", "\nallowed\n"]),
        (&["--client", "farm", "GET", "/media/shots/a?acl"], 1, &["GetObjectAcl", "its features lack \"acl\""]),
        (&["--client", "farm", "PUT", "/media/shots/a", "-H", "x-amz-acl: private"], 1, &["lack \"acl\""]),
        (
            &["--client", "farm", "PUT", "/media/shots/final/a", "-H", "x-amz-copy-source: plates/shots/b"],
            1,
            &[
                "GetObject \"shots/b\"",
                "allowed by",
                "CopyObject \"shots/final/a\" with copy",
                "denied by route[0].deny[0]",
            ],
        ),
        (&["--client", "farm", "--route", "plates.s3.test", "GET", "/shots/a"], 0, &["allowed"]),
        (&["--client", "farm", "POST", "/media/?delete", "--key", "shots/a", "--key", "x"], 1, &["other keys"]),
        (&["--client", "farm", "GET", "/other/shots/a"], 1, &["no such bucket"]),
        (&["--client", "farm", "GET", "/media/a?nosuch"], 1, &["nosuch is not understood"]),
        (&["--client", "farm", "GET", "/media/shots/../a"], 1, &["refused"]),
        (&["--client", "desk", "--address", "10.20.1.1", "GET", "/media/a"], 0, &["without signature", "allow[1]"]),
        (&["--client", "desk", "--address", "10.21.1.1", "GET", "/media/a"], 1, &["from this address"]),
        (&["--client", "desk", "GET", "/media/a"], 0, &["say where it is with --address"]),
        (&["--client", "desk", "GET", "/media/a?attributes"], 1, &["client without access-key may not"]),
        (&["--client", "nobody", "GET", "/"], 2, &["no [[client]] is called"]),
        (&["--client", "farm", "GET", "a"], 2, &["neither a path"]),
        (&["--client", "farm", "--route", "x.test", "GET", "/"], 2, &["no route has the name"]),
        (&["--client", "farm", "POST", "/media/?delete"], 2, &["--key"]),
        (&["GET", "/"], 2, &["--client"]),
    ];
    for (arguments, status, fragments) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
        let output = command.args(["policy", "explain", "--config"]).arg(&path).args(*arguments).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(output.status.code(), Some(*status), "{arguments:?}: {told}");
        for fragment in *fragments {
            assert!(told.contains(fragment), "{arguments:?}: {told}");
        }
    }
}

#[test]
fn a_gate_that_signs_anew_is_warned_of_too_little_memory() {
    let good = with_route(&format!("bucket = \"media\"\n{ALLOW}"));
    for (bytes, exchanges) in [("1 MiB", Some("1 exchanges")), ("16 MiB", Some("10 exchanges")), ("32 MiB", None)] {
        let limits = format!("[limits]\nspool-bytes = \"1 MiB\"\nbuffer-bytes = \"{bytes}\"\n");
        let (_, warnings) = check::load(&format!("{good}{limits}")).unwrap();
        let said: Vec<_> = warnings.iter().filter(|problem| problem.key == "limits.buffer-bytes").collect();
        assert_eq!(said.len(), usize::from(exchanges.is_some()), "{warnings:#?}");
        assert!(said.iter().all(|problem| problem.message.contains(exchanges.unwrap())), "{said:#?}");
    }
}
