//! The way through a stage: checkpoints, intervals of `throughout`, its end, and the step to the next.
//!
//! Owns when a stage is judged and what its verdicts lead to. Never judges a condition itself.

use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind, RollbackCause};
use super::emit::Author;
use super::judge::{Standing, is_undecided};
use super::retreat::Retreat;
use super::snapshot::{Decided, Progress, Run};
use super::state::{Cause, Phase, WaitsFor};
use crate::rollout::name::Arm;
use crate::rollout::plan::{OnFailure, OnSuccess, Plan, Stage};
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
        // A rehearsal gives back the stage as it found it.
        if self.state.rehearsal.is_some() {
            return;
        }
        if self.state.phase == Phase::Running && self.state.awaiting.is_none() {
            self.pass_checkpoints(now, out);
            self.close_intervals(now, credited, out);
            self.judge_stage(now, out);
        }
        if self.state.phase == Phase::Stabilizing && self.state.awaiting.is_none() {
            self.settle(now, out);
        }
        if matches!(self.state.phase, Phase::AwaitingApproval | Phase::Waiting) {
            self.stand_by(now, out);
        }
        if self.state.phase == Phase::Held {
            self.end_causes(now, out);
        }
    }

    /// To the next stage, to the stabilization, or to the end.
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
        let Some(run) = &self.state.run else {
            return;
        };
        let index = run.stage.index;
        let names = |plan: &Plan| {
            let name = |index| plan.stage(index).map(|stage| stage.name.clone());
            name(index).zip(name(index + 1))
        };
        let Some((from, to)) = names(&run.plan) else {
            self.complete(now, author, evaluations, forced, out);
            return;
        };
        let kind = EventKind::Advanced {
            from,
            to,
            confidence: self.confidence_of_step(&evaluations),
            evaluations,
            forced,
        };
        if let Some(run) = &mut self.state.run {
            run.stage = Progress::new(index + 1);
        }
        self.state.phase = self.phase_of_stage();
        self.queue_after_hooks(index);
        self.step_to(now, self.stage_weight(), author, kind, out);
        if self.state.phase == Phase::Stabilizing {
            self.begin_first_day(now, out);
        }
    }

    /// What keeps the stage from passing now, each as a sentence with numbers.
    pub(super) fn unmet(&self, now: Now) -> Vec<String> {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return Vec::new();
        };
        let mut unmet = Vec::new();
        let before_its_time = |waits_for: &WaitsFor| match waits_for {
            WaitsFor::StartAt | WaitsFor::Window => true,
            WaitsFor::Person | WaitsFor::Freeze => false,
        };
        let mut waits_for = self.waits_for(now);
        waits_for.retain(before_its_time);
        unmet.extend(
            self.waits_in_words(&waits_for)
                .into_iter()
                .map(|what| format!("it waits for {what}")),
        );
        if self.state.phase == Phase::Scheduled {
            return unmet;
        }
        unmet.extend(
            self.missing_roles()
                .into_iter()
                .map(|role| format!("the approval of {role} is missing")),
        );
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
        if self.has_next_stage() {
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
                "{condition} is breached{} for {}",
                breach.place(),
                whole_seconds(breach.stands())
            ))
        });
        shown.collect()
    }

    pub(super) fn pass_checkpoints(&mut self, now: Now, out: &mut Vec<Effect>) {
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
            incidents: progress.interval_incidents,
            min_window_requests: stage.min_window_requests,
            ..self.sample(&progress.interval)
        };
        let asked = stage
            .advance
            .iter()
            .enumerate()
            .filter(|(_, condition)| condition.throughout);
        let judged: Vec<(usize, Evaluation)> = asked
            .map(|(index, condition)| {
                let evaluation = match condition.per_segment {
                    true => self.judge_each_total(condition, &progress.interval),
                    false => condition.evaluate(Purpose::Advance, &sample, progress.interval.span),
                };
                (index, evaluation)
            })
            .collect();
        let is = |verdict: Verdict| {
            move |(_, evaluation): &(usize, Evaluation)| evaluation.verdict == verdict
        };
        let open = |judged: &(usize, Evaluation)| is_undecided(&judged.1);
        if judged.iter().any(open) && !judged.iter().any(is(Verdict::Fail)) {
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
        match (self.standing(&evaluations), extended_until) {
            (Standing::Passed, _) => self.succeed(now, evaluations, out),
            (_, Some(until)) if time < until => {}
            (Standing::Failed, _) => self.fail(now, evaluations, out),
            (Standing::Undecided, None) if !stage.max_extension.is_zero() => {
                self.extend(now, evaluations, out)
            }
            (Standing::Undecided, _) => self.hold_undecided(now, evaluations, out),
        }
    }

    fn succeed(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let Some(stage) = self.present_stage() else {
            return;
        };
        // A breach whose time has not run out would start over in the next stage, on more learners.
        if !self.state.watch.breaches.is_empty() {
            return;
        }
        match stage.on_success {
            OnSuccess::Hold => {
                let why = "the stage passed and its plan says hold";
                self.hold(now, Author::GATE, Cause::Operator, why, evaluations, out);
            }
            OnSuccess::Advance | OnSuccess::Approve(_) => self.pass(now, evaluations, out),
        }
    }

    fn fail(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return;
        };
        let why = unmet_criteria(&evaluations).join("; ");
        match stage.on_failure {
            OnFailure::Rollback | OnFailure::Fallback(_) if self.compares_equals() => {
                self.hold(now, Author::GATE, Cause::Criteria, &why, evaluations, out);
            }
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
    pub(super) fn hold_undecided(
        &mut self,
        now: Now,
        evaluations: Vec<Evaluation>,
        out: &mut Vec<Effect>,
    ) {
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
        let confidence = self.confidence_of_step(&evaluations);
        let Some(run) = &mut self.state.run else {
            return;
        };
        run.ended = Some(now);
        run.completed = true;
        let (weight, index) = (run.plan.final_weight(), run.stage.index);
        self.state.phase = Phase::Complete;
        self.queue_after_hooks(index);
        let kind = EventKind::Completed {
            evaluations,
            confidence,
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
        let stage = self.plan.stage(self.stage.index);
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

/// Criteria that do not pass, with figure and limit, or with what they lack.
pub(super) fn unmet_criteria(evaluations: &[Evaluation]) -> Vec<String> {
    let unmet = evaluations.iter().filter(|evaluation| {
        evaluation.purpose == Purpose::Advance && evaluation.verdict != Verdict::Pass
    });
    unmet
        .map(|evaluation| {
            let condition = &evaluation.condition;
            let place = evaluation.segment.as_ref();
            let place = place.map_or_else(String::new, |name| format!(" in segment {name}"));
            let mut shown = match evaluation.figure {
                Some(figure) => format!("{condition} is {}{place}", condition.unit().show(figure)),
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
