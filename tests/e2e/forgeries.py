"""The forgeries themselves: of each, its name, how it is made, and the status and code it is refused with."""

import re

import forge
import links
import sigv4
from forge import OBJECT, Raw, chunks, form, header, link, put, signed_chunks, signed_trailer, stream, unsigned_trailer
from identity import ENDPOINT, MEDIA, STUDIO_KEY
from seaweed import BUCKET, DOMAIN, OTHERS, PLATES, REGION
from sigv4 import Key

LINKS = "links.mystudio.test"
TEMPORARY = Key("AKTEMPORARY000000001", "TheTemporarySecretIsForTestsOnly00000001", "the+session/token=of" + "x" * 60)
READER = Key("AKREADER000000000001", "TheReadersSecretIsForTestsOnly0000000001")
COPIER = Key("AKCOPIER000000000001", "TheCopiersSecretIsForTestsOnly0000000001")
ELSEWHERE = Key("AKELSEWHERE000000001", "TheSecretFromElsewhereIsForTestsOnly0001")
ENDED = Key("AKENDED0000000000001", "TheEndedSecretIsForTestsOnly000000000001")
FUTURE = Key("AKFUTURE000000000001", "TheFutureSecretIsForTestsOnly00000000001")
GUARDED = Key("AKGUARDED00000000001", "TheGuardedSecretIsForTestsOnly0000000001")
NOBODY = Key("AKNOBODY000000000001", "NobodysSecret000000000000000000000000001")
SHOTGRID = Key("ASIASHOTGRID00000001", "NobodyHereKnowsThisSecret000000000000001", "token-of-shotgrid" + "y" * 60)
KEYS = [TEMPORARY, READER, COPIER, ELSEWHERE, ENDED, FUTURE, GUARDED, NOBODY, SHOTGRID]
links.secrets.update(word for key in KEYS for word in (key.secret, key.token) if word)

DAY = 86_400
BAD_URI = {"InvalidURI", "InvalidRequest"}
XML = "<Delete>{}</Delete>".format


def delete_objects(body: str, key=COPIER) -> Raw:
    return header("POST", f"/{BUCKET}?delete=", ("content-type", "application/xml"), body=body.encode(), key=key)


def copy(source: str, key=COPIER, *fields) -> Raw:
    return header("PUT", OBJECT, ("x-amz-copy-source", source), *fields, key=key)


def asks(field: str, value: str = "x") -> Raw:
    """A PUT with one more signed field."""
    return header("PUT", OBJECT, (field, value), body=b"frame")


def replay() -> Raw:
    """The signature of one request on another."""
    other = header("GET", f"/{BUCKET}/shots/b.mov")
    return header().but("Authorization", other.get("authorization"))


def spoiled(digits: slice) -> Raw:
    raw = header()
    signature = raw.get("authorization").rpartition("=")[2]
    part = signature[digits]
    other = "".join("0123456789abcdef"[15 - int(digit, 16)] for digit in part)
    at = digits.indices(64)[0]
    return raw.swap(signature, signature[:at] + other + signature[at + len(part) :])


def signature(change) -> Raw:
    """With the signature written in another way."""
    raw = header()
    text = raw.get("authorization").rpartition("=")[2]
    return raw.swap(text, change(text))


def parameter(name: str, value: str | None) -> Raw:
    """A link with another value of a parameter, or without it, after it was signed."""
    raw = link()
    pattern = rf"([?&])({name}=[^&]*)"
    assert re.search(pattern, raw.target)
    raw.target = re.sub(pattern, "" if value is None else rf"\g<1>{name}={value}", raw.target).replace(".mov&", ".mov?")
    return raw


def sign_only(*names: str, **options) -> Raw:
    return header(names=";".join(names), **options)


def mechanisms():
    """Nobody, several at once, and other kinds of signature."""
    nobody = lambda method="GET", target=OBJECT: Raw(method, target, [("Host", ENDPOINT)])
    is_aws = "AWS AKSTUDIO000000000001:c2lnbmF0dXJlc2lnbmF0dXI="
    v2 = "AWSAccessKeyId=AKSTUDIO000000000001&Signature=c2ln&Expires=9999999999"
    yield "nobody-reads", lambda: nobody(), 403, "AccessDenied"
    yield "nobody-writes", lambda: put().without("authorization"), 403, "AccessDenied"
    yield "nobody-lists", lambda: nobody(target=f"/{BUCKET}?list-type=2"), 403, "AccessDenied"
    yield "nobody-lists-buckets", lambda: nobody(target="/"), 403, "AccessDenied"
    yield "nobody-deletes", lambda: nobody("DELETE"), 403, "AccessDenied"
    yield "basic", lambda: nobody().also("Authorization", "Basic YTpi"), 501, "NotImplemented"
    yield "bearer", lambda: nobody().also("Authorization", "Bearer YTpi"), 501, "NotImplemented"
    yield "empty-authorization", lambda: nobody().also("Authorization", ""), {400, 501}, None
    yield "sigv2-field", lambda: nobody().also("Authorization", is_aws).also("Date", "x"), 501, "NotImplemented"
    yield "sigv2-link", lambda: nobody(target=f"{OBJECT}?{v2}"), 501, "NotImplemented"
    yield "sigv2-link-and-v4-field", lambda: header().at(OBJECT, f"{OBJECT}?{v2}"), 400, "InvalidArgument"
    yield "sigv2-and-v4-link", lambda: link().at("?", f"?{v2}&"), 400, "InvalidArgument"
    yield "sigv2-and-v4-field", lambda: header().also("Authorization", is_aws), 400, "InvalidArgument"
    yield "field-and-link", lambda: link().also("Authorization", header().get("authorization")), 400, "InvalidArgument"
    yield (
        "field-and-algorithm",
        lambda: header(target=f"{OBJECT}?X-Amz-Algorithm=AWS4-HMAC-SHA256"),
        400,
        "InvalidArgument",
    )
    yield "field-and-credential", lambda: header(target=f"{OBJECT}?X-Amz-Credential=a%2Fb"), {400, 501}, None
    yield "field-and-token-in-query", lambda: header(target=f"{OBJECT}?X-Amz-Security-Token=t"), {400, 501}, None
    yield (
        "field-and-expires",
        lambda: header(target=f"{OBJECT}?X-Amz-Expires=9&X-Amz-Date=20300101T000000Z"),
        {400, 501},
        None,
    )
    yield "two-fields", lambda: header().also("Authorization", header().get("authorization")), 400, "InvalidArgument"
    yield "two-fields-one-wrong", lambda: header().also("authorization", "AWS4-HMAC-SHA256 x"), 400, "InvalidArgument"
    yield "v4a-field", lambda: header().swap("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), 501, "NotImplemented"
    yield "v4a-link", lambda: link(X_Amz_Algorithm="AWS4-ECDSA-P256-SHA256"), {400, 501}, None
    yield "sha1", lambda: header().swap("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), 501, "NotImplemented"
    yield "lower-case-algorithm", lambda: header().swap("AWS4-HMAC-SHA256", "aws4-hmac-sha256"), 501, "NotImplemented"
    yield "glued-algorithm", lambda: header().swap("SHA256 ", "SHA256"), 501, "NotImplemented"
    yield "algorithm-only", lambda: header().but("Authorization", "AWS4-HMAC-SHA256"), {400, 501}, None


def components():
    """The parts of the Authorization field."""
    malformed = 400, "AuthorizationHeaderMalformed"
    mismatch = 403, "SignatureDoesNotMatch"
    yield "no-credential", lambda: header().swap("Credential=", "Credentia="), *malformed
    yield "no-signed-headers", lambda: header(names="host").swap("SignedHeaders=host, ", ""), *malformed
    yield (
        "no-signature",
        lambda: header().but("Authorization", header().get("authorization").rpartition(",")[0]),
        *malformed,
    )
    yield "two-credentials", lambda: header().swap("Credential", f"Credential={NOBODY.id}/x, Credential"), *malformed
    yield "two-signatures", lambda: header().swap("Signature=", f"Signature={'0' * 64}, Signature="), *malformed
    yield "unknown-component", lambda: header().swap("Signature=", "Expires=9, Signature="), *malformed
    yield "component-without-value", lambda: header().swap("Signature=", "Signature"), *malformed
    yield "signature-cut", lambda: signature(lambda text: text[:-1]), *malformed
    yield "signature-long", lambda: signature(lambda text: text + "0"), *malformed
    yield "signature-empty", lambda: signature(lambda text: ""), *malformed
    yield "signature-not-hex", lambda: signature(lambda text: "g" + text[1:]), *malformed
    yield "signature-base64", lambda: signature(lambda text: "A" * 43 + "="), *malformed
    yield "signature-zeros", lambda: signature(lambda text: "0" * 64), *mismatch
    yield "signature-first-digit", lambda: spoiled(slice(0, 1)), *mismatch
    yield "signature-last-digit", lambda: spoiled(slice(63, 64)), *mismatch
    yield "signature-middle", lambda: spoiled(slice(20, 40)), *mismatch
    yield "signature-of-another-request", replay, *mismatch
    yield "another-secret", lambda: header(key=Key(STUDIO_KEY.id, NOBODY.secret)), *mismatch
    yield "another-clients-secret", lambda: header(key=Key(STUDIO_KEY.id, READER.secret)), *mismatch
    yield "another-clients-id", lambda: header(key=READER).swap(READER.id, STUDIO_KEY.id), *mismatch
    yield "unknown-key", lambda: header(key=NOBODY), 403, "InvalidAccessKeyId"
    yield (
        "key-in-lower-case",
        lambda: header(key=Key(STUDIO_KEY.id.lower(), STUDIO_KEY.secret)),
        403,
        "InvalidAccessKeyId",
    )
    yield "key-with-more", lambda: header(key=Key(STUDIO_KEY.id + "0", STUDIO_KEY.secret)), 403, "InvalidAccessKeyId"
    yield "key-with-slash", lambda: header(key=Key("a/" + STUDIO_KEY.id, STUDIO_KEY.secret)), 403, "InvalidAccessKeyId"
    yield "key-empty", lambda: header(key=Key("", STUDIO_KEY.secret)), *malformed
    yield "key-endless", lambda: header(key=Key("A" * 5000, STUDIO_KEY.secret)), {400, 403}, None


def scopes():
    """Where and when it was signed for."""
    malformed = 400, "AuthorizationHeaderMalformed"
    skewed = 403, "RequestTimeTooSkewed"
    ago = sigv4.stamp
    yield "region", lambda: header(region="us-east-1"), *malformed
    yield "region-empty", lambda: header(region=""), *malformed
    yield "region-case", lambda: header(region=REGION.upper()), *malformed
    yield "region-set", lambda: header(region="*"), *malformed
    yield "service", lambda: header(service="sts"), *malformed
    yield "service-case", lambda: header(service="S3"), *malformed
    yield "service-outposts", lambda: header(service="s3-outposts"), *malformed
    yield "terminator", lambda: header().swap("aws4_request", "aws5_request"), *malformed
    yield "scope-short", lambda: header().swap("/s3/aws4_request", "/aws4_request"), {400, 403}, None
    yield "scope-long", lambda: header().swap("/s3/", "/s3/s3/"), {400, 403}, None
    yield "day-before", lambda: header(day=ago(-DAY)[:8]), *malformed
    yield "day-after", lambda: header(day=ago(DAY)[:8]), *malformed
    yield "day-no-date", lambda: header(day="today000"), *malformed
    yield "sixteen-minutes-slow", lambda: header(date=ago(-960)), *skewed
    yield "sixteen-minutes-fast", lambda: header(date=ago(960)), *skewed
    yield "replayed-after-an-hour", lambda: header(date=ago(-3600)), *skewed
    yield "replayed-after-a-year", lambda: header(date=ago(-365 * DAY)), *skewed
    yield "from-the-future", lambda: header(date="99991231T235959Z"), *skewed
    yield "put-replayed-after-an-hour", lambda: put(date=ago(-3600)), *skewed
    # In the first hour of a day the scope is seen first to be of another one.
    moved = {"SignatureDoesNotMatch", "AuthorizationHeaderMalformed"}
    yield "date-moved", lambda: header(date=ago(-3600)).but("x-amz-date", ago()), {400, 403}, moved
    yield "no-date", lambda: header().without("x-amz-date"), 403, "AccessDenied"
    yield (
        "only-http-date",
        lambda: header().without("x-amz-date").also("Date", "Sun, 22 Nov 2026 18:00:00 GMT"),
        403,
        "AccessDenied",
    )
    yield "two-dates", lambda: header().also("x-amz-date", ago()), 403, "AccessDenied"
    yield "date-with-dashes", lambda: header().but("x-amz-date", "2026-11-22T18:00:00Z"), 403, "AccessDenied"
    yield "date-of-february-30", lambda: header().but("x-amz-date", "20260230T000000Z"), 403, "AccessDenied"


def coverage():
    """What is signed, and what is only there."""
    malformed = 400, "AuthorizationHeaderMalformed"
    mismatch = 403, "SignatureDoesNotMatch"
    denied = 403, "AccessDenied"
    usual = ("host", "x-amz-content-sha256", "x-amz-date")
    yield "host-not-signed", lambda: sign_only("x-amz-content-sha256", "x-amz-date"), *malformed
    yield "names-unsorted", lambda: sign_only("x-amz-date", "host", "x-amz-content-sha256"), *malformed
    yield "names-in-capitals", lambda: sign_only("Host", *usual[1:]), *malformed
    yield "names-twice", lambda: sign_only("host", *usual), *malformed
    yield (
        "names-empty",
        lambda: header().swap("SignedHeaders=host;x-amz-content-sha256;x-amz-date", "SignedHeaders="),
        *malformed,
    )
    yield "name-empty", lambda: header().swap("host;", "host;;"), *malformed
    yield "names-with-spaces", lambda: header().swap("host;", "host ;"), *malformed
    yield "name-not-there", lambda: sign_only("host", "range", *usual[1:]), *mismatch
    yield "name-dropped", lambda: header().swap(";x-amz-date", ""), *denied
    yield "date-not-signed", lambda: sign_only(*usual[:2]), *denied
    yield "digest-not-signed", lambda: sign_only("host", "x-amz-date"), *denied
    yield (
        "digest-missing",
        lambda: sign_only("host", "x-amz-date").without("x-amz-content-sha256"),
        400,
        "InvalidRequest",
    )
    for name in ("x-amz-meta-a", "x-amz-acl", "X-AMZ-Grant-Full-Control", "x-amz-copy-source", "x-amz-tagging"):
        yield f"not-signed-{name}", lambda name=name: put().also(name, "a"), *denied
    yield "not-signed-token", lambda: header(key=TEMPORARY, names=";".join(usual)), *denied
    yield "signed-field-twice", lambda: asks("x-amz-meta-a").also("x-amz-meta-a", "y"), *mismatch
    yield "signed-field-changed", lambda: asks("x-amz-meta-a").but("x-amz-meta-a", "y"), *mismatch
    yield (
        "signed-range-changed",
        lambda: header("GET", OBJECT, ("range", "bytes=0-9")).but("range", "bytes=0-"),
        *mismatch,
    )
    yield "signed-type-changed", lambda: asks("content-type", "video/mp4").but("content-type", "text/html"), *mismatch
    yield (
        "signed-md5-changed",
        lambda: asks("content-md5", "YWFhYWFhYWFhYWFhYWFhYQ==").but("content-md5", "eA=="),
        {400, 403},
        None,
    )
    yield "another-host", lambda: header(host=f"{BUCKET}.{ENDPOINT}").but("Host", ENDPOINT), *mismatch
    yield "another-port", lambda: header(host=f"{ENDPOINT}:8443").but("Host", ENDPOINT), *mismatch
    yield "s3s-own-host", lambda: header(host=DOMAIN).but("Host", ENDPOINT), *mismatch
    yield "two-hosts", lambda: header().also("Host", DOMAIN), 400, None


def tampered():
    """Signed well, changed on the way."""
    mismatch = 403, "SignatureDoesNotMatch"
    query = f"/{BUCKET}?list-type=2&prefix=shots%2Fa&max-keys=1"
    yield "get-to-delete", lambda: header().by("DELETE"), *mismatch
    yield "get-to-head", lambda: header().by("HEAD"), 403, None
    yield "get-to-put", lambda: header().by("PUT").also("Content-Length", "0"), *mismatch
    yield "method-case", lambda: header().by("get"), {400, 403, 405, 501}, None
    yield "path", lambda: header().at("a.mov", "b.mov"), *mismatch
    yield "path-case", lambda: header().at("a.mov", "A.mov"), *mismatch
    yield "path-slash", lambda: header().at("shots/", "shots//"), *mismatch
    yield "path-longer", lambda: header().at("a.mov", "a.mov/"), *mismatch
    yield "path-cut", lambda: header().at("/a.mov", ""), *mismatch
    yield "path-encoded-twice", lambda: header().at("shots", "%2573hots"), *mismatch
    yield "path-plus-for-space", lambda: header(target=f"/{BUCKET}/shots/a%20b").at("%20", "+"), *mismatch
    yield "bucket", lambda: header().at(BUCKET, PLATES), *mismatch
    yield "query-added", lambda: header().at("a.mov", "a.mov?acl"), *mismatch
    yield "query-added-upload", lambda: put().at("a.mov", "a.mov?partNumber=1&uploadId=x"), *mismatch
    yield "query-removed", lambda: header(target=query).at("&max-keys=1", ""), *mismatch
    yield "query-changed", lambda: header(target=query).at("max-keys=1", "max-keys=1000"), *mismatch
    yield "query-name-case", lambda: header(target=query).at("prefix=", "Prefix="), *mismatch
    yield "query-twice", lambda: header(target=query).at("prefix=shots%2Fa", "prefix=shots%2Fa&prefix="), *mismatch
    yield "query-empty-name", lambda: header(target=query).at("&max", "&=&max"), {400, 403}, None
    yield "digest", lambda: put().but("x-amz-content-sha256", sigv4.sha256(b"other")), *mismatch
    yield "digest-to-unsigned", lambda: put().but("x-amz-content-sha256", sigv4.UNSIGNED), *mismatch
    yield "digest-to-stream", lambda: put().but("x-amz-content-sha256", sigv4.UNSIGNED_TRAILER), *mismatch
    yield "unsigned-to-digest", lambda: put(payload=sigv4.UNSIGNED).but("x-amz-content-sha256", sigv4.EMPTY), *mismatch


def uris():
    """Keys that not everybody reads in the same way."""
    for name, path in {
        "dots": "shots/../others/a",
        "dots-encoded": "shots/%2e%2E/others/a",
        "dots-at-the-end": "shots/..",
        "dot": "shots/./a",
        "dots-behind-backslash": "shots/..%5Ca",
        "dots-behind-encoded-slash": "shots%2F..%2Fothers%2Fa",
        "zero-byte": "shots/a%00.mov",
    }.items():
        yield name, lambda path=path: header(target=f"/{BUCKET}/{path}"), 400, BAD_URI
        yield f"link-{name}", lambda path=path: link(target=f"/{BUCKET}/{path}"), 400, BAD_URI
    yield "raw-zero-byte", lambda: header().at("a.mov", "a\0.mov"), 400, None
    yield "raw-space", lambda: header().at("a.mov", "a b.mov"), 400, None
    yield "dots-before-bucket", lambda: header(target=f"/../{BUCKET}/shots/a"), {400, 404}, None
    yield "dots-into-another-bucket", lambda: header(target=f"/{BUCKET}/../{OTHERS}/a"), {400, 403}, None
    yield "bucket-encoded", lambda: header(target=f"/{BUCKET}%2Fshots/a.mov"), {400, 404}, None
    yield "bucket-empty", lambda: header(target="//shots/a.mov"), {400, 404}, None
    yield "absolute-target", lambda: header().at("/", f"https://{DOMAIN}/"), {400, 403, 421}, None


def policy():
    """Known, and not allowed."""
    denied = 403, "AccessDenied"
    yield "prefix", lambda: header(target=f"/{BUCKET}/others/a.mov"), *denied
    yield "prefix-that-begins-alike", lambda: header(target=f"/{BUCKET}/shots-of-others/a.mov"), *denied
    yield "prefix-in-capitals", lambda: header(target=f"/{BUCKET}/Shots/a.mov"), *denied
    yield "prefix-behind-slash", lambda: header(target=f"/{BUCKET}//shots/a.mov"), *denied
    yield "prefix-denied", lambda: header(target=f"/{BUCKET}/shots/secret/a.mov"), *denied
    yield "prefix-denied-encoded", lambda: header(target=f"/{BUCKET}/shots/%73ecret/a.mov"), *denied
    yield "prefix-denied-link", lambda: link(target=f"/{BUCKET}/shots/secret/a.mov"), *denied
    yield "list-everything", lambda: header(target=f"/{BUCKET}?list-type=2"), *denied
    yield "list-half-a-prefix", lambda: header(target=f"/{BUCKET}?prefix=shot"), *denied
    yield "list-the-denied", lambda: header(target=f"/{BUCKET}?list-type=2&prefix=shots%2Fsecret%2F"), *denied
    yield "list-around-the-denied", lambda: header(target=f"/{BUCKET}?list-type=2&prefix=shots%2F"), *denied
    yield (
        "list-two-prefixes",
        lambda: header(target=f"/{BUCKET}?list-type=2&prefix=shots%2Fa&prefix="),
        {400, 403, 501},
        None,
    )
    yield "reader-writes", lambda: put(key=READER), *denied
    yield "reader-deletes", lambda: header("DELETE", key=READER), *denied
    yield "reader-lists", lambda: header(target=f"/{BUCKET}?list-type=2&prefix=shots%2F", key=READER), *denied
    yield "reader-begins-upload", lambda: header("POST", OBJECT + "?uploads=", key=READER), *denied
    yield (
        "reader-uploads-part",
        lambda: header("PUT", OBJECT + "?partNumber=1&uploadId=x", body=b"a", key=READER),
        *denied,
    )
    yield "reader-uploads-by-link", lambda: link("PUT", body=b"a", key=READER), *denied
    yield "from-elsewhere", lambda: header(key=ELSEWHERE), *denied
    yield "from-elsewhere-by-link", lambda: link(key=ELSEWHERE), *denied
    yield "no-certificate", lambda: header(key=GUARDED), *denied
    yield "no-longer", lambda: header(key=ENDED), *denied
    yield "not-yet", lambda: header(key=FUTURE), *denied
    yield "another-bucket", lambda: header(target=f"/{OTHERS}/shots/a.mov"), 404, "NoSuchBucket"
    yield "bucket-in-capitals", lambda: header(target=f"/{BUCKET.upper()}/shots/a.mov"), 404, "NoSuchBucket"
    yield "another-bucket-in-host", lambda: header(target="/shots/a.mov", host=f"{OTHERS}.{ENDPOINT}"), {404, 421}, None
    yield "all-buckets", lambda: header(target="/"), {403, 501}, None
    for name, method, target, field in [
        ("acl", "GET", OBJECT + "?acl=", None),
        ("set-acl", "PUT", OBJECT + "?acl=", ("x-amz-acl", "public-read")),
        ("bucket-acl", "PUT", f"/{BUCKET}?acl=", ("x-amz-acl", "public-read")),
        ("bucket-policy", "PUT", f"/{BUCKET}?policy=", None),
        ("get-policy", "GET", f"/{BUCKET}?policy=", None),
        ("drop-policy", "DELETE", f"/{BUCKET}?policy=", None),
        ("lifecycle", "PUT", f"/{BUCKET}?lifecycle=", None),
        ("replication", "PUT", f"/{BUCKET}?replication=", None),
        ("cors", "PUT", f"/{BUCKET}?cors=", None),
        ("create-bucket", "PUT", f"/{BUCKET}", None),
        ("delete-bucket", "DELETE", f"/{BUCKET}", None),
        ("tagging", "PUT", OBJECT + "?tagging=", None),
        ("versions", "GET", f"/{BUCKET}?versions=&prefix=shots%2F", None),
        ("a-version", "GET", OBJECT + "?versionId=x", None),
        ("legal-hold", "PUT", OBJECT + "?legal-hold=", None),
        ("retention", "PUT", OBJECT + "?retention=", None),
        ("restore", "POST", OBJECT + "?restore=", None),
        ("select", "POST", OBJECT + "?select=&select-type=2", None),
        ("torrent", "GET", OBJECT + "?torrent=", None),
        ("delete-many", "POST", f"/{BUCKET}?delete=", None),
        ("put-acl", "PUT", OBJECT, ("x-amz-acl", "public-read")),
        ("put-grant", "PUT", OBJECT, ("x-amz-grant-read", 'uri="http://acs.amazonaws.com/groups/global/AllUsers"')),
        ("put-encryption", "PUT", OBJECT, ("x-amz-server-side-encryption", "aws:kms")),
        ("put-tagging", "PUT", OBJECT, ("x-amz-tagging", "a=b")),
        ("put-storage-class", "PUT", OBJECT, ("x-amz-storage-class", "GLACIER")),
        ("put-redirect", "PUT", OBJECT, ("x-amz-website-redirect-location", "https://elsewhere.example/")),
        ("put-lock", "PUT", OBJECT, ("x-amz-object-lock-mode", "COMPLIANCE")),
        ("bypass", "DELETE", OBJECT, ("x-amz-bypass-governance-retention", "true")),
        ("payer", "GET", OBJECT, ("x-amz-request-payer", "requester")),
        ("copy", "PUT", OBJECT, ("x-amz-copy-source", f"{BUCKET}/shots/b.mov")),
    ]:
        fields = [field] if field else []
        yield f"unnamed-{name}", lambda m=method, t=target, f=fields: header(m, t, *f), *denied
    for name, method, target in [
        ("acl", "PUT", OBJECT + "?x-amz-acl=public-read"),
        ("copy", "PUT", OBJECT + f"?x-amz-copy-source={BUCKET}%2Fshots%2Fb.mov"),
        ("tagging", "PUT", OBJECT + "?X-Amz-Tagging=a%3Db"),
        ("encryption", "PUT", OBJECT + "?x-amz-server-side-encryption=aws%3Akms"),
        ("encoded-name", "PUT", OBJECT + "?%78-amz-acl=public-read"),
    ]:
        yield f"unnamed-in-link-{name}", lambda m=method, t=target: link(m, t), {400, 403, 501}, None
    for name, field in [("acl", ("x-amz-acl", "public-read")), ("grant", ("x-amz-grant-read", "id=a"))]:
        yield f"denied-by-operation-{name}", lambda f=field: header("PUT", OBJECT, f, key=COPIER), *denied
    yield "unknown-parameter", lambda: header(target=OBJECT + "?frobnicate=1"), 501, "NotImplemented"
    yield "unknown-bucket-parameter", lambda: header("PUT", f"/{BUCKET}?intelligent-frob=1"), {403, 501}, None
    yield "unknown-field", lambda: asks("x-amz-frobnicate"), 501, "NotImplemented"
    yield "unknown-method", lambda: header("PATCH"), {403, 405, 501}, None
    yield "two-operations", lambda: header("PUT", OBJECT + "?partNumber=1&uploadId=x&acl="), {400, 403, 501}, None
    yield (
        "rename",
        lambda: header("PUT", OBJECT + "?renameObject=", ("x-amz-rename-source", "/others/a")),
        {403, 501},
        None,
    )


def preflights():
    """A browser asks without a signature: S3 answers such questions, and gets them about buckets of the route only."""
    asks = [("Host", ENDPOINT), ("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")]
    yield "preflight-without-origin", lambda: Raw("OPTIONS", OBJECT, [asks[0], asks[2]]), 403, "AccessDenied"
    yield "preflight-without-method", lambda: Raw("OPTIONS", OBJECT, asks[:2]), 403, "AccessDenied"
    yield "preflight-of-another-bucket", lambda: Raw("OPTIONS", f"/{OTHERS}/a", asks), 404, "NoSuchBucket"
    yield "preflight-of-no-bucket", lambda: Raw("OPTIONS", "/", asks), {403, 404, 501}, None
    yield "preflight-through-dots", lambda: Raw("OPTIONS", f"/{BUCKET}/../{OTHERS}/a", asks), 400, BAD_URI
    many = "&".join(f"x-amz-{number}=1" for number in range(257))
    yield "preflight-of-many-parameters", lambda: Raw("OPTIONS", f"{OBJECT}?{many}", asks), 501, "NotImplemented"
    yield "preflight-with-body", lambda: Raw("OPTIONS", OBJECT, asks, b"body"), {400, 403}, None


def restore(body: str) -> Raw:
    return header("POST", OBJECT + "?restore=", ("content-type", "application/xml"), body=body.encode(), key=COPIER)


def doubles():
    """Requests that are one thing to S3, and another to other stores or with their body."""
    unknown = 501, "NotImplemented"
    for name, method, query in [
        ("abort-without-upload", "DELETE", "uploadId="),
        ("abort-without-value", "DELETE", "uploadId"),
        ("abort-of-a-space", "DELETE", "uploadId=%20"),
        ("complete-without-upload", "POST", "uploadId="),
        ("part-without-upload", "PUT", "partNumber=1"),
        ("part-of-an-empty-upload", "PUT", "partNumber=1&uploadId="),
        ("part-without-number", "PUT", "partNumber=&uploadId=x"),
        ("version-without-value", "DELETE", "versionId="),
    ]:
        yield name, lambda m=method, q=query: header(m, f"{OBJECT}?{q}", key=COPIER), *unknown
        yield f"link-{name}", lambda m=method, q=query: link(m, f"{OBJECT}?{q}", key=COPIER), *unknown
    request = "<RestoreRequest>{}</RestoreRequest>".format
    elsewhere = f"<OutputLocation><S3><BucketName>{OTHERS}</BucketName><Prefix>a</Prefix></S3></OutputLocation>"
    yield "restore-elsewhere", lambda: restore(request(f"<Days>1</Days>{elsewhere}")), *unknown
    yield "restore-and-select", lambda: restore(request("<Type>SELECT</Type><SelectParameters/>")), *unknown
    yield "restore-no-xml", lambda: restore("Days=1"), 400, "MalformedXML"
    yield "restore-cut-xml", lambda: restore("<RestoreRequest><Days>1</Days>"), 400, "MalformedXML"
    yield (
        "restore-with-entity",
        lambda: restore('<!DOCTYPE d [<!ENTITY e "1">]>' + request("<Days>&e;</Days>")),
        400,
        "MalformedXML",
    )
    yield "restore-of-a-megabyte", lambda: restore(request(" " * (1 << 20))), {400, 413}, None


def copies():
    """Copies read as well as they write, and deletions of many name what they delete in the body."""
    denied = 403, "AccessDenied"
    no = {400, 403}
    yield "copy-from-another-bucket", lambda: copy(f"{OTHERS}/shots/a.mov"), no, None
    yield "copy-from-another-bucket-slash", lambda: copy(f"/{OTHERS}/shots/a.mov"), no, None
    yield "copy-from-another-bucket-encoded", lambda: copy(f"%2F{OTHERS}%2Fshots%2Fa.mov"), no, None
    yield "copy-from-another-prefix", lambda: copy(f"{BUCKET}/others/a.mov"), *denied
    yield "copy-from-the-denied", lambda: copy(f"{BUCKET}/shots/secret/a.mov"), *denied
    yield "copy-from-the-denied-encoded", lambda: copy(f"{BUCKET}/shots/%73ecret/a.mov"), *denied
    yield "copy-through-dots", lambda: copy(f"{BUCKET}/shots/../secret/a.mov"), no, None
    yield "copy-through-encoded-dots", lambda: copy(f"{BUCKET}/shots/%2e%2e/secret/a.mov"), no, None
    yield "copy-from-arn", lambda: copy("arn:aws:s3:us-west-2:1:accesspoint/x/object/shots/a"), no, None
    yield "copy-from-nowhere", lambda: copy(""), no, None
    yield "copy-from-a-bucket", lambda: copy(BUCKET), no, None
    yield "copy-of-a-version", lambda: copy(f"{BUCKET}/shots/b.mov?versionId=x"), no, None
    yield (
        "copy-from-two",
        lambda: copy(f"{BUCKET}/shots/b.mov", COPIER, ("x-amz-copy-source", f"{OTHERS}/a")),
        {400, 403, 501},
        None,
    )
    yield (
        "copy-part-from-another-bucket",
        lambda: header(
            "PUT", OBJECT + "?partNumber=1&uploadId=x", ("x-amz-copy-source", f"{OTHERS}/shots/a.mov"), key=COPIER
        ),
        no,
        None,
    )
    yield (
        "copy-in-link-from-another-bucket",
        lambda: link("PUT", OBJECT + f"?x-amz-copy-source={OTHERS}%2Fshots%2Fa.mov", key=COPIER),
        {400, 403, 501},
        None,
    )
    yield (
        "copy-in-link-from-another-prefix",
        lambda: link("PUT", OBJECT + f"?X-Amz-Copy-Source={BUCKET}%2Fothers%2Fa.mov", key=COPIER),
        {400, 403, 501},
        None,
    )
    one = "<Object><Key>{}</Key></Object>".format
    yield "delete-another-prefix", lambda: delete_objects(XML(one("others/a.mov"))), *denied
    yield "delete-one-of-two", lambda: delete_objects(XML(one("shots/a.mov") + one("others/a.mov"))), *denied
    yield "delete-the-denied", lambda: delete_objects(XML(one("shots/secret/a.mov"))), *denied
    yield "delete-the-denied-by-reference", lambda: delete_objects(XML(one("shots/s&#101;cret/a.mov"))), *denied
    yield (
        "delete-two-keys-in-one",
        lambda: delete_objects(XML("<Object><Key>shots/a</Key><Key>others/a</Key></Object>")),
        {400, 403},
        None,
    )
    yield "delete-no-xml", lambda: delete_objects("shots/a.mov"), 400, "MalformedXML"
    yield "delete-cut-xml", lambda: delete_objects("<Delete><Object><Key>shots/a.mov</Key>"), 400, "MalformedXML"
    yield (
        "delete-with-entity",
        lambda: delete_objects('<!DOCTYPE d [<!ENTITY e "others/a">]>' + XML(one("&e;"))),
        400,
        None,
    )
    yield (
        "delete-with-many-entities",
        lambda: delete_objects(
            '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + XML(one("shots/&b;"))
        ),
        400,
        None,
    )
    yield "delete-of-four-megabytes", lambda: delete_objects(XML(one("shots/a") + " " * (4 << 20))), {400, 413}, None
    yield "delete-of-nothing", lambda: delete_objects(XML("")), 400, None
    yield (
        "delete-without-digest-of-body",
        lambda: header("POST", f"/{BUCKET}?delete=", key=READER, body=XML(one("shots/a.mov")).encode()),
        *denied,
    )


def tokens():
    """Keys that are good only together with a session token."""
    wrong = 400, "InvalidToken"
    other = Key(TEMPORARY.id, TEMPORARY.secret, TEMPORARY.token[:-1] + "y")
    yield "token-missing", lambda: header(key=TEMPORARY, token=False), *wrong
    yield "token-wrong", lambda: header(key=other), *wrong
    yield "token-cut", lambda: header(key=Key(TEMPORARY.id, TEMPORARY.secret, TEMPORARY.token[:-1])), *wrong
    yield "token-too-many", lambda: header("GET", OBJECT, ("x-amz-security-token", "x")), *wrong
    yield "token-twice", lambda: header(key=TEMPORARY).also("x-amz-security-token", TEMPORARY.token), {400, 403}, None
    yield "link-token-missing", lambda: link(key=TEMPORARY, token=False), *wrong
    yield "link-token-wrong", lambda: link(key=other), *wrong
    yield "link-token-too-many", lambda: link(X_Amz_Security_Token="x"), *wrong
    yield (
        "link-token-in-field",
        lambda: link("GET", OBJECT, ("x-amz-security-token", TEMPORARY.token), key=TEMPORARY, token=False),
        {400, 403},
        None,
    )


def presigned():
    """Links."""
    wrong = 400, "AuthorizationQueryParametersError"
    mismatch = 403, "SignatureDoesNotMatch"
    denied = 403, "AccessDenied"
    ago = sigv4.stamp
    yield "link-expired", lambda: link(date=ago(-400)), *denied
    yield "link-expired-long-ago", lambda: link(date=ago(-8 * DAY), expires="604800"), *denied
    yield "link-of-tomorrow", lambda: link(date=ago(DAY), expires="604800"), *denied
    yield "link-for-eight-days", lambda: link(expires="604801"), *wrong
    yield "link-for-ever", lambda: link(expires="99999999999999999999"), *wrong
    yield "link-negative", lambda: link(expires="-1"), *wrong
    yield "link-for-no-number", lambda: link(expires="1e3"), *wrong
    yield "link-for-nothing", lambda: link(expires=""), *wrong
    yield "link-prolonged", lambda: parameter("X-Amz-Expires", "86400"), *mismatch
    yield (
        "link-moved",
        lambda: link(date=ago(-400)).at(f"X-Amz-Date={ago(-400)[:8]}", f"X-Amz-Date={ago(DAY)[:8]}"),
        {400, 403},
        None,
    )
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        yield f"link-without-{name}", lambda name=name: parameter(f"X-Amz-{name}", None), *wrong
        yield f"link-with-two-{name}", lambda name=name: link().at("?", f"?X-Amz-{name}=1&"), *wrong
    yield "link-lower-case", lambda: link().at("X-Amz-Signature", "x-amz-signature"), *wrong
    yield "link-capitals", lambda: link().at("X-Amz-Expires", "X-AMZ-EXPIRES"), *wrong
    yield "link-encoded-name", lambda: link().at("?", "?X-Amz-%45xpires=999&"), *wrong
    yield "link-empty-signature", lambda: parameter("X-Amz-Signature", ""), *wrong
    yield "link-zero-signature", lambda: parameter("X-Amz-Signature", "0" * 64), *mismatch
    yield "link-path", lambda: link().at("a.mov", "b.mov"), *mismatch
    yield "link-used-to-write", lambda: link().by("PUT").also("Content-Length", "0"), *mismatch
    yield "link-used-to-delete", lambda: link().by("DELETE"), *mismatch
    yield "link-used-for-head", lambda: link().by("HEAD"), 403, None
    yield (
        "link-with-more",
        lambda: link().at("&X-Amz-Signature", "&response-content-type=text%2Fhtml&X-Amz-Signature"),
        *mismatch,
    )
    yield "link-with-subresource", lambda: link().at("&X-Amz-Signature", "&acl&X-Amz-Signature"), *mismatch
    yield "link-with-field", lambda: link("PUT", body=b"a").also("x-amz-acl", "public-read"), *denied
    yield "link-with-meta", lambda: link("PUT", body=b"a").also("x-amz-meta-a", "b"), *denied
    yield (
        "link-signed-field-missing",
        lambda: link("PUT", OBJECT, ("x-amz-meta-a", "b")).without("x-amz-meta-a"),
        *mismatch,
    )
    yield (
        "link-signed-field-changed",
        lambda: link("PUT", OBJECT, ("content-type", "a/b")).but("content-type", "b/b"),
        *mismatch,
    )
    yield "link-of-another-host", lambda: link(host=DOMAIN).but("Host", ENDPOINT), *mismatch
    yield "link-of-another-region", lambda: link(region="eu-west-1"), *wrong
    yield "link-of-another-service", lambda: link(service="ec2"), *wrong
    yield "link-of-another-day", lambda: link(day=ago(-DAY)[:8]), *wrong
    yield "link-of-nobody", lambda: link(key=NOBODY), 403, "InvalidAccessKeyId"
    yield "link-of-another-secret", lambda: link(key=Key(STUDIO_KEY.id, NOBODY.secret)), *mismatch
    yield "link-host-not-signed", lambda: parameter("X-Amz-SignedHeaders", "range"), *wrong
    yield (
        "link-with-stream-body",
        lambda: chunks(
            link("PUT", OBJECT, ("x-amz-content-sha256", sigv4.SIGNED_CHUNKS), payload=sigv4.SIGNED_CHUNKS), signs=False
        ),
        {400, 403, 501},
        None,
    )


def trusted():
    """Links of somebody else, from where they are trusted without their signature."""
    wrong = 400, "AuthorizationQueryParametersError"
    denied = 403, "AccessDenied"
    at = {"host": LINKS, "key": SHOTGRID}
    ago = sigv4.stamp
    path = "/shots/a.mov"
    yield "trusted-expired", lambda: link(target=path, date=ago(-400), **at), *denied
    yield "trusted-tomorrow", lambda: link(target=path, date=ago(DAY), **at), *denied
    yield "trusted-too-long", lambda: link(target=path, expires="604801", **at), *wrong
    yield "trusted-region", lambda: link(target=path, region="eu-west-1", **at), *wrong
    yield "trusted-day", lambda: link(target=path, day=ago(-DAY)[:8], **at), *wrong
    yield "trusted-anonymous", lambda: Raw("GET", path, [("Host", LINKS)]), *denied
    yield "trusted-field", lambda: header(target=path, **at), 403, "InvalidAccessKeyId"
    yield "trusted-writes", lambda: link("PUT", path, body=b"a", **at), *denied
    yield "trusted-deletes", lambda: link("DELETE", path, **at), *denied
    yield "trusted-lists", lambda: link(target="/?list-type=2&prefix=shots%2F", **at), *denied
    yield "trusted-prefix", lambda: link(target="/others/a.mov", **at), *denied
    yield "trusted-dots", lambda: link(target="/shots/../others/a.mov", **at), 400, BAD_URI
    yield "trusted-acl", lambda: link(target=path + "?acl=", **at), *denied
    yield "trusted-version", lambda: link(target=path + "?versionId=1", **at), *denied
    yield "trusted-field-added", lambda: link(target=path, **at).also("x-amz-request-payer", "requester"), *denied
    yield "trusted-copy", lambda: link("PUT", path, **at).also("x-amz-copy-source", f"{BUCKET}/shots/b"), *denied
    yield "trusted-cut-signature", lambda: link(target=path, **at).at("X-Amz-Signature=", "X-Amz-Signature=0"), *wrong
    yield "trusted-elsewhere", lambda: link(key=SHOTGRID), 403, "InvalidAccessKeyId"


def payloads():
    """What is said of the body."""
    no = {400, 403, 411, 501}
    yield "payload-of-4a", lambda: put(payload="STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), 501, "NotImplemented"
    yield (
        "payload-of-4a-trailer",
        lambda: put(payload="STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"),
        501,
        "NotImplemented",
    )
    yield "payload-of-events", lambda: put(payload="STREAMING-AWS4-HMAC-SHA256-EVENTS"), 501, "NotImplemented"
    yield "payload-no-word", lambda: put(payload="unsigned-payload"), no, None
    yield "payload-short-digest", lambda: put(payload="abcd"), no, None
    yield "payload-digest-in-capitals", lambda: put(payload=sigv4.sha256(b"frame").upper()), no, None
    yield (
        "chunked-without-stream",
        lambda: header("PUT", OBJECT, ("content-encoding", "aws-chunked"), body=b"0\r\n\r\n"),
        no,
        None,
    )
    yield (
        "chunked-without-stream-in-list",
        lambda: header("PUT", OBJECT, ("content-encoding", "gzip, AWS-chunked"), body=b"a"),
        no,
        None,
    )
    yield "decoded-length-without-stream", lambda: asks("x-amz-decoded-content-length", "5"), no, None
    yield "trailer-without-stream", lambda: asks("x-amz-trailer", "x-amz-checksum-crc32"), no, None
    yield "stream-without-length", lambda: chunks(stream(length=None)), no, None
    yield "stream-with-no-number", lambda: chunks(stream(length="many")), no, None
    yield "stream-with-negative-length", lambda: chunks(stream(length="-1")), no, None
    yield "stream-with-two-lengths", lambda: chunks(stream().also("x-amz-decoded-content-length", "1")), no, None
    yield "stream-with-trailer-unannounced", lambda: unsigned_trailer(trailer=None), no, None
    yield (
        "stream-with-odd-trailer",
        lambda: unsigned_trailer(trailer="x-amz-acl", trailers=(("x-amz-acl", "a"),)),
        no,
        None,
    )
    yield "both-lengths", lambda: put().also("Content-Length", "5").also("Transfer-Encoding", "chunked"), 400, None


def swapped(body: bytes) -> bytes:
    """The first two chunks in the other order."""
    size = body.index(b"\r\n") + 2 + 70_000 + 2
    return body[size : 2 * size] + body[:size] + body[2 * size :]


def first_chunk(body: bytes) -> int:
    return body.index(b"\r\n") + 2 + 70_000 + 2


def bodies():
    """Bodies that have to be read to be found out: of these S3 sees a beginning, and no end."""
    no = {400, 403}
    sized = lambda old, new: lambda body: body.replace(old, new, 1)
    mismatch = 403, "SignatureDoesNotMatch"
    yield "chunk-data-changed", lambda: signed_chunks(lambda b: b.replace(b"bbb", b"bab", 1)), *mismatch
    yield "chunk-last-byte-changed", lambda: signed_chunks(lambda b: b.replace(b"c\r\n0;", b"d\r\n0;", 1)), *mismatch
    yield "chunks-swapped", lambda: signed_chunks(swapped), *mismatch
    yield "chunk-dropped", lambda: signed_chunks(lambda b: b[first_chunk(b) :]), no, None
    yield "chunk-repeated", lambda: signed_chunks(lambda b: b[: first_chunk(b)] + b), no, None
    yield (
        "chunk-added-at-the-end",
        lambda: signed_chunks(
            lambda b: b.replace(
                b"0;chunk-signature", b"1;chunk-signature=" + b"0" * 64 + b"\r\nx\r\n0;chunk-signature", 1
            )
        ),
        no,
        None,
    )
    yield (
        "chunk-signature-zero",
        lambda: signed_chunks(lambda b: re.sub(rb"=[0-9a-f]{64}", b"=" + b"0" * 64, b, count=1)),
        *mismatch,
    )
    yield (
        "second-chunk-signature-zero",
        lambda: signed_chunks(
            lambda b: b[: first_chunk(b)] + re.sub(rb"=[0-9a-f]{64}", b"=" + b"0" * 64, b[first_chunk(b) :], count=1)
        ),
        *mismatch,
    )
    yield (
        "last-chunk-signature-zero",
        lambda: signed_chunks(
            lambda b: re.sub(rb"\r\n0;chunk-signature=[0-9a-f]{64}", b"\r\n0;chunk-signature=" + b"0" * 64, b)
        ),
        *mismatch,
    )
    yield (
        "chunk-signature-cut",
        lambda: signed_chunks(lambda b: re.sub(rb"(=[0-9a-f]{63})[0-9a-f]", rb"\1", b, count=1)),
        no,
        None,
    )
    yield "chunks-not-signed", lambda: chunks(stream(), signs=False), no, None
    yield (
        "last-chunk-not-signed",
        lambda: signed_chunks(lambda b: re.sub(rb"\r\n0;chunk-signature=[0-9a-f]{64}", b"\r\n0", b)),
        no,
        None,
    )
    yield "chunks-of-another-request", another_seed, *mismatch
    yield "chunks-of-another-key", another_key, *mismatch
    yield "chunks-without-end", lambda: signed_chunks(pieces=forge.DATA), no, None
    yield "chunks-and-more", lambda: signed_chunks(lambda b: b + b"more"), no, None
    yield "chunks-and-more-chunks", lambda: signed_chunks(lambda b: b + b), no, None
    yield "decoded-length-too-small", lambda: signed_chunks(length="140999"), no, None
    yield "decoded-length-too-large", lambda: signed_chunks(length="141001"), no, None
    yield "decoded-length-zero", lambda: signed_chunks(length="0"), no, None
    yield "chunk-size-too-small", lambda: signed_chunks(sized(b"11170;", b"1116f;")), no, None
    yield "chunk-size-too-large", lambda: signed_chunks(sized(b"11170;", b"11171;")), no, None
    yield "chunk-size-negative", lambda: signed_chunks(sized(b"11170;", b"-1170;")), no, None
    yield "chunk-size-overflows", lambda: signed_chunks(sized(b"11170;", b"10000000000011170;")), no, None
    yield "chunk-size-prefixed", lambda: signed_chunks(sized(b"11170;", b"0x11170;")), no, None
    yield "chunk-size-empty", lambda: signed_chunks(sized(b"11170;", b";")), no, None
    yield "chunk-size-spaced", lambda: signed_chunks(sized(b"11170;", b"11170 ;")), no, None
    yield "chunk-with-another-extension", lambda: signed_chunks(sized(b"11170;", b"11170;a=b;")), no, None
    yield "chunk-line-endless", lambda: signed_chunks(lambda b: b"0" * 20_000 + b), no, None
    yield "chunk-lf-only", lambda: signed_chunks(sized(b"\r\n", b"\n")), no, None
    yield "plain-body-for-chunks", lambda: signed_chunks(lambda b: b"a" * 141_000), no, None
    yield "chunk-of-two-megabytes", lambda: signed_chunks(pieces=[b"x" * (2 << 20), b""], length=str(2 << 20)), no, None
    yield (
        "trailer-signature-zero",
        lambda: signed_trailer(
            lambda b: re.sub(rb"trailer-signature:[0-9a-f]{64}", b"trailer-signature:" + b"0" * 64, b)
        ),
        *mismatch,
    )
    yield (
        "trailer-signature-missing",
        lambda: signed_trailer(lambda b: re.sub(rb"x-amz-trailer-signature:[0-9a-f]{64}\r\n", b"", b)),
        no,
        None,
    )
    yield "trailer-changed", lambda: signed_trailer(lambda b: b.replace(forge.CRC32[1].encode(), b"AAAAAA==")), no, None
    yield "trailer-missing", lambda: signed_trailer(lambda b: re.sub(rb"x-amz-checksum-crc32:.*\r\n", b"", b)), no, None
    yield "unsigned-trailer-missing", lambda: unsigned_trailer(trailers=()), 400, None
    yield (
        "unsigned-trailer-of-another-name",
        lambda: unsigned_trailer(trailers=(("x-amz-checksum-crc32c", "AAAAAA=="),)),
        400,
        None,
    )
    yield "unsigned-trailer-twice", lambda: unsigned_trailer(trailers=(forge.CRC32, forge.CRC32)), 400, None
    yield (
        "unsigned-trailer-and-a-field",
        lambda: unsigned_trailer(trailers=(forge.CRC32, ("x-amz-acl", "public-read"))),
        400,
        None,
    )
    yield "unsigned-trailer-and-more", lambda: unsigned_trailer(lambda b: b + b"more"), 400, None
    yield "unsigned-trailer-cut", lambda: unsigned_trailer(lambda b: b[:-20]), 400, None
    yield "unsigned-trailer-decoded-length", lambda: unsigned_trailer(length="140999"), 400, None
    yield (
        "unsigned-trailer-signed-chunks",
        lambda: chunks(stream(sigv4.UNSIGNED_TRAILER, "x-amz-checksum-crc32"), trailers=(forge.CRC32,)),
        400,
        None,
    )
    fields = lambda **options: form(key=COPIER, **options)
    yield "form-field-behind-the-file", lambda: fields(after=(("key", "others/a.mov"),)), 400, None
    yield "form-second-file", lambda: fields(after=(("file", "more"),)), 400, None
    yield "form-without-end", lambda: with_body(fields(), fields().body[:-30]), 400, None
    yield "unsigned-trailer-plain-body", lambda: unsigned_trailer(lambda b: b"a" * 141_000), 400, None
    wrong = ("x-amz-checksum-crc32", "AAAAAA==")
    verified = lambda payload, **options: header(
        "PUT",
        "/shots/a.mov",
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", forge.LENGTH),
        ("x-amz-trailer", wrong[0]),
        host=MEDIA,
        payload=payload,
    )
    yield (
        "verified-trailer",
        lambda: chunks(verified(sigv4.UNSIGNED_TRAILER), trailers=(wrong,), signs=False),
        400,
        "BadDigest",
    )
    yield "verified-signed-trailer", lambda: chunks(verified(sigv4.SIGNED_TRAILER), trailers=(wrong,)), 400, "BadDigest"
    yield (
        "verified-digest",
        lambda: with_body(header("PUT", "/shots/a.mov", host=MEDIA, body=b"frame"), b"Frame"),
        400,
        "XAmzContentSHA256Mismatch",
    )
    yield (
        "verified-digest-large",
        lambda: with_body(header("PUT", "/shots/a.mov", host=MEDIA, body=b"a" * 3_000_000), b"a" * 2_999_999 + b"b"),
        400,
        "XAmzContentSHA256Mismatch",
    )
    yield (
        "verified-checksum",
        lambda: header("PUT", "/shots/a.mov", ("x-amz-checksum-crc32", "AAAAAA=="), host=MEDIA, body=b"frame"),
        400,
        {"BadDigest", "InvalidRequest"},
    )


def with_body(raw: Raw, body: bytes) -> Raw:
    """With another body than the one that was signed."""
    raw.body = body
    return raw


def another_seed() -> Raw:
    raw = stream()
    raw.signer.seed = "0" * 64
    return chunks(raw)


def another_key() -> Raw:
    raw = stream()
    raw.signer.secret = NOBODY.secret
    return chunks(raw)


def forms():
    """Forms of browsers: signed by their policy, which has to be kept."""
    denied = 403, "AccessDenied"
    no = {400, 403}
    to = lambda change, **options: form(change, **{"key": COPIER, **options})
    ago = sigv4.stamp
    yield "form-unnamed", lambda: form(), *denied
    yield "form-of-the-reader", lambda: form(key=READER), *denied
    yield (
        "form-unsigned",
        lambda: to(
            {
                "policy": None,
                "x-amz-signature": None,
                "x-amz-algorithm": None,
                "x-amz-credential": None,
                "x-amz-date": None,
            }
        ),
        *denied,
    )
    yield "form-without-policy", lambda: to({"policy": None}), no, None
    yield "form-without-signature", lambda: to({"x-amz-signature": None}), no, None
    yield "form-zero-signature", lambda: to({"x-amz-signature": "0" * 64}), 403, "SignatureDoesNotMatch"
    yield "form-cut-signature", lambda: to({"x-amz-signature": "0" * 63}), no, None
    yield "form-another-policy", lambda: to({"policy": "e30="}), 403, "SignatureDoesNotMatch"
    yield "form-policy-no-base64", lambda: to({}, policy="{}"), no, None
    yield "form-policy-no-json", lambda: to({}, policy="e30"), no, None
    yield "form-policy-empty", lambda: to({}, policy="e30="), no, None
    yield "form-expired", lambda: to({}, expires=-10), *denied
    yield "form-signed-in-the-future", lambda: to({}, date=ago(DAY), expires=3 * DAY), no, None
    yield "form-signed-long-ago", lambda: to({}, date=ago(-8 * DAY)), no, None
    yield "form-of-nobody", lambda: to({}, key=NOBODY), 403, "InvalidAccessKeyId"
    yield "form-of-another-secret", lambda: to({}, key=Key(COPIER.id, NOBODY.secret)), 403, "SignatureDoesNotMatch"
    yield "form-of-another-region", lambda: to({}, region="eu-west-1"), no, None
    yield "form-sigv2", lambda: to({"AWSAccessKeyId": COPIER.id, "signature": "c2ln"}), {400, 403, 501}, None
    yield "form-4a", lambda: to({"x-amz-algorithm": "AWS4-ECDSA-P256-SHA256"}), {400, 403, 501}, None
    yield "form-key-not-in-policy", lambda: to({"key": "others/a.mov"}), *denied
    yield "form-key-denied-here", lambda: to({"key": "shots/secret/a.mov"}), *denied
    yield "form-key-through-dots", lambda: to({"key": "shots/../others/a.mov"}), no, None
    yield "form-key-empty", lambda: to({"key": ""}), no, None
    yield "form-without-key", lambda: to({"key": None}), no, None
    yield "form-filename-leads-elsewhere", lambda: to({"key": "shots/secret/${filename}"}), *denied
    yield "form-field-not-in-policy", lambda: to({"success_action_status": "201"}), *denied
    yield "form-acl", lambda: to({"acl": "public-read"}, conditions=[{"acl": "public-read"}]), *denied
    yield (
        "form-redirect",
        lambda: to(
            {"x-amz-website-redirect-location": "/a"},
            conditions=[["starts-with", "$x-amz-website-redirect-location", ""]],
        ),
        *denied,
    )
    yield (
        "form-storage-class",
        lambda: to({"x-amz-storage-class": "GLACIER"}, conditions=[{"x-amz-storage-class": "GLACIER"}]),
        *denied,
    )
    yield (
        "form-unknown-field",
        lambda: to({"x-amz-frobnicate": "1"}, conditions=[{"x-amz-frobnicate": "1"}]),
        {400, 403, 501},
        None,
    )
    yield "form-condition-unknown", lambda: to({}, conditions=[["ends-with", "$key", ".mov"]]), {400, 403, 501}, None
    yield "form-two-keys", lambda: to({}, also=(("key", "others/a.mov"),)), no, None
    yield "form-two-policies", lambda: to({}, also=(("Policy", "e30="),)), no, None
    yield "form-another-bucket", lambda: to({}, target=f"/{OTHERS}"), {400, 403, 404}, None
    yield "form-bucket-of-the-policy", lambda: to({}, target=f"/{PLATES}"), *denied
    yield "form-bucket-field", lambda: to({"bucket": OTHERS}, conditions=[{"bucket": OTHERS}]), no, None
    yield "form-too-large", lambda: to({}, body=b"a" * 1001), 400, "EntityTooLarge"
    yield "form-too-small", lambda: to({}, conditions=[["content-length-range", 100, 1000]]), 400, "EntityTooSmall"
    yield "form-without-file", lambda: to({}, file=False), 400, None
    yield (
        "form-with-authorization",
        lambda: to({}).also("Authorization", header().get("authorization")),
        {400, 403, 501},
        None,
    )
    yield "form-at-an-object", lambda: to({}, target=OBJECT), {400, 403, 405, 501}, None
    yield "form-with-query", lambda: to({}, target=f"/{BUCKET}?acl"), {400, 403, 501}, None
    yield (
        "form-of-another-type",
        lambda: to({}).but("Content-Type", "application/x-www-form-urlencoded"),
        {400, 403, 412, 501},
        None,
    )
    yield "form-without-boundary", lambda: to({}).but("Content-Type", "multipart/form-data"), {400, 412}, None
    yield "form-another-boundary", lambda: to({}).but("Content-Type", "multipart/form-data; boundary=x"), 400, None
    yield "form-token-missing", lambda: to({"x-amz-security-token": None}, key=TEMPORARY), no, None
    yield (
        "form-token-too-many",
        lambda: to({"x-amz-security-token": "x"}, conditions=[{"x-amz-security-token": "x"}]),
        no,
        None,
    )


TABLES = [
    mechanisms,
    components,
    scopes,
    coverage,
    tampered,
    uris,
    policy,
    doubles,
    preflights,
    copies,
    tokens,
    presigned,
    trusted,
    payloads,
    forms,
]
