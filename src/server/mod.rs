//! The process: bind, start the shards, be ready, drain.

pub mod admin;
pub mod logging;
pub mod signals;

use std::net::SocketAddr;

use crate::policy::route::Route;
use crate::proxy::upstream::UpstreamOptions;
use crate::proxy::{Limits, Timeouts};
use crate::tls::config::ServerOptions;

/// Everything a gate needs to run, checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// TLS listeners.
    pub https: Vec<SocketAddr>,
    /// Plain listeners.
    pub http: Vec<SocketAddr>,
    /// Health, and later metrics.
    pub admin: Option<SocketAddr>,
    /// Certificates; present whenever `https` is not empty.
    pub tls: Option<ServerOptions>,
    /// Number of shards; `None` for one per allowed core.
    pub workers: Option<usize>,
    /// Whether each shard is pinned to its core.
    pub pin: bool,
    /// Routes, in configuration order.
    pub routes: Vec<Route>,
    /// Upstreams the routes point at.
    pub upstreams: Vec<UpstreamOptions>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// Where access records go.
    pub access_log: AccessLog,
}

/// Where access records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(std::path::PathBuf),
}

/// Why a gate could not start.
#[derive(Debug)]
pub struct StartError(String);

impl std::fmt::Display for StartError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Serves until told to stop.
///
/// # Errors
/// What kept it from starting.
pub fn run(_options: Options) -> Result<(), StartError> {
    Err(StartError("serving is not built yet".to_string()))
}
