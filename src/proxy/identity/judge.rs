//! What the storage's answer says about the gate's own signature.

use memchr::memmem;

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
    let elsewhere = || {
        let named = fields.get(block, "x-amz-bucket-region").or_else(|| element(body, b"<Region>", b"</Region>"));
        let named = named.and_then(|name| std::str::from_utf8(name).ok()).filter(|name| is_region(name));
        named.filter(|name| *name != region)
    };
    if !is_telling(status) {
        return Verdict::Passes;
    }
    let code = error::code_of(body).and_then(|code| std::str::from_utf8(code).ok()).unwrap_or_default();
    match (status, code) {
        (301 | 302 | 307 | 308, _) => Verdict::Elsewhere(elsewhere().unwrap_or_default().to_string()),
        (400, REGION_IS_WRONG) => {
            elsewhere().map_or(Verdict::Revoked(code.to_string()), |name| Verdict::Elsewhere(name.to_string()))
        }
        // Without another region it is about the one that the client wants a bucket made in.
        (400, "IllegalLocationConstraintException") => {
            elsewhere().map_or(Verdict::Passes, |name| Verdict::Elsewhere(name.to_string()))
        }
        // HEAD has no body that says more.
        (400, "") => elsewhere().map_or(Verdict::PassesInDoubt, |name| Verdict::Elsewhere(name.to_string())),
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

/// Whether an answer of this status is given only to what was signed well, in the region of the bucket. Other refusals, and
/// failures, may come from somebody in between who has not looked at the signature.
#[must_use]
pub fn is_served(status: u16) -> bool {
    matches!(status, 200..300 | 304 | 404 | 412 | 416)
}

/// Whether a refusal with this code can be about nothing but the credentials. Other refusals of a signature may be about a
/// field that the storage reads in another way than the gate, and which a client has chosen.
#[must_use]
pub fn blames_credentials(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId" | "InvalidClientTokenId"
    )
}

/// The code of a refusal that is about the region in the signature.
pub const REGION_IS_WRONG: &str = "AuthorizationHeaderMalformed";

/// What stands between two tags.
pub(super) fn element<'a>(body: &'a [u8], open: &[u8], close: &[u8]) -> Option<&'a [u8]> {
    let start = memmem::find(body, open)? + open.len();
    let rest = &body[start..];
    Some(&rest[..memmem::find(rest, close)?])
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
        let here = "<Error><Code>IllegalLocationConstraintException</Code></Error>";
        assert_eq!(judged(400, "", here), Verdict::Passes, "that is a client's to choose");
        assert_eq!(
            judged(400, "", &here.replace("IllegalLocationConstraintException", REGION_IS_WRONG)),
            Verdict::Revoked(REGION_IS_WRONG.into())
        );
    }

    #[test]
    fn only_what_was_looked_at_speaks_for_a_signature() {
        for status in [200, 204, 206, 304, 404, 412, 416] {
            assert!(is_served(status), "{status}");
        }
        for status in [301, 307, 400, 403, 405, 409, 411, 429, 500, 501, 502, 503, 504] {
            assert!(!is_served(status), "{status}");
        }
        assert!(blames_credentials("ExpiredToken") && blames_credentials("InvalidAccessKeyId"));
        assert!(!blames_credentials("SignatureDoesNotMatch") && !blames_credentials(REGION_IS_WRONG));
    }
}
