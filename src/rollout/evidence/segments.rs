//! Evidence of each segment by itself, and of everybody but each: who is to blame, and whether the rest is well.
//!
//! gate.md, "Evidence", 5. Every segment has the errors' process of its own learners, and for everybody but him what the
//! processes of errors, of 4xx answers and of limits on failures would say. All of them read the sets of those who
//! failed already that the processes of everybody keep: none is kept by segment, so that a segment costs some hundred bytes.
//! Latency is not told by segment. Lowers nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::block::{Crowd, Sight};
use super::erred::Erred;
use super::{Evidence, PROOF_LEARNERS, Reading};
use crate::rollout::name::Arm;
use crate::rollout::plan::Plan;
use crate::rollout::stats::combine::{Part, ln_sum};
use crate::rollout::stats::compare::{self, BlockCounts};
use crate::rollout::stats::fixed::Steps;
use crate::rollout::stats::{MULTIPLIERS, Onset, ebh};

/// The evidence of every segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segments {
    /// How many share the weight of segments, fixed when the evidence begins; 0 where none are told apart.
    pub most: u64,
    /// In the order in which they were seen first; at most `most`, whoever comes later has no share.
    pub each: Vec<Segment>,
}

/// The evidence of one segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub name: Arc<str>,
    /// Its own errors, canary's against baseline's.
    pub own: Onset,
    pub errors: Others,
    pub client_errors: Others,
    /// Everybody else against each limit, in the order of `Evidence::absolute`. It goes on with those on failures alone.
    pub absolute: Vec<Onset>,
}

/// What a process says of everybody but one segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Others {
    pub onset: Onset,
    /// Canary learners of the segment itself counted as failing, in this epoch and in the previous one.
    pub failing: [u64; 2],
}

/// What one segment's evidence says.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentReading {
    pub segment: Arc<str>,
    pub ln_e: f64,
    /// Canary learners of it counted as failing, over the present and the previous epoch.
    pub failing_learners: u64,
    /// Seconds in which it had learners on both arms.
    pub blocks: u64,
}

/// Learners of one block that had not failed before, and those of them who do now.
pub(super) struct Counted {
    all: BlockCounts,
    /// By the place of the segment.
    each: Vec<BlockCounts>,
}

// === impl Segments ===

impl Segments {
    pub fn new(plan: &Plan) -> Self {
        let tells_apart = plan.identity.segment.is_some();
        Self {
            // Those that are told apart, and the rest as one.
            most: if tells_apart {
                plan.gate.max_segments.saturating_add(1)
            } else {
                0
            },
            each: Vec::new(),
        }
    }

    /// Those that had learners on both arms, as they stand.
    pub fn readings(&self) -> Vec<SegmentReading> {
        let seen = self.each.iter().filter(|segment| segment.own.t > 0);
        seen.map(Segment::reading).collect()
    }

    /// Places of the segments whose null hypotheses fall together at `alpha` (e-BH over those that had learners on both
    /// arms) and that enough learners failed in, the worst first.
    pub fn named(&self, alpha: f64) -> Vec<usize> {
        let seen = |place: &usize| self.each[*place].own.t > 0;
        let places: Vec<usize> = (0..self.each.len()).filter(seen).collect();
        let ln_e = |place: usize| self.each[place].own.ln_e();
        let ln_es: Vec<f64> = places.iter().map(|&place| ln_e(place)).collect();
        let rejected = ebh::rejected(&ln_es, alpha).into_iter();
        let mut named: Vec<usize> = rejected
            .map(|index| places[index])
            .filter(|&place| self.each[place].is_proven())
            .collect();
        named.sort_by(|&a, &b| ln_e(b).total_cmp(&ln_e(a)));
        named
    }

    /// All segments together but one, each with an equal share: of those that enough learners failed in, or of every one.
    pub(super) fn together(&self, but: Option<usize>, proven: bool) -> Option<Reading> {
        let each = self.each.iter().enumerate();
        let counted: Vec<&Segment> = each
            .filter(|(place, segment)| Some(*place) != but && segment.own.t > 0)
            .map(|(_, segment)| segment)
            .filter(|segment| !proven || segment.is_proven())
            .collect();
        let ln_es = counted.iter().map(|segment| segment.own.ln_e());
        let most_failing = counted.iter().map(|segment| segment.failing_learners());
        Some(Reading {
            part: Part::Segments,
            ln_e: ln_sum(ln_es) - (self.most as f64).ln(),
            failing_learners: most_failing.max()?,
            blocks: counted.iter().map(|segment| segment.own.t).max()?,
        })
    }

    pub(super) fn is_told(&self) -> bool {
        self.most > 0
    }

    /// The place of a segment by its name.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.each.iter().position(|segment| &*segment.name == name)
    }

    pub(super) fn begin_errors_epoch(&mut self) {
        self.each.iter_mut().for_each(|one| one.errors.turn());
    }

    pub(super) fn begin_client_errors_epoch(&mut self) {
        let each = self.each.iter_mut();
        each.for_each(|one| one.client_errors.turn());
    }

    pub(super) fn add_errors(&mut self, odds_margin: f64, counted: &Counted) {
        for (segment, mine) in self.each.iter_mut().zip(&counted.each) {
            compare::take_in(&mut segment.own, odds_margin, *mine);
            segment.errors.add(odds_margin, counted.all, *mine);
        }
    }

    pub(super) fn add_client_errors(&mut self, odds_margin: f64, counted: &Counted) {
        for (segment, mine) in self.each.iter_mut().zip(&counted.each) {
            segment.client_errors.add(odds_margin, counted.all, *mine);
        }
    }

    /// A block that counts against a limit, of the process at this place.
    pub(super) fn add_limit(&mut self, place: usize, steps: &Steps, counted: &Counted) {
        for (segment, mine) in self.each.iter_mut().zip(&counted.each) {
            let others = but(counted.all, *mine);
            if let Some(onset) = segment.absolute.get_mut(place)
                && others.canary > 0
            {
                steps.take_in(onset, others.canary_failed, others.canary);
            }
        }
    }
}

// === impl Segment ===

impl Segment {
    /// Seen now for the first time: until now everybody was everybody else.
    fn new(name: Arc<str>, evidence: &Evidence) -> Self {
        let others = |onset: &Onset| Others {
            onset: onset.clone(),
            failing: [0; 2],
        };
        let limits = evidence.absolute.iter();
        Self {
            name,
            own: Onset::new(MULTIPLIERS.len()),
            errors: others(&evidence.errors.onset),
            client_errors: others(&evidence.client_errors.onset),
            absolute: limits.map(|limit| limit.onset.clone()).collect(),
        }
    }

    fn failing_learners(&self) -> u64 {
        self.errors.failing.iter().sum()
    }

    fn is_proven(&self) -> bool {
        self.failing_learners() >= PROOF_LEARNERS
    }

    fn reading(&self) -> SegmentReading {
        SegmentReading {
            segment: Arc::clone(&self.name),
            ln_e: self.own.ln_e(),
            failing_learners: self.failing_learners(),
            blocks: self.own.t,
        }
    }
}

// === impl Others ===

impl Others {
    fn turn(&mut self) {
        self.failing = [0, self.failing[0]];
    }

    fn add(&mut self, odds_margin: f64, all: BlockCounts, mine: BlockCounts) {
        compare::take_in(&mut self.onset, odds_margin, but(all, mine));
        self.failing[0] += mine.canary_failed;
    }
}

// === impl Counted ===

impl Counted {
    /// Before the block is marked in `erred`. `places` has each sight's segment; who is not named is of none.
    pub(super) fn of(
        crowd: &Crowd,
        sights: &[&Sight],
        places: &[Option<usize>],
        segments: usize,
        erred: &Erred,
        failed: impl Fn(&Sight) -> bool,
    ) -> Self {
        let [baseline, canary] = crowd.learners;
        let mut counted = Self {
            all: BlockCounts {
                baseline,
                canary,
                ..BlockCounts::default()
            },
            each: vec![BlockCounts::default(); segments],
        };
        for (sight, place) in sights.iter().zip(places) {
            if !erred.is_fresh(sight) {
                continue;
            }
            let failed = failed(sight);
            count(&mut counted.all, sight.arm, failed);
            if let Some(mine) = place.and_then(|place| counted.each.get_mut(place)) {
                count(mine, sight.arm, failed);
            }
        }
        counted
    }
}

fn count(counts: &mut BlockCounts, arm: Arm, failed: bool) {
    let (seen, failing) = match arm {
        Arm::Baseline => (&mut counts.baseline, &mut counts.baseline_failed),
        Arm::Canary => (&mut counts.canary, &mut counts.canary_failed),
    };
    *seen += 1;
    *failing += u64::from(failed);
}

const fn but(all: BlockCounts, mine: BlockCounts) -> BlockCounts {
    BlockCounts {
        baseline_failed: all.baseline_failed - mine.baseline_failed,
        baseline: all.baseline - mine.baseline,
        canary_failed: all.canary_failed - mine.canary_failed,
        canary: all.canary - mine.canary,
    }
}

// === impl Evidence, of segments ===

impl Evidence {
    /// Forgets a segment and what it did: what was said of everybody but it is from now on said of everybody. Of a further
    /// segment that is said too: what it did until now stays in, which speaks against everybody and for nobody.
    pub fn leave_out(&mut self, name: &str) {
        let Some(place) = self.segments.place(name) else {
            return;
        };
        let left = self.segments.each.remove(place);
        for (track, others) in [
            (&mut self.errors, left.errors),
            (&mut self.client_errors, left.client_errors),
        ] {
            track.onset = others.onset;
            for (failing, mine) in track.erred.failing.iter_mut().zip(others.failing) {
                *failing = failing.saturating_sub(mine);
            }
        }
        for (limit, onset) in self.absolute.iter_mut().zip(left.absolute) {
            if limit.limit.fault.is_failure() {
                limit.onset = onset;
            }
        }
        for segment in &mut self.segments.each {
            segment.errors.onset.clone_from(&self.errors.onset);
            let client_errors = &self.client_errors.onset;
            segment.client_errors.onset.clone_from(client_errors);
            segment.absolute = self.absolute.iter().map(|one| one.onset.clone()).collect();
        }
    }

    /// The segment of each sight, by its place; whoever is new has one from now on.
    pub(super) fn places(&mut self, sights: &[&Sight]) -> Vec<Option<usize>> {
        if !self.segments.is_told() {
            return Vec::new();
        }
        let each = self.segments.each.iter().enumerate();
        let mut known: BTreeMap<Arc<str>, usize> = each
            .map(|(place, segment)| (Arc::clone(&segment.name), place))
            .collect();
        let mut places = Vec::with_capacity(sights.len());
        for sight in sights {
            let place = sight.segment.as_ref().and_then(|name| {
                let found = known.get(name).copied();
                found.or_else(|| {
                    let place = self.learn(name)?;
                    known.insert(Arc::clone(name), place);
                    Some(place)
                })
            });
            places.push(place);
        }
        places
    }

    fn learn(&mut self, name: &Arc<str>) -> Option<usize> {
        let place = self.segments.each.len();
        if place as u64 >= self.segments.most {
            return None;
        }
        let segment = Segment::new(Arc::clone(name), self);
        self.segments.each.push(segment);
        Some(place)
    }
}
