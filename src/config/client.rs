//! Clients: who they are, where their secrets are, and what keeps others out.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use toml::de::DeValue;

use super::file::{Refused, Section, text};
use super::value;
use crate::limits;
use crate::policy::identity::{CertificateName, Client};
use crate::policy::network::{Network, NotNetwork};
use crate::server::clients::{ClientOptions, SecretSource};
use crate::tls::config::ServerOptions;

/// Every `[[client]]` of the document.
pub(super) fn read(root: &Section<'_>) -> Result<Vec<ClientOptions>, Refused> {
    let sections = root.sections("client");
    if sections.len() > limits::CLIENTS_MAX {
        return Err(root.error("client", format!("{} clients are more than {}", sections.len(), limits::CLIENTS_MAX)));
    }
    let mut names = Vec::new();
    let mut keys = Vec::new();
    let mut clients = Vec::with_capacity(sections.len());
    for section in &sections {
        let options = client(section);
        if let Ok(ClientOptions { client, .. }) = &options {
            if names.contains(&client.name) {
                section.error("name", format!("{:?} is the name of an earlier client", client.name));
            }
            names.push(client.name.clone());
            if client.access_key.is_some() && keys.contains(&client.access_key) {
                section.error("access-key", "it is the access key of an earlier client; each needs its own");
            }
            keys.push(client.access_key.clone());
        }
        clients.push(options);
    }
    clients.into_iter().collect()
}

fn client(section: &Section<'_>) -> Result<ClientOptions, Refused> {
    let name = section.require("name", value::credential_name);
    let access_key = section.read("access-key", |value| access_key(text(value)?));
    let secret_file = section.read("secret-file", file);
    let secret_credential = section.read("secret-credential", credential);
    let session_token = section.read("session-token-file", file);
    let networks = section.list("addresses", network);
    let certificate_names = section.list("certificate-names", certificate_name);
    let not_before = section.read("not-before", moment);
    let not_after = section.read("not-after", moment);

    let access_key = access_key?;
    let secret = secret(section, access_key.is_some(), secret_file, secret_credential);
    if access_key.is_none() && matches!(session_token, Ok(Some(_))) {
        section.error("session-token-file", "a client without access-key signs nothing, so it has no token");
    }
    for key in ["addresses", "certificate-names"] {
        if section.has(key) && section.is_empty_list(key) {
            section.error(key, "the list is empty, so nobody fits; remove the line if everybody may");
        }
    }
    let (networks, certificate_names) = (networks?.unwrap_or_default(), certificate_names?.unwrap_or_default());
    if access_key.is_none() {
        if networks.is_empty() && certificate_names.is_empty() {
            let message = "a client without access-key needs addresses or certificate-names: else it is everybody";
            section.error("addresses", message);
        }
        let everything = networks.iter().find(|entry| entry.value.is_everything());
        if let Some(entry) = everything.filter(|_| certificate_names.is_empty()) {
            section.report().error(&entry.place, "without access-key and certificate-names this lets everybody in");
        }
    }
    let (not_before, not_after) = (not_before?, not_after?);
    if let (Some(from), Some(until)) = (not_before, not_after)
        && until <= from
    {
        section.error("not-after", "it is not later than not-before, so the client is never valid");
    }
    Ok(ClientOptions {
        client: Client {
            name: name?,
            access_key,
            networks: networks.into_iter().map(|entry| entry.value).collect(),
            certificate_names: certificate_names.into_iter().map(|entry| entry.value).collect(),
            not_before,
            not_after,
        },
        secret: secret?,
        session_token: session_token?,
    })
}

/// Without authorities nobody has a verified certificate, and a client that needs one is never admitted.
pub(super) fn check_certificates(root: &Section<'_>, clients: &[ClientOptions], tls: Option<&ServerOptions>) {
    if tls.is_some_and(|tls| tls.client_ca.is_some()) {
        return;
    }
    for (options, section) in clients.iter().zip(root.sections("client")) {
        if !options.client.certificate_names.is_empty() {
            let message = "there is no tls.client-ca-file, so no certificate of a client is ever verified";
            section.error("certificate-names", message);
        }
    }
}

/// One secret for an access key, none without.
fn secret(
    section: &Section<'_>,
    has_key: bool,
    file: Result<Option<PathBuf>, Refused>,
    credential: Result<Option<String>, Refused>,
) -> Result<Option<SecretSource>, Refused> {
    match (file?, credential?) {
        (Some(_), Some(_)) => {
            Err(section.error("secret-credential", "write either secret-file or secret-credential, not both"))
        }
        (Some(_), None) if !has_key => Err(section.error("secret-file", WITHOUT_KEY)),
        (None, Some(_)) if !has_key => Err(section.error("secret-credential", WITHOUT_KEY)),
        (None, None) if has_key => Err(section.missing("secret-file")),
        (Some(path), None) => Ok(Some(SecretSource::File(path))),
        (None, Some(name)) => Ok(Some(SecretSource::Credential(name))),
        (None, None) => Ok(None),
    }
}

const WITHOUT_KEY: &str = "there is a secret and no access-key, so the client would be trusted without a signature";

/// AWS, `GetAccessKeyInfo`: 16 to 128 letters and digits; underscores are in the ids of some others.
fn access_key(typed: &str) -> Result<String, String> {
    let plain = typed.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && (ACCESS_KEY_BYTES_MIN..=limits::ACCESS_KEY_BYTES_MAX).contains(&typed.len()) {
        return Ok(typed.to_string());
    }
    Err(format!(
        "an access key has {ACCESS_KEY_BYTES_MIN} to {} letters, digits and underscores",
        limits::ACCESS_KEY_BYTES_MAX
    ))
}

/// Shorter ones are typing errors.
const ACCESS_KEY_BYTES_MIN: usize = 3;

fn file(value: &DeValue<'_>) -> Result<PathBuf, String> {
    match text(value)? {
        "" => Err("empty; write the name of a file".to_string()),
        path => Ok(PathBuf::from(path)),
    }
}

/// systemd.exec(5): the name is one of a file in the directory.
fn credential(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(format!("{name:?} is no name of a systemd credential; write the ID of LoadCredential=ID:FILE"));
    }
    Ok(name.to_string())
}

fn network(typed: &str) -> Result<Network, String> {
    typed.parse().map_err(|wrong| match wrong {
        NotNetwork::Address => {
            format!("{typed:?} is no network; write it like \"10.0.0.0/8\", \"fd00::/8\" or \"10.0.0.5\"")
        }
        NotNetwork::Length => format!("{typed:?}: behind the slash stands a number up to 32 (IPv6: 128)"),
        NotNetwork::HostBits(network) => {
            format!("{typed:?} has bits behind its prefix; write \"{network}\", or the address alone")
        }
    })
}

fn certificate_name(typed: &str) -> Result<CertificateName, String> {
    CertificateName::new(typed).ok_or_else(|| {
        format!("{typed:?} is no name; write \"farm.mystudio.com\", \"*.render.mystudio.com\" or \"CN=farm\"")
    })
}

/// RFC 3339, in seconds since 1970.
fn moment(value: &DeValue<'_>) -> Result<u64, String> {
    let typed = text(value)?;
    let wrong = || format!("{typed:?} is no moment; write it like \"2026-01-31T00:00:00Z\"");
    let time: SystemTime = humantime::parse_rfc3339(typed).map_err(|_| wrong())?;
    Ok(time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?.as_secs())
}
