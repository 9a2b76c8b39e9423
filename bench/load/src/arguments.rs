//! `--name value` pairs, every one of which has to be used: a misspelt option must not measure something else.

use std::cell::Cell;
use std::str::FromStr;

use crate::Failure;

pub(crate) struct Arguments(Vec<(String, String, Cell<bool>)>);

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
        let mut pairs = Vec::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word} is not an option"))?;
            let value = words.next().ok_or_else(|| format!("--{name} needs a value"))?;
            pairs.push((name.to_owned(), value, Cell::new(false)));
        }
        Ok(Arguments(pairs))
    }

    /// The value of an option, or None when it was not given.
    pub(crate) fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some((_, value, used)) = self.0.iter().find(|(known, ..)| known == name) else { return Ok(None) };
        used.set(true);
        value.parse().map(Some).map_err(|_| format!("--{name} {value} makes no sense").into())
    }

    /// The value of an option that must be there.
    pub(crate) fn need<T: FromStr>(&self, name: &str) -> Result<T, Failure> {
        self.get(name)?.ok_or_else(|| format!("--{name} is missing").into())
    }

    /// Fails when an option was given that nothing asked for.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        match self.0.iter().find(|(_, _, used)| !used.get()) {
            Some((name, ..)) => Err(format!("--{name} is unknown here").into()),
            None => Ok(()),
        }
    }
}
