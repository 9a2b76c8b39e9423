//! Heads of messages, just enough to know where they end, what they are and how long the body is.

/// The most a head may hold, in bytes.
pub(crate) const LONGEST: usize = 16 * 1024;

/// The length of the head at the start of `bytes`, its empty line included.
pub(crate) fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|start| start + 4)
}

/// The first line, without its end.
pub(crate) fn first_line(head: &[u8]) -> &str {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    std::str::from_utf8(line).unwrap_or_default()
}

/// The value of the Content-Length field.
pub(crate) fn content_length(head: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

/// The head of a request as a browser makes it from one of ShotGrid's links, presigned with temporary credentials: 1.3 KB.
/// With a `query` of the caller's, if that has to be a signature somebody verifies.
pub(crate) fn request(method: &str, path: &str, host: &str, query: Option<&str>, length: Option<u64>) -> Vec<u8> {
    let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    let token = "IQoJb3JpZ2luX2VjEJr%2F%2F%2F%2F%2FwEaCXVzLXdlc3QtMiJHMEUCIQD4".repeat(8);
    let signature = "0123456789abcdef".repeat(4);
    let shotgrids = format!(
        "response-content-disposition=filename%3D%22sq010_sh0420_comp_v017.mov%22&X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=ASIAEXAMPLEEXAMPLE00%2F20260101%2Fus-west-2%2Fs3%2Faws4_request\
         &X-Amz-Date=20260101T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
         &X-Amz-Security-Token={token}&X-Amz-Signature={signature}"
    );
    let query = query.unwrap_or(&shotgrids);
    format!(
        "{method} {path}/0a1b2c3d/4e5f6a7b/Version/112358/sq010_sh0420_comp_v017.mov?{query} HTTP/1.1\r\nHost: {host}\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\
         \r\nAccept: */*\r\nAccept-Encoding: identity;q=1, *;q=0\r\nAccept-Language: en-US,en;q=0.9\r\n\
         Referer: https://mystudio.shotgrid.autodesk.com/\r\nSec-Fetch-Dest: video\r\nSec-Fetch-Mode: no-cors\r\n\
         Sec-Fetch-Site: cross-site\r\nConnection: keep-alive\r\n{length}\r\n"
    )
    .into_bytes()
}

/// The head of a response with the fields S3 sends.
pub(crate) fn response(status: &str, length: u64) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\n\
         x-amz-id-2: qmsU2yqVWDw1AxRzkFXWLCqgGQPbFPYVdO1mUwYGmFRaDcCSHsX2Qm5U8YHL5RzxOD3G1WvEFCk=\r\n\
         x-amz-request-id: 0A49CE4060975EAC\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Last-Modified: Wed, 31 Dec 2025 00:00:00 GMT\r\nETag: \"9b2cf535f27731c974343645a3985328\"\r\n\
         x-amz-server-side-encryption: AES256\r\nAccept-Ranges: bytes\r\nContent-Type: video/quicktime\r\n\
         Content-Length: {length}\r\nServer: AmazonS3\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_made_here_is_read_here() {
        let head = response("200 OK", 42);
        assert_eq!(end(&head), Some(head.len()));
        assert_eq!(end(&head[..head.len() - 1]), None);
        assert_eq!(first_line(&head), "HTTP/1.1 200 OK");
        assert_eq!(content_length(&head), Some(42));
        let head = request("PUT", "/1k", "localhost", None, Some(1024));
        assert_eq!(end(&head), Some(head.len()));
        assert_eq!(content_length(&head), Some(1024));
        assert!((1250..1400).contains(&head.len()), "{} bytes", head.len());
        assert_eq!(content_length(&request("GET", "/1k", "localhost", None, None)), None);
    }
}
