//! Who may ask: the clients of a configuration, and what has to be true of a request before it can be one of them.
//!
//! No secrets are here; they are in [`sign::keyring`](crate::sign::keyring).

use std::net::IpAddr;

use super::network::Network;

/// Index of a client in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub usize);

/// Somebody who may use routes that sign anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// What rules and logs call it.
    pub name: String,
    /// The id of its access key; `None` for a client that is trusted without a signature.
    pub access_key: Option<String>,
    /// Where it may come from; empty for anywhere.
    pub networks: Vec<Network>,
    /// Names of which its certificate must carry one; empty for none needed.
    pub certificate_names: Vec<CertificateName>,
    /// First moment it is admitted, in seconds since 1970.
    pub not_before: Option<u64>,
    /// First moment it is no longer admitted, in seconds since 1970.
    pub not_after: Option<u64>,
}

impl Client {
    /// Whether something besides a key keeps others out. A client without key must have it.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        !self.networks.is_empty() || !self.certificate_names.is_empty()
    }

    /// Whether the client is who `presence` could be, its key not considered.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn admits(&self, presence: &Presence<'_>) -> Result<(), NotAdmitted> {
        if self.access_key.is_none() && !self.is_guarded() {
            return Err(NotAdmitted::Address);
        }
        if !self.networks.is_empty() && !self.networks.iter().any(|network| network.contains(presence.address)) {
            return Err(NotAdmitted::Address);
        }
        let is_named = |wanted: &CertificateName| presence.certificate_names.iter().any(|name| wanted.fits(name));
        if !self.certificate_names.is_empty() && !self.certificate_names.iter().any(is_named) {
            return Err(NotAdmitted::Certificate);
        }
        if self.not_before.is_some_and(|from| presence.now < from) {
            return Err(NotAdmitted::NotYet);
        }
        if self.not_after.is_some_and(|until| presence.now >= until) {
            return Err(NotAdmitted::NoLonger);
        }
        Ok(())
    }
}

/// A name that a verified certificate may carry: `farm.mystudio.com`, `*.mystudio.com` (one label), or `CN=farm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName(String);

impl CertificateName {
    /// Takes a name as it is written in a configuration; `None` for one that fits nothing or too much.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_name = match name.strip_prefix("CN=") {
            Some(common) => !common.is_empty(),
            None => {
                let rest = name.strip_prefix("*.").unwrap_or(name);
                let labels_enough =
                    rest.len() == name.len() || rest.split('.').filter(|label| !label.is_empty()).count() > 1;
                !rest.is_empty() && !rest.contains('*') && labels_enough
            }
        };
        is_name.then(|| Self(name.to_string()))
    }

    /// Whether a certificate's name is this one. Common names (`CN=` in front) are compared exactly, others without
    /// regard to case.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        if self.0.starts_with("CN=") || name.starts_with("CN=") {
            return self.0 == name;
        }
        let Some(domain) = self.0.strip_prefix('*') else { return self.0.eq_ignore_ascii_case(name) };
        let Some(at) = name.find('.') else { return false };
        let (label, rest) = name.split_at(at);
        let is_label =
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        is_label && rest.eq_ignore_ascii_case(domain)
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known of whoever sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Presence<'a> {
    /// Where it comes from.
    pub address: IpAddr,
    /// The names of its verified certificate: DNS names, URIs and addresses of mail as they are, the subject's common
    /// name with `CN=` in front.
    pub certificate_names: &'a [String],
    /// Now, in seconds since 1970.
    pub now: u64,
}

/// Why a request cannot be of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// It comes from elsewhere.
    Address,
    /// It comes without certificate, or with another's.
    Certificate,
    /// The client's time has not begun.
    NotYet,
    /// The client's time is over.
    NoLonger,
}

impl NotAdmitted {
    /// In words, for a log or a person.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Address => "the client may not come from this address",
            Self::Certificate => "the client needs a certificate with one of its names",
            Self::NotYet => "the client is not valid yet",
            Self::NoLonger => "the client is not valid any more",
        }
    }
}

/// Every client of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    clients: Vec<Client>,
    /// Access keys in byte order, each with its client.
    keys: Vec<(Box<[u8]>, ClientId)>,
    /// Those without key.
    trusted: Vec<ClientId>,
}

impl Clients {
    /// The clients in the order of the configuration, which has seen to it that no key has two of them. If one had,
    /// neither could be told from the other, and the key would be nobody's.
    #[must_use]
    pub fn new(clients: Vec<Client>) -> Self {
        let mut keys: Vec<(Box<[u8]>, ClientId)> = Vec::new();
        let mut trusted = Vec::new();
        for (index, client) in clients.iter().enumerate() {
            match &client.access_key {
                Some(key) => keys.push((key.as_bytes().into(), ClientId(index))),
                None => trusted.push(ClientId(index)),
            }
        }
        keys.sort();
        let doubled: Vec<_> =
            keys.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0.clone()).collect();
        keys.retain(|(key, _)| !doubled.contains(key));
        Self { clients, keys, trusted }
    }

    /// The client of an access key.
    #[must_use]
    pub fn by_key(&self, access_key: &[u8]) -> Option<ClientId> {
        let found = self.keys.binary_search_by(|(key, _)| key.as_ref().cmp(access_key)).ok()?;
        Some(self.keys[found].1)
    }

    /// Whether `id` could be whoever is present, its key not considered.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn admits(&self, id: ClientId, presence: &Presence<'_>) -> Result<(), NotAdmitted> {
        self.get(id).admits(presence)
    }

    /// The clients without key that could be whoever is present.
    pub fn trusted<'a>(&'a self, presence: &Presence<'a>) -> impl Iterator<Item = ClientId> + 'a {
        let presence = *presence;
        self.trusted.iter().copied().filter(move |id| self.admits(*id, &presence).is_ok())
    }

    /// The clients with a key that could be whoever is present, their keys not considered.
    pub fn keyed<'a>(&'a self, presence: &Presence<'a>) -> impl Iterator<Item = ClientId> + 'a {
        let presence = *presence;
        self.keys.iter().map(|(_, id)| *id).filter(move |id| self.admits(*id, &presence).is_ok())
    }

    /// The client of an id.
    ///
    /// # Panics
    /// When the id is of another configuration.
    #[must_use]
    pub fn get(&self, id: ClientId) -> &Client {
        &self.clients[id.0]
    }

    /// The client of a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<ClientId> {
        self.clients.iter().position(|client| client.name == name).map(ClientId)
    }

    /// Every client, in the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Client] {
        &self.clients
    }
}
