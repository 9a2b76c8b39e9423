//! The load: requests over N connections, one after the other on each (closed loop) or at a fixed rate, and every
//! response checked: its status, its length, and samples of its bytes.
//!
//! At a fixed rate a request's latency counts from the moment it was due, not from when a connection was free for it: a
//! gate that stalls is charged for all the requests that had to wait.

mod lane;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::Failure;
use crate::arguments::Arguments;
use crate::body;
use crate::connection::Scratch;
use crate::cpu::Reading;
use crate::head;
use crate::histogram::Histogram;
use crate::poll::Poll;
use crate::report::Report;
use crate::session;
pub(crate) use lane::Lane;

/// The longest a run goes on after its end for what is under way, and the longest that nothing may arrive then.
const DRAIN: Duration = Duration::from_secs(60);
const STALL: Duration = Duration::from_secs(3);
/// Requests that may be due and unsent at a fixed rate.
const BACKLOG: usize = 1_000_000;

/// What to send, and where.
pub(crate) struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    name: String,
    request: Vec<u8>,
    upload: u64,
    download: u64,
}

impl Target {
    /// `--address A --path /SIZE [--method PUT] [--roots FILE (for TLS)] [--name HOST] [--query QUERY] [--resume no]`
    pub(crate) fn from(arguments: &Arguments) -> Result<Target, Failure> {
        let path: String = arguments.need("path")?;
        let length = body::length_of(&path).ok_or("--path is a size, such as /16k")?;
        let method: String = arguments.get("method")?.unwrap_or("GET".to_owned());
        let name: String = arguments.get("name")?.unwrap_or("localhost".to_owned());
        let resume = arguments.get::<String>("resume")?.is_none_or(|word| word != "no");
        let roots: Option<String> = arguments.get("roots")?;
        let query: Option<String> = arguments.get("query")?;
        let put = method == "PUT";
        Ok(Target {
            address: arguments.need("address")?,
            tls: roots.map(|roots| session::client_config(&roots, resume)).transpose()?,
            request: head::request(&method, &path, &name, query.as_deref(), put.then_some(length)),
            name,
            upload: if put { length } else { 0 },
            download: if put { 0 } else { length },
        })
    }
}

/// What happened in the time that counts.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) full_handshakes: u64,
    pub(crate) resumed_handshakes: u64,
}

struct Load {
    target: Target,
    poll: Poll,
    scratch: Scratch,
    lanes: Vec<Lane>,
    /// Lanes without a request, at a fixed rate.
    idle: Vec<usize>,
    due: VecDeque<Instant>,
    rate: Option<f64>,
    fresh: bool,
    stopping: bool,
    tally: Tally,
    latencies: Histogram,
}

/// Those of [`Target`], and `--connections N [--seconds S] [--requests N] [--warmup S] [--rate PER-SECOND]
/// [--fresh yes] [--watch PID[,PID...]]`. The end is what comes first of the seconds and the requests.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let target = Target::from(arguments)?;
    let connections: usize = arguments.need("connections")?;
    let seconds = Duration::from_secs_f64(arguments.get("seconds")?.unwrap_or(600.0));
    let requests = arguments.get("requests")?.unwrap_or(u64::MAX);
    let warmup = Duration::from_secs_f64(arguments.get("warmup")?.unwrap_or(0.0));
    let rate: Option<f64> = arguments.get("rate")?;
    let fresh = arguments.get::<String>("fresh")?.is_some_and(|word| word == "yes");
    let watched: String = arguments.get("watch")?.unwrap_or_default();
    let watched =
        watched.split(',').filter(|word| !word.is_empty()).map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    arguments.finish()?;

    let mut load = Load {
        target,
        poll: Poll::new()?,
        scratch: Scratch::new(),
        lanes: Vec::new(),
        idle: Vec::new(),
        due: VecDeque::new(),
        rate,
        fresh,
        stopping: false,
        tally: Tally::default(),
        latencies: Histogram::new(),
    };
    for number in 0..connections {
        load.lanes.push(Lane::connect(&load.target, &load.poll, number)?);
        if rate.is_some() {
            load.idle.push(number);
        } else {
            load.lanes[number].due(Instant::now());
            load.lanes[number].start(&load.target, &load.poll, &mut load.scratch, &mut load.tally)?;
        }
    }
    let report = load.measure(warmup, seconds, requests, &watched)?;
    println!("{}", report.finish());
    Ok(())
}

impl Load {
    fn measure(
        &mut self,
        warmup: Duration,
        seconds: Duration,
        requests: u64,
        watched: &[u32],
    ) -> Result<Report, Failure> {
        let begin = Instant::now();
        let mut ready = Vec::new();
        let mut window: Option<(Instant, Reading)> = None;
        let mut next = begin;
        loop {
            let now = Instant::now();
            match &window {
                None if now >= begin + warmup => {
                    self.tally = Tally::default();
                    self.latencies = Histogram::new();
                    window = Some((now, Reading::take(watched)));
                }
                Some((start, _)) if now >= *start + seconds || self.tally.requests >= requests => break,
                _ => {}
            }
            let patience = self.schedule(&mut next, now)?;
            self.turn(&mut ready, patience)?;
        }
        let (start, before) = window.ok_or("the run ended in its warm-up")?;
        let elapsed = start.elapsed().as_secs_f64();
        let after = Reading::take(watched);
        let tally = std::mem::take(&mut self.tally);
        let unsent = self.due.len() as u64;
        // A stall is told as one, before anything is made of its CPU time.
        self.drain(&mut ready)?;
        let used = before.until(&after, watched)?;
        Ok(Report::new()
            .number("seconds", elapsed)
            .count("requests", tally.requests)
            .count("bytes", tally.bytes)
            .number("cpu_s", used.watched)
            .numbers("tasks_s", &used.tasks)
            .number("core_busy_s", used.proxy_core)
            .number("generator_busy_s", used.own_core)
            .count("full_handshakes", tally.full_handshakes)
            .count("resumed_handshakes", tally.resumed_handshakes)
            .count("unsent", unsent)
            .number("p50_us", self.latencies.quantile(0.5))
            .number("p90_us", self.latencies.quantile(0.9))
            .number("p99_us", self.latencies.quantile(0.99))
            .number("p999_us", self.latencies.quantile(0.999))
            .number("mean_us", self.latencies.mean())
            .number("max_us", self.latencies.max())
            .count("timed", self.latencies.count()))
    }

    /// Hands out what is due by now, and says how long to wait for the next.
    fn schedule(&mut self, next: &mut Instant, now: Instant) -> Result<Duration, Failure> {
        let Some(rate) = self.rate else { return Ok(Duration::from_millis(20)) };
        while *next <= now {
            self.due.push_back(*next);
            *next += Duration::from_secs_f64(1.0 / rate);
        }
        if self.due.len() > BACKLOG {
            return Err("the rate is far above what can be served".into());
        }
        self.hand_out()?;
        Ok(next.saturating_duration_since(now))
    }

    fn hand_out(&mut self) -> Result<(), Failure> {
        while let (Some(&due), Some(&lane)) = (self.due.front(), self.idle.last()) {
            self.due.pop_front();
            self.idle.pop();
            self.lanes[lane].due(due);
            self.advance(lane)?;
        }
        Ok(())
    }

    fn turn(&mut self, ready: &mut Vec<usize>, patience: Duration) -> Result<(), Failure> {
        self.poll.wait(ready, patience)?;
        for &number in ready.iter() {
            self.advance(number)?;
        }
        Ok(())
    }

    fn advance(&mut self, number: usize) -> Result<(), Failure> {
        let lane = &mut self.lanes[number];
        let Some(started) = lane.advance(&self.target, &self.poll, &mut self.scratch, &mut self.tally)? else {
            return Ok(());
        };
        self.tally.requests += 1;
        self.latencies.record(started.elapsed());
        if self.stopping && self.due.is_empty() {
            return Ok(());
        }
        if self.fresh {
            *lane = Lane::connect(&self.target, &self.poll, number)?;
        }
        if self.rate.is_some() {
            self.idle.push(number);
            return self.hand_out();
        }
        lane.due(Instant::now());
        lane.start(&self.target, &self.poll, &mut self.scratch, &mut self.tally)
    }

    /// Finishes what is under way, so that it is checked to its end.
    fn drain(&mut self, ready: &mut Vec<usize>) -> Result<(), Failure> {
        self.stopping = true;
        let end = Instant::now() + DRAIN;
        let mut progress = (self.tally.bytes + self.tally.requests, Instant::now());
        while !self.due.is_empty() || self.lanes.iter().any(Lane::busy) {
            let now = Instant::now();
            let done = self.tally.bytes + self.tally.requests;
            if done != progress.0 {
                progress = (done, now);
            }
            if now >= end || now >= progress.1 + STALL {
                let states: Vec<String> = self.lanes.iter().filter(|lane| lane.busy()).map(Lane::state).collect();
                return Err(format!("requests did not end in time: {}", states.join("; ")).into());
            }
            self.turn(ready, Duration::from_millis(20))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::body::Pattern;

    /// Runs one GET of 1 KB against a server that answers with `answer` and closes.
    fn outcome(answer: Vec<u8>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(socket.read(&mut request).unwrap() > 0);
            socket.write_all(&answer).unwrap();
        });
        let words = format!("--address {address} --path /1k --connections 1 --requests 1 --seconds 5");
        let arguments = Arguments::parse(words.split(' ').map(str::to_owned)).unwrap();
        let outcome = run(&arguments).map_err(|failure| failure.to_string());
        server.join().unwrap();
        outcome
    }

    fn answer(status: &str, length: u64) -> Vec<u8> {
        let mut answer = head::response(status, length);
        answer.extend_from_slice(Pattern::new().at(0, 1024));
        answer
    }

    #[test]
    fn an_answer_with_a_wrong_byte_is_a_failure() {
        let mut wrong = answer("200 OK", 1024);
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        assert!(outcome(wrong).unwrap_err().contains("wrong bytes"));
    }

    #[test]
    fn an_answer_of_another_status_is_a_failure() {
        assert!(outcome(answer("403 Forbidden", 1024)).unwrap_err().contains("403"));
    }

    #[test]
    fn an_answer_of_another_length_is_a_failure() {
        assert!(outcome(answer("200 OK", 1023)).unwrap_err().contains("1023"));
        let mut longer = answer("200 OK", 1024);
        longer.push(0);
        assert!(outcome(longer).unwrap_err().contains("behind the response"));
    }

    #[test]
    fn an_answer_that_is_cut_is_a_failure() {
        let mut short = answer("200 OK", 1024);
        short.pop();
        assert!(outcome(short).unwrap_err().contains("closed early"));
    }
}
