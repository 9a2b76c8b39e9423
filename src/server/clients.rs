//! The clients of a configuration and the files their secrets are in.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Display, Path, PathBuf};

use crate::limits;
use crate::net::runtime;
use crate::policy::identity::{Client, ClientId, Clients};
use crate::sign::key::Secret;
use crate::sign::keyring::{Entry, Keyring};

/// One client, and where its secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Who it is.
    pub client: Client,
    /// What it signs with; there whenever the client has an access key.
    pub secret: Option<SecretSource>,
    /// A file with the session token its requests must carry.
    pub session_token: Option<PathBuf>,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In a credential that systemd hands to the service (systemd.exec(5), `LoadCredential=`).
    Credential(String),
}

/// A secret that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError {
    /// Index of the client.
    pub client: usize,
    /// The key of its configuration.
    pub key: &'static str,
    /// Cause and fix, in one line.
    pub message: String,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client[{}].{}: {}", self.client, self.key, self.message)
    }
}

impl std::error::Error for SecretError {}

/// The clients without their secrets.
#[must_use]
pub fn clients(options: &[ClientOptions]) -> Clients {
    Clients::new(options.iter().map(|options| options.client.clone()).collect())
}

/// Reads every secret.
///
/// # Errors
/// Every one that cannot be used.
pub fn keyring(options: &[ClientOptions]) -> Result<Keyring, Vec<SecretError>> {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for (index, options) in options.iter().enumerate() {
        let error = |key| move |message| SecretError { client: index, key, message };
        let Some(access_key) = &options.client.access_key else { continue };
        let secret = match &options.secret {
            Some(SecretSource::File(path)) => read(path, Owner::Alone).map_err(error("secret-file")),
            Some(SecretSource::Credential(name)) => read_credential(name).map_err(error("secret-credential")),
            None => Err(error("secret-file")("there is no secret for the access key".to_string())),
        };
        let token = options.session_token.as_ref().map(|path| read(path, Owner::Alone));
        let token = token.transpose().map_err(error("session-token-file"));
        match (secret, token) {
            (Ok(secret), Ok(token)) => {
                let name = options.client.name.clone();
                entries.push((access_key.clone(), Entry::new(name, ClientId(index), Secret::new(secret), token)));
            }
            (secret, token) => errors.extend(secret.err().into_iter().chain(token.err())),
        }
    }
    if errors.is_empty() { Ok(Keyring::new(entries)) } else { Err(errors) }
}

/// Who else may be able to read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Nobody.
    Alone,
    /// Its group: systemd gives credentials to a service by an access control list, which looks like that.
    Group,
}

fn read_credential(name: &str) -> Result<String, String> {
    let Some(directory) = env::var_os("CREDENTIALS_DIRECTORY") else {
        return Err(format!(
            "CREDENTIALS_DIRECTORY is not set: systemd sets it for a unit with LoadCredential={name}:FILE"
        ));
    };
    read(&Path::new(&directory).join(name), Owner::Group)
}

/// The one line of the file at `path`, which nobody else may read.
fn read(path: &Path, owner: Owner) -> Result<String, String> {
    let (file, _) = open(path, owner)?;
    let shown = path.display();
    // All at once, so that no half-grown copy stays behind.
    let mut bytes = Vec::with_capacity(limits::SECRET_FILE_BYTES_MAX + 1);
    let wanted = limits::SECRET_FILE_BYTES_MAX as u64 + 1;
    file.take(wanted).read_to_end(&mut bytes).map_err(|error| because(path, &error))?;
    if bytes.len() > limits::SECRET_FILE_BYTES_MAX {
        return Err(format!("{shown} is larger than 4 KiB; is it the right file?"));
    }
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(format!("{shown} holds more than one word, or something that is no text; write the secret alone"));
    }
    String::from_utf8(bytes).map_err(|_| format!("{shown} is no text"))
}

/// Whether somebody else than `we`, user and group, may read or write a file with this user, group and mode. Root's that
/// our group may read is ours. Root itself asks for others, in a check: there every group of root's own choice will do.
fn is_open((user, group): (u32, u32), mode: u32, we: (u32, u32), owner: Owner) -> bool {
    let is_ours = user == 0 && (group == we.1 || we.0 == 0);
    let closed = match owner {
        Owner::Group => 0o007,
        Owner::Alone if is_ours => 0o037,
        Owner::Alone => 0o077,
    };
    mode & closed != 0
}

/// Opens a file that holds a secret, and says how long it is.
fn open(path: &Path, owner: Owner) -> Result<(File, u64), String> {
    // Before it is opened: a pipe would wait there for somebody who writes to it.
    let is_file = path.metadata().map_err(|error| because(path, &error))?.is_file();
    if !is_file {
        return Err(format!("{} is no ordinary file", path.display()));
    }
    let file = File::open(path).map_err(|error| because(path, &error))?;
    let found = file.metadata().map_err(|error| because(path, &error))?;
    let shown = path.display();
    if is_open((found.uid(), found.gid()), found.mode(), runtime::effective_ids(), owner) {
        return Err(format!(
            "{shown} holds a secret and is open to its group or to others; {}",
            for_the_service(&shown)
        ));
    }
    Ok((file, found.len()))
}

/// What is wrong with a file that holds a secret, whatever is in it: it cannot be read, or others can read it as well.
#[must_use]
pub fn secret_file_problem(path: &Path) -> Option<String> {
    match open(path, Owner::Alone) {
        Ok((_, 0)) => Some(format!("{} is empty", path.display())),
        outcome => outcome.err(),
    }
}

fn for_the_service(path: &Display<'_>) -> String {
    format!("run chown root:filmgate {path} && chmod 640 {path}")
}

fn because(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("{path} does not exist"),
        io::ErrorKind::PermissionDenied => {
            format!("{path} may not be read by the user the gate runs as; {}", for_the_service(&path))
        }
        _ => format!("{path} cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_be_read_by_its_owner_and_where_root_says_so_by_the_group_of_the_service() {
        let (service, root) = ((990, 980), (0, 0));
        for (file, mode, we, is_refused) in [
            ((990, 980), 0o600, service, false),
            ((990, 980), 0o640, service, true),
            (root, 0o600, root, false),
            ((0, 980), 0o640, service, false),
            ((0, 980), 0o100_440, service, false),
            ((0, 980), 0o660, service, true),
            ((0, 980), 0o650, service, true),
            ((0, 980), 0o644, service, true),
            ((0, 981), 0o640, service, true),
            ((5, 980), 0o640, service, true),
            ((0, 980), 0o640, root, false),
            ((5, 980), 0o640, root, true),
            ((0, 980), 0o644, root, true),
        ] {
            assert_eq!(is_open(file, mode, we, Owner::Alone), is_refused, "{file:?} {mode:o} {we:?}");
        }
        assert!(!is_open((0, 0), 0o640, service, Owner::Group) && is_open((0, 0), 0o604, service, Owner::Group));
    }
}
