//! What went wrong, in words that may be logged.

use std::error::Error;
use std::fmt;

/// Longest text of one failure, in characters.
const TEXT_MAX: usize = 300;

/// Why there are no credentials. One line, bounded, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure(String);

impl Failure {
    /// `text` is ours and holds no secret.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The words of an error and of what is behind it.
    pub(super) fn of(what: &str, error: &dyn Error) -> Self {
        let mut text = what.to_owned();
        let mut last = String::new();
        let mut next = Some(error);
        while let Some(error) = next {
            let said = error.to_string();
            if !said.is_empty() && said != last {
                text.push_str(": ");
                text.push_str(&tame(&said));
            }
            last = said;
            next = error.source();
        }
        Self(bounded(text))
    }

    /// What a service answered: the code of its error, and the message, in which `secrets` are blanked. STS repeats
    /// signed fields in its messages, the caller's token among them.
    pub(super) fn answered(what: &str, code: &str, message: &str, secrets: &[&str]) -> Self {
        let mut message = message.to_owned();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            message = message.replace(secret, "(...)");
        }
        Self(bounded(format!("{what}: {}: {}", tame(code), tame(&message))))
    }
}

/// The first line only, which is where people are spoken to. What a command wrote to its standard error is not ours to
/// repeat: it may hold anything.
fn tame(text: &str) -> String {
    let (text, cut) = match text.split_once("Stderr:") {
        Some((before, _)) => (before, " (what the command wrote is not shown)"),
        None => (text, ""),
    };
    let line = text.lines().next().unwrap_or_default().trim_end();
    format!("{}{cut}", line.replace(char::is_control, "?"))
}

fn bounded(text: String) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_a_service_answers_is_one_bounded_line_without_secrets() {
        let message = "The token T0KEN is bad\x07\nThe Canonical String should have been\nx-amz-security-token:T0KEN";
        let failure = Failure::answered("STS", "Signature", message, &["T0KEN", ""]);
        assert_eq!(failure.to_string(), "STS: Signature: The token (...) is bad?");
        let long = Failure::answered("STS", "Code", &"é".repeat(1000), &[]).to_string();
        assert_eq!(long.chars().count(), TEXT_MAX + 3);
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_without_what_commands_write() {
        let cause = io::Error::other("exited with 1. Stderr: wJalr");
        let failure = Failure::of("the profile", &io::Error::other(cause));
        let text = failure.to_string();
        assert!(text.starts_with("the profile: exited with 1. (what the command") && !text.contains("wJalr"), "{text}");
    }
}
