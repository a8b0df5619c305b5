//! The order of effects: what is recorded before it is in force, and what is in force before it is recorded.
//!
//! A step towards canary is recorded and waits for `Stored`; a retreat is published first. Owns event
//! numbers, the split's epoch and the step that waits. Never decides to move.

use super::Gate;
use super::effect::{Effect, Event, EventKind};
use super::input::EventId;
use super::snapshot::{Awaiting, Watch};
use super::state::{Cause, Phase};
use crate::rollout::time::Now;
use crate::rollout::weight::Weight;

/// Who makes an event, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Author<'a> {
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
}

impl Author<'_> {
    pub(super) const GATE: Author<'static> = Author {
        by: "gate",
        reason: "",
    };
}

impl Gate {
    /// Records and announces what moved no weight.
    pub(super) fn tell(
        &mut self,
        now: Now,
        author: Author<'_>,
        kind: EventKind,
        out: &mut Vec<Effect>,
    ) {
        let event = self.event(now, author, kind);
        out.push(Effect::Record(event.clone()));
        // What follows a step that waits is told after it, so that nobody hears of events out of order.
        match self.waits() {
            true => self.withheld.push(event),
            false => out.push(Effect::Announce(event)),
        }
    }

    /// Records and announces what is in force, and what was to be told before it.
    pub(super) fn tell_now(
        &mut self,
        now: Now,
        author: Author<'_>,
        kind: EventKind,
        out: &mut Vec<Effect>,
    ) {
        self.release_withheld(out);
        let event = self.event(now, author, kind);
        out.push(Effect::Record(event.clone()));
        out.push(Effect::Announce(event));
    }

    /// Towards canary: recorded now, in force and announced when that is on disk.
    pub(super) fn step_up(
        &mut self,
        now: Now,
        weight: Weight,
        author: Author<'_>,
        kind: EventKind,
        out: &mut Vec<Effect>,
    ) {
        self.release_withheld(out);
        let event = EventId(self.state.last_event.0 + 1);
        self.state.awaiting = Some(Awaiting { event, weight });
        self.tell(now, author, kind, out);
    }

    /// Away from canary: in force now, then recorded. Ends a step that waits.
    pub(super) fn step_down(
        &mut self,
        now: Now,
        weight: Weight,
        author: Author<'_>,
        kind: EventKind,
        out: &mut Vec<Effect>,
    ) {
        self.state.awaiting = None;
        self.put_in_force(now, weight, out);
        self.tell_now(now, author, kind, out);
    }

    /// Whichever of the two the weight asks for. The same weight in a new stage is a step up.
    pub(super) fn step_to(
        &mut self,
        now: Now,
        weight: Weight,
        author: Author<'_>,
        kind: EventKind,
        out: &mut Vec<Effect>,
    ) {
        if weight >= self.state.split.weight {
            self.step_up(now, weight, author, kind, out);
        } else {
            self.step_down(now, weight, author, kind, out);
        }
    }

    /// Ends a step that waits without its coming into force.
    pub(super) fn cancel_step(&mut self, out: &mut Vec<Effect>) {
        self.state.awaiting = None;
        self.release_withheld(out);
    }

    /// A new weight: closed at 0, and watched from now on.
    pub(super) fn put_in_force(&mut self, now: Now, weight: Weight, out: &mut Vec<Effect>) {
        if weight > self.state.split.weight {
            self.state.stepped_up = Some(now.mono);
        }
        self.state.split.weight = weight;
        self.state.split.closed = weight.is_zero();
        self.publish_anew(now, out);
    }

    /// Publishes the split and watches it from now on: what was before does not count.
    pub(super) fn publish_anew(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.publish(out);
        self.watch_anew(now);
    }

    /// Windows and breach clocks begin now, with the triggers of the present stage; outside a run of the first.
    pub(super) fn watch_anew(&mut self, now: Now) {
        let stage = match &self.state.run {
            Some(run) if self.state.phase.is_in_a_run() => run.stage.index,
            Some(_) | None => 0,
        };
        self.state.watch = Watch::new(stage, self.state.split.epoch, now.mono);
        self.window.clear();
    }

    pub(super) fn publish(&mut self, out: &mut Vec<Effect>) {
        self.state.split.epoch += 1;
        out.push(Effect::Publish(self.state.split.clone()));
    }

    pub(super) fn stored(&mut self, now: Now, id: EventId, out: &mut Vec<Effect>) {
        self.state.store_fault = None;
        self.state.stored = self.state.stored.max(id.min(self.state.last_event));
        let raised = self.raise_ceilings(id);
        if let Some(awaiting) = self.state.awaiting.filter(|awaiting| awaiting.event <= id) {
            self.state.awaiting = None;
            self.put_in_force(now, awaiting.weight, out);
        } else if raised {
            self.publish_anew(now, out);
        }
        if !self.waits() {
            self.release_withheld(out);
        }
        if self.state.phase == Phase::RollingBack
            && self.state.retreat.is_some_and(|event| event <= id)
        {
            self.state.phase = Phase::RolledBack;
            self.state.retreat = None;
        }
    }

    /// Nothing goes on that could not be remembered; what is in force stays.
    pub(super) fn store_failed(&mut self, now: Now, why: &str, out: &mut Vec<Effect>) {
        if self.unusable.is_some() {
            return;
        }
        self.state.store_fault = Some(why.to_owned());
        if self.state.phase.is_in_a_run() {
            self.hold(
                now,
                Author::GATE,
                Cause::Store,
                &format!("the store cannot write: {why}"),
                Vec::new(),
                out,
            );
        }
    }

    // Whether a recorded step towards canary is not in force yet.
    pub(super) fn waits(&self) -> bool {
        self.state.awaiting.is_some() || !self.state.raises.is_empty()
    }

    fn event(&mut self, now: Now, author: Author<'_>, kind: EventKind) -> Event {
        self.state.last_event.0 += 1;
        let state = &self.state;
        let stage = self.present_stage();
        Event {
            id: state.last_event,
            run: state.runs,
            at: now,
            phase: state.phase,
            stage: stage.map(|stage| stage.name.clone()),
            weight: state
                .awaiting
                .map_or(state.split.weight, |awaiting| awaiting.weight),
            stage_time: state
                .run
                .as_ref()
                .map(|run| run.stage.time)
                .unwrap_or_default(),
            by: author.by.to_owned(),
            reason: author.reason.to_owned(),
            kind,
        }
    }

    fn release_withheld(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.withheld.drain(..).map(Effect::Announce));
    }
}
