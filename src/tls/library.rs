//! rustls' side of a session: every handshake, TLS 1.2, and TLS 1.3 where its records are left to the library.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::time_provider::TimeProvider;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};

use super::config::{ClientConfig, ServerConfig, Version};
use super::messages::Keys;
use super::session::{Sink, Step, record_len};
use super::traffic::Traffic;
use super::{TlsError, names};

/// A session whose records rustls protects.
pub(super) struct Library {
    side: Side,
    /// Bytes at the front of the unconsumed input that rustls has decrypted and goes on referring to: the first fragments
    /// of a handshake message that is not complete.
    held: usize,
    /// The session is ours once the handshake is over.
    hands_over: bool,
}

enum Side {
    Server(Box<UnbufferedServerConnection>, Arc<dyn TimeProvider>),
    Client(Box<UnbufferedClientConnection>),
}

/// The two connection types have the same methods and no trait in common.
macro_rules! on_either {
    ($side:expr, $connection:ident => $body:expr) => {
        match $side {
            Side::Server($connection, _) => $body,
            Side::Client($connection) => $body,
        }
    };
}
impl Library {
    pub(super) fn server(config: &Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(Arc::clone(config))?;
        let hands_over = config.enable_secret_extraction;
        let side = Side::Server(Box::new(connection), Arc::clone(&config.time_provider));
        Ok(Self { side, held: 0, hands_over })
    }

    pub(super) fn client(config: &ClientConfig) -> Result<Self, TlsError> {
        let connection = UnbufferedClientConnection::new(Arc::clone(&config.rustls), config.server_name.clone())?;
        let hands_over = config.rustls.enable_secret_extraction;
        Ok(Self { side: Side::Client(Box::new(connection)), held: 0, hands_over })
    }

    pub(super) const fn is_server(&self) -> bool {
        matches!(self.side, Side::Server(..))
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.side.common().is_handshaking()
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.side.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// What a client's certificate calls it, which was verified in this handshake or in the one whose session is resumed. It
    /// may have expired since then, and calls nobody anything any more.
    pub(super) fn client_names(&self) -> Box<[String]> {
        let Side::Server(connection, time) = &self.side else { return Box::default() };
        let Some([certificate, ..]) = connection.peer_certificates() else { return Box::default() };
        time.current_time().map_or_else(Box::default, |now| names::read(certificate, now.as_secs()))
    }

    pub(super) fn version(&self) -> Option<Version> {
        match self.side.common().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some(Version::Tls12),
            ProtocolVersion::TLSv1_3 => Some(Version::Tls13),
            _ => None,
        }
    }

    /// Bytes at the front of the unconsumed input that are worked on already.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Works on `incoming` until there is something to tell, and says how many bytes are done with. A failure leaves an
    /// alert in the sink.
    pub(super) fn open(&mut self, incoming: &mut [u8], mut sink: Sink<'_>) -> (usize, Result<Step, TlsError>) {
        // First what rustls has looked at, until nothing more comes of it; then one record. What follows the handshake may
        // be ours to open; and only so it is known how far rustls got: it goes on referring to more than incomplete
        // messages when a peer sends empty ones, and joining fragments moves them over headers.
        let held = self.held.min(incoming.len());
        let (mut discard, mut step) = self.side.step(&mut incoming[..held], sink.reborrow());
        self.held -= discard;
        if matches!(step, Ok(Step::Blocked | Step::Writable)) {
            let rest = &mut incoming[discard..];
            let next = rest.get(self.held..).and_then(record_len);
            let end = next.map_or(rest.len(), |len| self.held + len);
            let (more, next_step) = self.side.step(&mut rest[..end], sink.reborrow());
            self.held = self.held + next.unwrap_or(0) - more;
            discard += more;
            step = match next_step {
                Ok(Step::Blocked | Step::Writable) if next.is_some() => Ok(Step::Again),
                step => step,
            };
        }
        // What rustls has opened, it goes on with: it may owe the peer an answer that nobody else knows of.
        self.hands_over &= !matches!(step, Ok(Step::Plain(_)));
        (discard, step.map_err(|error| self.fail(error, sink.outgoing)))
    }

    /// Whether the handshake is over, everything it wants sent is at hand, and what follows is ours. True once at most,
    /// and before rustls has seen anything of what follows.
    pub(super) fn hands_over_now(&mut self) -> bool {
        let common = self.side.common();
        if !self.hands_over || common.is_handshaking() || common.wants_write() {
            return false;
        }
        self.hands_over = false;
        self.held == 0 && self.version() == Some(Version::Tls13)
    }

    /// Leaves the records to us and of rustls only what makes further keys.
    pub(super) fn hand_over(self, keeps_keys: bool) -> Result<Traffic, TlsError> {
        let is_resumed = self.is_resumed();
        let (secrets, keys) = match self.side {
            Side::Server(connection, _) => {
                let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
                (secrets, Keys::Server(Box::new(keys)))
            }
            Side::Client(connection) => {
                let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
                (secrets, Keys::Client(Box::new(keys)))
            }
        };
        Traffic::new(secrets, keys, is_resumed, keeps_keys)
    }

    /// Moves what rustls wants sent to the sink. Whether application data may be sent then.
    pub(super) fn pump(&mut self, mut sink: Sink<'_>, peer_closed: &mut bool) -> Result<bool, TlsError> {
        // Only its length counts: the fragments it stands for are looked at when more input comes.
        let mut stand_in = vec![0; self.held];
        loop {
            match self.side.step(&mut stand_in, sink.reborrow()).1 {
                Ok(Step::Again | Step::Plain(_)) => {}
                Ok(Step::PeerClosed) => *peer_closed = true,
                Ok(Step::Blocked) => return Ok(false),
                Ok(Step::Writable) => return Ok(true),
                Err(error) => return Err(self.fail(error, sink.outgoing)),
            }
        }
    }

    pub(super) fn encrypt(&mut self, plain: &[u8], sealed: &mut [u8]) -> Result<usize, EncryptError> {
        let mut stand_in = vec![0; self.held];
        on_either!(&mut self.side, connection => match connection.process_tls_records(&mut stand_in).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.encrypt(plain, sealed),
            _ => Err(EncryptError::EncryptExhausted),
        })
    }

    pub(super) fn queue_close_notify(&mut self) {
        let mut stand_in = vec![0; self.held];
        on_either!(&mut self.side, connection => {
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = connection.process_tls_records(&mut stand_in).state {
                // Without room it stays queued behind what is due before it, for the next step to collect.
                let _ = traffic.queue_close_notify(&mut []);
            }
        });
    }

    /// Collects the alert about a failure.
    fn fail(&mut self, error: Error, outgoing: &mut Vec<u8>) -> TlsError {
        // rustls must not get to see another record now: it would fail a second time.
        let mut leftover = Vec::new();
        while self.side.common().wants_write() {
            let _ = self.side.step(&mut [], Sink { plain: &mut [], leftover: &mut leftover, outgoing });
        }
        match error {
            Error::InvalidCertificate(why) if self.is_server() => TlsError::UntrustedClient(why),
            error => error.into(),
        }
    }
}

impl Side {
    fn common(&self) -> &CommonState {
        on_either!(self, connection => connection)
    }

    fn step(&mut self, incoming: &mut [u8], sink: Sink<'_>) -> (usize, Result<Step, Error>) {
        on_either!(self, connection => take_status(connection.process_tls_records(incoming), sink))
    }
}

/// Carries out what rustls wants done next.
fn take_status<Data>(status: UnbufferedStatus<'_, '_, Data>, sink: Sink<'_>) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let step = state.map(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            let mut produced = 0;
            while let Some(Ok(record)) = traffic.next_record() {
                let n = record.payload.len().min(sink.plain.len() - produced);
                let (fits, rest) = record.payload.split_at(n);
                sink.plain[produced..produced + n].copy_from_slice(fits);
                sink.leftover.extend_from_slice(rest);
                produced += n;
            }
            Step::Plain(produced)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let at = sink.outgoing.len();
            if let Err(EncodeError::InsufficientSize(short)) = data.encode(&mut []) {
                sink.outgoing.resize(at + short.required_size, 0);
                let written = data.encode(&mut sink.outgoing[at..]).unwrap_or(0);
                sink.outgoing.truncate(at + written);
            }
            Step::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Again
        }
        ConnectionState::WriteTraffic(_) => Step::Writable,
        ConnectionState::PeerClosed => Step::PeerClosed,
        // Early data is never accepted, and after both goodbyes there is nothing to do.
        _ => Step::Blocked,
    });
    (discard, step)
}
