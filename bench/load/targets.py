"""The targets, and whether a run met them."""

import math

# Name, what, scenarios, least ratio to nginx and to HAProxy.
RATIOS = [
    ("P1", "CPU, TLS both sides, 16 MB and 1 GB", ["get-16m-tls", "put-16m-tls", "get-1g-tls", "put-1g-tls"], 2.0, 2.0),
    ("P2", "CPU, plain, 1 MB and more", ["get-16m-plain", "put-16m-plain", "get-1g-plain", "put-1g-plain"], 2.5, 1.0),
    ("P3", "CPU, TLS 1 KB and 16 KB", ["get-1k-tls", "put-1k-tls", "get-16k-tls", "put-16k-tls"], 1.5, 1.4),
    ("P4", "CPU, plain 1 KB and 16 KB", ["get-1k-plain", "put-1k-plain", "get-16k-plain", "put-16k-plain"], 1.3, 1.3),
    ("P6", "added p50 at a fixed rate", ["rate-1k-plain", "rate-1k-tls"], 1.0, 1.0),
]
# Most user-space bytes for an idle connection, with 10,000 of them.
IDLE = [("idle-10k-plain", 6 * 1024), ("idle-10k-tls", 12 * 1024)]


def table(results):
    """The targets that the run has measurements for; empty when there is none."""
    lines = []
    for name, what, scenarios, nginx, haproxy in RATIOS:
        for scenario in scenarios:
            for peer, least in (("nginx", nginx), ("haproxy", haproxy)):
                found = results.ratios(scenario, peer)
                if found:
                    lines.append(line(name, f"{what}: {scenario}", f"≥ {least} × {peer}",
                                      f"{found[0]:.2f} (minima {found[1]:.2f})", found[0] >= least))
    for scenario, most in IDLE:
        gate = results.gate(scenario)
        if gate:
            value = results.median(scenario, gate)
            lines.append(line("P5", f"memory of an idle connection: {scenario}", f"≤ {most / 1024:.0f} KB",
                              f"{value / 1024:.1f} KB", value <= most))
    lines += [*reuse(results), *scaling(results)]
    if not lines:
        return ""
    head = ["## Targets\n", "| target | what | wanted | measured | |", "|---|---|---|---|---|"]
    return "\n".join(head + lines) + "\n"


def line(name, what, wanted, measured, met):
    return f"| {name} | {what} | {wanted} | {measured} | {'met' if met else '**missed**'} |"


def reuse(results):
    scenario = "upstream-handshakes"
    gate = results.gate(scenario)
    default = results.best(scenario, "nginx-default")
    if not gate or not default:
        return []
    value = results.median(scenario, gate) / max(results.median(scenario, default), 1e-9)
    return [line("P8", "upstream handshakes a million requests", "≤ 0.05 × nginx's default", f"{value:.5f}", value <= 0.05)]


def scaling(results):
    one, two = results.gate("workers-1"), results.gate("workers-2")
    if not one or not two:
        return []
    value = 2 * results.median("workers-1", one) / results.median("workers-2", two)
    met = not math.isnan(value) and value >= 1.8
    return [line("2 workers", "requests of two workers over one, from requests per proxy CPU second (the second worker "
                 "shares its core with the load generator, so requests/s cannot show it)", "≥ 1.8", f"{value:.2f}", met)]
