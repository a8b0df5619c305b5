//! Evidence: what may be looked at after every tick without ever raising more false alarms than was agreed.
//!
//! Owns the e-processes of one run: what each is fed with, and what they say together (gate.md, "Evidence", 1 to 6).
//! The formulas are in `stats`. Everything here is plain data that is saved and goes on bit for bit. Knows no phase and
//! moves no weight: the gate decides which seconds are evidence, and what an alarm leads to.
//!
//! Reading order: `block` (one second of learners), `erred` (who failed already), `bursts` (the seconds that said most), `latency` and `absolute` (the
//! processes that are more than one comparison), `segments` (who is to blame); `shares` asks another question (8).

mod absolute;
mod block;
mod bursts;
mod erred;
mod latency;
mod segments;
mod shares;

pub use absolute::{Absolute, Fault, Limit, Recent};
pub use block::{Assigned, Block, Crowd, First, Requests, RequestsBy, Sight};
pub use bursts::Bursts;
pub use erred::{Erred, Marks, Minute, PAGE_PLACES, PAGE_WORDS, PLACES, Page};
pub use latency::{Edge, Latency};
pub use segments::{Others, Segment, SegmentReading, Segments};
pub use shares::{MAX_SAMPLED, Sampled, Shares, place_of};

use super::assign::Ceilings;
use super::condition::Regression;
use super::name::Arm;
use super::plan::Plan;
use super::segments::is_left_out;
use super::stats::combine::{Part, ln_weighted_sum};
use super::stats::compare::{self, BlockCounts};
use super::stats::{MULTIPLIERS, Onset};
use super::time::{Now, Timestamp};
use segments::Counted;

/// A single learner's failures are no release fault, whatever their evidence: so many must be counted as failing.
pub const PROOF_LEARNERS: u64 = 3;

/// All evidence of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    pub began: Now,
    /// How often it was begun anew after an alarm: alpha was spent so often more.
    pub restarts: u64,
    /// Seconds taken in.
    pub blocks: u64,
    /// Canary learners seen, each once a block. 0 where nothing identifies learners.
    pub learners: u64,
    pub errors: Track,
    pub client_errors: Track,
    pub latency: Latency,
    pub absolute: Vec<Absolute>,
    pub segments: Segments,
    /// By request and not by learner: shown, and all there is where nothing identifies learners.
    pub requests: Onset,
}

/// Canary against baseline in one way of failing.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    pub onset: Onset,
    pub erred: Erred,
}

/// What one process says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub part: Part,
    pub ln_e: f64,
    /// Canary learners counted as failing, over the present and the previous epoch.
    pub failing_learners: u64,
    /// Seconds that could be judged.
    pub blocks: u64,
}

// === impl Evidence ===

impl Evidence {
    /// Nothing learnt yet. The limits of the plan's triggers are fixed now, so that their weights are.
    pub fn new(began: Now, plan: &Plan) -> Self {
        Self {
            began,
            restarts: 0,
            blocks: 0,
            learners: 0,
            errors: Track::new(),
            client_errors: Track::new(),
            latency: Latency::default(),
            absolute: Limit::of_plan(plan)
                .into_iter()
                .map(Absolute::new)
                .collect(),
            segments: Segments::new(plan),
            requests: Onset::new(MULTIPLIERS.len()),
        }
    }

    /// Takes in one second: of it what began under `epoch` or later, without the segments whose ceiling is 0. `limits` are
    /// those of the stage that it lies in.
    pub fn add(
        &mut self,
        block: &Block,
        epoch: u64,
        odds_margin: f64,
        limits: &[Limit],
        ceilings: &Ceilings,
    ) {
        let start = block.start;
        let is_in = |sight: &&Sight| match &sight.segment {
            Some(name) => !is_left_out(ceilings, name),
            None => true,
        };
        let mut sights: Vec<&Sight> = Vec::with_capacity(block.sights_len());
        sights.extend(block.sights(epoch).filter(is_in));
        let crowd = block.crowd(epoch);
        let on_canary = sights.iter().filter(|sight| sight.arm == Arm::Canary);
        self.blocks += 1;
        self.learners += on_canary.count() as u64 + crowd.learners[Arm::Canary.index()];
        // Who failed before this block, so before the errors' process marks who fails in it.
        self.turn(start);
        let places = self.places(&sights);
        let segments = self.segments.each.len();
        let counted = |erred: &Erred, failed: &dyn Fn(&Sight) -> bool| {
            (segments > 0).then(|| Counted::of(&crowd, &sights, &places, segments, erred, failed))
        };
        for (place, absolute) in self.absolute.iter_mut().enumerate() {
            if !limits.contains(&absolute.limit) {
                continue;
            }
            let fault = absolute.limit.fault;
            let is_judged = absolute.add_beside(&crowd, start, &sights, &self.errors.erred);
            if is_judged && fault.is_failure() {
                let failed = |sight: &Sight| fault.of(sight.first) == Some(true);
                if let Some(counted) = counted(&self.errors.erred, &failed) {
                    self.segments.add_limit(place, &absolute.steps, &counted);
                }
            }
        }
        if let Some(counted) = counted(&self.errors.erred, &|sight| sight.error) {
            self.segments.add_errors(odds_margin, &counted);
        }
        if let Some(counted) = counted(&self.client_errors.erred, &|sight| sight.client_error) {
            self.segments.add_client_errors(odds_margin, &counted);
        }
        self.errors
            .add_beside(&crowd, start, &sights, odds_margin, |sight| {
                Some(sight.error)
            });
        self.client_errors
            .add_beside(&crowd, start, &sights, odds_margin, |sight| {
                Some(sight.client_error)
            });
        self.latency.add_beside(&crowd, start, &sights, odds_margin);
        self.add_requests(block.requests(epoch, ceilings), odds_margin);
    }

    /// What each process says, in order of `Part::ALL`; those that a plan lacks or that cannot judge yet are
    /// left out.
    pub fn readings(&self) -> Vec<Reading> {
        self.readings_but(None)
    }

    /// ln (w E) of what a condition names, over every process there is; `-inf` for none.
    pub fn ln_weighted(&self, which: Regression) -> f64 {
        self.ln_weighted_but(which, None)
    }

    /// The same without the segment at this place.
    pub fn ln_weighted_but(&self, which: Regression, segment: Option<usize>) -> f64 {
        weighted_sum(which, self.readings_but(segment).into_iter())
    }

    /// Whether an alarm stands: the sum over the proven processes reaches a limit, in nats.
    pub fn alarms(&self, which: Regression, limit: f64) -> bool {
        // The weights add up to at most 1, and so the sum to no more than its largest term.
        self.highest_ln_e() >= limit && self.ln_proven(which) >= limit
    }

    // Of every process, and every part of one.
    fn highest_ln_e(&self) -> f64 {
        let tracks = [self.errors.ln_e(), self.client_errors.ln_e()];
        let edges = self.latency.edges.iter().map(|edge| edge.track.ln_e());
        let limits = self.absolute.iter().map(|limit| limit.onset.ln_e());
        let segments = self.segments.each.iter().map(|segment| segment.own.ln_e());
        let all = tracks
            .into_iter()
            .chain(edges)
            .chain(limits)
            .chain(segments);
        all.fold(f64::NEG_INFINITY, f64::max)
    }

    /// The same over those processes alone that enough learners failed in: what an alarm needs.
    pub fn ln_proven(&self, which: Regression) -> f64 {
        self.ln_proven_but(which, None)
    }

    /// The same without the segment at this place: what would be left of an alarm if it were left out.
    pub fn ln_proven_but(&self, which: Regression, segment: Option<usize>) -> f64 {
        let proven = |reading: &Reading| reading.failing_learners >= PROOF_LEARNERS;
        let readings = self.readings_but(segment).into_iter();
        let whole = readings.filter(|reading| reading.part != Part::Segments);
        let segments = self.segments.together(segment, true);
        weighted_sum(
            which,
            whole
                .map(|reading| self.without_bursts(reading))
                .filter(proven)
                .chain(segments),
        )
    }

    // Slowness without the seconds that said most: see `bursts`.
    fn without_bursts(&self, reading: Reading) -> Reading {
        let bursts = match reading.part {
            Part::Latency => self.latency.bursts,
            Part::Absolute => self.bursts_of_limits(),
            Part::Errors | Part::ClientErrors | Part::Segments => return reading,
        };
        Reading {
            ln_e: bursts.ln_without(reading.ln_e),
            ..reading
        }
    }

    // Of the limit that says most, where it is one of latency.
    fn bursts_of_limits(&self) -> Bursts {
        let onsets: Vec<&Onset> = self.absolute.iter().map(|one| &one.onset).collect();
        let strongest = strongest_of(&onsets).and_then(|(place, _)| self.absolute.get(place));
        let slow = strongest.filter(|limit| !limit.limit.fault.is_failure());
        slow.map(|limit| limit.bursts).unwrap_or_default()
    }

    /// The process that says most of those that a condition names.
    pub fn strongest(&self, which: Regression) -> Option<Reading> {
        let mut named = self
            .readings()
            .into_iter()
            .filter(|reading| names(which, reading.part));
        let first = named.next()?;
        Some(named.fold(first, |most, reading| {
            if reading.ln_weighted() > most.ln_weighted() {
                reading
            } else {
                most
            }
        }))
    }

    /// ln (w E) by request, of errors; where nothing identifies learners the only word there is.
    pub fn ln_by_request(&self) -> f64 {
        Part::Errors.ln_weighted(self.requests.ln_e())
    }

    fn turn(&mut self, start: Timestamp) {
        if self.errors.erred.turn(start) {
            self.segments.begin_errors_epoch();
        }
        if self.client_errors.erred.turn(start) {
            self.segments.begin_client_errors_epoch();
        }
    }

    // Of everybody, or of everybody but one segment.
    fn readings_but(&self, segment: Option<usize>) -> Vec<Reading> {
        let reading = |part: Part| self.reading(part, segment);
        Part::ALL.into_iter().filter_map(reading).collect()
    }

    fn reading(&self, part: Part, but: Option<usize>) -> Option<Reading> {
        let of = |onset: &Onset, ln_e: f64, failing_learners: u64| Reading {
            part,
            ln_e,
            failing_learners,
            blocks: onset.t,
        };
        let of_track = |track: &Track, others: Option<&Others>| match others {
            Some(Others { onset, failing }) => {
                let left = track
                    .erred
                    .failing_learners()
                    .saturating_sub(failing.iter().sum());
                of(onset, onset.ln_e(), left)
            }
            None => of(&track.onset, track.ln_e(), track.erred.failing_learners()),
        };
        let segment = but.and_then(|place| self.segments.each.get(place));
        match part {
            Part::Errors => Some(of_track(&self.errors, segment.map(|one| &one.errors))),
            Part::ClientErrors => Some(of_track(
                &self.client_errors,
                segment.map(|one| &one.client_errors),
            )),
            Part::Latency => {
                let (ln_e, strongest) = (self.latency.ln_e()?, self.latency.strongest()?);
                let track = &strongest.track;
                Some(of(&track.onset, ln_e, track.erred.failing_learners()))
            }
            Part::Absolute => {
                let onsets = self.limits_but(segment);
                let ln_es: Vec<f64> = onsets.iter().map(|onset| onset.ln_e()).collect();
                let (place, strongest) = strongest_of(&onsets)?;
                let limit = self.absolute.get(place)?;
                let failing = match limit.limit.fault.is_failure() {
                    true => self.reading(Part::Errors, but)?.failing_learners,
                    false => limit.erred.failing_learners(),
                };
                Some(of(
                    strongest,
                    super::stats::combine::ln_mean(&ln_es),
                    failing,
                ))
            }
            Part::Segments => self.segments.together(but, false),
        }
    }

    fn limits_but<'a>(&'a self, segment: Option<&'a Segment>) -> Vec<&'a Onset> {
        let limits = self.absolute.iter().enumerate();
        limits
            .map(|(place, limit)| match segment {
                Some(segment) if limit.limit.fault.is_failure() => {
                    segment.absolute.get(place).unwrap_or(&limit.onset)
                }
                Some(_) | None => &limit.onset,
            })
            .collect()
    }

    fn add_requests(&mut self, requests: [Requests; 2], odds_margin: f64) {
        let [baseline, canary] = requests;
        let counts = BlockCounts {
            baseline_failed: baseline.errors,
            baseline: baseline.counted,
            canary_failed: canary.errors,
            canary: canary.counted,
        };
        compare::take_in(&mut self.requests, odds_margin, counts);
    }
}

// === impl Track ===

impl Track {
    pub fn new() -> Self {
        Self {
            onset: Onset::new(MULTIPLIERS.len()),
            erred: Erred::default(),
        }
    }

    pub fn ln_e(&self) -> f64 {
        self.onset.ln_e()
    }

    // A block in which nobody fails. Answers whether it was taken in: not where somebody had failed before.
    fn add_well(&mut self, start: Timestamp, learners: [u64; 2], odds_margin: f64) -> bool {
        self.erred.turn(start);
        let counts = self.erred.count_well(learners);
        if let Some(counts) = counts {
            compare::take_in(&mut self.onset, odds_margin, counts);
        }
        counts.is_some()
    }

    fn add_beside(
        &mut self,
        crowd: &Crowd,
        start: Timestamp,
        sights: &[&Sight],
        odds_margin: f64,
        failed: impl Fn(&Sight) -> Option<bool>,
    ) {
        self.erred.turn(start);
        let counts = self
            .erred
            .count_beside(crowd, sights.iter().copied(), failed);
        compare::take_in(&mut self.onset, odds_margin, counts);
    }
}

impl Default for Track {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Reading ===

impl Reading {
    pub fn ln_weighted(&self) -> f64 {
        self.part.ln_weighted(self.ln_e)
    }
}

// The onset that says most, with its place; the first of equal ones.
fn strongest_of<'a>(onsets: &[&'a Onset]) -> Option<(usize, &'a Onset)> {
    let mut each = onsets.iter().copied().enumerate();
    let first = each.next()?;
    Some(each.fold(first, |most, one| {
        if one.1.ln_e() > most.1.ln_e() {
            one
        } else {
            most
        }
    }))
}

fn weighted_sum(which: Regression, readings: impl Iterator<Item = Reading>) -> f64 {
    let named = readings.filter(|reading| names(which, reading.part));
    let ln_es: Vec<(Part, f64)> = named.map(|reading| (reading.part, reading.ln_e)).collect();
    ln_weighted_sum(&ln_es)
}

const fn names(which: Regression, part: Part) -> bool {
    match which {
        Regression::Errors => matches!(part, Part::Errors),
        Regression::ClientErrors => matches!(part, Part::ClientErrors),
        Regression::Latency => matches!(part, Part::Latency),
        Regression::Any => true,
    }
}
