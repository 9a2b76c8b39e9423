"""What a run leaves behind: raw.jsonl with each measurement, summary.md with the tables, README.md with the circumstances."""

import datetime
import json
import pathlib
import statistics

import candidates
import machine
import targets

METHOD = """\
- The proxy alone has CPU 1; the load generator and the S3 stand-in share CPU 0. All are in a network namespace of their
  own whose loopback routes use CUBIC, and in a session whose autogroup gets nearly all CPU time.
- Each measurement has a new proxy process, a warm-up of {warmup} s and {seconds} s that count. Candidates take turns in
  shuffled order within each round, scenario by scenario.
- CPU time is the larger of the accounted time of the process tree and the run time of all its tasks (schedstat), read by
  the load generator at the two ends of the time that counts. GB is 10^9 bytes.
- Every response is checked: status, length and samples of a body whose bytes depend on their position; uploads are
  checked by the stand-in. One wrong answer ends the run. When a response of a peer stops in the middle for three seconds, the
  tables tell, and the measurement is made again, twice at most; the gate ends the run by it.
- TLS is 1.3 with X25519 and AES-128-GCM on both sides because neither end offers anything else; one ECDSA P-256
  certificate; the upstream's is verified, with SNI and session reuse. Requests are as long as presigned ones.
- Connections: 64 for 1k and 16k, 16 for 256k, 4 for 16m, 1 for 1g, kept alive on both sides. A ratio is the best variant of the peer
  over the gate, by medians and, beside it, by minima: above 1 the gate needs less.
- Access logs: {logs}.
- OpenSSL 3.0, which Debian 12's peers use, seals at a third of the speed of OpenSSL 3.5: the TLS ratios for bulk would be
  smaller against newer builds.
- Loopback has no network card, no interrupts of one and an MTU of 64 KiB: nothing here speaks about those.
"""


def new_folder():
    """A folder in bench/runs that does not exist yet."""
    stem = f"{datetime.date.today().isoformat()}-{machine.host()}"
    runs = machine.ROOT / "bench" / "runs"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    return next(runs / name for name in names if not (runs / name).exists())


def write(folder, records, reference, used, command, bench, minutes):
    folder.mkdir(parents=True)
    with open(folder / "raw.jsonl", "w", encoding="utf-8") as raw:
        for record in records:
            raw.write(json.dumps(record, ensure_ascii=False) + "\n")
    (folder / "summary.md").write_text(tables(records, reference), encoding="utf-8")
    logs = {}
    for candidate in used:
        logs.setdefault(candidate.log, set()).add(candidate.name.split("/")[0])
    told = "; ".join(f"{', '.join(sorted(names))}: {log}" for log, names in logs.items())
    described = "\n".join(f"| {name} | {value} |" for name, value in machine.describe())
    (folder / "README.md").write_text(
        f"# Side by side, {datetime.date.today().isoformat()}\n\n    {command}\n\n"
        f"{len(records)} measurements in {minutes:.0f} minutes. The tables are in summary.md, each measurement is a line of "
        f"raw.jsonl.\n\n| | |\n|---|---|\n{described}\n\n## Method\n"
        + METHOD.format(warmup=bench.warmup, seconds=bench.seconds, logs=told)
        + f"\n## Variants\n{variants(used)}\n",
        encoding="utf-8",
    )
    print(f"written to {folder.relative_to(machine.ROOT) if folder.is_relative_to(machine.ROOT) else folder.name}")


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
            lines.append(f"- `{candidate.name}`: the gate with one worker")
    return "\n".join(lines)


class Results:
    """The measurements of a run, by scenario and candidate. The gate that counts is the one named `reference`."""

    def __init__(self, records, reference):
        self.records, self.stalls, self.reference = {}, {}, reference
        for record in records:
            if "stalled" in record:
                key = record["scenario"], record["candidate"]
                self.stalls[key] = self.stalls.get(key, 0) + 1
                continue
            self.records.setdefault(record["scenario"], {}).setdefault(record["candidate"], []).append(record)

    def median(self, scenario, candidate, field="value"):
        return statistics.median(record[field] for record in self.records[scenario][candidate])

    def least(self, scenario, candidate):
        return min(record["value"] for record in self.records[scenario][candidate])

    def of(self, scenario, peer):
        """The candidates that speak for a peer in a scenario."""
        found = self.records.get(scenario, {})
        return [name for name, measured in found.items() if measured[0]["peer"] == peer]

    def gate(self, scenario):
        return self.reference if self.reference in self.records.get(scenario, {}) else None

    def best(self, scenario, peer):
        """The variant of a peer with the lowest median."""
        return min(self.of(scenario, peer), key=lambda name: self.median(scenario, name), default=None)

    def ratios(self, scenario, peer):
        """The best of a peer over the gate, by medians and by minima."""
        gate, best = self.gate(scenario), self.best(scenario, peer)
        if not gate or not best:
            return None
        least = min(self.least(scenario, name) for name in self.of(scenario, peer))
        return divide(self.median(scenario, best), self.median(scenario, gate)), divide(least, self.least(scenario, gate))


def divide(over, under):
    return over / under if under > 0 else float("nan")


def tables(records, reference):
    results = Results(records, reference)
    if not records:
        return "Nothing was measured.\n"
    parts = ["# Results\n", targets.table(results), ratios(results), everything(results)]
    return "\n".join(part for part in parts if part)


def ratios(results):
    lines = ["## Against the best variant of each peer\n",
             "Medians, minima in parentheses; the ratios are peer over gate.\n",
             "| scenario | unit | gate | nginx | × nginx | HAProxy | × HAProxy |", "|---|---|---|---|---|---|---|"]
    for scenario in results.records:
        gate = results.gate(scenario)
        if not gate:
            continue
        cells = [scenario, next(iter(results.records[scenario].values()))[0]["unit"], cell(results, scenario, gate)]
        for peer in ("nginx", "haproxy"):
            best, ratio = results.best(scenario, peer), results.ratios(scenario, peer)
            cells += [f"{cell(results, scenario, best)} {best.partition('/')[2]}" if best else "",
                      f"{ratio[0]:.2f} ({ratio[1]:.2f})" if ratio else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(results, scenario, candidate):
    return f"{number(results.median(scenario, candidate))} ({number(results.least(scenario, candidate))})"


def number(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def everything(results):
    lines = ["## All candidates\n", "| scenario | candidate | n | median | min | max | CPU busy | others there | besides |",
             "|---|---|---|---|---|---|---|---|---|"]
    for scenario, found in results.records.items():
        for candidate, measured in sorted(found.items(), key=lambda pair: results.median(scenario, pair[0])):
            values = [record["value"] for record in measured]
            busy = [record["cpu_s"] / record["seconds"] for record in measured if "cpu_s" in record]
            share = f"{statistics.median(busy):.0%}" if busy else ""
            others = foreign(measured)
            shown = " | ".join(number(value) for value in (statistics.median(values), min(values), max(values)))
            lines.append(f"| {scenario} | {candidate} | {len(values)} | {shown} | {share} | {others} | "
                         f"{besides(results, scenario, candidate)} |")
    for (scenario, candidate), times in results.stalls.items():
        lines.append(f"| {scenario} | {candidate} | | | | | | | {times} times a response stalled; not counted |")
    return "\n".join(lines) + "\n"


def foreign(measured):
    """The share of the proxy's core that other programs and the host took: high values make a measurement doubtful."""
    shares = [max(0, record["core_busy_s"] - record["cpu_s"]) / record["seconds"]
              for record in measured if "core_busy_s" in record and record["scenario"] != "workers-2"]
    return f"{statistics.median(shares):.0%}" if shares else ""


def besides(results, scenario, candidate):
    """What else is worth knowing about a scenario's measurements."""
    def median(field):
        return results.median(scenario, candidate, field)

    first = results.records[scenario][candidate][0]
    if "slab_bytes" in first:
        return (f"kernel slab {median('slab_bytes'):.0f} B/connection, the client's side included; process at rest "
                f"{median('rest_bytes') / 1e6:.1f} MB")
    if "rate" in first:
        return (f"at {first['rate']}/s: p50 {median('p50_us'):.0f} µs, p99 {median('p99_us'):.0f} µs, direct "
                f"{median('direct_p50_us'):.0f} and {median('direct_p99_us'):.0f} µs")
    if "per_second" in first:
        return f"{median('per_second'):.0f}/s, {median('share_as_wanted'):.1%} as wanted"
    if "upstream_requests" in first:
        return (f"{median('upstream_full_handshakes'):.0f} full and {median('upstream_resumed_handshakes'):.0f} resumed "
                f"for {median('upstream_requests'):.0f} requests")
    seconds = median("seconds")
    if first["unit"] == "CPU-s/GB":
        return f"{median('bytes') / seconds / 1e9:.2f} GB/s"
    return f"{median('requests') / seconds:.0f} requests/s, p50 {median('p50_us'):.0f} µs"
