//! Which bucket a request is for, decided by the name the client used.

/// What is done with a request of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The client's own signature travels to S3, byte for byte.
    PassThrough,
}

/// The `Host` S3 gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The one the client sent: links were signed for the gate's own name (split-horizon DNS).
    Keep,
    /// The one that was signed, whatever name the client used.
    Replace(String),
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Lower-case host names without port that lead here.
    pub hosts: Vec<String>,
    /// Whether names that no route claims lead here too.
    pub default: bool,
    /// The bucket, for logs and messages.
    pub bucket: String,
    /// The bucket's region, for logs and messages.
    pub region: String,
    /// What is done with the request.
    pub mode: Mode,
    /// The `Host` for S3.
    pub host: UpstreamHost,
    /// Index of the upstream that serves the route.
    pub upstream: usize,
}
