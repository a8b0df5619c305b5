//! Recent time in slots, and totals over longer spans: what was counted, read at a moment you pass.
//!
//! Short windows are exact (parts as drained), longer ones coarser with age, so that ten minutes stay
//! cheap. Counts are kept sparse. Never reads a clock and never judges.

mod counts;
mod part;
mod totals;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::name::Arm;
use super::time::Timestamp;

pub use counts::{Counts, PROBE_BUCKET, ProbeBucket, Probes};
pub use part::Part;
pub use totals::Totals;
pub use view::View;

/// Parts younger than this stay as they were drained, so that a window of a second is exact to the tick.
const FINE: Duration = Duration::from_secs(5);
/// Slots younger than this stay whole seconds; beyond, ten seconds make one.
const SECONDS: Duration = Duration::from_secs(120);
const COARSE_MS: u64 = 10_000;
/// Latency limits whose counts are summed as they come; those of a plan with more are summed when they are asked for.
const SUMMED_LIMITS: usize = 4;

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

/// The recent slots of both arms, without epochs; by segment only where parts tell them apart.
#[derive(Clone, Debug, Default)]
pub struct Window {
    fine: Row,
    seconds: Row,
    coarse: Row,
    /// Of all that was ever taken in.
    sums: Sums,
    /// Latency limits in microseconds, the first few that parts counted: those that `Sums::above` is of.
    limits: [Option<u64>; SUMMED_LIMITS],
}

// In boxes: parts are large, and move from row to row.
type Row = VecDeque<Box<Kept>>;

/// A part, and the sums of all that was taken in before it: a span's sums are the difference of two.
#[derive(Clone, Debug)]
struct Kept {
    part: Part,
    before: Sums,
}

/// Arrays by `Arm::index`.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    counts: [Counts; 2],
    /// Counted requests of segments that are left out of everything else.
    apart: [u64; 2],
    observed: Duration,
    /// Latencies above each of the window's limits.
    above: [[u64; SUMMED_LIMITS]; 2],
}

// === impl Window ===

impl Window {
    /// Takes in one part, and folds and forgets what has grown old at `now`. Parts come in order of
    /// time. What begins before `barrier` is never folded together with what begins later.
    pub fn push(&mut self, part: Part, now: Timestamp, keep: Duration, barrier: Option<Timestamp>) {
        if self.learn_limits(&part) {
            self.sum_again();
        }
        let before = self.sums;
        self.sums.add(&part, &self.limits);
        self.fine.push_back(Box::new(Kept { part, before }));
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
        for row in [&mut self.coarse, &mut self.seconds, &mut self.fine] {
            while row.front().is_some_and(|kept| kept.part.end() <= oldest) {
                row.pop_front();
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a segment out of both arms, as if it had never been in them; it stays among the segments.
    pub fn leave_out(&mut self, segment: &str) {
        for row in [&mut self.coarse, &mut self.seconds, &mut self.fine] {
            row.iter_mut().for_each(|kept| kept.part.leave_out(segment));
        }
        self.sum_again();
    }

    fn sum_again(&mut self) {
        self.sums = Sums::default();
        for row in [&mut self.coarse, &mut self.seconds, &mut self.fine] {
            for kept in row {
                kept.before = self.sums;
                self.sums.add(&kept.part, &self.limits);
            }
        }
    }

    // Answers whether there was one that it did not know and has room for.
    fn learn_limits(&mut self, part: &Part) -> bool {
        if self.limits.iter().all(Option::is_some) {
            return false;
        }
        let mut is_new = false;
        for &limit in part.arms().iter().flat_map(|cell| cell.over_limit.keys()) {
            if !self.limits.contains(&Some(limit))
                && let Some(free) = self.limits.iter_mut().find(|known| known.is_none())
            {
                *free = Some(limit);
                is_new = true;
            }
        }
        is_new
    }

    fn place_of_limit(&self, limit_us: u64) -> Option<usize> {
        self.limits
            .iter()
            .position(|&known| known == Some(limit_us))
    }

    /// Everything that overlaps `(now - over, now]` and did not begin before `since`.
    pub fn view<'a>(
        &'a self,
        now: Timestamp,
        over: Duration,
        since: Timestamp,
        probes: &'a [ProbeBucket],
    ) -> View<'a> {
        View::new(self, now.before(over), since, probes)
    }

    fn parts_of(&self, after: Timestamp, since: Timestamp) -> impl Iterator<Item = &Part> {
        self.kept_of(after, since).map(|kept| &kept.part)
    }

    fn sums_of(&self, after: Timestamp, since: Timestamp) -> Sums {
        match self.kept_of(after, since).next() {
            Some(first) => self.sums.since(&first.before),
            None => Sums::default(),
        }
    }

    fn kept_of(&self, after: Timestamp, since: Timestamp) -> impl Iterator<Item = &Kept> {
        let is_out = move |kept: &Kept| kept.part.end() <= after || kept.part.start() < since;
        // Mostly a row is out or in as a whole.
        let from = move |row: &Row| match (row.front(), row.back()) {
            (_, Some(last)) if is_out(last) => row.len(),
            (Some(first), _) if !is_out(first) => 0,
            _ => row.partition_point(|kept| is_out(kept)),
        };
        let rows = [&self.coarse, &self.seconds, &self.fine].into_iter();
        rows.flat_map(move |row| row.range(from(row)..))
            .map(|kept| &**kept)
    }
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, part: &Part, limits: &[Option<u64>; SUMMED_LIMITS]) {
        for (sum, cell) in self.counts.iter_mut().zip(part.arms()) {
            sum.add(Counts::of(cell));
        }
        for (sums, cell) in self.above.iter_mut().zip(part.arms()) {
            for (sum, limit) in sums.iter_mut().zip(limits) {
                *sum += limit.map_or(0, |limit| cell.above(limit));
            }
        }
        add_each(&mut self.apart, part.apart());
        self.observed += part.observed();
    }

    fn since(mut self, before: &Self) -> Self {
        for (sum, less) in self.counts.iter_mut().zip(before.counts) {
            sum.take_away(less);
        }
        for (sum, less) in self.apart.iter_mut().zip(before.apart) {
            *sum = sum.saturating_sub(less);
        }
        self.observed = self.observed.saturating_sub(before.observed);
        for (sums, less) in self.above.iter_mut().zip(before.above) {
            for (sum, less) in sums.iter_mut().zip(less) {
                *sum = sum.saturating_sub(less);
            }
        }
        self
    }
}

fn add_each(sums: &mut [u64; 2], more: [u64; 2]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

// Moves the parts that ended by `oldest` into the coarser row, joining those of one bucket.
fn fold(
    from: &mut Row,
    into: &mut Row,
    oldest: Timestamp,
    bucket_ms: u64,
    barrier: Option<Timestamp>,
) {
    let bucket = |kept: &Kept| {
        let start = kept.part.start();
        let after_barrier = barrier.is_some_and(|barrier| start >= barrier);
        (start.as_millis() / bucket_ms, after_barrier)
    };
    while from.front().is_some_and(|kept| kept.part.end() <= oldest) {
        let Some(kept) = from.pop_front() else { return };
        match into.back_mut().filter(|last| bucket(last) == bucket(&kept)) {
            Some(last) => last.part.merge(&kept.part),
            None => into.push_back(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assign::LearnerHash;
    use super::super::slot::{Cell, CellKey, Slot};
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
        cell.latency.record(latency_ms * 1000, 1);
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
        assert_eq!(*other_epoch.arm(Arm::Canary), Cell::default());

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
