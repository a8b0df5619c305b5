//! Business results of single learners: credited to the arm that a learner's hash stood in, summed by groups of learners.
//!
//! Owns the sums, the ids that were counted, and the history of splits that a late result is credited by. One learner
//! is in one group for ever, so that his many results are one voice in the interval. Judges nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::assign::{Ask, LearnerHash, Salt, Split};
use super::name::{Arm, SignalName};
pub use super::stats::ratio_interval::GROUPS;
use super::stats::ratio_interval::{self, GROUPS_NEEDED, GroupTotal, ratio_interval};
use super::time::{Timestamp, format_duration};
use super::weight::Weight;

/// The interval of an impact holds in 95 % of all runs, at all looks together.
const ALPHA: f64 = 0.05;
/// The ids of so many results are remembered: one that comes again within them is counted once.
pub const IDS_REMEMBERED: usize = 10_000;
/// A result may come so late.
pub const LATEST: Duration = Duration::from_secs(24 * 3600);
/// Changes of the split that are remembered for late results.
const SPLITS_REMEMBERED: usize = 256;

/// A result on its way to its arm.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub learner: &'a [u8],
    /// Where ceilings are in force, what tells which one is the learner's.
    pub segment: Option<&'a str>,
    /// When it was.
    pub at: Timestamp,
}

/// A result that is to be counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Credited {
    /// Of the outcome: `revenue`.
    pub name: SignalName,
    pub arm: Arm,
    pub learner: LearnerHash,
    pub value: f64,
    /// A hash of the id that its author gave it.
    pub id: Option<u64>,
}

/// Why a result is not credited to an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncredited {
    NoRun,
    BeforeTheRun,
    AfterTheRun,
    TooLate,
    /// Pinned learners enter no figure of an arm.
    Pinned,
    /// Ceilings differ by segment, and nothing says the learner's.
    NeedsSegment,
}

/// The sums of one outcome: by `Arm::index`, then by group.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums(pub [Box<[Group]>; 2]);

/// Results of the learners of one group on one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Group {
    pub count: u64,
    pub sum: f64,
}

/// All outcomes of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    pub sums: BTreeMap<SignalName, Sums>,
    pub ids: Ids,
}

/// Ids that were counted, as hashes, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    order: VecDeque<u64>,
    known: BTreeSet<u64>,
}

/// A split as it stood from a moment on, without pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastSplit {
    pub from: Timestamp,
    pub weight: Weight,
    pub closed: bool,
    pub ceilings: BTreeMap<Arc<str>, Weight>,
}

// === impl PastSplit ===

impl PastSplit {
    /// Remembers a split if it differs from the last, and forgets those that no late result can need.
    pub fn note(history: &mut VecDeque<Self>, now: Timestamp, split: &Split) {
        let same = |last: &Self| {
            (last.weight, last.closed) == (split.weight, split.closed)
                && last.ceilings == split.ceilings
        };
        if !history.back().is_some_and(same) {
            history.push_back(Self {
                from: now,
                weight: split.weight,
                closed: split.closed,
                ceilings: split.ceilings.clone(),
            });
        }
        let oldest = now.before(LATEST);
        let unneeded = |history: &VecDeque<Self>| {
            history.len() > SPLITS_REMEMBERED
                || history.get(1).is_some_and(|next| next.from <= oldest)
        };
        while unneeded(history) {
            history.pop_front();
        }
    }

    /// The arm that a learner's hash stood in at a moment.
    pub fn arm(
        history: &VecDeque<Self>,
        hash: LearnerHash,
        asked: &Asked<'_>,
    ) -> Result<Arm, Uncredited> {
        let then = history.iter().rev().find(|past| past.from <= asked.at);
        let then = then.ok_or(Uncredited::TooLate)?;
        let split = Split {
            epoch: 0,
            weight: then.weight,
            closed: then.closed,
            ceilings: then.ceilings.clone(),
            pins: Arc::default(),
        };
        let arm = |segment: Option<&str>| {
            let ask = Ask {
                learner: None,
                hash: Some(hash),
                forced: None,
                segment,
            };
            split.assign(ask).arm
        };
        if asked.segment.is_some() {
            return Ok(arm(asked.segment));
        }
        let open = arm(None);
        let elsewhere = then
            .ceilings
            .keys()
            .any(|segment| arm(Some(segment)) != open);
        if elsewhere {
            Err(Uncredited::NeedsSegment)
        } else {
            Ok(open)
        }
    }
}

// === impl Outcomes ===

impl Outcomes {
    /// Counts a result; false where its id was counted before.
    pub fn count(&mut self, credited: &Credited) -> bool {
        if credited.id.is_some_and(|id| !self.ids.insert(id)) {
            return false;
        }
        let sums = self.sums.entry(credited.name).or_default();
        let group = &mut sums.0[credited.arm.index()][group_of(credited.learner)];
        group.count += 1;
        group.sum += credited.value;
        true
    }
}

/// The learner's group, by the low bits of his hash: his arm is read from the high ones.
pub const fn group_of(learner: LearnerHash) -> usize {
    (learner.raw() % GROUPS as u64) as usize
}

/// An id as it is remembered.
pub fn id_hash(id: &str) -> u64 {
    Salt::new("outcome").hash(id.as_bytes()).raw()
}

// === impl Ids ===

impl Ids {
    pub fn contains(&self, id: u64) -> bool {
        self.known.contains(&id)
    }

    /// False where it is known already.
    pub fn insert(&mut self, id: u64) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > IDS_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u64> {
        self.order.iter().copied()
    }
}

// === impl Sums ===

impl Default for Sums {
    fn default() -> Self {
        let empty = || vec![Group::default(); GROUPS].into_boxed_slice();
        Self([empty(), empty()])
    }
}

impl Sums {
    /// Results counted on an arm.
    pub fn counted(&self, arm: Arm) -> u64 {
        self.0[arm.index()].iter().map(|group| group.count).sum()
    }

    /// The mean of an arm's results; `None` without any.
    pub fn mean(&self, arm: Arm) -> Option<f64> {
        let sum: f64 = self.0[arm.index()].iter().map(|group| group.sum).sum();
        let counted = self.counted(arm);
        (counted > 0).then(|| sum / counted as f64)
    }

    /// Mean on canary / mean on baseline - 1; `None` where baseline's mean is nothing to compare with.
    pub fn impact(&self) -> Option<f64> {
        let (canary, baseline) = (self.mean(Arm::Canary)?, self.mean(Arm::Baseline)?);
        (baseline > 0.0).then(|| canary / baseline - 1.0)
    }

    /// The 95 % interval of the impact that holds at all times together; `None` while there are too few results.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let [baseline, canary] = &self.0;
        let total = |group: &Group| GroupTotal {
            learners: group.count,
            sum: group.sum,
        };
        let both = baseline
            .iter()
            .zip(canary)
            .map(|(baseline, canary)| ratio_interval::Group {
                baseline: total(baseline),
                canary: total(canary),
            });
        let found = ratio_interval(&both.collect::<Vec<_>>(), ALPHA)?;
        Some((found.interval.lower, found.interval.upper))
    }

    /// What is missing for an interval, in numbers.
    pub fn lack(&self, outcome: SignalName) -> String {
        let lacking: Vec<String> = Arm::ALL
            .into_iter()
            .filter(|&arm| self.groups(arm) < GROUPS_NEEDED)
            .map(|arm| {
                format!(
                    "outcomes {outcome} of {} of {GROUPS_NEEDED} groups of learners on {arm}",
                    self.groups(arm)
                )
            })
            .collect();
        match lacking.is_empty() {
            true => format!("the mean of {outcome} on baseline is not clearly above 0"),
            false => lacking.join("; "),
        }
    }

    /// Groups of an arm whose results are more than nothing.
    pub fn groups(&self, arm: Arm) -> usize {
        let filled = self.0[arm.index()].iter().filter(|group| group.sum != 0.0);
        filled.count()
    }
}

// === impl Uncredited ===

impl std::fmt::Display for Uncredited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRun => f.write_str("no run was started"),
            Self::BeforeTheRun => f.write_str("it was before the run began"),
            Self::AfterTheRun => f.write_str("it was after the run ended"),
            Self::TooLate => write!(
                f,
                "too late: which arm the learner stood in is remembered for {} and {SPLITS_REMEMBERED} changes of the weight",
                format_duration(LATEST)
            ),
            Self::Pinned => f.write_str("the learner is pinned, so he counts for no arm"),
            Self::NeedsSegment => {
                f.write_str("ceilings are in force: the learner's segment is needed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    fn split(weight: &str) -> Split {
        Split {
            weight: Weight::parse(weight).expect(weight),
            closed: false,
            ..Split::baseline_only()
        }
    }

    /// A hash of this bucket.
    fn bucket(ppm: u64) -> LearnerHash {
        LearnerHash::from_raw((u64::MAX / 1_000_000 + 1) * ppm + 12_345)
    }

    fn arm(
        history: &VecDeque<PastSplit>,
        ppm: u64,
        s: u64,
        segment: Option<&str>,
    ) -> Result<Arm, Uncredited> {
        let asked = Asked {
            learner: b"",
            segment,
            at: at(s),
        };
        PastSplit::arm(history, bucket(ppm), &asked)
    }

    #[test]
    fn a_late_result_goes_to_the_arm_of_its_time() {
        let mut history = VecDeque::new();
        PastSplit::note(&mut history, at(10), &Split::baseline_only());
        PastSplit::note(&mut history, at(20), &split("1%"));
        PastSplit::note(&mut history, at(25), &split("1%"));
        PastSplit::note(&mut history, at(30), &split("10%"));
        assert_eq!(history.len(), 3);
        let check = |s, expected| assert_eq!(arm(&history, 50_000, s, None), expected, "at {s} s");
        check(9, Err(Uncredited::TooLate));
        check(10, Ok(Arm::Baseline));
        check(20, Ok(Arm::Baseline));
        check(29, Ok(Arm::Baseline));
        check(30, Ok(Arm::Canary));
        assert_eq!(arm(&history, 9_999, 20, None), Ok(Arm::Canary));
        assert_eq!(arm(&history, 10_000, 20, None), Ok(Arm::Baseline));
    }

    #[test]
    fn a_ceiling_asks_for_the_segment_only_where_it_matters() {
        let mut history = VecDeque::new();
        let mut lowered = split("10%");
        lowered.ceilings.insert(Arc::from("eu"), Weight::ZERO);
        PastSplit::note(&mut history, at(10), &lowered);
        assert_eq!(
            arm(&history, 50_000, 10, None),
            Err(Uncredited::NeedsSegment)
        );
        assert_eq!(arm(&history, 50_000, 10, Some("eu")), Ok(Arm::Baseline));
        assert_eq!(arm(&history, 50_000, 10, Some("us")), Ok(Arm::Canary));
        assert_eq!(arm(&history, 500_000, 10, None), Ok(Arm::Baseline));
    }

    #[test]
    fn the_history_of_splits_has_a_bound() {
        let mut history = VecDeque::new();
        for n in 0..1000 {
            PastSplit::note(
                &mut history,
                at(n),
                &split(if n % 2 == 0 { "1%" } else { "2%" }),
            );
        }
        assert_eq!(history.len(), SPLITS_REMEMBERED);
        PastSplit::note(&mut history, at(999 + 24 * 3600), &split("3%"));
        let froms: Vec<u64> = history.iter().map(|past| past.from.second()).collect();
        assert_eq!(froms, [999, 999 + 24 * 3600]);
    }

    #[test]
    fn an_id_counts_once_within_the_ids_remembered() {
        let mut outcomes = Outcomes::default();
        let result = |id| Credited {
            name: SignalName::parse("revenue").expect("a name"),
            arm: Arm::Canary,
            learner: bucket(5),
            value: 2.0,
            id,
        };
        assert!(outcomes.count(&result(Some(7))) && !outcomes.count(&result(Some(7))));
        assert!(outcomes.count(&result(None)) && outcomes.count(&result(None)));
        for id in 0..IDS_REMEMBERED as u64 {
            outcomes.count(&result(Some(1_000_000 + id)));
        }
        assert_eq!(outcomes.ids.iter().len(), IDS_REMEMBERED);
        assert!(outcomes.count(&result(Some(7))), "forgotten by now");
    }

    #[test]
    fn the_impact_is_the_ratio_of_the_means() {
        let mut sums = Sums::default();
        assert_eq!((sums.impact(), sums.mean(Arm::Canary)), (None, None));
        let mut put =
            |arm: Arm, group: usize, count, sum| sums.0[arm.index()][group] = Group { count, sum };
        put(Arm::Baseline, 0, 3, 30.0);
        put(Arm::Baseline, 9, 1, 2.0);
        put(Arm::Canary, 9, 2, 12.0);
        // 32 / 4 = 8 on baseline, 12 / 2 = 6 on canary.
        assert_eq!(sums.impact(), Some(-0.25));
        assert_eq!(
            (sums.counted(Arm::Baseline), sums.groups(Arm::Baseline)),
            (4, 2)
        );
    }
}
