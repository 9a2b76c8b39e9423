//! The code under test: one shard and its connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use filmgate::access::AccessRecord;
use filmgate::pipe::{Pipes, Splice};
use filmgate::policy::route::{Mode, Route, RouteTable, UpstreamHost};
use filmgate::proxy::connection;
use filmgate::proxy::shard::Shard;
use filmgate::proxy::upstream::Upstream;
use filmgate::proxy::{Limits, Timeouts};
use filmgate::tls::config::ServerConfig;

use crate::dial::SimDial;
use crate::link::{SimLink, open_pipe};
use crate::pki;
use crate::plan::{HOST, UPSTREAM_HOST};
use crate::{Line, Seed};

type Records = Rc<RefCell<Vec<AccessRecord>>>;

pub struct Gate {
    shard: Rc<Shard<SimDial, Records>>,
    tls: Option<Arc<ServerConfig>>,
}

impl Gate {
    pub fn new(seed: &Seed) -> Rc<Self> {
        let route = Route {
            hosts: vec![HOST.to_owned()],
            default: false,
            bucket: "bucket".to_owned(),
            region: "eu-north-1".to_owned(),
            mode: Mode::PassThrough,
            host: UpstreamHost::Replace(UPSTREAM_HOST.to_owned()),
            upstream: 0,
        };
        let (timeouts, limits) = (Timeouts::default(), Limits::default());
        let tls = seed.tls.upstream.map(|version| pki::client(UPSTREAM_HOST, version));
        let upstream = Upstream::new(0, tls, timeouts.upstream_idle, limits.upstream_idle_max);
        let routes = Arc::new(RouteTable::new(vec![route]));
        let shard = Shard::new(routes, vec![upstream], seed.dial(), timeouts, limits, Records::default(), 7);
        let pipes = Pipes::new(if seed.world.seed.is_multiple_of(2) { Splice::Always } else { Splice::Off }, open_pipe);
        let tls = seed.tls.client.map(|_| pki::server());
        Rc::new(Self { shard: Rc::new(shard.with_pipes(pipes)), tls })
    }
}

impl Line for Gate {
    async fn serve(self: Rc<Self>, client: SimLink) {
        connection::serve(client, self.tls.clone(), Rc::clone(&self.shard)).await;
    }

    fn records(&self) -> Option<Vec<AccessRecord>> {
        Some(self.shard.access.take())
    }
}
