//! Ceilings of segments: set and lifted by a person, put to 0 by a trigger `per segment` or an alarm of the evidence.
//!
//! Lower is a retreat and in force at once; higher is a step towards canary and waits for the disk. A segment at a
//! ceiling of 0 is left out of every comparison, on both arms. Never judges a condition.

use std::sync::Arc;

use super::Gate;
use super::command::Answer;
use super::effect::{Effect, EventKind, Refusal};
use super::emit::Author;
use super::input::EventId;
use super::proof::Tally;
use super::retreat::Retreat;
use super::segments::listed;
use super::snapshot::{Breach, Raise};
use super::state::Cause;
use super::transitions::Verb;
use crate::rollout::plan::Plan;
use crate::rollout::segments::{MAX_SEGMENT_LEN, is_left_out};
use crate::rollout::time::Now;
use crate::rollout::weight::Weight;

/// As many segments as a file may ask for.
const MAX_CEILINGS: usize = 1024;

impl Gate {
    /// Names of the segments seen in the present or last run.
    pub fn segments(&self) -> Vec<Arc<str>> {
        let run = self.state.run.iter();
        run.flat_map(|run| run.totals.segments.iter())
            .map(|(name, _)| Arc::clone(name))
            .collect()
    }

    pub(super) fn set_ceiling(
        &mut self,
        now: Now,
        author: Author<'_>,
        segment: &Arc<str>,
        ceiling: Weight,
        out: &mut Vec<Effect>,
    ) -> Answer {
        if ceiling == Weight::FULL {
            return self.lift_ceiling(now, author, segment, out);
        }
        self.check_segment(segment)?;
        let from = self.decided_ceiling(segment);
        let kind = EventKind::CeilingSet {
            segment: segment.to_string(),
            from,
            to: ceiling,
        };
        self.move_ceiling(now, author, (segment, ceiling), kind, out)
    }

    pub(super) fn lift_ceiling(
        &mut self,
        now: Now,
        author: Author<'_>,
        segment: &Arc<str>,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let from = self.decided_ceiling(segment);
        if from == Weight::FULL {
            let why = format!("segment {segment:?} has no ceiling");
            return Err(Refusal::Invalid(why));
        }
        let kind = EventKind::CeilingLifted {
            segment: segment.to_string(),
            from,
        };
        self.move_ceiling(now, author, (segment, Weight::FULL), kind, out)
    }

    /// Takes one segment off canary because of its own trigger, or because an alarm is its doing (then `why` says so);
    /// everybody, where too many failed already.
    pub(super) fn lower_segment(
        &mut self,
        now: Now,
        (segment, why): (&Arc<str>, &str),
        breach: &Breach,
        out: &mut Vec<Effect>,
    ) {
        let evaluations = self.judge_all(now);
        let most = self.plan().map_or(0, |plan| plan.gate.max_failed_segments);
        let mut failed = self.failed_segments();
        failed.retain(|other| other != segment);
        failed.push(Arc::clone(segment));
        // A rehearsal is over when everybody is back; a ceiling would outlive it.
        if failed.len() as u64 > most || self.state.rehearsal.is_some() {
            let names = listed(failed.iter().map(ToString::to_string).collect());
            let reason = match self.state.rehearsal {
                Some(_) => format!("a rehearsal takes everybody back: {names} failed"),
                None => format!("more than {most} segments failed: {names}"),
            };
            let author = Author {
                by: Author::GATE.by,
                reason: &reason,
            };
            let retreat = Retreat {
                cause: self.cause_of(breach),
                breached_since: Some(breach.since),
                evaluations,
            };
            self.retreat(now, author, retreat, out);
            return;
        }
        let condition = self.condition(breach.purpose, breach.index);
        let condition = condition.map(ToString::to_string).unwrap_or_default();
        let kind = EventKind::SegmentLowered {
            segment: segment.to_string(),
            condition: condition.clone(),
            from: self.ceiling(segment),
            breached_since: breach.since,
            evaluations,
        };
        self.lower(segment, Weight::ZERO);
        self.publish(out);
        self.begin_shares();
        self.leave_out(now, segment);
        if let Some(run) = &mut self.state.run {
            run.failed_segments.insert(Arc::clone(segment), condition);
        }
        // What is told of a step that waits must not come before the disk has it.
        let author = Author {
            reason: why,
            ..Author::GATE
        };
        match self.state.awaiting {
            Some(_) => self.tell(now, author, kind, out),
            None => self.tell_now(now, author, kind, out),
        }
    }

    /// Segments that a trigger lowered in this run.
    pub(super) fn failed_segments(&self) -> Vec<Arc<str>> {
        let run = self.state.run.iter();
        run.flat_map(|run| run.failed_segments.keys().cloned())
            .collect()
    }

    /// What the gate itself lowered in an earlier run is tried again with the next event, which begins a new one.
    pub(super) fn lift_with_next_event(&mut self, segments: Vec<Arc<str>>) {
        for segment in segments {
            if self.ceiling(&segment) < Weight::FULL {
                self.raise(&segment, Weight::FULL);
            }
        }
    }

    /// Puts raises in force whose events are on disk; answers whether there was one.
    pub(super) fn raise_ceilings(&mut self, stored: EventId) -> bool {
        let raises = std::mem::take(&mut self.state.raises);
        let (due, rest): (Vec<Raise>, Vec<Raise>) =
            raises.into_iter().partition(|raise| raise.event <= stored);
        self.state.raises = rest;
        for raise in &due {
            let ceilings = &mut self.state.split.ceilings;
            if raise.ceiling == Weight::FULL {
                ceilings.remove(&raise.segment);
            } else {
                ceilings.insert(Arc::clone(&raise.segment), raise.ceiling);
            }
        }
        !due.is_empty()
    }

    /// Whether windows keep segments apart.
    pub(super) fn tells_segments(&self) -> bool {
        self.plan().is_some_and(Plan::reads_segments)
    }

    pub(super) fn is_left_out(&self, segment: &str) -> bool {
        is_left_out(&self.state.split.ceilings, segment)
    }

    /// A ceiling that is in force.
    fn ceiling(&self, segment: &str) -> Weight {
        let ceilings = &self.state.split.ceilings;
        ceilings.get(segment).copied().unwrap_or(Weight::FULL)
    }

    /// The same, or what it will be when the disk has it.
    pub(super) fn decided_ceiling(&self, segment: &str) -> Weight {
        let raise = self
            .state
            .raises
            .iter()
            .rfind(|raise| &*raise.segment == segment);
        raise.map_or_else(|| self.ceiling(segment), |raise| raise.ceiling)
    }

    fn check_segment(&self, segment: &str) -> Answer {
        let ceilings = &self.state.split.ceilings;
        let refuse = |why: String| Err(Refusal::Invalid(why));
        if segment.is_empty() || segment.len() > MAX_SEGMENT_LEN {
            return refuse(format!(
                "a segment's name has 1 to {MAX_SEGMENT_LEN} bytes; longer ones are counted as \"other\""
            ));
        }
        if self
            .plan()
            .is_some_and(|plan| plan.identity.segment.is_none())
        {
            return refuse("the rollout tells no segments apart".to_owned());
        }
        if ceilings.len() >= MAX_CEILINGS && !ceilings.contains_key(segment) {
            return refuse(format!("there are {MAX_CEILINGS} ceilings already"));
        }
        Ok(())
    }

    // A person's: in a run it holds the rollout, and what was measured under the old ceiling does not count.
    fn move_ceiling(
        &mut self,
        now: Now,
        author: Author<'_>,
        (segment, ceiling): (&Arc<str>, Weight),
        kind: EventKind,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let up = ceiling > self.ceiling(segment);
        if up {
            self.refuse_without_store(Verb::SetCeiling)?;
        }
        if self.state.phase.is_in_a_run() {
            self.renew_evidence(now, author, out);
            let why = match ceiling {
                Weight::FULL => format!("the ceiling of segment {segment} was lifted by hand"),
                ceiling => format!("the ceiling of segment {segment} was set to {ceiling} by hand"),
            };
            self.hold(now, author, Cause::Manual, &why, Vec::new(), out);
        }
        if let Some(run) = &mut self.state.run {
            run.failed_segments.remove(segment);
            if ceiling.is_zero() {
                run.evidence.leave_out(segment);
            }
        }
        if up {
            self.raise(segment, ceiling);
            self.tell(now, author, kind, out);
        } else {
            self.lower(segment, ceiling);
            self.publish_anew(now, out);
            self.tell_now(now, author, kind, out);
        }
        Ok(())
    }

    // With the event that is made next.
    fn raise(&mut self, segment: &Arc<str>, ceiling: Weight) {
        self.forget_raises(segment);
        self.state.raises.push(Raise {
            event: EventId(self.state.last_event.0 + 1),
            segment: Arc::clone(segment),
            ceiling,
        });
    }

    fn lower(&mut self, segment: &Arc<str>, ceiling: Weight) {
        self.forget_raises(segment);
        let ceilings = &mut self.state.split.ceilings;
        ceilings.insert(Arc::clone(segment), ceiling);
    }

    fn forget_raises(&mut self, segment: &str) {
        self.state.raises.retain(|raise| &*raise.segment != segment);
    }

    // Everybody else goes on: clocks, windows and the stage's figures stay, without what this segment did.
    fn leave_out(&mut self, now: Now, segment: &Arc<str>) {
        self.window.leave_out(segment);
        if let Some(run) = &mut self.state.run {
            run.stage.totals.leave_out(segment);
            run.stage.interval.leave_out(segment);
            run.evidence.leave_out(segment);
        }
        let breaches = std::mem::take(&mut self.state.watch.breaches);
        let kept = breaches
            .into_iter()
            .filter(|breach| breach.segment.as_ref() != Some(segment));
        self.state.watch.breaches = kept.map(|breach| self.proven_anew(now, breach)).collect();
    }

    // Whose failures prove a breach of everybody's is read again from what is left.
    fn proven_anew(&self, now: Now, mut breach: Breach) -> Breach {
        let condition = self.condition(breach.purpose, breach.index);
        if let (None, Some(condition)) = (&breach.segment, condition) {
            let view = self.guard_view(now, breach.purpose, condition);
            breach.prove_by(condition.arm(), view);
            breach.recount(Tally::of(condition, &self.sample(&view), &view));
        }
        breach
    }
}
