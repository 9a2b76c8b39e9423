//! What passes through the gate in the benches: a browser's request for media, S3's answer, and a table of routes.

use filmgate::policy::route::{Mode, Route, RouteTable, UpstreamHost};

/// The name clients know.
pub(crate) const HOST: &str = "s3-proxy.mystudio.com";

/// What a browser sends for a version's movie: a link presigned with temporary credentials, 1.3 KB in all.
pub(crate) fn request_head() -> Vec<u8> {
    let token = "IQoJb3JpZ2luX2VjEJr%2F%2F%2F%2F%2FwEaCXVzLXdlc3QtMiJHMEUCIQD4".repeat(8);
    let head = format!(
        "GET /0a1b2c3d/4e5f6a7b/Version/112358/sq010_sh0420_comp_v017.mov?response-content-disposition=filename%3D%22\
         sq010_sh0420_comp_v017.mov%22&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAEXAMPLEEXAMPLE00%2F20260101\
         %2Fus-west-2%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&\
         X-Amz-Security-Token={token}&X-Amz-Signature={signature} HTTP/1.1\r\n\
         Host: {HOST}\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\
         \r\nAccept: */*\r\nAccept-Encoding: identity;q=1, *;q=0\r\nAccept-Language: en-US,en;q=0.9\r\n\
         Referer: https://mystudio.shotgrid.autodesk.com/\r\nRange: bytes=0-\r\nSec-Fetch-Dest: video\r\n\
         Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: cross-site\r\nConnection: keep-alive\r\n\r\n",
        signature = "0123456789abcdef".repeat(4),
    );
    assert!((1250..1400).contains(&head.len()), "{} bytes", head.len());
    head.into_bytes()
}

/// What S3 answers to it, for a body of `length` bytes.
pub(crate) fn response_head(length: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\n\
        x-amz-id-2: Uuag1LuByRx9e6j5Onimru9pO4ZVKnJ2Qz7/C1NPcfTWAtRPfTaOFgZ0Jk6SEXAMPLEw1u8f0aKt=\r\n\
        x-amz-request-id: 656C76696E6727732\r\nDate: Thu, 01 Jan 2026 00:00:01 GMT\r\n\
        Last-Modified: Wed, 31 Dec 2025 18:12:45 GMT\r\nETag: \"d41d8cd98f00b204e9800998ecf8427e-17\"\r\n\
        x-amz-server-side-encryption: AES256\r\nx-amz-version-id: 3HL4kqtJvjVBH40Nrjfkd.EXAMPLE\r\n\
        Content-Disposition: filename=\"sq010_sh0420_comp_v017.mov\"\r\nAccept-Ranges: bytes\r\n\
        Content-Range: bytes 0-{}/{length}\r\nContent-Type: video/quicktime\r\nContent-Length: {length}\r\n\
        Server: AmazonS3\r\n\r\n",
        length.saturating_sub(1)
    );
    head.into_bytes()
}

/// `number` routes to upstreams of the same number; the first has the name [`HOST`].
pub(crate) fn routes(number: usize) -> RouteTable {
    let route = |number: usize| Route {
        hosts: if number == 0 { vec![HOST.into()] } else { vec![format!("media-{number:02}.mystudio.com")] },
        default: false,
        bucket: format!("mystudio-media-{number:02}"),
        region: "us-west-2".into(),
        mode: Mode::PassThrough,
        host: UpstreamHost::Replace(format!("mystudio-media-{number:02}.s3.us-west-2.amazonaws.com")),
        upstream: number,
    };
    RouteTable::new((0..number).map(route).collect())
}
