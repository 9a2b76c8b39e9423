//! Signatures of chunks: each covers its data and, by the signature before it, everything that came earlier.
//!
//! AWS: "Transferring Payload in Multiple Chunks (Chunked Upload)" and "Including Trailing Headers (Chunked Upload)". The
//! first link is the signature of the request itself, so that a chunk fits one place in one upload only.

use std::fmt;

use crate::sign::key::{EMPTY_SHA256, Scope, Signature, SigningKey, write_hex};
use crate::sign::time::Stamp;

/// The signatures of one upload, one after the other. `Debug` shows nothing of them.
pub struct Chain {
    key: SigningKey,
    /// Time and scope, each with its line end: the second and third line of every string to sign.
    place: Vec<u8>,
    previous: Signature,
    text: Vec<u8>,
}

impl Chain {
    /// Begins with `seed`, the signature of the request, which was made by `key` at `signed_at` for `scope`.
    #[must_use]
    pub fn new(key: SigningKey, signed_at: &Stamp, scope: Scope<'_>, seed: Signature) -> Self {
        let mut text = Vec::with_capacity(64);
        scope.write(&mut text);
        Self::in_scope(key, signed_at, &text, seed)
    }

    /// The same for a scope that is written already.
    #[must_use]
    pub fn in_scope(key: SigningKey, signed_at: &Stamp, scope: &[u8], seed: Signature) -> Self {
        let mut place = Vec::with_capacity(96);
        place.extend_from_slice(signed_at.text());
        place.push(b'\n');
        place.extend_from_slice(scope);
        place.push(b'\n');
        Self { key, place, previous: seed, text: Vec::with_capacity(384) }
    }

    /// The signature of the next chunk, whose data has the SHA-256 `digest`.
    pub fn chunk(&mut self, digest: &[u8; 32]) -> Signature {
        self.begin(b"AWS4-HMAC-SHA256-PAYLOAD\n");
        self.text.extend_from_slice(EMPTY_SHA256);
        self.text.push(b'\n');
        self.end(digest)
    }

    /// The signature of the trailer lines, which come last. `digest` is the SHA-256 of `name:value` and a line feed for each.
    pub fn trailer(&mut self, digest: &[u8; 32]) -> Signature {
        self.begin(b"AWS4-HMAC-SHA256-TRAILER\n");
        self.end(digest)
    }

    fn begin(&mut self, kind: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(kind);
        self.text.extend_from_slice(&self.place);
        self.previous.write_hex(&mut self.text);
        self.text.push(b'\n');
    }

    fn end(&mut self, digest: &[u8; 32]) -> Signature {
        write_hex(digest, &mut self.text);
        self.previous = self.key.sign(&self.text);
        self.previous
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain(..)")
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_lc_rs::digest::{SHA256, digest};
    use aws_sigv4::sign::v4;
    use proptest::prelude::*;

    use super::*;
    use crate::sign::key::Secret;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const TIME: &[u8] = b"20130524T000000Z";

    fn chain(seed: &str) -> Chain {
        let scope = Scope { date: b"20130524", region: b"us-east-1", service: b"s3" };
        let key = SigningKey::derive(&Secret::new(SECRET.into()), scope);
        Chain::new(key, &Stamp::parse(TIME).unwrap(), scope, Signature::from_hex(seed.as_bytes()).unwrap())
    }

    fn sha256(bytes: &[u8]) -> [u8; 32] {
        digest(&SHA256, bytes).as_ref().try_into().unwrap()
    }

    fn hex(signature: Signature) -> String {
        let mut out = Vec::new();
        signature.write_hex(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_chunks_of_aws_have_the_signatures_of_aws() {
        let mut chain = chain("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
        for (bytes, signature) in [
            (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            assert_eq!(hex(chain.chunk(&sha256(&vec![b'a'; bytes]))), signature);
        }
    }

    #[test]
    fn the_trailer_of_aws_has_the_signature_of_aws() {
        let mut chain = chain("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e");
        for (bytes, signature) in [
            (65_536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
            (1024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
            (0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
        ] {
            assert_eq!(hex(chain.chunk(&sha256(&vec![b'a'; bytes]))), signature);
        }
        let trailer = chain.trailer(&sha256(b"x-amz-checksum-crc32c:sOO8/Q==\n"));
        assert_eq!(hex(trailer), "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435");
    }

    fn params_time(seconds: u64) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_of_a_chain_is_shown() {
        assert_eq!(format!("{:?}", chain(&"0".repeat(64))), "Chain(..)");
    }

    proptest! {
        #[test]
        fn aws_signs_the_same(
            seconds in 0..4_102_444_800_u64,
            region in "[a-z]{2}-[a-z]{4,9}-[1-9]",
            secret in "[A-Za-z0-9/+]{40}",
            seed in "[0-9a-f]{64}",
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
            trailer in "[A-Za-z0-9+/]{6}==",
        ) {
            let stamp = Stamp::at(seconds);
            let scope = Scope { date: stamp.date(), region: region.as_bytes(), service: b"s3" };
            let key = SigningKey::derive(&Secret::new(secret.clone()), scope);
            let mut ours = Chain::new(key, &stamp, scope, Signature::from_hex(seed.as_bytes()).unwrap());

            let identity = Credentials::new("AKIAIOSFODNN7EXAMPLE", secret.clone(), None, None, "test").into();
            let params = v4::SigningParams::builder()
                .identity(&identity)
                .region(&region)
                .name("s3")
                .time(params_time(seconds))
                .settings(())
                .build()
                .unwrap();
            let mut previous = seed;
            for chunk in chunks {
                let digest = sha256(&chunk);
                previous = v4::sign_chunk(&chunk.into(), &previous, &params).unwrap().into_parts().1;
                prop_assert_eq!(hex(ours.chunk(&digest)), previous.clone());
            }
            let line = format!("x-amz-checksum-crc32:{trailer}\n");
            let time = params_time(seconds);
            let text = format!(
                "AWS4-HMAC-SHA256-TRAILER\n{}\n{}/{region}/s3/aws4_request\n{previous}\n{}",
                String::from_utf8_lossy(stamp.text()),
                String::from_utf8_lossy(stamp.date()),
                sha256(line.as_bytes()).map(|byte| format!("{byte:02x}")).concat(),
            );
            let key = v4::generate_signing_key(&secret, time, &region, "s3");
            previous = v4::calculate_signature(key, text.as_bytes());
            prop_assert_eq!(hex(ours.trailer(&sha256(line.as_bytes()))), previous);
        }
    }
}
