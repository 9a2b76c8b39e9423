//! One shard: a thread on a core of its own with its own ring, listeners, buffers and upstream connections.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::Notify;

use crate::access::AccessSink;
use crate::clock;
use crate::net::dial::Dialer;
use crate::net::listen::{Accept, Listener};
use crate::net::resolve::Addresses;
use crate::net::runtime;
use crate::net::uring;
use crate::pipe::{Pipes, Splice};
use crate::policy::route::RouteTable;
use crate::proxy::connection;
use crate::proxy::shard::Shard;
use crate::proxy::upstream::Upstream;
use crate::proxy::{Limits, Timeouts};
use crate::tls::config::{ClientConfig, ServerConfig};

/// Everything one shard is made of.
pub struct Plan<S> {
    /// Its number, from 0.
    pub number: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Its listening sockets, with TLS or without.
    pub listeners: Vec<(TcpListener, Option<Arc<ServerConfig>>)>,
    /// Which bucket a name stands for.
    pub routes: Arc<RouteTable>,
    /// TLS towards each upstream.
    pub upstreams: Vec<Option<ClientConfig>>,
    /// Addresses of each upstream.
    pub addresses: Arc<Addresses>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// When bodies go through pipes.
    pub splice: Splice,
    /// Takes access records.
    pub access: S,
    /// Differs from start to start; makes request ids unique.
    pub start_id: u64,
    /// Told once the shard accepts connections.
    pub ready: Sender<usize>,
    /// Tells the shard to stop.
    pub stop: Arc<Notify>,
}

/// Runs a shard on the calling thread until it is told to stop and its clients have left.
///
/// # Errors
/// When the kernel offers no ring or a listener cannot be used.
pub fn run<S: AccessSink + 'static>(plan: Plan<S>) -> io::Result<()> {
    runtime::run_shard(plan.core, runtime::RING_ENTRIES, || shard(plan))?
}

async fn shard<S: AccessSink + 'static>(plan: Plan<S>) -> io::Result<()> {
    let Plan { timeouts, limits, .. } = plan;
    let upstreams = plan.upstreams.into_iter().enumerate();
    let upstreams =
        upstreams.map(|(index, tls)| Upstream::new(index, tls, timeouts.upstream_idle, limits.upstream_idle_max));
    let drain = timeouts.drain;
    let shard = Shard::new(
        plan.routes,
        upstreams.collect(),
        Dialer::new(plan.addresses, plan.number),
        timeouts,
        limits,
        plan.access,
        plan.start_id.wrapping_add(plan.number as u64),
    );
    let shard = Rc::new(shard.with_pipes(Pipes::new(plan.splice, uring::pipe)));
    let mut listeners = Vec::new();
    for (socket, tls) in plan.listeners {
        let listener = Rc::new(Listener::from_std(socket)?);
        tokio::task::spawn_local(accept(Rc::clone(&listener), tls, Rc::clone(&shard)));
        listeners.push(listener);
    }
    // Nobody listens any more only when the process is already going down.
    let _ = plan.ready.send(plan.number);
    drop(plan.ready);
    plan.stop.notified().await;
    shard.drain();
    for listener in listeners {
        listener.close();
    }
    tokio::task::spawn_local(give_up(Rc::clone(&shard), drain));
    shard.emptied().await;
    Ok(())
}

/// Takes clients until the listener closes.
async fn accept<S: AccessSink + 'static>(
    listener: Rc<Listener>,
    tls: Option<Arc<ServerConfig>>,
    shard: Rc<Shard<Dialer, S>>,
) {
    loop {
        shard.below_max().await;
        match listener.accept().await {
            Accept::Client(stream, _) => {
                let (tls, seat, shard) = (tls.clone(), shard.seat(), Rc::clone(&shard));
                tokio::task::spawn_local(async move {
                    connection::serve(stream, tls, shard).await;
                    drop(seat);
                });
            }
            Accept::Closed => return,
        }
    }
}

/// Breaks off what is still running when the time for leaving is up.
async fn give_up<S: AccessSink + 'static>(shard: Rc<Shard<Dialer, S>>, drain: Duration) {
    tokio::time::sleep_until(clock::mono() + drain).await;
    let left = shard.connections();
    if left > 0 {
        tracing::warn!(left, "breaking off connections that did not finish within timeouts.drain");
        shard.abort();
    }
}
