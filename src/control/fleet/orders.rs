//! Orders of operators: any member takes them, the one that leads carries them out, and each is carried out once.
//!
//! An order lies in the bucket under an id of its own, its outcome beside it. What was carried out is in the record that the
//! outcome follows from, so that whoever leads next does not do it again.

use std::time::Duration;

use super::Role;
use crate::control::driver::Driver;
use crate::control::inbox::{Answer, reply};
use crate::control::order::{Order, OrderError};
use crate::fleet::Ask;
use crate::records::fleet::{OrderRecord, OutcomeRecord};
use crate::records::plan::plan_hash;
use crate::rollout::gate::{Action, Command, EventId, Input};
use crate::rollout::name::RolloutName;
use crate::rollout::time::{Now, Timestamp};

/// What is older was given up by who asked for it, and is not carried out any more.
const STALE: Duration = Duration::from_secs(60);
/// Who asks is answered within this time.
const PATIENCE: Duration = Duration::from_secs(9);

/// Somebody waits for what comes of an order.
#[derive(Debug)]
pub(super) struct Waiting {
    rollout: RolloutName,
    answer: Answer,
    pub(super) since: Timestamp,
    /// Carried out: answered when this event is here.
    event: Option<EventId>,
}

impl Driver {
    /// Gives an order to whoever leads; it is answered when that one's answer is in force here.
    pub(in crate::control) fn order_the_fleet(
        &mut self,
        now: Now,
        name: &RolloutName,
        order: Order,
        answer: Answer,
    ) {
        let command = match self.command(name, order) {
            Ok(command) => command,
            Err(refused) => return reply(answer, Err(refused)),
        };
        let Some(fleet) = &mut self.fleet else { return };
        fleet.orders += 1;
        let id = format!("{}-{}-{}", fleet.name(), fleet.life, fleet.orders);
        let at_ms = now.wall.as_unix_millis();
        let record = OrderRecord::new(name.as_str(), fleet.name(), at_ms, &command);
        let waiting = Waiting {
            rollout: name.clone(),
            answer,
            since: now.mono,
            event: None,
        };
        fleet.waiting.insert(id.clone(), waiting);
        fleet.ask(Ask::Order {
            id,
            body: record.encode().into(),
        });
    }

    /// An order that has no outcome yet: carried out by the one that leads.
    pub(super) fn ordered(&mut self, now: Now, id: String, body: &[u8]) {
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.role != Role::Leads {
            if fleet.has_lead {
                fleet.early.push((id, body.to_vec().into()));
            }
            return;
        }
        let outcome = match OrderRecord::decode(body) {
            Ok(order) => self.carry_out_order(now, &id, &order),
            Err(why) => OutcomeRecord::Invalid {
                why: why.to_string(),
            },
        };
        if let Some(fleet) = &mut self.fleet {
            let body = outcome.encode().into();
            fleet.ask(Ask::Ordered { id, body });
        }
    }

    fn carry_out_order(&mut self, now: Now, id: &str, order: &OrderRecord) -> OutcomeRecord {
        let invalid = |why: String| OutcomeRecord::Invalid { why };
        let Ok(name) = RolloutName::parse(&order.rollout) else {
            return invalid(format!("there is no rollout {:?}", order.rollout));
        };
        let Some(charge) = self.rollouts.get(&name) else {
            return invalid(format!("the leader's file has no rollout {name}"));
        };
        let last = charge.gate.last_event();
        let is_done = self
            .fleet
            .as_mut()
            .is_some_and(|fleet| fleet.part(&name).led.done.iter().any(|done| done == id));
        if is_done {
            return OutcomeRecord::Done { event: last.0 };
        }
        let age = now.wall.as_unix_millis().saturating_sub(order.at_ms);
        if age > i64::try_from(STALE.as_millis()).unwrap_or(i64::MAX) {
            return invalid(format!("it was given {} s ago", age / 1000));
        }
        let command = match order.command() {
            Ok(command) => command,
            Err(why) => return invalid(why.to_string()),
        };
        let command = match self.with_own_plan(&name, command, &order.member) {
            Ok(command) => command,
            Err(why) => return OutcomeRecord::Phase { why },
        };
        // Before it is carried out: both are in the same record.
        self.remember_order(&name, id);
        match self.handle(now, &name, Input::Command(command)) {
            Ok(()) => {
                self.show(now);
                self.record(now, &name, true);
                let charge = self.rollouts.get(&name);
                let event = charge.map_or(last, |charge| charge.gate.last_event());
                OutcomeRecord::Done { event: event.0 }
            }
            Err(OrderError::Invalid(why)) => invalid(why),
            Err(refused) => OutcomeRecord::Phase {
                why: refused.to_string(),
            },
        }
    }

    // A run is started with the leader's plan, which has to be that of the member that was asked.
    fn with_own_plan(
        &self,
        name: &RolloutName,
        command: Command,
        member: &str,
    ) -> Result<Command, String> {
        let Action::Start { plan, .. } = &command.action else {
            return Ok(command);
        };
        let Some(rollout) = self.config.rollouts.get(name) else {
            return Err(format!("the leader's file has no rollout {name}"));
        };
        let (theirs, ours) = (plan_hash(plan), plan_hash(&rollout.plan));
        if theirs != ours {
            return Err(format!(
                "{member}'s file has the plan {theirs}, the leader's {ours}: give all members one file first"
            ));
        }
        let action = Action::Start {
            plan: Box::new(rollout.plan.clone()),
            baseline_endpoints: self.usable(&rollout.plan.identity.baseline),
        };
        Ok(Command { action, ..command })
    }

    /// What came of an order.
    pub(super) fn order_outcome(&mut self, now: Now, id: &str, body: &[u8]) {
        let Some(fleet) = &mut self.fleet else { return };
        let Some(mut waiting) = fleet.waiting.remove(id) else {
            return;
        };
        match OutcomeRecord::decode(body) {
            Ok(OutcomeRecord::Done { event }) => {
                waiting.event = Some(EventId(event));
                fleet.waiting.insert(id.to_owned(), waiting);
                self.answer_ordered(now);
            }
            Ok(OutcomeRecord::Phase { why }) => reply(waiting.answer, Err(OrderError::Phase(why))),
            Ok(OutcomeRecord::Invalid { why }) => {
                reply(waiting.answer, Err(OrderError::Invalid(why)));
            }
            Err(why) => {
                let why = format!("the leader's answer cannot be read: {why}");
                reply(waiting.answer, Err(OrderError::Waiting(why)));
            }
        }
    }

    /// Answers those whose order is in force here.
    pub(super) fn answer_ordered(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        let rollouts = &self.rollouts;
        let is_here = |waiting: &Waiting| {
            // A weight is in force when no step waits any more.
            let here = |event: EventId| {
                rollouts.get(&waiting.rollout).is_some_and(|charge| {
                    event <= charge.gate.last_event() && !charge.gate.awaits_store()
                })
            };
            waiting.event.is_some_and(here)
        };
        let here: Vec<String> = fleet
            .waiting
            .iter()
            .filter(|(_, waiting)| is_here(waiting))
            .map(|(id, _)| id.clone())
            .collect();
        let answered: Vec<Waiting> = here
            .iter()
            .filter_map(|id| fleet.waiting.remove(id))
            .collect();
        if answered.is_empty() {
            return;
        }
        self.show(now);
        for waiting in answered {
            let shown = self.shown(&waiting.rollout);
            reply(waiting.answer, shown);
        }
    }

    pub(super) fn not_ordered(&mut self, id: &str, why: &str) {
        let Some(fleet) = &mut self.fleet else { return };
        if let Some(waiting) = fleet.waiting.remove(id) {
            reply(waiting.answer, Err(OrderError::Waiting(why.to_owned())));
        }
    }

    /// Nobody can carry out what was ordered.
    pub(super) fn refuse_orders(&mut self, why: &str) {
        let Some(fleet) = &mut self.fleet else { return };
        for (_, waiting) in std::mem::take(&mut fleet.waiting) {
            reply(waiting.answer, Err(OrderError::Waiting(why.to_owned())));
        }
    }

    pub(super) fn give_up_orders(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        let old = |waiting: &Waiting| now.mono.since(waiting.since) >= PATIENCE;
        let late: Vec<String> = fleet
            .waiting
            .iter()
            .filter(|(_, waiting)| old(waiting))
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            let why = "the member that leads the fleet has not answered yet; the order may still be carried out";
            self.not_ordered(&id, why);
        }
    }
}
