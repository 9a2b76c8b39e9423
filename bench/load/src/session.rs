//! One TLS session over buffers of the caller: TLS 1.3, X25519 and AES-128-GCM only, so that every candidate between the
//! two ends has the same work to do.

use std::fs;
use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};

use crate::Failure;

/// The most plaintext a record holds, and what sealing adds to it with room to spare.
const RECORD: usize = 16 * 1024;
const RECORD_OVERHEAD: usize = 64;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// The client's side: trusts what `roots` holds; without `resume` every handshake is a full one.
pub(crate) fn client_config(roots: &str, resume: bool) -> Result<Arc<ClientConfig>, Failure> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(roots)?) {
        store.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(store)
        .with_no_client_auth();
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// The upstream's side, with stateless tickets as S3's front ends have them.
pub(crate) fn server_config(chain: &str, key: &str) -> Result<Arc<ServerConfig>, Failure> {
    let chain = CertificateDer::pem_slice_iter(&fs::read(chain)?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(key)?)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

pub(crate) enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What a call of [`Session::process`] came to.
#[derive(Default)]
pub(crate) struct Progress {
    /// Bytes at the front of the input that are done with.
    pub(crate) consumed: usize,
    /// Whether data can be sealed.
    pub(crate) established: bool,
    /// Whether the peer said that it sends no more.
    pub(crate) closed: bool,
}

enum Step {
    Again,
    NeedInput,
    Established,
    Closed,
}

impl Session {
    pub(crate) fn client(config: &Arc<ClientConfig>, name: &str) -> Result<Session, Failure> {
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Session::Client(UnbufferedClientConnection::new(Arc::clone(config), name)?))
    }

    pub(crate) fn server(config: &Arc<ServerConfig>) -> Result<Session, Failure> {
        Ok(Session::Server(UnbufferedServerConnection::new(Arc::clone(config))?))
    }

    /// Whether the handshake resumed an earlier session; None until that is known.
    pub(crate) fn resumed(&self) -> Option<bool> {
        let kind = match self {
            Session::Client(connection) => connection.handshake_kind(),
            Session::Server(connection) => connection.handshake_kind(),
        };
        kind.map(|kind| kind == HandshakeKind::Resumed)
    }

    /// Opens the whole records in `incoming`, gives their data to `sink` and appends what has to be sent to `out`.
    pub(crate) fn process(
        &mut self,
        incoming: &mut [u8],
        out: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Progress, Failure> {
        let mut progress = Progress::default();
        loop {
            let rest = &mut incoming[progress.consumed..];
            let (consumed, step) = match self {
                Session::Client(connection) => advance(connection.process_tls_records(rest), out, sink)?,
                Session::Server(connection) => advance(connection.process_tls_records(rest), out, sink)?,
            };
            progress.consumed += consumed;
            match step {
                Step::Again => {}
                Step::NeedInput => return Ok(progress),
                Step::Established => {
                    progress.established = true;
                    return Ok(progress);
                }
                Step::Closed => {
                    progress.closed = true;
                    return Ok(progress);
                }
            }
        }
    }

    /// Seals `plain` and appends the records to `out`. The handshake must be over.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let start = out.len();
        out.resize(start + plain.len() + (plain.len() / RECORD + 1) * RECORD_OVERHEAD, 0);
        let sealed = match self {
            Session::Client(connection) => seal(connection.process_tls_records(&mut []), plain, &mut out[start..])?,
            Session::Server(connection) => seal(connection.process_tls_records(&mut []), plain, &mut out[start..])?,
        };
        out.truncate(start + sealed);
        Ok(())
    }
}

fn advance<D>(
    status: UnbufferedStatus<'_, '_, D>,
    out: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(usize, Step), Failure> {
    let mut consumed = status.discard;
    let step = match status.state? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                consumed += record.discard;
                sink(record.payload);
            }
            Step::Again
        }
        ConnectionState::EncodeTlsData(mut flight) => {
            let start = out.len();
            if let Err(EncodeError::InsufficientSize(short)) = flight.encode(&mut []) {
                out.resize(start + short.required_size, 0);
                flight.encode(&mut out[start..])?;
            }
            Step::Again
        }
        ConnectionState::TransmitTlsData(flight) => {
            flight.done();
            Step::Again
        }
        ConnectionState::BlockedHandshake => Step::NeedInput,
        ConnectionState::WriteTraffic(_) => Step::Established,
        ConnectionState::PeerClosed | ConnectionState::Closed => Step::Closed,
        other => return Err(format!("unexpected TLS state {other:?}").into()),
    };
    Ok((consumed, step))
}

fn seal<D>(status: UnbufferedStatus<'_, '_, D>, plain: &[u8], out: &mut [u8]) -> Result<usize, Failure> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => Ok(traffic.encrypt(plain, out)?),
        other => Err(format!("TLS state {other:?} does not take data").into()),
    }
}
