//! From text to options, with every problem on the way.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::file::{self, Entry, Refused, Report, Section, flag, text};
use super::keys::{KEYS, Value};
use super::route::Routing;
use super::rules::{self, Names};
use super::{Problem, Severity, client, credential, probe, value};
use crate::policy::route::Mode;
use crate::proxy::room::Rooms;
use crate::proxy::upstream::UpstreamOptions;
use crate::proxy::{Limits, Timeouts};
use crate::server::preflight::Finding;
use crate::server::{AccessLog, Options};
use crate::tls::config::{ClientOptions, Identity, Records, ServerOptions, Version};

/// The options `text` asks for, and warnings.
///
/// # Errors
/// Every problem of the text at once, in the order of its lines, warnings included.
pub fn load(text: &str) -> Result<(Options, Vec<Problem>), Vec<Problem>> {
    let document = file::parse(text).map_err(|problem| vec![problem])?;
    let report = Report::new(text);
    report.unknown_keys("", document.get_ref());
    let options = options(&Section::root(&report, document.get_ref()));
    let problems = report.into_problems();
    let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    match options {
        Ok(options) if !refused => Ok((options, problems)),
        _ => Err(problems),
    }
}

/// Like [`load`], and looks at the files the options name as well.
///
/// # Errors
/// Every problem of the text, or else of the files.
pub fn examine(text: &str) -> Result<(Options, Vec<Problem>), Vec<Problem>> {
    examine_with(text, probe::probe)
}

/// As [`examine`], for a gate that is about to start, or to serve by it. It serves with certificates that have all expired, as
/// nginx and HAProxy do: clients that look refuse it either way, and those that do not had better not lose it at midnight. And
/// it has to be able to write the access log, whose file is made.
///
/// # Errors
/// As [`examine`], but for that.
pub fn examine_to_start(text: &str) -> Result<(Options, Vec<Problem>), Vec<Problem>> {
    examine_with(text, probe::probe_to_start)
}

fn examine_with(text: &str, probe: impl Fn(&Options) -> Vec<Problem>) -> Result<(Options, Vec<Problem>), Vec<Problem>> {
    let (options, mut problems) = load(text)?;
    problems.extend(probe(&options).into_iter().map(|problem| located(text, problem)));
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        Err(problems)
    } else {
        Ok((options, problems))
    }
}

/// What was found about the machine, in the order of the lines of the configuration `text`. Warnings all: who checks may be
/// somebody else, or somewhere else, than who serves.
#[must_use]
pub fn standing_of(text: &str, findings: Vec<Finding>) -> Vec<Problem> {
    let problem = |finding: Finding| {
        located(text, Problem { severity: Severity::Warning, key: finding.key, line: None, message: finding.message })
    };
    let mut problems: Vec<_> = findings.into_iter().map(problem).collect();
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    problems
}

/// The same problem with its line, and with its key as the text has it.
fn located(text: &str, mut problem: Problem) -> Problem {
    problem.line = file::locate(text, &problem.key);
    if problem.line.is_none() {
        problem.key = problem.key.replace("tls.identity[0].", "tls.");
        problem.line = file::locate(text, &problem.key);
    }
    problem
}

fn options(root: &Section<'_>) -> Result<Options, Refused> {
    let listen = root.section("listen");
    let https = listen.list("https", value::listener);
    let wants_tls = !matches!(&https, Ok(Some(listed)) if listed.is_empty());
    let listeners = Listeners::read(&listen, https);
    let tls_section = root.section("tls");
    let records = tls_section.read("records", value::records);
    let kernel = tls_section.read("kernel", value::kernel);
    let tls = tls(&tls_section, wants_tls);
    let workers = root.section("workers");
    let count = workers.read("count", value::workers);
    let pin = workers.read("pin", flag);
    let timeouts = timeouts(&root.section("timeouts"));
    let limits = limits(&root.section("limits"));
    let splice = root.section("transfer").read("splice", value::splice);
    let access_log = root.section("access-log").read("file", value::access_log);
    let log_level = root.section("log").read("level", value::level);
    let clients = client::read(root);
    let credentials = credential::read(root);
    let routing = Routing::read(root, Names::read(root));
    let clients = clients?;
    client::check_certificates(root, &clients, tls.as_ref().ok().and_then(Option::as_ref));
    rules::warn(root, &clients, &routing.routes);
    if routing.routes.iter().any(|route| matches!(route.mode, Mode::ReSign(_))) {
        warn_of_rooms(&root.section("limits"), &limits);
    }
    let (listeners, records) = (listeners?, records?.unwrap_or_default());
    Ok(Options {
        https: listeners.https,
        http: listeners.http,
        admin: listeners.admin,
        tls: tls?.map(|tls| ServerOptions { records, ..tls }),
        kernel: kernel?.unwrap_or_default(),
        workers: count?.flatten(),
        pin: pin?.unwrap_or(true),
        routes: routing.routes,
        clients,
        credentials: credentials?,
        upstreams: routing.upstreams.into_iter().map(|upstream| with_records(upstream, records)).collect(),
        timeouts,
        limits,
        splice: splice?.unwrap_or_default(),
        access_log: access_log?.unwrap_or(AccessLog::Stdout),
        log_level: log_level?.unwrap_or_default(),
    })
}

struct Listeners {
    https: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Listeners {
    fn read(section: &Section<'_>, https: Result<Option<Vec<Entry<SocketAddr>>>, Refused>) -> Result<Self, Refused> {
        let http = section.list("http", value::listener);
        let admin = section.read("admin", value::admin);
        let (https, http) = (https?.unwrap_or_default(), http?.unwrap_or_default());
        if https.is_empty() && http.is_empty() {
            section.error("https", "nothing listens; write at least one address in https (or http)");
        }
        let admin = admin?.flatten().map(|value| Entry { value, place: section.place("admin") });
        let mut taken: Vec<&Entry<SocketAddr>> = Vec::new();
        for entry in https.iter().chain(&http).chain(&admin) {
            let doubled = taken.iter().find(|earlier| earlier.value == entry.value && entry.value.port() != 0);
            if let Some(earlier) = doubled {
                section
                    .report()
                    .error(&entry.place, format!("{} is already used by {}", entry.value, earlier.place.key));
            }
            taken.push(entry);
        }
        if let Some(entry) = admin.as_ref().filter(|entry| !entry.value.ip().is_loopback()) {
            section
                .report()
                .warning(&entry.place, "health is then open to the network; 127.0.0.1 keeps it on this machine");
        }
        let values = |entries: Vec<Entry<SocketAddr>>| entries.into_iter().map(|entry| entry.value).collect();
        Ok(Self { https: values(https), http: values(http), admin: admin.map(|entry| entry.value) })
    }
}

/// Certificates, which must be there if anything listens for HTTPS.
fn tls(section: &Section<'_>, needed: bool) -> Result<Option<ServerOptions>, Refused> {
    let min_version = section.read("min-version", value::version);
    let client_ca = section.read("client-ca-file", |value| text(value).map(PathBuf::from));
    let single = section.has("certificate") || section.has("private-key");
    let identities = if section.has("identity") {
        if single {
            let key = if section.has("certificate") { "certificate" } else { "private-key" };
            section.error(key, "write either certificate and private-key, or [[tls.identity]], not both");
        }
        let identities: Vec<_> = section.sections("identity").iter().map(identity).collect();
        if identities.is_empty() {
            section.error("identity", "the list is empty; write at least one pair");
        }
        identities.into_iter().collect()
    } else if needed && !single && !section.is_present() {
        Err(section.error("certificate", "there is no [tls]; HTTPS listeners need certificate and private-key"))
    } else if single || needed {
        identity(section).map(|identity| vec![identity])
    } else {
        return Ok(None);
    };
    let min_version = min_version?.unwrap_or(Version::Tls12);
    let client_ca = client_ca?.filter(|path| !path.as_os_str().is_empty());
    Ok(Some(ServerOptions { identities: identities?, min_version, records: Records::default(), client_ca }))
}

/// One choice for both sides of the gate.
fn with_records(upstream: UpstreamOptions, records: Records) -> UpstreamOptions {
    UpstreamOptions { tls: upstream.tls.map(|tls| ClientOptions { records, ..tls }), ..upstream }
}

fn identity(section: &Section<'_>) -> Result<Identity, Refused> {
    let file = |key: &str| {
        let path = section.require(key, |value| text(value).map(str::to_string))?;
        if path.is_empty() { Err(section.missing(key)) } else { Ok(PathBuf::from(path)) }
    };
    let (certificate, private_key) = (file("certificate"), file("private-key"));
    Ok(Identity { certificate: certificate?, private_key: private_key? })
}

/// The defaults with what is written down; refused values are reported and keep their default.
fn timeouts(section: &Section<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    for key in KEYS {
        let Value::Timeout(field) = key.value else { continue };
        let zero_is_meant = matches!(key.name(), "drain" | "upstream-idle");
        if let Ok(Some(time)) = section.read(key.name(), |value| value::time(value, zero_is_meant)) {
            *field(&mut timeouts) = time;
        }
    }
    if timeouts.upstream_idle > UPSTREAM_IDLE_USUAL {
        section
            .warning("upstream-idle", "S3 closes idle connections after about 5s; keeping them longer costs retries");
    }
    timeouts
}

/// The defaults with what is written down; refused values are reported and keep their default.
fn limits(section: &Section<'_>) -> Limits {
    let mut limits = Limits::default();
    for key in KEYS {
        let Value::Limit(limit) = &key.value else { continue };
        if let Ok(Some(bound)) = section.read(key.name(), |value| value::limit(value, limit)) {
            (limit.set)(&mut limits, bound);
        }
    }
    if limits.spool_bytes_max > limits.buffer_bytes_max {
        section.error("spool-bytes", "it is more than buffer-bytes, so one upload could take all memory there is");
    }
    limits
}

/// Warns of a budget in which a few uploads in signed chunks take all there is for them.
fn warn_of_rooms(section: &Section<'_>, limits: &Limits) {
    let exchanges = Rooms::new(limits.buffer_bytes_max, limits.spool_bytes_max, true).exchanges_max();
    if exchanges < EXCHANGES_FEW {
        section.warning(
            "buffer-bytes",
            format!("there is room for {exchanges} exchanges at once on each core, and an upload in signed chunks takes up to 6"),
        );
    }
}

/// Fewer exchanges at once than this are few for a gate that signs anew: half of them are for uploads in signed chunks.
const EXCHANGES_FEW: u32 = 16;

/// How long S3 keeps an idle connection.
const UPSTREAM_IDLE_USUAL: Duration = Duration::from_secs(5);
