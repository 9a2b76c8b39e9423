"""The tables of a run, from its records and its plan."""

import collections
import statistics

import targets

# From which share of the proxy's core on what others did there makes a row doubtful, and from which share of its own core on the
# load generator was the limit.
DOUBTFUL = 0.10
LIMIT = 0.95


class Results:
    """The measurements of a run, by scenario and candidate. The gate that counts is the one named `reference`. What has
    fewer than half of its rounds speaks for nobody."""

    def __init__(self, records, plan, reference):
        self.reference = reference
        self.records, self.failures = {}, {}
        self.peers = {scenario.name: {each.name: each.peer for each in several} for scenario, several, _ in plan}
        self.rounds = {scenario.name: rounds for scenario, _, rounds in plan}
        for record in records:
            name = record["scenario"]
            if "failed" in record:
                self.failures.setdefault((name, record["candidate"]), collections.Counter())[record["failed"]] += 1
                continue
            self.add(name, record)
            if "rate" in record:
                self.add(f"{name}-cpu", {**record, "unit": "CPU-s/100k requests at the rate",
                                         "value": record["proxy_s"] / record["requests"] * 1e5})

    def add(self, scenario, record):
        self.records.setdefault(scenario, {}).setdefault(record["candidate"], []).append(record)
        self.rounds.setdefault(scenario, self.rounds[record["scenario"]])
        self.peers.setdefault(scenario, self.peers[record["scenario"]])

    def median(self, scenario, candidate, field="value"):
        return statistics.median(record[field] for record in self.records[scenario][candidate])

    def least(self, scenario, candidate):
        return min(record["value"] for record in self.records[scenario][candidate])

    def enough(self, scenario, candidate):
        return 2 * len(self.records.get(scenario, {}).get(candidate, [])) >= self.rounds[scenario]

    def of(self, scenario, peer):
        """The candidates that speak for a peer in a scenario."""
        return [name for name, who in self.peers.get(scenario, {}).items() if who == peer and self.enough(scenario, name)]

    def wanted(self, scenario, peer):
        """Whether the run was to measure a peer in a scenario."""
        return peer in self.peers.get(scenario, {}).values()

    def gate_wanted(self, scenario):
        return self.reference in self.peers.get(scenario, {})

    def gate(self, scenario):
        return self.reference if self.gate_wanted(scenario) and self.enough(scenario, self.reference) else None

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

    def absence(self, scenario, *candidates):
        """Why there is no number for these candidates."""
        total = collections.Counter()
        for name in candidates:
            total += self.failures.get((scenario, name), collections.Counter())
        told = ", ".join(f"{count} × {kind}" for kind, count in total.items())
        have = max((len(self.records.get(scenario, {}).get(name, [])) for name in candidates), default=0)
        return f"not measured: {told or 'the run ended before'}" + (f" ({have} of {self.rounds[scenario]} rounds)" if have else "")

    def missing(self, scenario, peer):
        """Why there is no ratio to a peer: who was not measured."""
        if not self.gate(scenario):
            return "gate " + self.absence(scenario, self.reference)
        names = [name for name, who in self.peers[scenario].items() if who == peer]
        return f"{peer} " + self.absence(scenario, *names)

    def foreign(self, scenario, candidate):
        """The share of the proxy's core that other programs and the host took; None where that is not known."""
        shares = [max(0, record["core_busy_s"] - record["proxy_s"]) / record["seconds"]
                  for record in self.records[scenario][candidate]
                  if "core_busy_s" in record and len(record.get("worker_s", [0])) == 1]
        return statistics.median(shares) if shares else None

    def doubtful(self, scenario, candidate):
        return (self.foreign(scenario, candidate) or 0) > DOUBTFUL

    def share(self, scenario, candidate, field):
        """The median share of the time that counts, or None."""
        shares = [record[field] / record["seconds"] for record in self.records[scenario][candidate] if field in record]
        return statistics.median(shares) if shares else None

    def at_limit(self, scenario, candidate):
        """Whether the load generator and the upstream had nothing left to give."""
        return (self.share(scenario, candidate, "generator_busy_s") or 0) >= LIMIT


def divide(over, under):
    return over / under if under > 0 else float("nan")


def tables(records, plan, reference, extent):
    results = Results(records, plan, reference)
    parts = [f"# Results\n\n{extent}.\n", doubts(results), targets.table(results), ratios(results), everything(results)]
    return "\n".join(part for part in parts if part)


def doubts(results):
    """What a reader has to know before the first number."""
    found = [f"{scenario} {name}" for scenario, several in results.records.items() for name in several
             if results.doubtful(scenario, name)]
    if not found:
        return ""
    return (f"**Doubtful**: in these, others took more than {DOUBTFUL:.0%} of the proxy's core; measure them again on a quiet "
            f"machine: {', '.join(found)}.\n")


def ratios(results):
    lines = ["## Against the peers\n",
             "Medians, minima in parentheses; the ratios are peer over gate. In the relay scenarios (get-, put-) the best of all "
             "variants of a peer stands here; elsewhere each peer runs in one variant. A ? marks a doubtful number.\n",
             "| scenario | unit | gate | nginx | × nginx | HAProxy | × HAProxy |", "|---|---|---|---|---|---|---|"]
    for scenario, found in results.records.items():
        if not results.gate_wanted(scenario):
            continue
        gate = results.gate(scenario)
        ours = cell(results, scenario, gate) if gate else results.absence(scenario, results.reference)
        cells = [scenario, next(iter(found.values()))[0]["unit"], ours]
        for peer in ("nginx", "haproxy"):
            best, ratio = results.best(scenario, peer), results.ratios(scenario, peer)
            if best:
                cells.append(f"{cell(results, scenario, best)} {best.partition('/')[2]}")
            else:
                cells.append(results.missing(scenario, peer) if gate and results.wanted(scenario, peer) else "")
            cells.append(f"{ratio[0]:.2f} ({ratio[1]:.2f})" if ratio else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(results, scenario, candidate):
    doubt = " ?" if results.doubtful(scenario, candidate) else ""
    return f"{number(results.median(scenario, candidate))} ({number(results.least(scenario, candidate))}){doubt}"


def number(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share):
    return "" if share is None else f"{share:.0%}"


def everything(results):
    lines = ["## All candidates\n",
             "CPU busy is what the proxy took, others there what others took of its core, generator busy the core of the load "
             f"generator and the upstream: from {LIMIT:.0%} on they were the limit, and requests or handshakes a second are a floor.\n",
             "| scenario | candidate | n | median | min | max | CPU busy | others there | generator busy | besides |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for scenario, found in results.records.items():
        for candidate, measured in sorted(found.items(), key=lambda pair: results.median(scenario, pair[0])):
            values = [record["value"] for record in measured]
            shown = " | ".join(number(value) for value in (statistics.median(values), min(values), max(values)))
            doubt = " **doubtful**" if results.doubtful(scenario, candidate) else ""
            limit = " **limit**" if results.at_limit(scenario, candidate) else ""
            lines.append(
                f"| {scenario} | {candidate} | {len(values)} | {shown} | {percent(results.share(scenario, candidate, 'cpu_s'))} "
                f"| {percent(results.foreign(scenario, candidate))}{doubt} "
                f"| {percent(results.share(scenario, candidate, 'generator_busy_s'))}{limit} "
                f"| {besides(results, scenario, candidate)} |")
    for (scenario, candidate), kinds in results.failures.items():
        told = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
        lines.append(f"| {scenario} | {candidate} | | | | | | | | failed: {told} (what was seen is in raw.jsonl) |")
    return "\n".join(lines) + "\n"


def besides(results, scenario, candidate):
    """What else is worth knowing about a scenario's measurements."""
    def median(field):
        return results.median(scenario, candidate, field)

    measured = results.records[scenario][candidate]
    first = measured[0]
    floor = "≥ " if results.at_limit(scenario, candidate) else ""
    if "slab_bytes" in first:
        rest = f"process at rest {median('rest_bytes') / 1e6:.1f} MB"
        if not scenario.startswith("idle-10k"):
            return rest
        slab = [record["slab_bytes"] for record in measured]
        return (f"the machine's slab {median('slab_bytes'):.0f} B/connection ({min(slab):.0f} to {max(slab):.0f}), the client's "
                f"side included; {rest}")
    if "rate" in first:
        return (f"at {first['rate']}/s: p50 {median('p50_us'):.0f} µs, p99 {median('p99_us'):.0f} µs; without a proxy "
                f"{median('direct_p50_us'):.0f} and {median('direct_p99_us'):.0f} µs")
    if "per_second" in first:
        return f"{floor}{median('per_second'):.0f}/s, {median('share_as_wanted'):.1%} as wanted"
    if "upstream_requests" in first:
        return (f"{median('upstream_full_handshakes'):.0f} full and {median('upstream_resumed_handshakes'):.0f} resumed "
                f"for {median('upstream_requests'):.0f} requests")
    seconds = median("seconds")
    if first["unit"] == "CPU-s/GB":
        return f"{floor}{median('bytes') / seconds / 1e9:.2f} GB/s"
    return f"{floor}{median('requests') / seconds:.0f} requests/s, p50 {median('p50_us'):.0f} µs"
