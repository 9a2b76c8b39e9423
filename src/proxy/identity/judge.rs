//! What the storage's answer says about the gate's own signature.

use crate::http::fields::Fields;
use crate::s3::error;

/// What to do about an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is about the client's request: it passes.
    Passes,
    /// It passes, and may mean that the credentials were revoked.
    PassesInDoubt,
    /// The credentials the gate signed with are not taken any more. The client did nothing wrong.
    Revoked(String),
    /// The bucket is in another region; empty where the answer does not say which.
    Elsewhere(String),
}

/// Judges the answer to a request that was signed for `region`. `body` is what there is of its body.
#[must_use]
pub fn judge(status: u16, fields: &Fields, block: &[u8], body: &[u8], region: &str) -> Verdict {
    let named = fields.get(block, "x-amz-bucket-region").or_else(|| element(body, b"<Region>", b"</Region>"));
    let named = named.and_then(|name| std::str::from_utf8(name).ok()).filter(|name| is_region(name));
    let elsewhere = named.filter(|name| *name != region);
    let code = error::code_of(body).and_then(|code| std::str::from_utf8(code).ok()).unwrap_or_default();
    match (status, code) {
        (301 | 302 | 307 | 308, _) => Verdict::Elsewhere(elsewhere.unwrap_or_default().to_string()),
        (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            elsewhere.map_or(Verdict::Revoked(code.to_string()), |name| Verdict::Elsewhere(name.to_string()))
        }
        // HEAD has no body that says more.
        (400, "") => elsewhere.map_or(Verdict::PassesInDoubt, |name| Verdict::Elsewhere(name.to_string())),
        (400 | 403, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId")
        | (400 | 403, "InvalidClientTokenId" | "SignatureDoesNotMatch" | "RequestTimeTooSkewed" | "InvalidSecurity") => {
            Verdict::Revoked(code.to_string())
        }
        (403, "AccessDenied" | "AllAccessDisabled" | "") => Verdict::PassesInDoubt,
        _ => Verdict::Passes,
    }
}

/// Whether an answer of this status may be about the gate's own signature.
#[must_use]
pub fn is_telling(status: u16) -> bool {
    matches!(status, 301 | 302 | 307 | 308 | 400 | 403)
}

/// What stands between two tags.
pub(super) fn element<'a>(body: &'a [u8], open: &[u8], close: &[u8]) -> Option<&'a [u8]> {
    let start = body.windows(open.len()).position(|window| window == open)? + open.len();
    let rest = &body[start..];
    let end = rest.windows(close.len()).position(|window| window == close)?;
    Some(&rest[..end])
}

fn is_region(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::ResponseHead;

    fn judged(status: u16, field: &str, body: &str) -> Verdict {
        let block = format!("HTTP/1.1 {status} X\r\n{field}\r\n");
        let head = ResponseHead::parse(block.as_bytes()).unwrap();
        judge(head.status, &head.fields, block.as_bytes(), body.as_bytes(), "us-west-2")
    }

    fn error(code: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Region>eu-west-1</Region></Error>")
    }

    #[test]
    fn another_region_is_noticed_in_every_form_s3_says_it() {
        let elsewhere = Verdict::Elsewhere("eu-west-1".into());
        assert_eq!(judged(301, "x-amz-bucket-region: eu-west-1\r\n", ""), elsewhere);
        assert_eq!(judged(307, "", &error("TemporaryRedirect")), elsewhere);
        assert_eq!(judged(400, "", &error("AuthorizationHeaderMalformed")), elsewhere);
        assert_eq!(judged(400, "x-amz-bucket-region: eu-west-1\r\n", ""), elsewhere);
        assert_eq!(judged(301, "Location: https://x.s3.amazonaws.com/\r\n", ""), Verdict::Elsewhere(String::new()));
        assert_eq!(judged(301, "x-amz-bucket-region: us-west-2\r\n", ""), Verdict::Elsewhere(String::new()));
        assert_eq!(judged(301, "x-amz-bucket-region: EU/../x\r\n", ""), Verdict::Elsewhere(String::new()));
    }

    #[test]
    fn what_is_said_of_the_gates_own_signature_is_told_from_what_is_said_of_the_request() {
        for code in
            ["ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"]
        {
            for status in [400, 403] {
                assert_eq!(judged(status, "", &error(code)), Verdict::Revoked(code.into()), "{code}");
            }
        }
        assert_eq!(judged(403, "", &error("AccessDenied")), Verdict::PassesInDoubt);
        assert_eq!(judged(403, "", ""), Verdict::PassesInDoubt);
        assert_eq!(judged(400, "", ""), Verdict::PassesInDoubt);
        for (status, code) in
            [(400, "InvalidArgument"), (404, "NoSuchKey"), (403, "InvalidObjectState"), (400, "EntityTooSmall")]
        {
            assert_eq!(judged(status, "", &error(code)), Verdict::Passes, "{code}");
        }
    }
}
