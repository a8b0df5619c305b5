//! The counts of one arm, segment and epoch since the last drain, as one worker keeps them.
//!
//! The same facts as a `rollout::slot::Cell`, counted the cheapest way. What reads a limit exactly
//! is counted exactly, in nanoseconds, as the request is recorded. Never locks.

use hdrhistogram::Histogram;

use super::failing::FailingLearners;
use super::meters::KnownRollout;
use super::{CLASSES, class_index};
use crate::rollout::assign::LearnerHash;
use crate::rollout::latencies::SIGNIFICANT_DIGITS;
use crate::rollout::slot::{Cell, Class, LATENCY_EDGES, LATENCY_MAX_US, LATENCY_MIN_US};
use crate::rollout::time::Timestamp;

/// Counts of one arm, segment and epoch.
#[derive(Debug)]
pub(super) struct HotCell {
    classes: [u64; CLASSES.len()],
    /// In the layout of `rollout::latencies`.
    latency: Histogram<u32>,
    /// By how many of the edges 2^0 .. 2^14 ms a latency exceeded.
    exceeded: [u64; LATENCY_EDGES + 1],
    /// Ascending. A limit counted once since the last drain is counted until the next.
    over: Vec<OverLimit>,
    limits_version: u64,
    failing: FailingLearners,
    /// At which drain it was last found written to.
    pub(super) last_used: Timestamp,
}

#[derive(Debug)]
struct OverLimit {
    limit_us: u64,
    limit_ns: u64,
    count: u64,
}

impl HotCell {
    pub(super) fn boxed() -> Box<Self> {
        Box::new(Self {
            classes: [0; CLASSES.len()],
            latency: Histogram::new_with_bounds(LATENCY_MIN_US, LATENCY_MAX_US, SIGNIFICANT_DIGITS)
                .expect("the bounds of the frozen layout are valid"),
            exceeded: [0; LATENCY_EDGES + 1],
            over: Vec::new(),
            limits_version: 0,
            failing: FailingLearners::default(),
            last_used: Timestamp::default(),
        })
    }

    pub(super) fn add(
        &mut self,
        class: Class,
        latency_ns: Option<u64>,
        learner: Option<LearnerHash>,
    ) {
        self.classes[class_index(class)] += 1;
        match class {
            Class::Ok | Class::ClientError | Class::Abandoned => {}
            Class::Error | Class::Failed | Class::AbandonedLate => self.failing.add(learner),
        }
        if let Some(latency_ns) = latency_ns {
            self.add_latency(latency_ns);
        }
    }

    fn add_latency(&mut self, latency_ns: u64) {
        self.latency
            .saturating_record((latency_ns / 1_000).min(LATENCY_MAX_US));
        self.exceeded[edges_exceeded(latency_ns)] += 1;
        for over in &mut self.over {
            if latency_ns <= over.limit_ns {
                break;
            }
            over.count += 1;
        }
    }

    // A new limit is counted from here on. One that is given up is counted until the drain, so that
    // each count is whole for as long as it is there.
    pub(super) fn adopt_limits(&mut self, known: &KnownRollout) {
        let version = known.limits_version();
        if self.limits_version == version {
            return;
        }
        self.limits_version = version;
        for &limit_us in known.limits_us().iter() {
            let place = self.over.partition_point(|over| over.limit_us < limit_us);
            if self.over.get(place).map(|over| over.limit_us) != Some(limit_us) {
                let limit_ns = limit_us.saturating_mul(1_000);
                let count = 0;
                self.over.insert(
                    place,
                    OverLimit {
                        limit_us,
                        limit_ns,
                        count,
                    },
                );
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes == [0; CLASSES.len()]
    }

    /// Adds what was counted to a cell.
    pub(super) fn add_to(&self, cell: &mut Cell) {
        let of = |class| self.classes[class_index(class)];
        let failed = of(Class::Failed) + of(Class::AbandonedLate);
        let errors = of(Class::Error) + failed;
        cell.counted += of(Class::Ok) + of(Class::ClientError) + errors;
        cell.errors += errors;
        cell.failed += failed;
        cell.client_errors += of(Class::ClientError);
        cell.abandoned += of(Class::Abandoned) + of(Class::AbandonedLate);
        for over in &self.over {
            *cell.over_limit.entry(over.limit_us).or_default() += over.count;
        }
        // Whoever exceeded k edges exceeded the first k.
        let mut above = 0;
        for (edge, sum) in cell.over_edge.iter_mut().enumerate().rev() {
            above += self.exceeded[edge + 1];
            *sum += above;
        }
        for step in self.latency.iter_recorded() {
            let count = u64::from(step.count_at_value());
            cell.latency.record(step.value_iterated_to(), count);
        }
        self.failing.add_to(cell);
    }

    pub(super) fn clear(&mut self, at: Timestamp) {
        self.classes = [0; CLASSES.len()];
        self.latency.reset();
        self.exceeded = [0; LATENCY_EDGES + 1];
        self.over.clear();
        self.limits_version = 0;
        self.failing.clear();
        self.last_used = at;
    }
}

/// How many of the edges 2^0, 2^1, ... 2^14 ms lie below a latency: above 2^i ms means that the
/// whole milliseconds of one nanosecond less have a bit at i or higher.
pub(super) fn edges_exceeded(latency_ns: u64) -> usize {
    let whole_ms = latency_ns.saturating_sub(1) / 1_000_000;
    let bits = (u64::BITS - whole_ms.leading_zeros()) as usize;
    bits.min(LATENCY_EDGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::latencies::{Bucket, Latencies};

    fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(LATENCY_MIN_US, LATENCY_MAX_US, SIGNIFICANT_DIGITS)
            .expect("valid")
    }

    #[test]
    fn buckets_are_those_of_the_histogram_that_records() {
        let histogram = histogram();
        let mut bucket = Bucket::of(0);
        let mut us = 0;
        while us <= LATENCY_MAX_US {
            assert_eq!(bucket, Bucket::of(us), "{us}");
            assert_eq!(bucket.lowest_us(), us);
            assert_eq!(bucket.highest_us(), histogram.highest_equivalent(us));
            assert_eq!(Bucket::of(bucket.highest_us().min(LATENCY_MAX_US)), bucket);
            us = histogram.next_non_equivalent(us);
            bucket = bucket.next();
        }
        assert_eq!(Bucket::of(u64::MAX), Bucket::of(LATENCY_MAX_US));
    }

    #[test]
    fn figures_are_those_of_the_histogram_that_records() {
        let (mut latencies, mut histogram) = (Latencies::default(), histogram());
        assert_eq!(latencies.percentile_us(100), None);
        let mut us = 1;
        for n in 0..3_000_u64 {
            us = (us * 48_271 + n) % 2_147_483_647;
            latencies.record(us / 16, 1 + n % 3);
            // As the recorder does it.
            histogram.saturating_record_n((us / 16).min(LATENCY_MAX_US), 1 + n % 3);
        }
        assert_eq!(latencies.len(), histogram.len());
        for one_above_in in [2, 20, 100, 1_000] {
            let share = 1.0 - 1.0 / one_above_in as f64;
            let expected = histogram.value_at_quantile(share);
            assert_eq!(latencies.percentile_us(one_above_in), Some(expected));
        }
    }
}
