//! Evidence as JSON: what each process says, and how far it is from an alarm.
//!
//! Logarithms are natural: an alarm stands where `ln_weighted` reaches `ln_limit`.

use serde::{Deserialize, Serialize};

use super::Moment;
use crate::rollout::evidence::Reading;
use crate::rollout::gate::{EvidenceStatus, SegmentStatus, SharesStatus, process_name};

/// All evidence of a run as published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceRecord {
    pub alpha: f64,
    /// ln(1 / alpha).
    pub ln_limit: f64,
    /// ln of the weighted sum of all processes: what `regression(any)` is judged by.
    pub ln_weighted: f64,
    pub alarm: bool,
    pub since: Moment,
    /// How often alpha was spent again in this run.
    pub restarts: u64,
    /// Seconds taken in.
    pub blocks: u64,
    pub processes: Vec<ProcessRecord>,
    /// Those that had learners on both arms; by the time they were first seen.
    #[serde(default)]
    pub segments: Vec<SegmentEvidenceRecord>,
    /// Learners of a sample by arm, beside the weight; `null` while nobody is split.
    #[serde(default)]
    pub shares: Option<SharesRecord>,
    /// By request and not by learner, of errors: shown, and may hold; never rolls back.
    pub ln_weighted_by_request: f64,
    /// No request of canary carried a learner's id.
    pub by_request_alone: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// `errors`, `client_errors`, `latency`, `absolute` or `segments`.
    pub name: String,
    /// Share of alpha.
    pub weight: f64,
    pub ln_e: f64,
    pub ln_weighted: f64,
    /// Canary learners counted as failing, each once, over the last hour or two.
    pub failing_learners: u64,
    /// Seconds that could be judged.
    pub blocks: u64,
}

/// Errors of one segment by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentEvidenceRecord {
    pub segment: String,
    pub ln_e: f64,
    pub failing_learners: u64,
    /// Seconds in which it had learners on both arms.
    pub blocks: u64,
    /// ln of the weighted sum of all processes if it were left out.
    pub ln_weighted_without: f64,
    /// Its evidence is enough to name it among all segments.
    pub named: bool,
}

/// Do the arms hold the learners that the weight sends them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharesRecord {
    pub baseline: u64,
    pub canary: u64,
    /// The share of learners that canary should have, 0.0 to 1.0.
    pub weight: f64,
    /// ln of the odds of a mismatch; from `ln_limit` on the rollout is held.
    pub ln_odds: f64,
}

/// Segments in a sentence each, at most.
const WORST: usize = 3;

impl EvidenceRecord {
    /// For people: the sum beside its limit, then each process.
    pub fn sentences(&self) -> Vec<String> {
        if self.by_request_alone {
            return vec![format!(
                "Evidence by request alone (no request of canary carries a learner's id, so it may hold and never rolls back): \
                 ln(w E) is {:.2}; the limit is {:.2}.",
                self.ln_weighted_by_request, self.ln_limit
            )];
        }
        let restarts = match self.restarts {
            0 => String::new(),
            restarts => {
                format!("; begun anew after an alarm {restarts} times, alpha spent again each time")
            }
        };
        let state = if self.alarm { "ALARM" } else { "no alarm" };
        let mut lines = vec![format!(
            "Evidence of a regression over {} s: ln of the weighted sum is {:.2}, the limit is {:.2} (alpha {}): {state}{restarts}.",
            self.blocks, self.ln_weighted, self.ln_limit, self.alpha
        )];
        lines.extend(self.processes.iter().map(ProcessRecord::sentence));
        lines.extend(self.worst_segments().map(SegmentEvidenceRecord::sentence));
        lines.extend(self.shares.iter().map(SharesRecord::sentence));
        lines
    }

    // Those with anything against them.
    fn worst_segments(&self) -> impl Iterator<Item = &SegmentEvidenceRecord> {
        let mut worst: Vec<&SegmentEvidenceRecord> = self.segments.iter().collect();
        worst.retain(|segment| segment.ln_e > 0.0);
        worst.sort_by(|a, b| b.ln_e.total_cmp(&a.ln_e));
        worst.into_iter().take(WORST)
    }
}

impl SegmentEvidenceRecord {
    fn sentence(&self) -> String {
        let named = if self.named { ", named as guilty" } else { "" };
        format!(
            "Errors of segment {}: ln E {:.2} over {} s, {} failing learners on canary{named}; without it the weighted sum is {:.2}.",
            self.segment, self.ln_e, self.blocks, self.failing_learners, self.ln_weighted_without
        )
    }
}

impl SharesRecord {
    fn sentence(&self) -> String {
        format!(
            "Of {} sampled learners {} are on canary, whose weight is {}%: ln of the odds of a broken assignment is {:.2}.",
            self.baseline + self.canary,
            self.canary,
            self.weight * 100.0,
            self.ln_odds
        )
    }
}

impl ProcessRecord {
    fn sentence(&self) -> String {
        format!(
            "{}: ln(w E) {:.2} over {} s, {} failing learners on canary.",
            self.name, self.ln_weighted, self.blocks, self.failing_learners
        )
    }
}

impl From<&EvidenceStatus> for EvidenceRecord {
    fn from(status: &EvidenceStatus) -> Self {
        Self {
            alpha: status.alpha,
            ln_limit: status.ln_limit,
            ln_weighted: status.ln_weighted,
            alarm: status.alarm,
            since: status.began.wall.into(),
            restarts: status.restarts,
            blocks: status.blocks,
            processes: status.processes.iter().map(ProcessRecord::from).collect(),
            segments: status.segments.iter().map(Into::into).collect(),
            shares: status.shares.as_ref().map(SharesRecord::from),
            ln_weighted_by_request: status.ln_weighted_by_request,
            by_request_alone: status.by_request_alone,
        }
    }
}

impl From<&Reading> for ProcessRecord {
    fn from(reading: &Reading) -> Self {
        Self {
            name: process_name(reading.part).to_owned(),
            weight: reading.part.weight(),
            ln_e: reading.ln_e,
            ln_weighted: reading.ln_weighted(),
            failing_learners: reading.failing_learners,
            blocks: reading.blocks,
        }
    }
}

impl From<&SegmentStatus> for SegmentEvidenceRecord {
    fn from(status: &SegmentStatus) -> Self {
        let reading = &status.reading;
        Self {
            segment: reading.segment.to_string(),
            ln_e: reading.ln_e,
            failing_learners: reading.failing_learners,
            blocks: reading.blocks,
            ln_weighted_without: status.ln_weighted_without,
            named: status.named,
        }
    }
}

impl From<&SharesStatus> for SharesRecord {
    fn from(status: &SharesStatus) -> Self {
        let [baseline, canary] = status.learners;
        Self {
            baseline,
            canary,
            weight: status.weight.share(),
            ln_odds: status.ln_odds,
        }
    }
}
