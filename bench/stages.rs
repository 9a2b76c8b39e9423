//! What each stage of the line costs, without a socket: `cargo bench --bench stages`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use filmgate::buffer::Buffer;
use filmgate::clock;
use filmgate::http::framing;
use filmgate::http::head::{RequestHead, ResponseHead, Scan, Version};
use filmgate::limits::BUFFER_BYTES;
use filmgate::proxy::forward::{self, After, Sending};
use filmgate::tls::config::{self, ClientOptions, Identity, Records, ServerOptions};
use filmgate::tls::session::Session;

#[path = "memory/samples.rs"]
mod samples;
mod steps;

use samples::{HOST, request_head, response_head, routes};
use steps::{MOVIE_BYTES, Record, chunked_body, skim};

const BODY_BYTES: usize = 64 * 1024;
const ROUTES: usize = 16;

fn request(c: &mut Criterion) {
    let block = request_head();
    let parsed = RequestHead::parse(&block).unwrap();
    let routes = routes(ROUTES);
    let route = routes.find(HOST.as_bytes()).unwrap();
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Bytes(block.len() as u64));
    group.bench_function("scan and parse", |b| {
        let mut head = RequestHead::default();
        b.iter(|| {
            let end = Scan::default().feed(black_box(&block)).unwrap().unwrap();
            head.parse_into(&block[..end]).unwrap();
        });
    });
    group.bench_function("framing and authority", |b| {
        b.iter(|| {
            let body = framing::request(black_box(&parsed), &block).unwrap();
            (body, framing::authority(&parsed, &block).unwrap())
        });
    });
    group.bench_function("forward", |b| {
        let mut out = Buffer::detached(BUFFER_BYTES);
        b.iter(|| {
            out.clear();
            forward::request(&mut out, black_box(&parsed), &block, route, Sending::AsReceived, false).unwrap();
            out.len()
        });
    });
    group.finish();
}

fn routing(c: &mut Criterion) {
    let routes = routes(ROUTES);
    let mut group = c.benchmark_group("routing");
    group.throughput(Throughput::Elements(1));
    for (case, authority, known) in
        [("known", "S3-Proxy.MyStudio.com:443", true), ("unknown", "elsewhere.example", false)]
    {
        assert_eq!(routes.find(authority.as_bytes()).is_some(), known);
        let id = BenchmarkId::new(format!("{case} name among routes"), ROUTES);
        group.bench_function(id, |b| {
            b.iter(|| routes.find(black_box(authority.as_bytes())).map(|route| route.upstream))
        });
    }
    group.finish();
}

fn response(c: &mut Criterion) {
    let block = response_head(MOVIE_BYTES);
    let parsed = ResponseHead::parse(&block).unwrap();
    let body = framing::response(&parsed, &block, b"GET").unwrap();
    let mut group = c.benchmark_group("response");
    group.throughput(Throughput::Bytes(block.len() as u64));
    group.bench_function("scan, parse and framing", |b| {
        let mut head = ResponseHead::default();
        b.iter(|| {
            let end = Scan::default().feed(black_box(&block)).unwrap().unwrap();
            head.parse_into(&block[..end]).unwrap();
            framing::response(&head, &block, b"GET").unwrap()
        });
    });
    group.bench_function("forward", |b| {
        let mut out = Buffer::detached(BUFFER_BYTES);
        b.iter(|| {
            out.clear();
            forward::response(&mut out, black_box(&parsed), &block, body, Version::Http11, After::Keep).unwrap();
            out.len()
        });
    });
    group.finish();
}

fn chunked(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked");
    group.throughput(Throughput::Bytes(BODY_BYTES as u64));
    for chunk_bytes in [256, 8 * 1024, BODY_BYTES] {
        let wire = chunked_body(BODY_BYTES, chunk_bytes);
        group.bench_function(BenchmarkId::new("validate, bytes a chunk", chunk_bytes), |b| {
            b.iter(|| assert_eq!(skim(black_box(&wire)), BODY_BYTES));
        });
    }
    group.finish();
}

/// A server's and a client's session after their handshake.
fn sessions(version: config::Version, records: Records) -> (Session, Session) {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, private_key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&private_key, made.signing_key.serialize_pem()).unwrap();
    let ca_file = Some(certificate.clone());
    let identities = vec![Identity { certificate, private_key }];
    let (min_version, client_ca) = (config::Version::Tls12, None);
    let serving = config::server(&ServerOptions { identities, min_version, records, client_ca }).unwrap();
    let calling =
        config::client(&ClientOptions { server_name: HOST.into(), ca_file, max_version: version, records }).unwrap();
    let (mut server, mut client) = (Session::server(&serving).unwrap(), Session::client(&calling).unwrap());
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    loop {
        let opened = client.open(&mut to_client, &mut [], &mut to_server).unwrap();
        to_client.drain(..opened.consumed);
        if to_server.is_empty() {
            break;
        }
        let opened = server.open(&mut to_server, &mut [], &mut to_client).unwrap();
        to_server.drain(..opened.consumed);
    }
    assert!(!server.is_handshaking() && !client.is_handshaking() && server.version() == Some(version));
    (server, client)
}

fn seal(session: &mut Session, plain: &[u8], wire: &mut [u8]) -> usize {
    let sealed = session.seal(plain, wire).unwrap();
    assert_eq!(sealed.consumed, plain.len());
    sealed.written
}

fn open(session: &mut Session, wire: &mut [u8], plain: &mut [u8], protocol: &mut Vec<u8>) {
    let (mut consumed, mut produced) = (0, 0);
    while produced < plain.len() {
        let opened = session.open(&mut wire[consumed..], &mut plain[produced..], protocol).unwrap();
        assert!(opened.produced > 0, "the session is stuck");
        consumed += opened.consumed;
        produced += opened.produced;
    }
}

fn tls(c: &mut Criterion) {
    let mut group = c.benchmark_group("tls");
    group.throughput(Throughput::Bytes(BODY_BYTES as u64));
    let plain = vec![b'x'; BODY_BYTES];
    for (name, version) in [("1.2", config::Version::Tls12), ("1.3", config::Version::Tls13)] {
        let mut wire = vec![0; Session::sealed_len(BODY_BYTES)];
        group.bench_function(BenchmarkId::new("seal", name), |b| {
            let (mut server, _client) = sessions(version, Records::default());
            b.iter(|| seal(&mut server, black_box(&plain), &mut wire));
        });
        group.bench_function(BenchmarkId::new("open", name), |b| {
            let (mut server, mut client) = sessions(version, Records::default());
            let (mut opened, mut protocol) = (vec![0; BODY_BYTES], Vec::new());
            let sealed = || {
                let mut wire = vec![0; Session::sealed_len(BODY_BYTES)];
                let written = seal(&mut server, &plain, &mut wire);
                wire.truncate(written);
                wire
            };
            let opening = |wire: &mut Vec<u8>| open(&mut client, wire, &mut opened, &mut protocol);
            b.iter_batched_ref(sealed, opening, BatchSize::LargeInput);
            assert_eq!(opened, plain);
        });
    }
    group.finish();
}

/// What our record layer and rustls take for runs of full records, and to pass them from one session to another.
fn records(c: &mut Criterion) {
    for bytes in [16 * 1024, 256 * 1024] {
        let plain = vec![b'x'; bytes];
        let mut group = c.benchmark_group(format!("records of {} KiB", bytes / 1024));
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, records) in [("own", Records::Own), ("rustls", Records::Library)] {
            let (mut server, mut client) = sessions(config::Version::Tls13, records);
            let mut wire = vec![0; Session::sealed_len(bytes)];
            group.bench_function(BenchmarkId::new("seal", name), |b| {
                b.iter(|| seal(&mut server, black_box(&plain), &mut wire));
            });
            let (mut server, mut peer) = sessions(config::Version::Tls13, records);
            let (mut opened, mut protocol) = (vec![0; bytes + 1], Vec::new());
            group.bench_function(BenchmarkId::new("open", name), |b| {
                let sealed = || sealed(&mut server, &plain);
                let opening = |wire: &mut Vec<u8>| open(&mut peer, wire, &mut opened[..bytes], &mut protocol);
                b.iter_batched_ref(sealed, opening, BatchSize::LargeInput);
            });
            let (mut server, mut peer) = sessions(config::Version::Tls13, records);
            group.bench_function(BenchmarkId::new("open and reseal", name), |b| {
                let sealed = || sealed(&mut server, &plain);
                let passing = |incoming: &mut Vec<u8>| {
                    if records == Records::Own {
                        let run = peer.open_run(incoming, u64::MAX).unwrap();
                        assert_eq!((run.plain, run.wire), (bytes, incoming.len()));
                        client.seal_run(incoming, &mut protocol).unwrap();
                    } else {
                        open(&mut peer, incoming, &mut opened[..bytes], &mut protocol);
                        seal(&mut client, &opened[..bytes], &mut wire);
                    }
                };
                b.iter_batched_ref(sealed, passing, BatchSize::LargeInput);
            });
        }
        group.finish();
    }
}

/// Records of `plain`.
fn sealed(session: &mut Session, plain: &[u8]) -> Vec<u8> {
    let mut wire = vec![0; Session::sealed_len(plain.len())];
    let written = seal(session, plain, &mut wire);
    wire.truncate(written);
    wire
}

/// One access record as the line fills it in, and its line of JSON.
fn record(c: &mut Criterion) {
    let mut record = Record::new();
    let mut group = c.benchmark_group("access");
    group.throughput(Throughput::Elements(1));
    group.bench_function("record, filled in and written", |b| {
        b.iter(|| record.write(clock::now().wall));
    });
    group.finish();
}

criterion_group!(stages, request, routing, response, chunked, tls, records, record);
criterion_main!(stages);
