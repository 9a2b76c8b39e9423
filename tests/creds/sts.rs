//! An STS that says what a test wants to hear, over plain HTTP or TLS on the loopback.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

/// What it answers from now on.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Credentials for so many seconds.
    Give(u64),
    /// A status, and a body that is no error of STS.
    Broken(u16),
    /// An error of STS: its code and its message, in which `TOKEN` stands for the caller's.
    Refuse(&'static str, &'static str),
    /// Nothing: the connection is closed.
    HangUp,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) form: HashMap<String, String>,
    pub(crate) authorization: String,
    pub(crate) token: Option<String>,
}

pub(crate) struct Sts {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    reply: Mutex<Reply>,
    delay: Mutex<Duration>,
    asked: Mutex<Vec<Asked>>,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
}

impl Sts {
    pub(crate) fn start(reply: Reply) -> Self {
        Self::start_with(reply, None)
    }

    pub(crate) fn start_with(reply: Reply, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            reply: Mutex::new(reply),
            delay: Mutex::default(),
            asked: Mutex::default(),
            at_once: AtomicUsize::new(0),
            at_once_max: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, tls) = (Arc::clone(&serving), tls.clone());
                thread::spawn(move || match tls {
                    None => shared.serve(stream),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).unwrap();
                        shared.serve(rustls::StreamOwned::new(session, stream));
                    }
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn endpoint(&self) -> Option<String> {
        Some(format!("http://{}", self.address))
    }

    pub(crate) fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    pub(crate) fn delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The most requests that were open at the same time.
    pub(crate) fn at_once_max(&self) -> usize {
        self.shared.at_once_max.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve<S: Read + Write>(&self, stream: S) {
        let mut stream = BufReader::new(stream);
        while let Some(asked) = read(&mut stream) {
            let open = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.at_once_max.fetch_max(open, Ordering::SeqCst);
            let number = {
                let mut all = self.asked.lock().unwrap();
                all.push(asked.clone());
                all.len()
            };
            let delay = *self.delay.lock().unwrap();
            thread::sleep(delay);
            let reply = self.reply.lock().unwrap().clone();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            let (status, body) = match reply {
                Reply::Give(seconds) => (200, given(number, seconds)),
                Reply::Broken(status) => (status, "out of order".to_owned()),
                Reply::Refuse(code, message) => {
                    let message = message.replace("TOKEN", asked.token.as_deref().unwrap_or("none"));
                    (
                        403,
                        format!(
                            "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
                        ),
                    )
                }
                Reply::HangUp => return,
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n");
            if stream.get_mut().write_all((head + &body).as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
                return;
            }
        }
    }
}

/// Keys that say which answer they were in.
fn given(number: usize, seconds: u64) -> String {
    let expires = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(seconds));
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>ASIA{number:016}</AccessKeyId><SecretAccessKey>{SECRET}key{number}</SecretAccessKey>\
         <SessionToken>{SECRET}token{number}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
         </AssumeRoleResult></AssumeRoleResponse>"
    )
}

/// What every secret of these tests begins with.
pub(crate) const SECRET: &str = "SEKRET";

fn read<S: Read>(stream: &mut BufReader<S>) -> Option<Asked> {
    let (mut length, mut authorization, mut token) = (0, String::new(), None);
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => authorization = value.to_owned(),
            "x-amz-security-token" => token = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let pairs = body.split('&').map(|pair| pair.split_once('=').unwrap());
    Some(Asked { form: pairs.map(|(key, value)| (decoded(key), decoded(value))).collect(), authorization, token })
}

fn decoded(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).unwrap()
}

/// An address that nothing listens on.
pub(crate) fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Whether something listens there.
pub(crate) fn answers(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}
