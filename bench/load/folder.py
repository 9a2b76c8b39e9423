"""What a run leaves behind: raw.jsonl with each measurement as it is made, summary.md with the tables, README.md with the
circumstances."""

import datetime
import json
import time

import candidates
import machine
import scenarios
import summary

METHOD = """\
- The proxy alone has CPU 1; the load generator and the S3 stand-in share CPU 0. All are in a network namespace of their
  own whose loopback routes use CUBIC, and in a session whose autogroup gets nearly all CPU time.
- Each measurement has a new proxy process, a warm-up of {warmup} s and {seconds} s that count. Candidates take turns in
  shuffled order within each round, scenario by scenario.
- CPU time is the larger of the accounted time of the process tree and the run time of all its tasks (schedstat), read by
  the load generator at the two ends of the time that counts. GB is 10^9 bytes. {interrupts}
- Every response is checked: status, length and samples of a body whose bytes depend on their position; uploads are
  checked by the stand-in. A response that stops in the middle for three seconds is a stall: the measurement is made again, twice
  at most. What failed is recorded with what was seen; a variant with fewer than half of its rounds cannot be the best.
- TLS is 1.3 with X25519 and AES-128-GCM on both sides because neither end offers anything else; one ECDSA P-256
  certificate; the upstream's is verified, with SNI and session reuse; clients resume by ticket. Request heads have 1.3 KB, as
  presigned ones have.
- Connections: 64 for 1k and 16k, 16 for 256k, 4 for 16m, 1 for 1g, kept alive on both sides. In the relay scenarios (get-, put-) a
  ratio is the best of all variants of a peer over the gate; in the others each peer runs in one variant, because buffers and
  splicing play no part. Ratios are of medians and, beside them, of minima: above 1 the gate needs less.
- The fixed rate is {rate} requests/s for all; who does not hold it has no number there.
- Access logs: {logs}.
- {openssl}
- Loopback has no network card, no interrupts of one and an MTU of 64 KiB: nothing here speaks about those.
"""


def new():
    """A folder in bench/runs that does not exist yet."""
    stem = f"{datetime.date.today().isoformat()}-{machine.host()}"
    runs = machine.ROOT / "bench" / "runs"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    return next(runs / name for name in names if not (runs / name).exists())


class Book:
    """The records of a run, in `out` if that is not None. What is recorded is on the disk at once."""

    def __init__(self, out, plan, reference, seed):
        self.out, self.plan, self.reference, self.seed = out, plan, reference, seed
        self.records, self.complete, self.begun, self.raw = [], False, time.time(), None
        if out:
            out.mkdir(parents=True)
            self.raw = open(out / "raw.jsonl", "x", encoding="utf-8")
            self.append({"seed": seed})

    def append(self, line):
        if self.raw:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            self.raw.write(json.dumps({"time": now, **line}, ensure_ascii=False) + "\n")
            self.raw.flush()

    def record(self, found):
        self.append(found)
        self.records.append(found)

    def describe(self, command, bench, gates, built_here):
        """Says in README.md how the measurements are made, before they are."""
        if not self.out:
            return
        used = {candidate.name: candidate for _, several, _ in self.plan for candidate in several}.values()
        logs = {}
        for candidate in used:
            logs.setdefault(candidate.log, set()).add(candidate.name.split("/")[0])
        told = "; ".join(f"{', '.join(sorted(names))}: {log}" for log, names in logs.items())
        about = "\n".join(f"| {name} | {value} |" for name, value in machine.describe(gates, built_here))
        (self.out / "README.md").write_text(
            f"# Side by side, {datetime.date.today().isoformat()}\n\n    {command}\n\n"
            f"The tables are in summary.md, each measurement is a line of raw.jsonl. The order was shuffled with the seed "
            f"{self.seed}.\n\n| | |\n|---|---|\n{about}\n\n## Method\n"
            + METHOD.format(warmup=bench.warmup, seconds=bench.seconds, logs=told, rate=scenarios.RATE,
                            interrupts=interrupts(bench), openssl=openssl())
            + f"\n## Variants\n{variants(used)}\n",
            encoding="utf-8",
        )

    def close(self):
        """Writes or prints the tables of what there is."""
        minutes = (time.time() - self.begun) / 60
        extent = f"{len(self.records)} measurements in {minutes:.1f} minutes"
        if not self.complete:
            extent += " — **incomplete**: the run ended before its time"
        text = summary.tables(self.records, self.plan, self.reference, extent)
        if not self.out:
            print(text)
            return
        self.raw.close()
        (self.out / "summary.md").write_text(text, encoding="utf-8")
        inside = self.out.is_relative_to(machine.ROOT)
        print(f"{extent}; written to {self.out.relative_to(machine.ROOT) if inside else self.out.name}")

    def status(self):
        """1 when a candidate answered wrongly or a gate could not be measured every time, else 0."""
        bad = [record for record in self.records if "failed" in record
               and (record["failed"] == scenarios.WrongAnswer.kind or record["peer"].startswith("filmgate"))]
        return 1 if bad or not self.complete else 0


def interrupts(bench):
    if bench.by_core:
        return ("This kernel charges interrupts, and with them the network's part, to nobody (CONFIG_IRQ_TIME_ACCOUNTING): "
                "CPU time is therefore what CPU 1 was busy, except for two workers.")
    return {"unset": "Interrupts, and with them the network's part, are charged to whom they hit.",
            "unknown": "Whether this kernel charges interrupts to whom they hit is not known (no configuration was found)."
            }[machine.irq_time()]


def openssl():
    running = machine.running_openssl()
    if running.startswith("OpenSSL 3.0."):
        return (f"The peers run with {running}, which seals at a third of the speed of OpenSSL 3.5: the TLS ratios for bulk would "
                "be smaller against newer builds.")
    return f"The peers run with {running}."


def variants(used):
    lines = []
    for candidate in used:
        if isinstance(candidate, candidates.Nginx):
            reuse = "keepalive 1024, HTTP/1.1 upstream" if candidate.keepalive else "no upstream keep-alive, as by default"
            lines.append(f"- `{candidate.name}`: proxy_buffering {candidate.buffering}, buffers of {candidate.size}, "
                         f"proxy_request_buffering off, {reuse}")
        elif isinstance(candidate, candidates.Haproxy):
            splice = "splice-request and splice-response forced" if candidate.forced else "splice-auto"
            lines.append(f"- `{candidate.name}`: nbthread 1, http-reuse always, tune.bufsize {candidate.size}, "
                         f"pipes of 1 MB, {splice}")
        else:
            workers = "one worker" if candidate.workers == 1 else f"{candidate.workers} workers"
            lines.append(f"- `{candidate.name}`: the gate with {workers}; TLS records are its own work (tls.kernel = off)")
    return "\n".join(lines)
