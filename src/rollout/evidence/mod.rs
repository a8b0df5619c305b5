//! Evidence: what may be looked at after every tick without ever raising more false alarms than was agreed.
//!
//! Owns the e-processes of one run: what each is fed with, and what they say together (gate.md, "Evidence", 1 to 6).
//! The formulas are in `stats`. Everything here is plain data that is saved and goes on bit for bit. Knows no phase and
//! moves no weight: the gate decides which seconds are evidence, and what an alarm leads to.
//!
//! Reading order: `block` (one second of learners), `erred` (who failed already), `latency` and `absolute` (the
//! processes that are more than one comparison).

mod absolute;
mod block;
mod erred;
mod latency;

pub use absolute::{Absolute, Fault, Limit, Recent};
pub use block::{Block, First, Requests, Sight};
pub use erred::{Erred, Marks, Minute, PAGE_PLACES, PAGE_WORDS, PLACES, Page};
pub use latency::{Edge, Latency};

use super::condition::Regression;
use super::name::Arm;
use super::plan::Plan;
use super::stats::combine::{Part, ln_weighted_sum};
use super::stats::compare::{self, BlockCounts};
use super::stats::{MULTIPLIERS, Onset};
use super::time::{Now, Timestamp};

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
            requests: Onset::new(MULTIPLIERS.len()),
        }
    }

    /// Takes in one second: of it what began under `epoch` or later. `limits` are those of the stage that it
    /// lies in.
    pub fn add(&mut self, block: &Block, epoch: u64, odds_margin: f64, limits: &[Limit]) {
        let start = block.start;
        let sights: Vec<&Sight> = block.sights(epoch).collect();
        let on_canary = sights.iter().filter(|sight| sight.arm == Arm::Canary);
        self.blocks += 1;
        self.learners += on_canary.count() as u64;
        // Who failed before this block, so before the errors' process marks who fails in it.
        self.errors.erred.turn(start);
        for absolute in &mut self.absolute {
            if limits.contains(&absolute.limit) {
                absolute.add(start, &sights, &self.errors.erred);
            }
        }
        self.errors
            .add(start, &sights, odds_margin, |sight| Some(sight.error));
        self.client_errors
            .add(start, &sights, odds_margin, |sight| {
                Some(sight.client_error)
            });
        self.latency.add(start, &sights, odds_margin);
        self.add_requests(block.requests(epoch), odds_margin);
    }

    /// What each process says, in order of `Part::ALL`; those that a plan lacks or that cannot judge yet are
    /// left out.
    pub fn readings(&self) -> Vec<Reading> {
        let reading = |part: Part| self.reading(part);
        Part::ALL.into_iter().filter_map(reading).collect()
    }

    /// ln (w E) of what a condition names, over every process there is; `-inf` for none.
    pub fn ln_weighted(&self, which: Regression) -> f64 {
        weighted_sum(which, self.readings().into_iter())
    }

    /// The same over those processes alone that enough learners failed in: what an alarm needs.
    pub fn ln_proven(&self, which: Regression) -> f64 {
        let proven = |reading: &Reading| reading.failing_learners >= PROOF_LEARNERS;
        weighted_sum(which, self.readings().into_iter().filter(proven))
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

    fn reading(&self, part: Part) -> Option<Reading> {
        let of = |onset: &Onset, ln_e: f64, failing_learners: u64| Reading {
            part,
            ln_e,
            failing_learners,
            blocks: onset.t,
        };
        let of_track =
            |track: &Track| of(&track.onset, track.ln_e(), track.erred.failing_learners());
        match part {
            Part::Errors => Some(of_track(&self.errors)),
            Part::ClientErrors => Some(of_track(&self.client_errors)),
            Part::Latency => {
                let (ln_e, strongest) = (self.latency.ln_e()?, self.latency.strongest()?);
                let track = &strongest.track;
                Some(of(&track.onset, ln_e, track.erred.failing_learners()))
            }
            Part::Absolute => {
                let ln_es: Vec<f64> = self.absolute.iter().map(|one| one.onset.ln_e()).collect();
                let strongest = self.strongest_limit()?;
                let erred = match strongest.limit.fault {
                    Fault::Error | Fault::Unavailable => &self.errors.erred,
                    Fault::Slower(_) => &strongest.erred,
                };
                let ln_e = super::stats::combine::ln_mean(&ln_es);
                Some(of(&strongest.onset, ln_e, erred.failing_learners()))
            }
            Part::Segments => None,
        }
    }

    fn strongest_limit(&self) -> Option<&Absolute> {
        let mut limits = self.absolute.iter();
        let first = limits.next()?;
        Some(limits.fold(first, |most, one| {
            if one.onset.ln_e() > most.onset.ln_e() {
                one
            } else {
                most
            }
        }))
    }

    fn add_requests(&mut self, requests: [Requests; 2], odds_margin: f64) {
        let [baseline, canary] = requests;
        let counts = BlockCounts {
            baseline_failed: baseline.errors,
            baseline: baseline.counted,
            canary_failed: canary.errors,
            canary: canary.counted,
        };
        if let Some(ln_lrs) = compare::ln_lrs(odds_margin, counts) {
            self.requests.add(&ln_lrs);
        }
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

    fn add(
        &mut self,
        start: Timestamp,
        sights: &[&Sight],
        odds_margin: f64,
        failed: impl Fn(&Sight) -> Option<bool>,
    ) {
        self.erred.turn(start);
        let counts = self.erred.count(sights.iter().copied(), failed);
        if let Some(ln_lrs) = compare::ln_lrs(odds_margin, counts) {
            self.onset.add(&ln_lrs);
        }
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
