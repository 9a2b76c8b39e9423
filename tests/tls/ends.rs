//! Two ends of a TLS connection without a network.

use std::io::{Read, Write};
use std::sync::Arc;

use filmgate::tls::TlsError;
use filmgate::tls::config::ClientConfig;
use filmgate::tls::session::{OpenState, Session};
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};

/// One end that takes bytes and gives bytes.
pub(crate) trait End {
    /// Works on what came from the other end.
    fn take(&mut self, bytes: &[u8]) -> Result<(), TlsError>;
    /// What is to go to the other end.
    fn give(&mut self) -> Vec<u8>;
    fn is_handshaking(&self) -> bool;
}

/// The session under test, with the buffers its caller holds.
pub(crate) struct Ours {
    pub(crate) session: Session,
    pub(crate) incoming: Vec<u8>,
    pub(crate) outgoing: Vec<u8>,
    pub(crate) plain: Vec<u8>,
    pub(crate) is_closed: bool,
    /// Bytes of room `open` is given at a time.
    pub(crate) room: usize,
}

impl Ours {
    pub(crate) fn new(session: Session) -> Self {
        let (incoming, outgoing, plain) = (Vec::new(), Vec::new(), Vec::new());
        Self { session, incoming, outgoing, plain, is_closed: false, room: 64 * 1024 }
    }

    pub(crate) fn seal(&mut self, mut plain: &[u8]) -> Result<Vec<u8>, TlsError> {
        let mut wire = std::mem::take(&mut self.outgoing);
        let mut room = vec![0; 40_000];
        while !plain.is_empty() {
            let done = self.session.seal(plain, &mut room)?;
            assert!(done.written > 0);
            wire.extend_from_slice(&room[..done.written]);
            plain = &plain[done.consumed..];
        }
        Ok(wire)
    }
}

impl End for Ours {
    fn take(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        self.incoming.extend_from_slice(bytes);
        let mut room = vec![0; self.room];
        loop {
            let opened = self.session.open(&mut self.incoming, &mut room, &mut self.outgoing)?;
            self.incoming.drain(..opened.consumed);
            self.plain.extend_from_slice(&room[..opened.produced]);
            self.is_closed = opened.state == OpenState::PeerClosed;
            if opened.state != OpenState::PlainFull {
                return Ok(());
            }
        }
    }

    fn give(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }
}

/// The independent peer: rustls with its own buffers.
pub(crate) struct Theirs {
    pub(crate) connection: Connection,
    pub(crate) plain: Vec<u8>,
    pub(crate) is_closed: bool,
}

impl Theirs {
    pub(crate) fn new(connection: impl Into<Connection>) -> Self {
        Self { connection: connection.into(), plain: Vec::new(), is_closed: false }
    }

    pub(crate) fn server(config: &Arc<ServerConfig>) -> Self {
        Self::new(ServerConnection::new(Arc::clone(config)).unwrap())
    }

    pub(crate) fn client(config: rustls::ClientConfig, name: &str) -> Self {
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        Self::new(ClientConnection::new(Arc::new(config), name).unwrap())
    }

    pub(crate) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.connection.set_buffer_limit(None);
        self.connection.writer().write_all(plain).unwrap();
        self.give()
    }
}

impl End for Theirs {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            assert!(self.connection.read_tls(&mut bytes).unwrap() > 0, "the peer takes no more");
            let worked = self.connection.process_new_packets();
            let mut chunk = [0; 16 * 1024];
            loop {
                match self.connection.reader().read(&mut chunk) {
                    Ok(0) => {
                        self.is_closed = true;
                        return worked.map(drop).map_err(TlsError::from);
                    }
                    Ok(n) => self.plain.extend_from_slice(&chunk[..n]),
                    Err(_) => break,
                }
            }
            worked?;
        }
        Ok(())
    }

    fn give(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut wire).unwrap();
        }
        wire
    }

    fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }
}

/// A client of ours that has made its hello.
pub(crate) fn our_client(config: &ClientConfig) -> Ours {
    let mut client = Ours::new(Session::client(config).unwrap());
    client.take(&[]).unwrap();
    client
}

/// A server of ours.
pub(crate) fn our_server(config: &Arc<ServerConfig>) -> Ours {
    Ours::new(Session::server(config).unwrap())
}

/// Carries bytes back and forth, `step` at a time, until both are silent.
pub(crate) fn talk_by(step: usize, client: &mut dyn End, server: &mut dyn End) -> Result<(), (TlsError, &'static str)> {
    loop {
        let (to_server, to_client) = (client.give(), server.give());
        if to_server.is_empty() && to_client.is_empty() {
            return Ok(());
        }
        for bytes in to_server.chunks(step) {
            server.take(bytes).map_err(|error| (error, "server"))?;
        }
        for bytes in to_client.chunks(step) {
            client.take(bytes).map_err(|error| (error, "client"))?;
        }
    }
}

pub(crate) fn talk(client: &mut dyn End, server: &mut dyn End) -> Result<(), (TlsError, &'static str)> {
    talk_by(usize::MAX, client, server)
}

/// Numbers that look random and are the same every time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// From 1 to `max`.
    pub(crate) fn up_to(&mut self, max: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % max + 1
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.up_to(256) as u8).collect()
    }
}
