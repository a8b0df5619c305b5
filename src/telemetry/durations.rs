//! How long things took that happen a few times a second: a histogram that any thread adds to and any thread reads.
//!
//! For the control path and the store; what learners wait for is counted in `buckets`, by the recorders.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::prometheus::{Bucket, HistogramFamily, Label};

/// Upper edges in microseconds: from a tick without traffic to a disk that stalls.
const EDGES_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Counts per bucket, the last one above every edge, and the sum.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [AtomicU64; EDGES_US.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    pub fn add(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = EDGES_US.partition_point(|&edge_us| took_us > edge_us);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// How many were added.
    pub fn count(&self) -> u64 {
        let counts = self.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Adds this histogram to a family, in seconds.
    pub fn show(&self, family: &mut HistogramFamily<'_>, labels: &[Label<'_>]) {
        let mut below = 0;
        let edges = EDGES_US.iter().map(|&edge_us| edge_us as f64 / 1e6);
        let places = edges.chain([f64::INFINITY]).zip(&self.counts);
        let buckets: Vec<Bucket> = places
            .map(|(edge, count)| {
                below += count.load(Ordering::Relaxed);
                Bucket {
                    edge,
                    below,
                    exemplar: None,
                }
            })
            .collect();
        let sum_us = self.sum_us.load(Ordering::Relaxed);
        family.sample(labels, &buckets, sum_us as f64 / 1e6);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::prometheus::{Exposition, Form};

    #[test]
    fn an_edge_belongs_to_its_bucket() {
        let durations = Durations::default();
        for took_us in [100, 101, 10_000_001] {
            durations.add(Duration::from_micros(took_us));
        }
        assert_eq!(durations.count(), 3);
        let mut out = Exposition::new(Form::Text);
        let mut family = out.histogram("t_seconds", "A test.");
        durations.show(&mut family, &[("of", "it")]);
        let text = out.finish();
        for line in [
            "t_seconds_bucket{of=\"it\",le=\"0.0001\"} 1",
            "t_seconds_bucket{of=\"it\",le=\"0.00025\"} 2",
            "t_seconds_bucket{of=\"it\",le=\"10.0\"} 2",
            "t_seconds_bucket{of=\"it\",le=\"+Inf\"} 3",
            "t_seconds_sum{of=\"it\"} 10.000202",
            "t_seconds_count{of=\"it\"} 3",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }
}
