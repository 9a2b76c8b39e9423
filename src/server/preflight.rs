//! What is likely to go wrong on this machine, found before it does.
//!
//! `filmgate check` says all of it at once, and takes it for warnings: it may run as somebody else, or somewhere else, than
//! the service will. A gate that starts says what it can serve in spite of, and refuses where it cannot.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::limits;
use crate::net::resolve::{Addresses, Resolver};
use crate::net::{listen, runtime};
use crate::proxy::upstream::UpstreamOptions;
use crate::server::{Options, admin};

/// One thing that is likely to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key of the configuration it is about, as `filmgate check` writes them; empty when it is about the machine.
    pub key: String,
    /// Likely cause and fix, in one line.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// What can be found out without serving, but for [`ports`]: for `filmgate check`. Takes some seconds when names do not resolve.
#[must_use]
pub fn everything(options: &Options, now: SystemTime) -> Vec<Finding> {
    let mut findings = standing(options, now);
    findings.extend(runtime::probe_all(workers(options)).err().map(|error| of_machine(error.to_string())));
    if let Ok((resolver, addresses)) = Resolver::start(&names(&options.upstreams), NEVER_AGAIN)
        && !resolver.wait_first(PATIENCE)
    {
        findings.extend(unresolved(options, &addresses));
    }
    findings
}

/// What a gate starts in spite of, and should not pass over in silence.
#[must_use]
pub fn standing(options: &Options, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    findings.extend(clock(seconds, built_at()).map(of_machine));
    let workers = workers(options);
    if let Ok(allowed) = runtime::descriptors_allowed() {
        findings.extend(descriptors(options, workers, allowed).map(of_machine));
    }
    findings
}

/// Writes findings to the log.
pub fn tell(findings: &[Finding]) {
    for finding in findings {
        tracing::warn!("{finding}");
    }
}

/// How many workers there will be.
#[must_use]
pub fn workers(options: &Options) -> usize {
    options.workers.unwrap_or_else(|| runtime::allowed_cores().len()).max(1)
}

/// Where upstreams are.
#[must_use]
pub fn names(upstreams: &[UpstreamOptions]) -> Vec<Vec<(String, u16)>> {
    upstreams.iter().map(|upstream| upstream.connect.clone()).collect()
}

/// Upstreams without an address.
#[must_use]
pub fn unresolved(options: &Options, addresses: &Addresses) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, upstream) in options.upstreams.iter().enumerate() {
        let known = addresses.snapshot(index);
        if !known.addresses.is_empty() {
            continue;
        }
        let route = options.routes.iter().position(|route| route.upstream == index).unwrap_or(index);
        let why = known.error.as_deref().unwrap_or("no answer yet");
        let message = format!(
            "no address for {} ({why}); requests get 503 until there is one: is the name right, and does this machine's \
             DNS know it?",
            upstream.name
        );
        findings.push(Finding { key: format!("route[{route}].upstream.connect"), message });
    }
    findings
}

/// Descriptors that are needed to start at all.
///
/// # Errors
/// When fewer are allowed.
pub fn enough_to_start(options: &Options, workers: usize) -> io::Result<()> {
    let Ok(allowed) = runtime::descriptors_allowed() else { return Ok(()) };
    let needed = descriptors_at_rest(options, workers);
    if allowed >= needed {
        return Ok(());
    }
    let message = format!(
        "only {allowed} descriptors may be open, and {workers} workers need {needed} before the first client comes; raise \
         the service's LimitNOFILE (ulimit -Hn in a shell)"
    );
    Err(io::Error::other(message))
}

/// Addresses that cannot be listened at: for `filmgate check`. Those that a gate has which runs already are not among them.
#[must_use]
pub fn ports(options: &Options) -> Vec<Finding> {
    let running = options.admin.and_then(|admin| Some((admin, admin::listening(admin)?)));
    let is_ours = |address: &SocketAddr| {
        running
            .as_ref()
            .is_some_and(|(admin, running)| admin == address || running.iter().any(|at| covers(*at, *address)))
    };
    let mut findings = Vec::new();
    let lists = [("listen.https", &options.https), ("listen.http", &options.http)];
    let lists = lists.into_iter().flat_map(|(key, addresses)| {
        addresses.iter().enumerate().map(move |(index, address)| (format!("{key}[{index}]"), *address))
    });
    for (key, address) in lists.chain(options.admin.map(|admin| ("listen.admin".to_owned(), admin))) {
        match listen::try_bind(address) {
            Err(error) if !(error.kind() == io::ErrorKind::AddrInUse && is_ours(&address)) => {
                findings.push(Finding { key, message: in_check(&error) });
            }
            _ => {}
        }
    }
    findings
}

/// Whether who listens at `one` is in the way of whoever wants to at `other`.
fn covers(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified() && address.is_ipv4() == other.is_ipv4();
    one == other || (one.port() == other.port() && (all(one) || (all(other) && one.is_ipv4() == other.is_ipv4())))
}

fn of_machine(message: String) -> Finding {
    Finding { key: String::new(), message }
}

/// Who checks may not be who serves, and the gate may be running.
fn in_check(error: &io::Error) -> String {
    let unless = match error.kind() {
        io::ErrorKind::AddrInUse => " - unless that is filmgate itself, or filmgate.socket",
        io::ErrorKind::PermissionDenied => " - unless the service has it and this check has not",
        _ => "",
    };
    format!("{error}{unless}")
}

fn clock(now: u64, built_at: u64) -> Option<String> {
    (now < built_at).then(|| {
        format!(
            "this machine's clock is wrong: it is {} days before this program was built; until it is set (timedatectl, \
             chronyc makestep) certificates seem not valid yet and S3 refuses what is signed",
            (built_at - now).div_ceil(86_400)
        )
    })
}

/// Seconds of Unix time before which this program cannot run: `SOURCE_DATE_EPOCH` of its build, if that was set, so that
/// equal sources make equal programs.
fn built_at() -> u64 {
    let of_build = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()).unwrap_or(0);
    of_build.max(RELEASED)
}

/// 2026-11-22, when the clock began to be looked at. No build is older.
const RELEASED: u64 = 1_795_305_600;

fn descriptors(options: &Options, workers: usize, allowed: u64) -> Option<String> {
    let needed = descriptors_at_most(options, workers);
    (allowed < needed).then(|| {
        format!(
            "{allowed} descriptors may be open; {workers} workers with limits.connections = {} may come to {needed}, and \
             clients wait when there are no more: raise the service's LimitNOFILE, or lower that",
            options.limits.connections_max
        )
    })
}

/// Descriptors when all is as full as the configuration lets it be: two for every connection, and pipes.
fn descriptors_at_most(options: &Options, workers: usize) -> u64 {
    let pipes = 2 * (limits::PIPES_LENT_MAX + limits::PIPES_KEPT_MAX);
    let idle = options.upstreams.len().saturating_mul(options.limits.upstream_idle_max);
    let of_worker = options.limits.connections_max.saturating_mul(2).saturating_add(pipes).saturating_add(idle);
    descriptors_at_rest(options, workers).saturating_add((workers as u64).saturating_mul(of_worker as u64))
}

/// Descriptors of a gate without clients: logs, signals, names, and for each worker its ring, its event loop and its
/// listeners.
fn descriptors_at_rest(options: &Options, workers: usize) -> u64 {
    let of_worker = 6 + options.https.len() + options.http.len();
    32 + (workers as u64).saturating_mul(of_worker as u64)
}

/// How long names may take to be found.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longer than a check takes.
const NEVER_AGAIN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_build_is_told_from_one_after_it() {
        assert_eq!(clock(RELEASED, RELEASED), None);
        let message = clock(RELEASED - 86_401, RELEASED).unwrap();
        assert!(message.contains("clock is wrong: it is 2 days before"), "{message}");
        assert!(built_at() >= RELEASED && built_at() < 4_000_000_000);
    }

    #[test]
    fn an_address_is_in_the_way_of_the_same_port_where_they_overlap() {
        for (one, other, is_so) in [
            ("10.0.0.1:443", "10.0.0.1:443", true),
            ("10.0.0.1:443", "10.0.0.1:8443", false),
            ("10.0.0.1:443", "10.0.0.2:443", false),
            ("0.0.0.0:443", "10.0.0.2:443", true),
            ("10.0.0.2:443", "0.0.0.0:443", true),
            ("0.0.0.0:443", "0.0.0.0:80", false),
            ("[::]:443", "[fd00::1]:443", true),
            ("[::]:443", "10.0.0.2:443", false),
            ("10.0.0.2:443", "[::]:443", false),
        ] {
            assert_eq!(covers(one.parse().unwrap(), other.parse().unwrap()), is_so, "{one} {other}");
        }
    }

    #[test]
    fn what_a_check_cannot_know_is_left_open() {
        let said = |kind| in_check(&io::Error::new(kind, "cannot listen"));
        assert_eq!(said(io::ErrorKind::AddrNotAvailable), "cannot listen");
        assert!(said(io::ErrorKind::AddrInUse).contains("filmgate itself"));
        assert!(said(io::ErrorKind::PermissionDenied).contains("unless the service has it"));
    }
}
