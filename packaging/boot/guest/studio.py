"""The studio of the test: its names, its key, the links signed with it, and its certificates."""

import subprocess
from pathlib import Path

import sigv4

HOST = "s3-proxy.studio.test"
# Where the gate finds out itself who asks.
FARM_HOST = f"farm.{HOST}"
BUCKET = "studio-media"
REGION = "eu-central-1"
S3_HOST = f"{BUCKET}.s3.{REGION}.amazonaws.com"
S3_PORT = 9443
# Temporary credentials, as ShotGrid signs with. None of it may be found in a log.
KEY = sigv4.Key("ASIABOOTTEST00000000", "secret-of-the-boot-test", "token/of+the=boot/test")
# Keys of the gate's own making: of the one it is told the secret in a file, of the other by systemd.
FARM = sigv4.Key("AKFARM0001", "secret-of-the-farm")
TOOL = sigv4.Key("AKTOOL0001", "secret-of-the-tool")
EXPIRES = 3600
# Every signature of a link that was made.
signatures: set[str] = set()

PKI = Path("/boot-test/pki")
OPENSSL = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:{name}, DNS:farm.{name}
"""


def link(method: str, key: str, by: sigv4.Key = KEY, host: str = S3_HOST) -> str:
    """Path and query of a presigned link; its signature is over S3's name, not the gate's, unless told otherwise."""
    date = sigv4.stamp()
    scope = sigv4.Scope(date[:8], REGION)
    parameters = {
        "X-Amz-Algorithm": sigv4.ALGORITHM,
        "X-Amz-Credential": f"{by.id}/{scope}",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(EXPIRES),
        "X-Amz-Security-Token": by.token,
        "X-Amz-SignedHeaders": "host",
    }
    query = "&".join(f"{name}={sigv4.quote(value.encode())}" for name, value in parameters.items() if value)
    target = f"/{sigv4.quote(key.encode(), safe='/')}?{query}"
    request = sigv4.canonical(method, target, [("host", host)], "host", sigv4.UNSIGNED)
    signature = sigv4.sign(by.secret, scope, sigv4.string_to_sign(date, scope, request))
    signatures.add(signature)
    return f"{target}&X-Amz-Signature={signature}"


def secrets() -> set[str]:
    """What no log may hold, as it is and as links write it."""
    return {KEY.secret, FARM.secret, TOOL.secret, KEY.token, sigv4.quote(KEY.token.encode()), *signatures}


def make_pki() -> None:
    """The authority of the studio and of its S3, and the certificate of each."""
    PKI.mkdir()
    _openssl("ca", "authority", "authority of the studio", [])
    certify("s3", S3_HOST)
    certify("gate", HOST)


def certify(file: str, host: str) -> None:
    """Makes `FILE.pem` for the host, by the authority, and its key."""
    _openssl(file, "server", host, ["-CA", PKI / "ca.pem", "-CAkey", PKI / "ca.key"])


def _openssl(file: str, section: str, name: str, signer: list) -> None:
    config = PKI / f"{file}.cnf"
    config.write_text(OPENSSL.format(name=name))
    command = ["openssl", "req", "-x509", "-config", config, "-extensions", section, "-subj", f"/CN={name}"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", PKI / f"{file}.key"]
    command += ["-days", "90", "-out", PKI / f"{file}.pem", *signer]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
