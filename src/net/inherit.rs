//! Listening sockets that the service manager has opened and left to this process (sd_listen_fds(3)).
//!
//! Such a socket outlives the process: clients that come while the gate restarts wait in its queue instead of being
//! refused. There is one of it for all shards, which take clients from it in turns, where each would have one of its own
//! otherwise and the kernel spread them by a hash; what one shard takes too much of, it hands on.

use std::env;
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{SockRef, Socket, Type};

use super::listen::{self, Bound};
use super::{sys, uring};

/// Those nobody has asked for yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// Takes them over, as `LISTEN_FDS` and `LISTEN_PID` say. None the second time. Those that are no listening TCP sockets
    /// are closed, with a warning. To be called before the process has opened anything: they are known by their numbers.
    #[must_use]
    pub fn take() -> Self {
        let count = count(|name| env::var_os(name), std::process::id());
        if count == 0 {
            return Self::default();
        }
        if count > sys::INHERITED_MAX {
            tracing::warn!(count, taken = sys::INHERITED_MAX, "the service manager left more sockets than are taken");
        }
        Self::of(sys::take_inherited(count).into_iter().map(Socket::from))
    }

    fn of(sockets: impl Iterator<Item = Socket>) -> Self {
        let mut taken = Self::default();
        for socket in sockets {
            let is_fit =
                socket.r#type().is_ok_and(|kind| kind == Type::STREAM) && socket.is_listener().unwrap_or(false);
            match socket.local_addr().ok().and_then(|address| address.as_socket()).filter(|_| is_fit) {
                Some(address) => taken.sockets.push((address, socket.into())),
                None => tracing::warn!("the service manager left a socket that is no listening TCP socket; closing it"),
            }
        }
        taken
    }

    /// One listening socket for every shard at `address`: shares of the one that was left to this process, else as
    /// [`listen::bind_shards`].
    ///
    /// # Errors
    /// As [`listen::bind_shards`], and when a descriptor cannot be duplicated.
    pub fn bind_shards(&mut self, address: SocketAddr, shards: usize) -> io::Result<Vec<Bound>> {
        let Some(at) = self.sockets.iter().position(|(here, _)| *here == address && address.port() != 0) else {
            return listen::bind_shards(address, shards);
        };
        let (_, socket) = self.sockets.swap_remove(at);
        uring::tune(&SockRef::from(&socket))?;
        (0..shards).map(|_| socket.try_clone().map(Bound::Shared)).collect()
    }

    /// Where those listen that nobody has asked for.
    #[must_use]
    pub fn left(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(address, _)| *address).collect()
    }
}

/// How many sockets there are for the process called `own_id`.
fn count(variable: impl Fn(&str) -> Option<OsString>, own_id: u32) -> i32 {
    let number = |name| variable(name)?.to_str()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(own_id) {
        return 0;
    }
    number("LISTEN_FDS").and_then(|count| i32::try_from(count).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn sockets_are_for_the_process_they_name() {
        let ask = |pid: Option<&str>, fds: Option<&str>| {
            count(|name| if name == "LISTEN_PID" { pid } else { fds }.map(OsString::from), 42)
        };
        assert_eq!(ask(Some("42"), Some("2")), 2);
        for (pid, fds) in [
            (Some("41"), Some("2")),
            (None, Some("2")),
            (Some("42"), None),
            (Some("42"), Some("-1")),
            (Some("42"), Some("9999999999")),
        ] {
            assert_eq!(ask(pid, fds), 0, "{pid:?} {fds:?}");
        }
    }

    #[test]
    fn a_socket_that_was_left_is_shared_by_the_shards_and_others_are_bound() {
        let left = TcpListener::bind("127.0.0.1:0").unwrap();
        let spare = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, other) = (left.local_addr().unwrap(), spare.local_addr().unwrap());
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unbound = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        let sockets = [Socket::from(left), spare.into(), datagrams.into(), unbound];
        let mut inherited = Inherited::of(sockets.into_iter());
        assert_eq!(inherited.left(), [address, other]);
        let bound = inherited.bind_shards(address, 3).unwrap();
        assert!(bound.iter().all(|bound| matches!(bound, Bound::Shared(_)) && bound.local_addr().unwrap() == address));
        assert_eq!((bound.len(), inherited.left()), (3, vec![other]));
        let own = inherited.bind_shards("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert!(own.iter().all(|bound| matches!(bound, Bound::Own(_))));
    }
}
