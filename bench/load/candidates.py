"""The gate and its peers: how each is configured and started. Every one listens on the same port, on loopback."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import machine
import presign

PORT = 9000
UPSTREAM_PLAIN = 9080
UPSTREAM_TLS = 9443
# The name that the links were signed for; the upstream's certificate carries it.
S3_NAME = "bucket.s3.us-west-2.amazonaws.com"


class Failure(Exception):
    """A measurement that came to nothing; `kind` says how, the text says what was seen."""

    kind = "failed"


class NotStarted(Failure):
    kind = "not started"


class Candidate:
    """One configuration of one program. `peer` is who it speaks for in the comparison, `workers` how many of the proxy's
    threads work, each on a core of its own."""

    def __init__(self, name, peer, program, log, workers=1):
        self.name, self.peer, self.program, self.log, self.workers = name, peer, program, log, workers

    def start(self, directory, client_tls, upstream_tls):
        """Starts a new process in an empty directory and a process group of its own; returns it once it listens."""
        if listening():
            raise NotStarted(f"something else listens on port {PORT}")
        command = self.prepare(pathlib.Path(directory), client_tls, upstream_tls)
        cores = "1" if self.workers == 1 else "1,2" if os.cpu_count() >= 4 else "0,1"
        with open(pathlib.Path(directory) / "errors.txt", "w", encoding="utf-8") as errors:
            # HAProxy's log is the only thing that any of them writes to its standard output.
            process = subprocess.Popen(
                ["taskset", "-c", cores, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                process_group=0, preexec_fn=machine.end_with_parent
            )
        try:
            for _ in range(500):
                if process.poll() is not None:
                    break
                if listening():
                    return process
                time.sleep(0.01)
            raise NotStarted((pathlib.Path(directory) / "errors.txt").read_text()[-2000:])
        except BaseException:
            stop(process)
            raise


def listening():
    """Whether somebody accepts connections where the candidates do."""
    try:
        socket.create_connection(("127.0.0.1", PORT), 1).close()
        return True
    except OSError:
        return False


def stop(process):
    """Ends a candidate with all its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        # Only what is left of the group: it is there for as long as it has members.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Gate(Candidate):
    def __init__(self, name, program, workers=1):
        several = f"/{workers}-workers" if workers > 1 else ""
        super().__init__(name + several, "filmgate" + several, program, "a JSON line a request to a file", workers)

    def route(self, directory):
        """What the gate is told of the route besides where it leads, and tables that go in front of it."""
        return "", ""

    def prepare(self, directory, client_tls, upstream_tls):
        listen = f'["127.0.0.1:{PORT}"]'
        tables, mode = self.route(directory)
        config = directory / "gate.toml"
        config.write_text(
            f"""
[listen]
https = {listen if client_tls else "[]"}
http = {"[]" if client_tls else listen}
admin = "off"
[tls]
kernel = "off"
{f'''certificate = "{PKI}/chain.pem"
private-key = "{PKI}/key.pem"
''' if client_tls else ""}
[workers]
count = {self.workers}
pin = {"true" if self.workers > 1 else "false"}
[timeouts]
client-idle = "10m"
[limits]
requests-per-connection = 1000000000
[access-log]
file = "{directory}/access.log"
{tables}
[[route]]
hosts = ["localhost"]
bucket = "bucket"
region = "us-west-2"
{mode}
[route.upstream]
connect = ["{f'127.0.0.1:{UPSTREAM_TLS}' if upstream_tls else f'http://127.0.0.1:{UPSTREAM_PLAIN}'}"]
{"" if upstream_tls else "allow-plaintext = true"}
{f'tls = {{ ca-file = "{PKI}/ca.pem" }}' if upstream_tls else ""}
""",
            encoding="utf-8",
        )
        return [self.program, "run", "--config", str(config)]


class SigningGate(Gate):
    """The gate with an identity of its own: it verifies the client's signature and makes another one."""

    def __init__(self, name, program):
        super().__init__(name + "/re-sign", program)

    def route(self, directory):
        given = {"Version": 1, "AccessKeyId": "ASIABENCHROLE00000001", "SecretAccessKey": "bench-role-secret",
                 "SessionToken": presign.TOKEN, "Expiration": "2099-01-01T00:00:00Z"}
        (directory / "role.json").write_text(json.dumps(given), encoding="utf-8")
        (directory / "secret").write_text(presign.SECRET, encoding="utf-8")
        os.chmod(directory / "secret", 0o600)
        tables = f"""
[[client]]
name = "bench"
access-key = "{presign.ACCESS_KEY}"
secret-file = "{directory}/secret"
[[credential]]
name = "role"
process = "cat {directory}/role.json"
"""
        rules = """
mode = "re-sign"
credential = "role"
allow = [{ clients = ["bench"], operations = ["read", "write"] }]
"""
        return tables, rules


class Nginx(Candidate):
    def __init__(self, name, buffering, size, keepalive=True):
        super().__init__(name, name.split("/")[0], "nginx", "combined format to a file, buffer=64k")
        self.buffering, self.size, self.keepalive = buffering, size, keepalive

    def prepare(self, directory, client_tls, upstream_tls):
        count = "16" if self.buffering == "on" else "8"
        reuse = 'keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 600s;' if self.keepalive else ""
        scheme, port = ("https", UPSTREAM_TLS) if upstream_tls else ("http", UPSTREAM_PLAIN)
        version = 'proxy_http_version 1.1; proxy_set_header Connection "";' if self.keepalive else ""
        # The links are longer than the 1 KB that nginx reads at once by default.
        headers = "client_header_buffer_size 4k;" if self.keepalive else ""
        tls = f"ssl_certificate {PKI}/chain.pem; ssl_certificate_key {PKI}/key.pem;" if client_tls else ""
        config = directory / "nginx.conf"
        config.write_text(
            f"""
user root; daemon off; worker_processes 1;
pid {directory}/nginx.pid; error_log {directory}/error.log warn;
events {{ worker_connections 19000; }}
http {{
  access_log {directory}/access.log combined buffer=64k flush=1s;
  keepalive_requests 1000000000; keepalive_timeout 600s; client_max_body_size 0; tcp_nodelay on;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  client_body_buffer_size {self.size}; proxy_request_buffering off; proxy_max_temp_file_size 0;
  proxy_buffering {self.buffering}; proxy_buffer_size {self.size}; proxy_buffers {count} {self.size};
  proxy_busy_buffers_size {2 * int(self.size[:-1])}k;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_buffer_size 16k; {headers}
  upstream s3 {{ server 127.0.0.1:{port}; {reuse} }}
  server {{
    listen 127.0.0.1:{PORT} {"ssl" if client_tls else ""} backlog=4096; server_name localhost; {tls}
    location / {{
      proxy_pass {scheme}://s3; {version} proxy_set_header Host {S3_NAME};
      proxy_ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_verify on; proxy_ssl_trusted_certificate {PKI}/ca.pem;
      proxy_ssl_name {S3_NAME}; proxy_ssl_server_name on; proxy_ssl_session_reuse on;
    }}
  }}
}}
""",
            encoding="utf-8",
        )
        return ["nginx", "-p", str(directory), "-c", str(config)]


class Haproxy(Candidate):
    def __init__(self, name, size, forced):
        super().__init__(name, "haproxy", "haproxy", "httplog to the null device, a system call a line: it cannot buffer")
        self.size, self.forced = size, forced

    def prepare(self, directory, client_tls, upstream_tls):
        splice = "option splice-request\n  option splice-response" if self.forced else "option splice-auto"
        bind = f"ssl crt {PKI}/both.pem" if client_tls else ""
        port = UPSTREAM_TLS if upstream_tls else UPSTREAM_PLAIN
        server = f"ssl verify required ca-file {PKI}/ca.pem verifyhost {S3_NAME} sni str({S3_NAME})" if upstream_tls else ""
        config = directory / "haproxy.cfg"
        config.write_text(
            f"""
global
  nbthread 1
  maxconn 10400
  maxpipes 256
  no strict-limits
  tune.bufsize {self.size}
  tune.pipesize 1048576
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.2
  ssl-default-server-options ssl-min-ver TLSv1.2
defaults
  mode http
  log global
  option httplog
  maxconn 10400
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  timeout http-keep-alive 600s
  http-reuse always
  {splice}
frontend clients
  bind 127.0.0.1:{PORT} backlog 4096 {bind}
  http-request set-header Host {S3_NAME}
  default_backend s3
backend s3
  server s3 127.0.0.1:{port} {server}
""",
            encoding="utf-8",
        )
        return ["haproxy", "-db", "-f", str(config)]


# Where the certificates are; set by the run.
PKI = ""

NGINX = [
    Nginx("nginx/off-64k", "off", "64k"),
    Nginx("nginx/off-256k", "off", "256k"),
    Nginx("nginx/on-16x64k", "on", "64k"),
]
HAPROXY = [
    Haproxy("haproxy/16k-auto", 16384, False),
    Haproxy("haproxy/64k-auto", 65536, False),
    Haproxy("haproxy/16k-forced", 16384, True),
    Haproxy("haproxy/64k-forced", 65536, True),
]
NGINX_DEFAULT = Nginx("nginx-default", "on", "8k", keepalive=False)
PEERS = {candidate.name: candidate for candidate in [*NGINX, *HAPROXY]}


def make_certificates(directory):
    """A CA and one certificate for both names, ECDSA P-256, in `directory`."""
    global PKI
    PKI = str(directory)
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory}
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (directory / "names.txt").write_text(f"subjectAltName=DNS:localhost,DNS:{S3_NAME}\n", encoding="utf-8")
    subprocess.run(["openssl", "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
                    "-subj", "/CN=filmgate bench CA"], **quiet)
    subprocess.run(["openssl", "req", *curve, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost"],
                   **quiet)
    subprocess.run(["openssl", "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
                    "-CAcreateserial", "-days", "30", "-extfile", "names.txt", "-out", "chain.pem"], **quiet)
    (directory / "both.pem").write_text((directory / "chain.pem").read_text() + (directory / "key.pem").read_text())
    os.chmod(directory / "key.pem", 0o600)
    os.chmod(directory / "both.pem", 0o600)
