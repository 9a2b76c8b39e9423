//! PEM files into rustls configurations. Called at start-up and when they are to be read again.
//!
//! One configuration serves every shard, so a client that comes back to another shard resumes its session there: the
//! tickets carry everything, sealed under a key that only this process holds and that rustls rotates.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CipherSuite, Error, RootCertStore, SupportedProtocolVersion, version};
use zeroize::Zeroizing;

pub use rustls::ServerConfig;

pub use super::authorities::Authorities;
use super::certificate::Print;
pub use super::pair::Pair;
use super::pair::Pairs;
use crate::limits;

/// The one protocol the gate speaks (RFC 7301 §6).
const ALPN: &[u8] = b"http/1.1";

/// A TLS protocol version the gate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// A certificate chain and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM key: PKCS #8, PKCS #1 or SEC 1.
    pub private_key: PathBuf,
}

/// Who protects the records of TLS 1.3 once the handshake is over. TLS 1.2 is always rustls'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// Our record layer: bodies pass in place, one decryption and one encryption a byte.
    #[default]
    Own,
    /// rustls: to compare with, and to fall back to.
    Library,
}

/// Whether records of TLS 1.3 that would be [ours](Records::Own) are left to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernel {
    /// Where it takes them, connection by connection.
    #[default]
    Auto,
    /// Never, and it is not even asked.
    Off,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// At least one. A client without SNI, or asking for an unknown name, gets the first.
    pub identities: Vec<Identity>,
    /// Oldest version accepted.
    pub min_version: Version,
    /// Who protects TLS 1.3 records.
    pub records: Records,
    /// PEM certificates of the authorities that clients' certificates come from. With it a client is asked for one; it may
    /// have none, but none that does not verify.
    pub client_ca: Option<PathBuf>,
}

impl ServerOptions {
    /// All files it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let identities = self.identities.iter();
        let pairs = identities.flat_map(|identity| [identity.certificate.as_path(), identity.private_key.as_path()]);
        pairs.chain(self.client_ca.as_deref())
    }
}

/// TLS towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// SNI, and the name the certificate must carry.
    pub server_name: String,
    /// PEM roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Newest version offered; some VPC endpoints drop a TLS 1.3 hello.
    pub max_version: Version,
    /// Who protects TLS 1.3 records.
    pub records: Records,
}

/// What a session towards one upstream needs. Cloning shares it, and with it the sessions that can be resumed.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub(super) rustls: Arc<rustls::ClientConfig>,
    pub(super) server_name: ServerName<'static>,
    roots: Print,
    file: Option<Print>,
}

impl ClientConfig {
    /// The name the upstream's certificate must carry.
    #[must_use]
    pub fn server_name(&self) -> String {
        self.server_name.to_str().into_owned()
    }

    /// What the file of its authorities held, if they are not the system's.
    #[must_use]
    pub fn file(&self) -> Option<Print> {
        self.file
    }

    /// Whether it trusts the same authorities as `other`. What is made of the same options is the same then.
    #[must_use]
    pub fn trusts_same(&self, other: &Self) -> bool {
        self.roots == other.roots
    }
}

/// TLS towards clients, ready for every shard to use.
///
/// # Errors
/// When a file cannot be read or does not hold what it should, naming the file and the fix.
pub fn server(options: &ServerOptions) -> Result<Arc<ServerConfig>, TlsConfigError> {
    let pairs = options.identities.iter().map(Pair::load).collect::<Result<Vec<_>, _>>()?;
    let authorities = options.client_ca.as_deref().map(Authorities::load).transpose()?;
    server_of(options, &pairs, authorities.as_ref())
}

/// As [`server`], of files that have been read: a pair for each identity, and the authorities if there are to be any.
///
/// # Errors
/// When there is no pair.
pub fn server_of(
    options: &ServerOptions,
    pairs: &[Pair],
    authorities: Option<&Authorities>,
) -> Result<Arc<ServerConfig>, TlsConfigError> {
    if pairs.is_empty() {
        return Err(TlsConfigError::NoIdentity);
    }
    let provider = Arc::new(provider());
    let versions: &[&SupportedProtocolVersion] = match options.min_version {
        Version::Tls12 => &[&version::TLS13, &version::TLS12],
        Version::Tls13 => &[&version::TLS13],
    };
    let clients = authorities.map_or_else(WebPkiClientVerifier::no_client_auth, Authorities::verifier);
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let builder = builder.map_err(TlsConfigError::Library)?.with_client_cert_verifier(clients);
    let mut config = builder.with_cert_resolver(Arc::new(Pairs::new(pairs)));
    // Some clients (curl --http1.0 is one) name the older protocol, which the gate speaks as well.
    config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.0".to_vec()];
    // A ticket holds the client's certificate as well, and nobody but this configuration can open it: who resumes a session
    // is who was verified here.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsConfigError::Library)?;
    config.send_tls13_tickets = 2;
    // Also what a session learns the choice from.
    config.enable_secret_extraction = options.records == Records::Own;
    // Tickets do it all; a table of sessions would be a lock that every shard takes.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// TLS towards one upstream, ready for every shard to use.
///
/// # Errors
/// When there is nothing to trust, the file of roots is unusable or the name is none.
pub fn client(options: &ClientOptions) -> Result<ClientConfig, TlsConfigError> {
    let name = options.server_name.strip_suffix('.').unwrap_or(&options.server_name).to_owned();
    let server_name =
        ServerName::try_from(name).map_err(|_| TlsConfigError::ServerName(options.server_name.clone()))?;
    let (roots, file) = match &options.ca_file {
        Some(file) => roots_in(file).map(|(roots, print)| (roots, Some(print)))?,
        None => (system_roots()?, None),
    };
    let versions: &[&SupportedProtocolVersion] = match options.max_version {
        Version::Tls12 => &[&version::TLS12],
        Version::Tls13 => &[&version::TLS13, &version::TLS12],
    };
    let trusted = Print::of_roots(&roots);
    let provider = Arc::new(provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let builder = builder.map_err(TlsConfigError::Library)?.with_root_certificates(roots);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_secret_extraction = options.records == Records::Own;
    config.resumption = Resumption::in_memory_sessions(limits::TLS_SESSIONS_MAX);
    Ok(ClientConfig { rustls: Arc::new(config), server_name, roots: trusted, file })
}

/// The library's choices, AES-128 in front of AES-256: a tenth less work for each byte, and as far from being broken.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => 1,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 2,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 3,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => 4,
        _ => 5,
    });
    provider
}

/// What is in `file`, which is an ordinary one of at most [`PEM_BYTES_MAX`].
///
/// # Errors
/// Why it cannot be had.
pub fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, TlsConfigError> {
    let content = || {
        // Before it is opened: a pipe would wait there for somebody who writes to it.
        let found = std::fs::metadata(file)?;
        match found.file_type() {
            kind if kind.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            kind if !kind.is_file() => return Err(io::Error::other("it is no ordinary file")),
            _ => {}
        }
        // All at once, so that no half-grown copy of a key stays behind.
        let mut content = Zeroizing::new(Vec::with_capacity(found.len().min(PEM_BYTES_MAX) as usize + 1));
        std::fs::OpenOptions::new().read(true).open(file)?.take(PEM_BYTES_MAX + 1).read_to_end(&mut content)?;
        if content.len() as u64 > PEM_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
        }
        Ok(content)
    };
    content().map_err(|error| TlsConfigError::Unreadable(file.to_owned(), error))
}

/// Bytes of one file of certificates or keys.
pub const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub(super) fn certificates_of(file: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let chain = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| TlsConfigError::Pem(file.to_owned(), error))?;
    if chain.is_empty() {
        return Err(TlsConfigError::NoCertificate(file.to_owned()));
    }
    Ok(chain)
}

pub(super) fn key_of(file: &Path, content: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let has = |text: &[u8]| content.windows(text.len()).any(|window| window == text);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsConfigError::EncryptedKey(file.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsConfigError::NoKey(file.to_owned()),
        error => TlsConfigError::Pem(file.to_owned(), error),
    })
}

/// The authorities in `file`, and what it held.
pub(super) fn roots_in(file: &Path) -> Result<(RootCertStore, Print), TlsConfigError> {
    let content = read(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(file, &content)? {
        roots.add(certificate).map_err(|error| TlsConfigError::Certificate(file.to_owned(), error))?;
    }
    Ok((roots, Print::of_contents([&content])))
}

fn system_roots() -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // A system's store may hold a few that WebPKI does not take; the others still serve.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(TlsConfigError::NoSystemRoots(found.errors.first().map(ToString::to_string)));
    }
    Ok(roots)
}

/// Why a TLS configuration cannot be used. The text names the file, the likely cause and the fix.
#[derive(Debug)]
pub enum TlsConfigError {
    /// HTTPS without a certificate.
    NoIdentity,
    /// The file could not be read.
    Unreadable(PathBuf, std::io::Error),
    /// The file is not well-formed PEM.
    Pem(PathBuf, pem::Error),
    /// The file holds no certificate.
    NoCertificate(PathBuf),
    /// The file holds no private key.
    NoKey(PathBuf),
    /// The private key is protected by a passphrase.
    EncryptedKey(PathBuf),
    /// The certificate is damaged or of a kind that is not supported.
    Certificate(PathBuf, Error),
    /// The key is damaged or of a kind that is not supported.
    Key(PathBuf, Error),
    /// The key is not the certificate's.
    KeyMismatch {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        private_key: PathBuf,
        /// The key belongs to another certificate of the same file.
        leaf_is_not_first: bool,
    },
    /// The system has no trusted roots; the first thing that went wrong looking for them.
    NoSystemRoots(Option<String>),
    /// Neither a DNS name nor an address.
    ServerName(String),
    /// The TLS library cannot start.
    Library(Error),
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIdentity => {
                f.write_str("HTTPS needs a certificate: set `certificate` and `private-key` in section [tls]")
            }
            Self::Unreadable(file, error) => {
                let hint = match error.kind() {
                    std::io::ErrorKind::NotFound => "check the path",
                    std::io::ErrorKind::PermissionDenied => "let the user that filmgate runs as read it",
                    _ => "it must be a readable file",
                };
                write!(f, "{}: {error}; {hint}", file.display())
            }
            Self::Pem(file, error) => {
                write!(f, "{}: not well-formed PEM ({error}); was it cut off when it was copied?", file.display())
            }
            Self::NoCertificate(file) => write!(
                f,
                "{0}: no certificate in it; expected PEM with a line `-----BEGIN CERTIFICATE-----`. From DER: `openssl \
                 x509 -inform der -in {0} -out chain.pem`",
                file.display()
            ),
            Self::NoKey(file) => write!(
                f,
                "{0}: no private key in it; expected PEM with a line `-----BEGIN PRIVATE KEY-----` (or RSA or EC). From \
                 DER: `openssl pkey -inform der -in {0} -out key.pem`",
                file.display()
            ),
            Self::EncryptedKey(file) => write!(
                f,
                "{0}: the private key is protected by a passphrase, which a service cannot type. Write it without: \
                 `openssl pkey -in {0} -out key.pem`",
                file.display()
            ),
            Self::Certificate(file, error) => {
                write!(f, "{}: a certificate in it cannot be used: {error}; expected X.509 version 3", file.display())
            }
            Self::Key(file, error) => write!(
                f,
                "{}: the private key cannot be used: {error}; expected RSA of 2048 bits or more, ECDSA or Ed25519",
                file.display()
            ),
            Self::KeyMismatch { certificate, private_key, leaf_is_not_first } => {
                let (certificate, private_key) = (certificate.display(), private_key.display());
                if *leaf_is_not_first {
                    return write!(
                        f,
                        "{certificate}: the certificate of key {private_key} is in it but not first; put the server's \
                         certificate first and those of the authorities behind it"
                    );
                }
                write!(
                    f,
                    "{certificate}: its first certificate does not belong to the key in {private_key}; both commands must \
                     print the same: `openssl x509 -noout -pubkey -in {certificate}` and `openssl pkey -pubout -in \
                     {private_key}`"
                )
            }
            Self::NoSystemRoots(why) => {
                f.write_str("this system trusts no certificate authority")?;
                if let Some(why) = why {
                    write!(f, " ({why})")?;
                }
                f.write_str("; install the package `ca-certificates`, or name the authorities to trust in `ca-file`")
            }
            Self::ServerName(name) => {
                write!(f, "`{name}` is not a server name; expected a DNS name such as s3.us-west-2.amazonaws.com")
            }
            Self::Library(error) => write!(f, "the TLS library cannot start: {error}"),
        }
    }
}

impl std::error::Error for TlsConfigError {}
