"""What is measured: one function a kind, each of which starts a new proxy, measures it once and gives the numbers."""

import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.request

import candidates
import machine
import presign

SIZES = {"1k": 1 << 10, "16k": 1 << 14, "256k": 1 << 18, "16m": 1 << 24, "1g": 1 << 30}
CONNECTIONS = {"1k": 64, "16k": 64, "256k": 16, "16m": 4, "1g": 1}
SMALL = ("1k", "16k")
# What the load generator puts behind the size.
FILE = "/0a1b2c3d/4e5f6a7b/Version/112358/sq010_sh0420_comp_v017.mov"
# Requests a second of the latency scenario.
RATE = 6000


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    kind: str
    unit: str
    method: str = "GET"
    size: str = "1k"
    client_tls: bool = False
    upstream_tls: bool = False
    connections: int = 64
    # Whether the link is signed for a client the gate knows.
    signed: bool = False


def relay(method, size, path):
    unit = "CPU-s/100k requests" if size in SMALL else "CPU-s/GB"
    client_tls, upstream_tls = {"plain": (False, False), "tls": (True, True), "mixed": (True, False)}[path]
    return Scenario(f"{method.lower()}-{size}-{path}", "relay", unit, method, size, client_tls, upstream_tls,
                    CONNECTIONS[size])


def identity(method, size):
    found = relay(method, size, "tls")
    return dataclasses.replace(found, name=f"identity-{found.name}", kind="identity", signed=True)


def quick():
    wanted = [("GET", "1k"), ("GET", "16k"), ("GET", "16m"), ("PUT", "16m")]
    return [relay(method, size, path) for path in ("tls", "plain") for method, size in wanted]


def full():
    relays = [relay(method, size, path) for path in ("tls", "plain") for size in SIZES for method in ("GET", "PUT")]
    others = [relay("GET", "16m", "mixed")]
    for path, tls in (("plain", False), ("tls", True)):
        others.append(Scenario(f"rate-1k-{path}", "rate", "µs p50", client_tls=tls, upstream_tls=tls))
        for word, count in (("1k", 1000), ("10k", 10000)):
            others.append(Scenario(f"idle-{word}-{path}", "idle", "bytes/connection", client_tls=tls, upstream_tls=tls,
                                   connections=count))
    for word in ("full", "resumed"):
        others.append(Scenario(f"handshake-{word}", "handshake", "CPU-ms/connection", client_tls=True,
                               upstream_tls=True, connections=16))
    others.append(Scenario("upstream-handshakes", "reuse", "handshakes/million requests", client_tls=True,
                           upstream_tls=True))
    others += [identity(method, size) for size in ("16k", "16m") for method in ("GET", "PUT")]
    others.append(Scenario("workers", "workers", "CPU-s/100k requests", client_tls=True, upstream_tls=True))
    return relays + others


class Stalled(candidates.Failure):
    """A response stopped in the middle."""

    kind = "stalled"


class TimedOut(candidates.Failure):
    kind = "timed out"


class NotHeld(candidates.Failure):
    """The rate that was asked for was not kept up."""

    kind = "rate not held"


class WrongAnswer(candidates.Failure):
    """The client received something else than what it asked for."""

    kind = "wrong answer"


def failure(text):
    """What the load generator's last words stand for."""
    kinds = {"in time": Stalled, "watched process": candidates.Failure}
    return next((kind for words, kind in kinds.items() if words in text), WrongAnswer)(text)


class Bench:
    """The two ends, and the length of a measurement."""

    def __init__(self, binary, directory, seconds, warmup=0.4):
        self.binary, self.directory, self.seconds, self.warmup = str(binary), directory, seconds, warmup
        # Where the kernel charges interrupts to nobody, only the core tells what a proxy costs.
        self.by_core = machine.irq_time() == "set"
        pki = candidates.PKI
        # The time it may run only bounds what nobody is left to end.
        self.upstream = subprocess.Popen(
            ["taskset", "-c", "0", self.binary, "upstream", "--plain", f"127.0.0.1:{candidates.UPSTREAM_PLAIN}", "--tls",
             f"127.0.0.1:{candidates.UPSTREAM_TLS}", "--certificate", f"{pki}/chain.pem", "--key", f"{pki}/key.pem",
             "--seconds", "864000"], preexec_fn=machine.end_with_parent)
        try:
            os.sched_setaffinity(0, {0})
            self.wait_for_upstream()
        except BaseException:
            self.close()
            raise

    def wait_for_upstream(self):
        for _ in range(200):
            try:
                self.counts()
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit("the upstream did not start")

    def close(self):
        self.upstream.kill()
        self.upstream.wait()

    def counts(self):
        """What the upstream has seen so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{candidates.UPSTREAM_PLAIN}/-/counts", timeout=5) as answer:
            return json.load(answer)

    def command(self, kind, scenario, port, words):
        tls = ["--roots", f"{candidates.PKI}/ca.pem"] if scenario.client_tls else []
        path = f"/{scenario.size}"
        link = ["--query", presign.query(scenario.method, "localhost", path + FILE)] if scenario.signed else []
        return ["taskset", "-c", "0", self.binary, kind, "--address", f"127.0.0.1:{port}", "--method", scenario.method,
                "--path", path, "--connections", str(scenario.connections), *tls, *link, *map(str, words)]

    def load(self, scenario, *words, port=candidates.PORT, watch=None):
        watched = ["--watch", str(watch.pid)] if watch else []
        most = 90 + 4 * self.seconds
        try:
            done = subprocess.run(self.command("client", scenario, port, [*words, *watched]), capture_output=True,
                                  text=True, timeout=most, check=False)
        except subprocess.TimeoutExpired:
            raise TimedOut(f"the load generator did not end within {most:.0f} s") from None
        if done.returncode:
            raise failure(done.stderr.strip())
        result = json.loads(done.stdout)
        result["proxy_s"] = result["core_busy_s" if self.by_core and watch and watch.workers == 1 else "cpu_s"]
        return result

    def measure(self, scenario, candidate):
        """One measurement with a new process; the value that counts is `value`, in the scenario's unit."""
        if self.upstream.poll() is not None:
            raise SystemExit("the upstream has ended")
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            process = candidate.start(directory, scenario.client_tls, scenario.upstream_tls)
            try:
                return KINDS[scenario.kind](self, scenario, Watch(process.pid, candidate.workers))
            except WrongAnswer as wrong:
                errors = (pathlib.Path(directory) / "errors.txt").read_text()[-2000:]
                raise WrongAnswer(f"{wrong}\n{errors}".strip()) from wrong
            finally:
                candidates.stop(process)


@dataclasses.dataclass(frozen=True)
class Watch:
    """The process whose CPU time is charged, and how many workers it has."""

    pid: int
    workers: int


def measure_relay(bench, scenario, watch):
    result = bench.load(scenario, "--seconds", bench.seconds, "--warmup", bench.warmup, watch=watch)
    work = result["requests"] / 1e5 if scenario.size in SMALL else result["bytes"] / 1e9
    result["value"] = result["proxy_s"] / work
    return result


def measure_workers(bench, scenario, watch):
    # With cores to spare nobody shares one: the proxy has 1 and 2, the load generator 0.
    if os.cpu_count() >= 4:
        os.sched_setaffinity(bench.upstream.pid, {3})
    try:
        result = measure_relay(bench, scenario, watch)
    finally:
        os.sched_setaffinity(bench.upstream.pid, {0})
    result["worker_s"] = [used for name, used in result["tasks_s"].items() if name.startswith("shard-")]
    if len(result["worker_s"]) != watch.workers:
        raise candidates.Failure(f"{watch.workers} workers were expected among {', '.join(result['tasks_s'])}")
    result["workers_share"] = min(result["worker_s"]) / max(result["worker_s"])
    return result


def measure_rate(bench, scenario, watch):
    words = ["--seconds", max(2, bench.seconds), "--warmup", 1, "--rate", RATE]
    port = candidates.UPSTREAM_TLS if scenario.upstream_tls else candidates.UPSTREAM_PLAIN
    direct = bench.load(scenario, *words, port=port)
    result = bench.load(scenario, *words, watch=watch)
    for who, found in (("without a proxy, ", direct), ("", result)):
        # A backlog says that the rate was not kept up.
        if found["unsent"] >= RATE / 20:
            raise NotHeld(f"{who}{found['requests'] / found['seconds']:.0f} of {RATE} requests/s, "
                          f"{found['unsent']} due and unsent at the end")
    result["rate"] = RATE
    result["value"] = result["p50_us"]
    result["direct_p50_us"], result["direct_p99_us"] = direct["p50_us"], direct["p99_us"]
    return result


def measure_idle(bench, scenario, watch):
    # The upstream connections of the first load are gone before and after.
    settle = 5.5
    busy = dataclasses.replace(scenario, connections=64)
    bench.load(busy, "--seconds", 0.5, watch=watch)
    time.sleep(settle)
    share, slab = machine.memory(watch.pid)
    holder = subprocess.Popen(bench.command("idle", scenario, candidates.PORT, []), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline().strip() != "ready":
            raise failure(holder.stderr.read().strip())
        time.sleep(settle)
        share_now, slab_now = machine.memory(watch.pid)
        holder.stdin.close()
        result = json.loads(holder.stdout.read())
    finally:
        holder.kill()
        holder.wait()
    if result["lost"]:
        raise WrongAnswer(f"{result['lost']} idle connections were closed")
    result["value"] = (share_now - share) / scenario.connections
    result["rest_bytes"] = share
    result["slab_bytes"] = (slab_now - slab) / scenario.connections
    return result


def measure_handshake(bench, scenario, watch):
    resume = "no" if scenario.name.endswith("full") else "yes"
    result = bench.load(scenario, "--seconds", bench.seconds, "--warmup", bench.warmup, "--fresh", "yes", "--resume",
                        resume, watch=watch)
    made = result["full_handshakes"] + result["resumed_handshakes"]
    wanted = result["full_handshakes" if resume == "no" else "resumed_handshakes"]
    result["value"] = result["proxy_s"] * 1000 / made
    result["per_second"] = made / result["seconds"]
    result["share_as_wanted"] = wanted / made
    return result


def measure_reuse(bench, scenario, watch):
    before = bench.counts()
    result = bench.load(scenario, "--seconds", 3 * bench.seconds, watch=watch)
    after = bench.counts()
    grown = {name: after[name] - before[name] for name in after}
    result.update({f"upstream_{name}": count for name, count in grown.items()})
    handshakes = grown["full_handshakes"] + grown["resumed_handshakes"]
    result["value"] = handshakes / grown["requests"] * 1e6
    return result


KINDS = {
    "relay": measure_relay,
    "identity": measure_relay,
    "rate": measure_rate,
    "idle": measure_idle,
    "handshake": measure_handshake,
    "reuse": measure_reuse,
    "workers": measure_workers,
}
