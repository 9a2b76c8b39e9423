//! A gate that is given one configuration after the other, over real loopback sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use filmgate::clock;
use filmgate::creds::{Command, CredentialOptions, Pace, Source, Sts};
use filmgate::pipe::Splice;
use filmgate::policy::route::{Mode, Route, UpstreamHost};
use filmgate::proxy::upstream::UpstreamOptions;
use filmgate::proxy::{Limits, Timeouts};
use filmgate::server::logging::Level;
use filmgate::server::{AccessLog, Gate, Options};
use filmgate::tls::config::Kernel;

/// Answers every request with its name.
struct Storage {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Storage {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    while head(&mut stream).is_some() {
                        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                        if stream.get_mut().write_all(text.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, connections }
    }
}

fn head(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(n) if n > 0 && line == "\r\n" => return Some(lines),
            Ok(n) if n > 0 => lines.push(line),
            _ => return None,
        }
    }
}

/// One route a host, each to an upstream of its own.
fn options(routes: &[(&str, &Storage)]) -> Options {
    let route = |(upstream, (host, _)): (usize, &(&str, &Storage))| Route {
        hosts: vec![(*host).to_owned()],
        default: false,
        bucket: "films".to_owned(),
        region: "eu-west-1".to_owned(),
        mode: Mode::PassThrough,
        host: UpstreamHost::Replace("films.test".to_owned()),
        upstream,
    };
    let upstream = |(_, storage): &(&str, &Storage)| UpstreamOptions {
        name: storage.address.to_string(),
        connect: vec![(storage.address.ip().to_string(), storage.address.port())],
        tls: None,
    };
    Options {
        https: Vec::new(),
        http: vec!["127.0.0.1:0".parse().unwrap()],
        admin: None,
        tls: None,
        kernel: Kernel::Off,
        workers: Some(2),
        pin: false,
        routes: routes.iter().enumerate().map(route).collect(),
        upstreams: routes.iter().map(upstream).collect(),
        timeouts: Timeouts { drain: Duration::from_secs(20), ..Timeouts::default() },
        limits: Limits::default(),
        splice: Splice::default(),
        clients: Vec::new(),
        credentials: Vec::new(),
        access_log: AccessLog::Off,
        log_level: Level::default(),
    }
}

/// One kept client connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(gate: &Gate) -> Self {
        let stream = TcpStream::connect(gate.http_addrs()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(BufReader::new(stream))
    }

    /// The status and the body.
    fn get(&mut self, host: &str) -> (u16, String) {
        write!(self.0.get_mut(), "GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let head = head(&mut self.0).expect("an answer");
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        let length =
            head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
        let mut body = vec![0; length.unwrap().trim().parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

/// Descriptors and threads are counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_thousand_configurations_leave_nothing_behind_and_no_exchange_sees_two_of_them() {
    let _alone = alone();
    let (one, two) = (Storage::start("one"), Storage::start("two"));
    // The upstreams change places, so whoever mixed two configurations would go to the wrong one.
    let ways = [options(&[("one", &one), ("two", &two)]), options(&[("two", &two), ("one", &one)])];
    let mut gate = Gate::start(ways[0].clone()).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for host in ["one", "two"] {
            let (mut client, over) = (Client::connect(&gate), &over);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(client.get(host), (200, host.to_owned()));
                }
            });
        }
        // An idle client keeps what it began with, and no more.
        let mut idle = Client::connect(&gate);
        assert_eq!(idle.get("one").0, 200);
        for round in 0..100 {
            assert!(gate.reload(ways[round % 2].clone()).unwrap().is_empty());
        }
        let before = (open_files(), threads());
        for round in 0..1000 {
            assert!(gate.reload(ways[round % 2].clone()).unwrap().is_empty());
        }
        let after = (open_files(), threads());
        over.store(true, Ordering::SeqCst);
        assert_eq!(idle.get("two"), (200, "two".to_owned()));
        assert!(after.0 <= before.0 + 4 && after.1 <= before.1, "{before:?} {after:?}");
    });
    for storage in [&one, &two] {
        let connections = storage.connections.load(Ordering::SeqCst);
        assert!(connections <= 8, "connections to upstreams that stay are kept: {connections}");
    }
    gate.stop().unwrap();
}

#[test]
fn the_next_exchange_is_served_by_the_new_configuration_and_what_went_is_closed() {
    let _alone = alone();
    let (one, two) = (Storage::start("one"), Storage::start("two"));
    let mut gate = Gate::start(options(&[("a", &one)])).unwrap();
    let mut client = Client::connect(&gate);
    assert_eq!(client.get("a"), (200, "one".to_owned()));
    let files = open_files();
    gate.reload(options(&[("b", &two)])).unwrap();
    let start = clock::mono();
    while open_files() >= files {
        assert!(start.elapsed() < Duration::from_secs(5), "the connection to the upstream that went is closed");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.get("a").0, 421);
    assert_eq!(client.get("b"), (200, "two".to_owned()));
    gate.stop().unwrap();
}

#[test]
fn what_cannot_be_used_changes_nothing_and_what_needs_a_restart_is_named() {
    let _alone = alone();
    let (one, two) = (Storage::start("one"), Storage::start("two"));
    let mut gate = Gate::start(options(&[("a", &one)])).unwrap();
    let mut client = Client::connect(&gate);
    let mut broken = options(&[("b", &two)]);
    broken.upstreams[0].tls = Some(filmgate::tls::config::ClientOptions {
        server_name: "films.test".to_owned(),
        ca_file: Some("nowhere.pem".into()),
        max_version: filmgate::tls::config::Version::Tls13,
        records: filmgate::tls::config::Records::default(),
    });
    let error = gate.reload(broken).unwrap_err().to_string();
    assert!(error.contains("nowhere.pem"), "{error}");
    assert_eq!(client.get("b").0, 421);
    assert_eq!(client.get("a"), (200, "one".to_owned()));
    let other = Options {
        http: vec!["127.0.0.1:1".parse().unwrap()],
        workers: Some(1),
        access_log: AccessLog::Stdout,
        ..options(&[("b", &two)])
    };
    assert_eq!(gate.reload(other).unwrap(), ["listen.http", "workers.count", "access-log.file"]);
    assert_eq!(client.get("b"), (200, "two".to_owned()));
    gate.stop().unwrap();
}

#[test]
fn limits_count_from_now_on() {
    let _alone = alone();
    let one = Storage::start("one");
    let limited = |connections_max| {
        let limits = Limits { connections_max, ..Limits::default() };
        Options { limits, workers: Some(1), ..options(&[("a", &one)]) }
    };
    let mut gate = Gate::start(limited(1)).unwrap();
    let mut first = Client::connect(&gate);
    assert_eq!(first.get("a").0, 200);
    let mut second = Client::connect(&gate);
    let waiting = thread::spawn(move || second.get("a").0);
    thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished(), "there is no seat");
    gate.reload(limited(2)).unwrap();
    assert_eq!(waiting.join().unwrap(), 200);
    assert_eq!(first.get("a").0, 200);
    gate.stop().unwrap();
}

/// What a command prints who is called `name`.
fn printed(name: &str) -> String {
    format!(r#"echo '{{"Version": 1, "AccessKeyId": "{name}", "SecretAccessKey": "k"}}'"#)
}

fn with_credential(storage: &Storage, name: &str, command: String) -> Options {
    let credential = CredentialOptions {
        name: name.to_owned(),
        source: Source::Process(Command(command)),
        region: None,
        roles: Vec::new(),
        sts: Sts::default(),
        pace: Pace::default(),
    };
    Options { credentials: vec![credential], ..options(&[("a", storage)]) }
}

#[test]
fn credentials_that_are_good_are_not_given_up_for_ones_that_cannot_be_had() {
    let _alone = alone();
    let one = Storage::start("one");
    let mut gate = Gate::start(with_credential(&one, "role", printed("AKONE"))).unwrap();
    let key = |gate: &Gate| gate.credentials()[0].current().map(|credentials| credentials.access_key.clone());
    assert_eq!(key(&gate).as_deref(), Some("AKONE"));
    for (command, why) in [("exit 3", "exit status: 3"), ("sleep 60", "no answer yet")] {
        let error = gate.reload(with_credential(&one, "role", command.to_owned())).unwrap_err().to_string();
        assert!(error.contains("\"role\"") && error.contains(why), "{error}");
        assert_eq!(key(&gate).as_deref(), Some("AKONE"));
    }
    gate.reload(with_credential(&one, "role", printed("AKTWO"))).unwrap();
    assert_eq!(key(&gate).as_deref(), Some("AKTWO"));
    // Another one takes nobody's place.
    gate.reload(with_credential(&one, "other", "exit 3".to_owned())).unwrap();
    assert_eq!(key(&gate), None);
    gate.stop().unwrap();
}

#[test]
fn a_credential_that_goes_takes_its_process_with_it() {
    let _alone = alone();
    let (one, directory) = (Storage::start("one"), tempfile::tempdir().unwrap());
    let file = directory.path().join("process");
    let command = format!("echo $$ > {0}.new && mv {0}.new {0} && exec sleep 100", file.display());
    let mut gate = Gate::start(with_credential(&one, "role", command)).unwrap();
    let process = std::fs::read_to_string(&file).unwrap();
    let process = format!("/proc/{}/cmdline", process.trim());
    assert!(std::fs::read(&process).unwrap().starts_with(b"sleep"));
    gate.reload(options(&[("a", &one)])).unwrap();
    let start = clock::mono();
    // A process that has ended and that nobody has asked about has no command line any more.
    while !std::fs::read(&process).unwrap_or_default().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "it goes on");
        thread::sleep(Duration::from_millis(20));
    }
    gate.stop().unwrap();
}

#[test]
fn an_access_log_that_cannot_be_written_is_refused() {
    let _alone = alone();
    let (one, directory) = (Storage::start("one"), tempfile::tempdir().unwrap());
    let log = |name: &str| directory.path().join(name);
    let logged = |name: &str| Options { access_log: AccessLog::File(log(name)), ..options(&[("a", &one)]) };
    let mut gate = Gate::start(logged("first")).unwrap();
    let error = gate.reload(logged("nowhere/second")).unwrap_err().to_string();
    assert!(error.contains("access-log.file") && error.contains("nowhere"), "{error}");
    gate.reload(logged("second")).unwrap();
    assert_eq!(Client::connect(&gate).get("a").0, 200);
    gate.stop().unwrap();
    let size = |name: &str| std::fs::metadata(log(name)).unwrap().len();
    assert!(size("first") == 0 && size("second") > 0, "{} {}", size("first"), size("second"));
}

#[test]
fn a_gate_that_cannot_have_its_admin_address_takes_nobody_in_before_it_says_so() {
    let _alone = alone();
    let (one, taken) = (Storage::start("one"), TcpListener::bind("127.0.0.1:0").unwrap());
    // Who connects to a free port at the address it comes from may meet itself.
    let free = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let (over, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                connected.fetch_add(usize::from(TcpStream::connect(free).is_ok()), Ordering::SeqCst);
            }
        });
        let start = clock::mono();
        for _ in 0..5 {
            let options =
                Options { http: vec![free], admin: Some(taken.local_addr().unwrap()), ..options(&[("a", &one)]) };
            let error = Gate::start(options).err().unwrap().to_string();
            assert!(error.starts_with("listen.admin: "), "{error}");
        }
        over.store(true, Ordering::SeqCst);
        assert!(start.elapsed() < Duration::from_secs(10), "it drains nobody");
    });
    assert_eq!(connected.into_inner(), 0);
}

#[test]
fn all_workers_hear_of_a_limit() {
    let _alone = alone();
    let one = Storage::start("one");
    let limited = |connections_max| {
        let limits = Limits { connections_max, ..Limits::default() };
        Options { limits, ..options(&[("a", &one)]) }
    };
    let mut gate = Gate::start(limited(1)).unwrap();
    let mut seated: Vec<_> = (0..2).map(|_| Client::connect(&gate)).collect();
    assert!(seated.iter_mut().all(|client| client.get("a").0 == 200), "one each");
    // So many that each worker has to take its full share, wherever the kernel sends them.
    let mut more: Vec<_> = (0..14).map(|_| Client::connect(&gate)).collect();
    let waiting = thread::spawn(move || more.iter_mut().all(|client| client.get("a").0 == 200));
    thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished(), "there is no seat");
    gate.reload(limited(8)).unwrap();
    assert!(waiting.join().unwrap());
    gate.stop().unwrap();
}
