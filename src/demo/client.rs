//! An HTTPS client as plain as an artist's curl: one connection, request targets sent as the bytes they are, bodies
//! hashed on the way and never held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::film::{Hasher, Sha256, Upload};

/// Whom to talk to, and by which name.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Where to connect.
    pub(super) address: SocketAddr,
    /// SNI, and the name the certificate must carry.
    pub(super) name: &'static str,
    /// What `Host` says.
    pub(super) host: String,
}

/// The client; it keeps its connection between requests and makes a new one when that has gone.
pub(super) struct Client {
    server: Server,
    tls: TlsConnector,
    connection: Option<SendRequest<Upload>>,
    moved: Arc<AtomicU64>,
}

/// A response, its body already read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    /// Bytes of the body.
    pub(super) body_bytes: u64,
    /// SHA-256 of the body.
    pub(super) sha256: Sha256,
    /// The beginning of the body, for reading: S3's XML fits.
    pub(super) beginning: Vec<u8>,
}

impl Client {
    /// `moved` counts the bytes of response bodies.
    pub(super) fn new(server: Server, tls: Arc<ClientConfig>, moved: Arc<AtomicU64>) -> Self {
        Self { server, tls: TlsConnector::from(tls), connection: None, moved }
    }

    /// One exchange.
    ///
    /// # Errors
    /// In words, when there is no complete response.
    pub(super) async fn exchange(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(HeaderName, &str)],
        body: Upload,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(target).header(HOST, &self.server.host);
        request = request.header(USER_AGENT, concat!("filmgate-demo/", env!("CARGO_PKG_VERSION")));
        for (name, value) in fields {
            request = request.header(name, *value);
        }
        let request = request.body(body).map_err(|error| format!("not a request: {error}"))?;

        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await.map_err(|error| explain("no response", &error))?;
        let answer = self.read(response).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connection(&mut self) -> Result<SendRequest<Upload>, String> {
        if let Some(mut kept) = self.connection.take()
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        let address = self.server.address;
        let socket =
            TcpStream::connect(address).await.map_err(|error| format!("cannot connect to {address}: {error}"))?;
        socket.set_nodelay(true).map_err(|error| format!("cannot set up the connection: {error}"))?;
        let name = ServerName::try_from(self.server.name).map_err(|error| error.to_string())?;
        let stream = self.tls.connect(name, socket).await.map_err(|error| format!("no TLS with {address}: {error}"))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| explain("no connection", &error))?;
        // What ends the connection is told to the exchange it ended.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Answer, String> {
        let (head, mut body) = response.into_parts();
        let (mut hasher, mut body_bytes, mut beginning) = (Hasher::new(), 0, Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| explain(&format!("cut off after {body_bytes} bytes"), &error))?;
            let Some(bytes) = frame.data_ref() else { continue };
            hasher.update(bytes);
            body_bytes += bytes.len() as u64;
            self.moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let room = BEGINNING_BYTES_MAX - beginning.len();
            beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(Answer { status: head.status, fields: head.headers, body_bytes, sha256: hasher.finish(), beginning })
    }
}

impl Answer {
    /// A field's value when there is one and it is text.
    pub(super) fn field(&self, name: &HeaderName) -> Option<&str> {
        self.fields.get(name).map(HeaderValue::to_str).and_then(Result::ok)
    }

    /// What `Content-Length` says; of a response to HEAD, too.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.field(&CONTENT_LENGTH)?.parse().ok()
    }

    /// The text of the first `<name>` in an XML body.
    pub(super) fn element(&self, name: &str) -> Option<&str> {
        let text = str::from_utf8(&self.beginning).ok()?;
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    }
}

/// hyper keeps the reason in the source.
fn explain(what: &str, error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{what}: {error}: {source}"),
        None => format!("{what}: {error}"),
    }
}

const BEGINNING_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::demo::authority::Authority;

    /// Answers one connection's requests with 200 and hands out each head.
    async fn heads(listener: tokio::net::TcpListener, acceptor: TlsAcceptor, requests: usize) -> Vec<String> {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut heads = Vec::new();
        for _ in 0..requests {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.push(String::from_utf8(head).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
            stream.flush().await.unwrap();
        }
        heads
    }

    #[test]
    fn request_targets_are_sent_byte_for_byte_on_one_connection() {
        let targets =
            ["/a/../b/./c", "//a//b/", "/%2F%2f%e9?x=a/b&y&&z=%20+", "/%C3%A9;=,@:!$'()*~?", "/?uploads", "//"];
        let authority = Authority::new().unwrap();
        let acceptor = TlsAcceptor::from(authority.issue(&["demo.internal"]).unwrap().server().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(heads(listener, acceptor, targets.len()));
            let to = Server { address, name: "demo.internal", host: "media.demo.internal".to_owned() };
            let mut client = Client::new(to, authority.client().unwrap(), Arc::default());
            for target in targets {
                let answer = client.exchange("GET", target, &[], Upload::EMPTY).await.unwrap();
                assert_eq!((answer.status, answer.body_bytes), (StatusCode::OK, 3));
                assert_eq!(answer.beginning, b"abc");
                let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
                assert_eq!(answer.sha256.0, expected, "SHA-256 of abc (FIPS 180-4)");
            }
            server.await.unwrap()
        });
        for (head, target) in seen.iter().zip(targets) {
            assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{head}");
            assert!(head.contains("\r\nhost: media.demo.internal\r\n"), "{head}");
        }
    }

    #[test]
    fn a_server_of_another_authority_is_refused() {
        let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
        let acceptor = TlsAcceptor::from(theirs.issue(&["demo.internal"]).unwrap().server().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let refused = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await.map(drop) });
            let to = Server { address, name: "demo.internal", host: "demo.internal".to_owned() };
            Client::new(to, ours.client().unwrap(), Arc::default()).exchange("GET", "/", &[], Upload::EMPTY).await
        });
        assert!(refused.unwrap_err().contains("certificate"));
    }
}
