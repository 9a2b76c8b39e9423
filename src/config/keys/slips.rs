//! What to say about a key that nobody knows.

use super::{KEYS, Key, children, find};

/// What to say about `name`, which is not known inside `parent`.
#[must_use]
pub fn unknown(parent: &str, name: &str) -> String {
    let quoted = name.escape_debug();
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    if let Some(key) = children(parent)
        .filter(|key| key.name() == wanted || closeness(key, &wanted).is_some())
        .min_by_key(|key| closeness(key, &wanted))
    {
        return format!("unknown key `{quoted}`; did you mean `{}`?", key.name());
    }
    if let Some(home) = KEYS.iter().find(|key| key.name() == wanted).and_then(|key| find(key.parent())) {
        return format!("unknown key `{quoted}` here; it belongs in {}", home.header());
    }
    let known: Vec<_> = children(parent).map(Key::name).collect();
    format!("unknown key `{quoted}`; known here: {}", known.join(", "))
}

/// Typing slips between `wanted` and the key's name, if few enough to be slips.
fn closeness(key: &Key, wanted: &str) -> Option<usize> {
    let slips_max = (1 + key.name().len() / 3).min(3);
    let length_gap = key.name().len().abs_diff(wanted.chars().count());
    if length_gap > slips_max {
        return None;
    }
    Some(slips(key.name(), wanted)).filter(|slips| *slips <= slips_max)
}

/// Levenshtein distance: letters to insert, delete or replace.
fn slips(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        let cases =
            [("listen", "listn", 1), ("listen", "listen", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3)];
        for (left, right, expected) in cases {
            assert_eq!(slips(left, right), expected, "{left} {right}");
        }
    }
}
