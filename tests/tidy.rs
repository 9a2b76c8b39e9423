//! The rules of `src/ARCHITECTURE.md`, as an ordinary test on the source text. Standard library only.
//!
//! Every rule is a function from text to violations, so that each has a test beside it that proves it can fail.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules and the rung they stand on. Imports go from a higher rung to a lower one.
const RUNGS: &[(&str, u8)] = &[
    ("buffer", 0),
    ("clock", 0),
    ("limits", 0),
    ("link", 0),
    ("pipe", 0),
    ("http", 1),
    ("tls", 1),
    ("s3", 2),
    ("access", 3),
    ("policy", 3),
    ("sign", 4),
    ("proxy", 5),
    ("creds", 6),
    ("net", 6),
    ("worker", 7),
    ("config", 8),
    ("demo", 9),
    ("server", 9),
];

/// Edges that the ladder does not allow and that exist nevertheless: from, to, why.
const EDGE_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("buffer", "limits", "sizes of buffers are bounds; limits imports nothing"),
    ("link", "buffer", "the seam is written in terms of owned buffers"),
    ("link", "clock", "the seam is written in terms of deadlines"),
    ("link", "pipe", "the seam moves bytes through pipes as well"),
    ("pipe", "limits", "how many pipes there are is a bound"),
    ("config", "server", "each module declares its options, config fills them in"),
    ("config", "demo", "the same: the demo's command-line options"),
    ("demo", "server", "the demo runs a gate as any user would"),
];

/// Highest rung whose modules are pure.
const PURE_RUNG_MAX: u8 = 4;

/// Foreign crates and the only modules that may name them. `*` is any module above the pure ones.
const HOMES: &[(&str, &[&str])] = &[
    ("tokio_uring", &["net"]),
    ("io_uring", &["net"]),
    ("libc", &["net"]),
    ("socket2", &["net"]),
    ("tokio", &["clock", "*"]),
    ("rustls", &["tls", "demo"]),
    ("rustls_native_certs", &["tls"]),
    ("zeroize", &["creds", "sign", "tls"]),
    ("x509_parser", &["tls"]),
    ("httparse", &["http"]),
    ("memchr", &["http", "proxy", "s3", "sign"]),
    ("bytes", &["http", "demo"]),
    ("clap", &["config", "main"]),
    ("crc_fast", &["sign"]),
    ("toml", &["config"]),
    ("humantime", &["config"]),
    ("arc_swap", &["sign", "tls", "*"]),
    ("mimalloc", &["main"]),
    ("signal_hook", &["server"]),
    ("tracing", &["*"]),
    ("tracing_subscriber", &["server"]),
    ("aws_config", &["creds"]),
    ("aws_credential_types", &["creds", "sign"]),
    ("aws_lc_rs", &["demo", "sign", "tls"]),
    ("aws_sdk_sts", &["creds"]),
    ("aws_sigv4", &["sign"]),
    ("aws_smithy_http_client", &["creds"]),
    ("base64", &["sign"]),
    ("http_body_util", &["demo"]),
    ("hyper", &["demo"]),
    ("hyper_util", &["demo"]),
    ("quick_xml", &["s3"]),
    ("rcgen", &["demo"]),
    ("s3s", &["demo"]),
    ("s3s_fs", &["demo"]),
    ("serde_json", &["creds", "sign"]),
    ("tempfile", &["demo", "server"]),
    ("tokio_rustls", &["demo"]),
];

/// What a pure module must not contain, and what it would be.
const IMPURE: &[(&str, &str)] = &[
    ("async fn", "async"),
    ("async move", "async"),
    ("async {", "async"),
    (".await", "async"),
    ("Instant::now", "a clock"),
    ("SystemTime::now", "a clock"),
    ("Utc::now", "a clock"),
    ("std::fs", "files"),
    ("fs::", "files"),
    ("File::", "files"),
    ("std::env", "the environment"),
    ("env::", "the environment"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("thread::", "threads"),
    ("thread_local!", "a global"),
    ("static mut", "a global"),
    ("OnceLock", "a global"),
    ("LazyLock", "a global"),
    ("OnceCell", "a global"),
    ("println!", "logging"),
    ("eprintln!", "logging"),
    ("tracing::", "logging"),
    ("getrandom", "randomness"),
    ("RandomState", "randomness"),
];

/// Purity exceptions: file, needle, why.
const IMPURE_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/clock.rs", "Instant::now", "this is the reader of the clocks"),
    ("src/clock.rs", "SystemTime::now", "this is the reader of the clocks"),
    ("src/tls/config.rs", "std::fs", "reads PEM files, called at start-up and reload only"),
    ("src/tls/config.rs", "fs::", "reads PEM files, called at start-up and reload only"),
    ("src/clock.rs", "async fn", "a deadline for a place in a queue is time's business"),
    ("src/clock.rs", ".await", "a deadline for a place in a queue is time's business"),
];

/// Words that finished code does not contain.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("db", "g!"),
    concat!("#[ign", "ore"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("TO", "DO"),
];

/// Names that say nothing about the domain.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "misc", "manager", "handler", "handlers", "service"];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// What the top of the repository may hold.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".clippy.toml",
    ".containerignore",
    ".deny.toml",
    ".git",
    ".gitignore",
    ".rustfmt.toml",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "packaging",
    "src",
    "systemd",
    "tests",
];

/// Lines of one source file, tests at its end not counted.
const FILE_LINES_MAX: usize = 500;

/// Lines of `main.rs`.
const MAIN_LINES_MAX: usize = 60;

// ---------------------------------------------------------------------------------------------------------------------
// The tests over the real tree.

#[test]
fn imports_go_down_the_rungs_only() {
    check_sources(dependency_edges);
}

#[test]
fn every_foreign_crate_has_one_home() {
    check_sources(foreign_crates);
}

#[test]
fn every_dependency_has_a_home() {
    report(dependencies_without_home(&read("Cargo.toml")));
}

#[test]
fn low_rungs_are_pure() {
    check_sources(impurities);
}

#[test]
fn unsafe_code_is_in_one_file() {
    check_sources(unsafe_code);
}

#[test]
fn only_net_races_futures() {
    check_sources(races);
}

#[test]
fn shared_mutable_state_is_where_it_is_allowed() {
    check_sources(shared_cells);
}

#[test]
fn files_are_short_and_named_after_the_domain() {
    check_sources(size_and_name);
}

#[test]
fn nothing_is_unfinished() {
    report(repository_texts().iter().flat_map(|(path, text)| unfinished(path, text)).collect());
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    report(repository_texts().iter().flat_map(|(path, text)| machine_paths(path, text)).collect());
}

#[test]
fn the_top_level_holds_what_it_should() {
    let entries = fs::read_dir(root()).expect("the repository is readable");
    let names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    report(stray_entries(&names, &read(".gitignore")));
}

#[test]
fn every_module_stands_on_a_rung() {
    let mut modules: Vec<String> = sources().iter().map(|source| source.module.clone()).collect();
    modules.sort();
    modules.dedup();
    let lost = modules.iter().filter(|module| rung(module).is_none() && !["lib", "main"].contains(&module.as_str()));
    report(lost.map(|module| format!("src/{module}: not in RUNGS")).collect());
}

// ---------------------------------------------------------------------------------------------------------------------
// The rules.

/// One file under `src`.
struct Source {
    /// Path from the repository's root, with slashes.
    path: String,
    /// First component under `src`.
    module: String,
    /// The text without tests, comments and the content of literals; lines keep their numbers.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let inner = path.strip_prefix("src/").unwrap_or(path);
        let module = inner.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let code = without_literals(text);
        let code = if path.ends_with("/tests.rs") || path.ends_with("_tests.rs") {
            String::new()
        } else {
            without_tests(&code).to_owned()
        };
        Self { path: path.to_owned(), module, code }
    }

    fn is_pure(&self) -> bool {
        rung(&self.module).is_some_and(|rung| rung <= PURE_RUNG_MAX)
    }

    /// `path:line: what` for every place where `needle` stands as a word of its own.
    fn hits(&self, needle: &str) -> Vec<String> {
        let lines = self.code.lines().enumerate();
        lines.filter(|(_, line)| has_word(line, needle)).map(|(n, _)| format!("{}:{}", self.path, n + 1)).collect()
    }
}

fn dependency_edges(source: &Source) -> Vec<String> {
    let from = source.module.as_str();
    if from == "lib" || from == "main" {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, to) in crate_paths(&source.code) {
        let allowed = match (rung(from), rung(&to)) {
            (Some(_), Some(_)) if from == to => true,
            (Some(_), Some(_)) if EDGE_EXCEPTIONS.iter().any(|(a, b, _)| *a == from && *b == to) => true,
            (Some(_), Some(_)) if to == "config" => false,
            (Some(a), Some(b)) => a > b,
            _ => false,
        };
        if !allowed {
            found.push(format!("{}:{line}: `{from}` must not import `{to}`", source.path));
        }
    }
    if source.code.contains("super::super") {
        found.push(format!("{}: name modules from the crate's root instead of super::super", source.path));
    }
    found
}

/// Every first path component after `crate::`, with its line, groups in braces included.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(group_heads(group).into_iter().map(|name| (line, name)));
        } else {
            found.push((line, first_word(rest)));
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![first_word(group.trim_start())];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(first_word(group[at + 1..].trim_start())),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn foreign_crates(source: &Source) -> Vec<String> {
    let high = rung(&source.module).is_some_and(|rung| rung > PURE_RUNG_MAX);
    let mut found = Vec::new();
    for (name, homes) in HOMES {
        if homes.contains(&source.module.as_str()) || (high && homes.contains(&"*")) {
            continue;
        }
        let mut places = Vec::new();
        for (at, _) in source.code.match_indices(name) {
            let (before, after) = (&source.code[..at], &source.code[at + name.len()..]);
            let starts = !before.ends_with(|c: char| c.is_alphanumeric() || "_:.".contains(c));
            let used = before.ends_with("use ") && after.starts_with([';', ' ']);
            if starts && (after.starts_with("::") || used) {
                places.push(before.matches('\n').count() + 1);
            }
        }
        found.extend(
            places.iter().map(|line| format!("{}:{line}: `{name}` belongs to {}", source.path, homes.join(", "))),
        );
    }
    found
}

fn dependencies_without_home(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default().split("\n[").next().unwrap();
    let names = section.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    let names = names.map(|line| line.split([' ', '=', '.']).next().unwrap().replace('-', "_"));
    let homeless = names.filter(|name| !HOMES.iter().any(|(known, _)| known == name));
    homeless.map(|name| format!("Cargo.toml: `{name}` has no home in tests/tidy.rs")).collect()
}

fn impurities(source: &Source) -> Vec<String> {
    if !source.is_pure() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (needle, what) in IMPURE {
        if IMPURE_EXCEPTIONS.iter().any(|(path, excepted, _)| *path == source.path && excepted == needle) {
            continue;
        }
        found.extend(source.hits(needle).iter().map(|place| format!("{place}: {what} (`{needle}`) in a pure module")));
    }
    for (n, line) in source.code.lines().enumerate() {
        let global =
            has_word(line, "static") && ["Atomic", "Mutex", "RwLock", "Cell<"].iter().any(|t| line.contains(t));
        if global {
            found.push(format!("{}:{}: a global in a pure module", source.path, n + 1));
        }
    }
    found
}

fn unsafe_code(source: &Source) -> Vec<String> {
    if source.path == "src/net/sys.rs" {
        return Vec::new();
    }
    source.hits("unsafe").iter().map(|place| format!("{place}: unsafe outside src/net/sys.rs")).collect()
}

fn races(source: &Source) -> Vec<String> {
    if ["net", "demo"].contains(&source.module.as_str()) {
        return Vec::new();
    }
    let needles = ["select!", "time::timeout", "time::timeout_at", "FuturesUnordered", "select_all", "JoinSet"];
    let mut places: Vec<_> = needles.iter().flat_map(|needle| source.hits(needle)).collect();
    let imports = source.hits("tokio::time::{");
    places.extend(
        imports.into_iter().filter(|_| source.code.contains("timeout(") || source.code.contains("timeout_at(")),
    );
    places.into_iter().map(|place| format!("{place}: only `net` races futures")).collect()
}

fn shared_cells(source: &Source) -> Vec<String> {
    let allowed = ["src/proxy/secure.rs", "src/proxy/upstream.rs"].contains(&source.path.as_str());
    if allowed || rung(&source.module).is_some_and(|rung| rung > 5) {
        return Vec::new();
    }
    source.hits("Rc<RefCell").iter().map(|place| format!("{place}: Rc<RefCell<_>> outside its two homes")).collect()
}

fn size_and_name(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let lines = source.code.trim_end().lines().count();
    let max = if source.path == "src/main.rs" { MAIN_LINES_MAX } else { FILE_LINES_MAX };
    if lines > max {
        found.push(format!("{}: {lines} lines, at most {max}", source.path));
    }
    for part in source.path.split('/') {
        if EMPTY_NAMES.contains(&part.trim_end_matches(".rs")) {
            found.push(format!("{}: `{part}` says nothing about the domain", source.path));
        }
    }
    found
}

fn unfinished(path: &str, text: &str) -> Vec<String> {
    if path == "LICENSE" || path == "Cargo.lock" {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        found.extend(UNFINISHED.iter().filter(|w| has_word(line, w)).map(|w| format!("{path}:{}: {w}", n + 1)));
    }
    found
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for needle in MACHINE_PATHS {
            let absolute = line
                .match_indices(needle)
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.)}/$*".contains(c)));
            if absolute {
                found.push(format!("{path}:{}: `{needle}` exists on one machine only", n + 1));
            }
        }
    }
    found
}

fn stray_entries(names: &[String], ignored: &str) -> Vec<String> {
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let stray = names.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str()) && !ignored.contains(&name.as_str()));
    stray.map(|name| format!("{name}: not one of the allowed top-level entries")).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading source text.

fn rung(module: &str) -> Option<u8> {
    RUNGS.iter().find(|(name, _)| *name == module).map(|(_, rung)| *rung)
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether `needle` occurs in `line` and is not the tail or the head of a longer word.
fn has_word(line: &str, needle: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(needle).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + needle.len()..]);
        let starts = !(needle.starts_with(word) && before.ends_with(word));
        let ends = !(needle.ends_with(word) && after.starts_with(word));
        starts && ends
    })
}

/// Cuts the test module off the end of a file.
fn without_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]\nmod ").map(|at| from + at) {
        let opens = code[at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
        if opens && (at == 0 || code[..at].ends_with('\n')) {
            return &code[..at];
        }
        from = at + 1;
    }
    code
}

/// Blanks comments and the content of string and character literals, keeping every line break.
fn without_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => line_end(bytes, at),
            [b'/', b'*', ..] => block_comment_end(bytes, at),
            [b'"', ..] => string_end(bytes, at + 1),
            [b'r', b'"' | b'#', ..] if raw_string_end(bytes, at).is_some() && !word_before(bytes, at) => {
                raw_string_end(bytes, at).unwrap()
            }
            [b'\'', ..] => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8(out).expect("blanking removes whole characters")
}

fn word_before(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b'
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let length = bytes[open + 1..].windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + length + close.len())
}

/// The end of a character literal; `None` when the quote starts a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        return bytes[at + 3..].iter().position(|&b| b == b'\'').map(|n| at + 3 + n + 1);
    }
    let text = std::str::from_utf8(&bytes[at + 1..]).ok()?;
    let width = text.chars().next()?.len_utf8();
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + 1 + width + 1)
}

// ---------------------------------------------------------------------------------------------------------------------
// The tree.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(under: &Path, into: &mut Vec<PathBuf>) {
    let skipped = ["target", ".git", ".venv", ".work", "__pycache__", "node_modules"];
    for entry in fs::read_dir(under).unwrap_or_else(|error| panic!("{}: {error}", under.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !skipped.contains(&name.as_str()) {
            files(&path, into);
        } else if path.is_file() {
            into.push(path);
        }
    }
}

/// Every text file that could be committed, with its path from the root.
fn repository_texts() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    files(root(), &mut paths);
    let texts = paths.into_iter().filter_map(|path| {
        let text = fs::read_to_string(&path).ok()?;
        let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (path != ".git").then_some((path, text))
    });
    texts.collect()
}

fn sources() -> Vec<Source> {
    let texts = repository_texts();
    let sources: Vec<Source> = texts
        .iter()
        .filter(|(path, _)| path.starts_with("src/") && path.ends_with(".rs"))
        .map(|(path, text)| Source::new(path, text))
        .collect();
    assert!(sources.len() > 10, "the sources were not found");
    sources
}

fn check_sources(rule: fn(&Source) -> Vec<String>) {
    report(sources().iter().flat_map(rule).collect());
}

fn report(violations: Vec<String>) {
    let mut text = String::new();
    for violation in &violations {
        let _ = writeln!(text, "  {violation}");
    }
    assert!(violations.is_empty(), "{} violations:\n{text}", violations.len());
}

// ---------------------------------------------------------------------------------------------------------------------
// Every rule can fail.

fn refused(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) {
    assert!(!rule(&Source::new(path, text)).is_empty(), "accepted in {path}: {text}");
}

fn accepted(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) {
    let found = rule(&Source::new(path, text));
    assert!(found.is_empty(), "refused in {path}: {text}: {found:?}");
}

#[test]
fn an_import_up_or_along_a_rung_is_refused() {
    refused(dependency_edges, "src/http/head.rs", "use crate::proxy::relay;");
    refused(dependency_edges, "src/http/head.rs", "use crate::tls::session;");
    refused(dependency_edges, "src/s3/error.rs", "fn f() -> crate::access::Record { g() }");
    refused(dependency_edges, "src/policy/route.rs", "use crate::{limits, s3::{target, error}, sign};");
    refused(dependency_edges, "src/server/mod.rs", "use crate::config::File;");
    refused(dependency_edges, "src/s3/error.rs", "use super::super::server;");
    refused(dependency_edges, "src/s3/error.rs", "use crate::unheard_of::Thing;");
    accepted(
        dependency_edges,
        "src/proxy/relay.rs",
        "use crate::{limits, http::{body, head}};\nuse crate::s3::Target;",
    );
    accepted(dependency_edges, "src/config/check.rs", "use crate::server::Options;");
    accepted(dependency_edges, "src/http/head.rs", "// see crate::proxy\nuse crate::http::fields; // crate::server");
}

#[test]
fn a_foreign_crate_away_from_home_is_refused() {
    refused(foreign_crates, "src/proxy/relay.rs", "use libc::c_int;");
    refused(foreign_crates, "src/proxy/secure.rs", "fn f(c: &rustls::ServerConnection) {}");
    refused(foreign_crates, "src/http/head.rs", "use tokio;");
    refused(foreign_crates, "src/s3/error.rs", "tracing::info!()");
    refused(foreign_crates, "src/policy/route.rs", "fn f(table: &toml::Table) {}");
    accepted(foreign_crates, "src/http/head.rs", "use httparse::Request; let bytes = crate::http::bytes::f();");
    accepted(foreign_crates, "src/proxy/relay.rs", "use tokio::sync::Notify;");
    accepted(foreign_crates, "src/s3/error.rs", "let s = \"libc::open\"; // rustls::x");
}

#[test]
fn a_dependency_without_a_home_is_refused() {
    let manifest =
        "[package]\nname = \"a\"\n\n[dependencies]\n# why\nlibc = \"0.2\"\nleft-pad = \"1\"\n\n[features]\nx = []\n";
    assert_eq!(dependencies_without_home(manifest), ["Cargo.toml: `left_pad` has no home in tests/tidy.rs"]);
}

#[test]
fn impurity_on_a_low_rung_is_refused() {
    for bad in [
        "async fn f() {}",
        "x.await",
        "let t = Instant::now();",
        "use std::fs;",
        "std::env::var(\"A\")",
        "std::thread::spawn(f)",
        "thread_local! {}",
        "static N: AtomicU64 = AtomicU64::new(0);",
        "eprintln!()",
        "use std::sync::OnceLock;",
    ] {
        refused(impurities, "src/http/head.rs", bad);
        accepted(impurities, "src/server/mod.rs", bad);
    }
    accepted(impurities, "src/http/head.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n use std::fs;\n}\n");
    accepted(impurities, "src/http/head.rs", "static TABLE: [u8; 2] = [0, 1];\nconst S: &str = \"std::fs\";");
    refused(impurities, "src/tls/session.rs", "std::fs::read(path)");
}

#[test]
fn unsafe_elsewhere_is_refused() {
    refused(unsafe_code, "src/net/uring.rs", "unsafe { f() }");
    accepted(unsafe_code, "src/net/sys.rs", "unsafe { f() }");
    accepted(unsafe_code, "src/net/uring.rs", "#![deny(unsafe_code)] // unsafe");
}

#[test]
fn a_race_outside_net_is_refused() {
    refused(races, "src/proxy/relay.rs", "tokio::select! { _ = a => {} }");
    refused(races, "src/worker.rs", "tokio::time::timeout(d, f).await");
    refused(races, "src/worker.rs", "use tokio::time::{sleep, timeout};\ntimeout(d, f).await");
    accepted(races, "src/config/keys.rs", "timeout(\"client-head\")");
    accepted(races, "src/net/uring.rs", "tokio::select! { _ = a => {} }");
    accepted(races, "src/proxy/relay.rs", "link.set_timeout(d); selected(a);");
}

#[test]
fn a_shared_cell_in_the_line_is_refused() {
    refused(shared_cells, "src/proxy/exchange.rs", "a: Rc<RefCell<u8>>");
    accepted(shared_cells, "src/proxy/upstream.rs", "a: Rc<RefCell<u8>>");
}

#[test]
fn a_long_file_or_an_empty_name_is_refused() {
    refused(size_and_name, "src/s3/error.rs", &"fn f() {}\n".repeat(FILE_LINES_MAX + 1));
    refused(size_and_name, "src/main.rs", &"fn f() {}\n".repeat(MAIN_LINES_MAX + 1));
    refused(size_and_name, "src/s3/util.rs", "");
    refused(size_and_name, "src/helpers/mod.rs", "");
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(FILE_LINES_MAX));
    accepted(size_and_name, "src/s3/error.rs", &tested);
}

#[test]
fn unfinished_work_is_refused() {
    for word in UNFINISHED {
        assert_eq!(unfinished("src/a.rs", &format!("x\n {word} y")).len(), 1, "{word}");
    }
    assert!(unfinished("src/a.rs", "a method of todos").is_empty());
}

#[test]
fn a_machine_path_is_refused() {
    for path in MACHINE_PATHS {
        assert_eq!(machine_paths("README.md", &format!("cd {path}x")).len(), 1);
        assert!(machine_paths("README.md", &format!("cd $D{path}x and src{path}y")).is_empty());
    }
}

#[test]
fn a_stray_top_level_entry_is_refused() {
    let names = ["src", "target", "scripts"].map(str::to_owned);
    assert_eq!(stray_entries(&names, "/target\n").len(), 1);
}

#[test]
fn literals_and_comments_are_blanked_and_code_is_kept() {
    let text = "let a = \"x \\\" // y\"; // c\nlet b = r#\"un\"safe\"#; /* d\n e */ let c = '\\''; let d: &'a str = f('\"');\n";
    let code = without_literals(text);
    assert_eq!(code.lines().count(), text.lines().count());
    for gone in ["x", "y", "un", "safe", " d\n", "\""] {
        assert!(!code.contains(gone), "{gone:?} is left in {code:?}");
    }
    for kept in ["let a = ", "let b = ", "let c = ", "let d: &'a str = f(", ");"] {
        assert!(code.contains(kept), "{kept:?} is gone from {code:?}");
    }
}
