//! Segments of learners: what was counted of each over a span that only grows, and which are left out.
//!
//! A segment whose ceiling is 0 has nobody on canary, so both its arms are left out of every comparison: what it did
//! before neither keeps a trigger breached nor fails a criterion. Never judges and never lowers one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::assign::Ceilings;
use super::name::Arm;
use super::slot::Cell;
use super::verdict::delta;
use super::window::{Counts, Measured, Part, Probes};

/// The name under which segments beyond the bound are counted together.
pub const OTHER_SEGMENT: &str = "other";
/// The longest name told apart, in bytes; a longer one is `other`. It comes from the network and becomes a label, a
/// file's content and a row of a table.
pub const MAX_SEGMENT_LEN: usize = 128;
/// As many as a file may ask for, and the rest. What counts them bounds them; this is for a bound that was lowered.
const MOST: usize = 1_025;

/// Sums of each segment by its name, by `Arm::index`; nobody who failed is named.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentTotals(BTreeMap<Arc<str>, [Cell; 2]>);

/// One segment's sums as something measured.
#[derive(Clone, Copy, Debug)]
pub struct SegmentTotal<'a> {
    arms: &'a [Cell; 2],
    span: Duration,
}

/// Whether a segment is taken off canary, and so out of the comparison.
pub fn is_left_out(ceilings: &Ceilings, segment: &str) -> bool {
    ceilings
        .get(segment)
        .is_some_and(|ceiling| ceiling.is_zero())
}

/// By how much canary's success rate is off baseline's, relative to it; by `Arm::index`. `None` without requests.
pub fn success_delta(arms: [Counts; 2]) -> Option<f64> {
    let success = |counts: Counts| {
        (counts.counted > 0)
            .then(|| counts.counted.saturating_sub(counts.errors) as f64 / counts.counted as f64)
    };
    let [baseline, canary] = arms.map(success);
    Some(delta(canary?, baseline?))
}

// === impl SegmentTotals ===

impl SegmentTotals {
    /// Adds what a part holds of each segment.
    pub fn add_part(&mut self, part: &Part) {
        for (name, arms) in part.segments() {
            let sums = self.entry(name);
            for (sum, arm) in sums.iter_mut().zip(arms) {
                sum.merge_unnamed(arm);
            }
        }
    }

    /// Adds what was counted of each segment, and no latency.
    pub fn count_part(&mut self, part: &Part) {
        for (name, arms) in part.segments() {
            for arm in Arm::ALL {
                self.count(name, arm, Counts::of(&arms[arm.index()]));
            }
        }
    }

    /// Adds what was counted of one segment, and no latency.
    pub fn count(&mut self, name: &Arc<str>, arm: Arm, counts: Counts) {
        counts.add_to(&mut self.entry(name)[arm.index()]);
    }

    /// Takes one segment in as it was saved.
    pub fn insert(&mut self, name: Arc<str>, arms: [Cell; 2]) {
        self.0.insert(name, arms);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &[Cell; 2])> {
        self.0.iter()
    }

    /// Each by itself, with the span of all.
    pub fn measured(&self, span: Duration) -> Vec<(&Arc<str>, SegmentTotal<'_>)> {
        let each = self.0.iter();
        each.map(|(name, arms)| (name, SegmentTotal::new(arms, span)))
            .collect()
    }

    pub fn get(&self, name: &str) -> Option<&[Cell; 2]> {
        self.0.get(name)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn entry(&mut self, name: &Arc<str>) -> &mut [Cell; 2] {
        let is_over = self.0.len() >= MOST && !self.0.contains_key(name);
        let name = if is_over {
            Arc::from(OTHER_SEGMENT)
        } else {
            Arc::clone(name)
        };
        self.0.entry(name).or_default()
    }
}

// === impl SegmentTotal ===

impl<'a> SegmentTotal<'a> {
    pub const fn new(arms: &'a [Cell; 2], span: Duration) -> Self {
        Self { arms, span }
    }
}

impl Measured for SegmentTotal<'_> {
    fn counts(&self, arm: Arm) -> Counts {
        Counts::of(&self.arms[arm.index()])
    }

    fn above(&self, arm: Arm, limit_us: u64) -> u64 {
        self.arms[arm.index()].above(limit_us)
    }

    fn percentile_us(&self, arm: Arm, one_above_in: u64) -> Option<u64> {
        self.arms[arm.index()].latency.percentile_us(one_above_in)
    }

    // Probes ask no segment.
    fn probes(&self, _: Arm) -> Probes {
        Probes::default()
    }

    fn span(&self) -> Duration {
        self.span
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::slot::{CellKey, Slot};
    use crate::rollout::time::Timestamp;
    use crate::rollout::weight::Weight;
    use crate::rollout::window::{Totals, Window};

    const SECOND: Duration = Duration::from_secs(1);

    /// So many canary requests of each segment, all of this latency, with one error of one learner each.
    fn slot(start_ms: u64, segments: &[(&str, u64, u64)]) -> Slot {
        let mut slot = Slot::empty(Timestamp::from_millis(start_ms), SECOND);
        for &(name, counted, ms) in segments {
            let mut cell = Cell {
                counted,
                errors: 1,
                ..Cell::default()
            };
            cell.latency.record(ms * 1000, counted);
            cell.over_limit
                .insert(200_000, if ms > 200 { counted } else { 0 });
            cell.over_edge[3] = counted;
            let learner = crate::rollout::assign::LearnerHash::from_raw(counted);
            cell.failing.insert(learner, 1);
            let key = CellKey {
                epoch: 1,
                arm: Arm::Canary,
                segment: Some(Arc::from(name)),
            };
            slot.cells.insert(key, cell);
        }
        slot
    }

    #[test]
    fn what_is_left_out_later_is_as_if_it_had_been_left_out_at_once() {
        let ceilings = Ceilings::from([(Arc::from("eu"), Weight::ZERO)]);
        let (mut later, mut at_once) = (Window::default(), Window::default());
        let (mut totals, mut without) = (Totals::default(), Totals::default());
        for second in 0..400 {
            let slot = slot(
                second * 1000,
                &[("eu", 5 + second % 3, 300), ("us", 7, 10 + second % 50)],
            );
            let end = Timestamp::from_millis((second + 1) * 1000);
            let keep = Duration::from_secs(3600);
            let (all, rest) = (Part::of(&slot, 1), Part::without(&slot, 1, &ceilings));
            totals.add_part(&all);
            totals.segments.add_part(&all);
            without.add_part(&rest);
            later.push(all, end, keep, None);
            at_once.push(rest, end, keep, None);
        }
        later.leave_out("eu");
        totals.leave_out("eu");
        let now = Timestamp::from_millis(400_000);
        for over in [1, 30, 300] {
            let view = |window: &Window| {
                let view = window.view(now, Duration::from_secs(over), Timestamp::default(), &[]);
                let mut failing = Vec::new();
                let others = view.failing(Arm::Canary, |learner| failing.push(learner));
                failing.sort_unstable();
                failing.dedup();
                (
                    view.counts(Arm::Canary),
                    view.apart(Arm::Canary),
                    view.above(Arm::Canary, 200_000),
                    view.percentile_us(Arm::Canary, 20),
                    failing,
                    others,
                )
            };
            assert_eq!(view(&later), view(&at_once), "over {over} s");
        }
        assert_eq!(totals.counts(Arm::Canary), without.counts(Arm::Canary));
        assert_eq!(totals.apart(Arm::Canary), without.apart(Arm::Canary));
        assert_eq!(totals.cells[1].latency, without.cells[1].latency);
        assert_eq!(totals.cells[1].over_limit, without.cells[1].over_limit);
        assert_eq!(totals.cells[1].over_edge, without.cells[1].over_edge);
    }

    #[test]
    fn a_segments_sums_are_its_cells() {
        let (mut sums, mut whole) = (SegmentTotals::default(), Totals::default());
        for second in 0..300 {
            let slot = slot(second * 1000, &[("eu", 3, 1 + second * 37 % 400)]);
            let part = Part::of(&slot, 1);
            sums.add_part(&part);
            whole.add_part(&part);
        }
        let eu = SegmentTotal::new(sums.get("eu").expect("it was seen"), SECOND);
        assert_eq!(eu.counts(Arm::Canary), whole.counts(Arm::Canary));
        for one_in in [2, 20, 100, 1000] {
            assert_eq!(
                eu.percentile_us(Arm::Canary, one_in),
                whole.percentile_us(Arm::Canary, one_in),
                "one in {one_in}"
            );
        }
        assert_eq!(
            eu.above(Arm::Canary, 200_000),
            whole.above(Arm::Canary, 200_000)
        );
        assert_eq!(eu.percentile_us(Arm::Baseline, 20), None);
    }

    #[test]
    fn more_names_than_any_file_asks_for_are_counted_together() {
        let mut sums = SegmentTotals::default();
        for n in 0..2_000 {
            sums.add_part(&Part::of(&slot(0, &[(&format!("s{n}"), 2, 1)]), 1));
        }
        assert_eq!(sums.len(), MOST + 1);
        let other = sums.get(OTHER_SEGMENT).expect("the rest");
        assert_eq!(other[1].counted, 2 * (2_000 - MOST as u64));
    }
}
