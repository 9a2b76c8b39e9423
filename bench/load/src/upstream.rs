//! The S3 stand-in: GET of any size by path, PUT of any body, over plain connections and TLS ones, and counts of what it
//! saw at `/-/counts` of the plain listener.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use crate::Failure;
use crate::arguments::Arguments;
use crate::body;
use crate::connection::{Arrival, Connection, Scratch};
use crate::head;
use crate::poll::{Interest, Poll};
use crate::report::Report;
use crate::session::{self, Session};

/// The beginning of a response that goes out in one piece with its head, in bytes.
const ONE_PIECE: u64 = 64 * 1024;
/// Numbers of the listeners; connections come behind.
const PLAIN: usize = 0;
const TLS: usize = 1;
const FIRST: usize = 2;

#[derive(Default)]
struct Counts {
    plain_connections: u64,
    tls_connections: u64,
    full_handshakes: u64,
    resumed_handshakes: u64,
    requests: u64,
}

impl Counts {
    fn report(&self) -> String {
        Report::new()
            .count("plain_connections", self.plain_connections)
            .count("tls_connections", self.tls_connections)
            .count("full_handshakes", self.full_handshakes)
            .count("resumed_handshakes", self.resumed_handshakes)
            .count("requests", self.requests)
            .finish()
    }
}

struct Peer {
    connection: Connection,
    counted: bool,
    /// The request head so far.
    head: Vec<u8>,
    /// The upload: its length, once its head is there, and how much of it came.
    upload: Option<(u64, u64)>,
    intact: bool,
    /// The body being sent: its length and how much of it is gone.
    download: (u64, u64),
}

struct Upstream {
    poll: Poll,
    scratch: Scratch,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    counts: Counts,
}

/// `--plain ADDRESS --tls ADDRESS --certificate FILE --key FILE --seconds MOST`
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plain = TcpListener::bind(arguments.need::<String>("plain")?)?;
    let tls = TcpListener::bind(arguments.need::<String>("tls")?)?;
    let certificate: String = arguments.need("certificate")?;
    let config = session::server_config(&certificate, &arguments.need::<String>("key")?)?;
    let end = Instant::now() + Duration::from_secs(arguments.need("seconds")?);
    arguments.finish()?;
    let poll = Poll::new()?;
    for (listener, number) in [(&plain, PLAIN), (&tls, TLS)] {
        // The standard library's backlog of 128 is too short for a burst of new connections.
        rustix::net::listen(listener, 4096)?;
        listener.set_nonblocking(true)?;
        poll.add(listener, number, Interest::Read)?;
    }
    let mut upstream =
        Upstream { poll, scratch: Scratch::new(), peers: Vec::new(), free: Vec::new(), counts: Counts::default() };
    let mut ready = Vec::new();
    while Instant::now() < end {
        upstream.poll.wait(&mut ready, Duration::from_secs(1))?;
        for &number in &ready {
            match number {
                PLAIN => upstream.accept(&plain, None)?,
                TLS => upstream.accept(&tls, Some(&config))?,
                _ => upstream.serve(number - FIRST),
            }
        }
    }
    Ok(())
}

impl Upstream {
    fn accept(&mut self, listener: &TcpListener, config: Option<&Arc<ServerConfig>>) -> Result<(), Failure> {
        while let Ok((socket, _)) = listener.accept() {
            let place = self.free.pop().unwrap_or(self.peers.len());
            let session = config.map(Session::server).transpose()?;
            *(if session.is_some() { &mut self.counts.tls_connections } else { &mut self.counts.plain_connections }) +=
                1;
            let connection = Connection::new(socket, session, &self.poll, place + FIRST)?;
            let peer =
                Peer { connection, counted: false, head: Vec::new(), upload: None, intact: true, download: (0, 0) };
            if place == self.peers.len() {
                self.peers.push(None);
            }
            self.peers[place] = Some(peer);
        }
        Ok(())
    }

    fn serve(&mut self, place: usize) {
        let Some(mut peer) = self.peers.get_mut(place).and_then(Option::take) else { return };
        // Peers cut connections as they like, at the end of a run above all: that is theirs to report.
        match peer.advance(&self.poll, &mut self.scratch, &mut self.counts) {
            Ok(()) if !peer.connection.closed => self.peers[place] = Some(peer),
            _ => self.free.push(place),
        }
    }
}

impl Peer {
    fn advance(&mut self, poll: &Poll, scratch: &mut Scratch, counts: &mut Counts) -> Result<(), Failure> {
        if self.download.1 < self.download.0 || !self.connection.flush()? {
            self.send(scratch)?;
        } else {
            self.receive(scratch, counts)?;
        }
        self.connection.settle(poll, self.download.1 < self.download.0)
    }

    fn send(&mut self, scratch: &mut Scratch) -> Result<(), Failure> {
        let (length, gone) = self.download;
        self.download.1 += self.connection.send_body(&scratch.pattern, gone, length - gone)?;
        Ok(())
    }

    fn receive(&mut self, scratch: &mut Scratch, counts: &mut Counts) -> Result<(), Failure> {
        let Peer { connection, head, upload, intact, .. } = self;
        let missing = upload.map_or(0, |(length, came)| length - came);
        let mut failure = None;
        connection.receive(scratch, missing, &mut |pattern, arrival| match arrival {
            Arrival::Skipped(count) => {
                if let Some((_, came)) = upload {
                    *came += count;
                }
            }
            Arrival::Bytes(mut bytes) => {
                if upload.is_none() {
                    let old = head.len();
                    head.extend_from_slice(bytes);
                    let Some(end) = head::end(head) else {
                        if head.len() > head::LONGEST {
                            failure = Some("a head has no end");
                        }
                        return;
                    };
                    bytes = &bytes[end - old..];
                    head.truncate(end);
                    *upload = Some((head::content_length(head).unwrap_or(0), 0));
                    *intact = true;
                }
                if let Some((_, came)) = upload {
                    *intact &= pattern.matches(*came, bytes);
                    *came += bytes.len() as u64;
                }
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        if !self.counted && self.connection.established {
            self.counted = true;
            match self.connection.resumed() {
                Some(true) => counts.resumed_handshakes += 1,
                Some(false) => counts.full_handshakes += 1,
                None => {}
            }
        }
        match self.upload {
            Some((length, came)) if came > length => Err("bytes behind the request".into()),
            Some((length, came)) if came == length => self.answer(scratch, counts),
            _ => Ok(()),
        }
    }

    fn answer(&mut self, scratch: &Scratch, counts: &mut Counts) -> Result<(), Failure> {
        self.upload = None;
        let head = std::mem::take(&mut self.head);
        let mut words = head::first_line(&head).split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if path == "/-/counts" {
            let body = counts.report();
            let mut answer = head::response("200 OK", body.len() as u64);
            answer.extend_from_slice(body.as_bytes());
            return self.connection.send(&answer);
        }
        counts.requests += 1;
        let (status, length) = match method {
            "GET" => match body::length_of(path) {
                Some(length) => ("200 OK", length),
                None => ("404 Not Found", 0),
            },
            "PUT" if self.intact => ("200 OK", 0),
            _ => ("400 Bad Request", 0),
        };
        let mut answer = head::response(status, length);
        // Records are full from the first one on, as those of servers are that write head and body as one stream.
        let first = if length <= ONE_PIECE { length } else { ONE_PIECE - answer.len() as u64 };
        answer.extend_from_slice(scratch.pattern.at(0, first));
        self.connection.send(&answer)?;
        if first < length {
            self.download = (length, first);
            self.download.1 += self.connection.send_body(&scratch.pattern, first, length - first)?;
        }
        // The next head goes where this one was.
        self.head = head;
        self.head.clear();
        Ok(())
    }
}
