//! The secrets of the clients who sign, found by their access keys.

use crate::policy::identity::ClientId;
use crate::sign::credentials::Token;
use crate::sign::key::Secret;

/// One client's key.
#[derive(Debug)]
pub struct Entry {
    /// What rules and logs call the client.
    pub name: String,
    /// The client.
    pub client: ClientId,
    /// What it signs with.
    pub secret: Secret,
    token: Option<Token>,
}

impl Entry {
    /// A key; with `token`, which is taken over, requests must carry that session token.
    #[must_use]
    pub fn new(name: String, client: ClientId, secret: Secret, token: Option<String>) -> Self {
        Self { name, client, secret, token: token.map(Token::new) }
    }

    /// The session token of the key.
    #[must_use]
    pub fn token(&self) -> Option<&[u8]> {
        self.token.as_ref().map(|token| token.as_str().as_bytes())
    }

    /// Whether `given` is the token of the key, in a time that does not tell how far they agree. A key without token
    /// takes none.
    #[must_use]
    pub fn has_token(&self, given: Option<&[u8]>) -> bool {
        match (&self.token, given) {
            (None, None) => true,
            (Some(token), Some(given)) => token.is(given),
            _ => false,
        }
    }
}

/// Every client's key.
#[derive(Debug, Default)]
pub struct Keyring {
    /// Ids of access keys in byte order, each with its key.
    entries: Vec<(Box<[u8]>, Entry)>,
}

impl Keyring {
    /// The keys by their ids. Configuration has seen to it that no id is there twice; if one were, it would be nobody's.
    #[must_use]
    pub fn new(mut entries: Vec<(String, Entry)>) -> Self {
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        let doubled: Vec<_> =
            entries.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0.clone()).collect();
        entries.retain(|(id, _)| !doubled.contains(id));
        Self { entries: entries.into_iter().map(|(id, entry)| (id.into_bytes().into(), entry)).collect() }
    }

    /// The key with this id.
    #[must_use]
    pub fn find(&self, access_key: &[u8]) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|(id, _)| id.as_ref().cmp(access_key)).ok()?;
        Some(&self.entries[found].1)
    }

    /// The key of a client.
    #[must_use]
    pub fn of(&self, client: ClientId) -> Option<&Entry> {
        self.entries.iter().map(|(_, entry)| entry).find(|entry| entry.client == client)
    }

    /// Whether nobody has a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(client: usize, token: Option<&str>) -> Entry {
        let secret = Secret::new("hush".into());
        Entry::new(format!("client {client}"), ClientId(client), secret, token.map(str::to_string))
    }

    #[test]
    fn a_key_is_found_by_its_whole_id_only() {
        let ids = ["AKB", "AKA", "AKAA", "Z"];
        let keyring = Keyring::new(ids.iter().enumerate().map(|(i, id)| (id.to_string(), entry(i, None))).collect());
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(keyring.find(id.as_bytes()).unwrap().client, ClientId(index));
        }
        for id in ["", "AK", "aka", "AKAAA", "ZZ", "AKA\0"] {
            assert!(keyring.find(id.as_bytes()).is_none(), "{id}");
        }
        assert!(keyring.of(ClientId(3)).is_some() && keyring.of(ClientId(4)).is_none());
    }

    #[test]
    fn an_id_of_two_keys_is_nobodys() {
        let keyring = Keyring::new(vec![("A".into(), entry(0, None)), ("A".into(), entry(1, None))]);
        assert!(keyring.find(b"A").is_none() && keyring.is_empty());
    }

    #[test]
    fn a_token_is_demanded_whole_and_only_where_there_is_one() {
        let is_taken = |token, given: Option<&str>| entry(0, token).has_token(given.map(str::as_bytes));
        assert!(is_taken(None, None) && is_taken(Some("tok"), Some("tok")));
        for (token, given) in [
            (None, Some("")),
            (None, Some("t")),
            (Some("tok"), None),
            (Some("tok"), Some("")),
            (Some("tok"), Some("to")),
            (Some("tok"), Some("tokk")),
        ] {
            assert!(!is_taken(token, given), "{token:?} {given:?}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let keyring = Keyring::new(vec![("AKA".into(), entry(0, Some("whisper")))]);
        let shown = format!("{keyring:?}");
        assert!(!shown.contains("hush") && !shown.contains("whisper"), "{shown}");
    }
}
