//! The two pages.

use clap::{Arg, ArgAction, Command};
use filmgate::config::keys::{KEYS, Key, Value};

use crate::roff::{Page, bold, escaped, placeholder};

/// When the words below were last changed.
const DATE: &str = "2026-11-22";

/// filmgate(8).
pub(crate) fn command(root: &Command) -> String {
    let mut page = Page::new("filmgate", 8, DATE, "System Administration");
    page.section("NAME");
    page.text("filmgate - S3 edge proxy for film and animation studios");
    page.section("SYNOPSIS");
    for (index, sub) in leaves(root, "filmgate").into_iter().enumerate() {
        if index > 0 {
            page.line(".br");
        }
        page.line(&synopsis(&sub.0, sub.1));
    }
    page.section("DESCRIPTION");
    page.text(DESCRIPTION[0]);
    for words in &DESCRIPTION[1..] {
        page.paragraph(words);
    }
    page.section("COMMANDS");
    for (name, sub) in leaves(root, "filmgate") {
        page.part(&name);
        page.text(&about(sub));
        for argument in arguments(sub) {
            page.entry(&head(argument), &help(argument));
        }
    }
    page.part("every command");
    page.entry(&format!("{}, {}", bold("-h"), bold("--help")), "Print the command's help.");
    page.entry(&format!("{}, {}", bold("-V"), bold("--version")), "Without a command: print the version.");
    list(&mut page, "SIGNALS", SIGNALS);
    list(&mut page, "EXIT STATUS", STATUSES);
    list(&mut page, "ENVIRONMENT", ENVIRONMENT);
    list(&mut page, "FILES", FILES);
    page.section("SEE ALSO");
    page.line(".BR filmgate.toml (5),");
    page.line(".BR systemctl (1),");
    page.line(".BR systemd.exec (5)");
    page.finish()
}

/// filmgate.toml(5).
pub(crate) fn configuration() -> String {
    let mut page = Page::new("filmgate.toml", 5, DATE, "File Formats");
    page.section("NAME");
    page.text("filmgate.toml - configuration of filmgate");
    page.section("DESCRIPTION");
    page.text(FORMAT[0]);
    for words in &FORMAT[1..] {
        page.paragraph(words);
    }
    page.section("KEYS");
    for key in KEYS {
        if key.is_section() {
            page.line(&format!(".SS {}", bold(&key.header())));
            page.text(key.about);
            continue;
        }
        page.entry(&bold(key.name()), key.about);
        page.line(".br");
        page.line(&standing(key));
    }
    page.section("EXAMPLE");
    page.text("The least a gate needs:");
    page.example(EXAMPLE);
    page.section("FILES");
    page.entry(&placeholder("/etc/filmgate/filmgate.toml"), "Where every command looks unless told otherwise.");
    page.section("SEE ALSO");
    page.line(".BR filmgate (8)");
    page.finish()
}

/// The commands that do something, with all of their words, in the order of the help.
fn leaves<'a>(command: &'a Command, path: &str) -> Vec<(String, &'a Command)> {
    let mut found = Vec::new();
    for sub in command.get_subcommands() {
        let path = format!("{path} {}", sub.get_name());
        if sub.has_subcommands() {
            found.extend(leaves(sub, &path));
        } else {
            found.push((path, sub));
        }
    }
    found
}

fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
}

fn synopsis(path: &str, command: &Command) -> String {
    let mut out = bold(path);
    for argument in arguments(command) {
        let shown = usage(argument);
        let many = if matches!(argument.get_action(), ArgAction::Append) { "..." } else { "" };
        if argument.is_required_set() {
            out.push_str(&format!(" {shown}{many}"));
        } else {
            out.push_str(&format!(" [{shown}]{many}"));
        }
    }
    out
}

fn value(argument: &Arg) -> String {
    argument.get_value_names().map_or_else(String::new, |names| placeholder(names[0].as_str()))
}

fn usage(argument: &Arg) -> String {
    match argument.get_long() {
        Some(long) if argument.get_action().takes_values() => {
            format!("{} {}", bold(&format!("--{long}")), value(argument))
        }
        Some(long) => bold(&format!("--{long}")),
        None => value(argument),
    }
}

fn head(argument: &Arg) -> String {
    match argument.get_short() {
        Some(short) => format!("{}, {}", bold(&format!("-{short}")), usage(argument)),
        None => usage(argument),
    }
}

fn about(command: &Command) -> String {
    sentence(&command.get_long_about().or(command.get_about()).unwrap().to_string())
}

fn help(argument: &Arg) -> String {
    let text = sentence(&argument.get_long_help().or(argument.get_help()).unwrap().to_string());
    match argument.get_default_values() {
        [default] if argument.get_action().takes_values() => format!("{text}\nDefault: {}.", default.to_string_lossy()),
        _ => text,
    }
}

fn sentence(text: &str) -> String {
    if text.ends_with(['.', '?', '!']) { text.to_string() } else { format!("{text}.") }
}

/// What stands for a key that is not there.
fn standing(key: &Key) -> String {
    let example = |toml: &str| format!("Example: {}", escaped(toml));
    match &key.value {
        Value::Example(toml) | Value::Choice(toml) => example(toml),
        Value::Derived(toml) => format!("{}. Default: from other keys.", example(toml)),
        _ => format!("Default: {}", escaped(&key.default_toml().unwrap_or_default())),
    }
}

fn list(page: &mut Page, title: &str, entries: &[(&str, &str)]) {
    page.section(title);
    for (head, words) in entries {
        page.entry(&bold(head), words);
    }
}

const DESCRIPTION: &[&str] = &[
    "filmgate takes HTTPS requests for media under names of a studio's own and passes them on to Amazon S3.\n\
     Presigned links as ShotGrid makes them arrive at S3 byte for byte as they were signed, over whichever way the\n\
     configuration names: the internet, a Direct Connect line, or an interface endpoint in a VPC.\n\
     On a route with mode = \"re-sign\" it verifies who asks, decides by rules, and signs with credentials of its own.",
    "The package does not start the service. Edit /etc/filmgate/filmgate.toml, look at it with\n\
     runuser -u filmgate -- filmgate check, then: systemctl enable --now filmgate",
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "Take no further connections, let exchanges finish for timeouts.drain, then end what is left and exit.\n\
         A second one ends it at once.",
    ),
    (
        "SIGHUP",
        "What systemctl reload sends: the configuration, certificates, secrets of clients and the files of logs are read\n\
         anew, for requests that begin from then on. A configuration that is refused changes nothing.",
    ),
];

const STATUSES: &[(&str, &str)] = &[
    ("0", "All went well."),
    (
        "1",
        "The gate could not start or go on; standard error says why. filmgate policy explain: the request is denied.",
    ),
    ("2", "The configuration or the command line was refused; nothing was started."),
];

/// What the program reads of its environment.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "FILMGATE_LOG",
        "Instead of log.level: what is told on standard error, such as \"debug\" or \"info,filmgate::net=debug\". It has no part in the access log.",
    ),
    ("AWS_*", "What AWS's own tools understand, where a [[credential]] is to come from AWS's default chain."),
    ("HTTPS_PROXY, NO_PROXY", "The proxy by which STS and SSO are reached, and the hosts that are reached without it."),
    ("CREDENTIALS_DIRECTORY", "Where systemd puts what LoadCredential= names, for secret-credential."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_FDS, LISTEN_PID", "Set by systemd for services and sockets."),
];

const FILES: &[(&str, &str)] = &[
    ("/etc/filmgate/filmgate.toml", "The configuration, see filmgate.toml(5)."),
    ("/var/log/filmgate", "The unit's log directory, for access-log.file."),
    (
        "/usr/share/doc/filmgate",
        "README, and guides: running it, certificates, VPC endpoints and DNS, migration, tuning, security.",
    ),
];

const FORMAT: &[&str] = &[
    "The file is TOML. An unknown key is refused with a suggestion, never ignored; filmgate check prints every problem\n\
     with its key and its line, and filmgate print-default prints the whole file with every key and its default.",
    "Times are strings such as \"250ms\", \"65s\" or \"2m\". Sizes are a number of bytes or a string such as \"8 MiB\".\n\
     A section in two pairs of brackets may be repeated.",
];

const EXAMPLE: &str = "[tls]\n\
certificate = \"/etc/filmgate/tls/fullchain.pem\"\n\
private-key = \"/etc/filmgate/tls/key.pem\"\n\
\n\
[[route]]\n\
hosts  = [\"s3-proxy.mystudio.com\"]\n\
bucket = \"mystudio-media\"\n\
region = \"us-west-2\"";
