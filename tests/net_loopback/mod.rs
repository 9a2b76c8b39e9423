//! What the tests over loopback share.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use filmgate::buffer::Buffer;
use filmgate::clock::Deadline;
use filmgate::link::Link;
use filmgate::net::listen::{Accept, Listener, bind};
use filmgate::net::runtime::run_shard;
use filmgate::net::uring::Stream;

/// Runs a test in a shard of its own; one that hangs fails.
pub(crate) fn shard<F: Future<Output = ()>>(make: impl FnOnce() -> F + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        run_shard(None, 64, make).unwrap();
        done.send(()).unwrap();
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs"),
        _ => thread.join().unwrap(),
    }
}

pub(crate) fn listener() -> (Listener, SocketAddr) {
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (Listener::from_std(socket).unwrap(), address)
}

pub(crate) async fn accept(listener: &Listener) -> Stream {
    match listener.accept().await {
        Accept::Client(stream, from) => {
            assert_eq!(stream.peer_addr(), from);
            stream
        }
        Accept::Closed => panic!("the listener is closed"),
    }
}

pub(crate) fn later() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

pub(crate) fn full(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::detached(bytes.len());
    buffer.append(bytes);
    buffer
}

pub(crate) async fn read(link: &Stream, until: Deadline) -> io::Result<Vec<u8>> {
    let (result, buffer) = link.read(Buffer::detached(64 * 1024), until).await;
    result.map(|n| {
        assert_eq!(n, buffer.len());
        buffer.filled().to_vec()
    })
}

/// Counts the TCP sockets among this process's descriptors that `which` picks by the fields of the kernel's table
/// (proc(5): 1 is the own address, 2 the other's, 3 the state).
pub(crate) fn open_sockets(which: impl Fn(&[&str]) -> bool) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let own: BTreeSet<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let picked: BTreeSet<String> = rows.filter(|row| which(row)).map(|row| format!("socket:[{}]", row[9])).collect();
    picked.intersection(&own).count()
}
