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

/// The head of a request as ShotGrid's links make it, its signature included.
pub(crate) fn request(method: &str, path: &str, host: &str, length: Option<u64>) -> Vec<u8> {
    let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    format!(
        "{method} {path}?X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260101%2Fus-west-2%2Fs3%2Faws4_request\
         &X-Amz-Date=20260101T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef HTTP/1.1\r\n\
         Host: {host}\r\nUser-Agent: filmgate-load\r\nAccept: */*\r\nAccept-Encoding: identity\r\n{length}\r\n"
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
        let head = request("PUT", "/1k", "localhost", Some(1024));
        assert_eq!(end(&head), Some(head.len()));
        assert_eq!(content_length(&head), Some(1024));
        assert_eq!(content_length(&request("GET", "/1k", "localhost", None)), None);
    }
}
