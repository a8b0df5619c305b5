//! What a gate makes of evidence: which seconds are taken in, when an alarm stands, what begins it anew.
//!
//! Owns the evidence column of gate.md's table of what resets what. An alarm is a breach like any other
//! trigger's: `watch` finds it and `retreat` acts on it.

use std::sync::Arc;

use super::Gate;
use super::effect::{Effect, EventKind};
use super::emit::Author;
use super::input::Observed;
use super::shares::SharesStatus;
use crate::rollout::condition::Regression;
use crate::rollout::evidence::{Evidence, PROOF_LEARNERS, Reading, SegmentReading};
use crate::rollout::name::Arm;
use crate::rollout::plan::{Mode, Plan};
use crate::rollout::stats::combine::{Part, ln_limit};
use crate::rollout::time::Now;
use crate::rollout::verdict::{Evaluation, Purpose, Verdict};

/// All evidence as it stands, for the API and the terminal. Logarithms are natural.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceStatus {
    pub alpha: f64,
    /// ln(1 / alpha): an alarm stands where ln(w E) reaches it.
    pub ln_limit: f64,
    /// Of the weighted sum of every process.
    pub ln_weighted: f64,
    pub alarm: bool,
    pub began: Now,
    /// How often alpha was spent again in this run.
    pub restarts: u64,
    /// Seconds taken in.
    pub blocks: u64,
    pub processes: Vec<Reading>,
    pub segments: Vec<SegmentStatus>,
    /// `None` while nobody is split.
    pub shares: Option<SharesStatus>,
    /// By request, of errors; never rolls back.
    pub ln_weighted_by_request: f64,
    /// No request of canary carried a learner's id.
    pub by_request_alone: bool,
}

/// The evidence of one segment, beside that of everybody else.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentStatus {
    pub reading: SegmentReading,
    /// What ln of the weighted sum would be without it.
    pub ln_weighted_without: f64,
    /// e-BH names it.
    pub named: bool,
}

/// A segment that an alarm is the doing of, and why, in a sentence.
#[derive(Clone, Debug)]
pub(super) struct Guilty {
    pub(super) segment: Arc<str>,
    pub(super) why: String,
}

impl Gate {
    /// Takes in the seconds that are evidence: of a run, at a weight above 0, after the warm-up.
    pub(super) fn take_blocks(&mut self, observed: &Observed) {
        let Some(warm_until) = self.state.watch.warm_until else {
            return;
        };
        let (stage, epoch) = (self.state.watch.stage, self.state.watch.epoch);
        let carries = self.state.phase.is_in_a_run() && !self.state.split.weight.is_zero();
        let Some(run) = self.state.run.as_mut().filter(|_| carries) else {
            return;
        };
        let mut blocks = observed
            .blocks
            .iter()
            .filter(|block| block.start >= warm_until)
            .peekable();
        if blocks.peek().is_none() {
            return;
        }
        let limits = run.plan.limits(stage);
        let odds_margin = run.plan.gate.evidence.odds_margin;
        let ceilings = &self.state.split.ceilings;
        for block in blocks {
            run.evidence
                .add(block, epoch, odds_margin, limits, ceilings);
        }
    }

    /// The segment that an alarm is the doing of: the worst of those that e-BH names, if without it the rest is not even
    /// half the way to an alarm (in ln; a regression of everybody that chance gave mostly to one segment leaves more than
    /// that). Otherwise everybody's.
    pub(super) fn guilty_segment(&self, which: Regression) -> Option<Guilty> {
        let (evidence, limit) = self.evidence()?;
        let alpha = self.alpha()?;
        let place = *evidence.segments.named(alpha).first()?;
        let without = evidence.ln_proven_but(which, Some(place));
        if without >= limit / 2.0 || by_request_alone(evidence, which) {
            return None;
        }
        let segment = evidence.segments.each.get(place)?;
        Some(Guilty {
            segment: Arc::clone(&segment.name),
            why: format!(
                "{} alone is to blame: ln E of its own errors is {:.2}; without it ln(w E) is {without:.2}, \
                 the limit is {limit:.2}",
                segment.name,
                segment.own.ln_e()
            ),
        })
    }

    /// Whether what a regression condition names is at its limit; `None` before anything was taken in. Where
    /// no request carried a learner's id, evidence by request stands in, which proves nothing (`unproven`).
    pub(super) fn regression_truth(&self, which: Regression) -> Option<bool> {
        let (evidence, limit) = self.evidence()?;
        if evidence.blocks == 0 {
            return None;
        }
        let by_request = by_request_alone(evidence, which) && evidence.ln_by_request() >= limit;
        Some(by_request || evidence.alarms(which, limit))
    }

    /// What an alarm lacks to roll back.
    pub(super) fn unproven_regression(&self, which: Regression) -> Option<String> {
        let (evidence, _) = self.evidence()?;
        by_request_alone(evidence, which)
            .then(|| "by request alone: no request of canary carries a learner's id".to_owned())
    }

    /// A regression condition with what is known of it.
    pub(super) fn judge_regression(&self, now: Now, evaluation: &mut Evaluation) {
        let Some(which) = evaluation.condition.regression() else {
            return;
        };
        let Some((evidence, limit)) = self.evidence() else {
            return;
        };
        // The limit that everybody who reads the evaluation sees beside the figure.
        evaluation.condition.value = limit;
        evaluation.window = now.mono.since(evidence.began.mono);
        evaluation.requests = self
            .state
            .run
            .as_ref()
            .map_or(0, |run| run.totals.cells[Arm::Canary.index()].counted);
        evaluation.verdict = match self.regression_truth(which) {
            None => Verdict::NoData,
            Some(true) => Verdict::Fail,
            Some(false) => Verdict::Pass,
        };
        if by_request_alone(evidence, which) {
            evaluation.figure = Some(evidence.ln_by_request());
            return;
        }
        let Some(strongest) = evidence.strongest(which) else {
            evaluation.verdict = Verdict::NoData;
            evaluation.note = "baseline has not chosen the latency edges yet".to_owned();
            return;
        };
        let figure = evidence.ln_weighted(which);
        let failing = strongest.failing_learners;
        evaluation.figure = Some(figure);
        evaluation.learners = Some(failing);
        if let (Verdict::Fail, Some(guilty)) = (evaluation.verdict, self.guilty_segment(which)) {
            evaluation.segment = Some(guilty.segment);
            evaluation.note = guilty.why;
        }
        if figure >= limit && evaluation.verdict == Verdict::Pass {
            evaluation.note = format!("{failing} of {PROOF_LEARNERS} failing learners");
        }
    }

    /// A new stretch of evidence where the present one stands in alarm, told with who wanted it so: it could say
    /// nothing more, and alpha is spent again.
    pub(super) fn renew_evidence(&mut self, now: Now, author: Author<'_>, out: &mut Vec<Effect>) {
        let in_a_run = self.state.phase.is_in_a_run();
        if !in_a_run || self.regression_truth(Regression::Any) != Some(true) {
            return;
        }
        self.begin_evidence(now);
        if let Some(run) = &mut self.state.run {
            run.evidence.restarts += 1;
        }
        let kind = EventKind::AlarmNoted {
            why: format!(
                "the evidence stood in alarm and is restarted by {}: alpha is spent again",
                author.by
            ),
            evaluations: Vec::new(),
        };
        self.tell(now, author, kind, out);
    }

    /// Nothing learnt yet, under the same plan: what was measured belongs to something that is gone.
    pub(super) fn begin_evidence(&mut self, now: Now) {
        if let Some(run) = &mut self.state.run {
            let restarts = run.evidence.restarts;
            run.evidence = Evidence {
                restarts,
                ..Evidence::new(now, &run.plan)
            };
        }
    }

    /// Whether alarms are faults of the measurement, because both pools are the same (gate.md, "Evidence", 10).
    pub(super) fn compares_equals(&self) -> bool {
        let is_aa = |plan: &Plan| plan.gate.mode == Mode::Aa;
        self.state.phase.is_in_a_run() && self.plan().is_some_and(is_aa)
    }

    pub(super) fn evidence_status(&self) -> Option<EvidenceStatus> {
        let (evidence, ln_limit) = self.evidence()?;
        Some(EvidenceStatus {
            alpha: self.alpha()?,
            ln_limit,
            ln_weighted: evidence.ln_weighted(Regression::Any),
            alarm: self.regression_truth(Regression::Any) == Some(true),
            began: evidence.began,
            restarts: evidence.restarts,
            blocks: evidence.blocks,
            processes: evidence.readings(),
            segments: self.segment_evidence(evidence),
            shares: self.shares_status(),
            ln_weighted_by_request: evidence.ln_by_request(),
            by_request_alone: by_request_alone(evidence, Regression::Any),
        })
    }

    fn segment_evidence(&self, evidence: &Evidence) -> Vec<SegmentStatus> {
        let alpha = self.alpha().unwrap_or(0.0);
        let named = evidence.segments.named(alpha);
        let one = |reading: SegmentReading| {
            let place = evidence.segments.place(&reading.segment)?;
            Some(SegmentStatus {
                ln_weighted_without: evidence.ln_weighted_but(Regression::Any, Some(place)),
                named: named.contains(&place),
                reading,
            })
        };
        let readings = evidence.segments.readings().into_iter();
        readings.filter_map(one).collect()
    }

    /// The chance of a false alarm that the present stretch of evidence may spend: the rollout's, and in the
    /// stabilization for each day its part of as much again.
    pub(super) fn alpha(&self) -> Option<f64> {
        let run = self.state.run.as_ref()?;
        let alpha = run.plan.gate.evidence.alpha;
        match run.plan.settles_at(run.stage.index) {
            true => Some(alpha / run.plan.days() as f64),
            false => Some(alpha),
        }
    }

    fn evidence(&self) -> Option<(&Evidence, f64)> {
        let run = self.state.run.as_ref()?;
        Some((&run.evidence, ln_limit(self.alpha()?)))
    }
}

/// A guard's purpose that an A/A run reports instead of acting on.
pub(super) const fn takes_back(purpose: Purpose) -> bool {
    match purpose {
        Purpose::Rollback | Purpose::Tripwire => true,
        Purpose::Advance | Purpose::Hold => false,
    }
}

// Requests are counted by errors alone, so they stand in for nothing else.
fn by_request_alone(evidence: &Evidence, which: Regression) -> bool {
    let counts_errors = match which {
        Regression::Errors | Regression::Any => true,
        Regression::ClientErrors | Regression::Latency => false,
    };
    counts_errors && evidence.learners == 0 && evidence.requests.t > 0
}

/// As processes are named to people.
pub const fn process_name(part: Part) -> &'static str {
    match part {
        Part::Errors => "errors",
        Part::ClientErrors => "client_errors",
        Part::Latency => "latency",
        Part::Absolute => "absolute",
        Part::Segments => "segments",
    }
}
