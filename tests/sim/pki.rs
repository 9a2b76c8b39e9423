//! One certificate for everybody in the simulated worlds.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use filmgate::tls::config::{
    self, ClientConfig, ClientOptions, Identity, Records, ServerConfig, ServerOptions, Version,
};

use crate::plan::{HOST, UPSTREAM_HOST};

/// Whether and how the two sides of the gate speak TLS in one world.
#[derive(Clone, Copy, Debug)]
pub struct Tls {
    pub client: Option<Version>,
    pub upstream: Option<Version>,
}

struct Pki {
    server: Arc<ServerConfig>,
    ca_file: PathBuf,
    _directory: tempfile::TempDir,
}

/// For the gate towards clients and for S3 towards the gate.
pub fn server() -> Arc<ServerConfig> {
    Arc::clone(&pki().server)
}

/// For clients towards the gate and for the gate towards S3. Made anew for each world: nothing is resumed across worlds.
pub fn client(server_name: &str, max_version: Version) -> ClientConfig {
    let ca_file = Some(pki().ca_file.clone());
    config::client(&ClientOptions {
        server_name: server_name.to_owned(),
        ca_file,
        max_version,
        records: Records::default(),
    })
    .unwrap()
}

fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        // Signatures of this kind are all of one length, so that a seed cuts a handshake at the same place every time.
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let names = vec![HOST.to_owned(), UPSTREAM_HOST.to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("certificate.pem");
        let private_key = directory.path().join("key.pem");
        std::fs::write(&ca_file, certificate.pem()).unwrap();
        std::fs::write(&private_key, key.serialize_pem()).unwrap();
        let identities = vec![Identity { certificate: ca_file.clone(), private_key }];
        let (min_version, records, client_ca) = (Version::Tls12, Records::default(), None);
        let server = config::server(&ServerOptions { identities, min_version, records, client_ca }).unwrap();
        Pki { server, ca_file, _directory: directory }
    })
}
