//! What the service manager is told, by the protocol of sd_notify(3): one datagram of `NAME=value` lines each.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::net::runtime;

/// Tells the service manager how the gate is; nobody, where none asked to be told. Clones tell the same one.
///
/// What cannot be delivered is logged and forgotten: the manager draws its own conclusions from silence.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    manager: Option<Arc<Manager>>,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// The one that `NOTIFY_SOCKET` names: a path, or after an `@` a name in the abstract space (unix(7)).
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        Self::to(&name).unwrap_or_else(|error| {
            tracing::warn!(?name, %error, "NOTIFY_SOCKET cannot be used; the service manager is told nothing");
            Self::default()
        })
    }

    /// The one that listens on the socket called `name`.
    ///
    /// # Errors
    /// When that is no name of a Unix socket.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { manager: Some(Arc::new(Manager { socket, address })) })
    }

    /// Whether anybody is told.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.manager.is_some()
    }

    /// The gate serves: at first, and again after [`reloading`](Self::reloading).
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\n{}", status_line(status)));
    }

    /// How the gate is, in a few words that `systemctl status` shows. No place for secrets.
    pub fn status(&self, status: &str) {
        self.send(&status_line(status));
    }

    /// A new configuration is being read; [`ready`](Self::ready) follows.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", runtime::monotonic_usec()));
    }

    /// The gate is about to end, and asks for so much time whatever the unit's `TimeoutStopSec` says.
    pub fn stopping(&self, within: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    /// The gate is alive.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, lines: &str) {
        let Some(manager) = &self.manager else { return };
        if let Err(error) = manager.socket.send_to_addr(lines.as_bytes(), &manager.address) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

/// How often the service manager wants to hear that the gate is alive: half the time after which it would restart it
/// (sd_watchdog_enabled(3)). `None` when it does not ask, or asks another process.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    interval_of(|name| env::var_os(name), std::process::id())
}

fn interval_of(variable: impl Fn(&str) -> Option<OsString>, own_id: u32) -> Option<Duration> {
    let number = |name| variable(name).map(|text| text.to_str().and_then(|text| text.parse::<u64>().ok()));
    match number("WATCHDOG_PID") {
        Some(id) if id != Some(u64::from(own_id)) => return None,
        _ => {}
    }
    let usec = number("WATCHDOG_USEC")??;
    (usec > 0).then(|| Duration::from_micros(usec) / 2)
}

/// One line whatever the text holds, and a short one.
fn status_line(text: &str) -> String {
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_CHARS_MAX);
    "STATUS=".chars().chain(text).collect()
}

const STATUS_CHARS_MAX: usize = 256;

/// How long a manager that does not read is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut room = [0; 2048];
        let n = socket.recv(&mut room).unwrap();
        String::from_utf8(room[..n].to_vec()).unwrap()
    }

    fn manager(name: &str, address: &SocketAddr) -> (UnixDatagram, Notifier) {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (socket, Notifier::to(OsStr::new(name)).unwrap())
    }

    #[test]
    fn every_message_is_one_datagram_of_assignments() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let (socket, notifier) = manager(path.to_str().unwrap(), &SocketAddr::from_pathname(&path).unwrap());
        notifier.ready("Serving");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=Serving");
        notifier.clone().status("Idle");
        assert_eq!(heard(&socket), "STATUS=Idle");
        notifier.watchdog();
        assert_eq!(heard(&socket), "WATCHDOG=1");
        notifier.stopping(Duration::from_millis(1500));
        assert_eq!(heard(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000");
    }

    #[test]
    fn a_reload_carries_the_monotonic_time_and_abstract_names_work() {
        let name = format!("filmgate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let (socket, notifier) = manager(&format!("@{name}"), &address);
        let before = runtime::monotonic_usec();
        notifier.reloading();
        let said = heard(&socket);
        let stamp: u64 = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=runtime::monotonic_usec()).contains(&stamp), "{said}");
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(stamp as f64 / 1e6 <= uptime + 1.0, "microseconds since the machine started, not {stamp}");
    }

    #[test]
    fn a_status_is_one_short_line_and_sets_nothing_else() {
        assert_eq!(status_line("a\nREADY=1\u{1b}"), "STATUS=a READY=1 ");
        assert_eq!(status_line(&"é".repeat(1000)).chars().count(), "STATUS=".len() + STATUS_CHARS_MAX);
    }

    #[test]
    fn without_a_manager_nothing_happens_and_a_deaf_one_is_not_fatal() {
        let nobody = Notifier::default();
        nobody.ready("x");
        assert!(!nobody.is_heard());
        let gone = Notifier::to(OsStr::new("/nonexistent/notify")).unwrap();
        gone.watchdog();
        assert!(gone.is_heard());
        for name in ["notify", "vsock:2:1234", ""] {
            assert_eq!(Notifier::to(OsStr::new(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_time_by_the_process_it_asks() {
        let ask = |usec: Option<&str>, pid: Option<&str>| {
            let value = |name: &str| if name == "WATCHDOG_USEC" { usec } else { pid };
            interval_of(|name| value(name).map(OsString::from), 42)
        };
        assert_eq!(ask(Some("30000000"), Some("42")), Some(Duration::from_secs(15)));
        assert_eq!(ask(Some("3000000"), None), Some(Duration::from_millis(1500)));
        for (usec, pid) in
            [(None, None), (Some("0"), None), (Some("x"), None), (Some("1000"), Some("41")), (Some("1000"), Some("x"))]
        {
            assert_eq!(ask(usec, pid), None, "{usec:?} {pid:?}");
        }
    }
}
