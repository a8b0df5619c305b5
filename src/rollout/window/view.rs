//! A view of a window: the span of it that a question is about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::assign::LearnerHash;
use super::super::latencies::Latencies;
use super::super::name::Arm;
use super::super::slot::Cell;
use super::super::time::Timestamp;
use super::{Counts, Measured, PROBE_BUCKET, Part, ProbeBucket, Probes, Sums, Window};

/// What is told apart when a window is read: a span of it and the probes that belong to it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    window: &'a Window,
    probes: &'a [ProbeBucket],
    /// Exclusive: a part that ends here or earlier is left out.
    after: Timestamp,
    /// Inclusive: a part that begins earlier is left out.
    since: Timestamp,
    /// Of the whole, or of one segment: every condition asks several times.
    sums: Sums,
    /// Of this segment alone.
    segment: Option<&'a str>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        window: &'a Window,
        after: Timestamp,
        since: Timestamp,
        probes: &'a [ProbeBucket],
    ) -> Self {
        Self {
            window,
            probes,
            after,
            since,
            sums: window.sums_of(after, since),
            segment: None,
        }
    }

    fn parts(self) -> impl Iterator<Item = &'a Part> {
        self.window.parts_of(self.after, self.since)
    }

    /// Calls `each` with every failing learner, and answers with the failures that no learner could be named for.
    pub fn failing(self, arm: Arm, mut each: impl FnMut(LearnerHash)) -> u64 {
        let mut others = 0;
        for cell in self.of_arm(arm) {
            cell.failing.keys().for_each(|&learner| each(learner));
            others += cell.failing_others;
        }
        others
    }

    /// One segment of it by itself.
    #[must_use]
    pub fn segment(self, name: &'a str) -> Self {
        let mut view = self.of_segment(name);
        for arm in Arm::ALL {
            for cell in view.of_arm(arm) {
                view.sums.counts[arm.index()].add(Counts::of(cell));
            }
        }
        view
    }

    /// Each segment of it by itself, those left out too; nothing where parts do not tell them apart.
    pub fn by_segment(self) -> Vec<(&'a Arc<str>, Self)> {
        let mut views: BTreeMap<&'a Arc<str>, Self> = BTreeMap::new();
        for (name, arms) in self.parts().flat_map(Part::segments) {
            let view = views.entry(name).or_insert_with(|| self.of_segment(name));
            for (sum, cell) in view.sums.counts.iter_mut().zip(arms) {
                sum.add(Counts::of(cell));
            }
        }
        views.into_iter().collect()
    }

    // Nothing of it is counted yet.
    fn of_segment(self, name: &'a str) -> Self {
        Self {
            sums: Sums {
                observed: self.sums.observed,
                ..Sums::default()
            },
            segment: Some(name),
            ..self
        }
    }

    fn of_arm(self, arm: Arm) -> impl Iterator<Item = &'a Cell> {
        self.parts().filter_map(move |part| match self.segment {
            None => Some(part.arm(arm)),
            Some(name) => part.segment(name).map(|arms| &arms[arm.index()]),
        })
    }
}

impl Measured for View<'_> {
    fn counts(&self, arm: Arm) -> Counts {
        self.sums.counts[arm.index()]
    }

    fn above(&self, arm: Arm, limit_us: u64) -> u64 {
        let summed = self.window.place_of_limit(limit_us);
        if let (None, Some(place)) = (self.segment, summed) {
            return self.sums.above[arm.index()][place];
        }
        self.of_arm(arm).map(|cell| cell.above(limit_us)).sum()
    }

    fn percentile_us(&self, arm: Arm, one_above_in: u64) -> Option<u64> {
        let mut sum = Latencies::default();
        for cell in self.of_arm(arm) {
            sum.merge(&cell.latency);
        }
        sum.percentile_us(one_above_in)
    }

    fn probes(&self, arm: Arm) -> Probes {
        let mut sum = Probes::default();
        for bucket in self.probes {
            if bucket.start.after(PROBE_BUCKET) > self.after {
                sum.add(bucket.pools[arm.index()]);
            }
        }
        sum
    }

    fn span(&self) -> Duration {
        self.sums.observed
    }

    fn most_failures(&self, arm: Arm) -> Option<u64> {
        let mut learners: BTreeMap<LearnerHash, u64> = BTreeMap::new();
        for cell in self.of_arm(arm) {
            for (&learner, &failures) in &cell.failing {
                *learners.entry(learner).or_default() += failures;
            }
        }
        learners.into_values().max()
    }

    fn apart(&self, arm: Arm) -> u64 {
        self.sums.apart[arm.index()]
    }

    fn segments(&self) -> Vec<(Arc<str>, [Counts; 2])> {
        let views = self.by_segment().into_iter();
        views
            .map(|(name, view)| (Arc::clone(name), view.sums.counts))
            .collect()
    }
}
