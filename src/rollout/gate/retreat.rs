//! The ways back: a trigger that acts, an unmet criterion, a person; outage or canary; never into the void.
//!
//! Owns where a retreat goes and when it must wait. Never judges a condition.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind, RollbackCause};
use super::emit::Author;
use super::evidence::Guilty;
use super::input::EventId;
use super::snapshot::{Breach, Decided};
use super::state::{Cause, Phase};
use crate::rollout::name::Arm;
use crate::rollout::time::Now;
use crate::rollout::verdict::{Evaluation, Purpose};
use crate::rollout::weight::Weight;
use crate::rollout::window::Measured;

/// An outage that begins so soon after a step up is taken to be the step's doing.
const STEP_SUSPECT: Duration = Duration::from_secs(15 * 60);
/// How long both arms may be broken together where no plan says it.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(300);

/// Something that takes the weight down, with its evidence as it stood before.
pub(super) struct Retreat {
    pub(super) cause: RollbackCause,
    pub(super) breached_since: Option<Now>,
    pub(super) evaluations: Vec<Evaluation>,
}

impl Gate {
    /// Acts on a trigger that is breached for its time and proven.
    pub(super) fn act(&mut self, now: Now, breach: &Breach, out: &mut Vec<Effect>) {
        let cause = self.cause_of(breach);
        let lowered = self.lowered_by(breach);
        if self.baseline_usable() == 0 {
            // A segment's trigger stays breached, and acts when there is somewhere to go.
            if lowered.is_none() {
                self.state.decided = Some(Decided {
                    cause,
                    breached_since: breach.since,
                });
            }
            self.wait_for_baseline(now, breach, out);
        } else if breach.shared_since.is_some() && !self.goes_back_in_an_outage(now, breach) {
            self.hold_in_an_outage(now, breach, out);
        } else if let Some(Guilty { segment, why }) = &lowered {
            self.lower_segment(now, (segment, why), breach, out);
        } else {
            let evaluations = self.judge_all(now);
            let retreat = Retreat {
                cause,
                breached_since: Some(breach.since),
                evaluations,
            };
            self.retreat(now, Author::GATE, retreat, out);
        }
    }

    // The segment that a breach takes off canary: its own, or the one that an alarm on everybody is the doing of.
    fn lowered_by(&self, breach: &Breach) -> Option<Guilty> {
        let own = breach.segment.as_ref().map(|segment| Guilty {
            segment: Arc::clone(segment),
            why: String::new(),
        });
        own.or_else(|| {
            let condition = self.condition(breach.purpose, breach.index)?;
            self.guilty_segment(condition.regression()?)
        })
    }

    /// Waits for what both arms break together to be over.
    pub(super) fn hold_in_an_outage(&mut self, now: Now, breach: &Breach, out: &mut Vec<Effect>) {
        let why = "baseline breaks the same limit: this looks like an outage, not like the canary";
        self.note_once(now, breach, why, out);
        self.hold_for(now, Cause::Outage, why, out);
    }

    /// Carries out what was decided while baseline had no usable endpoint. Answers whether it did.
    pub(super) fn act_on_decided(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        if self.baseline_usable() == 0 {
            return false;
        }
        let Some(decided) = self.state.decided.take() else {
            return false;
        };
        let evaluations = self.judge_all(now);
        let retreat = Retreat {
            cause: decided.cause,
            breached_since: Some(decided.breached_since),
            evaluations,
        };
        self.retreat(now, Author::GATE, retreat, out);
        true
    }

    /// To the stage's fallback weight, once per run, or to 0.
    pub(super) fn retreat(
        &mut self,
        now: Now,
        author: Author<'_>,
        retreat: Retreat,
        out: &mut Vec<Effect>,
    ) {
        self.note_rehearsed(now, &retreat);
        match self.fallback(&retreat.cause) {
            Some(weight) => self.fall_back(now, author, retreat, weight, out),
            None => self.roll_back(now, author, retreat, out),
        }
    }

    /// To 0: weights first, then the record. The phase is `rolled_back` when that is on disk.
    pub(super) fn roll_back(
        &mut self,
        now: Now,
        author: Author<'_>,
        retreat: Retreat,
        out: &mut Vec<Effect>,
    ) {
        let from = self.state.split.weight;
        self.begin_recovery(now, retreat.breached_since);
        let confidence = self.confidence_of_retreat(&retreat.cause, &retreat.evaluations);
        if let Some(run) = self
            .state
            .run
            .as_mut()
            .filter(|_| self.state.phase.is_in_a_run() || self.state.phase == Phase::Scheduled)
        {
            run.ended = Some(now);
        }
        match self.state.phase {
            Phase::Running
            | Phase::AwaitingApproval
            | Phase::Waiting
            | Phase::Stabilizing
            | Phase::Held
            | Phase::Paused
            | Phase::Complete => {
                self.queue_rollback_hooks();
            }
            // No stage is in force whose hooks could be meant.
            Phase::Idle
            | Phase::Scheduled
            | Phase::Manual
            | Phase::RollingBack
            | Phase::RolledBack
            | Phase::Aborted => self.abandon_before_hooks(),
        }
        self.state.phase = Phase::RollingBack;
        self.state.causes.clear();
        self.state.decided = None;
        self.state.rolled_back = Some(now);
        self.state.retreat = Some(EventId(self.state.last_event.0 + 1));
        let kind = EventKind::RolledBack {
            cause: retreat.cause,
            from,
            breached_since: retreat.breached_since,
            evaluations: retreat.evaluations,
            confidence,
        };
        self.step_down(now, Weight::ZERO, author, kind, out);
    }

    /// Holds and pages instead of moving learners to a pool that is gone.
    fn wait_for_baseline(&mut self, now: Now, breach: &Breach, out: &mut Vec<Effect>) {
        let why = "nowhere to go: baseline has no usable endpoint";
        self.note_once(now, breach, why, out);
        self.hold_for(now, Cause::NoBaseline, why, out);
    }

    /// Tells of a breach that moves nothing, once per breach.
    pub(super) fn note_once(
        &mut self,
        now: Now,
        breach: &Breach,
        why: &str,
        out: &mut Vec<Effect>,
    ) {
        let same = |other: &&mut Breach| {
            other.is_of(breach.purpose, breach.index, breach.segment.as_ref())
        };
        if let Some(mine) = self.state.watch.breaches.iter_mut().find(same)
            && !mine.told
        {
            mine.told = true;
            let evaluations = self.judge_all(now);
            let kind = EventKind::AlarmNoted {
                why: why.to_owned(),
                evaluations,
            };
            self.tell(now, Author::GATE, kind, out);
        }
    }

    fn fall_back(
        &mut self,
        now: Now,
        author: Author<'_>,
        retreat: Retreat,
        weight: Weight,
        out: &mut Vec<Effect>,
    ) {
        let from = self.state.split.weight;
        let (cause, why) = match &retreat.cause {
            RollbackCause::Trigger(condition) => {
                (Cause::Alarm, format!("{condition} was breached"))
            }
            RollbackCause::Tripwire => (Cause::Alarm, "the tripwire was breached".to_owned()),
            RollbackCause::Criteria => (
                Cause::Criteria,
                "the stage's criteria are not met".to_owned(),
            ),
            RollbackCause::Operator => (Cause::Operator, "an operator asked for it".to_owned()),
        };
        if let Some(run) = &mut self.state.run {
            run.fallback_used = true;
        }
        self.state.decided = None;
        self.state.phase = Phase::Held;
        self.forget_passage();
        let evaluations = retreat.evaluations.clone();
        let confidence = self.confidence_of_retreat(&retreat.cause, &evaluations);
        let kind = EventKind::RolledBack {
            cause: retreat.cause,
            from,
            breached_since: retreat.breached_since,
            evaluations: retreat.evaluations,
            confidence,
        };
        self.step_down(now, weight, author, kind, out);
        self.renew_evidence(now, author, out);
        let why = format!("{why}; {weight} is its fallback weight");
        self.hold(now, author, cause, &why, evaluations, out);
    }

    // Each stage may name a weight to go on with; it takes effect once, the next alarm goes to 0.
    fn fallback(&self, cause: &RollbackCause) -> Option<Weight> {
        let run = self
            .state
            .run
            .as_ref()
            .filter(|_| self.state.phase.is_in_a_run())?;
        let weight = match cause {
            RollbackCause::Trigger(_) | RollbackCause::Tripwire => {
                self.watched_stage()?.on_rollback
            }
            RollbackCause::Criteria | RollbackCause::Operator => Weight::ZERO,
        };
        let lower = !weight.is_zero() && weight < self.state.split.weight;
        (lower && !run.fallback_used).then_some(weight)
    }

    /// At the end of a stage whose criteria are not met.
    pub(super) fn fall_back_on_criteria(
        &mut self,
        now: Now,
        weight: Weight,
        evaluations: Vec<Evaluation>,
        out: &mut Vec<Effect>,
    ) {
        let retreat = Retreat {
            cause: RollbackCause::Criteria,
            breached_since: None,
            evaluations,
        };
        self.fall_back(now, Author::GATE, retreat, weight, out);
    }

    pub(super) fn cause_of(&self, breach: &Breach) -> RollbackCause {
        match breach.purpose {
            Purpose::Tripwire => RollbackCause::Tripwire,
            Purpose::Advance | Purpose::Hold | Purpose::Rollback => {
                let condition = self.condition(breach.purpose, breach.index);
                RollbackCause::Trigger(condition.map(ToString::to_string).unwrap_or_default())
            }
        }
    }

    // gate.md, decision 7: pools share databases, and going back is the safe side.
    fn goes_back_in_an_outage(&self, now: Now, breach: &Breach) -> bool {
        let Some(began) = breach.shared_since else {
            return true;
        };
        let after_step = self
            .state
            .stepped_up
            .is_some_and(|step| began.since(step) <= STEP_SUSPECT);
        let patience = self
            .plan()
            .map_or(OUTAGE_PATIENCE, |plan| plan.gate.outage_patience);
        let needed = self.watched_stage().map_or(1, |stage| stage.min_requests);
        let baseline = self
            .condition(breach.purpose, breach.index)
            .map(|condition| {
                self.breach_view(now, breach, condition)
                    .counts(Arm::Baseline)
                    .counted
            });
        after_step || breach.shared >= patience || baseline.unwrap_or(0) < needed
    }
}
