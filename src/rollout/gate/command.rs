//! What an operator asks for: allowed or refused by the table in `transitions`, then carried out.
//!
//! A person wins; nothing here is decided by a figure, except what `advance` needs force for.

use std::sync::Arc;

use super::Gate;
use super::effect::{Effect, EventKind, Refusal, RollbackCause};
use super::emit::Author;
use super::input::{Action, Command};
use super::retreat::Retreat;
use super::snapshot::{Progress, Run};
use super::stage::whole_seconds;
use super::state::{Cause, Phase, WaitsFor};
use super::status::Incident;
use super::transitions::Verb;
use crate::rollout::evidence::Evidence;
use crate::rollout::name::Arm;
use crate::rollout::plan::Plan;
use crate::rollout::time::Now;
use crate::rollout::weight::Weight;
use crate::rollout::window::Totals;

/// Pins are for testers; beyond this the weight is the tool.
const MAX_PINS: usize = 10_000;

pub(super) type Answer = Result<(), Refusal>;

impl Gate {
    pub(super) fn command(&mut self, now: Now, command: Command, out: &mut Vec<Effect>) {
        if let Err(refusal) = self.try_command(now, command, out) {
            out.clear();
            out.push(Effect::Refuse(refusal));
        }
    }

    fn try_command(&mut self, now: Now, command: Command, out: &mut Vec<Effect>) -> Answer {
        let Command {
            by,
            reason,
            force,
            action,
        } = command;
        let author = Author {
            by: &by,
            reason: &reason,
        };
        if let Some(why) = &self.unusable {
            return Err(Refusal::Phase(format!(
                "the store cannot be used, so nothing may change: {why}"
            )));
        }
        // A rehearsal's phases are none of the run's: it ends, and the run is told.
        if matches!(action, Action::CanaryReplaced { .. }) {
            self.end_rehearsal(now, None, "the canary was replaced".to_owned(), out);
        }
        Verb::of(&action)
            .check(self.state.phase)
            .map_err(Refusal::Phase)?;
        self.check_rehearsing(Verb::of(&action))?;
        // Whoever acts need not be reminded.
        self.state.reminder = None;
        match action {
            Action::Start {
                plan,
                baseline_endpoints,
            } => self.start(now, author, force, *plan, baseline_endpoints, out),
            Action::Pause => self.pause(now, author, out),
            Action::Resume => self.resume(now, author, out),
            Action::Retry => self.retry(now, author, out),
            Action::Hold => self.hold_by_hand(now, author, out),
            Action::Advance => self.advance_by_hand(now, author, force, out),
            Action::Rollback => self.roll_back_by_hand(now, author, out),
            Action::Abort => self.abort(now, author, out),
            Action::Approve(say) => self.approve(now, author, say, out),
            Action::Reject(say) => self.reject(now, author, say, out),
            Action::SetWeight {
                weight,
                guarded,
                holdout,
            } => {
                self.refuse_above(weight, self.holdout_in_force(holdout))?;
                self.set_weight(now, author, weight, guarded, out)
            }
            Action::Pin { learner, arm } => self.pin(now, author, learner, arm, out),
            Action::Unpin { learner } => self.unpin(now, author, &learner, out),
            Action::SetCeiling { segment, ceiling } => {
                self.set_ceiling(now, author, &segment, ceiling, out)
            }
            Action::LiftCeiling { segment } => self.lift_ceiling(now, author, &segment, out),
            Action::OpenIncident { summary } => {
                self.add_incident(now, author, summary, out);
                Ok(())
            }
            Action::CloseIncident { id } => self.close_incident(now, author, id, out),
            Action::Rehearse { injection, within } => {
                self.begin_rehearsal(now, author, injection, within, out)
            }
            Action::CanaryReplaced { what, version } => {
                self.replace_canary(now, author, what, version, out)
            }
            Action::Freeze { until } => self.freeze(now, author, until, out),
            Action::Unfreeze => self.unfreeze(now, author, out),
        }
    }

    fn start(
        &mut self,
        now: Now,
        author: Author<'_>,
        force: bool,
        plan: Plan,
        baseline_endpoints: u32,
        out: &mut Vec<Effect>,
    ) -> Answer {
        self.refuse_frozen(Verb::Start)?;
        if let Some(back) = self.state.rolled_back.filter(|_| !force) {
            let since = now.mono.since(back.mono);
            if since < plan.gate.cooldown {
                let left = whole_seconds(plan.gate.cooldown - since);
                let why =
                    format!("a rollback is recent; the cooldown lasts {left} more, or use force");
                return Err(self.refuse(Verb::Start, &why));
            }
        }
        if let Some(hook) = self.rollback_hook().filter(|_| !force) {
            let why =
                format!("the rollback's hook {hook} has not ended; wait for it, or use force");
            return Err(self.refuse(Verb::Start, &why));
        }
        let stages = plan.stages.len();
        let start_at = plan.stage(0).and_then(|stage| stage.schedule.start_at);
        self.forget_hooks();
        self.state.recovery = None;
        self.state.runs += 1;
        self.take_over(None);
        let failed_before = self.failed_segments();
        self.state.run = Some(Run {
            confidence: None,
            version: plan.version.clone(),
            evidence: Evidence::new(now, &plan),
            plan,
            started: now,
            ended: None,
            completed: false,
            baseline_endpoints,
            fallback_used: false,
            failed_segments: Default::default(),
            stage: Progress::new(0),
            totals: Totals::default(),
            learners: Default::default(),
            outcomes: Default::default(),
        });
        self.lift_with_next_event(failed_before);
        // Whoever starts a run whose time has passed means now.
        match start_at.filter(|start_at| now.wall < *start_at) {
            Some(start_at) => {
                self.state.phase = Phase::Scheduled;
                self.cancel_step(out);
                self.watch_anew(now);
                if let Some(run) = &mut self.state.run {
                    run.stage.waits_for = vec![WaitsFor::StartAt];
                }
                let kind = EventKind::Scheduled { stages, start_at };
                self.tell(now, author, kind, out);
            }
            None => self.begin_first_stage(now, author, out),
        }
        Ok(())
    }

    fn pause(&mut self, now: Now, author: Author<'_>, out: &mut Vec<Effect>) -> Answer {
        self.cancel_step(out);
        self.abandon_before_hooks();
        self.state.phase = Phase::Paused;
        self.tell(now, author, EventKind::Paused, out);
        Ok(())
    }

    // After a hold the stage's figures start over, or what was looked into would hold it again.
    fn resume(&mut self, now: Now, author: Author<'_>, out: &mut Vec<Effect>) -> Answer {
        self.refuse_without_store(Verb::Resume)?;
        self.refuse_step_if_frozen(Verb::Resume)?;
        // A step that was asked for before is not meant any more.
        if !self.is_before_first_stage() {
            self.abandon_before_hooks();
        }
        let open = self.state.incidents.len() as u64;
        let was_held = self.state.phase == Phase::Held;
        if let Some(run) = self.state.run.as_mut().filter(|_| was_held) {
            run.stage.begin_figures(open);
        }
        self.begin_windows(now);
        self.begin_shares();
        self.renew_evidence(now, author, out);
        self.take_over(None);
        self.go_on(now, author, out);
        Ok(())
    }

    fn retry(&mut self, now: Now, author: Author<'_>, out: &mut Vec<Effect>) -> Answer {
        self.refuse_without_store(Verb::Retry)?;
        self.refuse_step_if_frozen(Verb::Retry)?;
        self.renew_evidence(now, author, out);
        if let Some(run) = &mut self.state.run {
            run.stage = Progress::new(run.stage.index);
        }
        self.state.phase = self.phase_of_stage();
        self.take_over(None);
        self.abandon_before_hooks();
        if self.held_by_first_hooks(now, author, out) {
            return Ok(());
        }
        self.step_to(now, self.stage_weight(), author, EventKind::Retried, out);
        Ok(())
    }

    fn hold_by_hand(&mut self, now: Now, author: Author<'_>, out: &mut Vec<Effect>) -> Answer {
        if self
            .state
            .causes
            .iter()
            .any(|held| held.cause == Cause::Operator)
        {
            return Err(self.refuse(Verb::Hold, "the rollout is held by an operator already"));
        }
        let why = match author.reason {
            "" => "an operator asked for it",
            reason => reason,
        };
        let evaluations = self.judge_all(now);
        self.hold(now, author, Cause::Operator, why, evaluations, out);
        Ok(())
    }

    fn advance_by_hand(
        &mut self,
        now: Now,
        author: Author<'_>,
        force: bool,
        out: &mut Vec<Effect>,
    ) -> Answer {
        self.refuse_without_store(Verb::Advance)?;
        self.refuse_frozen(Verb::Advance)?;
        if self.state.phase.is_under_way() && self.state.awaiting.is_some() {
            return Err(self.refuse(Verb::Advance, "a step is being recorded"));
        }
        let unmet = self.unmet(now);
        if !unmet.is_empty() && !force {
            let why = format!(
                "the criteria are not met ({}); force and a reason are needed",
                unmet.join("; ")
            );
            return Err(self.refuse(Verb::Advance, &why));
        }
        if !unmet.is_empty() && author.reason.trim().is_empty() {
            let why = "advance over unmet criteria needs a reason".to_owned();
            return Err(Refusal::Invalid(why));
        }
        if self.state.phase == Phase::Scheduled {
            self.begin_first_stage(now, author, out);
            return Ok(());
        }
        if self.waits_for_hooks(author, !unmet.is_empty()) {
            return Ok(());
        }
        let evaluations = self.judge_all(now);
        self.advance(now, author, evaluations, !unmet.is_empty(), out);
        Ok(())
    }

    fn roll_back_by_hand(&mut self, now: Now, author: Author<'_>, out: &mut Vec<Effect>) -> Answer {
        self.drop_rehearsal(now, author.by, out);
        let evaluations = self.judge_all(now);
        let retreat = Retreat {
            cause: RollbackCause::Operator,
            breached_since: None,
            evaluations,
        };
        self.roll_back(now, author, retreat, out);
        Ok(())
    }

    fn abort(&mut self, now: Now, author: Author<'_>, out: &mut Vec<Effect>) -> Answer {
        self.drop_rehearsal(now, author.by, out);
        let from = self.state.split.weight;
        self.end_run(now);
        self.abandon_before_hooks();
        self.state.phase = Phase::Aborted;
        self.take_over(None);
        self.step_down(now, Weight::ZERO, author, EventKind::Aborted { from }, out);
        Ok(())
    }

    fn set_weight(
        &mut self,
        now: Now,
        author: Author<'_>,
        weight: Weight,
        guarded: bool,
        out: &mut Vec<Effect>,
    ) -> Answer {
        if self.is_frozen_below(weight) {
            self.refuse_frozen(Verb::SetWeight)?;
        }
        if self.state.phase.is_in_a_run() {
            return self.set_weight_in_a_run(now, author, weight, guarded, out);
        }
        if self.state.phase == Phase::Scheduled {
            if weight.is_zero() {
                return self.roll_back_by_hand(now, author, out);
            }
            self.end_run(now);
        }
        let from = self.state.split.weight;
        self.state.phase = match (self.state.phase, weight.is_zero()) {
            (_, false) => Phase::Manual,
            // They are closed already, and what ended them stays to be seen.
            (ended @ (Phase::RollingBack | Phase::RolledBack | Phase::Aborted), true) => ended,
            (Phase::Idle | Phase::Manual | Phase::Complete, true) => Phase::Idle,
            (
                in_a_run @ (Phase::Scheduled
                | Phase::Running
                | Phase::AwaitingApproval
                | Phase::Waiting
                | Phase::Stabilizing
                | Phase::Held
                | Phase::Paused),
                true,
            ) => in_a_run,
        };
        self.take_over(Some(guarded));
        self.set(
            now,
            author,
            weight,
            EventKind::WeightSet { from, guarded },
            out,
        );
        Ok(())
    }

    // A run's own while it lasts; nobody's once it has completed.
    fn holdout_in_force(&self, configured: Weight) -> Weight {
        match &self.state.run {
            Some(run) if self.state.phase.is_in_a_run() => run.plan.holdout,
            Some(run) if run.completed => Weight::ZERO,
            Some(_) | None => configured,
        }
    }

    fn refuse_above(&self, weight: Weight, holdout: Weight) -> Answer {
        let cap = Weight::from_ppm(Weight::FULL.ppm() - holdout.ppm()).unwrap_or_default();
        if weight <= cap {
            return Ok(());
        }
        Err(Refusal::Invalid(format!(
            "{weight} is above {cap}, which the holdout of {holdout} leaves until the end"
        )))
    }

    fn set_weight_in_a_run(
        &mut self,
        now: Now,
        author: Author<'_>,
        weight: Weight,
        guarded: bool,
        out: &mut Vec<Effect>,
    ) -> Answer {
        if weight.is_zero() {
            return self.roll_back_by_hand(now, author, out);
        }
        let from = self.state.split.weight;
        self.renew_evidence(now, author, out);
        self.state.guarded = guarded;
        self.state.decided = None;
        let why = format!("the weight was set to {weight} by hand");
        self.hold(now, author, Cause::Manual, &why, Vec::new(), out);
        self.set(
            now,
            author,
            weight,
            EventKind::WeightSet { from, guarded },
            out,
        );
        Ok(())
    }

    // The same weight again moves nobody, so it need not wait.
    fn set(
        &mut self,
        now: Now,
        author: Author<'_>,
        weight: Weight,
        kind: EventKind,
        out: &mut Vec<Effect>,
    ) {
        if weight > self.state.split.weight {
            self.step_up(now, weight, author, kind, out);
        } else {
            self.step_down(now, weight, author, kind, out);
        }
    }

    fn pin(
        &mut self,
        now: Now,
        author: Author<'_>,
        learner: Box<[u8]>,
        arm: Arm,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let pins = &self.state.split.pins;
        if pins.len() >= MAX_PINS && !pins.contains_key(&learner) {
            return Err(Refusal::Invalid(format!(
                "there are {MAX_PINS} pins already"
            )));
        }
        let pool = match (self.plan(), arm) {
            (Some(plan), Arm::Baseline) => plan.identity.baseline.to_string(),
            (Some(plan), Arm::Canary) => plan.identity.canary.to_string(),
            (None, arm) => arm.to_string(),
        };
        let kind = EventKind::Pinned {
            learner: shown(&learner),
            pool,
        };
        Arc::make_mut(&mut self.state.split.pins).insert(learner, arm);
        self.publish(out);
        self.begin_shares();
        self.renew_evidence(now, author, out);
        self.tell(now, author, kind, out);
        Ok(())
    }

    fn unpin(
        &mut self,
        now: Now,
        author: Author<'_>,
        learner: &[u8],
        out: &mut Vec<Effect>,
    ) -> Answer {
        let pins = &mut self.state.split.pins;
        if !pins.contains_key(learner) {
            return Err(Refusal::Invalid(format!(
                "learner {:?} is not pinned",
                shown(learner)
            )));
        }
        Arc::make_mut(pins).remove(learner);
        self.publish(out);
        self.begin_shares();
        self.tell(
            now,
            author,
            EventKind::Unpinned {
                learner: shown(learner),
            },
            out,
        );
        Ok(())
    }

    /// Something that a person has to look into is open from now on.
    pub(super) fn add_incident(
        &mut self,
        now: Now,
        author: Author<'_>,
        summary: String,
        out: &mut Vec<Effect>,
    ) {
        self.state.incidents_opened += 1;
        let id = self.state.incidents_opened;
        self.state.incidents.push(Incident {
            id,
            summary: summary.clone(),
            opened: now,
        });
        self.tell(
            now,
            author,
            EventKind::IncidentOpened {
                incident: id,
                summary,
            },
            out,
        );
    }

    fn close_incident(
        &mut self,
        now: Now,
        author: Author<'_>,
        id: u64,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let open = self
            .state
            .incidents
            .iter()
            .position(|incident| incident.id == id);
        let Some(place) = open else {
            return Err(Refusal::Invalid(format!("no incident {id} is open")));
        };
        self.state.incidents.remove(place);
        self.tell(now, author, EventKind::IncidentClosed { incident: id }, out);
        Ok(())
    }

    // What was measured belongs to a canary that is gone; the weight and the phase stay.
    fn replace_canary(
        &mut self,
        now: Now,
        author: Author<'_>,
        what: String,
        version: Option<String>,
        out: &mut Vec<Effect>,
    ) -> Answer {
        self.abandon_before_hooks();
        if let (Some(run), Some(version)) = (&mut self.state.run, version) {
            run.version = version;
        }
        if let Some(run) = self
            .state
            .run
            .as_mut()
            .filter(|_| self.state.phase.is_in_a_run())
        {
            run.stage = Progress::new(run.stage.index);
        }
        if self.state.phase.is_in_a_run() {
            self.begin_evidence(now);
        }
        // What passed was another canary.
        if self.state.phase.is_under_way() {
            self.state.phase = self.phase_of_stage();
        }
        // Before the first stage nothing is in force that could begin anew.
        if self.state.phase == Phase::Scheduled {
            self.watch_anew(now);
        } else {
            // Whoever stands on which arm stays there.
            let shares = self.state.watch.shares;
            self.put_in_force(now, self.state.split.weight, out);
            self.state.watch.shares = shares;
        }
        self.tell(now, author, EventKind::CanaryReplaced { what }, out);
        Ok(())
    }

    // A person has decided: holds and what waited are over, and triggers guard again unless told not to.
    fn take_over(&mut self, guarded: Option<bool>) {
        self.state.causes.clear();
        self.state.decided = None;
        self.state.guarded = guarded.unwrap_or(true);
    }

    fn end_run(&mut self, now: Now) {
        if let Some(run) = &mut self.state.run {
            run.ended = Some(now);
        }
    }

    // To go on at the stage's weight can be a step towards canary.
    fn refuse_step_if_frozen(&self, verb: Verb) -> Answer {
        match self.is_frozen_below(self.stage_weight()) {
            true => self.refuse_frozen(verb),
            false => Ok(()),
        }
    }

    pub(super) fn refuse_without_store(&self, verb: Verb) -> Answer {
        match &self.state.store_fault {
            Some(why) => Err(self.refuse(verb, &format!("the store cannot write: {why}"))),
            None => Ok(()),
        }
    }

    pub(super) fn refuse(&self, verb: Verb, why: &str) -> Refusal {
        Refusal::Phase(verb.refusal(why, self.state.phase))
    }
}

fn shown(learner: &[u8]) -> String {
    String::from_utf8_lossy(learner).into_owned()
}
