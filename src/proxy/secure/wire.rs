//! Either kind of link behind one type.

use std::io;
use std::net::SocketAddr;

use super::Secure;
use crate::buffer::Buffer;
use crate::clock::Deadline;
use crate::link::Link;
use crate::pipe::Pipe;
use crate::tls::config::Version;

/// A link that is plain or inside TLS.
pub enum Wire<L: Link> {
    /// Bytes as they are.
    Plain(L),
    /// TLS over the link.
    Tls(Box<Secure<L>>),
}

impl<L: Link> Wire<L> {
    /// The TLS version, `None` when plain.
    #[must_use]
    pub fn tls_version(&self) -> Option<Version> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(secure) => secure.version(),
        }
    }

    /// What the client's verified certificate calls it; empty without one, and when plain.
    #[must_use]
    pub fn client_names(&self) -> &[String] {
        match self {
            Self::Plain(_) => &[],
            Self::Tls(secure) => secure.client_names(),
        }
    }

    /// Whether it should be closed after the message under way: so much was sent that its key should be replaced and
    /// cannot be.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(secure) => secure.is_worn(),
        }
    }
}

impl<L: Link> Link for Wire<L> {
    async fn readable(&self, until: Deadline) -> io::Result<()> {
        match self {
            Self::Plain(link) => link.readable(until).await,
            Self::Tls(secure) => secure.readable(until).await,
        }
    }

    async fn read(&self, into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        match self {
            Self::Plain(link) => link.read(into, until).await,
            Self::Tls(secure) => secure.read(into, until).await,
        }
    }

    async fn write_all(&self, from: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        match self {
            Self::Plain(link) => link.write_all(from, until).await,
            Self::Tls(secure) => secure.write_all(from, until).await,
        }
    }

    fn can_splice(&self) -> bool {
        match self {
            Self::Plain(link) => link.can_splice(),
            Self::Tls(secure) => secure.can_splice(),
        }
    }

    async fn splice_in(&self, pipe: &mut Pipe, max: u64, until: Deadline) -> io::Result<usize> {
        match self {
            Self::Plain(link) => link.splice_in(pipe, max, until).await,
            Self::Tls(secure) => secure.splice_in(pipe, max, until).await,
        }
    }

    async fn splice_out(&self, pipe: &mut Pipe, until: Deadline) -> io::Result<()> {
        match self {
            Self::Plain(link) => link.splice_out(pipe, until).await,
            Self::Tls(secure) => secure.splice_out(pipe, until).await,
        }
    }

    fn interrupt(&self) {
        match self {
            Self::Plain(link) => link.interrupt(),
            Self::Tls(secure) => secure.interrupt(),
        }
    }

    async fn finish(&self, until: Deadline) -> io::Result<()> {
        match self {
            Self::Plain(link) => link.finish(until).await,
            Self::Tls(secure) => secure.finish(until).await,
        }
    }

    fn stop_writing(&self) {
        match self {
            Self::Plain(link) => link.stop_writing(),
            Self::Tls(secure) => secure.stop_writing(),
        }
    }

    fn abort(&self) {
        match self {
            Self::Plain(link) => link.abort(),
            Self::Tls(secure) => secure.abort(),
        }
    }

    async fn closed(&self) {
        match self {
            Self::Plain(link) => link.closed().await,
            Self::Tls(secure) => secure.closed().await,
        }
    }

    fn hang_up(&self) {
        match self {
            Self::Plain(link) => link.hang_up(),
            Self::Tls(secure) => secure.hang_up(),
        }
    }

    fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(link) => link.is_quiet(),
            Self::Tls(secure) => secure.is_quiet(),
        }
    }

    fn is_broken(&self) -> bool {
        match self {
            Self::Plain(link) => link.is_broken(),
            Self::Tls(secure) => secure.is_broken(),
        }
    }

    fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(link) => link.peer(),
            Self::Tls(secure) => secure.peer(),
        }
    }
}
