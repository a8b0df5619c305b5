//! From a stage that passed to the step that follows: approvals, the calendar, a freeze, baseline's strength.
//!
//! Owns the phases `awaiting_approval`, `waiting` and `scheduled`. The weight of the stage just passed stays, triggers
//! stay armed, and what was passed must still hold at the moment of the step.

use super::Gate;
use super::effect::{Effect, EventKind};
use super::emit::Author;
use super::judge::Standing;
use super::stage::unmet_criteria;
use super::state::{Cause, Phase, WaitsFor};
use crate::rollout::plan::Stage;
use crate::rollout::time::{Now, WallTime, millis};
use crate::rollout::verdict::Evaluation;

impl Gate {
    /// The stage passed with these evaluations: asks, waits, or takes the step.
    pub(super) fn pass(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        if !self.missing_roles().is_empty() {
            self.ask_for_approval(now, evaluations, out);
            return;
        }
        let waits_for = self.waits_for(now);
        if !waits_for.is_empty() {
            self.wait(now, Phase::Waiting, waits_for, evaluations, out);
            return;
        }
        match self.baseline_shortage().filter(|_| self.has_next_stage()) {
            Some(why) => self.hold(now, Author::GATE, Cause::NoBaseline, &why, evaluations, out),
            None if self.next_hooks_passed() => {
                self.advance(now, Author::GATE, evaluations, false, out);
            }
            None => {}
        }
    }

    /// In `awaiting_approval` and `waiting`: goes on as soon as nothing is in the way.
    pub(super) fn stand_by(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.void_approvals(now, out);
        if !self.missing_roles().is_empty() {
            if self.state.phase != Phase::AwaitingApproval {
                let evaluations = self.judge_all(now);
                self.ask_for_approval(now, evaluations, out);
            }
            return;
        }
        let waits_for = self.waits_for(now);
        if !waits_for.is_empty() {
            if self.state.phase != Phase::Waiting || waits_for != self.told_to_wait_for() {
                let evaluations = self.judge_all(now);
                self.wait(now, Phase::Waiting, waits_for, evaluations, out);
            }
            return;
        }
        if self.state.watch.breaches.is_empty() && self.next_hooks_passed() {
            self.step_if_it_still_holds(now, out);
        }
    }

    /// In `scheduled`: begins the first stage when its time has come.
    pub(super) fn await_start(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.is_cut_off() {
            return;
        }
        let waits_for = self.waits_for(now);
        if waits_for.is_empty() {
            match self.baseline_shortage() {
                Some(why) => self.begin_held(now, &why, out),
                None => self.begin_first_stage(now, Author::GATE, out),
            }
        } else if waits_for != self.told_to_wait_for() {
            self.wait(now, Phase::Scheduled, waits_for, Vec::new(), out);
        }
    }

    // The time has come, but baseline is weak: the step follows when it is not.
    fn begin_held(&mut self, now: Now, why: &str, out: &mut Vec<Effect>) {
        if let Some(kind) = self.begin_run(now) {
            self.tell(now, Author::GATE, kind, out);
            self.hold(now, Author::GATE, Cause::NoBaseline, why, Vec::new(), out);
        }
    }

    fn begin_run(&mut self, now: Now) -> Option<EventKind> {
        let run = self.state.run.as_mut()?;
        run.started = now;
        run.stage.waits_for.clear();
        let stages = run.plan.stages.len();
        self.state.phase = Phase::Running;
        Some(EventKind::Started { stages })
    }

    pub(super) fn begin_first_stage(
        &mut self,
        now: Now,
        author: Author<'_>,
        out: &mut Vec<Effect>,
    ) {
        let Some(kind) = self.begin_run(now) else {
            return;
        };
        if self.before_hooks_passed(0) {
            self.step_to(now, self.stage_weight(), author, kind, out);
        } else {
            self.cancel_step(out);
            self.tell(now, author, kind, out);
            self.held_by_first_hooks(now, Author::GATE, out);
        }
    }

    // Whether the hooks before the stage to come passed; begins them where they did not begin yet.
    fn next_hooks_passed(&mut self) -> bool {
        let next = self.state.run.as_ref().map(|run| run.stage.index + 1);
        next.is_none_or(|next| self.before_hooks_passed(next))
    }

    /// What the next step waits for now, beside people who are asked.
    pub(super) fn waits_for(&self, now: Now) -> Vec<WaitsFor> {
        let mut waits_for = Vec::new();
        if let Some(start_at) = self.next_start() {
            if now.wall < start_at {
                waits_for.push(WaitsFor::StartAt);
            } else if self.start_is_missed(now, start_at) {
                waits_for.push(WaitsFor::Person);
            }
        }
        let scheduled = self.state.phase == Phase::Scheduled;
        let left = self.present_stage().filter(|_| !scheduled);
        let window = left.and_then(|stage| stage.schedule.window.as_ref());
        if window.is_some_and(|hours| !hours.is_open(now.wall)) {
            waits_for.push(WaitsFor::Window);
        }
        if self.state.freeze.is_some() {
            waits_for.push(WaitsFor::Freeze);
        }
        waits_for
    }

    /// When the stage to come is to start, where its plan says it.
    pub(super) fn next_start(&self) -> Option<WallTime> {
        self.stage_to_come()?.schedule.start_at
    }

    /// The same in sentences.
    pub(super) fn waits_in_words(&self, waits_for: &[WaitsFor]) -> Vec<String> {
        let window = self
            .present_stage()
            .and_then(|stage| stage.schedule.window.as_ref());
        let words = |waits_for: &WaitsFor| match waits_for {
            WaitsFor::StartAt => "the start of the stage to come".to_owned(),
            WaitsFor::Person => "a person: that start was missed".to_owned(),
            WaitsFor::Window => window.map_or_else(
                || "the window".to_owned(),
                |hours| format!("the window {hours}"),
            ),
            WaitsFor::Freeze => "the end of the freeze".to_owned(),
        };
        waits_for.iter().map(words).collect()
    }

    pub(super) fn told_to_wait_for(&self) -> &[WaitsFor] {
        let run = self.state.run.as_ref();
        run.map_or(&[], |run| &run.stage.waits_for)
    }

    pub(super) fn has_next_stage(&self) -> bool {
        let run = self.state.run.as_ref();
        run.is_some_and(|run| run.stage.index + 1 < run.plan.stages.len())
    }

    /// `running`, or `stabilizing` beyond the last stage.
    pub(super) fn phase_of_stage(&self) -> Phase {
        let settles = |run: &super::Run| run.plan.settles_at(run.stage.index);
        match self.state.run.as_ref().is_some_and(settles) {
            true => Phase::Stabilizing,
            false => Phase::Running,
        }
    }

    fn wait(
        &mut self,
        now: Now,
        phase: Phase,
        waits_for: Vec<WaitsFor>,
        evaluations: Vec<Evaluation>,
        out: &mut Vec<Effect>,
    ) {
        self.state.phase = phase;
        if let Some(run) = &mut self.state.run {
            run.stage.waits_for.clone_from(&waits_for);
        }
        let why = self.waits_in_words(&waits_for).join("; ");
        let author = Author {
            by: Author::GATE.by,
            reason: &why,
        };
        let kind = EventKind::Waits {
            waits_for,
            evaluations,
        };
        self.tell(now, author, kind, out);
    }

    // Days may lie between the stage's end and its step.
    fn step_if_it_still_holds(&mut self, now: Now, out: &mut Vec<Effect>) {
        let evaluations = self.judge_advance_at(now);
        match self.standing(&evaluations) {
            Standing::Failed => {
                let unmet = unmet_criteria(&evaluations).join("; ");
                let why = format!("at the moment of the step no longer met: {unmet}");
                self.hold(now, Author::GATE, Cause::Criteria, &why, evaluations, out);
            }
            Standing::Undecided => self.hold_undecided(now, evaluations, out),
            Standing::Passed => self.pass(now, evaluations, out),
        }
    }

    fn stage_to_come(&self) -> Option<&Stage> {
        let run = self.state.run.as_ref()?;
        match self.state.phase {
            Phase::Scheduled => run.plan.stage(run.stage.index),
            Phase::Idle
            | Phase::Running
            | Phase::AwaitingApproval
            | Phase::Waiting
            | Phase::Stabilizing
            | Phase::Held
            | Phase::Paused
            | Phase::Manual
            | Phase::RollingBack
            | Phase::RolledBack
            | Phase::Aborted
            | Phase::Complete => run.plan.stage(run.stage.index + 1),
        }
    }

    // Whoever approved after that time knew that it had passed.
    fn start_is_missed(&self, now: Now, start_at: WallTime) -> bool {
        let Some(stage) = self.stage_to_come() else {
            return false;
        };
        let late_ms = now.wall.as_unix_millis() - start_at.as_unix_millis();
        let approved_since = self.ask().is_some_and(|ask| {
            let mut approvals = ask.approvals.iter();
            approvals.any(|approval| approval.at.wall >= start_at)
        });
        u64::try_from(late_ms).is_ok_and(|late| late > millis(stage.schedule.start_grace))
            && !approved_since
    }
}
