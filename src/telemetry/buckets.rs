//! Latencies in the fixed buckets that Prometheus is shown.
//!
//! Counted exactly as recorded, not read back from a histogram: a limit of a plan that is an edge
//! here (100, 200, 250 ms ...) is a limit there too. The gate never reads these. Of each bucket one request is remembered
//! by its trace: the first since the last drain, so that all the others cost one comparison.

use super::prometheus::{Bucket, Exemplar};
use super::trace::TraceId;
use crate::rollout::time::WallTime;

/// Upper edges in microseconds, each belonging to its bucket. Denser between 50 ms and 1 s, where plans have their
/// limits and an interpolated percentile should not be off by more than a few per cent.
pub(super) const EDGES_US: [u64; 24] = [
    500, 1_000, 2_500, 5_000, 10_000, 20_000, 35_000, 50_000, 75_000, 100_000, 125_000, 150_000,
    200_000, 250_000, 300_000, 400_000, 500_000, 750_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

const BUCKETS: usize = EDGES_US.len() + 1;

/// Counts per bucket, the last one above every edge, the sum, and a request of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Buckets {
    counts: [u64; BUCKETS],
    sum_ns: u128,
    seen: [Option<Seen>; BUCKETS],
}

/// A request that was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    trace: TraceId,
    latency_ns: u64,
    /// Of the drain that found it: the hot write reads no clock.
    at: WallTime,
}

impl Buckets {
    pub(super) fn record(&mut self, latency_ns: u64, trace: Option<TraceId>) {
        let place = EDGES_US.partition_point(|edge_us| latency_ns > edge_us * 1_000);
        self.counts[place] += 1;
        self.sum_ns += u128::from(latency_ns);
        let seen = &mut self.seen[place];
        if seen.is_none() {
            let at = WallTime::default();
            *seen = trace.map(|trace| Seen {
                trace,
                latency_ns,
                at,
            });
        }
    }

    /// Adds what was counted until `at`.
    pub(super) fn merge(&mut self, other: &Self, at: WallTime) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum_ns += other.sum_ns;
        for (mine, theirs) in self.seen.iter_mut().zip(other.seen) {
            if let Some(theirs) = theirs {
                *mine = Some(Seen { at, ..theirs });
            }
        }
    }

    /// Per edge, in seconds, how many were at or below it; the last edge is infinite.
    pub(super) fn cumulative(&self) -> Vec<Bucket> {
        let mut below = 0;
        let edges = EDGES_US.iter().map(|&edge_us| edge_us as f64 / 1e6);
        let places = edges.chain([f64::INFINITY]).zip(self.counts).zip(self.seen);
        let bucket = |((edge, count), seen): ((f64, u64), Option<Seen>)| {
            below += count;
            let exemplar = seen.map(Seen::shown);
            Bucket {
                edge,
                below,
                exemplar,
            }
        };
        places.map(bucket).collect()
    }

    pub(super) fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

impl Seen {
    fn shown(self) -> Exemplar {
        Exemplar {
            trace: self.trace,
            value: self.latency_ns as f64 / 1e9,
            at: self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_millis(1_762_000_000_000);

    // The traces shown, with the edge of their bucket.
    fn shown(buckets: &Buckets) -> Vec<(f64, u128)> {
        let cumulative = buckets.cumulative().into_iter();
        let each = cumulative.filter_map(|bucket| {
            let exemplar = bucket.exemplar?;
            assert!(exemplar.value <= bucket.edge && exemplar.at == NOW);
            let id = u128::from_str_radix(&exemplar.trace.to_string(), 16).expect("an id");
            Some((bucket.edge, id))
        });
        each.collect()
    }

    #[test]
    fn one_request_of_each_bucket_is_remembered_and_a_later_drain_knows_a_later_one() {
        let mut totals = Buckets::default();
        let mut drained = Buckets::default();
        for (latency_ms, trace) in [(1, 1), (1, 2), (90, 3), (90_000, 4)] {
            drained.record(latency_ms * 1_000_000, TraceId::new(trace));
        }
        drained.record(150_000_000, None);
        totals.merge(&drained, NOW);
        assert_eq!(shown(&totals), [(0.001, 1), (0.1, 3), (f64::INFINITY, 4)]);
        let mut later = Buckets::default();
        later.record(900_000, TraceId::new(5));
        totals.merge(&later, NOW);
        assert_eq!(shown(&totals), [(0.001, 5), (0.1, 3), (f64::INFINITY, 4)]);
        let last = totals.cumulative().last().map(|bucket| bucket.below);
        assert_eq!(last, Some(6));
    }
}
