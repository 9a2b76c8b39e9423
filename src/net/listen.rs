//! Listening sockets: one a shard, all on the same port, the kernel spreads connections over them.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::sys;
use super::uring::{Stream, tune};
use crate::clock;

/// Binds one listening socket for every shard to `address`; with port 0 all share the port the first one got.
///
/// # Errors
/// As [`bind`].
pub fn bind_shards(address: SocketAddr, shards: usize) -> io::Result<Vec<Bound>> {
    let first = bind(address)?;
    let resolved = first.local_addr()?;
    std::iter::once(Ok(first)).chain((1..shards).map(|_| bind(resolved))).map(|socket| socket.map(Bound::Own)).collect()
}

/// A listening socket of one shard that no ring has seen.
#[derive(Debug)]
pub enum Bound {
    /// It ends with the shard.
    Own(TcpListener),
    /// A share of one that others have as well, and that outlives the process.
    Shared(TcpListener),
}

impl Bound {
    /// The address that clients connect to.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Own(socket) | Self::Shared(socket) => socket.local_addr(),
        }
    }
}

/// Binds a listening socket that shares its port with the sockets of other shards.
///
/// # Errors
/// What the system says, with the address and the likely fix.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listening = bound(address).and_then(|socket| socket.listen(BACKLOG).map(|()| socket.into()));
    listening.map_err(|error| explain(address, &error))
}

/// Whether [`bind`] is likely to succeed. No client comes to what this binds, not even where another process of this user
/// listens at the same address.
///
/// # Errors
/// As [`bind`].
pub fn try_bind(address: SocketAddr) -> io::Result<()> {
    bound(address).map(drop).map_err(|error| explain(address, &error))
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    tune(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What it takes to listen at `address` where that failed: the address, the likely cause and the fix.
#[must_use]
pub fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            let port = address.port();
            format!("another program listens there; find it with `ss -ltnp 'sport = :{port}'` or choose another port")
        }
        Some(libc::EACCES) => {
            let port = address.port();
            format!(
                "port {port} is below net.ipv4.ip_unprivileged_port_start (1024 by default) and needs \
                 CAP_NET_BIND_SERVICE; give it to the service (AmbientCapabilities=CAP_NET_BIND_SERVICE) or choose a \
                 higher port"
            )
        }
        Some(libc::EADDRNOTAVAIL) => {
            "no network interface of this machine has that address (yet); 0.0.0.0 and [::] stand for all".to_owned()
        }
        Some(libc::EAFNOSUPPORT) => "this machine has no IPv6; listen on an IPv4 address".to_owned(),
        _ => "the system refused".to_owned(),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {advice} ({error})"))
}

/// A client that was accepted and that nobody has talked to: it may still go to another thread.
#[derive(Debug)]
pub struct Arrival {
    socket: OwnedFd,
    from: SocketAddr,
}

impl Arrival {
    /// `socket` is connected, blocking, and has its options from its listener.
    pub(crate) fn new(socket: OwnedFd, from: SocketAddr) -> Self {
        Self { socket, from }
    }

    /// The connection, on the ring of the calling thread.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        Stream::new(self.socket, self.from)
    }
}

/// What an accept brought.
#[derive(Debug)]
pub enum Accept {
    /// A client and where it comes from.
    Client(Stream, SocketAddr),
    /// The listener is closed; nothing will come any more.
    Closed,
}

/// A listening socket on the ring.
#[derive(Debug)]
pub struct Listener {
    socket: sys::Socket,
    /// `None` while open, else how many more clients may be taken out of the queue.
    draining: Cell<Option<u32>>,
    /// Whether who waits in the queue is somebody else's business once this is closed, and the queue stays.
    is_shared: bool,
    warned: Cell<Option<clock::Instant>>,
}

impl Listener {
    /// Takes over a listening socket, best one of [`bind`].
    ///
    /// # Errors
    /// When the socket cannot be made blocking, which is what the ring needs to wait on it.
    pub fn from_std(listener: TcpListener) -> io::Result<Self> {
        Self::new(Bound::Own(listener))
    }

    /// Takes over a listening socket.
    ///
    /// # Errors
    /// As [`from_std`](Self::from_std).
    pub fn new(bound: Bound) -> io::Result<Self> {
        let is_shared = matches!(bound, Bound::Shared(_));
        let (Bound::Own(socket) | Bound::Shared(socket)) = bound;
        socket.set_nonblocking(false)?;
        Ok(Self { socket: Rc::new(socket.into()), draining: Cell::new(None), is_shared, warned: Cell::new(None) })
    }

    /// The address that clients connect to.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&*self.socket).local_addr()?;
        address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// As [`arrival`](Self::arrival), for whoever serves the client on this thread.
    pub async fn accept(&self) -> Accept {
        match self.arrival().await {
            Some(arrival) => {
                let from = arrival.from;
                Accept::Client(arrival.into_stream(), from)
            }
            None => Accept::Closed,
        }
    }

    /// Waits for the next client. To be awaited to its end, by one task.
    ///
    /// Failures are no outcome: a client that went away is skipped; when descriptors or memory have run out, or anything
    /// else is wrong, it says so in the log and tries again a little later.
    ///
    /// After [`close`](Self::close) it yields the clients that were already connected, then nothing; those in the queue of a
    /// shared socket wait for whoever serves it next.
    pub async fn arrival(&self) -> Option<Arrival> {
        loop {
            let outcome = match self.draining.get() {
                None => sys::accept(&self.socket).await,
                Some(0) => return self.shut(),
                Some(left) => {
                    self.draining.set(Some(left - 1));
                    sys::accept_now(&self.socket)
                }
            };
            let error = match outcome {
                Ok((socket, from)) => return Some(Arrival::new(socket, from)),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN) if self.draining.get().is_some() => return self.shut(),
                Some(code) if HARMLESS.contains(&code) => {}
                _ => self.back_off(&error).await,
            }
        }
    }

    /// Stops taking clients. Call [`accept`](Self::accept) until it says [`Accept::Closed`]: shutting a listening socket
    /// down resets the clients in its queue, so they are served first. Or drop the listener.
    pub fn close(&self) {
        if self.draining.get().is_none() && self.is_shared {
            self.draining.set(Some(0));
            sys::cancel(&self.socket);
        } else if self.draining.get().is_none() {
            self.draining.set(Some(BACKLOG as u32));
            if let Err(error) = SockRef::from(&*self.socket).set_nonblocking(true) {
                tracing::warn!(%error, "cannot drain a listening socket; clients in its queue are lost");
                self.draining.set(Some(0));
            }
            sys::cancel(&self.socket);
        }
    }

    fn shut(&self) -> Option<Arrival> {
        self.draining.set(Some(0));
        if !self.is_shared {
            // Fails only when it has been done before.
            let _ = SockRef::from(&*self.socket).shutdown(Shutdown::Both);
        }
        None
    }

    async fn back_off(&self, error: &io::Error) {
        let now = clock::mono();
        if self.warned.get().is_none_or(|at| now.duration_since(at) >= WARN_INTERVAL) {
            self.warned.set(Some(now));
            let advice = match error.raw_os_error() {
                Some(libc::EMFILE) => "out of file descriptors: raise the service's LimitNOFILE",
                Some(libc::ENFILE) => "the machine is out of file descriptors: raise fs.file-max",
                _ => "clients wait",
            };
            tracing::warn!(%error, advice, "cannot accept a client");
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// Errors that belong to one client or to a wake-up, not to the listener.
const HARMLESS: [i32; 5] = [libc::ECANCELED, libc::EINTR, libc::ECONNABORTED, libc::ECONNRESET, libc::EPROTO];

/// Connections the kernel completes ahead of us; net.core.somaxconn (4096 by default) caps it.
const BACKLOG: i32 = 4096;
const BACK_OFF: Duration = Duration::from_millis(100);
const WARN_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::runtime;

    fn refusal(address: &str) -> String {
        bind(address.parse().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn all_shards_share_the_port_that_the_first_one_got() {
        let listeners = bind_shards("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses[0].port() != 0 && addresses.iter().all(|address| *address == addresses[0]));
    }

    #[test]
    fn who_waits_at_a_shared_socket_waits_on_when_it_is_closed() {
        let kept = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, share) = (kept.local_addr().unwrap(), kept.try_clone().unwrap());
        runtime::run_shard(None, 8, || async {
            let listener = Rc::new(Listener::new(Bound::Shared(share)).unwrap());
            let accepting = Rc::clone(&listener);
            let waiting = tokio::task::spawn_local(async move { accepting.arrival().await });
            tokio::time::sleep(Duration::from_millis(50)).await;
            listener.close();
            assert!(waiting.await.unwrap().is_none());
            let client = std::net::TcpStream::connect(address).unwrap();
            assert!(listener.arrival().await.is_none());
            drop(listener);
            let (_, from) = kept.accept().unwrap();
            assert_eq!(from, client.local_addr().unwrap());
        })
        .unwrap();
    }

    #[test]
    fn a_low_port_is_named_with_what_it_needs() {
        let address = "[::]:443".parse().unwrap();
        let message = explain(address, &io::Error::from_raw_os_error(libc::EACCES)).to_string();
        for said in ["cannot listen on [::]:443", "port 443", "CAP_NET_BIND_SERVICE"] {
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn a_refused_address_names_itself_and_the_fix() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().to_string();
        let message = refusal(&taken);
        assert!(message.contains(&taken) && message.contains("ss -ltnp"), "{message}");
        let message = refusal("192.0.2.1:0");
        assert!(message.contains("192.0.2.1:0") && message.contains("no network interface"), "{message}");
    }
}
