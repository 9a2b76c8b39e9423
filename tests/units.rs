//! What is under `systemd/`, as systemd reads it. What only shows when it runs is the boot test's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use filmgate::limits;
use filmgate::net::runtime;
use filmgate::proxy::{Limits, Timeouts};

/// The least that `systemd-analyze security` may say against the service.
const EXPOSURE_MAX: f64 = 1.6;

/// Workers that the limits of the unit are made for.
const WORKERS: u64 = 29;

fn systemd(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(systemd(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The last value of each setting.
fn settings(text: &str) -> HashMap<&str, &str> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect()
}

fn seconds(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).expect("a unit"));
    Duration::from_secs(number.parse::<u64>().unwrap() * if unit == "min" { 60 } else { 1 })
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Copies of the units in which the program is the one under test and others are where this machine has them.
fn units() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["filmgate.service", "filmgate.socket"] {
        let mut text = read(name).replace("/usr/bin/filmgate", env!("CARGO_BIN_EXE_filmgate"));
        for program in ["/sbin/modprobe", "/bin/kill"] {
            if !Path::new(program).exists() {
                text = text.replace(program, "/bin/true");
            }
        }
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let units = units();
    for name in ["filmgate.service", "filmgate.socket"] {
        let mut verify = Command::new("systemd-analyze");
        let verify = verify.args(["verify", "--man=no", "--generators=no"]).arg(units.path().join(name));
        let output = verify.output().expect("tests/setup installs systemd-analyze");
        assert!(output.status.success() && said(&output).is_empty(), "{name}: {}", said(&output));
    }
}

#[test]
fn the_service_is_as_little_exposed_as_it_can_be() {
    let units = units();
    let mut security = Command::new("systemd-analyze");
    let security =
        security.args(["--offline=yes", "--no-pager", "security"]).arg(units.path().join("filmgate.service"));
    let said = said(&security.output().expect("tests/setup installs systemd-analyze"));
    let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{said}"));
    let level = line.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|level| level.parse().ok());
    let level: f64 = level.unwrap_or_else(|| panic!("{line}"));
    assert!(level > 0.0 && level <= EXPOSURE_MAX, "{said}");
}

#[test]
fn the_user_of_the_service_is_the_one_that_is_made() {
    let root = tempfile::tempdir().unwrap();
    let mut sysusers = Command::new("systemd-sysusers");
    let sysusers = sysusers.arg("--dry-run").arg("--root").arg(root.path()).arg(systemd("sysusers.d/filmgate.conf"));
    let output = sysusers.output().expect("tests/setup installs systemd-sysusers");
    assert!(output.status.success(), "{}", said(&output));
    let (users, service) = (read("sysusers.d/filmgate.conf"), read("filmgate.service"));
    let service = settings(&service);
    let made = users.lines().find(|line| line.starts_with("u ")).unwrap().split(' ').nth(1);
    assert_eq!((service.get("User").copied(), service.get("Group").copied()), (made, made));
    let directories = read("tmpfiles.d/filmgate.conf");
    assert!(directories.contains("d /etc/filmgate/tls 0750 root filmgate"), "{directories}");
}

#[test]
fn the_unit_waits_longer_than_transfers_may_take_to_finish() {
    let unit = read("filmgate.service");
    let unit = settings(&unit);
    let drain = Timeouts::default().drain;
    assert_eq!(drain, Duration::from_secs(300));
    assert!(
        seconds(unit["TimeoutStopSec"]) >= drain + Duration::from_secs(20),
        "what is broken off takes a moment too"
    );
    assert_eq!((unit["Type"], unit["Restart"]), ("notify", "on-failure"));
    assert!(seconds(unit["WatchdogSec"]) >= Duration::from_secs(10), "a shard's heart beats once a second");
}

#[test]
fn a_start_that_fails_at_once_is_tried_again_for_some_minutes_and_then_no_more() {
    let unit = read("filmgate.service");
    let unit = settings(&unit);
    let tries: u32 = unit["StartLimitBurst"].parse().unwrap();
    let (pause, interval) = (seconds(unit["RestartSec"]), seconds(unit["StartLimitIntervalSec"]));
    assert!(pause * tries >= Duration::from_secs(300), "the unit says so");
    // A try that fails takes a moment itself, and one of names or credentials some seconds.
    assert!((pause + Duration::from_secs(15)) * tries < interval, "it would never end");
    assert_eq!(unit["RestartPreventExitStatus"], filmgate::config::cli::REFUSED.to_string());
}

#[test]
fn a_reload_asks_the_gate_and_nobody_who_has_no_credentials() {
    let unit = read("filmgate.service");
    let reload: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("ExecReload=")).collect();
    assert_eq!(reload, ["/bin/kill -HUP $MAINPID"]);
}

#[test]
fn variables_of_the_examples_are_read_by_the_gate() {
    let example = read("examples/override.conf");
    let set = example.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("Environment="));
    let names = set.flat_map(|set| set.split(' ')).map(|pair| pair.split('=').next().unwrap());
    let own: Vec<_> = names.filter(|name| !name.starts_with("AWS_")).collect();
    let logging = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/logging/mod.rs");
    let logging = std::fs::read_to_string(logging).unwrap();
    assert!(!own.is_empty());
    for name in own {
        assert!(logging.contains(&format!("env::var(\"{name}\")")), "{name}");
    }
}

#[test]
fn the_limits_of_the_unit_are_enough_for_the_workers_it_names() {
    let unit = read("filmgate.service");
    let unit = settings(&unit);
    let locked = unit["LimitMEMLOCK"].strip_suffix('M').unwrap().parse::<u64>().unwrap() << 20;
    assert_eq!(locked / runtime::RING_BYTES / 2, 630, "workers, twice over: the unit says so");
    assert_eq!((8 << 20) / runtime::RING_BYTES / 2, 19, "workers with the default: the unit says so");
    let bounds = Limits::default();
    let pipes = limits::PIPES_LENT_MAX + limits::PIPES_KEPT_MAX;
    let descriptors = 2 * (bounds.connections_max + pipes) + bounds.upstream_idle_max;
    assert_eq!(unit["LimitNOFILE"].parse::<u64>().unwrap() / descriptors as u64, WORKERS, "workers that are full");
}

#[test]
fn the_socket_unit_listens_where_the_packaged_configuration_does() {
    let unit = read("filmgate.socket");
    let listens: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/filmgate.toml");
    let packaged = std::fs::read_to_string(packaged).unwrap();
    let https = packaged.lines().find_map(|line| line.strip_prefix("https = ")).unwrap();
    assert_eq!(https, format!("{listens:?}"));
}

#[test]
fn every_line_of_the_examples_is_explained_and_none_is_in_force() {
    let sysctl = read("sysctl.d/60-filmgate.conf");
    for paragraph in sysctl.split("\n\n") {
        assert!(paragraph.starts_with("# "), "{paragraph}");
        let settings: Vec<_> = paragraph.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(settings.iter().all(|line| line.contains(" = ")) && settings.len() <= 2, "{paragraph}");
    }
    let example = read("examples/override.conf");
    let in_force: Vec<_> = example.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(in_force, ["[Service]"]);
    assert!(example.contains("#LoadCredential=key.pem:"), "{example}");
    let loaded = read("modules-load.d/filmgate.conf");
    assert_eq!(loaded.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), ["tls"]);
}
