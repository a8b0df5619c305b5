//! The way through a stage: checkpoints, intervals of `throughout`, its end, and the step to the next.
//!
//! Owns when a stage is judged and what its verdicts lead to. Never judges a condition itself.

use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind, RollbackCause};
use super::emit::Author;
use super::retreat::Retreat;
use super::snapshot::{Decided, Progress, Run};
use super::state::{Cause, Phase};
use crate::rollout::name::Arm;
use crate::rollout::plan::{OnFailure, OnSuccess, Stage};
use crate::rollout::time::{Now, format_duration};
use crate::rollout::verdict::{Evaluation, Purpose, Sample, Verdict};
use crate::rollout::window::{Measured, Totals};

/// A checkpoint recorded later than this after its time is marked late.
const LATE: Duration = Duration::from_secs(2);
/// Intervals of `throughout` in a stage without checkpoints.
const INTERVAL: Duration = Duration::from_secs(15 * 60);

impl Gate {
    /// What a tick does for the stage, after triggers and hold conditions had their say. `credited` is
    /// the stage time that the tick added.
    pub(super) fn run_stage(&mut self, now: Now, credited: Duration, out: &mut Vec<Effect>) {
        if self.state.phase == Phase::Running && self.state.awaiting.is_none() {
            self.pass_checkpoints(now, out);
            self.close_intervals(now, credited, out);
            self.judge_stage(now, out);
        }
        if self.state.phase == Phase::Held {
            self.end_causes(now, out);
        }
    }

    /// To the next stage, or the end.
    pub(super) fn advance(
        &mut self,
        now: Now,
        author: Author<'_>,
        evaluations: Vec<Evaluation>,
        forced: bool,
        out: &mut Vec<Effect>,
    ) {
        self.state.causes.clear();
        self.state.decided = None;
        self.state.guarded = true;
        let Some(run) = &mut self.state.run else {
            return;
        };
        let index = run.stage.index;
        let (Some(from), Some(to)) = (run.plan.stages.get(index), run.plan.stages.get(index + 1))
        else {
            self.complete(now, author, evaluations, forced, out);
            return;
        };
        let kind = EventKind::Advanced {
            from: from.name.clone(),
            to: to.name.clone(),
            evaluations,
            forced,
        };
        run.stage = Progress::new(index + 1);
        self.state.phase = Phase::Running;
        self.step_to(now, self.stage_weight(), author, kind, out);
    }

    /// What keeps the stage from passing now, each as a sentence with numbers.
    pub(super) fn unmet(&self, now: Now) -> Vec<String> {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return Vec::new();
        };
        let mut unmet = Vec::new();
        if run.stage.time < stage.duration {
            let (time, duration) = (
                whole_seconds(run.stage.time),
                format_duration(stage.duration),
            );
            unmet.push(format!("stage time is {time} of {duration}"));
        }
        unmet.extend(self.lacks_requests());
        unmet.extend(unmet_criteria(&self.judge_advance_at(now)));
        unmet.extend(self.breached_now());
        if run.stage.index + 1 < run.plan.stages.len() {
            unmet.extend(self.baseline_shortage());
        }
        unmet
    }

    /// Hold conditions and triggers that are true now, though not for long enough.
    pub(super) fn breached_now(&self) -> Vec<String> {
        let breaches = self.state.watch.breaches.iter();
        let shown = breaches.filter_map(|breach| {
            let condition = self.condition(breach.purpose, breach.index)?;
            Some(format!(
                "{condition} is breached for {}",
                whole_seconds(breach.stands())
            ))
        });
        shown.collect()
    }

    fn pass_checkpoints(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(due) = self.checkpoint_due() {
            let evaluations = self.judge_all(now);
            let Some(run) = &mut self.state.run else {
                return;
            };
            run.stage.checkpoints_done += 1;
            let late = run.stage.time > due + LATE;
            self.tell(
                now,
                Author::GATE,
                EventKind::Checkpoint {
                    due,
                    late,
                    evaluations,
                },
                out,
            );
        }
    }

    fn checkpoint_due(&self) -> Option<Duration> {
        let (run, stage) = (self.state.run.as_ref()?, self.present_stage()?);
        let due = stage.checkpoints.get(run.stage.checkpoints_done).copied()?;
        (run.stage.time >= due).then_some(due)
    }

    // An interval that cannot be judged, because it has too few requests, goes on into the next.
    fn close_intervals(&mut self, now: Now, credited: Duration, out: &mut Vec<Effect>) {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return;
        };
        let progress = &run.stage;
        let (from, to) = (progress.interval_from, progress.time);
        let looked_at = to.saturating_sub(credited);
        if !run.judges_throughout() || !boundary_passed(stage, from, looked_at, to) {
            return;
        }
        let Some(failed) = self.judge_interval(stage, progress) else {
            return;
        };
        let open = self.state.incidents.len() as u64;
        let Some(run) = &mut self.state.run else {
            return;
        };
        let places = failed.iter().map(|(index, _)| index);
        run.stage.failed.extend(places);
        run.stage.begin_interval(open);
        if !failed.is_empty() {
            let evaluations = failed
                .into_iter()
                .map(|(_, evaluation)| evaluation)
                .collect();
            self.tell(
                now,
                Author::GATE,
                EventKind::IntervalFailed {
                    from,
                    to,
                    evaluations,
                },
                out,
            );
        }
    }

    // Those that failed, with their places; `None` where there is too little to judge on.
    fn judge_interval(
        &self,
        stage: &Stage,
        progress: &Progress,
    ) -> Option<Vec<(usize, Evaluation)>> {
        if progress.interval.counts(Arm::Canary).counted < stage.min_requests {
            return None;
        }
        let sample = Sample {
            measured: &progress.interval,
            incidents: progress.interval_incidents,
            min_window_requests: stage.min_window_requests,
            outside: None,
        };
        let asked = stage
            .advance
            .iter()
            .enumerate()
            .filter(|(_, condition)| condition.throughout);
        let judged: Vec<(usize, Evaluation)> = asked
            .map(|(index, condition)| {
                (
                    index,
                    condition.evaluate(Purpose::Advance, &sample, progress.interval.span),
                )
            })
            .collect();
        let is = |verdict: Verdict| {
            move |(_, evaluation): &(usize, Evaluation)| evaluation.verdict == verdict
        };
        if judged.iter().any(is(Verdict::NoData)) && !judged.iter().any(is(Verdict::Fail)) {
            return None;
        }
        Some(judged.into_iter().filter(is(Verdict::Fail)).collect())
    }

    // At the stage's end, and at every tick of its extension.
    fn judge_stage(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return;
        };
        let time = run.stage.time;
        if time < stage.duration {
            return;
        }
        let extended_until = run.stage.extended_until;
        let evaluations = self.judge_advance_at(now);
        let undecided = self.lacks_requests().is_some() || evaluations.iter().any(is_undecided);
        let failed = evaluations
            .iter()
            .any(|evaluation| evaluation.verdict == Verdict::Fail);
        match (failed, undecided, extended_until) {
            (false, false, _) => self.succeed(now, evaluations, out),
            (_, _, Some(until)) if time < until => {}
            (true, _, _) => self.fail(now, evaluations, out),
            (false, true, None) if !stage.max_extension.is_zero() => {
                self.extend(now, evaluations, out)
            }
            (false, true, _) => self.hold_undecided(now, evaluations, out),
        }
    }

    fn succeed(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return;
        };
        // A breach whose time has not run out would start over in the next stage, on more learners.
        if !self.state.watch.breaches.is_empty() {
            return;
        }
        let last = run.stage.index + 1 == run.plan.stages.len();
        let shortage = self.baseline_shortage().filter(|_| !last);
        match (stage.on_success, shortage) {
            (OnSuccess::Hold, _) => {
                let why = "the stage passed and its plan says hold";
                self.hold(now, Author::GATE, Cause::Operator, why, evaluations, out);
            }
            (OnSuccess::Advance, Some(why)) => {
                self.hold(now, Author::GATE, Cause::NoBaseline, &why, evaluations, out);
            }
            (OnSuccess::Advance, None) => self.advance(now, Author::GATE, evaluations, false, out),
        }
    }

    fn fail(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return;
        };
        let why = unmet_criteria(&evaluations).join("; ");
        match stage.on_failure {
            OnFailure::Rollback if self.baseline_usable() == 0 => {
                let why = format!("nowhere to go: baseline has no usable endpoint; {why}");
                self.state.decided = Some(Decided {
                    cause: RollbackCause::Criteria,
                    breached_since: now,
                });
                self.hold(now, Author::GATE, Cause::NoBaseline, &why, evaluations, out);
            }
            OnFailure::Rollback => {
                let retreat = Retreat {
                    cause: RollbackCause::Criteria,
                    breached_since: None,
                    evaluations,
                };
                self.roll_back(
                    now,
                    Author {
                        by: Author::GATE.by,
                        reason: &why,
                    },
                    retreat,
                    out,
                );
            }
            OnFailure::Fallback(weight)
                if !run.fallback_used && weight < self.state.split.weight =>
            {
                self.fall_back_on_criteria(now, weight, evaluations, out);
            }
            OnFailure::Hold | OnFailure::Fallback(_) => {
                self.hold(now, Author::GATE, Cause::Criteria, &why, evaluations, out);
            }
        }
    }

    fn extend(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let missing = self.missing(&evaluations);
        let max_extension = self
            .present_stage()
            .map(|stage| stage.max_extension)
            .unwrap_or_default();
        let Some(run) = &mut self.state.run else {
            return;
        };
        let until = run.stage.time.saturating_add(max_extension);
        run.stage.extended_until = Some(until);
        self.tell(
            now,
            Author::GATE,
            EventKind::Extended {
                until,
                missing,
                evaluations,
            },
            out,
        );
    }

    // Too little was seen even after the extension: what is missing decides who may end the hold.
    fn hold_undecided(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let figures_pass = |evaluation: &Evaluation| {
            let truth = evaluation
                .figure
                .map(|figure| evaluation.condition.holds(figure));
            evaluation.verdict != Verdict::Unproven || truth == Some(true)
        };
        let cause = match evaluations.iter().all(figures_pass) {
            true => Cause::NoData,
            false => Cause::Criteria,
        };
        let why = self.missing(&evaluations).join("; ");
        self.hold(now, Author::GATE, cause, &why, evaluations, out);
    }

    fn missing(&self, evaluations: &[Evaluation]) -> Vec<String> {
        let mut missing: Vec<String> = self.lacks_requests().into_iter().collect();
        missing.extend(unmet_criteria(evaluations));
        missing
    }

    fn complete(
        &mut self,
        now: Now,
        author: Author<'_>,
        evaluations: Vec<Evaluation>,
        forced: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(run) = &mut self.state.run else {
            return;
        };
        run.ended = Some(now);
        let weight = run.plan.final_weight();
        self.state.phase = Phase::Complete;
        let kind = EventKind::Completed {
            evaluations,
            forced,
        };
        if weight == self.state.split.weight {
            self.cancel_step(out);
            self.tell(now, author, kind, out);
        } else {
            self.step_to(now, weight, author, kind, out);
        }
    }
}

impl Run {
    /// Whether the present stage asks for `throughout`.
    pub(super) fn judges_throughout(&self) -> bool {
        let stage = self.plan.stages.get(self.stage.index);
        stage.is_some_and(|stage| stage.advance.iter().any(|condition| condition.throughout))
    }
}

impl Progress {
    /// The stage's figures start over; its clock goes on.
    pub(super) fn begin_figures(&mut self, incidents: u64) {
        self.totals = Totals::default();
        self.learners = Default::default();
        self.extended_until = None;
        self.begin_interval(incidents);
    }

    fn begin_interval(&mut self, incidents: u64) {
        self.interval_from = self.time;
        self.interval = Totals::default();
        self.interval_incidents = incidents;
    }
}

fn is_undecided(evaluation: &Evaluation) -> bool {
    matches!(evaluation.verdict, Verdict::NoData | Verdict::Unproven)
}

/// Criteria that do not pass, with figure and limit, or with what they lack.
pub(super) fn unmet_criteria(evaluations: &[Evaluation]) -> Vec<String> {
    let unmet = evaluations.iter().filter(|evaluation| {
        evaluation.purpose == Purpose::Advance && evaluation.verdict != Verdict::Pass
    });
    unmet
        .map(|evaluation| {
            let condition = &evaluation.condition;
            let mut shown = match evaluation.figure {
                Some(figure) => format!("{condition} is {}", condition.unit().show(figure)),
                None => format!("{condition} has no data"),
            };
            if !evaluation.note.is_empty() {
                shown.push_str(&format!(" ({})", evaluation.note));
            }
            shown
        })
        .collect()
}

/// A span for a sentence: no finer than a second.
pub(super) fn whole_seconds(span: Duration) -> String {
    format_duration(Duration::from_secs(span.as_secs()))
}

// Boundaries are the checkpoints, else every `INTERVAL`, and the stage's end. What began before the end is
// looked at every tick beyond it.
fn boundary_passed(stage: &Stage, from: Duration, before: Duration, now: Duration) -> bool {
    if now >= stage.duration && from < stage.duration {
        return true;
    }
    let intervals = |time: Duration| time.saturating_sub(from).as_millis() / INTERVAL.as_millis();
    match stage.checkpoints.is_empty() {
        true => intervals(before) < intervals(now),
        false => stage
            .checkpoints
            .iter()
            .any(|&due| before < due && due <= now),
    }
}
