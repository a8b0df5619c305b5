//! What was counted of one arm and segment: the sums that every figure is made of. Sums of cells are cells.

use std::collections::BTreeMap;

use super::super::assign::LearnerHash;
use super::super::latencies::Latencies;
use super::{LATENCY_EDGES, MAX_FAILING_LEARNERS};

/// Counts of one arm and segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    pub counted: u64,
    pub errors: u64,
    pub failed: u64,
    pub client_errors: u64,
    /// All that left before the head, whether they also counted as an error or not.
    pub abandoned: u64,
    /// How many recorded latencies were above each limit of the plan in microseconds (exact, kept as recorded).
    pub over_limit: BTreeMap<u64, u64>,
    /// `over_edge[i]` = how many recorded latencies were above 2^i ms.
    pub over_edge: [u64; LATENCY_EDGES],
    pub latency: Latencies,
    /// Failures per learner, at most `MAX_FAILING_LEARNERS` of them.
    pub failing: BTreeMap<LearnerHash, u64>,
    /// Failures of learners beyond that bound, and of requests that nothing identifies.
    pub failing_others: u64,
}

impl Cell {
    /// Whether nothing was counted at all.
    pub fn is_empty(&self) -> bool {
        self.counted + self.abandoned + self.failing_others == 0
            && self.latency.is_empty()
            && self.over_limit.is_empty()
            && self.failing.is_empty()
    }

    /// Adds another cell's counts.
    pub fn merge(&mut self, other: &Self) {
        self.merge_unnamed(other);
        self.failing_others += other.failing_others;
        for (&learner, &failures) in &other.failing {
            self.add_failing(learner, failures);
        }
    }

    /// Adds everything but who failed.
    pub fn merge_unnamed(&mut self, other: &Self) {
        self.counted += other.counted;
        self.errors += other.errors;
        self.failed += other.failed;
        self.client_errors += other.client_errors;
        self.abandoned += other.abandoned;
        if self.over_limit.keys().eq(other.over_limit.keys()) {
            let sums = self.over_limit.values_mut().zip(other.over_limit.values());
            sums.for_each(|(sum, over)| *sum += over);
        } else {
            for (&limit, &over) in &other.over_limit {
                *self.over_limit.entry(limit).or_default() += over;
            }
        }
        for (sum, over) in self.over_edge.iter_mut().zip(other.over_edge) {
            *sum += over;
        }
        self.latency.merge(&other.latency);
    }

    /// Takes out what was added before. Learners beyond the bound may have been counted without a name.
    pub fn take_away(&mut self, other: &Self) {
        self.counted = self.counted.saturating_sub(other.counted);
        self.errors = self.errors.saturating_sub(other.errors);
        self.failed = self.failed.saturating_sub(other.failed);
        self.client_errors = self.client_errors.saturating_sub(other.client_errors);
        self.abandoned = self.abandoned.saturating_sub(other.abandoned);
        take_keyed(&mut self.over_limit, &other.over_limit);
        for (sum, over) in self.over_edge.iter_mut().zip(other.over_edge) {
            *sum = sum.saturating_sub(over);
        }
        self.latency.take_away(&other.latency);
        take_keyed(&mut self.failing, &other.failing);
        self.failing.retain(|_, failures| *failures > 0);
        self.failing_others = self.failing_others.saturating_sub(other.failing_others);
    }

    /// Recorded latencies above a limit in microseconds: exact where the limit was counted, else as exact as the buckets.
    pub fn above(&self, limit_us: u64) -> u64 {
        match self.over_limit.get(&limit_us) {
            Some(&over) => over,
            None => self.latency.above(limit_us),
        }
    }

    /// A learner's failures, by name as far as there is room.
    pub fn add_failing(&mut self, learner: LearnerHash, failures: u64) {
        if self.failing.len() < MAX_FAILING_LEARNERS || self.failing.contains_key(&learner) {
            *self.failing.entry(learner).or_default() += failures;
        } else {
            self.failing_others += failures;
        }
    }
}

fn take_keyed<K: Ord>(sums: &mut BTreeMap<K, u64>, less: &BTreeMap<K, u64>) {
    for (key, less) in less {
        if let Some(sum) = sums.get_mut(key) {
            *sum = sum.saturating_sub(*less);
        }
    }
}
