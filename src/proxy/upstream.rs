//! Connections to upstreams: what they are, and the idle ones.

use crate::tls::config::ClientOptions;

/// One upstream as configured: where to connect and how to be sure of it.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// What logs and messages call it.
    pub name: String,
    /// Names or addresses with ports; every address of every one of them is used.
    pub connect: Vec<(String, u16)>,
    /// TLS towards it; `None` for plain HTTP.
    pub tls: Option<ClientOptions>,
}
