//! A real S3 server in the process: s3s over a directory, behind TLS, under the name of one bucket. It verifies every
//! signature against one random pair of credentials and sees only what the gate sends, so what passes here was signed
//! for exactly the bytes that arrived.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::host::SingleDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::Problem;
use super::authority::Authority;
use crate::sign::presign::Credentials;

/// The running server. It stops when dropped.
pub(super) struct Storage {
    address: SocketAddr,
    credentials: Credentials,
    runtime: Option<Runtime>,
}

impl Storage {
    /// Starts the server over an empty `directory`, on its own threads.
    pub(super) fn start(directory: &Path, authority: &Authority) -> Result<Self, Problem> {
        let at = |error| Problem::new(format_args!("cannot use {}", directory.display()), error);
        std::fs::create_dir_all(directory.join(BUCKET)).map_err(at)?;
        let files = s3s_fs::FileSystem::new(directory)
            .map_err(|error| Problem::new("cannot open the embedded S3's directory", format_args!("{error:?}")))?;
        let (access_key_id, secret_access_key) = (format!("DEMO{}", random_hex(8)?), random_hex(20)?);
        let domain = SingleDomain::new(DOMAIN).map_err(|error| Problem::new("cannot name the embedded S3", error))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(access_key_id.as_str(), secret_access_key.as_str()));
        builder.set_host(domain);
        let service = builder.build();
        let acceptor = TlsAcceptor::from(authority.issue(&[HOST])?.server()?);

        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("demo-s3")
            .enable_all()
            .build();
        let runtime = threads.map_err(|error| Problem::new("cannot start the embedded S3's threads", error))?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.map_err(|error| Problem::new("the embedded S3 cannot listen on 127.0.0.1", error))?;
        let address = listener.local_addr().map_err(|error| Problem::new("the embedded S3 has no address", error))?;
        runtime.spawn(accept(listener, acceptor, service));
        let credentials = Credentials::new(&access_key_id, &secret_access_key, None);
        Ok(Self { address, credentials, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The only credentials it knows.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(STOP_WAIT);
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, service: S3Service) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(serve(socket, acceptor.clone(), service.clone()));
            }
            // Out of descriptors: those in use come back, and accepting at once would only spin.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One connection; its end, of whatever kind, is the peer's to report.
async fn serve(socket: TcpStream, acceptor: TlsAcceptor, service: S3Service) {
    let _ = socket.set_nodelay(true);
    if let Ok(stream) = acceptor.accept(socket).await {
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let _ = connection.await;
    }
}

fn random_hex(bytes: usize) -> Result<String, Problem> {
    let mut random = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut random).map_err(|error| Problem::new("no randomness", error))?;
    Ok(random.iter().map(|byte| format!("{byte:02X}")).collect())
}

/// The bucket.
pub(super) const BUCKET: &str = "demo-media";

/// The bucket's region.
pub(super) const REGION: &str = "us-west-2";

/// The bucket's own name: what links are signed for, what the certificate says.
pub(super) const HOST: &str = "demo-media.s3.us-west-2.demo.internal";

const DOMAIN: &str = "s3.us-west-2.demo.internal";
const THREADS: usize = 2;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STOP_WAIT: Duration = Duration::from_secs(2);
