//! A TLS 1.3 peer that can say anything: it knows the traffic secrets and follows no rule (RFC 8446 §5, §7).

use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, KeyType, Prk};
use filmgate::tls::config::{
    self, ClientConfig, ClientOptions, Identity, Records, ServerConfig, ServerOptions, Version,
};
use filmgate::tls::session::Session;
use rustls::crypto::aws_lc_rs as library;
use rustls::{Connection, KeyLog, RootCertStore};

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// New keys follow, and whether they are wanted in return (RFC 8446 §4.6.3).
pub(crate) const fn key_update(request: u8) -> [u8; 5] {
    [24, 0, 0, 1, request]
}

/// A cipher suite of TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Aes128,
    Aes256,
    ChaCha20,
}

pub(crate) const SUITES: [Suite; 3] = [Suite::Aes128, Suite::Aes256, Suite::ChaCha20];

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl Suite {
    fn hash(self) -> (hkdf::Algorithm, usize) {
        if self == Self::Aes256 { (hkdf::HKDF_SHA384, 48) } else { (hkdf::HKDF_SHA256, 32) }
    }

    fn key(self, bytes: &[u8]) -> LessSafeKey {
        let algorithm = match self {
            Self::Aes128 => &AES_128_GCM,
            Self::Aes256 => &AES_256_GCM,
            Self::ChaCha20 => &CHACHA20_POLY1305,
        };
        LessSafeKey::new(UnboundKey::new(algorithm, bytes).unwrap())
    }

    /// HKDF-Expand-Label without a context (RFC 8446 §7.1).
    fn expand(self, secret: &[u8], label: &str, len: usize) -> Vec<u8> {
        let mut info = (len as u16).to_be_bytes().to_vec();
        info.push(6 + label.len() as u8);
        info.extend_from_slice(b"tls13 ");
        info.extend_from_slice(label.as_bytes());
        info.push(0);
        let mut out = vec![0; len];
        Prk::new_less_safe(self.hash().0, secret).expand(&[&info], Len(len)).unwrap().fill(&mut out).unwrap();
        out
    }
}

/// One direction of the traffic.
pub(crate) struct Forge {
    suite: Suite,
    secret: Vec<u8>,
    key: LessSafeKey,
    iv: Vec<u8>,
    pub(crate) sequence: u64,
}

impl Forge {
    pub(crate) fn new(suite: Suite, secret: &[u8]) -> Self {
        let key = suite.key(&suite.expand(secret, "key", if suite == Suite::Aes128 { 16 } else { 32 }));
        Self { suite, secret: secret.to_vec(), key, iv: suite.expand(secret, "iv", 12), sequence: 0 }
    }

    /// Goes on with the next keys (RFC 8446 §7.2).
    pub(crate) fn update(&mut self) {
        let next = self.suite.expand(&self.secret, "traffic upd", self.suite.hash().1);
        *self = Self::new(self.suite, &next);
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce: [u8; 12] = self.iv.clone().try_into().unwrap();
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// A record whose inner plaintext is exactly this.
    pub(crate) fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let len = (inner.len() + 16) as u16;
        let head = [23, 3, 3, (len >> 8) as u8, len as u8];
        let mut sealed = inner.to_vec();
        let nonce = self.nonce();
        self.key.seal_in_place_append_tag(nonce, Aad::from(head), &mut sealed).unwrap();
        [&head[..], &sealed].concat()
    }

    pub(crate) fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.padded(kind, content, 0)
    }

    pub(crate) fn padded(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        self.seal(&[content, &[kind], &vec![0; padding]].concat())
    }

    /// Kind and content of every record in `wire`, keys following the updates in it.
    pub(crate) fn open(&mut self, mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut records = Vec::new();
        while !wire.is_empty() {
            let len = usize::from(u16::from_be_bytes([wire[3], wire[4]]));
            assert_eq!(wire[..3], [23, 3, 3], "a protected record");
            let (record, rest) = wire.split_at(5 + len);
            wire = rest;
            let nonce = self.nonce();
            let mut sealed = record[5..].to_vec();
            let inner = self.key.open_in_place(nonce, Aad::from(&record[..5]), &mut sealed).expect("a genuine record");
            let (kind, content) = inner.split_last().expect("a content type");
            if *kind == HANDSHAKE && content[0] == 24 {
                assert_eq!(content, key_update(0), "new keys and no more");
                self.update();
            }
            records.push((*kind, content.to_vec()));
        }
        records
    }
}

/// Traffic secrets as rustls logs them.
#[derive(Debug, Default)]
struct Secrets(Mutex<Vec<(String, Vec<u8>)>>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push((label.to_owned(), secret.to_vec()));
    }
}

impl Secrets {
    fn find(&self, label: &str) -> Vec<u8> {
        let secrets = self.0.lock().unwrap();
        secrets.iter().find(|(name, _)| name == label).expect("a traffic secret").1.clone()
    }
}

/// A session that has shaken hands with a forger.
pub(crate) struct Forged {
    pub(crate) session: Session,
    /// What the session is to receive.
    pub(crate) to_session: Forge,
    /// What it sends.
    pub(crate) from_session: Forge,
}

/// The session of one side, `records` protecting its traffic.
pub(crate) fn forged(is_server: bool, suite: Suite, records: Records) -> Forged {
    let configs = configs(records);
    let secrets = Arc::new(Secrets::default());
    let mut provider = library::default_provider();
    provider.cipher_suites = vec![match suite {
        Suite::Aes128 => library::cipher_suite::TLS13_AES_128_GCM_SHA256,
        Suite::Aes256 => library::cipher_suite::TLS13_AES_256_GCM_SHA384,
        Suite::ChaCha20 => library::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    }];
    let (session, peer): (Session, Connection) = if is_server {
        let builder = rustls::ClientConfig::builder_with_provider(provider.into());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut config = builder.with_root_certificates(configs.roots.clone()).with_no_client_auth();
        config.key_log = Arc::<Secrets>::clone(&secrets);
        let peer = rustls::ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
        (Session::server(&configs.server).unwrap(), peer.into())
    } else {
        let mut config = rustls::ServerConfig::clone(&configs.server);
        config.key_log = Arc::<Secrets>::clone(&secrets);
        let mut own = rustls::crypto::CryptoProvider::clone(config.crypto_provider());
        own.cipher_suites = provider.cipher_suites;
        let builder = rustls::ServerConfig::builder_with_provider(own.into());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut chosen = builder.with_no_client_auth().with_cert_resolver(Arc::clone(&config.cert_resolver));
        chosen.key_log = config.key_log;
        let peer = rustls::ServerConnection::new(Arc::new(chosen)).unwrap();
        (Session::client(&configs.client).unwrap(), peer.into())
    };
    let (session, last_words) = shake_hands(session, peer);
    let secret = |label: &str| Forge::new(suite, &secrets.find(label));
    let (client, server) = (secret("CLIENT_TRAFFIC_SECRET_0"), secret("SERVER_TRAFFIC_SECRET_0"));
    if is_server {
        let mut forged = Forged { session, to_session: client, from_session: server };
        let tickets = forged.from_session.open(&last_words);
        assert!(tickets.iter().all(|(kind, content)| *kind == HANDSHAKE && content[0] == 4));
        forged
    } else {
        Forged { session, to_session: server, from_session: client }
    }
}

/// Until the session needs no more. What it said last, the peer does not get to see.
fn shake_hands(mut session: Session, mut peer: Connection) -> (Session, Vec<u8>) {
    let mut incoming = Vec::new();
    loop {
        let mut outgoing = Vec::new();
        let opened = session.open(&mut incoming, &mut [], &mut outgoing).unwrap();
        incoming.drain(..opened.consumed);
        if !session.is_handshaking() {
            assert!(incoming.is_empty());
            return (session, outgoing);
        }
        let mut wire = &outgoing[..];
        while !wire.is_empty() {
            peer.read_tls(&mut wire).unwrap();
            peer.process_new_packets().unwrap();
        }
        while peer.wants_write() {
            peer.write_tls(&mut incoming).unwrap();
        }
    }
}

const NAME: &str = "media.studio.example";

/// One certificate for every run.
struct Configs {
    server: Arc<ServerConfig>,
    client: ClientConfig,
    roots: RootCertStore,
}

fn configs(records: Records) -> &'static Configs {
    static OWN: OnceLock<Configs> = OnceLock::new();
    static LIBRARY: OnceLock<Configs> = OnceLock::new();
    let configs = if records == Records::Own { &OWN } else { &LIBRARY };
    configs.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (certificate, private_key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&private_key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let max_version = Version::Tls13;
        let options =
            ClientOptions { server_name: NAME.into(), ca_file: Some(certificate.clone()), max_version, records };
        let client = config::client(&options).unwrap();
        let identities = vec![Identity { certificate, private_key }];
        let server =
            config::server(&ServerOptions { identities, min_version: Version::Tls13, records, client_ca: None })
                .unwrap();
        Configs { server, client, roots }
    })
}
