//! Recent time in slots, and totals over longer spans: what was counted, read at a moment you pass.
//!
//! Short windows are exact (parts as drained), longer ones coarser with age, so that ten minutes stay
//! cheap. Counts are kept sparse. Never reads a clock and never judges.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::assign::{Ceilings, LearnerHash};
use super::bars::Bars;
use super::name::Arm;
use super::segments::{SegmentTotals, is_left_out};
use super::slot::{
    Cell, CellKey, LATENCY_EDGES, LatencySum, MAX_FAILING_LEARNERS, Slot, latency_sum,
};
use super::time::{Timestamp, millis};

/// Width of a bucket of probes.
pub const PROBE_BUCKET: Duration = Duration::from_secs(5);
/// Parts younger than this stay as they were drained, so that a window of a second is exact to the tick.
const FINE: Duration = Duration::from_secs(5);
/// Slots younger than this stay whole seconds; beyond, ten seconds make one.
const SECONDS: Duration = Duration::from_secs(120);
const COARSE_MS: u64 = 10_000;

/// Something that was measured on both arms over one span.
pub trait Measured {
    fn counts(&self, arm: Arm) -> Counts;
    /// Recorded latencies above a limit in microseconds: exact where the limit was counted, else as
    /// exact as the histogram's buckets.
    fn above(&self, arm: Arm, limit_us: u64) -> u64;
    /// The smallest latency in microseconds that at most one in `one_above_in` requests exceeded, at the
    /// histogram's resolution; `None` without a recorded latency.
    fn percentile_us(&self, arm: Arm, one_above_in: u64) -> Option<u64>;
    fn probes(&self, arm: Arm) -> Probes;
    /// How much of the span was observed.
    fn span(&self) -> Duration;
    /// Failures of the learner who failed most, of those who are named; `None` where nobody is.
    fn most_failures(&self, _: Arm) -> Option<u64> {
        None
    }
    /// Counted requests of segments that are left out of everything else: they are throughput all the same.
    fn apart(&self, _: Arm) -> u64 {
        0
    }
    /// Counts of each segment, by `Arm::index`; nothing where segments are not told apart.
    fn segments(&self) -> Vec<(Arc<str>, [Counts; 2])> {
        Vec::new()
    }
}

/// Plain counts of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub counted: u64,
    pub errors: u64,
    pub failed: u64,
    pub client_errors: u64,
    pub abandoned: u64,
    /// Those with a recorded latency.
    pub timed: u64,
}

/// Health checks sent and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    pub sent: u64,
    pub answered: u64,
}

/// Probes of both pools in `PROBE_BUCKET` of time, by `Arm::index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeBucket {
    /// A multiple of `PROBE_BUCKET`.
    pub start: Timestamp,
    pub pools: [Probes; 2],
}

/// Sums over a span that only grows: a stage, an interval of it, a run. Arrays by `Arm::index`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub cells: [Cell; 2],
    pub probes: [Probes; 2],
    /// Observed time.
    pub span: Duration,
    /// Counted requests of segments that are left out of the cells.
    pub apart: [u64; 2],
    /// Each segment by itself, where they are told apart; those left out too.
    pub segments: SegmentTotals,
}

/// The recent slots of both arms, without epochs; by segment only where parts tell them apart.
#[derive(Clone, Debug, Default)]
pub struct Window {
    fine: VecDeque<Part>,
    seconds: VecDeque<Part>,
    coarse: VecDeque<Part>,
}

/// What is told apart when a window is read: a span of it and the probes that belong to it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    window: &'a Window,
    probes: &'a [ProbeBucket],
    /// Exclusive: a part that ends here or earlier is left out.
    after: Timestamp,
    /// Inclusive: a part that begins earlier is left out.
    since: Timestamp,
    /// By `Arm::index`, summed once: every condition asks several times.
    counts: [Counts; 2],
    apart: [u64; 2],
    span: Duration,
    /// Of this segment alone.
    segment: Option<&'a str>,
}

/// Counts of both arms over one part of time.
#[derive(Clone, Debug, Default)]
pub struct Part {
    start: Timestamp,
    width: Duration,
    /// The width without the holes between the parts it was folded from.
    observed: Duration,
    arms: [Sparse; 2],
    /// Counted requests of segments that are left out of `arms`.
    apart: [u64; 2],
    /// Each segment by itself, those left out too; empty where they need not be told apart.
    segments: BTreeMap<Arc<str>, [Sparse; 2]>,
}

/// A cell without its empty buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    counts: Counts,
    over_limit: BTreeMap<u64, u64>,
    over_edge: [u64; LATENCY_EDGES],
    latency: Bars,
    failing: BTreeMap<LearnerHash, u64>,
    failing_others: u64,
}

// === impl Probes ===

impl Probes {
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.answered += other.answered;
    }

    /// Adds to the bucket that `at` lies in, and drops the buckets that ended before `keep_from`.
    pub fn push(
        buckets: &mut Vec<ProbeBucket>,
        at: Timestamp,
        pools: [Self; 2],
        keep_from: Timestamp,
    ) {
        let width = millis(PROBE_BUCKET);
        let start = Timestamp::from_millis(at.as_millis() / width * width);
        buckets.retain(|bucket| bucket.start.after(PROBE_BUCKET) > keep_from);
        if pools.iter().all(|probes| *probes == Self::default()) {
            return;
        }
        match buckets.last_mut().filter(|last| last.start == start) {
            Some(last) => {
                for (sum, probes) in last.pools.iter_mut().zip(pools) {
                    sum.add(probes);
                }
            }
            None => buckets.push(ProbeBucket { start, pools }),
        }
    }
}

// === impl Counts ===

impl Counts {
    pub fn of(cell: &Cell) -> Self {
        Self {
            counted: cell.counted,
            errors: cell.errors,
            failed: cell.failed,
            client_errors: cell.client_errors,
            abandoned: cell.abandoned,
            timed: cell.latency.len(),
        }
    }

    pub fn add(&mut self, other: Self) {
        self.counted += other.counted;
        self.errors += other.errors;
        self.failed += other.failed;
        self.client_errors += other.client_errors;
        self.abandoned += other.abandoned;
        self.timed += other.timed;
    }

    /// Takes out what was added before.
    pub fn take_away(&mut self, other: Self) {
        self.counted = self.counted.saturating_sub(other.counted);
        self.errors = self.errors.saturating_sub(other.errors);
        self.failed = self.failed.saturating_sub(other.failed);
        self.client_errors = self.client_errors.saturating_sub(other.client_errors);
        self.abandoned = self.abandoned.saturating_sub(other.abandoned);
        self.timed = self.timed.saturating_sub(other.timed);
    }
}

// === impl Totals ===

impl Totals {
    /// Adds one cell's counts to an arm.
    pub fn add(&mut self, arm: Arm, cell: &Cell) {
        self.cells[arm.index()].merge(cell);
    }

    /// Adds what a part holds, which is cheaper than its cells one by one.
    pub fn add_part(&mut self, part: &Part) {
        for (cell, sparse) in self.cells.iter_mut().zip(&part.arms) {
            sparse.add_to(cell);
        }
        add_each(&mut self.apart, part.apart);
    }

    /// Adds everything that a part holds, the segments that it leaves out of its arms too.
    pub fn add_everything(&mut self, part: &Part, ceilings: &Ceilings) {
        for (cell, sparse) in self.cells.iter_mut().zip(&part.arms) {
            sparse.add_to(cell);
        }
        for (name, arms) in part.segments() {
            if is_left_out(ceilings, name) {
                for (cell, sparse) in self.cells.iter_mut().zip(arms) {
                    sparse.add_to(cell);
                }
            }
        }
    }

    /// Takes a segment out of the cells, as if it had never been in them; it stays among the segments.
    pub fn leave_out(&mut self, segment: &str) {
        let Some(arms) = self.segments.get(segment) else {
            return;
        };
        for ((cell, sparse), apart) in self.cells.iter_mut().zip(arms).zip(&mut self.apart) {
            sparse.take_from(cell);
            *apart += sparse.counts.counted;
        }
    }
}

impl Measured for Totals {
    fn counts(&self, arm: Arm) -> Counts {
        Counts::of(&self.cells[arm.index()])
    }

    fn above(&self, arm: Arm, limit_us: u64) -> u64 {
        let cell = &self.cells[arm.index()];
        match cell.over_limit.get(&limit_us) {
            Some(&over) => over,
            None => cell.latency.len() - cell.latency.count_between(0, limit_us),
        }
    }

    fn percentile_us(&self, arm: Arm, one_above_in: u64) -> Option<u64> {
        percentile_us(&self.cells[arm.index()].latency, one_above_in)
    }

    fn probes(&self, arm: Arm) -> Probes {
        self.probes[arm.index()]
    }

    fn span(&self) -> Duration {
        self.span
    }

    fn most_failures(&self, arm: Arm) -> Option<u64> {
        self.cells[arm.index()].failing.values().max().copied()
    }

    fn apart(&self, arm: Arm) -> u64 {
        self.apart[arm.index()]
    }

    fn segments(&self) -> Vec<(Arc<str>, [Counts; 2])> {
        let counts = |arms: &[Sparse; 2]| arms.each_ref().map(|arm| arm.counts);
        self.segments
            .iter()
            .map(|(name, arms)| (Arc::clone(name), counts(arms)))
            .collect()
    }
}

// === impl Window ===

impl Window {
    /// Takes in one part, and folds and forgets what has grown old at `now`. Parts come in order of
    /// time. What begins before `barrier` is never folded together with what begins later.
    pub fn push(&mut self, part: Part, now: Timestamp, keep: Duration, barrier: Option<Timestamp>) {
        self.fine.push_back(part);
        fold(
            &mut self.fine,
            &mut self.seconds,
            now.before(FINE),
            1_000,
            barrier,
        );
        fold(
            &mut self.seconds,
            &mut self.coarse,
            now.before(SECONDS),
            COARSE_MS,
            barrier,
        );
        let oldest = now.before(keep);
        for parts in [&mut self.coarse, &mut self.seconds, &mut self.fine] {
            while parts.front().is_some_and(|part| part.end() <= oldest) {
                parts.pop_front();
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a segment out of both arms, as if it had never been in them; it stays among the segments.
    pub fn leave_out(&mut self, segment: &str) {
        for parts in [&mut self.coarse, &mut self.seconds, &mut self.fine] {
            parts.iter_mut().for_each(|part| part.leave_out(segment));
        }
    }

    /// Everything that overlaps `(now - over, now]` and did not begin before `since`.
    pub fn view<'a>(
        &'a self,
        now: Timestamp,
        over: Duration,
        since: Timestamp,
        probes: &'a [ProbeBucket],
    ) -> View<'a> {
        let mut view = View {
            window: self,
            probes,
            after: now.before(over),
            since,
            counts: [Counts::default(); 2],
            apart: [0; 2],
            span: Duration::ZERO,
            segment: None,
        };
        for part in view.parts() {
            view.span += part.observed;
            add_each(&mut view.apart, part.apart);
            for (sum, arm) in view.counts.iter_mut().zip(&part.arms) {
                sum.add(arm.counts);
            }
        }
        view
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.coarse.iter().chain(&self.seconds).chain(&self.fine)
    }
}

// === impl View ===

impl<'a> View<'a> {
    fn parts(self) -> impl Iterator<Item = &'a Part> {
        self.window
            .parts()
            .filter(move |part| part.end() > self.after && part.start >= self.since)
    }

    /// Calls `each` with every failing learner and his failures, and answers with the failures that
    /// no learner could be named for.
    pub fn failing(self, arm: Arm, mut each: impl FnMut(LearnerHash)) -> u64 {
        let mut others = 0;
        for sparse in self.of_arm(arm) {
            others += sparse.failing(&mut each);
        }
        others
    }

    /// One segment of it by itself.
    #[must_use]
    pub fn segment(self, name: &'a str) -> Self {
        let mut view = Self {
            counts: Default::default(),
            apart: Default::default(),
            segment: Some(name),
            ..self
        };
        for arm in Arm::ALL {
            for sparse in view.of_arm(arm) {
                view.counts[arm.index()].add(sparse.counts);
            }
        }
        view
    }

    /// Each segment of it by itself, those left out too; nothing where parts do not tell them apart.
    pub fn by_segment(self) -> Vec<(&'a Arc<str>, Self)> {
        let mut views: BTreeMap<&'a Arc<str>, Self> = BTreeMap::new();
        for (name, arms) in self.parts().flat_map(|part| &part.segments) {
            let view = views.entry(name).or_insert_with(|| Self {
                counts: Default::default(),
                apart: Default::default(),
                segment: Some(&**name),
                ..self
            });
            for (sum, arm) in view.counts.iter_mut().zip(arms) {
                sum.add(arm.counts);
            }
        }
        views.into_iter().collect()
    }

    fn of_arm(self, arm: Arm) -> impl Iterator<Item = &'a Sparse> {
        self.parts().filter_map(move |part| match self.segment {
            None => Some(&part.arms[arm.index()]),
            Some(name) => part.segments.get(name).map(|arms| &arms[arm.index()]),
        })
    }
}

impl Measured for View<'_> {
    fn counts(&self, arm: Arm) -> Counts {
        self.counts[arm.index()]
    }

    fn above(&self, arm: Arm, limit_us: u64) -> u64 {
        self.of_arm(arm).map(|sparse| sparse.above(limit_us)).sum()
    }

    fn percentile_us(&self, arm: Arm, one_above_in: u64) -> Option<u64> {
        let mut sum = latency_sum();
        for sparse in self.of_arm(arm) {
            for (latency, requests) in sparse.latency.iter() {
                sum.saturating_record_n(latency, requests);
            }
        }
        percentile_us(&sum, one_above_in)
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
        self.span
    }

    fn most_failures(&self, arm: Arm) -> Option<u64> {
        let mut learners: BTreeMap<LearnerHash, u64> = BTreeMap::new();
        for sparse in self.of_arm(arm) {
            for (&learner, &failures) in &sparse.failing {
                *learners.entry(learner).or_default() += failures;
            }
        }
        learners.into_values().max()
    }

    fn apart(&self, arm: Arm) -> u64 {
        self.apart[arm.index()]
    }

    fn segments(&self) -> Vec<(Arc<str>, [Counts; 2])> {
        let views = self.by_segment().into_iter();
        views
            .map(|(name, view)| (Arc::clone(name), view.counts))
            .collect()
    }
}

// === impl Part ===

impl Part {
    /// The cells of a slot that began under `epoch` or later.
    pub fn of(slot: &Slot, epoch: u64) -> Self {
        Self::without(slot, epoch, &Ceilings::new())
    }

    /// The same with the segments at a ceiling of 0 left out of both arms.
    pub fn without(slot: &Slot, epoch: u64, ceilings: &Ceilings) -> Self {
        let mut part = Self {
            start: slot.start,
            width: slot.width,
            observed: slot.width,
            ..Self::default()
        };
        for (key, cell) in &slot.cells {
            if key.epoch >= epoch {
                part.add_cell(key, cell, ceilings);
            }
        }
        part
    }

    fn add_cell(&mut self, key: &CellKey, cell: &Cell, ceilings: &Ceilings) {
        let arm = key.arm.index();
        let Some(name) = &key.segment else {
            self.arms[arm].add_cell(cell);
            return;
        };
        let mut sparse = Sparse::default();
        sparse.add_cell(cell);
        if is_left_out(ceilings, name) {
            self.apart[arm] += cell.counted;
        } else {
            self.arms[arm].add(&sparse);
        }
        let arms = self.segments.entry(Arc::clone(name)).or_default();
        arms[arm].merge(sparse);
    }

    /// Each segment by itself, by `Arm::index`.
    pub fn segments(&self) -> impl Iterator<Item = (&Arc<str>, &[Sparse; 2])> {
        self.segments.iter()
    }

    /// The same part for those who need not tell segments apart.
    #[must_use]
    pub fn without_segments(mut self) -> Self {
        self.segments.clear();
        self
    }

    fn leave_out(&mut self, segment: &str) {
        let Some(arms) = self.segments.get(segment) else {
            return;
        };
        for ((whole, sparse), apart) in self.arms.iter_mut().zip(arms).zip(&mut self.apart) {
            whole.take_away(sparse);
            *apart += sparse.counts.counted;
        }
    }

    pub fn start(&self) -> Timestamp {
        self.start
    }

    pub fn arm(&self, arm: Arm) -> &Sparse {
        &self.arms[arm.index()]
    }

    fn end(&self) -> Timestamp {
        self.start.after(self.width)
    }

    fn merge(&mut self, later: Self) {
        let end = self.end().max(later.end());
        self.width = end.since(self.start);
        self.observed += later.observed;
        for (mine, theirs) in self.arms.iter_mut().zip(later.arms) {
            mine.merge(theirs);
        }
        add_each(&mut self.apart, later.apart);
        for (name, arms) in later.segments {
            let mine = self.segments.entry(name).or_default();
            for (mine, theirs) in mine.iter_mut().zip(arms) {
                mine.merge(theirs);
            }
        }
    }
}

// === impl Sparse ===

impl Sparse {
    pub fn of(cell: &Cell) -> Self {
        let mut sparse = Self::default();
        sparse.add_cell(cell);
        sparse
    }

    /// The same counts as a cell.
    pub fn to_cell(&self) -> Cell {
        let mut cell = Cell::default();
        self.add_to(&mut cell);
        cell
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds counts without their latencies.
    pub fn count(&mut self, counts: Counts) {
        self.counts.add(counts);
    }

    /// The smallest latency that at most one in `one_above_in` requests exceeded.
    pub fn percentile_us(&self, one_above_in: u64) -> Option<u64> {
        let rank = self.counts.timed - self.counts.timed / one_above_in;
        let mut seen = 0;
        let mut buckets = self.latency.iter();
        let found = buckets.find(|&(_, requests)| {
            seen += requests;
            seen >= rank
        });
        found.map(|(latency, _)| latency)
    }

    /// Calls `each` with every failing learner; answers with the failures that name nobody.
    pub fn failing(&self, mut each: impl FnMut(LearnerHash)) -> u64 {
        self.failing.keys().for_each(|&learner| each(learner));
        self.failing_others
    }

    pub fn above(&self, limit_us: u64) -> u64 {
        match self.over_limit.get(&limit_us) {
            Some(&over) => over,
            None => self.latency.above(limit_us),
        }
    }

    /// Adds these counts to a cell.
    fn add_to(&self, cell: &mut Cell) {
        cell.counted += self.counts.counted;
        cell.errors += self.counts.errors;
        cell.failed += self.counts.failed;
        cell.client_errors += self.counts.client_errors;
        cell.abandoned += self.counts.abandoned;
        for (&limit, &over) in &self.over_limit {
            *cell.over_limit.entry(limit).or_default() += over;
        }
        for (sum, &over) in cell.over_edge.iter_mut().zip(&self.over_edge) {
            *sum += over;
        }
        for (latency, requests) in self.latency.iter() {
            cell.latency.saturating_record_n(latency, requests);
        }
        for (&learner, &failures) in &self.failing {
            if cell.failing.len() < MAX_FAILING_LEARNERS || cell.failing.contains_key(&learner) {
                *cell.failing.entry(learner).or_default() += failures;
            } else {
                cell.failing_others += failures;
            }
        }
        cell.failing_others += self.failing_others;
    }

    fn add_cell(&mut self, cell: &Cell) {
        self.counts.add(Counts::of(cell));
        self.add_edges(&cell.over_edge);
        for (&limit, &over) in &cell.over_limit {
            *self.over_limit.entry(limit).or_default() += over;
        }
        self.latency.merge(&Bars::of(&cell.latency));
        self.failing_others += cell.failing_others;
        for (&learner, &failures) in &cell.failing {
            self.add_failing(learner, failures);
        }
    }

    fn merge(&mut self, other: Self) {
        self.add(&other);
    }

    fn add(&mut self, other: &Self) {
        self.add_unnamed(other);
        self.failing_others += other.failing_others;
        for (&learner, &failures) in &other.failing {
            self.add_failing(learner, failures);
        }
    }

    /// Adds everything but who failed.
    pub fn add_unnamed(&mut self, other: &Self) {
        self.counts.add(other.counts);
        self.add_edges(&other.over_edge);
        for (&limit, &over) in &other.over_limit {
            *self.over_limit.entry(limit).or_default() += over;
        }
        self.latency.merge(&other.latency);
    }

    // What was added before. Learners beyond the bound may have been counted without a name.
    fn take_away(&mut self, other: &Self) {
        self.counts.take_away(other.counts);
        take_each(&mut self.over_edge, &other.over_edge);
        take_keyed(&mut self.over_limit, &other.over_limit);
        self.latency.take_away(&other.latency);
        take_keyed(&mut self.failing, &other.failing);
        self.failing.retain(|_, failures| *failures > 0);
        self.failing_others = self.failing_others.saturating_sub(other.failing_others);
    }

    // Takes these counts out of a cell that they were added to. Who failed stays.
    fn take_from(&self, cell: &mut Cell) {
        cell.counted = cell.counted.saturating_sub(self.counts.counted);
        cell.errors = cell.errors.saturating_sub(self.counts.errors);
        cell.failed = cell.failed.saturating_sub(self.counts.failed);
        cell.client_errors = cell.client_errors.saturating_sub(self.counts.client_errors);
        cell.abandoned = cell.abandoned.saturating_sub(self.counts.abandoned);
        take_keyed(&mut cell.over_limit, &self.over_limit);
        take_each(&mut cell.over_edge, &self.over_edge);
        let mut latency = latency_sum();
        for bucket in cell.latency.iter_recorded() {
            let value = bucket.value_iterated_to();
            let taken = self.latency.at(value);
            let left = bucket.count_at_value().saturating_sub(taken);
            // A count of 0 would still be seen by the histogram's largest value.
            if left > 0 {
                latency.saturating_record_n(value, left);
            }
        }
        cell.latency = latency;
    }

    fn add_edges(&mut self, edges: &[u64; LATENCY_EDGES]) {
        for (sum, over) in self.over_edge.iter_mut().zip(edges) {
            *sum += over;
        }
    }

    fn add_failing(&mut self, learner: LearnerHash, failures: u64) {
        if self.failing.len() < MAX_FAILING_LEARNERS || self.failing.contains_key(&learner) {
            *self.failing.entry(learner).or_default() += failures;
        } else {
            self.failing_others += failures;
        }
    }
}

fn add_each(sums: &mut [u64; 2], more: [u64; 2]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

fn take_each(sums: &mut [u64], less: &[u64]) {
    for (sum, less) in sums.iter_mut().zip(less) {
        *sum = sum.saturating_sub(*less);
    }
}

fn take_keyed<K: Ord>(sums: &mut BTreeMap<K, u64>, less: &BTreeMap<K, u64>) {
    for (key, less) in less {
        if let Some(sum) = sums.get_mut(key) {
            *sum = sum.saturating_sub(*less);
        }
    }
}

fn percentile_us(latency: &LatencySum, one_above_in: u64) -> Option<u64> {
    if latency.is_empty() {
        return None;
    }
    Some(latency.value_at_quantile(1.0 - 1.0 / one_above_in as f64))
}

// Moves the parts that ended by `oldest` into the coarser row, joining those of one bucket.
fn fold(
    from: &mut VecDeque<Part>,
    into: &mut VecDeque<Part>,
    oldest: Timestamp,
    bucket_ms: u64,
    barrier: Option<Timestamp>,
) {
    let bucket = |part: &Part| {
        let after_barrier = barrier.is_some_and(|barrier| part.start >= barrier);
        (part.start.as_millis() / bucket_ms, after_barrier)
    };
    while from.front().is_some_and(|part| part.end() <= oldest) {
        let Some(part) = from.pop_front() else { return };
        match into.back_mut().filter(|last| bucket(last) == bucket(&part)) {
            Some(last) => last.merge(part),
            None => into.push_back(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Duration = Duration::from_secs(3600);

    /// One canary request of `latency_ms` per part, an error by learner `n`.
    fn slot(start_ms: u64, width_ms: u64, latency_ms: u64, n: u64) -> Slot {
        let mut slot = Slot::empty(
            Timestamp::from_millis(start_ms),
            Duration::from_millis(width_ms),
        );
        let mut cell = Cell {
            counted: 1,
            errors: 1,
            ..Cell::default()
        };
        cell.latency.saturating_record(latency_ms * 1000);
        cell.over_limit.insert(200_000, u64::from(latency_ms > 200));
        cell.failing.insert(LearnerHash::from_raw(n), 1);
        slot.cells.insert(
            CellKey {
                epoch: 1,
                arm: Arm::Canary,
                segment: None,
            },
            cell,
        );
        slot
    }

    fn filled(parts: u64, latency_ms: impl Fn(u64) -> u64) -> (Window, Timestamp) {
        let mut window = Window::default();
        for n in 0..parts {
            let slot = slot(n * 250, 250, latency_ms(n), n);
            let part = Part::of(&slot, 1);
            window.push(part, Timestamp::from_millis((n + 1) * 250), ALWAYS, None);
        }
        (window, Timestamp::from_millis(parts * 250))
    }

    #[test]
    fn a_window_holds_every_part_that_overlaps_it() {
        let (window, now) = filled(4 * 900, |_| 10);
        let check = |over_ms: u64, parts: u64| {
            let view = window.view(
                now,
                Duration::from_millis(over_ms),
                Timestamp::default(),
                &[],
            );
            assert_eq!(view.counts(Arm::Canary).counted, parts, "{over_ms} ms");
            assert_eq!(
                view.span(),
                Duration::from_millis(parts * 250),
                "{over_ms} ms"
            );
        };
        check(250, 1);
        check(999, 4);
        check(1_000, 4);
        check(1_001, 5);
        check(5_000, 20);
        check(60_000, 240);
        check(120_000, 480);
        // Beyond two minutes whole ten-second slots count.
        check(600_000, 2_400);
        check(600_001, 2_440);
    }

    #[test]
    fn folding_and_pushing_again_from_the_start_give_the_same_figures() {
        let latency = |n: u64| 1 + n * 37 % 400;
        let (window, now) = filled(4 * 700, latency);
        let mut again = Window::default();
        for n in 0..4 * 700 {
            let part = Part::of(&slot(n * 250, 250, latency(n), n), 1);
            again.push(part, now, ALWAYS, None);
        }
        for over in [1, 7, 60, 300, 600] {
            let view = |window: &Window| {
                let view = window.view(now, Duration::from_secs(over), Timestamp::default(), &[]);
                (
                    view.counts(Arm::Canary),
                    view.percentile_us(Arm::Canary, 20),
                    view.above(Arm::Canary, 200_000),
                )
            };
            assert_eq!(view(&window), view(&again), "over {over} s");
        }
    }

    #[test]
    fn a_percentile_comes_from_the_merged_histogram() {
        // 1, 2, ..., 100 ms in 100 parts: the smallest value that at most 1 of 20 exceeds is 95 ms.
        let (window, now) = filled(100, |n| n + 1);
        let view = window.view(now, Duration::from_secs(60), Timestamp::default(), &[]);
        let p95 = view
            .percentile_us(Arm::Canary, 20)
            .expect("there are latencies") as f64;
        assert!((p95 / 95_000.0 - 1.0).abs() < 0.01, "{p95}");
        assert_eq!(view.percentile_us(Arm::Baseline, 20), None);
        // A limit that nobody counted is read from the buckets.
        assert_eq!(view.above(Arm::Canary, 200_000), 0);
        assert_eq!(view.above(Arm::Canary, 95_500), 5);
    }

    #[test]
    fn what_began_before_a_step_or_a_warm_up_is_left_out() {
        let other_epoch = Part::of(&slot(0, 250, 1, 1), 2);
        assert_eq!(other_epoch.arm(Arm::Canary).counts, Counts::default());

        let barrier = Some(Timestamp::from_millis(300_500));
        let mut window = Window::default();
        for n in 0..4 * 900 {
            let part = Part::of(&slot(n * 250, 250, 1, n), 1);
            window.push(part, Timestamp::from_millis((n + 1) * 250), ALWAYS, barrier);
        }
        let now = Timestamp::from_millis(900_000);
        let view = window.view(now, ALWAYS, Timestamp::from_millis(300_500), &[]);
        assert_eq!(view.counts(Arm::Canary).counted, 4 * 900 - 4 * 300 - 2);
    }

    #[test]
    fn a_total_of_parts_is_a_total_of_their_cells() {
        let (mut by_parts, mut by_cells) = (Totals::default(), Totals::default());
        for n in 0..300 {
            let slot = slot(n * 250, 250, 1 + n * 37 % 400, n % 11);
            by_parts.add_part(&Part::of(&slot, 1));
            by_cells.add(Arm::Canary, &slot.arm(Arm::Canary));
        }
        assert_eq!(by_parts, by_cells);
    }

    #[test]
    fn old_parts_are_forgotten_and_learners_named() {
        let mut window = Window::default();
        for n in 0..400 {
            let part = Part::of(&slot(n * 250, 250, 1, n % 7), 1);
            window.push(
                part,
                Timestamp::from_millis((n + 1) * 250),
                Duration::from_secs(60),
                None,
            );
        }
        let view = window.view(
            Timestamp::from_millis(100_000),
            ALWAYS,
            Timestamp::default(),
            &[],
        );
        assert_eq!(view.counts(Arm::Canary).counted, 240);
        let mut learners = std::collections::BTreeSet::new();
        let others = view.failing(Arm::Canary, |learner| {
            learners.insert(learner);
        });
        assert_eq!((learners.len(), others), (7, 0));
    }

    #[test]
    fn the_worst_learner_of_a_segment_is_one_of_its_own() {
        let mut slot = Slot::empty(Timestamp::default(), Duration::from_secs(1));
        let mut failed = |segment: &str, learner: u64, failures: u64| {
            let key = CellKey {
                epoch: 0,
                arm: Arm::Canary,
                segment: Some(Arc::from(segment)),
            };
            let cell = slot.cells.entry(key).or_default();
            cell.counted += failures;
            cell.errors += failures;
            let failing = cell.failing.entry(LearnerHash::from_raw(learner));
            *failing.or_default() += failures;
        };
        failed("eu", 1, 2);
        failed("eu", 2, 3);
        failed("us", 1, 40);
        let mut window = Window::default();
        let now = Timestamp::from_millis(1_000);
        window.push(Part::of(&slot, 0), now, ALWAYS, None);
        let view = window.view(now, ALWAYS, Timestamp::default(), &[]);
        assert_eq!(view.most_failures(Arm::Canary), Some(42));
        assert_eq!(view.segment("eu").most_failures(Arm::Canary), Some(3));
        assert_eq!(view.segment("asia").most_failures(Arm::Canary), None);
        assert_eq!(view.most_failures(Arm::Baseline), None);
    }

    #[test]
    fn probes_are_kept_in_buckets() {
        let mut buckets = Vec::new();
        let one = [
            Probes {
                sent: 2,
                answered: 1,
            },
            Probes::default(),
        ];
        for at in [0, 4_999, 5_000, 65_000] {
            let at = Timestamp::from_millis(at);
            Probes::push(&mut buckets, at, one, at.before(Duration::from_secs(60)));
        }
        assert_eq!(buckets.len(), 2, "{buckets:?}");
        let window = Window::default();
        let now = Timestamp::from_millis(66_000);
        let view = |over| {
            window.view(
                now,
                Duration::from_secs(over),
                Timestamp::default(),
                &buckets,
            )
        };
        assert_eq!(
            view(60).probes(Arm::Baseline),
            Probes {
                sent: 4,
                answered: 2
            }
        );
        assert_eq!(
            view(1).probes(Arm::Baseline),
            Probes {
                sent: 2,
                answered: 1
            }
        );
    }
}
