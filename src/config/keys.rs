//! Every key of the configuration file, once: what is accepted, suggested and printed all come from this table.

mod print;
mod slips;

use std::time::Duration;

pub use print::default_file;
pub use slips::unknown;

use crate::limits;
use crate::proxy::{Limits, Timeouts};

/// One key or section.
#[derive(Debug)]
pub struct Key {
    /// Where it stands, `[]` for "each of a list": `route[].upstream.connect`.
    pub path: &'static str,
    /// What it holds.
    pub value: Value,
    /// What it is for, one or more lines.
    pub about: &'static str,
}

/// What a key holds, and what stands for it when it is absent.
#[derive(Debug)]
pub enum Value {
    /// A table; a list of tables if the path ends in `[]`.
    Section,
    /// A table or a list of tables which the default file shows commented out.
    Alternative,
    /// TOML of the default.
    Default(&'static str),
    /// TOML of an example; there is no default.
    Example(&'static str),
    /// TOML of an example that the default file shows commented out; the default depends on other keys.
    Derived(&'static str),
    /// TOML of an example that the default file shows commented out, for what is not there by default.
    Choice(&'static str),
    /// A time; the default is the option struct's own.
    Timeout(fn(&mut Timeouts) -> &mut Duration),
    /// A bound; the default is the option struct's own.
    Limit(Limit),
}

/// How a bound is read from and written to [`Limits`].
#[derive(Debug)]
pub struct Limit {
    /// What it counts.
    pub unit: Unit,
    /// Its value.
    pub get: fn(&Limits) -> u64,
    /// Changes it to a value between `min` and `max`.
    pub set: fn(&mut Limits, u64),
    /// Smallest value that works.
    pub min: u64,
    /// Largest value that makes sense.
    pub max: u64,
}

/// What a bound counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes: an integer, or a string with a unit.
    Bytes,
    /// Things: an integer.
    Count,
}

/// The table, in the order of the default file.
pub const KEYS: &[Key] = &[
    section("listen", "Where clients connect. Addresses with ports; names are not looked up here."),
    default("listen.https", r#"["0.0.0.0:443", "[::]:443"]"#, "HTTPS listeners; [] for none."),
    default("listen.http", "[]", "Plain HTTP listeners, only for use behind a load balancer that speaks HTTPS."),
    default("listen.admin", r#""127.0.0.1:9180""#, "Health; \"off\" for none. Keep it off public networks."),
    section("tls", "The certificate clients see. Needed whenever listen.https is not empty."),
    example("tls.certificate", r#""/etc/filmgate/tls/fullchain.pem""#, "PEM chain, the server's certificate first."),
    example("tls.private-key", r#""/etc/filmgate/tls/key.pem""#, "PEM key without a passphrase."),
    default("tls.min-version", r#""1.2""#, "Oldest TLS version accepted: \"1.2\" or \"1.3\"."),
    default(
        "tls.records",
        r#""own""#,
        "Who protects TLS 1.3 records, towards clients and S3: \"own\" is filmgate's fast record layer, \"library\" is\n\
         rustls, to compare with or to fall back to. Handshakes and TLS 1.2 are always rustls'.",
    ),
    default(
        "tls.kernel",
        r#""auto""#,
        "With records = \"own\": \"auto\" leaves the records of TLS 1.3 to the kernel where it has TLS (`modprobe tls`),\n\
         \"off\" never does. A single body of more than 128 GiB needs \"off\" or Linux 6.14.",
    ),
    derived(
        "tls.client-ca-file",
        r#""/etc/filmgate/tls/client-ca.pem""#,
        "PEM authorities of clients' certificates. With it clients are asked for a certificate, and may have none; one\n\
         that none of these authorities vouches for is refused.",
    ),
    Key {
        path: "tls.identity[]",
        value: Value::Alternative,
        about: "Instead of tls.certificate and tls.private-key: several pairs, chosen by the name the client asks for.\n\
                A client that asks for none of them, or for none at all, gets the first.",
    },
    example("tls.identity[].certificate", r#""/etc/filmgate/tls/fullchain.pem""#, "PEM chain."),
    example("tls.identity[].private-key", r#""/etc/filmgate/tls/key.pem""#, "PEM key."),
    section("workers", "One worker is one thread with its own sockets, buffers and upstream connections."),
    default("workers.count", r#""auto""#, "A number, or \"auto\" for one per core the process may use."),
    default("workers.pin", "true", "Whether each worker stays on its core."),
    section("timeouts", "How long each wait may last, such as \"250ms\", \"65s\" or \"2m\"."),
    wait("timeouts.client-handshake", |t| &mut t.client_handshake, "A client's TLS handshake."),
    wait("timeouts.client-idle", |t| &mut t.client_idle, "A kept-alive client connection without a request."),
    wait("timeouts.client-head", |t| &mut t.client_head, "A request head, from its first byte to its last."),
    wait("timeouts.client-body", |t| &mut t.client_body, "The next bytes of an upload."),
    wait("timeouts.client-write", |t| &mut t.client_write, "The client taking the next bytes of a download."),
    wait("timeouts.upstream-connect", |t| &mut t.upstream_connect, "A TCP connection, over all addresses."),
    wait("timeouts.upstream-handshake", |t| &mut t.upstream_handshake, "The upstream's TLS handshake."),
    wait("timeouts.upstream-write", |t| &mut t.upstream_write, "The upstream taking the next bytes of an upload."),
    wait(
        "timeouts.upstream-response",
        |t| &mut t.upstream_response,
        "The first byte of the response once the request is sent.",
    ),
    wait("timeouts.upstream-body", |t| &mut t.upstream_body, "The next bytes of a download."),
    wait(
        "timeouts.upstream-idle",
        |t| &mut t.upstream_idle,
        "An unused upstream connection; \"0s\" keeps none. S3 closes its side after about 5 s.",
    ),
    wait("timeouts.drain", |t| &mut t.drain, "Transfers when the gate is told to stop; then they are broken off."),
    section("limits", "Bounds, each per worker. Bytes are a number or a string with a unit: \"8 MiB\"."),
    Key {
        path: "limits.connections",
        value: Value::Limit(Limit {
            unit: Unit::Count,
            get: |l| l.connections_max as u64,
            set: |l, n| l.connections_max = n as usize,
            min: 1,
            max: 1 << 20,
        }),
        about: "Client connections served at once.",
    },
    Key {
        path: "limits.requests-per-connection",
        value: Value::Limit(Limit {
            unit: Unit::Count,
            get: |l| l.connection_requests_max,
            set: |l, n| l.connection_requests_max = n,
            min: 1,
            max: 1_000_000_000,
        }),
        about: "Requests on one client connection before it is closed.",
    },
    Key {
        path: "limits.spool-bytes",
        value: Value::Limit(Limit {
            unit: Unit::Bytes,
            get: |l| l.spool_bytes_max as u64,
            set: |l, n| l.spool_bytes_max = n as usize,
            min: 0,
            max: 1 << 30,
        }),
        about: "Memory for one upload that does not announce its length (S3 needs to know it).",
    },
    Key {
        path: "limits.buffer-bytes",
        value: Value::Limit(Limit {
            unit: Unit::Bytes,
            get: |l| l.buffer_bytes_max as u64,
            set: |l, n| l.buffer_bytes_max = n as usize,
            min: limits::EXCHANGE_BYTES_MAX as u64,
            max: 1 << 40,
        }),
        about: "Memory for transfer buffers of one worker; uploads whose chunks are signed take at most half of it.",
    },
    Key {
        path: "limits.upstream-idle",
        value: Value::Limit(Limit {
            unit: Unit::Count,
            get: |l| l.upstream_idle_max as u64,
            set: |l, n| l.upstream_idle_max = n as usize,
            min: 0,
            max: 1 << 16,
        }),
        about: "Idle connections kept to one upstream; 0 keeps none.",
    },
    section("transfer", "How bodies travel."),
    default(
        "transfer.splice",
        r#""auto""#,
        "Moving bodies inside the kernel when neither side speaks TLS: \"auto\" for long ones of known length, \"always\"\n\
         for any of known length, \"off\" to copy all.",
    ),
    section("access-log", "One JSON line a request. Signatures, tokens and cookies never appear in it."),
    default("access-log.file", r#""-""#, "A file to append to, \"-\" for standard output, or \"off\"."),
    section("log", "What filmgate says of itself, on standard error."),
    default("log.level", r#""info""#, "Or \"error\", \"warn\", \"debug\" or \"trace\"; FILMGATE_LOG counts more."),
    alternative(
        "credential[]",
        "Credentials that routes with mode = \"re-sign\" sign with. They are renewed in time and never written down.\n\
         Without profile and process they come from where AWS's own tools look: the environment, the default profile\n\
         (with SSO), a web identity, the container's endpoint (ECS, EKS), the instance's metadata (IMDSv2).",
    ),
    example("credential[].name", r#""media-role""#, "What routes call them."),
    example("credential[].profile", r#""studio""#, "Only this profile of the AWS configuration files."),
    example(
        "credential[].process",
        r#""/usr/bin/aws_signing_helper credential-process --role-arn ...""#,
        "A command line that prints credentials (credential_process), such as IAM Roles Anywhere's helper.",
    ),
    example("credential[].region", r#""us-west-2""#, "The region of STS. Needed where there is a role."),
    alternative(
        "credential[].role[]",
        "A role to take on with these credentials (AssumeRole). Several are a chain, in this order.",
    ),
    example("credential[].role[].arn", r#""arn:aws:iam::123456789012:role/FilmgateMedia""#, "The role."),
    example("credential[].role[].external-id", r#""studio-7f3a""#, "What the role's owner wants to hear."),
    default("credential[].role[].session-name", r#""filmgate""#, "What CloudTrail calls the session."),
    default(
        "credential[].role[].duration",
        r#""1h""#,
        "How long credentials are valid: 15m to what the role allows, at most 12h; 1h behind another role.",
    ),
    example(
        "credential[].role[].policy-file",
        r#""/etc/filmgate/session-policy.json""#,
        "A session policy: what is not in it is not allowed, whatever the role allows.",
    ),
    default("credential[].role[].policy-arns", "[]", "Managed policies that narrow the role in the same way."),
    example("credential[].role[].tags", r#"{ project = "feature" }"#, "Session tags."),
    default("credential[].role[].transitive-tags", "[]", "Keys of tags that later roles of the chain are given too."),
    example("credential[].role[].source-identity", r#""filmgate""#, "Who is behind the session, for all of the chain."),
    alternative("credential[].sts", "How STS is reached for these roles. Every key may be left out."),
    example(
        "credential[].sts.endpoint",
        r#""https://vpce-1.sts.us-west-2.vpce.amazonaws.com""#,
        "An interface endpoint, for example; else STS of the region.",
    ),
    example("credential[].sts.ca-file", r#""/etc/filmgate/sts-ca.pem""#, "PEM roots to trust instead of the system's."),
    alternative("client[]", "Somebody who may use routes with mode = \"re-sign\". Repeat [[client]] for each."),
    example("client[].name", r#""render-farm""#, "What rules and logs call the client."),
    example(
        "client[].access-key",
        r#""AKRENDER0001""#,
        "The id of the key it signs its requests and links with (signature version 4). A client without one is trusted\n\
         without a signature: it needs addresses or certificate-names, may present links that somebody else signed, and\n\
         may get and put objects only.",
    ),
    example("client[].secret-file", r#""/etc/filmgate/clients/render-farm""#, "Its secret; root:filmgate, mode 0640."),
    choice("client[].secret-credential", r#""render-farm""#, "Instead of secret-file: a credential systemd loads."),
    choice(
        "client[].session-token-file",
        r#""/etc/filmgate/clients/render-farm-token""#,
        "A token that its requests have to carry besides.",
    ),
    choice("client[].addresses", r#"["10.0.0.0/8", "fd00::/8"]"#, "It comes from there only."),
    choice(
        "client[].certificate-names",
        r#"["*.render.mystudio.com", "CN=farm"]"#,
        "It has a certificate of tls.client-ca-file with one of these names.",
    ),
    choice("client[].not-before", r#""2026-01-01T00:00:00Z""#, "It is nobody before."),
    choice("client[].not-after", r#""2027-01-01T00:00:00Z""#, "It is nobody from then on."),
    section("route[]", "One bucket and the names artists reach it by. Repeat [[route]] for each bucket."),
    example("route[].hosts", r#"["s3-proxy.mystudio.com"]"#, "Names clients use; no port, no wildcard."),
    default("route[].default", "false", "Whether names that no route lists come here too; for one route at most."),
    example("route[].bucket", r#""mystudio-media""#, "The bucket."),
    choice(
        "route[].buckets",
        r#"["mystudio-media", "mystudio-plates"]"#,
        "Instead of bucket, with mode = \"re-sign\": an S3 endpoint. Clients write https://HOST/BUCKET/KEY or\n\
         https://BUCKET.HOST/KEY.",
    ),
    example("route[].region", r#""us-west-2""#, "The bucket's region."),
    default(
        "route[].mode",
        r#""pass-through""#,
        "\"pass-through\": the client's signature travels to S3 unchanged. \"re-sign\": the gate finds out which [[client]]\n\
         asks, decides by [[route.allow]] and [[route.deny]], and signs with a [[credential]] of its own.",
    ),
    choice("route[].credential", r#""media-role""#, "With mode = \"re-sign\": the name of the credential that signs."),
    default(
        "route[].verify-payload",
        "false",
        "With mode = \"re-sign\": whether bodies are compared with the digest that was signed here, too; S3 always does.",
    ),
    section(
        "route[].upstream",
        "How S3 is reached. Every key may be left out: connect, server-name and host then follow from\n\
         bucket, region and endpoint.",
    ),
    default(
        "route[].upstream.endpoint",
        r#""regional""#,
        "The S3 name the links were signed for: \"regional\" (BUCKET.s3.REGION.amazonaws.com),\n\
         \"global\" (the legacy BUCKET.s3.amazonaws.com), or \"dualstack\".",
    ),
    derived(
        "route[].upstream.connect",
        r#"["mystudio-media.s3.us-west-2.amazonaws.com:443"]"#,
        "Names or addresses to connect to, such as an interface endpoint's; all of them are used.",
    ),
    derived(
        "route[].upstream.server-name",
        r#""mystudio-media.s3.us-west-2.amazonaws.com""#,
        "The name in the TLS handshake, which the certificate must carry.",
    ),
    derived(
        "route[].upstream.host",
        r#""mystudio-media.s3.us-west-2.amazonaws.com""#,
        "The Host that was signed; \"keep\" passes on the client's own. {bucket} stands for the bucket.",
    ),
    default(
        "route[].upstream.style",
        r#""virtual""#,
        "With mode = \"re-sign\", where S3 wants the bucket: \"virtual\" (BUCKET.HOST/KEY) or \"path\" (HOST/BUCKET/KEY).",
    ),
    default(
        "route[].upstream.allow-plaintext",
        "false",
        "Whether http:// in connect is meant. Media and signed links then cross the network readable.",
    ),
    section("route[].upstream.tls", "TLS towards S3. Certificates are always verified."),
    default(
        "route[].upstream.tls.ca-file",
        r#""""#,
        "PEM roots to trust instead of the system's; \"\" for the system's.",
    ),
    default(
        "route[].upstream.tls.max-version",
        r#""1.3""#,
        "Newest TLS version offered: \"1.2\" or \"1.3\". Some endpoints drop a TLS 1.3 hello.",
    ),
    alternative(
        "route[].allow[]",
        "With mode = \"re-sign\": what clients may do. Nothing is allowed that no rule allows. Repeat for each rule.",
    ),
    example("route[].allow[].clients", r#"["render-farm"]"#, "Names; \"*\" for every client with an access key."),
    example(
        "route[].allow[].operations",
        r#"["read", "list", "PutObject"]"#,
        "Names of the S3 API, or groups of them: read, write, delete, list, multipart.",
    ),
    default("route[].allow[].prefixes", r#"[""]"#, "Beginnings of keys, such as \"shots/\"."),
    default(
        "route[].allow[].features",
        "[]",
        "What else they may make use of, for it is dangerous: copy, acl, encryption, tagging, versions, object-lock,\n\
         bypass-governance, storage-class, redirect, bucket-config, restore, select, request-payer, bulk-delete,\n\
         post-form, torrent.",
    ),
    alternative(
        "route[].deny[]",
        "What is denied whatever a rule allows. Every key may be left out, and then means all.",
    ),
    choice("route[].deny[].clients", r#"["render-farm"]"#, "Names; \"*\" for everybody."),
    choice("route[].deny[].operations", r#"["delete"]"#, "As above; one that is forbidden is so in all its forms."),
    choice(
        "route[].deny[].prefixes",
        r#"["masters/"]"#,
        "As above; a listing that would show such keys is denied too.",
    ),
    choice("route[].deny[].features", r#"["acl"]"#, "Requests that make use of one of them."),
];

impl Key {
    /// Last word of the path.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path).trim_end_matches("[]")
    }

    /// The path of the section it stands in; empty for the document.
    #[must_use]
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// Whether it is a table or a list of tables.
    #[must_use]
    pub fn is_section(&self) -> bool {
        matches!(self.value, Value::Section | Value::Alternative)
    }

    /// The section's header as it is written: `[[route]]`, `[route.upstream]`.
    #[must_use]
    pub fn header(&self) -> String {
        let path = self.path.replace("[]", "");
        if self.path.ends_with("[]") { format!("[[{path}]]") } else { format!("[{path}]") }
    }

    /// TOML of the value that stands for it when it is absent.
    #[must_use]
    pub fn default_toml(&self) -> Option<String> {
        match &self.value {
            Value::Default(toml) => Some((*toml).to_string()),
            Value::Timeout(field) => {
                let time = *field(&mut Timeouts::default());
                Some(format!("\"{}\"", in_seconds(time)))
            }
            Value::Limit(limit) => Some(limit.toml((limit.get)(&Limits::default()))),
            Value::Section | Value::Alternative | Value::Example(_) | Value::Derived(_) | Value::Choice(_) => None,
        }
    }
}

impl Limit {
    /// `value` as it reads best.
    #[must_use]
    pub fn show(&self, value: u64) -> String {
        match self.unit {
            Unit::Count => value.to_string(),
            Unit::Bytes => in_bytes(value),
        }
    }

    /// `value` as it would be written.
    #[must_use]
    pub fn toml(&self, value: u64) -> String {
        match self.unit {
            Unit::Count => self.show(value),
            Unit::Bytes => format!("\"{}\"", self.show(value)),
        }
    }
}

/// `time` in whole seconds where it has no fraction, so that it reads like the numbers of other programs.
fn in_seconds(time: Duration) -> String {
    if time.subsec_nanos() == 0 {
        return format!("{}s", time.as_secs());
    }
    humantime::format_duration(time).to_string()
}

/// `value` bytes in the largest unit that leaves no fraction.
#[must_use]
pub fn in_bytes(value: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if value != 0 && value.is_multiple_of(1 << shift) {
            return format!("{} {unit}", value >> shift);
        }
    }
    format!("{value} B")
}

/// The row of a path, whose indexes may be numbers or empty.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    let path = without_indexes(path);
    KEYS.iter().find(|key| key.path == path)
}

/// `route[3].hosts[1]` as `route[].hosts[]`.
#[must_use]
pub fn without_indexes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for letter in path.chars() {
        inside = (inside || letter == '[') && letter != ']';
        if !inside || letter == '[' {
            out.push(letter);
        }
    }
    out
}

/// What is known inside the section `parent`.
pub fn children(parent: &str) -> impl Iterator<Item = &'static Key> {
    let parent = without_indexes(parent);
    KEYS.iter().filter(move |key| key.parent() == parent)
}

const fn section(path: &'static str, about: &'static str) -> Key {
    Key { path, value: Value::Section, about }
}

const fn alternative(path: &'static str, about: &'static str) -> Key {
    Key { path, value: Value::Alternative, about }
}

const fn default(path: &'static str, toml: &'static str, about: &'static str) -> Key {
    Key { path, value: Value::Default(toml), about }
}

const fn example(path: &'static str, toml: &'static str, about: &'static str) -> Key {
    Key { path, value: Value::Example(toml), about }
}

const fn derived(path: &'static str, toml: &'static str, about: &'static str) -> Key {
    Key { path, value: Value::Derived(toml), about }
}

const fn choice(path: &'static str, toml: &'static str, about: &'static str) -> Key {
    Key { path, value: Value::Choice(toml), about }
}

const fn wait(path: &'static str, field: fn(&mut Timeouts) -> &mut Duration, about: &'static str) -> Key {
    Key { path, value: Value::Timeout(field), about }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_a_section_of_the_table_and_only_once() {
        for (index, key) in KEYS.iter().enumerate() {
            let parent = key.parent();
            assert!(parent.is_empty() || find(parent).is_some_and(Key::is_section), "{}", key.path);
            assert!(KEYS[..index].iter().all(|earlier| earlier.path != key.path), "{}", key.path);
        }
    }

    #[test]
    fn every_timeout_and_limit_has_a_key() {
        let fields = |debug: String| debug.matches(": ").count();
        let timeouts = KEYS.iter().filter(|key| matches!(key.value, Value::Timeout(_))).count();
        let limits = KEYS.iter().filter(|key| matches!(key.value, Value::Limit(_))).count();
        assert_eq!(timeouts, fields(format!("{:?}", Timeouts::default())));
        assert_eq!(limits, fields(format!("{:?}", Limits::default())));
    }

    #[test]
    fn indexes_are_dropped_from_paths() {
        assert_eq!(without_indexes("route[12].upstream.connect[0]"), "route[].upstream.connect[]");
        assert_eq!(without_indexes("route[].hosts"), "route[].hosts");
        assert_eq!(without_indexes(""), "");
    }

    #[test]
    fn bytes_are_written_in_the_largest_whole_unit() {
        let cases = [(0, "0 B"), (1, "1 B"), (1024, "1 KiB"), (1025, "1025 B"), (8 << 20, "8 MiB"), (3 << 30, "3 GiB")];
        for (bytes, expected) in cases {
            assert_eq!(in_bytes(bytes), expected);
        }
    }
}
