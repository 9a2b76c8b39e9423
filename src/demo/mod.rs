//! `filmgate demo`: an embedded S3 that verifies every signature, a gate in front of it, and links to try.
//!
//! Not in the packaged daemon (cargo feature `demo`). Everything lives in one temporary directory and on 127.0.0.1.

mod authority;
mod client;
mod film;
mod front;
mod report;
mod round_trip;
mod storage;

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

pub use report::{Report, Row};

use crate::clock;
use crate::server::signals::{Signal, Signals};
use crate::tls::config::Kernel;
use authority::Authority;
use client::Client;
use front::Front;
use report::Progress;
use round_trip::{FILM, Links, RoundTrip, SINGLE_KEY};
use storage::Storage;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Make the round trip and exit, instead of staying up.
    pub once: bool,
    /// Size of the generated film in bytes, for the round trip; at least [`SIZE_BYTES_MIN`]. The embedded S3 needs
    /// twice as much in the temporary directory.
    pub size_bytes: u64,
    /// Port of the gate on 127.0.0.1; `None` for any free one.
    pub port: Option<u16>,
    /// Whether the gate may leave TLS records to the kernel.
    pub kernel: Kernel,
    /// Leave the temporary directory behind, to look into.
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { once: false, size_bytes: SIZE_BYTES, port: None, kernel: Kernel::default(), keep: false }
    }
}

/// Default size of the film of the round trip: 320 MiB.
pub const SIZE_BYTES: u64 = 320 * 1024 * 1024;

/// Smallest film with a range in its middle.
pub const SIZE_BYTES_MIN: u64 = 1024;

/// Runs the demo: until SIGINT or SIGTERM, or for one round trip. Success is 0, a failed step or a demo that cannot
/// start is 1.
#[must_use]
pub fn run(options: Options) -> ExitCode {
    match attempt(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("filmgate demo: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the round trip with everything it needs and reports it, without printing and without signals.
///
/// # Errors
/// When something cannot be started, or the trip takes longer than ten minutes.
pub fn round_trip(options: &Options) -> Result<Report, Problem> {
    let stage = Stage::start(options)?;
    let (events, happened) = mpsc::channel();
    travel(&stage, options.size_bytes, events, &happened)
}

fn attempt(options: &Options) -> Result<bool, Problem> {
    let (events, happened) = mpsc::channel();
    let interrupts = events.clone();
    let mut signals = Signals::install().map_err(|error| Problem::new("cannot listen for signals", error))?;
    thread::spawn(move || {
        while signals.wait() != Signal::Stop {}
        interrupts.send(Event::Interrupted)
    });

    let stage = Stage::start(options)?;
    if options.once {
        println!("{}", stage.describe());
        let report = travel(&stage, options.size_bytes, events, &happened)?;
        println!("{report}");
        return Ok(report.passed());
    }
    println!("{}", stage.invitation()?);
    // Only a signal ends it: this thread holds a sender of its own, so the channel cannot close.
    while !matches!(happened.recv(), Ok(Event::Interrupted)) {}
    eprintln!("\nfilmgate demo: stopping");
    Ok(true)
}

enum Event {
    Finished(Report),
    Interrupted,
}

/// Makes the round trip on a thread of its own, so that nothing it does can keep this one from giving up.
fn travel(stage: &Stage, size: u64, events: Sender<Event>, happened: &Receiver<Event>) -> Result<Report, Problem> {
    let progress = Arc::new(Progress::new());
    let tls = stage.authority.client()?;
    let client = Client::new(stage.front.server().clone(), tls, Arc::clone(progress.moved()));
    let links = Links { credentials: stage.storage.credentials().clone() };
    let trip = RoundTrip::new(client, links, size.max(SIZE_BYTES_MIN), Arc::clone(&progress));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Problem::new("cannot start the client", error))?;
    let traveller = thread::Builder::new().name("demo-client".to_owned()).spawn(move || {
        let report = runtime.block_on(trip.run());
        // Nobody is left to be told when the trip was given up.
        let _ = events.send(Event::Finished(report));
    });
    let traveller = traveller.map_err(|error| Problem::new("cannot start the client", error))?;

    let since = clock::mono();
    let ended = loop {
        match happened.recv_timeout(DRAW_EVERY) {
            Ok(Event::Finished(report)) => break Ok(report),
            Ok(Event::Interrupted) => break Err(Problem::from("interrupted")),
            Err(RecvTimeoutError::Disconnected) => break Err(Problem::from("the client died; see above")),
            Err(RecvTimeoutError::Timeout) if traveller.is_finished() => {
                // Its last word may have come between the wait and the question.
                match happened.try_recv() {
                    Ok(Event::Finished(report)) => break Ok(report),
                    _ => break Err(Problem::from("the client died; see above")),
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if clock::mono().saturating_duration_since(since) > WATCHDOG {
            let minutes = WATCHDOG.as_secs() / 60;
            break Err(Problem::from(format!(
                "not done after {minutes} minutes, so something hangs or the disk is very slow; at: {progress}"
            )));
        }
        progress.draw();
    };
    progress.clear();
    ended
}

/// All that runs. Fields are dropped in order: first the gate, then what it leans on, then their files.
struct Stage {
    front: Front,
    storage: Storage,
    authority: Authority,
    directory: Directory,
}

impl Stage {
    fn start(options: &Options) -> Result<Self, Problem> {
        let directory = Directory::new(options.keep)?;
        let authority = Authority::new()?;
        authority.write(&directory.file(CA_FILE))?;
        let storage = Storage::start(&directory.file("s3"), &authority)?;
        let front = Front::start(&storage, &authority, &directory, options)?;
        Ok(Self { front, storage, authority, directory })
    }

    fn describe(&self) -> String {
        let (gate, s3, records) = (&self.front.server().host, self.storage.address(), self.front.records());
        format!("client → filmgate https://{gate} → S3 https://{s3} (s3s, verifies SigV4)\n{records}\n")
    }

    /// What to paste into a shell.
    fn invitation(&self) -> Result<String, Problem> {
        let film = self.directory.file("film.mov");
        let file = File::create_new(&film).map(BufWriter::new);
        file.and_then(|mut file| FILM.write(0..INVITED_BYTES, &mut file).and_then(|()| file.flush()))
            .map_err(|error| Problem::new(format_args!("cannot write {}", film.display()), error))?;
        let links = Links { credentials: self.storage.credentials().clone() };
        let link = |method| links.make(method, SINGLE_KEY, &[]).map_err(Problem::from);
        let (put, get) = (link("PUT")?, link("GET")?);
        let base = format!("https://{}", self.front.server().host);
        let curl = format!("curl -sS --cacert {}", quoted(&self.directory.file(CA_FILE)));
        let sha256 = FILM.sha256(0..INVITED_BYTES).0;
        Ok(format!(
            "{}\n\
             Is it there?\n  {base}/ping\n  {curl} {base}/ping\n\n\
             Upload a film ({} MiB, made for you) as {SINGLE_KEY:?} by a presigned PUT link:\n  \
             {base}{put}\n  {curl} -T {} -w 'HTTP %{{http_code}}, %{{size_upload}} bytes\\n' '{base}{put}'\n\n\
             Download it by a presigned GET link:\n  {base}{get}\n  {curl} '{base}{get}' | sha256sum\n  \
             which says {sha256}\n\n\
             Watch the gate's access log:\n  tail -f {}\n\n\
             The links are good for {} hours. Ctrl-C ends the demo{}.",
            self.describe(),
            INVITED_BYTES / (1024 * 1024),
            quoted(&film),
            quoted(&self.directory.file(ACCESS_LOG_FILE)),
            round_trip::GOOD_FOR.as_secs() / 3600,
            if self.directory.keep { "" } else { " and removes its files" },
        ))
    }
}

/// The demo's files, removed at the end unless they are to be kept.
struct Directory {
    path: PathBuf,
    temporary: Option<TempDir>,
    keep: bool,
}

impl Directory {
    fn new(keep: bool) -> Result<Self, Problem> {
        let owner_only = Permissions::from_mode(0o700);
        let temporary = tempfile::Builder::new().prefix("filmgate-demo-").permissions(owner_only).tempdir();
        let temporary =
            temporary.map_err(|error| Problem::new("cannot make a temporary directory (TMPDIR names where)", error))?;
        Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary), keep })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let Some(temporary) = self.temporary.take() else { return };
        if self.keep {
            eprintln!("filmgate demo: kept {}", temporary.keep().display());
        } else if let Err(error) = temporary.close() {
            eprintln!("filmgate demo: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// A path as one word of a POSIX shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Why the demo cannot go on, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

impl<T: Into<String>> From<T> for Problem {
    fn from(what: T) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

const ACCESS_LOG_FILE: &str = "access.log";
const CA_FILE: &str = "ca.pem";
const INVITED_BYTES: u64 = 32 * 1024 * 1024;
const WATCHDOG: Duration = Duration::from_secs(10 * 60);
const DRAW_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        assert_eq!(quoted(Path::new("/tmp/it's here")), r"'/tmp/it'\''s here'");
    }
}
