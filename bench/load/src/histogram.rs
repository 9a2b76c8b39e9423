//! Latencies in buckets of at most 1/64 of their value, up to a minute.

use std::time::Duration;

const STEPS: usize = 64;

pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { buckets: vec![0; 32 * STEPS], count: 0, sum: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = latency.as_nanos().min(60_000_000_000) as u64;
        self.buckets[index(nanoseconds)] += 1;
        self.count += 1;
        self.sum += nanoseconds;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The latency in microseconds that `share` of all stay within.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (number, held) in self.buckets.iter().enumerate() {
            seen += held;
            if seen >= rank {
                return upper(number) as f64 / 1e3;
            }
        }
        0.0
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64 / 1e3
    }

    pub(crate) fn max(&self) -> f64 {
        self.max as f64 / 1e3
    }
}

fn index(value: u64) -> usize {
    let exponent = (64 - value.leading_zeros() as usize).saturating_sub(7);
    exponent * STEPS + (value >> exponent) as usize
}

fn upper(index: usize) -> u64 {
    if index < 2 * STEPS {
        return index as u64;
    }
    let exponent = index / STEPS - 1;
    ((index - exponent * STEPS + 1) as u64) << exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_a_64th_of_its_bucket() {
        for value in (0..60_000_000_000_u64).step_by(98_765_432).chain(0..10_000) {
            let bound = upper(index(value));
            assert!(bound >= value && bound - value <= value / 64 + 1, "{value} in {bound}");
        }
    }

    #[test]
    fn quantiles_count_all() {
        let mut histogram = Histogram::new();
        for milliseconds in 1..=100 {
            histogram.record(Duration::from_millis(milliseconds));
        }
        assert!((histogram.quantile(0.5) - 50_000.0).abs() < 1000.0);
        assert!((histogram.quantile(0.99) - 99_000.0).abs() < 2000.0);
        assert!((histogram.mean() - 50_500.0).abs() < 1.0);
        assert!((histogram.max() - 100_000.0).abs() < 1.0);
        assert_eq!(histogram.count(), 100);
    }
}
