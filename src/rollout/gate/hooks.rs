//! Hooks: which is due, in which order, what its end leads to, and what becomes of one that was found half-run.
//!
//! A hook begins when the event of its beginning is on disk, so that none runs that a restart would not know of. The hooks
//! of a rollback run beside those of a step forward, and each of the two one after the other. Runs nothing itself.

use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind, HookEnding, HookName, HookOrder, HookOutcome};
use super::emit::Author;
use super::input::{EventId, HookEnd};
use super::state::{Cause, Phase};
use crate::rollout::plan::{Act, Hook, HookKind, When};
use crate::rollout::time::Now;

/// What is remembered of hooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HookBook {
    /// Those that have not ended, in their order.
    pub tasks: Vec<HookTask>,
    /// The stage whose `before` hooks have passed last.
    pub passed: Option<usize>,
    /// A step by hand that waits for them.
    pub step: Option<StepByHand>,
}

/// One hook on its way. Its stage is one of the run's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookTask {
    pub kind: HookKind,
    pub stage: usize,
    pub index: usize,
    pub state: HookState,
    /// The event of its first beginning: what names it to those who must do nothing twice.
    pub key: Option<EventId>,
    /// Its `verify` is run in its place.
    pub verifies: bool,
    /// What it was run for is over: its end is recorded and leads to nothing.
    pub abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    Queued,
    /// Its beginning is recorded and not known to be on disk.
    Starting(EventId),
    Running(EventId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepByHand {
    pub by: String,
    pub reason: String,
    pub forced: bool,
}

/// Hooks of the two run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Forward,
    Back,
}

impl HookTask {
    const fn lane(&self) -> Lane {
        match self.kind {
            HookKind::Before | HookKind::After => Lane::Forward,
            HookKind::Rollback | HookKind::OnNoBaseline => Lane::Back,
        }
    }

    const fn begun(&self) -> Option<EventId> {
        match self.state {
            HookState::Queued => None,
            HookState::Starting(id) | HookState::Running(id) => Some(id),
        }
    }
}

impl Gate {
    // === what makes hooks due ===

    /// Whether the step to this stage may be taken. Where its `before` hooks have not passed they are begun, and the
    /// step follows them.
    pub(super) fn before_hooks_passed(&mut self, stage: usize) -> bool {
        let none = self.hooks_of(stage, HookKind::Before).is_empty();
        if none || self.state.hooks.passed == Some(stage) {
            return true;
        }
        let under_way = self
            .live_tasks()
            .any(|task| (task.kind, task.stage) == (HookKind::Before, stage));
        if !under_way {
            self.queue_hooks(HookKind::Before, stage);
        }
        false
    }

    /// The first stage has no stage before it to wait in: the rollout is held at its weight until the hooks have passed.
    /// Answers whether it is.
    pub(super) fn held_by_first_hooks(
        &mut self,
        now: Now,
        author: Author<'_>,
        out: &mut Vec<Effect>,
    ) -> bool {
        if !self.is_before_first_stage() || self.before_hooks_passed(0) {
            return false;
        }
        let why = "the hooks before the first stage have to pass";
        self.hold(now, author, Cause::Hook, why, Vec::new(), out);
        true
    }

    /// A step by hand that waits for the hooks before the next stage. Answers whether it does.
    pub(super) fn waits_for_hooks(&mut self, author: Author<'_>, forced: bool) -> bool {
        let held_by_one = self
            .state
            .causes
            .iter()
            .any(|held| held.cause == Cause::Hook);
        let Some(next) = self.state.run.as_ref().map(|run| run.stage.index + 1) else {
            return false;
        };
        // Who forces a step over a hook that failed has seen it fail.
        if (forced && held_by_one) || self.before_hooks_passed(next) {
            return false;
        }
        self.state.hooks.step = Some(StepByHand {
            by: author.by.to_owned(),
            reason: author.reason.to_owned(),
            forced,
        });
        true
    }

    /// What is due when a stage was left for the next, or for good.
    pub(super) fn queue_after_hooks(&mut self, stage: usize) {
        self.abandon_before_hooks();
        self.queue_hooks(HookKind::After, stage);
    }

    /// What is due when everybody went back to baseline.
    pub(super) fn queue_rollback_hooks(&mut self) {
        self.abandon_before_hooks();
        let stage = self.state.run.as_ref().map(|run| run.stage.index);
        // A rehearsal stops nobody's servers.
        if let Some(stage) = stage.filter(|_| self.state.rehearsal.is_none()) {
            self.queue_hooks(HookKind::Rollback, stage);
        }
    }

    /// What is due when there is nowhere to go back to; once until it has ended.
    pub(super) fn queue_no_baseline_hooks(&mut self) {
        let waits = |task: &HookTask| task.kind == HookKind::OnNoBaseline;
        let under_way = self.live_tasks().any(waits);
        let stage = self.state.run.as_ref().map(|run| run.stage.index);
        if let (Some(stage), false) = (stage, under_way) {
            self.queue_hooks(HookKind::OnNoBaseline, stage);
        }
    }

    /// The step that they were run for is not to be taken now: those that wait are let go of.
    pub(super) fn abandon_before_hooks(&mut self) {
        let next = self.state.run.as_ref().map(|run| run.stage.index + 1);
        let book = &mut self.state.hooks;
        book.step = None;
        if book.passed == next {
            book.passed = None;
        }
        book.tasks
            .retain(|task| task.kind != HookKind::Before || task.state != HookState::Queued);
        for task in &mut book.tasks {
            task.abandoned |= task.kind == HookKind::Before;
        }
    }

    /// A new run: what an earlier one left is let go of.
    pub(super) fn forget_hooks(&mut self) {
        self.state.hooks = HookBook::default();
    }

    /// The hook of a rollback that has not ended, by its name.
    pub(super) fn rollback_hook(&self) -> Option<String> {
        let task = self
            .live_tasks()
            .find(|task| task.kind == HookKind::Rollback)?;
        self.hook(task).map(|hook| hook.name.clone())
    }

    // === from one to the next ===

    /// Begins what is due: of each lane the first.
    pub(super) fn drive_hooks(&mut self, now: Now, out: &mut Vec<Effect>) {
        for lane in [Lane::Forward, Lane::Back] {
            while let Some(at) = self.next_of(lane) {
                let task = self.state.hooks.tasks[at].clone();
                match self.hook(&task).map(|hook| hook.when) {
                    Some(When::Always) => self.begin_hook(now, at, false, out),
                    Some(When::BaselineUnhealthy) if self.baseline_shortage().is_some() => {
                        self.begin_hook(now, at, false, out);
                    }
                    Some(When::BaselineUnhealthy) => self.skip_hook(now, at, out),
                    // The plan that it belongs to is gone.
                    None => {
                        self.state.hooks.tasks.remove(at);
                    }
                }
            }
        }
    }

    /// Runs those whose beginning is on disk.
    pub(super) fn run_stored_hooks(&mut self, id: EventId, out: &mut Vec<Effect>) {
        for at in 0..self.state.hooks.tasks.len() {
            let task = self.state.hooks.tasks[at].clone();
            let HookState::Starting(started) = task.state else {
                continue;
            };
            if started > id {
                continue;
            }
            if let Some(order) = self.order(&task, started) {
                self.state.hooks.tasks[at].state = HookState::Running(started);
                out.push(Effect::RunHook(Box::new(order)));
            }
        }
    }

    /// A hook came to its end. One that nobody waits for any more is passed over.
    pub(super) fn hook_ended(&mut self, now: Now, end: HookEnd, out: &mut Vec<Effect>) {
        let running = HookState::Running(end.started);
        let tasks = &self.state.hooks.tasks;
        let Some(at) = tasks.iter().position(|task| task.state == running) else {
            return;
        };
        let outcome = match end.passed {
            true => HookOutcome::Passed,
            false => HookOutcome::Failed,
        };
        let ending = HookEnding {
            outcome,
            took: end.took,
            attempts: end.attempts,
            code: end.code,
            why: end.why,
            output: end.output,
        };
        self.end_hook(now, at, ending, out);
    }

    /// After a restart: what had begun and not ended is run again where that does no harm, else it is unknown, verified
    /// where it can be, and a person is called.
    pub(super) fn recover_hooks(&mut self, now: Now, out: &mut Vec<Effect>) {
        let begun = |task: &HookTask| task.begun();
        let ids: Vec<EventId> = self.state.hooks.tasks.iter().filter_map(begun).collect();
        for id in ids {
            let tasks = &self.state.hooks.tasks;
            let Some(at) = tasks.iter().position(|task| task.begun() == Some(id)) else {
                continue;
            };
            let task = tasks[at].clone();
            let Some(hook) = self.hook(&task).cloned() else {
                self.state.hooks.tasks.remove(at);
                continue;
            };
            // To verify does no harm a second time.
            if (hook.idempotent && !task.abandoned) || task.verifies {
                self.begin_hook(now, at, true, out);
                continue;
            }
            let why = "serin ended while it ran: nobody knows how it ended";
            if hook.verify.is_some() && !task.abandoned {
                self.tell_end(now, &task, HookEnding::unknown(why), out);
                self.call_for(now, &task, why, out);
                self.state.hooks.tasks[at].verifies = true;
                self.begin_hook(now, at, false, out);
            } else {
                self.end_hook(now, at, HookEnding::unknown(why), out);
            }
        }
    }

    fn begin_hook(&mut self, now: Now, at: usize, again: bool, out: &mut Vec<Effect>) {
        let task = self.state.hooks.tasks[at].clone();
        let Some(hook) = self.name_of(&task) else {
            return;
        };
        let kind = EventKind::HookStarted { hook, again };
        self.tell(now, Author::GATE, kind, out);
        let id = self.state.last_event;
        let task = &mut self.state.hooks.tasks[at];
        task.state = HookState::Starting(id);
        task.key.get_or_insert(id);
    }

    fn skip_hook(&mut self, now: Now, at: usize, out: &mut Vec<Effect>) {
        let ending = HookEnding {
            outcome: HookOutcome::Skipped,
            ..HookEnding::unknown("baseline is healthy")
        };
        self.end_hook(now, at, ending, out);
    }

    fn end_hook(&mut self, now: Now, at: usize, ending: HookEnding, out: &mut Vec<Effect>) {
        let task = self.state.hooks.tasks.remove(at);
        let (outcome, why) = (ending.outcome, ending.why.clone());
        self.note_rollback_hook(now, &task, outcome);
        self.tell_end(now, &task, ending, out);
        let passed = match outcome {
            HookOutcome::Passed | HookOutcome::Skipped => true,
            HookOutcome::Failed | HookOutcome::Unknown => false,
        };
        if !passed {
            self.call_for(now, &task, &why, out);
        }
        match task.kind {
            HookKind::Before if !task.abandoned && passed => self.before_passed(now, &task, out),
            HookKind::Before if !task.abandoned => self.before_failed(now, &task, &why, out),
            HookKind::Before | HookKind::After | HookKind::Rollback | HookKind::OnNoBaseline => {}
        }
    }

    // The last of them lets the step be taken: at once where somebody waits for it, else at the next look at the stage.
    fn before_passed(&mut self, now: Now, task: &HookTask, out: &mut Vec<Effect>) {
        let more = self
            .live_tasks()
            .any(|other| (other.kind, other.stage) == (HookKind::Before, task.stage));
        if more {
            return;
        }
        self.state.hooks.passed = Some(task.stage);
        if let Some(step) = self.state.hooks.step.take() {
            // What came up since it was asked for keeps it: the stage's end asks again.
            let is_weak = !step.forced && self.baseline_shortage().is_some();
            if self.state.freeze.is_some() || is_weak {
                return;
            }
            let evaluations = self.judge_all(now);
            let author = Author {
                by: &step.by,
                reason: &step.reason,
            };
            self.advance(now, author, evaluations, step.forced, out);
            return;
        }
        self.begin_behind_hooks(now, out);
    }

    /// The first stage begins once its hooks have passed and nothing else keeps it: then, or as soon as that is over. Until
    /// then the hold says what keeps it.
    pub(super) fn begin_behind_hooks(&mut self, now: Now, out: &mut Vec<Effect>) {
        let may_begin = self.is_before_first_stage()
            && self.state.phase == Phase::Held
            && self.state.hooks.passed == Some(0);
        let kept = self.kept_behind_hooks();
        let mut causes = self.state.causes.iter_mut();
        let by_hooks = causes.find(|held| held.cause == Cause::Hook);
        let Some(held) = by_hooks.filter(|_| may_begin) else {
            return;
        };
        if let Some(kept) = kept {
            held.why = format!("the hooks before the first stage have passed; {kept}");
            return;
        }
        self.state.causes.retain(|held| held.cause != Cause::Hook);
        if self.state.causes.is_empty() {
            self.state.phase = Phase::Running;
            self.go_on(now, Author::GATE, out);
        } else {
            let cause = Cause::Hook;
            self.tell(now, Author::GATE, EventKind::CauseEnded { cause }, out);
        }
    }

    // What stands in the way of a step whose hooks have passed.
    fn kept_behind_hooks(&self) -> Option<String> {
        let frozen = self.state.freeze.as_ref();
        let frozen = frozen.map(|freeze| format!("frozen by {} ({})", freeze.by, freeze.reason));
        frozen.or_else(|| self.baseline_shortage())
    }

    fn before_failed(&mut self, now: Now, task: &HookTask, why: &str, out: &mut Vec<Effect>) {
        self.abandon_before_hooks();
        let why = self.sentence(task, why);
        if let Some(held) = self
            .state
            .causes
            .iter_mut()
            .find(|held| held.cause == Cause::Hook)
        {
            held.why = why;
        } else if self.state.phase.is_in_a_run() {
            self.hold(now, Author::GATE, Cause::Hook, &why, Vec::new(), out);
        }
    }

    /// Opens an incident: a person has to look at what a hook left behind.
    fn call_for(&mut self, now: Now, task: &HookTask, why: &str, out: &mut Vec<Effect>) {
        let summary = self.sentence(task, why);
        self.add_incident(now, Author::GATE, summary, out);
    }

    fn tell_end(&mut self, now: Now, task: &HookTask, ending: HookEnding, out: &mut Vec<Effect>) {
        if let Some(hook) = self.name_of(task) {
            self.tell(
                now,
                Author::GATE,
                EventKind::HookEnded { hook, ending },
                out,
            );
        }
    }

    // === reading ===

    /// Whether the first stage has not begun.
    pub(super) fn is_before_first_stage(&self) -> bool {
        let fresh = |run: &super::Run| run.stage.index == 0 && run.stage.began.is_none();
        self.state.run.as_ref().is_some_and(fresh)
    }

    fn live_tasks(&self) -> impl Iterator<Item = &HookTask> {
        let tasks = self.state.hooks.tasks.iter();
        tasks.filter(|task| !task.abandoned)
    }

    // The first that waits, where none of its lane is under way.
    fn next_of(&self, lane: Lane) -> Option<usize> {
        let tasks = &self.state.hooks.tasks;
        let of_lane = |task: &&HookTask| task.lane() == lane;
        if tasks
            .iter()
            .filter(of_lane)
            .any(|task| task.begun().is_some())
        {
            return None;
        }
        tasks.iter().position(|task| task.lane() == lane)
    }

    fn queue_hooks(&mut self, kind: HookKind, stage: usize) {
        for index in 0..self.hooks_of(stage, kind).len() {
            self.state.hooks.tasks.push(HookTask {
                kind,
                stage,
                index,
                state: HookState::Queued,
                key: None,
                verifies: false,
                abandoned: false,
            });
        }
    }

    fn hooks_of(&self, stage: usize, kind: HookKind) -> &[Hook] {
        let stage = self.plan().and_then(|plan| plan.stages.get(stage));
        stage.map_or(&[], |stage| stage.hooks.of(kind))
    }

    fn hook(&self, task: &HookTask) -> Option<&Hook> {
        self.hooks_of(task.stage, task.kind).get(task.index)
    }

    pub(super) fn name_of(&self, task: &HookTask) -> Option<HookName> {
        let stage = self.plan()?.stages.get(task.stage)?;
        Some(HookName {
            kind: task.kind,
            stage: stage.name.clone(),
            name: self.hook(task)?.name.clone(),
            verifies: task.verifies,
        })
    }

    fn order(&self, task: &HookTask, started: EventId) -> Option<HookOrder> {
        let hook = self.hook(task)?;
        let verify = hook.verify.as_ref().filter(|_| task.verifies);
        let (act, timeout): (&Act, Duration) = match verify {
            Some(verify) => (&verify.act, verify.timeout),
            None => (&hook.act, hook.timeout),
        };
        Some(HookOrder {
            hook: self.name_of(task)?,
            run: self.state.runs,
            started,
            key: task.key.unwrap_or(started),
            act: act.clone(),
            timeout,
            retries: hook.retries,
        })
    }

    fn sentence(&self, task: &HookTask, why: &str) -> String {
        self.name_of(task)
            .map_or_else(|| format!("a hook: {why}"), |hook| format!("{hook}: {why}"))
    }
}
