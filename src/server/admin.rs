//! The health listener: whether to send this gate more work, and how its credentials are. For load balancers and scripts, not for artists.
//!
//! A thread of its own and blocking sockets, one connection at a time: an answer here says nothing about, and takes
//! nothing from, the shards.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, UNIX_EPOCH};

use crate::clock;
use crate::creds::Status;
use crate::creds::store::Statuses;
use crate::net::listen;

/// How the gate is.
#[derive(Debug, Default)]
pub struct Health {
    draining: AtomicBool,
    credentials: Statuses,
    listening: Vec<SocketAddr>,
}

impl Health {
    /// The health of a gate with these credentials, which listens there for clients.
    #[must_use]
    pub fn new(credentials: Statuses, listening: Vec<SocketAddr>) -> Self {
        Self { credentials, listening, ..Self::default() }
    }

    /// Says from now on that no new work is wanted.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the gate is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// The running listener.
pub struct Admin {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Takes the address, where nobody is answered yet.
    ///
    /// # Errors
    /// When it cannot be bound, with the likely cause.
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address).map_err(|error| listen::explain(address, &error))
    }

    /// Starts to answer.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(listener: TcpListener, health: Arc<Health>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread =
            thread::Builder::new().name("admin".to_owned()).spawn(move || run(&listener, &health, &stopped))?;
        Ok(Self { address, stop, thread })
    }

    /// The address it listens on, its port included when port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops answering and closes the listener, after the connection at hand.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        let mut own = self.address;
        match own.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => own.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => own.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        // The thread waits in `accept`; a connection gets it out. Where that fails it ends with the process.
        if TcpStream::connect_timeout(&own, PATIENCE).is_ok() {
            let _ = self.thread.join();
        }
    }
}

/// Where the gate listens for clients that answers at this admin address; `None` when none answers.
#[must_use]
pub fn listening(address: SocketAddr) -> Option<Vec<SocketAddr>> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /listening HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer: io::Result<String> = ask();
    let answer = answer.ok().filter(|answer| answer.starts_with("HTTP/1.1 200 OK\r\n"))?;
    answer.split_once("\r\n\r\n")?.1.lines().map(|line| line.parse().ok()).collect()
}

/// Bytes of an answer that are read; those of a gate with some hundred addresses are fewer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// How long one connection may take in all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of one request's head.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// How long to wait after an `accept` that failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client that sent more than was read may take to read the answer.
const LINGER: Duration = Duration::from_millis(200);

fn run(listener: &TcpListener, health: &Health, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            // A client that breaks off is nobody's concern.
            Ok((stream, _)) if !stop.load(Ordering::Acquire) => drop(serve(stream, health)),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("the admin listener cannot accept: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn serve(mut stream: TcpStream, health: &Health) -> io::Result<()> {
    let until = clock::mono() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    while !ends(&head) && head.len() < REQUEST_BYTES_MAX {
        let left = until.saturating_duration_since(clock::mono());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => break,
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    let answer = answer(&head, health);
    stream.write_all(&answer)?;
    stream.shutdown(Shutdown::Write)?;
    // Closing with bytes unread makes the kernel send a reset, which can overtake the answer.
    stream.set_read_timeout(Some(LINGER))?;
    let _ = stream.read(&mut chunk)?;
    Ok(())
}

fn ends(head: &[u8]) -> bool {
    head.windows(4).any(|window| window == b"\r\n\r\n")
}

/// The whole response to the bytes of a request.
fn answer(request: &[u8], health: &Health) -> Vec<u8> {
    let (with_body, status, body) = match request_line(request) {
        None => (true, "400 Bad Request", "bad request\n".to_owned()),
        Some((method, target)) => {
            let path = target.split('?').next().unwrap_or_default();
            let (status, body) = match (path, matches!(method, "GET" | "HEAD")) {
                ("/health" | "/ping", true) if health.is_draining() => ("503 Service Unavailable", "draining\n".into()),
                ("/health" | "/ping", true) => ("200 OK", "ok\n".into()),
                ("/listening", true) => {
                    ("200 OK", health.listening.iter().map(|address| format!("{address}\n")).collect())
                }
                ("/credentials", true) => ("200 OK", credentials(&health.credentials)),
                _ => ("404 Not Found", "not found\n".into()),
            };
            (method != "HEAD", status, body)
        }
    };
    let length = body.len();
    let body = if with_body { body } else { String::new() };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One line for each set of credentials. Names have no spaces; the error comes last, because it does.
fn credentials(statuses: &Statuses) -> String {
    let now = clock::now().wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut lines = String::new();
    for status in statuses.now() {
        let left = status.expires.map_or_else(|| "-".to_owned(), |at| at.saturating_sub(now).to_string());
        let Status { name, state, generation, refreshes, failures, doubts, error, .. } = status;
        let state = state.name();
        let _ = write!(
            lines,
            "name={name} state={state} seconds-left={left} generation={generation} refreshes={refreshes} \
             failures={failures} doubts={doubts}"
        );
        let error = error.map(|error| format!(" error={error:?}")).unwrap_or_default();
        let _ = writeln!(lines, "{error}");
    }
    lines
}

/// Method and target of a complete HTTP/1.x head.
fn request_line(request: &[u8]) -> Option<(&str, &str)> {
    if !ends(request) {
        return None;
    }
    let end = request.windows(2).position(|window| window == b"\r\n")?;
    let line = std::str::from_utf8(&request[..end]).ok()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic());
    let plain = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = matches!(version, "HTTP/1.0" | "HTTP/1.1") && words.next().is_none();
    (token && plain && fits).then_some((method, target))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests measure how long things take")]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::creds::store::Store;
    use crate::creds::{Command, CredentialOptions, Pace, Source, Sts};

    fn talk(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn start() -> (Admin, Arc<Health>) {
        let health = Arc::new(Health::new(Statuses::default(), vec!["10.0.0.1:443".parse().unwrap()]));
        let listener = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        (Admin::start(listener, Arc::clone(&health)).unwrap(), health)
    }

    #[test]
    fn each_request_has_its_answer() {
        let table: &[(&[u8], &str, &str)] = &[
            (b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", "ok\n"),
            (b"GET /ping HTTP/1.0\r\n\r\n", "200 OK", "ok\n"),
            (b"GET /ping?x=1 HTTP/1.1\r\n\r\ntrailing", "200 OK", "ok\n"),
            (b"HEAD /health HTTP/1.1\r\n\r\n", "200 OK", ""),
            (b"HEAD / HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found", "not found\n"),
            (b"GET /pingx HTTP/1.1\r\n\r\n", "404 Not Found", "not found\n"),
            (b"GET /credentials HTTP/1.1\r\n\r\n", "200 OK", ""),
            (b"POST /credentials HTTP/1.1\r\n\r\n", "404 Not Found", "not found\n"),
            (b"POST /health HTTP/1.1\r\n\r\n", "404 Not Found", "not found\n"),
            (b"GET /health HTTP/2.0\r\n\r\n", "400 Bad Request", "bad request\n"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 Bad Request", "bad request\n"),
            (b"GET /health  HTTP/1.1\r\n\r\n", "400 Bad Request", "bad request\n"),
            (b"GET /health HTTP/1.1 x\r\n\r\n", "400 Bad Request", "bad request\n"),
            (b" /health HTTP/1.1\r\n\r\n", "400 Bad Request", "bad request\n"),
            (b"GET health HTTP/1.1\r\n\r\n", "400 Bad Request", "bad request\n"),
            (b"GET /health HTTP/1.1\r\nHost: a\r\n", "400 Bad Request", "bad request\n"),
            (b"\x16\x03\x01\x02\x00\r\n\r\n", "400 Bad Request", "bad request\n"),
            (b"", "400 Bad Request", "bad request\n"),
        ];
        for (request, status, body) in table {
            let answer = String::from_utf8(answer(request, &Health::default())).unwrap();
            let shown = request.escape_ascii();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{shown}: {answer}");
            assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, *body, "{shown}");
            assert!(
                answer.contains("\r\nContent-Type: text/plain\r\n") && answer.contains("\r\nConnection: close\r\n")
            );
        }
    }

    #[test]
    fn credentials_are_shown_one_a_line_without_secrets() {
        let printing = |name: &str, command: &str| CredentialOptions {
            name: name.into(),
            source: Source::Process(Command(command.into())),
            region: None,
            roles: Vec::new(),
            sts: Sts::default(),
            pace: Pace::default(),
        };
        let good = r#"echo '{"Version":1,"AccessKeyId":"AKID","SecretAccessKey":"SEKRET"}'"#;
        let (store, _slots) = Store::start(vec![printing("good", good), printing("bad", "exit 1 # SEKRET")]).unwrap();
        assert!(store.wait_first(Duration::from_secs(20)));
        let answer = answer(b"GET /credentials HTTP/1.1\r\n\r\n", &Health::new(store.statuses(), Vec::new()));
        let answer = String::from_utf8(answer).unwrap();
        let lines: Vec<_> = answer.split_once("\r\n\r\n").unwrap().1.lines().collect();
        assert_eq!(lines[0], "name=good state=valid seconds-left=- generation=1 refreshes=1 failures=0 doubts=0");
        assert!(lines[1].starts_with("name=bad state=missing seconds-left=- generation=0 refreshes=0 failures="));
        assert!(lines.len() == 2 && lines[1].contains("exit status: 1") && !answer.contains("SEKRET"), "{answer}");
    }

    #[test]
    fn a_head_response_has_the_length_of_its_get() {
        let get = answer(b"GET /ping HTTP/1.1\r\n\r\n", &Health::default());
        let head = answer(b"HEAD /ping HTTP/1.1\r\n\r\n", &Health::default());
        assert_eq!(get.strip_suffix(b"ok\n"), Some(&head[..]));
        assert!(head.windows(17).any(|window| window == b"Content-Length: 3"));
    }

    #[test]
    fn a_running_listener_answers_whole_and_byte_by_byte_and_tells_of_draining() {
        let (admin, health) = start();
        let request = b"GET /health HTTP/1.1\r\nHost: gate\r\n\r\n";
        assert!(talk(admin.local_addr(), request).ends_with("\r\n\r\nok\n"));
        let mut stream = TcpStream::connect(admin.local_addr()).unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in request {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(listening(admin.local_addr()).unwrap(), ["10.0.0.1:443".parse().unwrap()]);
        health.set_draining();
        assert_eq!(listening(admin.local_addr()).unwrap(), ["10.0.0.1:443".parse().unwrap()]);
        let answer = talk(admin.local_addr(), request);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("draining\n"), "{answer}");
        let address = admin.local_addr();
        admin.stop();
        assert_eq!(listening(address), None);
    }

    #[test]
    fn an_endless_head_is_refused_at_the_bound() {
        let (admin, _) = start();
        let answer = talk(admin.local_addr(), &vec![b'a'; REQUEST_BYTES_MAX]);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        admin.stop();
    }

    #[test]
    fn a_silent_client_holds_the_listener_up_for_a_bounded_time() {
        let (admin, _) = start();
        let start = Instant::now();
        let silent = TcpStream::connect(admin.local_addr()).unwrap();
        assert!(talk(admin.local_addr(), b"GET /ping HTTP/1.1\r\n\r\n").ends_with("ok\n"));
        assert!(start.elapsed() < PATIENCE + Duration::from_secs(1));
        drop(silent);
        admin.stop();
    }

    #[test]
    fn stopping_is_prompt_and_frees_the_address() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let admin = Admin::start(Admin::bind(address.parse().unwrap()).unwrap(), Arc::default()).unwrap();
            let (start, port) = (Instant::now(), admin.local_addr().port());
            admin.stop();
            assert!(start.elapsed() < Duration::from_secs(1));
            assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        }
    }

    #[test]
    fn an_address_in_use_is_named_in_the_error() {
        let (admin, _) = start();
        let error = Admin::bind(admin.local_addr()).err().unwrap();
        assert!(error.to_string().contains(&admin.local_addr().to_string()), "{error}");
        admin.stop();
    }
}
