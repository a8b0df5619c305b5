//! Latencies in the fixed buckets that Prometheus is shown.
//!
//! Counted exactly as recorded, not read back from a histogram: a limit of a plan that is an edge
//! here (100, 200, 250 ms ...) is a limit there too. The gate never reads these.

/// Upper edges in microseconds, each belonging to its bucket. Denser between 50 ms and 1 s, where plans have their
/// limits and an interpolated percentile should not be off by more than a few per cent.
pub(super) const EDGES_US: [u64; 24] = [
    500, 1_000, 2_500, 5_000, 10_000, 20_000, 35_000, 50_000, 75_000, 100_000, 125_000, 150_000,
    200_000, 250_000, 300_000, 400_000, 500_000, 750_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

/// Counts per bucket, the last one above every edge, and the sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Buckets {
    counts: [u64; EDGES_US.len() + 1],
    sum_ns: u128,
}

impl Buckets {
    pub(super) fn record(&mut self, latency_ns: u64) {
        let place = EDGES_US.partition_point(|edge_us| latency_ns > edge_us * 1_000);
        self.counts[place] += 1;
        self.sum_ns += u128::from(latency_ns);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum_ns += other.sum_ns;
    }

    /// Per edge, in seconds, how many were at or below it.
    pub(super) fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut below = 0;
        let edges = EDGES_US.iter().zip(self.counts);
        edges
            .map(|(&edge_us, count)| {
                below += count;
                (edge_us as f64 / 1e6, below)
            })
            .collect()
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}
