//! The gate in front of the embedded S3, set up as a studio would: its own name and certificate towards artists, the
//! bucket's name, address and authority towards S3.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::authority::Authority;
use super::client::Server;
use super::storage::{self, Storage};
use super::{CA_FILE, Directory, Problem};
use crate::pipe::Splice;
use crate::policy::route::{Mode, Route, UpstreamHost};
use crate::proxy::upstream::UpstreamOptions;
use crate::proxy::{Limits, Timeouts};
use crate::server::logging::Level;
use crate::server::{AccessLog, Gate, Options};
use crate::tls::config::{ClientOptions, Identity, Records, ServerOptions, Version};

/// The running gate. It stops when dropped.
pub(super) struct Front {
    server: Server,
    gate: Option<Gate>,
}

impl Front {
    /// Starts the gate on the port of 127.0.0.1 that was asked for, or any free one.
    pub(super) fn start(
        storage: &Storage,
        authority: &Authority,
        directory: &Directory,
        demo: &super::Options,
    ) -> Result<Self, Problem> {
        let identity = Identity { certificate: directory.file("gate.pem"), private_key: directory.file("gate.key") };
        authority.issue(&NAMES)?.write(&identity.certificate, &identity.private_key)?;
        let gate = Gate::start(options(storage, identity, directory, demo));
        let gate = gate.map_err(|error| Problem::new("the gate does not start", error))?;
        let address = gate.https_addrs().first().copied().ok_or_else(|| Problem::from("the gate listens nowhere"))?;
        let server = Server { address, name: LOCALHOST, host: format!("{LOCALHOST}:{}", address.port()) };
        Ok(Self { server, gate: Some(gate) })
    }

    /// Who protects its TLS records.
    pub(super) fn records(&self) -> &str {
        self.gate.as_ref().map_or("", Gate::records)
    }

    /// How a client gets to it.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.gate.take().map(Gate::stop) {
            eprintln!("filmgate demo: the gate did not stop well: {error}");
        }
    }
}

fn options(storage: &Storage, identity: Identity, directory: &Directory, demo: &super::Options) -> Options {
    let route = Route {
        hosts: NAMES.iter().map(|&name| name.to_owned()).collect(),
        default: true,
        bucket: storage::BUCKET.to_owned(),
        region: storage::REGION.to_owned(),
        mode: Mode::PassThrough,
        host: UpstreamHost::Replace(storage::HOST.to_owned()),
        upstream: 0,
    };
    let towards_s3 = ClientOptions {
        server_name: storage::HOST.to_owned(),
        ca_file: Some(directory.file(CA_FILE)),
        max_version: Version::Tls13,
        records: Records::default(),
    };
    let s3 = storage.address();
    Options {
        https: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, demo.port.unwrap_or(0)))],
        http: Vec::new(),
        admin: None,
        tls: Some(ServerOptions {
            identities: vec![identity],
            min_version: Version::Tls12,
            records: Records::default(),
            client_ca: None,
        }),
        kernel: demo.kernel,
        workers: None,
        pin: false,
        routes: vec![route],
        upstreams: vec![UpstreamOptions {
            name: storage::HOST.to_owned(),
            connect: vec![(s3.ip().to_string(), s3.port())],
            tls: Some(towards_s3),
        }],
        timeouts: Timeouts { drain: DRAIN, ..Timeouts::default() },
        limits: Limits::default(),
        splice: Splice::default(),
        clients: Vec::new(),
        credentials: Vec::new(),
        access_log: AccessLog::File(directory.file(super::ACCESS_LOG_FILE)),
        log_level: Level::default(),
    }
}

const LOCALHOST: &str = "localhost";

/// The names the gate is known by, in its certificate and in its route.
const NAMES: [&str; 3] = [LOCALHOST, "s3-proxy.demo.internal", "127.0.0.1"];

/// Nobody waits for a demo to end.
const DRAIN: Duration = Duration::from_secs(1);
