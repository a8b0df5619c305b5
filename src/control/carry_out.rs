//! What a gate's effects do to the world, in the order given, and what the world is shown afterwards.
//!
//! `Publish` reaches the workers at once; what is recorded goes to the store as one batch with the state that follows
//! from it; nothing here waits for the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::driver::{Charge, Driver, pool_of};
use super::order::OrderError;
use super::reload::same_plan;
use super::settings::settings;
use super::view::RolloutView;
use crate::hooks;
use crate::records::event::EventRecord;
use crate::records::inputs::Recorder;
use crate::report::sentence;
use crate::rollout::assign::{Salt, Split};
use crate::rollout::gate::{Effect, Event, EventId, HookOrder, Refusal};
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::plan::Plan;
use crate::rollout::slot::Slot;
use crate::rollout::time::Now;
use crate::rollout::weight::Weight;
use crate::store::{Batch, Notice};

/// What is left to do when the effects of one input were carried out.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// To be written with the state as it is after the input.
    pub(super) events: Vec<EventRecord>,
    pub(super) refusal: Option<Refusal>,
    /// A split came into force.
    pub(super) published: bool,
}

impl Driver {
    pub(super) fn carry_out(&mut self, name: &RolloutName, effects: Vec<Effect>) -> Done {
        let mut done = Done::default();
        let mut retreats = false;
        for effect in effects {
            match effect {
                Effect::Publish(split) => {
                    retreats |= self.is_retreat(name, &split);
                    self.publish(name, split);
                    done.published = true;
                }
                Effect::Record(event) => {
                    let record = EventRecord::new(name, &event);
                    if let Some(charge) = self.rollouts.get(name) {
                        charge.log.keep(record.clone());
                    }
                    done.events.push(record);
                }
                Effect::RunHook(order) => self.run_hook(name, *order),
                Effect::Announce(event) => self.announce(name, &event, retreats),
                Effect::Refuse(refusal) => done.refusal = Some(refusal),
            }
        }
        done
    }

    fn run_hook(&self, name: &RolloutName, order: HookOrder) {
        let rollout = name.clone();
        let due = hooks::Due { rollout, order };
        let sent = match &self.hooks {
            Some(hooks) => hooks.send(due).is_ok(),
            None => false,
        };
        if !sent {
            tracing::error!(rollout = %name, "a hook cannot be run: nobody runs hooks any more");
        }
    }

    // Whether a split takes learners off canary.
    fn is_retreat(&self, name: &RolloutName, split: &Split) -> bool {
        let table = self.live.load();
        let before = table
            .find_rollout(name)
            .map(|found| &table.rollout(found).split);
        before.is_some_and(|before| {
            let known = |segment| before.ceilings.get(segment).copied();
            let mut ceilings = split.ceilings.iter();
            split.weight < before.weight
                || ceilings.any(|(segment, &now)| now < known(segment).unwrap_or(Weight::FULL))
        })
    }

    /// Puts a split in force: every request that begins from now on goes by it.
    pub(super) fn publish(&self, name: &RolloutName, split: Split) {
        if self.awaits_judgement(name, &split) {
            return;
        }
        let (Some(charge), Some(rollout)) =
            (self.rollouts.get(name), self.config.rollouts.get(name))
        else {
            return;
        };
        let settings = settings(&self.config, rollout, &charge.gate, split);
        let table = self.live.load().with_settings(name, settings);
        self.live.publish(table);
    }

    /// Tells the log. Readers of the history see an event once it is on disk, so that none they saw is ever missing
    /// after a crash; at once only where it tells of a retreat, which is in force already, or nothing can be written.
    fn announce(&mut self, name: &RolloutName, event: &Event, retreats: bool) {
        let at_once = retreats || self.journal.is_none() || self.store_fault.is_some();
        if let Some(charge) = self.rollouts.get_mut(name) {
            charge.announced = event.id.max(charge.announced);
            if at_once {
                charge.told = event.id.max(charge.told);
            }
        }
        let record = EventRecord::new(name, event);
        tracing::info!(
            rollout = %name,
            id = event.id.0,
            event = record.kind(),
            phase = event.phase.as_str(),
            stage = event.stage.as_ref().map(|stage| stage.as_str()),
            weight = %event.weight,
            by = event.by,
            reason = event.reason,
            "{}",
            sentence(&record)
        );
    }

    /// Hands the store what is to be kept after one input.
    pub(super) fn write(
        &mut self,
        now: Now,
        name: &RolloutName,
        events: Vec<EventRecord>,
        slots: Vec<Slot>,
    ) {
        let happened = !events.is_empty();
        let notices = self.notices(&events);
        self.keep_batch(now, name, events, slots, notices);
        self.record(now, name, happened);
    }

    fn keep_batch(
        &mut self,
        now: Now,
        name: &RolloutName,
        events: Vec<EventRecord>,
        slots: Vec<Slot>,
        notices: Vec<Notice>,
    ) {
        let (Some(journal), Some(charge)) = (&self.journal, self.rollouts.get_mut(name)) else {
            return;
        };
        let run = events.last().map_or(charge.run, |event| event.run);
        let state = Box::new(charge.gate.snapshot(now));
        let recorder = charge.recorder.as_mut();
        journal.write(Batch {
            rollout: name.clone(),
            events,
            state,
            slots,
            run,
            notices,
            inputs: recorder.map(Recorder::take).unwrap_or_default(),
            // What another member led meanwhile is what was agreed on.
            replaces: self.fleet.is_some(),
        });
    }

    /// Who is to be told of which events: written with them, so that neither is without the other.
    pub(super) fn notices(&self, events: &[EventRecord]) -> Vec<Notice> {
        let mut notices = Vec::new();
        for event in events {
            let kind = event.kind();
            let told = self.config.notify.iter();
            notices.extend(
                told.filter(|channel| channel.events.contains(kind))
                    .map(|channel| Notice {
                        channel: channel.name.clone(),
                        event: EventId(event.id),
                    }),
            );
        }
        notices
    }

    /// Publishes every rollout as it stands, and then the events that led there: who reads of an event finds its
    /// consequences.
    pub(super) fn show(&mut self, now: Now) {
        let mut views = BTreeMap::new();
        let rollouts = self.rollouts.iter();
        let splits: Vec<Split> = rollouts
            .map(|(name, charge)| self.split_in_force(name, &charge.gate))
            .collect();
        for ((name, charge), split) in self.rollouts.iter_mut().zip(splits) {
            let Some(rollout) = self.config.rollouts.get(name) else {
                continue;
            };
            let plan = charge.shown_plan(&rollout.plan);
            let status = charge.gate.status(now);
            charge.run = status.run;
            let view = RolloutView {
                rollout: name.clone(),
                split,
                plan_pending: !charge.gate.is_over() && !same_plan(&plan, &rollout.plan),
                store_fault: self.store_fault.clone(),
                pools: Arm::ALL.map(|arm| pool_of(&rollout.plan.identity, arm).clone()),
                salt: Salt::new(&rollout.plan.identity.salt),
                plan,
                events: Arc::clone(&charge.log),
                status,
            };
            views.insert(name.clone(), Arc::new(view));
        }
        self.shared.views.store(Arc::new(views));
        let fleet = self.fleet.as_ref().map(|fleet| Arc::new(fleet.view(now)));
        self.shared.fleet.store(fleet);
        for charge in self.rollouts.values() {
            charge.log.show(charge.told);
        }
    }

    /// A rollout as it was shown last.
    pub(super) fn shown(&self, name: &RolloutName) -> Result<Arc<RolloutView>, OrderError> {
        let view = self.shared.views.load().get(name).cloned();
        view.ok_or_else(|| OrderError::UnknownRollout(name.to_string()))
    }
}

impl Charge {
    fn shown_plan(&mut self, of_file: &Plan) -> Arc<Plan> {
        let plan = self.gate.plan().unwrap_or(of_file);
        match &self.plan {
            Some(shown) if **shown == *plan => Arc::clone(shown),
            Some(_) | None => {
                let shown = Arc::new(plan.clone());
                self.plan = Some(Arc::clone(&shown));
                shown
            }
        }
    }
}
