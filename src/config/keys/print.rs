//! The table as a file, with a comment above every line.

use super::{KEYS, Value};

/// The commented file with every key, as `filmgate print-default` prints it.
#[must_use]
pub fn default_file() -> String {
    let mut out = String::from("# filmgate configuration. Every value here is the default, except the names of your\n");
    out.push_str("# studio: tls.certificate, tls.private-key and the [[route]] keys hosts, bucket and region.\n");
    let mut commented = false;
    for key in KEYS {
        if key.is_section() {
            commented = matches!(key.value, Value::Alternative);
            out.push('\n');
            push_about(&mut out, key.about);
            push_line(&mut out, commented, &key.header());
            continue;
        }
        push_about(&mut out, key.about);
        let (commented, toml) = match &key.value {
            Value::Derived(toml) | Value::Choice(toml) => (true, (*toml).to_string()),
            Value::Example(toml) => (commented, (*toml).to_string()),
            _ => (commented, key.default_toml().unwrap_or_default()),
        };
        push_line(&mut out, commented, &format!("{} = {toml}", key.name()));
    }
    out
}

fn push_about(out: &mut String, about: &str) {
    for line in about.lines() {
        out.push_str("# ");
        out.push_str(line);
        out.push('\n');
    }
}

fn push_line(out: &mut String, commented: bool, line: &str) {
    if commented {
        out.push('#');
    }
    out.push_str(line);
    out.push('\n');
}
