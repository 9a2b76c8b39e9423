//! The configuration file: what it turns into.

use std::time::Duration;

use filmgate::config::{Problem, Severity, check, file, keys};
use filmgate::creds::{Command, Role, Source, Sts};
use filmgate::pipe::Splice;
use filmgate::policy::route::{Mode, UpstreamHost};
use filmgate::proxy::{Limits, Timeouts};
use filmgate::server::{AccessLog, Options};
use filmgate::tls::config::{Kernel, Records, Version};
use proptest::prelude::*;

const TLS: &str = "[tls]\ncertificate = \"c.pem\"\nprivate-key = \"k.pem\"\n";
const ROUTE: &str = "[[route]]\nhosts = [\"a.example\"]\nbucket = \"media\"\nregion = \"us-west-2\"\n";
const NAME: &str = "media.s3.us-west-2.amazonaws.com";

fn load(text: &str) -> (Options, Vec<Problem>) {
    check::load(text).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

/// A good file that begins with `lines`.
fn with_top(lines: &str) -> (Options, Vec<Problem>) {
    load(&format!("{lines}\n{TLS}{ROUTE}"))
}

/// A good file with `routes` for its own.
fn with_routes(routes: &str) -> (Options, Vec<Problem>) {
    load(&format!("{TLS}{routes}\n"))
}

/// A good file with `lines` at the end of its route.
fn with_route_end(lines: &str) -> (Options, Vec<Problem>) {
    load(&format!("{TLS}{ROUTE}{lines}\n"))
}

#[test]
fn warnings_do_not_stop_a_gate() {
    let vpce = "upstream = { endpoint = 'global', connect = ['vpce-1.s3.us-west-2.vpce.amazonaws.com'] }";
    let plain = "upstream = { connect = ['http://x'], allow-plaintext = true, server-name = 'x' }";
    let dotted = "[[route]]\nhosts=['a']\nbucket='my.media'\nregion='us-west-2'";
    let cases = [
        (with_top("[listen]\nadmin = \"0.0.0.0:9180\""), "listen.admin", 2, "open to the network"),
        (with_top("[timeouts]\nupstream-idle = \"60s\""), "timeouts.upstream-idle", 2, "closes idle connections"),
        (with_routes(dotted), "route[0].bucket", 6, "with dots"),
        (with_route_end(plain), "route[0].upstream.connect", 8, "have no effect"),
        (with_route_end(vpce), "route[0].upstream.connect[0]", 8, "does not support the legacy global S3 name"),
    ];
    for ((_, warnings), key, line, fragment) in cases {
        let [warning] = warnings.as_slice() else { panic!("{key}: {warnings:?}") };
        assert_eq!((warning.severity, warning.key.as_str()), (Severity::Warning, key));
        assert_eq!(warning.line, Some(line), "{warning}");
        assert!(warning.message.contains(fragment), "{warning}");
    }
    assert!(with_top("").1.is_empty());
}

#[test]
fn client_names_are_kept_in_one_spelling() {
    let hosts = r#"["S3-Proxy.MyStudio.com", "b.example.", "10.0.0.5", "::1", "[2001:DB8:0::A]", "gate_7"]"#;
    let (options, _) = with_routes(&format!("[[route]]\nhosts = {hosts}\nbucket = 'media'\nregion = 'us-west-2'"));
    let expected = ["s3-proxy.mystudio.com", "b.example", "10.0.0.5", "[::1]", "[2001:db8::a]", "gate_7"];
    assert_eq!(options.routes[0].hosts, expected);
}

/// Region and endpoint of the bucket `media`, and the name that follows from them.
const DERIVED: &[(&str, &str, &str)] = &[
    ("us-west-2", "", NAME),
    ("us-west-2", "regional", NAME),
    ("us-west-2", "global", "media.s3.amazonaws.com"),
    ("us-west-2", "dualstack", "media.s3.dualstack.us-west-2.amazonaws.com"),
    ("ap-southeast-3", "regional", "media.s3.ap-southeast-3.amazonaws.com"),
    ("us-gov-west-1", "regional", "media.s3.us-gov-west-1.amazonaws.com"),
    ("cn-north-1", "regional", "media.s3.cn-north-1.amazonaws.com.cn"),
    ("cn-north-1", "dualstack", "media.s3.dualstack.cn-north-1.amazonaws.com.cn"),
    ("eusc-de-east-1", "regional", "media.s3.eusc-de-east-1.amazonaws.eu"),
];

#[test]
fn connect_server_name_and_host_follow_from_bucket_region_and_endpoint() {
    for (region, endpoint, name) in DERIVED {
        let endpoint = if endpoint.is_empty() { String::new() } else { format!("upstream.endpoint = {endpoint:?}") };
        let route = format!("[[route]]\nhosts = ['a']\nbucket = 'media'\nregion = {region:?}\n{endpoint}");
        let (options, _) = with_routes(&route);
        let upstream = &options.upstreams[options.routes[0].upstream];
        let tls = upstream.tls.as_ref().unwrap();
        assert_eq!(upstream.connect, [(name.to_string(), 443)]);
        assert_eq!(upstream.name, *name);
        assert_eq!(tls.server_name, *name);
        assert_eq!((&tls.ca_file, tls.max_version, tls.records), (&None, Version::Tls13, Records::Own));
        assert_eq!(options.kernel, Kernel::Auto);
        assert_eq!(options.routes[0].host, UpstreamHost::Replace(name.to_string()));
        assert_eq!(options.routes[0].mode, Mode::PassThrough);
        assert_eq!((options.routes[0].bucket.as_str(), options.routes[0].region.as_str()), ("media", *region));
    }
}

#[test]
fn each_of_connect_server_name_and_host_can_be_said_alone() {
    let replaced = |host: &str| UpstreamHost::Replace(host.to_string());
    let vpce = "vpce-0abc.s3.us-west-2.vpce.amazonaws.com";
    let cases = [
        (format!("connect = ['{vpce}']"), vpce, 443, NAME, replaced(NAME)),
        (format!("connect = 'https://{vpce}:8443/'"), vpce, 8443, NAME, replaced(NAME)),
        ("connect = '[2001:DB8::1]:444'".into(), "2001:db8::1", 444, NAME, replaced(NAME)),
        ("connect = '[::1]'".into(), "::1", 443, NAME, replaced(NAME)),
        ("server-name = 'Other.Example'".into(), NAME, 443, "other.example", replaced(NAME)),
        ("server-name = '10.0.0.5'".into(), NAME, 443, "10.0.0.5", replaced(NAME)),
        ("host = 'keep'".into(), NAME, 443, NAME, UpstreamHost::Keep),
        ("host = 'Signed.example:9000'".into(), NAME, 443, NAME, replaced("Signed.example:9000")),
        ("host = '[::1]:9000'".into(), NAME, 443, NAME, replaced("[::1]:9000")),
    ];
    for (line, connect, port, server_name, host) in cases {
        let (options, _) = with_route_end(&format!("upstream.{line}"));
        let upstream = &options.upstreams[0];
        assert_eq!(upstream.connect, [(connect.to_string(), port)], "{line}");
        assert_eq!(upstream.tls.as_ref().unwrap().server_name, server_name, "{line}");
        assert_eq!(options.routes[0].host, host, "{line}");
    }
}

#[test]
fn a_plain_upstream_takes_http_in_front_of_every_entry_and_the_permission() {
    let lines = "[route.upstream]\nallow-plaintext = true\nconnect = ['http://10.0.0.5:9000', 'HTTP://s3.internal']";
    let (options, _) = with_route_end(lines);
    let upstream = &options.upstreams[0];
    assert!(upstream.tls.is_none());
    assert_eq!(upstream.connect, [("10.0.0.5".to_string(), 9000), ("s3.internal".to_string(), 80)]);
    assert_eq!(upstream.name, "10.0.0.5:9000");
}

#[test]
fn upstreams_that_are_the_same_are_shared_and_others_are_not() {
    let route = |host: &str, upstream: &str| {
        format!("[[route]]\nhosts=['{host}']\nbucket='media'\nregion='us-west-2'\nupstream = {{ {upstream} }}\n")
    };
    let text = [
        route("a", ""),
        route("b", "host = 'keep'"),
        route("c", "tls = { max-version = '1.2' }"),
        route("d", "connect = ['x']"),
        route("e", &format!("connect = ['{NAME}:443'], server-name = '{}'", NAME.to_uppercase())),
    ];
    let (options, _) = with_routes(&text.concat());
    let indexes: Vec<_> = options.routes.iter().map(|route| route.upstream).collect();
    assert_eq!(indexes, [0, 0, 1, 2, 0]);
    assert_eq!(options.upstreams.len(), 3);
    assert_eq!(options.upstreams[2].name, format!("{NAME} via x"));
}

const COMPLETE: &str = r#"
[listen]
https = ["0.0.0.0:8443"]
http = ["127.0.0.1:8080", "[::1]:8080"]
admin = "off"
[tls]
min-version = "1.3"
records = "library"
kernel = "off"
[[tls.identity]]
certificate = "a.pem"
private-key = "a.key"
[[tls.identity]]
certificate = "b.pem"
private-key = "b.key"
[workers]
count = 3
pin = false
[timeouts]
client-idle = "30s"
upstream-connect = "250ms"
upstream-idle = "0s"
[limits]
connections = 100
requests-per-connection = 7
spool-bytes = 1048576
buffer-bytes = "64 MB"
upstream-idle = 0
[transfer]
splice = "always"
[access-log]
file = "/var/log/filmgate/access.json"
[[route]]
default = true
bucket = "media"
region = "us-west-2"
[route.upstream]
tls = { ca-file = "roots.pem", max-version = "1.2" }
"#;

#[test]
fn a_complete_file_fills_every_option() {
    let (options, warnings) = load(COMPLETE);
    assert!(warnings.is_empty());
    assert_eq!(options.https, ["0.0.0.0:8443".parse().unwrap()]);
    assert_eq!(options.http, ["127.0.0.1:8080".parse().unwrap(), "[::1]:8080".parse().unwrap()]);
    assert_eq!(options.admin, None);
    let tls = options.tls.unwrap();
    assert_eq!((tls.min_version, tls.records), (Version::Tls13, Records::Library));
    assert_eq!(options.kernel, Kernel::Off);
    assert_eq!(tls.identities.len(), 2);
    assert_eq!(tls.identities[0].certificate.to_str(), Some("a.pem"));
    assert_eq!(tls.identities[1].private_key.to_str(), Some("b.key"));
    assert_eq!((options.workers, options.pin), (Some(3), false));
    assert_eq!(options.splice, Splice::Always);
    let timeouts = Timeouts {
        client_idle: Duration::from_secs(30),
        upstream_connect: Duration::from_millis(250),
        upstream_idle: Duration::ZERO,
        ..Timeouts::default()
    };
    assert_eq!(options.timeouts, timeouts);
    let limits = Limits {
        connections_max: 100,
        connection_requests_max: 7,
        spool_bytes_max: 1 << 20,
        buffer_bytes_max: 64_000_000,
        upstream_idle_max: 0,
    };
    assert_eq!(options.limits, limits);
    assert_eq!(options.access_log, AccessLog::File("/var/log/filmgate/access.json".into()));
    assert!(options.routes[0].default && options.routes[0].hosts.is_empty());
    let upstream = options.upstreams[0].tls.as_ref().unwrap();
    assert_eq!(upstream.ca_file.as_deref(), Some("roots.pem".as_ref()));
    assert_eq!((upstream.max_version, upstream.records), (Version::Tls12, Records::Library));
}

#[test]
fn the_file_of_the_readme_loads() {
    let text = r#"
[listen]
https = ["0.0.0.0:443", "[::]:443"]
http  = []
admin = "127.0.0.1:9180"
[tls]
certificate = "/etc/filmgate/tls/fullchain.pem"
private-key = "/etc/filmgate/tls/key.pem"
min-version = "1.2"
[workers]
count = "auto"
[[route]]
hosts  = ["s3-proxy.mystudio.com"]
bucket = "mystudio-media"
region = "us-west-2"
mode   = "pass-through"
[route.upstream]
connect     = ["vpce-0abc.s3.us-west-2.vpce.amazonaws.com:443"]
server-name = "mystudio-media.s3.us-west-2.amazonaws.com"
host        = "mystudio-media.s3.us-west-2.amazonaws.com"
tls         = { ca-file = "", max-version = "1.3" }
"#;
    let (options, warnings) = load(text);
    assert!(warnings.is_empty());
    assert_eq!(options.upstreams[0].connect, [("vpce-0abc.s3.us-west-2.vpce.amazonaws.com".to_string(), 443)]);
}

#[test]
fn certificates_are_not_needed_without_https() {
    let (options, _) = load(&format!("[listen]\nhttps = []\nhttp = [\"127.0.0.1:80\"]\n{ROUTE}"));
    assert!(options.tls.is_none());
    // S3's side of the choice is there without a certificate.
    let text = "[listen]\nhttps = []\nhttp = [\"127.0.0.1:80\"]\n[tls]\nrecords = \"library\"\n";
    let (options, _) = load(&format!("{text}{ROUTE}"));
    assert_eq!(options.upstreams[0].tls.as_ref().unwrap().records, Records::Library);
}

#[test]
fn an_empty_admin_address_means_the_default_one() {
    let expected = with_top("").0.admin;
    assert_eq!(expected, Some("127.0.0.1:9180".parse().unwrap()));
    assert_eq!(with_top("[listen]\nadmin = \"\"").0.admin, expected);
}

#[test]
fn the_largest_number_of_routes_is_loaded_in_a_moment_and_one_more_is_refused() {
    let route = |i: usize| format!("[[route]]\nhosts=['h{i}.example']\nbucket='bucket-{i}'\nregion='us-west-2'\n");
    let most: String = (0..filmgate::limits::ROUTES_MAX).map(route).collect();
    let (options, _) = with_routes(&most);
    assert_eq!(options.routes.len(), filmgate::limits::ROUTES_MAX);
    assert_eq!(options.upstreams.len(), filmgate::limits::ROUTES_MAX);
    let problems = check::load(&format!("{TLS}{most}{}", route(5000))).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("1025 routes are more than 1024"), "{}", problems[0]);
}

#[test]
fn the_default_file_says_what_the_gate_does_without_it() {
    let (written, warnings) = load(&keys::default_file());
    assert!(warnings.is_empty(), "{warnings:?}");
    let bare = "[tls]\ncertificate = \"/etc/filmgate/tls/fullchain.pem\"\nprivate-key = \"/etc/filmgate/tls/key.pem\"\n\
                [[route]]\nhosts = [\"s3-proxy.mystudio.com\"]\nbucket = \"mystudio-media\"\nregion = \"us-west-2\"\n";
    let (bare, _) = load(bare);
    assert_eq!(format!("{written:#?}"), format!("{bare:#?}"));
    assert_eq!((written.timeouts, written.limits), (Timeouts::default(), Limits::default()));
}

#[test]
fn the_commented_lines_of_the_default_file_say_what_follows_without_them() {
    let text = keys::default_file();
    let derived = ["#connect", "#server-name", "#host"];
    let uncomment = |line: &str| {
        let wanted = derived.iter().any(|key| line.starts_with(key));
        line[usize::from(wanted)..].to_string()
    };
    let uncommented: String = text.lines().map(|line| uncomment(line) + "\n").collect();
    assert_eq!(uncommented.len(), text.len() - derived.len());
    assert_eq!(format!("{:#?}", load(&uncommented).0), format!("{:#?}", load(&text).0));
}

#[test]
fn the_default_file_mentions_every_key_below_its_section() {
    let text = keys::default_file();
    let mut rest = text.as_str();
    for key in keys::KEYS {
        let line = if key.is_section() { key.header() } else { format!("{} = ", key.name()) };
        let found = ["", "#"].into_iter().filter_map(|sign| rest.find(&format!("\n{sign}{line}"))).min();
        rest = &rest[found.unwrap_or_else(|| panic!("{} is not there, or in another order", key.path)) + 1..];
    }
}

#[test]
fn credentials_are_read_with_everything_they_may_have() {
    let text = r#"
[[credential]]
name = "media-role"
process = "/usr/bin/helper --key SEKRET"
region = "us-west-2"
[[credential.role]]
arn = "arn:aws:iam::123456789012:role/Hub"
[[credential.role]]
arn = "arn:aws-cn:iam::123456789012:role/team/Media"
external-id = "studio-7f3a"
session-name = "edge-1"
duration = "15m"
policy-file = "p.json"
policy-arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
tags = { project = "feature film", team = "comp" }
transitive-tags = ["project"]
source-identity = "gate"
[credential.sts]
endpoint = "https://VPCE-1.sts.us-west-2.vpce.amazonaws.com/"
ca-file = "ca.pem"
[[credential]]
name = "plain"
profile = "studio"
[[credential]]
name = "default"
"#;
    let (options, warnings) = load(&format!("{text}{TLS}{ROUTE}"));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(!format!("{options:?}").contains("SEKRET"));
    let [media, plain, default] = options.credentials.as_slice() else { panic!("{:?}", options.credentials) };
    assert_eq!((media.name.as_str(), media.region.as_deref()), ("media-role", Some("us-west-2")));
    assert_eq!(media.source, Source::Process(Command("/usr/bin/helper --key SEKRET".into())));
    assert_eq!(media.sts.endpoint.as_deref(), Some("https://vpce-1.sts.us-west-2.vpce.amazonaws.com"));
    assert_eq!(media.sts.ca_file.as_deref(), Some(std::path::Path::new("ca.pem")));
    let hub = &media.roles[0];
    assert_eq!((hub.session_name.as_str(), hub.duration.as_secs()), ("filmgate", 3600));
    let expected = Role {
        arn: "arn:aws-cn:iam::123456789012:role/team/Media".into(),
        external_id: Some("studio-7f3a".into()),
        session_name: "edge-1".into(),
        duration: Duration::from_secs(900),
        policy_file: Some("p.json".into()),
        policy_arns: vec!["arn:aws:iam::aws:policy/ReadOnlyAccess".into()],
        tags: vec![("project".into(), "feature film".into()), ("team".into(), "comp".into())],
        transitive_tags: vec!["project".into()],
        source_identity: Some("gate".into()),
    };
    assert_eq!(media.roles[1], expected);
    assert_eq!((&plain.source, plain.roles.len()), (&Source::Profile("studio".into()), 0));
    assert_eq!((&default.source, &default.sts), (&Source::Chain, &Sts::default()));
}

#[test]
fn a_plain_sts_on_this_machine_is_accepted_and_a_useless_one_is_warned_of() {
    for (typed, read) in [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost", "http://localhost"),
        ("https://sts.internal:8443", "https://sts.internal:8443"),
    ] {
        let text = format!("[[credential]]\nname = \"a\"\nsts.endpoint = \"{typed}\"\n{TLS}{ROUTE}");
        let (options, warnings) = load(&text);
        assert_eq!(options.credentials[0].sts.endpoint.as_deref(), Some(read));
        assert!(warnings.len() == 1 && warnings[0].message.contains("no role"), "{warnings:?}");
    }
}

/// A file in which `key` holds a date, which no key takes, and the path of that date.
fn with_a_date_at(key: &keys::Key) -> (String, String) {
    let list = key.path.strip_suffix("[]").unwrap_or(key.path);
    let (mut text, mut rest) = (String::new(), list);
    let mut outer = String::new();
    while let Some((section, inner)) = rest.split_once("[].") {
        outer = if outer.is_empty() { section.to_string() } else { format!("{outer}.{section}") };
        text.push_str(&format!("[[{outer}]]\n"));
        rest = inner;
    }
    text.push_str(&format!("{rest} = 1979-05-27\n"));
    (text, list.replace("[]", "[0]"))
}

#[test]
fn every_key_of_the_table_is_read() {
    for key in keys::KEYS {
        let (text, path) = with_a_date_at(key);
        let problems = check::load(&text).unwrap_err();
        let about = problems.iter().filter(|problem| problem.key == path).collect::<Vec<_>>();
        assert_eq!(about.len(), 1, "{}: {problems:#?}", key.path);
        assert!(about[0].message.contains("a date") || about[0].message.contains("brackets"), "{}", about[0]);
    }
}

#[test]
fn values_are_located_by_their_keys() {
    let text = "[tls]\n\nidentity = [\n {certificate = \"c\"},\n {certificate =\n \"d\"}]\n[workers]\npin = true\n";
    let cases = [
        ("tls.identity[0].certificate", Some(4)),
        ("tls.identity[1].certificate", Some(6)),
        ("tls.identity[2].certificate", None),
        ("workers.pin", Some(8)),
        ("workers.pin.x", None),
        ("", None),
    ];
    for (key, line) in cases {
        assert_eq!(file::locate(text, key), line, "{key}");
    }
}

/// Lines that mean something, in any order, with some values swapped.
fn scrambled() -> impl Strategy<Value = String> {
    let default = keys::default_file();
    let mut lines: Vec<String> = default.lines().filter(|line| !line.starts_with("# ")).map(str::to_string).collect();
    lines.extend(lines.clone().iter().filter_map(|line| line.strip_prefix('#').map(str::to_string)));
    let values = vec![
        "1",
        "-1",
        "1.5",
        "\"\"",
        "\"é\"",
        "[]",
        "[[]]",
        "[{}]",
        "{}",
        "true",
        "1979-05-27",
        "\"[\"",
        "\":\"",
        "0x7f",
        "99999999999999999999",
    ];
    let line = (prop::sample::select(lines), prop::option::of(prop::sample::select(values)));
    let line = line.prop_map(|(line, value)| match (line.split_once(" = "), value) {
        (Some((key, _)), Some(value)) => format!("{key} = {value}"),
        _ => line,
    });
    prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

fn has_error(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

proptest! {
    #[test]
    fn any_text_is_loaded_or_refused_with_a_reason(text in any::<String>()) {
        if let Err(problems) = check::load(&text) {
            prop_assert!(has_error(&problems));
        }
    }

    #[test]
    fn any_order_of_known_lines_is_loaded_or_refused_with_a_reason(text in scrambled()) {
        if let Err(problems) = check::load(&text) {
            prop_assert!(has_error(&problems), "{problems:?}");
            let lines = text.lines().count() + 1;
            prop_assert!(problems.iter().all(|problem| problem.line.is_none_or(|line| line <= lines)));
        }
    }

    #[test]
    fn any_string_as_any_value_is_loaded_or_refused_with_a_reason(
        value in any::<String>(),
        key in prop::sample::select(keys::KEYS.iter().collect::<Vec<_>>()),
    ) {
        let quoted = serde_json::to_string(&value).unwrap();
        let text = with_a_date_at(key).0.replace("1979-05-27", &quoted);
        prop_assert!(has_error(&check::load(&text).unwrap_err()), "no file this short is complete");
    }
}
