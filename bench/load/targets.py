"""The targets, and whether a run met them."""

import os

# Name, what, scenarios, least ratio to nginx and to HAProxy.
RATIOS = [
    ("P1", "CPU, TLS both sides, 16 MB and 1 GB", ["get-16m-tls", "put-16m-tls", "get-1g-tls", "put-1g-tls"], 2.0, 2.0),
    ("P2", "CPU, plain, 1 MB and more", ["get-16m-plain", "put-16m-plain", "get-1g-plain", "put-1g-plain"], 2.5, 1.0),
    ("P3", "CPU, TLS 1 KB and 16 KB", ["get-1k-tls", "put-1k-tls", "get-16k-tls", "put-16k-tls"], 1.5, 1.4),
    ("P4", "CPU, plain 1 KB and 16 KB", ["get-1k-plain", "put-1k-plain", "get-16k-plain", "put-16k-plain"], 1.3, 1.3),
    ("P6", "p50 at a fixed rate", ["rate-1k-plain", "rate-1k-tls"], 1.0, 1.0),
]
# Most user-space bytes for an idle connection, with 10,000 of them.
IDLE = [("idle-10k-plain", 6 * 1024), ("idle-10k-tls", 12 * 1024)]


# Two workers: least throughput over one, least share of the work for the less busy one, and the cores
# it takes to see both.
SCALE, SHARE, CORES = 1.8, 0.5, 4


def table(results):
    """The targets that the run was to measure; empty when there is none."""
    lines = []
    for name, what, scenarios, *least in RATIOS:
        for scenario in scenarios:
            for peer, wanted in zip(("nginx", "haproxy"), least):
                if results.gate_wanted(scenario) and results.wanted(scenario, peer):
                    lines.append(ratio(results, name, what, scenario, peer, wanted))
    for scenario, most in IDLE:
        if not results.gate_wanted(scenario):
            continue
        about = "P5", f"memory of an idle connection: {scenario}", f"≤ {most / 1024:.0f} KB"
        gate = results.gate(scenario)
        if gate:
            value = results.median(scenario, gate)
            lines.append(line(*about, f"{value / 1024:.1f} KB", value <= most))
        else:
            lines.append(line(*about, results.absence(scenario, results.reference), None))
    lines += [*reuse(results), *scaling(results)]
    if not lines:
        return ""
    head = ["## Targets\n", "| target | what | wanted | measured | |", "|---|---|---|---|---|"]
    return "\n".join(head + lines) + "\n"


def line(name, what, wanted, measured, met):
    """`met` is None where nothing was measured or judged."""
    judged = "" if met is None else "met" if met else "**missed**"
    return f"| {name} | {what} | {wanted} | {measured} | {judged} |"


def ratio(results, name, what, scenario, peer, least):
    found = results.ratios(scenario, peer)
    if not found:
        return line(name, f"{what}: {scenario}", f"≥ {least} × {peer}", results.missing(scenario, peer), None)
    doubt = any(results.doubtful(scenario, each) for each in (results.gate(scenario), results.best(scenario, peer)))
    told = f"{found[0]:.2f} (minima {found[1]:.2f})" + (" ?" if doubt else "")
    if name == "P6":
        ours, theirs = (added(results, scenario, each) for each in (results.gate(scenario), results.best(scenario, peer)))
        told += f"; above the upstream alone: {ours:.0f} µs, {peer} {theirs:.0f} µs"
    return line(name, f"{what}: {scenario}", f"≥ {least} × {peer}", told, found[0] >= least)


def added(results, scenario, candidate):
    """The median latency above that without a proxy, in microseconds."""
    return results.median(scenario, candidate) - results.median(scenario, candidate, "direct_p50_us")


def reuse(results):
    scenario, peer = "upstream-handshakes", "nginx-default"
    if not results.gate_wanted(scenario) or not results.wanted(scenario, peer):
        return []
    about = "P8", "upstream handshakes a million requests", "≤ 0.05 × nginx's default"
    gate, default = results.gate(scenario), results.best(scenario, peer)
    if not gate or not default:
        return [line(*about, results.missing(scenario, peer), None)]
    value = results.median(scenario, gate) / max(results.median(scenario, default), 1e-9)
    return [line(*about, f"{value:.5f}", value <= 0.05)]


def scaling(results):
    scenario, peer = "workers", "filmgate/2-workers"
    if not results.gate_wanted(scenario):
        return []
    about = "2 workers", "requests/s over those of one worker; both at work", f"≥ {SCALE}; share ≥ {SHARE}"
    one, two = results.gate(scenario), f"{results.reference}/2-workers"
    if not one or not results.enough(scenario, two):
        return [line(*about, results.missing(scenario, peer), None)]
    first, second = (results.median(scenario, each, "requests") / results.median(scenario, each, "seconds")
                     for each in (one, two))
    work = results.median(scenario, two) / results.median(scenario, one)
    share = results.median(scenario, two, "workers_share")
    told = (f"{first:.0f} and {second:.0f} requests/s ({second / first:.2f}), CPU a request × {work:.2f}, the less busy worker "
            f"did {share:.2f} of the other's work")
    if share < SHARE:
        return [line(*about, told, False)]
    if os.cpu_count() < CORES:
        return [line(*about, f"not judged here: the generator shares the second core; {told}", None)]
    if second < SCALE * first and results.at_limit(scenario, two):
        return [line(*about, f"not judged here: the generator was the limit; {told}", None)]
    return [line(*about, told, second >= SCALE * first)]
