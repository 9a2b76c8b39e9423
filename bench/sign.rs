//! What the gate's own identity costs: `cargo bench --bench sign`.
//!
//! Verifying and signing, for a request and for a chunk of an upload. What is hashed once for both is in both.

use std::hint::black_box;

use aws_lc_rs::digest::{SHA256, digest};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use filmgate::http::head::RequestHead;
use filmgate::s3::target::Target;
use filmgate::sign::canonical::{Scratch, Signed, write_string_to_sign};
use filmgate::sign::checksum::{Algorithm, Running};
use filmgate::sign::chunks::Chain;
use filmgate::sign::claim;
use filmgate::sign::key::{Scope, Secret, Signature, SigningKey};
use filmgate::sign::payload::{Declared, Inspector, Payload};
use filmgate::sign::time::Stamp;
use filmgate::sign::verify::{Evidence, check_frame, verify};

const SCOPE: Scope<'_> = Scope { date: b"20130524", region: b"us-east-1", service: b"s3" };
const NOW: u64 = 1_369_353_600;
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS: usize = 16;

/// AWS's example of a GET, with the fields an SDK adds.
const HEAD: &str = "GET /shots/ab010/plates/ab010_bg01_v003.mov HTTP/1.1\r\n\
    Host: examplebucket.s3.amazonaws.com\r\nRange: bytes=0-1048575\r\nUser-Agent: aws-sdk-rust/1.3.9 os/linux\r\n\
    amz-sdk-invocation-id: 71a0f1ee-1a55-4a3a-b5a6-1f0f5b3a8d3e\r\namz-sdk-request: attempt=1; max=3\r\n\
    x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nx-amz-date: 20130524T000000Z\r\n";
const NAMES: &str = "amz-sdk-invocation-id;amz-sdk-request;host;range;user-agent;x-amz-content-sha256;x-amz-date";

fn key() -> SigningKey {
    SigningKey::derive(&Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()), SCOPE)
}

/// The signature of a head: canonical form, string to sign, key that is at hand.
fn sign(head: &RequestHead, block: &[u8], key: &SigningKey, scratch: &mut Scratch, text: &mut Vec<u8>) -> Signature {
    let signed = Signed {
        method: head.method(block),
        target: Target::parse(head.target(block)),
        fields: &head.fields,
        block,
        names: NAMES.as_bytes(),
        payload: b"UNSIGNED-PAYLOAD",
        without: None,
    };
    scratch.write(&signed).unwrap();
    text.clear();
    write_string_to_sign(b"20130524T000000Z", SCOPE, scratch.text(), text);
    key.sign(text)
}

fn request(c: &mut Criterion) {
    let (key, mut scratch, mut text) = (key(), Scratch::default(), Vec::new());
    let unsigned = format!("{HEAD}\r\n").into_bytes();
    let head = RequestHead::parse(&unsigned).unwrap();
    let mut hex = Vec::new();
    sign(&head, &unsigned, &key, &mut scratch, &mut text).write_hex(&mut hex);
    let block = format!(
        "{HEAD}Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
        SignedHeaders={NAMES},Signature={}\r\n\r\n",
        String::from_utf8(hex).unwrap()
    )
    .into_bytes();
    let parsed = RequestHead::parse(&block).unwrap();
    let (method, target) = (parsed.method(&block), Target::parse(parsed.target(&block)));
    let mut group = c.benchmark_group("identity");
    group.throughput(Throughput::Elements(1));
    group.bench_function("derive a key", |b| {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into());
        b.iter(|| SigningKey::derive(black_box(&secret), SCOPE));
    });
    group.bench_function("verify a request", |b| {
        b.iter(|| {
            let claim = claim::read(target, &parsed.fields, black_box(&block)).unwrap().unwrap();
            let evidence = Evidence { method, target, fields: &parsed.fields, block: &block };
            let framed = check_frame(&claim, NOW, "us-east-1").unwrap();
            verify(framed, &key, &evidence, &mut scratch).unwrap().len()
        });
    });
    group.bench_function("sign a request", |b| {
        b.iter(|| sign(&head, black_box(&unsigned), &key, &mut scratch, &mut text));
    });
    group.finish();
}

fn chain(seed: &[u8; 64]) -> Chain {
    Chain::new(key(), &Stamp::at(NOW), SCOPE, Signature::from_hex(seed).unwrap())
}

/// An upload of `CHUNKS` chunks, signed or with a checksum behind it.
fn upload(payload: Payload, data: &[u8]) -> Vec<u8> {
    let (mut wire, mut chain) = (Vec::new(), chain(&[b'1'; 64]));
    for data in (0..CHUNKS).map(|_| data).chain([&b""[..]]) {
        wire.extend_from_slice(format!("{:x}", data.len()).as_bytes());
        if payload == Payload::StreamingSigned {
            wire.extend_from_slice(b";chunk-signature=");
            chain.chunk(digest(&SHA256, data).as_ref().try_into().unwrap()).write_hex(&mut wire);
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(data);
        if !data.is_empty() {
            wire.extend_from_slice(b"\r\n");
        }
    }
    if payload == Payload::StreamingUnsignedTrailer {
        let mut sum = Running::new(Algorithm::Crc64Nvme);
        (0..CHUNKS).for_each(|_| sum.update(data));
        wire.extend_from_slice(format!("x-amz-checksum-crc64nvme:{:?}\r\n", sum.finish()).as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

/// Feeds `wire` as it comes from a socket.
fn inspect(mut inspector: Inspector, wire: &[u8], out: &mut Vec<u8>) {
    for mut piece in wire.chunks(CHUNK_BYTES) {
        while !piece.is_empty() {
            piece = &piece[inspector.feed(piece, out).unwrap()..];
            black_box(&out);
            out.clear();
        }
    }
    inspector.finish(out).unwrap();
}

fn payload(c: &mut Criterion) {
    let data: Vec<u8> = (0..CHUNK_BYTES).map(|at| (at * 7 + at / 251) as u8).collect();
    let length = CHUNKS * CHUNK_BYTES;
    let plain = data.repeat(CHUNKS);
    let whole: [u8; 32] = digest(&SHA256, &plain).as_ref().try_into().unwrap();
    let mut group = c.benchmark_group("payload of 1 MiB");
    group.throughput(Throughput::Bytes(length as u64));
    group.bench_function("hash alone", |b| b.iter(|| digest(&SHA256, black_box(&plain))));
    for (name, payload, is_verifying) in [
        ("chunks verified and signed anew", Payload::StreamingSigned, false),
        ("framing with a trailer", Payload::StreamingUnsignedTrailer, false),
        ("framing with a trailer, CRC64NVME verified", Payload::StreamingUnsignedTrailer, true),
        ("SHA-256 verified", Payload::Digest(whole), true),
    ] {
        let form = payload.form();
        let wire = if form.is_some() { upload(payload, &data) } else { plain.clone() };
        let trailer = form.filter(|form| form.has_trailer).map(|_| &b"x-amz-checksum-crc64nvme"[..]);
        let inspector = || {
            let declared = Declared { decoded_length: Some(length as u64), trailer, checksums: &[] };
            let chains = (Some(chain(&[b'1'; 64])), Some(chain(&[b'2'; 64])));
            Inspector::new(payload, declared, chains.0, chains.1, is_verifying).unwrap()
        };
        let mut out = Vec::new();
        group.bench_function(name, |b| {
            b.iter_batched(inspector, |inspector| inspect(inspector, &wire, &mut out), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn checksums(c: &mut Criterion) {
    let data = vec![b'x'; CHUNK_BYTES];
    let mut group = c.benchmark_group("checksum of 64 KiB");
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    for algorithm in Algorithm::ALL {
        group.bench_function(BenchmarkId::from_parameter(algorithm.name()), |b| {
            b.iter(|| {
                let mut running = Running::new(algorithm);
                running.update(black_box(&data));
                running.finish()
            });
        });
    }
    group.finish();
}

criterion_group!(identity, request, payload, checksums);
criterion_main!(identity);
