//! One JSON object.

use std::fmt::Write;

pub(crate) struct Report(String);

impl Report {
    pub(crate) fn new() -> Report {
        Report(String::from("{"))
    }

    pub(crate) fn count(self, name: &str, value: u64) -> Report {
        self.add(name, &value.to_string())
    }

    pub(crate) fn number(self, name: &str, value: f64) -> Report {
        self.add(name, &format!("{value:.6}"))
    }

    /// An object of numbers. The names hold nothing that JSON would have to escape.
    pub(crate) fn numbers(self, name: &str, values: &[(String, f64)]) -> Report {
        let inner = values.iter().fold(Report::new(), |report, (name, value)| report.number(name, *value));
        self.add(name, &inner.finish())
    }

    fn add(mut self, name: &str, value: &str) -> Report {
        let comma = if self.0.len() > 1 { "," } else { "" };
        let _ = write!(self.0, "{comma}\"{name}\":{value}");
        self
    }

    pub(crate) fn finish(self) -> String {
        self.0 + "}"
    }
}
