//! A client: sends the requests of its session, reads what comes back, and remembers both.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use filmgate::buffer::Pool;
use filmgate::clock::Deadline;
use filmgate::link::Link;
use filmgate::proxy::secure::{Secure, Wire};
use filmgate::tls::config::Version;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::faults::Table;
use crate::link::SimLink;
use crate::pki;
use crate::plan::{Framing, HOST, Planned, Session};
use crate::rng::Rng;
use crate::wire::{Broken, Head, Reader, Stream, send};

/// What became of one request.
#[derive(Debug)]
pub enum Outcome {
    /// A whole response.
    Complete { head: Head, body: Vec<u8>, head_at: Instant },
    /// The stream ended first. What had come of the response by then.
    Broken { why: Broken, head: Option<Head>, body: Vec<u8> },
    /// The connection was over before its turn.
    Unanswered,
}

/// What the two halves of a client tell each other.
struct Progress {
    /// Requests begun.
    begun: Cell<usize>,
    /// Requests completely sent.
    sent: Cell<usize>,
    /// Requests answered.
    answered: Cell<usize>,
    /// Requests told to go on.
    continued: Cell<usize>,
    /// Nothing more can be sent, or nothing more will be read.
    over: Cell<bool>,
    changed: Notify,
}

impl Progress {
    fn set(&self, cell: &Cell<usize>, to: usize) {
        cell.set(to);
        self.changed.notify_waiters();
    }

    fn end(&self) {
        self.over.set(true);
        self.changed.notify_waiters();
    }

    /// Waits until `there` or the end.
    async fn wait(&self, there: impl Fn(&Self) -> bool) {
        while !there(self) && !self.over.get() {
            self.changed.notified().await;
        }
    }
}

/// Runs the session; one outcome a request.
pub async fn run(link: SimLink, tls: Option<Version>, session: &Session, table: &Table, rng: Rng) -> Vec<Outcome> {
    let link = match tls {
        None => Wire::Plain(link),
        Some(version) => {
            let config = pki::client(HOST, version);
            match Secure::connect(link, &config, &Pool::new(0), Deadline::after(PATIENCE)).await {
                Ok(secure) => Wire::Tls(Box::new(secure)),
                Err(_) => {
                    let why = Broken::Failed(std::io::ErrorKind::ConnectionRefused);
                    let mut outcomes = vec![Outcome::Broken { why, head: None, body: Vec::new() }];
                    outcomes.resize_with(session.requests.len(), || Outcome::Unanswered);
                    return outcomes;
                }
            }
        }
    };
    let link = Rc::new(link);
    let progress = Progress {
        begun: Cell::new(0),
        sent: Cell::new(0),
        answered: Cell::new(0),
        continued: Cell::new(0),
        over: Cell::new(false),
        changed: Notify::new(),
    };
    let reader = Reader::new(Rc::clone(&link), Some(PATIENCE));
    let writing = write(&link, session, table, &progress, &rng);
    let reading = read(&link, reader, session, &progress);
    let ((), mut outcomes) = tokio::join!(writing, reading);
    outcomes.resize_with(session.requests.len(), || Outcome::Unanswered);
    outcomes
}

async fn write(link: &Stream, session: &Session, table: &Table, progress: &Progress, rng: &Rng) {
    for (n, request) in session.requests.iter().enumerate() {
        if !session.pipelined {
            progress.wait(|progress| progress.answered.get() >= n).await;
            if rng.chance(300) {
                tokio::time::sleep(Duration::from_millis(rng.below(8_000))).await;
            }
        }
        if progress.over.get() {
            break;
        }
        progress.begun.set(n + 1);
        if write_one(link, request, n, table, progress, rng).await.is_err() {
            break;
        }
        progress.set(&progress.sent, n + 1);
    }
    // A stubborn reader starts now, whatever happened.
    progress.set(&progress.sent, usize::MAX);
    if session.half_close && !progress.over.get() {
        let _ = link.finish(Deadline::NEVER).await;
    }
}

async fn write_one(
    link: &Stream,
    request: &Planned,
    n: usize,
    table: &Table,
    progress: &Progress,
    rng: &Rng,
) -> Result<(), Broken> {
    let patience = Deadline::after(2 * PATIENCE);
    send(link, rng, &request.head(), patience).await?;
    if request.expect {
        let told = progress.wait(|progress| progress.continued.get() > n || progress.answered.get() > n);
        let _ = tokio::time::timeout(Duration::from_millis(rng.below(5_000)), told).await;
        if progress.answered.get() > n {
            // Refused before a byte of the body: the connection has no further use.
            return Err(Broken::End);
        }
    }
    if request.framing == Framing::None {
        return Ok(());
    }
    let body = request.framed_body(rng);
    if rng.chance(150) {
        let (first, rest) = body.split_at(rng.between(0, body.len()));
        send(link, rng, first, patience).await?;
        let longest = if table.calm { 50_000 } else { 100_000 };
        tokio::time::sleep(Duration::from_millis(rng.below(longest))).await;
        return send(link, rng, rest, patience).await;
    }
    send(link, rng, &body, patience).await
}

async fn read(link: &Stream, mut reader: Reader, session: &Session, progress: &Progress) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (n, request) in session.requests.iter().enumerate() {
        if session.stubborn {
            let sent = |progress: &Progress| progress.sent.get() > n;
            while !sent(progress) {
                progress.changed.notified().await;
            }
        }
        let (outcome, goes_on) = read_one(&mut reader, request, n, progress).await;
        outcomes.push(if progress.begun.get() > n { outcome } else { Outcome::Unanswered });
        if !goes_on {
            break;
        }
        progress.set(&progress.answered, n + 1);
    }
    progress.set(&progress.answered, outcomes.len());
    progress.end();
    // A write that nobody will take any more must not keep this client here.
    link.stop_writing();
    outcomes
}

/// The outcome, and whether another response may follow.
async fn read_one(reader: &mut Reader, request: &Planned, n: usize, progress: &Progress) -> (Outcome, bool) {
    let broken = |why, head, body| (Outcome::Broken { why, head, body }, false);
    let head = loop {
        match reader.head(Deadline::NEVER).await {
            Ok(head) if head.status() / 100 == 1 && request.old => {
                return broken(Broken::Malformed("an interim response to HTTP/1.0"), None, Vec::new());
            }
            Ok(head) if head.status() == 100 => progress.set(&progress.continued, n + 1),
            Ok(head) if head.status() / 100 == 1 => {}
            Ok(head) => break head,
            Err(why) => return broken(why, None, Vec::new()),
        }
    };
    let head_at = Instant::now();
    let mut body = Vec::new();
    let mut ends_with_stream = false;
    let result = match (request.method, head.status(), head.length()) {
        ("HEAD", ..) | (_, 204 | 304, _) => Ok(()),
        (_, _, Err(why)) => Err(why),
        _ if head.has_token("transfer-encoding", "chunked") => reader.chunked(&mut body, Deadline::NEVER).await,
        (_, _, Ok(Some(length))) => reader.exactly(length, &mut body, Deadline::NEVER).await,
        (_, _, Ok(None)) => {
            ends_with_stream = true;
            reader.read_to_end(&mut body, Deadline::NEVER).await
        }
    };
    match result {
        Err(why) => broken(why, Some(head), body),
        Ok(()) => {
            let kept = !request.old || head.has_token("connection", "keep-alive");
            let goes_on = kept && !ends_with_stream && !head.has_token("connection", "close");
            (Outcome::Complete { head, body, head_at }, goes_on)
        }
    }
}

/// Longer than any timeout of the gate, and than several in a row.
pub const PATIENCE: Duration = Duration::from_secs(900);
