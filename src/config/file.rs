//! A TOML document read against the table of keys, every value with the line it stood on.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key};
use super::{Problem, Severity};

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Path with indexes.
    pub(super) key: String,
    /// From 1; `None` for what was not written.
    pub(super) line: Option<usize>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A value that is missing or wrong, and has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// The problems found so far, and where the lines of the text end.
pub(super) struct Report {
    newlines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

/// One table of the document.
pub(super) struct Section<'a> {
    report: &'a Report,
    path: String,
    table: Option<&'a DeTable<'a>>,
    line: Option<usize>,
    /// Something that is no table stands in its place, and has been reported.
    broken: bool,
}

/// The document's tables.
///
/// # Errors
/// The first thing that is not TOML.
pub(super) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Problem> {
    DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let message = format!("not TOML: {}", error.message().replace('\n', " "));
        Problem { severity: Severity::Error, key: String::new(), line, message }
    })
}

/// The line, from 1, on which the value of a key stands; `None` if it does not.
#[must_use]
pub fn locate(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut words = key.split(['.', '[']).map(|word| word.trim_end_matches(']'));
    let mut value = document.get_ref().get(words.next()?)?;
    for word in words {
        value = match value.get_ref() {
            DeValue::Table(table) => table.get(word)?,
            DeValue::Array(items) => items.get(word.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(line_of(text, value.span().start))
}

impl Report {
    pub(super) fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset).collect();
        Self { newlines, problems: RefCell::default() }
    }

    /// The line, from 1, on which something starts.
    fn line_of<T>(&self, value: &Spanned<T>) -> Option<usize> {
        let offset = value.span().start;
        Some(1 + self.newlines.partition_point(|newline| *newline < offset))
    }

    pub(super) fn error(&self, place: &Place, message: impl Into<String>) -> Refused {
        self.push(Severity::Error, place, message.into());
        Refused
    }

    pub(super) fn warning(&self, place: &Place, message: impl Into<String>) {
        self.push(Severity::Warning, place, message.into());
    }

    fn push(&self, severity: Severity, place: &Place, message: String) {
        let problem = Problem { severity, key: place.key.clone(), line: place.line, message };
        self.problems.borrow_mut().push(problem);
    }

    /// Everything found, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        problems
    }

    /// Reports every key of `table` that the table of keys does not have, however deep.
    pub(super) fn unknown_keys(&self, parent: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = join(parent, name.get_ref());
            let known = keys::children(parent).find(|key| key.name() == name.get_ref());
            match known {
                None => {
                    let line = self.line_of(name);
                    self.error(&Place { key: path, line }, keys::unknown(parent, name.get_ref()));
                }
                Some(key) if key.is_section() => self.unknown_keys_within(&path, key, value),
                Some(_) => {}
            }
        }
    }

    /// Looks into a value that has the shape of its section; the other shapes are told when the section is read.
    fn unknown_keys_within(&self, path: &str, section: &Key, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) if !section.path.ends_with("[]") => self.unknown_keys(path, table),
            DeValue::Array(items) if section.path.ends_with("[]") => {
                for (index, item) in items.iter().enumerate() {
                    if let DeValue::Table(table) = item.get_ref() {
                        self.unknown_keys(&format!("{path}[{index}]"), table);
                    }
                }
            }
            _ => {}
        }
    }
}

impl<'a> Section<'a> {
    /// The document itself.
    pub(super) fn root(report: &'a Report, table: &'a DeTable<'a>) -> Self {
        Self { report, path: String::new(), table: Some(table), line: None, broken: false }
    }

    /// Whether it is written down.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Where the value of `key` stands, or else where the section does.
    pub(super) fn place(&self, key: &str) -> Place {
        let line = self.value(key).map_or(self.line, |value| self.report.line_of(value));
        Place { key: join(&self.path, key), line }
    }

    /// Reports `message` about `key`.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> Refused {
        if self.broken { Refused } else { self.report.error(&self.place(key), message) }
    }

    /// Reports `message` about `key`, which the gate can live with.
    pub(super) fn warning(&self, key: &str, message: impl Into<String>) {
        self.report.warning(&self.place(key), message);
    }

    /// The report that problems go to.
    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    /// Whether `key` is written down.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The value of `key`, or its default's, or `None` if it has neither.
    pub(super) fn read<T>(
        &self,
        key: &str,
        decode: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Result<Option<T>, Refused> {
        match self.value(key) {
            Some(value) => decode(value.get_ref()).map(Some).map_err(|message| self.error(key, message)),
            None => self.default_of(key, decode),
        }
    }

    /// Like [`read`](Self::read), for a key that must be there.
    pub(super) fn require<T>(
        &self,
        key: &str,
        decode: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Result<T, Refused> {
        self.read(key, decode)?.ok_or_else(|| self.missing(key))
    }

    /// Reports that `key` must be there.
    pub(super) fn missing(&self, key: &str) -> Refused {
        match keys::find(&join(&self.path, key)).map(|key| &key.value) {
            Some(keys::Value::Example(toml)) => self.error(key, format!("missing; write for example `{key} = {toml}`")),
            _ => self.error(key, "missing"),
        }
    }

    /// The strings of `key`, each with its place; one string stands for a list of one. A default if it has one.
    /// Entries that do not decode are reported, and then the whole list is refused.
    pub(super) fn list<T>(
        &self,
        key: &str,
        decode: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<Entry<T>>>, Refused> {
        let Some(value) = self.value(key) else {
            let place = self.place(key);
            let decode_all = |value: &DeValue<'_>| {
                let items = value.as_array().into_iter().flat_map(|items| items.iter());
                let decoded = items.filter_map(|item| decode(item.get_ref().as_str()?).ok());
                Ok(decoded.map(|value| Entry { value, place: place.clone() }).collect())
            };
            return self.default_of(key, decode_all);
        };
        let path = join(&self.path, key);
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().enumerate().map(|(i, item)| (format!("{path}[{i}]"), item)).collect(),
            DeValue::String(_) => vec![(path, value)],
            other => return Err(self.error(key, format!("expected a list of strings, found {}", kind(other)))),
        };
        let decoded: Vec<_> = items.into_iter().map(|(key, item)| self.entry(key, item, &decode)).collect();
        decoded.into_iter().collect::<Result<Vec<_>, _>>().map(Some)
    }

    fn entry<T>(
        &self,
        key: String,
        item: &Spanned<DeValue<'_>>,
        decode: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Entry<T>, Refused> {
        let place = Place { key, line: self.report.line_of(item) };
        let decoded = text(item.get_ref()).and_then(decode);
        match decoded {
            Ok(value) => Ok(Entry { value, place }),
            Err(message) => Err(self.report.error(&place, message)),
        }
    }

    /// The table of `key`; an empty one if it is not written down.
    pub(super) fn section(&self, key: &str) -> Section<'a> {
        let place = self.place(key);
        let (table, broken) = match self.value(key).map(Spanned::get_ref) {
            None => (None, self.broken),
            Some(DeValue::Table(table)) => (Some(table), false),
            Some(DeValue::Array(_)) => {
                self.error(key, format!("there is one only; write [{}] in single brackets", place.key));
                (None, true)
            }
            Some(other) => {
                self.error(key, format!("expected a table [{}], found {}", place.key, kind(other)));
                (None, true)
            }
        };
        Section { report: self.report, path: place.key, table, line: place.line, broken }
    }

    /// The tables of `key`.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let path = join(&self.path, key);
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.error(key, format!("it is a list; write [[{path}]] in double brackets"));
            let path = format!("{path}[0]");
            return vec![Section { report: self.report, path, table: None, line: self.line, broken: true }];
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = Place { key: format!("{path}[{index}]"), line: self.report.line_of(item) };
            let table = item.get_ref().as_table();
            if table.is_none() {
                self.report.error(&place, format!("expected a table, found {}", kind(item.get_ref())));
            }
            let broken = table.is_none();
            sections.push(Section { report: self.report, path: place.key, table, line: place.line, broken });
        }
        sections
    }

    /// The strings that `key` has in each table of a list, without a word about what is wrong with them.
    pub(super) fn strings_in(&self, list: &str, key: &str) -> Vec<Option<String>> {
        let items = self.value(list).and_then(|value| value.get_ref().as_array());
        let string =
            |item: &Spanned<DeValue<'_>>| Some(item.get_ref().as_table()?.get(key)?.get_ref().as_str()?.to_string());
        items.into_iter().flat_map(|items| items.iter()).map(string).collect()
    }

    /// Whether `key` is a list with nothing in it.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.value(key).and_then(|value| value.get_ref().as_array()).is_some_and(|items| items.is_empty())
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(
            keys::children(&self.path).any(|known| known.name() == key),
            "{}.{key} is in no table",
            self.path
        );
        self.table?.get(key)
    }

    fn default_of<T>(
        &self,
        key: &str,
        decode: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Result<Option<T>, Refused> {
        let Some(toml) = keys::find(&join(&self.path, key)).and_then(Key::default_toml) else { return Ok(None) };
        let value = DeValue::parse(&toml).map_err(|error| self.error(key, error.message()))?;
        decode(value.get_ref()).map(Some).map_err(|message| self.error(key, message))
    }
}

/// A value that must be a string.
pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("expected a string in quotes, found {}", kind(value)))
}

/// A value that must be `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("expected true or false without quotes, found {}", kind(value)))
}

/// What a value is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn join(parent: &str, key: &str) -> String {
    let key = key.escape_debug();
    if parent.is_empty() { key.to_string() } else { format!("{parent}.{key}") }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}
