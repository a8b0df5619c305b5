//! Holds: how a cause comes, how it ends by itself, and how a person ends it.
//!
//! One event per hold and cause. Never moves a weight but back to the stage's, when the last cause is gone.

use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind};
use super::emit::Author;
use super::judge::is_undecided;
use super::snapshot::HeldFor;
use super::state::{Cause, Phase};
use crate::rollout::name::Arm;
use crate::rollout::time::Now;
use crate::rollout::verdict::Evaluation;
use crate::rollout::weight::Weight;

/// A cause that ends by itself must be gone for so long, or the rollout would flap.
const GONE_FOR: Duration = Duration::from_secs(60);
/// Above this, baseline carries less than half of the learners and cannot be missed unnoticed.
const HALF_PPM: u32 = 500_000;

impl Gate {
    /// Holds for a cause, or adds it to the hold. The first hold of a run ends a step that waits:
    /// nothing moves towards canary while there is something to look into.
    pub(super) fn hold(
        &mut self,
        now: Now,
        author: Author<'_>,
        cause: Cause,
        why: &str,
        evaluations: Vec<Evaluation>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(held) = self
            .state
            .causes
            .iter_mut()
            .find(|held| held.cause == cause)
        {
            held.gone_since = None;
            return;
        }
        if cause != Cause::Hook {
            self.abandon_before_hooks();
        }
        if cause == Cause::NoBaseline && self.baseline_usable() == 0 {
            self.queue_no_baseline_hooks();
        }
        if self.state.phase != Phase::Held {
            self.cancel_step(out);
            self.state.phase = Phase::Held;
            self.forget_passage();
        }
        self.state.causes.push(HeldFor {
            cause,
            since: now,
            why: why.to_owned(),
            gone_since: None,
        });
        let reason = if author.reason.is_empty() {
            why
        } else {
            author.reason
        };
        let author = Author {
            by: author.by,
            reason,
        };
        let confidence = match cause {
            Cause::Criteria | Cause::NoData => self.confidence_of_hold(&evaluations),
            Cause::Outage
            | Cause::NoBaseline
            | Cause::Fleet
            | Cause::Condition
            | Cause::Alarm
            | Cause::Manual
            | Cause::Operator
            | Cause::Store
            | Cause::Srm
            | Cause::Hook
            | Cause::Rejected => None,
        };
        let kind = EventKind::Held {
            cause,
            evaluations,
            confidence,
        };
        self.tell(now, author, kind, out);
    }

    /// A hold that the gate finds by itself, once per cause, with every evaluation. In `paused` and
    /// `manual` the rollout stands still already.
    pub(super) fn hold_for(&mut self, now: Now, cause: Cause, why: &str, out: &mut Vec<Effect>) {
        let acts = self.state.phase.is_under_way() || self.state.phase == Phase::Held;
        if acts && !self.state.causes.iter().any(|held| held.cause == cause) {
            let evaluations = self.judge_all(now);
            self.hold(now, Author::GATE, cause, why, evaluations, out);
        }
    }

    /// Ends the causes that end by themselves and are gone for a minute; the last one resumes.
    pub(super) fn end_causes(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.begin_behind_hooks(now, out);
        let present = self.present_causes();
        let mut ended = Vec::new();
        // To go on would be a step towards canary.
        if self.is_frozen_below(self.stage_weight()) {
            return;
        }
        for held in self
            .state
            .causes
            .iter_mut()
            .filter(|held| held.cause.ends_by_itself())
        {
            if present.contains(&held.cause) {
                held.gone_since = None;
                continue;
            }
            let gone_since = *held.gone_since.get_or_insert(now.mono);
            if now.mono.since(gone_since) >= GONE_FOR {
                ended.push(held.cause);
            }
        }
        for cause in ended {
            self.state.causes.retain(|held| held.cause != cause);
            let last = self.state.causes.is_empty();
            if last {
                self.state.phase = self.phase_of_stage();
            }
            self.tell(now, Author::GATE, EventKind::CauseEnded { cause }, out);
            if last {
                self.go_on(now, Author::GATE, out);
            }
        }
    }

    /// Runs on at the stage's weight. Whoever calls this has ended every cause.
    pub(super) fn go_on(&mut self, now: Now, author: Author<'_>, out: &mut Vec<Effect>) {
        if self.held_by_first_hooks(now, author, out) {
            return;
        }
        self.state.phase = self.phase_of_stage();
        self.state.causes.clear();
        let weight = self.stage_weight();
        let begun = self
            .state
            .run
            .as_ref()
            .is_some_and(|run| run.stage.began.is_some());
        if begun && weight == self.state.split.weight {
            // A weight by hand that still waits for the disk is not meant any more.
            self.cancel_step(out);
            self.tell(now, author, EventKind::Resumed, out);
        } else {
            self.step_to(now, weight, author, EventKind::Resumed, out);
        }
    }

    /// Whoever had said yes, or what the step waited for, is asked again when the stage has passed again.
    pub(super) fn forget_passage(&mut self) {
        if let Some(run) = &mut self.state.run {
            run.stage.ask = None;
            run.stage.waits_for.clear();
        }
    }

    /// What is wrong with stepping up while baseline is weak; `None` while it is strong enough.
    pub(super) fn baseline_shortage(&self) -> Option<String> {
        let run = self.state.run.as_ref()?;
        let share = run.plan.gate.baseline_min_healthy;
        let needed = (f64::from(run.baseline_endpoints) * share).ceil().max(1.0) as u32;
        let usable = self.baseline_usable();
        (usable < needed).then(|| {
            let at_start = run.baseline_endpoints;
            format!("baseline has {usable} usable endpoints; {needed} of the {at_start} at start are needed")
        })
    }

    pub(super) fn baseline_usable(&self) -> u32 {
        self.state.pools[Arm::Baseline.index()].usable
    }

    /// Tells once that baseline could not take its learners back while most are on canary.
    pub(super) fn note_thin_baseline(&mut self, now: Now, out: &mut Vec<Effect>) {
        let shortage = self.baseline_shortage();
        let most_on_canary =
            self.state.split.weight > Weight::from_ppm(HALF_PPM).unwrap_or_default();
        match shortage {
            Some(why) if most_on_canary && !self.state.thin_baseline_told => {
                self.state.thin_baseline_told = true;
                let kind = EventKind::AlarmNoted {
                    why,
                    evaluations: Vec::new(),
                };
                self.tell(now, Author::GATE, kind, out);
            }
            Some(_) => {}
            None => self.state.thin_baseline_told = false,
        }
    }

    // Of the causes that end by themselves, those that are there now.
    fn present_causes(&self) -> Vec<Cause> {
        let held = |cause| self.state.causes.iter().any(|held| held.cause == cause);
        let mut present = Vec::new();
        if held(Cause::Outage) && self.outage_lasts() {
            present.push(Cause::Outage);
        }
        if held(Cause::NoBaseline)
            && (self.baseline_shortage().is_some() || self.state.decided.is_some())
        {
            present.push(Cause::NoBaseline);
        }
        if held(Cause::Fleet) && self.is_cut_off() {
            present.push(Cause::Fleet);
        }
        let is_undecided =
            || self.lacks_requests().is_some() || self.judge_advance().iter().any(is_undecided);
        if held(Cause::NoData) && is_undecided() {
            present.push(Cause::NoData);
        }
        present
    }
}
