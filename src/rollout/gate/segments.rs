//! A condition judged for each segment by itself, and which segment is shown for all.
//!
//! Reads the state and never changes it.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use super::judge::names_learners;
use super::snapshot::Breach;
use crate::rollout::condition::{Condition, Op};
use crate::rollout::time::Now;
use crate::rollout::verdict::{Evaluation, Purpose, Sample};
use crate::rollout::window::{Measured, Totals};

/// Names in a sentence; beyond it says how many more.
const NAMED: usize = 5;

/// How bad a segment stands, for the choice of the one to show.
struct Rank {
    fails: bool,
    /// A criterion that is missed beyond doubt goes before one that is missed by more.
    proven: bool,
    /// Of the breach that would act first.
    breached: Duration,
    /// Any number that grows as the figure goes to the wrong side.
    badness: f64,
}

impl Gate {
    /// A condition `per segment`: the worst segment, and which have too few requests. One that fails fails it, one
    /// that passes is needed. `index` is a guard's place in its list.
    pub(super) fn judge_each<M: Measured>(
        &self,
        now: Now,
        (purpose, index): (Purpose, Option<usize>),
        condition: &Condition,
        (measured, window): (Vec<(&Arc<str>, M)>, Duration),
    ) -> Evaluation {
        let (mut worst, mut few) = (None, Vec::new());
        for (name, measured) in &measured {
            if self.is_left_out(name) {
                continue;
            }
            let sample = self.segment_sample(purpose, measured);
            let breach = index.and_then(|index| self.breach_of(purpose, index, Some(name)));
            let rank = match condition.truth(purpose, &sample) {
                Some(truth) => Rank::of(condition, &sample, (purpose, truth), breach),
                None => {
                    few.push((*name, sample));
                    continue;
                }
            };
            if worst
                .as_ref()
                .is_none_or(|(other, ..): &(Rank, _, _, _)| rank.is_worse_than(other))
            {
                worst = Some((rank, *name, sample, breach));
            }
        }
        let too_few = || {
            let shown = few.iter().take(NAMED).map(|(name, sample)| {
                let note = condition.evaluate(purpose, sample, window).note;
                format!("{name} ({note})")
            });
            let rest = few.iter().skip(NAMED).map(|(name, _)| name.to_string());
            format!("too few: {}", listed(shown.chain(rest).collect()))
        };
        let Some((_, name, sample, breach)) = worst else {
            return Evaluation {
                note: match few.is_empty() {
                    true => "no segment was seen".to_owned(),
                    false => too_few(),
                },
                ..condition.evaluate(purpose, &self.sample(&Totals::default()), window)
            };
        };
        let mut evaluation = condition.evaluate(purpose, &sample, window);
        evaluation.segment = Some(Arc::clone(name));
        if let Some(breach) = breach {
            self.show_breach(now, &mut evaluation, condition, breach);
        }
        if !few.is_empty() {
            let separator = if evaluation.note.is_empty() { "" } else { "; " };
            evaluation.note = format!("{}{separator}{}", evaluation.note, too_few());
        }
        evaluation
    }

    /// A criterion `per segment` over a span that only grows.
    pub(super) fn judge_each_total(&self, condition: &Condition, totals: &Totals) -> Evaluation {
        let now = self.state.last_tick.unwrap_or_default();
        let each = (totals.segments.measured(totals.span), totals.span);
        self.judge_each(now, (Purpose::Advance, None), condition, each)
    }

    /// A trigger needs what any window needs; what advances or holds needs `min_segment_requests`.
    pub(super) fn segment_sample<'a>(
        &'a self,
        purpose: Purpose,
        measured: &'a dyn Measured,
    ) -> Sample<'a> {
        let sample = self.sample(measured);
        let least = match purpose {
            Purpose::Advance | Purpose::Hold => sample.segments.min_requests,
            Purpose::Rollback | Purpose::Tripwire => 0,
        };
        Sample {
            min_window_requests: sample.min_window_requests.max(least),
            ..sample
        }
    }

    /// Puts a breach's clock and proof beside a figure.
    pub(super) fn show_breach(
        &self,
        now: Now,
        evaluation: &mut Evaluation,
        condition: &Condition,
        breach: &Breach,
    ) {
        evaluation.breached_for = Some(breach.stands());
        if names_learners(condition.metric) {
            evaluation.learners = Some(breach.learners.len() as u64);
        }
        if evaluation.note.is_empty() && evaluation.purpose != Purpose::Hold {
            evaluation.note = self.unproven(now, breach).unwrap_or_default();
        }
    }
}

// === impl Rank ===

impl Rank {
    fn of(
        condition: &Condition,
        sample: &Sample<'_>,
        (purpose, truth): (Purpose, bool),
        breach: Option<&Breach>,
    ) -> Self {
        let above_is_wrong = match condition.op {
            Op::Greater | Op::GreaterOrEqual => purpose != Purpose::Advance,
            Op::Less | Op::LessOrEqual | Op::Equal => purpose == Purpose::Advance,
        };
        // A share above the limit says as much as a percentile, and costs less.
        let figure = match condition.latency_limit_us() {
            Some(limit_us) => {
                let arm = condition.arm();
                let above = sample.measured.above(arm, limit_us) as f64;
                above / sample.measured.counts(arm).timed.max(1) as f64
            }
            None => condition.figure(sample).unwrap_or_default(),
        };
        let figure = if condition.absolute {
            figure.abs()
        } else {
            figure
        };
        let fails = truth != (purpose == Purpose::Advance);
        Self {
            fails,
            proven: fails && purpose == Purpose::Advance && condition.is_proven_unmet(sample),
            breached: breach.map(|breach| breach.stands()).unwrap_or_default(),
            badness: if above_is_wrong { figure } else { -figure },
        }
    }

    fn is_worse_than(&self, other: &Self) -> bool {
        let kind = |rank: &Self| (rank.fails, rank.proven, rank.breached);
        let by_kind = kind(self).cmp(&kind(other));
        by_kind.then(self.badness.total_cmp(&other.badness)).is_gt()
    }
}

/// Names for a sentence.
pub(super) fn listed(names: Vec<String>) -> String {
    match names.len().checked_sub(NAMED) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..NAMED].join(", ")),
    }
}
