"""What the tables make of records: `python3 -m unittest summary_test`, here."""

import types
import unittest

import summary

PLAN_ROUNDS = 4


def record(candidate, peer, value, **more):
    return {"scenario": "get-1k-tls", "candidate": candidate, "peer": peer, "unit": "CPU-s/100k requests", "value": value,
            "seconds": 1.0, "cpu_s": 0.9, "proxy_s": 0.9, "core_busy_s": 0.92, "generator_busy_s": 0.5, "requests": 1000,
            "bytes": 1, "p50_us": 100, **more}


def failed(candidate, peer, kind):
    return {"scenario": "get-1k-tls", "candidate": candidate, "peer": peer, "failed": kind, "text": "seen"}


def told(records, scenario="get-1k-tls", several=(("gate", "filmgate"), ("nginx/a", "nginx"), ("nginx/b", "nginx"))):
    named = [types.SimpleNamespace(name=name, peer=peer) for name, peer in several]
    return summary.tables([{**each, "scenario": scenario} for each in records],
                          [(types.SimpleNamespace(name=scenario), named, PLAN_ROUNDS)], "gate", "some")


class Tables(unittest.TestCase):
    def test_the_best_variant_is_compared(self):
        text = told([record("gate", "filmgate", 2.0)] * 4 + [record("nginx/a", "nginx", 6.0)] * 4
                    + [record("nginx/b", "nginx", 4.0)] * 4)
        self.assertIn("2.00 (minima 2.00) | met |", text)
        self.assertNotIn("Doubtful", text)

    def test_a_variant_with_fewer_than_half_its_rounds_is_not_the_best(self):
        text = told([record("gate", "filmgate", 2.0)] * 4 + [record("nginx/a", "nginx", 6.0)] * 4
                    + [record("nginx/b", "nginx", 4.0)])
        self.assertIn("3.00 (minima 3.00) | met |", text)

    def test_a_target_without_a_measurement_is_told(self):
        text = told([record("gate", "filmgate", 2.0)] * 4 + [failed("nginx/a", "nginx", "stalled")] * 3)
        self.assertIn("nginx not measured: 3 × stalled", text)
        text = told([record("nginx/a", "nginx", 2.0)] * 4 + [failed("gate", "filmgate", "wrong answer")])
        self.assertIn("gate not measured: 1 × wrong answer", text)
        self.assertIn("not measured: the run ended before", told([]))

    def test_a_busy_machine_makes_a_row_doubtful(self):
        text = told([record("gate", "filmgate", 2.0, core_busy_s=1.01)] * 4)
        self.assertIn("**Doubtful**", text)
        self.assertIn("get-1k-tls gate.", text)

    def test_a_full_generator_makes_rates_a_floor(self):
        self.assertIn("≥ 1000 requests/s", told([record("gate", "filmgate", 2.0, generator_busy_s=0.97)] * 4))
        self.assertNotIn("≥ 1000 requests/s", told([record("gate", "filmgate", 2.0)] * 4))

    def test_a_second_worker_that_idles_misses_the_target(self):
        several = (("gate", "filmgate"), ("gate/2-workers", "filmgate/2-workers"))
        for share, verdict in ((0.02, "**missed**"), (0.9, "")):
            two = record("gate/2-workers", "filmgate/2-workers", 2.0, worker_s=[1, share], workers_share=share, requests=1000)
            text = told([record("gate", "filmgate", 2.0, worker_s=[1], workers_share=1)] * 4 + [two] * 4, "workers", several)
            row = next(line for line in text.splitlines() if line.startswith("| 2 workers"))
            self.assertIn(f"{share:.2f} of the other's work", row)
            if verdict:
                self.assertTrue(row.endswith(f"| {verdict} |"), row)

    def test_at_a_fixed_rate_the_minima_are_those_of_the_latency_and_cpu_has_its_row(self):
        gate = [record("gate", "filmgate", value, rate=6000, p99_us=1, direct_p50_us=direct, direct_p99_us=1)
                for value, direct in ((200, 100), (180, 90), (210, 130), (220, 100))]
        text = told(gate, "rate-1k-tls")
        self.assertIn("| rate-1k-tls | µs p50 | 205 (180) |".replace("µs p50", "CPU-s/100k requests"), text)
        self.assertIn("| rate-1k-tls-cpu | CPU-s/100k requests at the rate | 90 (90) |", text)


if __name__ == "__main__":
    unittest.main()
