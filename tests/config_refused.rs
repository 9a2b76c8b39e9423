//! What is said about a configuration file that is wrong.

use filmgate::config::{Problem, Severity, check};

const TLS: &str = "[tls]\ncertificate = \"c.pem\"\nprivate-key = \"k.pem\"\n";
const ROUTE: &str = "[[route]]\nhosts = [\"a.example\"]\nbucket = \"media\"\nregion = \"us-west-2\"\n";

/// Where a snippet stands in an otherwise good file.
#[derive(Clone, Copy, Debug)]
enum At {
    /// From line 1, before `[tls]` and `[[route]]`.
    Top,
    /// From line 1, instead of `[tls]`.
    Tls,
    /// From line 1, instead of `[[route]]`.
    Route,
    /// From line 5, the end of a route.
    RouteEnd,
}
use At::{Route, RouteEnd, Tls, Top};

fn document(at: At, snippet: &str) -> String {
    match at {
        Top => format!("{snippet}\n{TLS}{ROUTE}"),
        Tls => format!("{snippet}\n{ROUTE}"),
        Route => format!("{snippet}\n{TLS}"),
        RouteEnd => format!("{ROUTE}{snippet}\n{TLS}"),
    }
}

fn errors(text: &str) -> Vec<Problem> {
    let mut problems = check::load(text).err().unwrap_or_default();
    problems.retain(|problem| problem.severity == Severity::Error);
    problems
}

/// Snippet, and the one thing that is said about it: key, line (0 for none), part of the message.
type Row = (At, &'static str, &'static str, usize, &'static str);

fn assert_refused(rows: &[Row]) {
    for (at, snippet, key, line, fragment) in rows {
        let text = document(*at, snippet);
        let problems = errors(&text);
        let [problem] = problems.as_slice() else { panic!("{snippet}\ngives {problems:#?}") };
        assert_eq!(problem.key, *key, "{snippet}");
        assert_eq!(problem.line.unwrap_or(0), *line, "{snippet}: {problem}");
        assert!(problem.message.contains(fragment), "{snippet}: {problem} has no {fragment:?}");
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    assert_refused(&[
        (Top, "a = = 1", "", 1, "not TOML"),
        (Top, "\n\n[listen", "", 3, "not TOML"),
        (Top, "[listen]\nhttp = []\nhttp = []", "", 3, "duplicate key"),
    ]);
}

#[test]
fn unknown_keys_are_refused_with_the_closest_known_one() {
    assert_refused(&[
        (Top, "[listn]\nhttps = []", "listn", 1, "unknown key `listn`; did you mean `listen`?"),
        (Top, "[listen]\nhttp = []\nhtps = []", "listen.htps", 3, "did you mean `https`?"),
        (Top, "[timeouts]\nclient_idle = \"1s\"", "timeouts.client_idle", 2, "did you mean `client-idle`?"),
        (Top, "[limits]\nConnections = 1", "limits.Connections", 2, "did you mean `connections`?"),
        (Top, "bucket = \"media\"", "bucket", 1, "it belongs in [[route]]"),
        (Top, "[workers]\nserver-name = \"x\"", "workers.server-name", 2, "it belongs in [route.upstream]"),
        (Top, "[workers]\ncolour = 1", "workers.colour", 2, "known here: count, pin"),
        (Top, "\"odd\\nkey\" = 1", "odd\\nkey", 1, "unknown key `odd\\nkey`"),
        (RouteEnd, "upstream.tls.cafile = \"\"", "route[0].upstream.tls.cafile", 5, "did you mean `ca-file`?"),
        (RouteEnd, "[route.upstream]\nconect = []", "route[0].upstream.conect", 6, "did you mean `connect`?"),
    ]);
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    assert_refused(&[
        (Top, "listen = 5", "listen", 1, "expected a table [listen], found a number"),
        (Top, "[[limits]]\nconnections = 1", "limits", 1, "write [limits] in single brackets"),
        (Top, "[listen]\nhttps = 443", "listen.https", 2, "expected a list of strings, found a number"),
        (Top, "[listen]\nhttp = [\"0.0.0.0:80\",\n 81]", "listen.http[1]", 3, "expected a string in quotes"),
        (Top, "[workers]\npin = \"yes\"", "workers.pin", 2, "expected true or false without quotes"),
        (Route, "[route]\nbucket = \"media\"", "route", 1, "write [[route]] in double brackets"),
        (Route, "route = [ 1 ]", "route[0]", 1, "expected a table, found a number"),
        (Route, "", "route", 0, "there is no [[route]]"),
        (Route, "route = []", "route", 1, "there is no [[route]]"),
    ]);
}

#[test]
fn bad_listeners_are_refused() {
    assert_refused(&[
        (Top, "[listen]\nhttps = [\":443\"]", "listen.https[0]", 2, "write the address too, such as \"0.0.0.0:443\""),
        (Top, "[listen]\nhttps = [\"10.0.0.5\"]", "listen.https[0]", 2, "write the port too, such as \"10.0.0.5:443\""),
        (Top, "[listen]\nhttps = [\"localhost:443\"]", "listen.https[0]", 2, "names are not looked up here"),
        (Top, "[listen]\nhttps = [\"::1\"]", "listen.https[0]", 2, "an IPv6 address needs brackets"),
        (Top, "[listen]\nhttps = [\"10.0.0.5:70000\"]", "listen.https[0]", 2, "a port between 1 and 65535"),
        (Top, "[listen]\nhttps = []", "listen.https", 2, "nothing listens"),
        (
            Top,
            "[listen]\nhttps = [\"0.0.0.0:443\"]\nhttp = [\"0.0.0.0:443\"]",
            "listen.http[0]",
            3,
            "0.0.0.0:443 is already used by listen.https[0]",
        ),
        (Top, "[listen]\nadmin = \"on\"", "listen.admin", 2, "no address with a port"),
        (Top, "[listen]\nadmin = \"[::]:443\"", "listen.admin", 2, "already used by listen.https"),
    ]);
}

#[test]
fn bad_certificate_settings_are_refused() {
    const PAIR: &str = "[tls]\ncertificate = \"c\"\nprivate-key = \"k\"\n";
    assert_refused(&[
        (Tls, "", "tls.certificate", 0, "no [tls]; HTTPS listeners need certificate and private-key"),
        (Tls, "[tls]\ncertificate = \"c\"", "tls.private-key", 1, "missing; write for example `private-key ="),
        (Tls, "[tls]\nprivate-key = \"c\"", "tls.certificate", 1, "missing"),
        (Tls, "[tls]\ncertificate = \"\"\nprivate-key = \"k\"", "tls.certificate", 2, "missing"),
        (Tls, "[tls]\nidentity = []", "tls.identity", 2, "the list is empty"),
        (Tls, "[[tls.identity]]\ncertificate = \"c\"", "tls.identity[0].private-key", 1, "missing"),
        (
            Tls,
            "[tls]\nprivate-key = \"k\"\n[[tls.identity]]\ncertificate = \"c\"\nprivate-key = \"k\"",
            "tls.private-key",
            2,
            "not both",
        ),
    ]);
    let versions = [
        ("1.2", "needs quotes: \"1.2\""),
        ("\"1.1\"", "is broken"),
        ("\"TLS1.2\"", "is no TLS version"),
        ("12", "found"),
    ];
    for (version, fragment) in versions {
        let problems = errors(&format!("{PAIR}min-version = {version}\n{ROUTE}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].key.as_str(), problems[0].line), ("tls.min-version", Some(4)));
        assert!(problems[0].message.contains(fragment), "{}", problems[0]);
    }
    for (kernel, fragment) in [("\"on\"", "write \"auto\" or \"off\""), ("true", "found")] {
        let problems = errors(&format!("{PAIR}kernel = {kernel}\n{ROUTE}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].key.as_str(), problems[0].line), ("tls.kernel", Some(4)));
        assert!(problems[0].message.contains(fragment), "{}", problems[0]);
    }
    for (records, fragment) in [("\"kernel\"", "write \"own\" or \"library\""), ("true", "found")] {
        let problems = errors(&format!("{PAIR}records = {records}\n{ROUTE}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].key.as_str(), problems[0].line), ("tls.records", Some(4)));
        assert!(problems[0].message.contains(fragment), "{}", problems[0]);
    }
}

#[test]
fn bad_numbers_times_and_bytes_are_refused() {
    assert_refused(&[
        (Top, "[workers]\ncount = \"two\"", "workers.count", 2, "expected \"auto\" or a number"),
        (Top, "[workers]\ncount = 0", "workers.count", 2, "0 is outside 1 to 1024"),
        (Top, "[workers]\ncount = -1", "workers.count", 2, "-1 is not a number that fits here"),
        (Top, "[timeouts]\nclient-idle = 65", "timeouts.client-idle", 2, "a time needs a unit and quotes: \"65s\""),
        (Top, "[timeouts]\nclient-idle = \"soon\"", "timeouts.client-idle", 2, "is no time"),
        (Top, "[timeouts]\nclient-idle = \"0s\"", "timeouts.client-idle", 2, "0 would end every transfer at once"),
        (Top, "[timeouts]\nclient-idle = \"10us\"", "timeouts.client-idle", 2, "shorter than 1ms"),
        (Top, "[timeouts]\nclient-idle = \"2 days\"", "timeouts.client-idle", 2, "longer than 24h"),
        (Top, "[limits]\nspool-bytes = \"8 pots\"", "limits.spool-bytes", 2, "is no number of bytes"),
        (Top, "[limits]\nspool-bytes = \"MiB\"", "limits.spool-bytes", 2, "is no number of bytes"),
        (Top, "[limits]\nspool-bytes = \"2 GiB\"", "limits.spool-bytes", 2, "2 GiB is outside 0 B to 1 GiB"),
        (Top, "[limits]\nspool-bytes = \"99999999999 TiB\"", "limits.spool-bytes", 2, "more bytes than there are"),
        (
            Top,
            "[limits]\nspool-bytes = \"512 MiB\"\nbuffer-bytes = \"511 MiB\"",
            "limits.spool-bytes",
            2,
            "more than buffer-bytes",
        ),
        (Top, "[limits]\nspool-bytes = 1.5", "limits.spool-bytes", 2, "found a number with a point"),
        (Top, "[limits]\nbuffer-bytes = 4096", "limits.buffer-bytes", 2, "4 KiB is outside"),
        (Top, "[limits]\nconnections = \"many\"", "limits.connections", 2, "expected a number without quotes"),
        (Top, "[limits]\nconnections = 0", "limits.connections", 2, "0 is outside 1 to"),
        (Top, "[access-log]\nfile = \"\"", "access-log.file", 2, "empty"),
        (Top, "[access-log]\nfile = \"stdout\"", "access-log.file", 2, "write \"-\""),
    ]);
}

#[test]
fn bad_routes_are_refused() {
    assert_refused(&[
        (Route, "[[route]]\nhosts=[\"a\"]\nregion=\"us-west-2\"", "route[0].bucket", 1, "missing; write for example"),
        (Route, "[[route]]\nhosts=[\"a\"]\nbucket=\"media\"", "route[0].region", 1, "missing"),
        (Route, "[[route]]\nbucket=\"media\"\nregion=\"us-west-2\"", "route[0].hosts", 1, "missing"),
        (Route, "[[route]]\nbucket=\"abc\"\nregion=\"us-west-2\"\nhosts=[]", "route[0].hosts", 4, "no name leads here"),
        (RouteEnd, "mode = \"resign\"", "route[0].mode", 5, "is no mode"),
        (
            RouteEnd,
            "[[route]]\nhosts = [\"b.example\",\n\"A.example.\"]\nbucket=\"media\"\nregion=\"us-west-2\"",
            "route[1].hosts[1]",
            7,
            "\"a.example\" already leads to route[0].hosts[0]",
        ),
        (
            RouteEnd,
            "default = true\n[[route]]\ndefault = true\nbucket=\"media\"\nregion=\"us-west-2\"",
            "route[1].default",
            7,
            "route[0].default is already true",
        ),
    ]);
}

#[test]
fn bad_upstreams_are_refused() {
    assert_refused(&[
        (RouteEnd, "upstream.connect = []", "route[0].upstream.connect", 5, "nowhere to connect to"),
        (RouteEnd, "upstream.connect = [\"x\", \"X:443\"]", "route[0].upstream.connect[1]", 5, "listed twice"),
        (RouteEnd, "upstream.connect = \"ftp://x\"", "route[0].upstream.connect", 5, "only https:// and http://"),
        (RouteEnd, "upstream.connect = \"x/path\"", "route[0].upstream.connect", 5, "without a path"),
        (RouteEnd, "upstream.connect = \"me@x\"", "route[0].upstream.connect", 5, "without a path or user"),
        (RouteEnd, "upstream.connect = \"x:0\"", "route[0].upstream.connect", 5, "\"0\" is no port"),
        (RouteEnd, "upstream.connect = \"x:+1\"", "route[0].upstream.connect", 5, "\"+1\" is no port"),
        (RouteEnd, "upstream.connect = \"x:\"", "route[0].upstream.connect", 5, "\"\" is no port"),
        (RouteEnd, "upstream.connect = \"::1:443\"", "route[0].upstream.connect", 5, "needs brackets"),
        (RouteEnd, "upstream.connect = \"[::1\"", "route[0].upstream.connect", 5, "the bracket is not closed"),
        (RouteEnd, "upstream.connect = \"[::1]443\"", "route[0].upstream.connect", 5, "only :PORT may follow"),
        (RouteEnd, "upstream.connect = \"10.0.0.300:443\"", "route[0].upstream.connect", 5, "four numbers up to 255"),
        (RouteEnd, "upstream.server-name = \"https://x\"", "route[0].upstream.server-name", 5, "without https://"),
        (RouteEnd, "upstream.server-name = \"x:443\"", "route[0].upstream.server-name", 5, "no port"),
        (RouteEnd, "upstream.server-name = \"\"", "route[0].upstream.server-name", 5, "it is empty"),
        (RouteEnd, "upstream.host = \"https://x\"", "route[0].upstream.host", 5, "a name and a port only"),
        (RouteEnd, "upstream.host = \"x y\"", "route[0].upstream.host", 5, "only letters, digits"),
        (RouteEnd, "upstream.host = \"x\\r\\ny\"", "route[0].upstream.host", 5, "only letters, digits"),
        (Top, "[transfer]\nsplice = \"forced\"", "transfer.splice", 2, "write \"auto\", \"always\" or \"off\""),
        (Top, "[transfer]\nsplice = true", "transfer.splice", 2, "expected a string"),
        (RouteEnd, "upstream.endpoint = \"fast\"", "route[0].upstream.endpoint", 5, "write \"regional\", \"global\""),
        (RouteEnd, "upstream.tls.max-version = \"1.4\"", "route[0].upstream.tls.max-version", 5, "is no TLS version"),
        (RouteEnd, "upstream.tls = \"1.2\"", "route[0].upstream.tls", 5, "expected a table"),
        (
            Route,
            "[[route]]\nhosts=[\"a\"]\nbucket=\"media\"\nregion=\"cn-north-1\"\nupstream.endpoint = \"global\"",
            "route[0].upstream.endpoint",
            5,
            "cn-north-1 has no global S3 name",
        ),
    ]);
}

#[test]
fn a_plain_upstream_is_never_by_accident() {
    assert_refused(&[
        (
            RouteEnd,
            "upstream.connect = [\"http://10.0.0.5:9000\"]",
            "route[0].upstream.connect[0]",
            5,
            "http:// carries media and signed links readable by the network",
        ),
        (
            RouteEnd,
            "[route.upstream]\nallow-plaintext = false\nconnect = \"HTTP://10.0.0.5\"",
            "route[0].upstream.connect",
            7,
            "allow-plaintext = true",
        ),
        (
            RouteEnd,
            "[route.upstream]\nallow-plaintext = true\nconnect = [\"http://10.0.0.5\", \"10.0.0.6\"]",
            "route[0].upstream.connect[1]",
            7,
            "this entry is TLS while another is http://",
        ),
        (
            RouteEnd,
            "[route.upstream]\nconnect = [\"https://10.0.0.6\", \"http://10.0.0.5\"]",
            "route[0].upstream.connect[0]",
            6,
            "this entry is TLS while another is http://",
        ),
        (
            RouteEnd,
            "[route.upstream]\nallow-plaintext = true\nconnect = [\"10.0.0.5:80\"]",
            "route[0].upstream.allow-plaintext",
            6,
            "nothing in connect begins with http://",
        ),
        (RouteEnd, "upstream.allow-plaintext = true", "route[0].upstream.allow-plaintext", 5, "nothing in connect"),
    ]);
}

#[test]
fn bad_client_names_are_refused() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = ["a".repeat(60).as_str(); 5].join(".");
    let cases = [
        ("*.example", "wildcards are not supported"),
        ("https://a", "without https://"),
        ("a/b", "without a path"),
        ("a:443", "without a port"),
        ("[::1]:443", "without a port"),
        ("", "it is empty"),
        (".", "it is empty"),
        ("a..b", "1 to 63 characters"),
        ("-a", "a hyphen may not stand"),
        ("a-.b", "a hyphen may not stand"),
        ("a b", "only letters"),
        ("é.example", "xn-- form"),
        ("1.2.3", "an IPv4 address is four numbers"),
        ("a@b", "only letters"),
        (&long_label, "1 to 63 characters"),
        (&long_name, "longer than 253"),
    ];
    for (name, fragment) in cases {
        let route = format!("[[route]]\nbucket=\"media\"\nregion=\"us-west-2\"\nhosts=['ok.example', {name:?}]");
        let problems = errors(&document(Route, &route));
        let [problem] = problems.as_slice() else { panic!("{name} gives {problems:#?}") };
        assert_eq!((problem.key.as_str(), problem.line), ("route[0].hosts[1]", Some(4)));
        assert!(problem.message.contains(fragment), "{problem}");
    }
}

#[test]
fn bad_bucket_names_and_regions_are_refused() {
    let long = "a".repeat(64);
    let buckets = ["ab", &long, "Media", "a_b", "-ab", "ab-", ".ab", "a..b", "10.0.0.5", "xn--media", "s3://media", ""];
    for bucket in buckets {
        let route = format!("[[route]]\nhosts=['a']\nregion=\"us-west-2\"\nbucket = {bucket:?}");
        let problems = errors(&document(Route, &route));
        assert_eq!(problems.len(), 1, "{bucket}: {problems:?}");
        assert_eq!((problems[0].key.as_str(), problems[0].line), ("route[0].bucket", Some(4)));
        assert!(problems[0].message.contains("is no S3 bucket name"), "{}", problems[0]);
    }
    let regions =
        ["", "us", "us-west", "us-west-", "US-WEST-2", "us-west-2a", "us-west-2-x", "us_west_2", "-us-west-2"];
    for region in regions {
        let route = format!("[[route]]\nhosts=['a']\nbucket=\"media\"\nregion = {region:?}");
        let problems = errors(&document(Route, &route));
        assert_eq!(problems.len(), 1, "{region}: {problems:?}");
        assert_eq!((problems[0].key.as_str(), problems[0].line), ("route[0].region", Some(4)));
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "\
[listen]
https = [\"localhost:443\", \":443\"]
htp = []
[tls]
certificate = \"c\"
[workers]
count = 0
[timeouts]
client-idle = 65
drain = \"soon\"
[[route]]
hosts = [\"a.example\", \"*.b\"]
bucket = \"Media\"
mode = \"resign\"
[route.upstream]
connect = [\"x:0\", \"y\"]
host = \"a b\"
[[route]]
hosts = [\"a.example\"]
bucket = \"media\"
region = \"us-west-2\"
[route.upstream]
tls = { max-version = 1.3 }
";
    let told: Vec<_> = errors(text).into_iter().map(|problem| (problem.line.unwrap_or(0), problem.key)).collect();
    let expected = [
        (2, "listen.https[0]"),
        (2, "listen.https[1]"),
        (3, "listen.htp"),
        (4, "tls.private-key"),
        (7, "workers.count"),
        (9, "timeouts.client-idle"),
        (10, "timeouts.drain"),
        (11, "route[0].region"),
        (12, "route[0].hosts[1]"),
        (13, "route[0].bucket"),
        (14, "route[0].mode"),
        (16, "route[0].upstream.connect[0]"),
        (17, "route[0].upstream.host"),
        (23, "route[1].upstream.tls.max-version"),
    ];
    assert_eq!(told, expected.map(|(line, key)| (line, key.to_string())));
}

const CREDENTIAL: &str = "[[credential]]\nname = \"media\"\n";
const ROLE: &str = "region = \"us-west-2\"\n[[credential.role]]\narn = \"arn:aws:iam::123456789012:role/Media\"\n";

/// Lines after `[[credential]]` with a name, and after a role of it; the one thing that is said, at which line.
fn assert_credentials_refused(is_role: bool, rows: &[(&str, &str, usize, &str)]) {
    for (snippet, key, line, fragment) in rows {
        let text = format!("{CREDENTIAL}{}{snippet}\n{TLS}{ROUTE}", if is_role { ROLE } else { "" });
        let problems = errors(&text);
        let [problem] = problems.as_slice() else { panic!("{snippet}\ngives {problems:#?}") };
        assert_eq!((problem.key.as_str(), problem.line.unwrap_or(0)), (*key, *line), "{snippet}: {problem}");
        assert!(problem.message.contains(fragment), "{snippet}: {problem} has no {fragment:?}");
    }
}

#[test]
fn bad_credentials_are_refused() {
    assert_credentials_refused(
        false,
        &[
            ("nmae = 1", "credential[0].nmae", 3, "did you mean `name`?"),
            ("[[credential]]", "credential[1].name", 3, "missing; write for example `name = \"media-role\"`"),
            ("[[credential]]\nname = \"media\"", "credential[1].name", 4, "is the name of earlier credentials"),
            ("[[credential]]\nname = \"a b\"", "credential[1].name", 4, "is no name"),
            ("profile = \"\"", "credential[0].profile", 3, "empty"),
            ("profile = \"a\"\nprocess = \"b\"", "credential[0].process", 4, "either profile or process"),
            ("region = \"us-west-2a\"", "credential[0].region", 3, "is an availability zone"),
            ("role = [{ arn = \"x\" }]\nregion = \"us-west-2\"", "credential[0].role[0].arn", 3, "is no role"),
            (
                "[[credential.role]]\narn = \"arn:aws:iam::123456789012:role/Media\"",
                "credential[0].region",
                1,
                "a role is asked for in a region",
            ),
        ],
    );
    let many: String = (0..65).map(|index| format!("[[credential]]\nname = \"c{index}\"\n")).collect();
    let problems = errors(&format!("{many}{TLS}{ROUTE}"));
    assert!(problems.len() == 1 && problems[0].message.contains("65 credentials are more than 64"), "{problems:?}");
}

#[test]
fn bad_roles_are_refused() {
    const FIRST: &str = "credential[0].role[0]";
    let key = |name: &str| format!("{FIRST}.{name}");
    let rows = [
        ("external-id = \"a\"", "external-id", "2 to 1224 characters"),
        ("external-id = \"a b\"", "external-id", "' ' is not allowed"),
        ("session-name = \"a/b\"", "session-name", "'/' is not allowed"),
        ("duration = \"14m\"", "duration", "at least 15m"),
        ("duration = \"15m 10ms\"", "duration", "whole seconds"),
        ("duration = \"13h\"", "duration", "at most 12h"),
        ("duration = 3600", "duration", "needs a unit"),
        ("policy-file = \"\"", "policy-file", "empty"),
        ("policy-arns = [\"ReadOnly\"]", "policy-arns[0]", "is no policy"),
        ("tags = \"a\"", "tags", "expected tags such as"),
        ("tags = { a = 1 }", "tags", "a: expected a string"),
        ("transitive-tags = [\"a\"]", "transitive-tags[0]", "none of this role's tags"),
        ("source-identity = \"x\"", "source-identity", "2 to 64 characters"),
    ];
    for (snippet, name, fragment) in rows {
        assert_credentials_refused(true, &[(snippet, &key(name), 6, fragment)]);
    }
    let chained = "[[credential.role]]\narn = \"arn:aws:iam::123456789012:role/B\"\nduration = \"2h\"";
    assert_credentials_refused(true, &[(chained, "credential[0].role[1].duration", 8, "at most 1h")]);
    for arn in ["x", "arn:aws:iam::123456789012:user/A", "arn:aws:iam::12:role/A", "arn:aws:sts::123456789012:role/A"] {
        let text = format!("[[credential.role]]\narn = \"{arn}\"");
        assert_credentials_refused(true, &[(&text, "credential[0].role[1].arn", 7, "is no role")]);
    }
}

#[test]
fn bad_sts_endpoints_are_refused() {
    for (endpoint, fragment) in [
        ("sts.us-west-2.amazonaws.com", "write the scheme too"),
        ("http://sts.us-west-2.amazonaws.com", "must be https://"),
        ("http://10.0.0.5:8080", "must be https://"),
        ("ftp://a", "only https:// and http://"),
        ("https://a/b", "without a path"),
    ] {
        let text = format!("[credential.sts]\nendpoint = \"{endpoint}\"");
        assert_credentials_refused(true, &[(&text, "credential[0].sts.endpoint", 7, fragment)]);
    }
}
