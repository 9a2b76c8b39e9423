//! Commands.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::explain::{self, Question};
use super::presign::PresignArguments;
use super::{Problem, check, keys, value};
use crate::clock;
use crate::policy::route::UpstreamHost;
use crate::server::{AccessLog, Options, preflight};
use crate::tls::config::Kernel;

/// Exit status when the configuration or the command line is refused.
pub const REFUSED: u8 = 2;

/// What was typed.
#[derive(Clone, Debug, Parser)]
#[command(name = "filmgate", version, about, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the gate until it is told to stop
    Run {
        /// Configuration file
        #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
        config: PathBuf,
    },
    /// Check a configuration and the files it names, and print every problem
    Check {
        /// Configuration file
        #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
        config: PathBuf,
        /// Refuse only what `run` would refuse, and leave ports alone: for scripts, as the user of the service
        #[arg(long)]
        to_start: bool,
    },
    /// Print a commented configuration with every key and its default
    PrintDefault,
    /// Make a presigned link for a route that signs anew
    Presign(PresignArguments),
    /// Ask what the rules of a route say
    Policy {
        /// What to ask
        #[command(subcommand)]
        ask: PolicyCommand,
    },
    /// Try it here and now: a real S3 server, a gate in front of it, and links to use (needs a build with the demo)
    Demo(DemoArguments),
}

/// A question about rules.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say which rule decides about a request; exit with 0 if it is allowed, 1 if not, 2 if there is no answer
    Explain(Question),
}

/// How the demonstration runs.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct DemoArguments {
    /// Make the round trip, print what passed, and exit with 0 or 1
    #[arg(long)]
    pub once: bool,
    /// Size of the file that makes the round trip, such as 300MB or 1GiB
    #[arg(long, value_name = "BYTES", value_parser = value::size)]
    pub size: Option<u64>,
    /// Port of the gate on 127.0.0.1; any free one if left out
    #[arg(long, value_name = "PORT")]
    pub listen: Option<u16>,
    /// Whether TLS records may be left to the kernel: auto or off
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = value::kernel_typed)]
    pub tls_kernel: Kernel,
}

/// Reads what was typed. Ends the process with the help, the version, or status 2 and what is wrong with it.
#[must_use]
pub fn parse() -> Command {
    Cli::parse().command
}

/// The options of the file at `path`, for a gate that is about to start. Warnings go to standard error.
///
/// # Errors
/// The exit status, once every problem is on standard error.
pub fn load(path: &Path) -> Result<Options, ExitCode> {
    told(read(path, check::examine_to_start))
}

fn told(read: Result<(Options, Vec<String>), Vec<String>>) -> Result<Options, ExitCode> {
    let tell = |lines: Vec<String>| lines.iter().for_each(|line| complain(&format!("{line}\n")));
    match read {
        Ok((options, warnings)) => {
            tell(warnings);
            Ok(options)
        }
        Err(problems) => {
            tell(problems);
            Err(ExitCode::from(REFUSED))
        }
    }
}

/// The options of the file at `path` for a gate that runs, and warnings, a line each. What a start takes it takes as well:
/// a certificate that has ended must not keep anything else from being changed.
///
/// # Errors
/// Every problem, a line each.
pub fn reread(path: &Path) -> Result<(Options, Vec<String>), Vec<String>> {
    read(path, check::examine_to_start)
}

type Examined = Result<(Options, Vec<Problem>), Vec<Problem>>;

fn read(path: &Path, examine: impl Fn(&str) -> Examined) -> Result<(Options, Vec<String>), Vec<String>> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| vec![format!("{}: {}", path.display(), unreadable(path, &error))])?;
    let lines = |problems: &[Problem]| listing(path, problems).lines().map(str::to_owned).collect();
    match examine(&text) {
        Ok((options, warnings)) => Ok((options, lines(&warnings))),
        Err(problems) => Err(lines(&problems)),
    }
}

/// `filmgate check`; `to_start` refuses what a start would refuse and no more.
#[must_use]
pub fn check(path: &Path, to_start: bool) -> ExitCode {
    let examine = if to_start { check::examine_to_start } else { check::examine };
    let options = match told(read(path, examine)) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut findings = preflight::everything(&options, clock::now().wall);
    if !to_start {
        findings.extend(preflight::ports(&options));
    }
    let findings = check::standing_of(&text, findings);
    complain(&listing(path, &findings));
    say(&format!("{}: ok\n{}", path.display(), summary(&options)))
}

/// `filmgate policy`.
#[must_use]
pub fn policy(ask: PolicyCommand) -> ExitCode {
    let PolicyCommand::Explain(question) = ask;
    let path = &question.config;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            complain(&format!("{}: {}\n", path.display(), unreadable(path, &error)));
            return ExitCode::from(REFUSED);
        }
    };
    let (options, _) = match check::load(&text) {
        Ok(loaded) => loaded,
        Err(problems) => {
            complain(&listing(path, &problems));
            return ExitCode::from(REFUSED);
        }
    };
    match explain::explain(&text, &options, &question) {
        Ok((is_allowed, told)) => {
            let said = say(&told);
            if is_allowed { said } else { ExitCode::FAILURE }
        }
        Err(message) => {
            complain(&format!("filmgate: {message}\n"));
            ExitCode::from(REFUSED)
        }
    }
}

/// `filmgate print-default`.
#[must_use]
pub fn print_default() -> ExitCode {
    say(&keys::default_file())
}

/// `filmgate demo` of a build without it.
#[must_use]
pub fn no_demo() -> ExitCode {
    complain(
        "filmgate: this build has no demo, which the packaged daemon leaves out\n\
         build one with: cargo run --release --features demo -- demo\n",
    );
    ExitCode::from(REFUSED)
}

/// Everything a gate with `options` would do, in a few lines.
fn summary(options: &Options) -> String {
    let mut out = String::new();
    let list = |addresses: &[std::net::SocketAddr]| {
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "none".to_string() } else { texts.join(", ") }
    };
    let workers = options.workers.map_or("one per core".to_string(), |count| count.to_string());
    let pinned = if options.pin { ", pinned" } else { "" };
    let access_log = match &options.access_log {
        AccessLog::Off => "off".to_string(),
        AccessLog::Stdout => "standard output".to_string(),
        AccessLog::File(path) => path.display().to_string(),
    };
    let rows = [
        ("https", list(&options.https)),
        ("http", list(&options.http)),
        ("admin", options.admin.map_or("off".to_string(), |address| address.to_string())),
        ("workers", format!("{workers}{pinned}")),
        ("access log", access_log),
    ];
    for (name, text) in rows {
        let _ = writeln!(out, "  {name:<12}{text}");
    }
    out.push_str("routes\n");
    out.push_str(&table(&routes(options)));
    out
}

fn routes(options: &Options) -> Vec<[String; 5]> {
    let mut rows = vec![["NAMES", "BUCKET", "REGION", "HOST SIGNED", "UPSTREAM"].map(str::to_string)];
    for route in &options.routes {
        let mut names = route.hosts.clone();
        if route.default {
            names.push("(all others)".to_string());
        }
        let host = match &route.host {
            UpstreamHost::Keep => "(the client's)",
            UpstreamHost::Replace(name) => name,
        };
        let upstream = options.upstreams.get(route.upstream).map_or(String::new(), |upstream| {
            let plain = if upstream.tls.is_none() { " (plain http)" } else { "" };
            format!("{}{plain}", upstream.name)
        });
        rows.push([names.join(", "), route.bucket.clone(), route.region.clone(), host.to_string(), upstream]);
    }
    rows
}

fn table(rows: &[[String; 5]]) -> String {
    let mut widths = [0; 5];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    }
    out
}

fn listing(path: &Path, problems: &[Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        let separator = if problem.line.is_some() { ":" } else { ": " };
        let _ = writeln!(out, "{}{separator}{problem}", path.display());
    }
    out
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("does not exist; make one with: filmgate print-default > {}", path.display())
        }
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_string(),
        io::ErrorKind::InvalidData => "is not UTF-8 text".to_string(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Prints `text`; a reader that has gone away (`| head`) is none of our business.
pub(super) fn say(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

pub(super) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

pub(super) const DEFAULT_FILE: &str = "/etc/filmgate/filmgate.toml";
