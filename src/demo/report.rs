//! What a person sees of a round trip: a line that moves while it runs, a table when it is over.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{self, Instant};

/// What the round trip is doing now, shared with whoever draws it.
#[derive(Debug)]
pub(super) struct Progress {
    step: Mutex<Step>,
    moved: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Step {
    number: usize,
    name: String,
    bytes: u64,
    since: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        let step = Step { number: 0, name: "making the film".to_owned(), bytes: 0, since: clock::mono() };
        Self { step: Mutex::new(step), moved: Arc::default() }
    }

    /// The counter of body bytes of the step.
    pub(super) fn moved(&self) -> &Arc<AtomicU64> {
        &self.moved
    }

    /// The next step begins; it will move about `bytes`.
    pub(super) fn begin(&self, name: &str, bytes: u64) {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        *step = Step { number: step.number + 1, name: name.to_owned(), bytes, since: clock::mono() };
        self.moved.store(0, Ordering::Relaxed);
    }

    /// Overwrites the line on standard error when that is a terminal.
    pub(super) fn draw(&self) {
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            let _ = write!(terminal, "\r\x1b[2K{self}");
            let _ = terminal.flush();
        }
    }

    /// Takes the line away again.
    pub(super) fn clear(&self) {
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            let _ = write!(terminal, "\r\x1b[2K");
            let _ = terminal.flush();
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if step.number > 0 {
            write!(f, "{:>2}. ", step.number)?;
        }
        f.write_str(&step.name)?;
        let moved = self.moved.load(Ordering::Relaxed);
        if let Some(percent) = moved.saturating_mul(100).checked_div(step.bytes) {
            let elapsed = clock::mono().saturating_duration_since(step.since);
            write!(f, "  {:>3} %  {}  {}", percent.min(100), Size(moved), Speed(moved, elapsed))?;
        }
        Ok(())
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done.
    pub step: String,
    /// Bytes of body it moved.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether it did what it had to, and if not what happened instead.
    pub outcome: Result<(), String>,
}

/// A finished round trip.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every step, in order.
    pub rows: Vec<Row>,
    /// SHA-256 of the film, lower-case hex.
    pub sha256: String,
    /// Size of the film in bytes.
    pub film_bytes: u64,
}

impl Report {
    /// Whether everything was as it has to be. A report without steps has not passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.outcome.is_ok())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.step.chars().count()).max().unwrap_or(0);
        writeln!(f, " #  {:<width$}  {:>9}  {:>9}  {:>7}  result", "step", "size", "speed", "time")?;
        writeln!(f, "{}", "-".repeat(width + 46))?;
        for (index, row) in self.rows.iter().enumerate() {
            let size = if row.bytes == 0 { String::new() } else { Size(row.bytes).to_string() };
            let timed = row.bytes >= SPEED_BYTES_MIN;
            let speed = if timed { Speed(row.bytes, row.elapsed).to_string() } else { String::new() };
            let time = Elapsed(row.elapsed).to_string();
            let result = match &row.outcome {
                Ok(()) => "ok",
                Err(why) => &format!("FAILED: {why}"),
            };
            writeln!(f, "{:>2}  {:<width$}  {size:>9}  {speed:>9}  {time:>7}  {result}", index + 1, row.step)?;
        }
        let passed = self.rows.iter().filter(|row| row.outcome.is_ok()).count();
        writeln!(
            f,
            "\n{passed} of {} passed. The film: {}, SHA-256 {}.",
            self.rows.len(),
            Size(self.film_bytes),
            self.sha256
        )
    }
}

/// Below it the time is that of the round trip, not of the bytes.
const SPEED_BYTES_MIN: u64 = 1_000_000;

struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1_000 => write!(f, "{bytes} B"),
            bytes @ 1_000..1_000_000 => write!(f, "{:.1} kB", bytes as f64 / 1e3),
            bytes => write!(f, "{:.1} MB", bytes as f64 / 1e6),
        }
    }
}

struct Speed(u64, Duration);

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.1.as_secs_f64().max(1e-3);
        write!(f, "{:.0} MB/s", self.0 as f64 / 1e6 / seconds)
    }
}

struct Elapsed(Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis @ 0..1_000 => write!(f, "{millis} ms"),
            _ => write!(f, "{:.2} s", self.0.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |step: &str, bytes, millis, outcome| Row {
            step: step.to_owned(),
            bytes,
            elapsed: Duration::from_millis(millis),
            outcome,
        };
        Report {
            rows: vec![
                row("ping", 0, 1, Ok(())),
                row("GET café", 250_000_000, 2_500, Ok(())),
                row("GET a byte", 1, 3, Err("403 AccessDenied".to_owned())),
            ],
            sha256: "e3b0".to_owned(),
            film_bytes: 250_000_000,
        }
    }

    #[test]
    fn the_table_lines_up_and_says_what_failed() {
        let expected = "\u{20}#  step             size      speed     time  result\n\
             --------------------------------------------------------\n\
             \u{20}1  ping                                 1 ms  ok\n\
             \u{20}2  GET café     250.0 MB   100 MB/s   2.50 s  ok\n\
             \u{20}3  GET a byte        1 B                3 ms  FAILED: 403 AccessDenied\n\
             \n\
             2 of 3 passed. The film: 250.0 MB, SHA-256 e3b0.\n";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn one_failed_step_or_no_step_at_all_is_not_a_pass() {
        let mut report = report();
        assert!(!report.passed());
        report.rows.pop();
        assert!(report.passed());
        report.rows.clear();
        assert!(!report.passed());
    }

    #[test]
    fn progress_names_the_step_and_how_far_it_is() {
        let progress = Progress::new();
        assert_eq!(progress.to_string(), "making the film");
        progress.begin("PUT", 200_000_000);
        progress.moved().store(50_000_000, Ordering::Relaxed);
        let line = progress.to_string();
        assert!(line.starts_with(" 1. PUT   25 %  50.0 MB  "), "{line}");
        progress.begin("ping", 0);
        assert_eq!(progress.to_string(), " 2. ping");
    }
}
