//! How many instructions the line takes, compared with what `bench/counts.txt` expects: `cargo bench --bench counts`.
//!
//! Time depends on what else the machine does, instructions hardly do: a change of a few percent shows on a busy machine
//! too. Callgrind counts each case twice, with `TIMES` operations and with twice as many; the difference is free of
//! what the program does at its start. `-- NAME` counts the cases with that in their name, `-- --accept` writes what it
//! counted into the file, `-- --test` runs every case without counting.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use filmgate::buffer::Buffer;
use filmgate::http::framing;
use filmgate::http::head::{RequestHead, ResponseHead, Scan, Version};
use filmgate::limits::BUFFER_BYTES;
use filmgate::proxy::forward::{self, After, Sending};

mod memory;
mod steps;

use memory::{Speaking, samples, with_client, with_signing_client};
use samples::{HOST, request_head, response_head, routes};
use steps::{MOVIE_BYTES, Record, chunked_body, skim};

/// A name and what runs the operation that often.
type Case = (&'static str, fn(u64));

const CASES: [Case; 8] = [
    ("request-parse", request_parse),
    ("request-rewrite", request_rewrite),
    ("response-parse", response_parse),
    ("response-rewrite", response_rewrite),
    ("chunked-body", chunked),
    ("access-record", access_record),
    ("exchange", exchange),
    ("exchange-signed", exchange_signed),
];

const TIMES: u64 = 1000;
const EXPECTED: &str = "bench/counts.txt";
/// Another layout of the same code stays below this; a change of the code that is worth a look does not.
const TOLERATED_PERCENT: f64 = 5.0;
/// What another compiler, C library or processor may make of the same code.
const TOLERATED_ELSEWHERE_PERCENT: f64 = 25.0;

/// Scan, parse, framing and authority of a request.
fn request_parse(times: u64) {
    let block = request_head();
    let mut head = RequestHead::default();
    for _ in 0..times {
        let end = Scan::default().feed(black_box(&block)).unwrap().unwrap();
        head.parse_into(&block[..end]).unwrap();
        black_box(framing::request(&head, &block).unwrap());
        black_box(framing::authority(&head, &block).unwrap());
    }
}

/// The head that goes to S3.
fn request_rewrite(times: u64) {
    let (block, routes) = (request_head(), routes(1));
    let head = RequestHead::parse(&block).unwrap();
    let route = routes.find(HOST.as_bytes()).unwrap();
    let mut out = Buffer::detached(BUFFER_BYTES);
    for _ in 0..times {
        out.clear();
        forward::request(&mut out, black_box(&head), &block, route, Sending::AsReceived, false).unwrap();
        black_box(out.filled());
    }
}

/// Scan, parse and framing of a response.
fn response_parse(times: u64) {
    let block = response_head(MOVIE_BYTES);
    let mut head = ResponseHead::default();
    for _ in 0..times {
        let end = Scan::default().feed(black_box(&block)).unwrap().unwrap();
        head.parse_into(&block[..end]).unwrap();
        black_box(framing::response(&head, &block, b"GET").unwrap());
    }
}

/// The head that goes to the client.
fn response_rewrite(times: u64) {
    let block = response_head(MOVIE_BYTES);
    let head = ResponseHead::parse(&block).unwrap();
    let body = framing::response(&head, &block, b"GET").unwrap();
    let mut out = Buffer::detached(BUFFER_BYTES);
    for _ in 0..times {
        out.clear();
        forward::response(&mut out, black_box(&head), &block, body, Version::Http11, After::Keep).unwrap();
        black_box(out.filled());
    }
}

/// Validation of 64 KB in chunks of 256 bytes.
fn chunked(times: u64) {
    let wire = chunked_body(64 * 1024, 256);
    for _ in 0..times {
        assert_eq!(skim(black_box(&wire)), 64 * 1024);
    }
}

/// A record filled in and written, always of the same moment: the digits of the time make a difference.
fn access_record(times: u64) {
    let mut record = Record::new();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_601_234);
    for _ in 0..times {
        black_box(record.write(black_box(wall)));
    }
}

/// An exchange of 1 KB without TLS: the client, the gate and the storage together.
fn exchange(times: u64) {
    with_client(Speaking::Plain, 1024, async |client| {
        for _ in 0..times {
            client.exchange().await;
        }
    });
}

/// The same with a gate that verifies and signs.
fn exchange_signed(times: u64) {
    with_signing_client(1024, async |client| {
        for _ in 0..times {
            client.exchange().await;
        }
    });
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["run", name, times] = arguments[..] {
        let case = CASES.iter().find(|case| case.0 == name).expect("a case");
        case.1(times.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let (mut wanted, mut accept) = (Vec::new(), false);
    // Without `--bench` it is a test run, where nothing is optimised.
    let mut test = !arguments.contains(&"--bench");
    for argument in arguments {
        match argument {
            "--bench" => {}
            "--test" => test = true,
            "--accept" => accept = true,
            name if !name.starts_with('-') => wanted.push(name),
            other => {
                eprintln!("counts: no option {other}; there are NAME, --accept and --test");
                return ExitCode::from(2);
            }
        }
    }
    let is_wanted = |case: &&Case| wanted.is_empty() || wanted.iter().any(|name| case.0.contains(name));
    let cases: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    if cases.is_empty() {
        // As with the other benches: `cargo bench -- NAME` asks all of them.
        println!("counts: no case has {} in its name", wanted.join(" or "));
        return ExitCode::SUCCESS;
    }
    if test {
        for (name, run) in cases {
            run(2);
            println!("counts: {name} runs");
        }
        return ExitCode::SUCCESS;
    }
    gate(&cases, accept).unwrap_or_else(|error| {
        eprintln!("counts: {error}");
        ExitCode::FAILURE
    })
}

/// Counts `cases`, tells each, and either compares them with the file or writes them into it.
fn gate(cases: &[&Case], accept: bool) -> Result<ExitCode, Box<dyn Error>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXPECTED);
    let mut expected = Counts::read(&fs::read_to_string(&file).unwrap_or_default())?;
    let here = made_with()?;
    let elsewhere = expected.made_with != here;
    if elsewhere && accept {
        // What stays in the file would be told as counted here.
        expected.instructions.clear();
    }
    if elsewhere && !accept {
        let was = &expected.made_with;
        println!("counts: WARNING: {EXPECTED} is from {was:?}, this is {here:?};");
        println!(
            "counts: WARNING: up to {TOLERATED_ELSEWHERE_PERCENT} % are tolerated in place of {TOLERATED_PERCENT} %"
        );
    }
    let tolerated = if elsewhere { TOLERATED_ELSEWHERE_PERCENT } else { TOLERATED_PERCENT };
    let mut beyond = Vec::new();
    println!("{:<18}{:>12}{:>12}{:>10}", "instructions", "expected", "counted", "change");
    for (name, _) in cases {
        let now = count(name)?;
        let Some(before) = expected.instructions.insert((*name).to_owned(), now) else {
            println!("{name:<18}{:>12}{now:>12}", "none");
            beyond.push(format!("{name} is not in {EXPECTED}"));
            continue;
        };
        let percent = (now as f64 / before as f64 - 1.0) * 100.0;
        println!("{name:<18}{before:>12}{now:>12}{percent:>+8.1} %");
        // Fewer fail as well: a gain that is not written down is slack for the next loss.
        if percent.abs() > tolerated {
            let profile = profile(name);
            beyond.push(format!(
                "{name} takes {now} instructions in place of {before}, {percent:+.1} % ({tolerated} % are tolerated). Where \
                 they go: callgrind_annotate {}",
                profile.display()
            ));
        }
    }
    if accept {
        expected.made_with = here;
        fs::write(&file, expected.write())?;
        println!("counts: {EXPECTED} is written");
        return Ok(ExitCode::SUCCESS);
    }
    for line in &beyond {
        println!("counts: {line}");
    }
    if beyond.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "counts: if it is worth it, or a gain: cargo bench --bench counts -- --accept, and commit {EXPECTED} saying why"
    );
    Ok(ExitCode::FAILURE)
}

/// What the file holds.
#[derive(Default)]
struct Counts {
    made_with: String,
    instructions: BTreeMap<String, u64>,
}

impl Counts {
    fn read(text: &str) -> Result<Self, Box<dyn Error>> {
        let mut counts = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("{EXPECTED}: no colon in {line:?}"))?;
            if name == "made with" {
                value.trim().clone_into(&mut counts.made_with);
            } else {
                counts.instructions.insert(name.to_owned(), value.trim().parse()?);
            }
        }
        Ok(counts)
    }

    fn write(&self) -> String {
        let mut text = String::from(
            "# Instructions an operation takes, as callgrind counts them. Written by `cargo bench --bench counts -- --accept`.\n",
        );
        writeln!(text, "made with: {}", self.made_with).expect("a string takes everything");
        for (name, _) in CASES {
            if let Some(instructions) = self.instructions.get(name) {
                writeln!(text, "{name}: {instructions}").expect("a string takes everything");
            }
        }
        text
    }
}

/// Instructions of one operation of a case.
fn count(name: &str) -> Result<u64, Box<dyn Error>> {
    let (once, twice) = (callgrind(name, TIMES)?, callgrind(name, 2 * TIMES)?);
    let more = twice.checked_sub(once).ok_or_else(|| format!("{name} takes less for more operations"))?;
    Ok((more + TIMES / 2) / TIMES)
}

/// Instructions of a process that runs a case `times` times.
fn callgrind(name: &str, times: u64) -> Result<u64, Box<dyn Error>> {
    let profile = profile(name);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe()?)
        .args(["run", name, &times.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}; tests/setup installs it"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = fs::read_to_string(&profile)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or_else(|| format!("no total in {}", profile.display()))?.trim().parse()?)
}

/// Where callgrind leaves what it counted last in a case.
fn profile(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.callgrind"))
}

/// What the counts depend on besides the code. Callgrind's processor has AVX2 when the real one has it, and nothing newer.
fn made_with() -> Result<String, Box<dyn Error>> {
    let says = |program: &str, argument: &str| -> Result<String, Box<dyn Error>> {
        let output = Command::new(program).arg(argument).output().map_err(|error| format!("{program}: {error}"))?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    #[cfg(target_arch = "x86_64")]
    let simd = if std::arch::is_x86_feature_detected!("avx2") { " with AVX2" } else { "" };
    #[cfg(not(target_arch = "x86_64"))]
    let simd = "";
    let rustc = says(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()), "--version")?;
    let libc = says("getconf", "GNU_LIBC_VERSION")?;
    Ok(format!("{rustc}, {libc}, {}{simd}", std::env::consts::ARCH))
}
