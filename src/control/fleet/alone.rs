//! A member that is cut off: it goes on from the state it had last, with its triggers on what it sees itself.
//!
//! It never steps up and answers no order but one to go back. Where it goes back, it stays there until whoever leads has judged
//! that. Nothing it does alone enters the fleet's history.

use super::{Fleet, Role};
use crate::config::OnIsolated;
use crate::control::driver::Driver;
use crate::control::order::OrderError;
use crate::records::event::EventRecord;
use crate::records::fleet::RetreatRecord;
use crate::report::sentence;
use crate::rollout::assign::Split;
use crate::rollout::gate::{Action, Command, Effect, EventId, Input};
use crate::rollout::name::RolloutName;
use crate::rollout::time::Now;
use crate::rollout::weight::Weight;

impl Driver {
    /// From now on this member's own gates stand guard.
    pub(super) fn go_alone(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        let why = match &fleet.away {
            Some(why) => format!("cut off from the fleet: {why}"),
            None => "nobody leads the fleet".to_owned(),
        };
        tracing::warn!(
            why,
            "this member goes on alone: it keeps its triggers and does not step up"
        );
        fleet.role = Role::Alone {
            since: now.mono,
            why: why.clone(),
        };
        for name in self.names() {
            let own = self
                .fleet
                .as_mut()
                .map(|fleet| std::mem::take(&mut fleet.part(&name).own));
            let Some(charge) = self.rollouts.get_mut(&name) else {
                continue;
            };
            let before = charge.gate.split();
            let own = own.unwrap_or_default().into();
            let effects = charge.gate.go_alone(now, &why, own);
            self.carry_out_alone(now, &name, &before, effects);
        }
        self.refuse_orders(&why);
        self.show(now);
    }

    /// After `isolated_after`, where the file says so, learners are taken back.
    pub(super) fn stay_alone(&mut self, now: Now) {
        let Some(Fleet {
            role: Role::Alone { since, .. },
            settings,
            ..
        }) = &self.fleet
        else {
            return;
        };
        if settings.on_isolated == OnIsolated::Baseline
            && now.mono.since(*since) >= settings.isolated_after
        {
            for name in self.names() {
                // What was taken down by its weight alone the gate does not know of.
                let carries = self.rollouts.get(&name).is_some_and(|charge| {
                    let split = self.split_in_force(&name, &charge.gate);
                    !split.weight.is_zero()
                });
                if carries {
                    self.go_back_alone(now, &name, "cut off from the fleet for too long");
                }
            }
        }
    }

    /// An input of a member that is alone.
    pub(in crate::control) fn handle_alone(
        &mut self,
        now: Now,
        name: &RolloutName,
        input: Input,
    ) -> Result<(), OrderError> {
        if let Input::Command(command) = &input
            && !matches!(command.action, Action::Rollback)
        {
            return Err(OrderError::Waiting(self.why_alone()));
        }
        let Some(charge) = self.rollouts.get_mut(name) else {
            return Err(OrderError::UnknownRollout(name.to_string()));
        };
        let before = charge.gate.split();
        let effects = charge.gate.handle(now, input);
        match self.carry_out_alone(now, name, &before, effects) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    fn go_back_alone(&mut self, now: Now, name: &RolloutName, why: &str) {
        let command = Command {
            by: "fleet".to_owned(),
            reason: why.to_owned(),
            force: false,
            action: Action::Rollback,
        };
        if let Err(refused) = self.handle_alone(now, name, Input::Command(command)) {
            // Outside a run there is nothing to roll back: the weight is taken down by itself.
            tracing::info!(rollout = %name, why = %refused, "learners are taken back by their weight alone");
            if let Some(charge) = self.rollouts.get(name) {
                let before = charge.gate.split();
                let split = Split {
                    epoch: before.epoch + 1,
                    weight: Weight::ZERO,
                    closed: true,
                    ..before.clone()
                };
                self.note_retreat(now, name, &before, &split, why);
                self.publish(name, split);
            }
        }
    }

    /// What a gate answers that is alone: its splits are in force here, its events are told here and recorded nowhere.
    fn carry_out_alone(
        &mut self,
        now: Now,
        name: &RolloutName,
        before: &Split,
        effects: Vec<Effect>,
    ) -> Option<OrderError> {
        let mut refused = None;
        let mut last = None;
        let mut splits = Vec::new();
        for effect in effects {
            match effect {
                Effect::Publish(split) => splits.push(split),
                Effect::Record(event) => last = Some(event),
                Effect::Announce(event) => {
                    let record = EventRecord::new(name, &event);
                    tracing::warn!(rollout = %name, event = record.kind(), reason = event.reason, "alone: {}", sentence(&record));
                    last = Some(event);
                }
                // Whoever leads runs hooks, when it has judged.
                Effect::RunHook(_) => {}
                Effect::Refuse(refusal) => refused = Some(OrderError::from(refusal)),
            }
        }
        for split in splits {
            let why = last
                .as_ref()
                .map(|event| sentence(&EventRecord::new(name, event)));
            let why = why.unwrap_or_default();
            self.note_retreat(now, name, before, &split, &why);
            self.publish(name, split);
        }
        // Nothing waits for a disk: what is done here is done.
        let stored = last.map(|event| event.id);
        if let (Some(EventId(id)), Some(charge)) = (stored, self.rollouts.get_mut(name)) {
            let more = charge.gate.handle(now, Input::Stored(EventId(id)));
            if !more.is_empty() {
                self.carry_out_alone(now, name, before, more);
            }
        }
        refused
    }

    fn note_retreat(
        &mut self,
        now: Now,
        name: &RolloutName,
        before: &Split,
        split: &Split,
        why: &str,
    ) {
        let Some(fleet) = &mut self.fleet else { return };
        if split.weight >= before.weight {
            return;
        }
        let id = format!("{}-{}", fleet.name(), now.wall.as_unix_millis());
        let retreat = RetreatRecord {
            id,
            at_ms: now.wall.as_unix_millis(),
            why: why.to_owned(),
        };
        fleet.part(name).retreat.get_or_insert(retreat);
    }

    pub(in crate::control) fn why_alone(&self) -> String {
        match self.fleet.as_ref().map(|fleet| &fleet.role) {
            Some(Role::Alone { why, .. }) => why.clone(),
            Some(Role::Follows | Role::Leads) | None => "the fleet is out of reach".to_owned(),
        }
    }
}
