//! What handles send to the driver: orders of operators, reloads, what is posted from outside; and who is answered when.
//!
//! An order is answered when what it asked for is in force, which may be later than its own turn.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::driver::Driver;
use super::fleet::Duty;
use super::hearing::{ItemFault, OutcomesTaken, PostedOutcome, PushedReading};
use super::order::{Order, OrderError, Said, Verb};
use super::reload::Reloaded;
use super::view::RolloutView;
use crate::config::{Config, Fault};
use crate::records::plan::plan_hash;
use crate::rollout::gate::{Action, Command, Input, Say};
use crate::rollout::name::{PoolName, RolloutName};
use crate::rollout::plan::Plan;
use crate::rollout::time::Now;

/// What handles send.
#[derive(Debug)]
pub(super) enum Message {
    Order {
        rollout: RolloutName,
        order: Order,
        answer: Answer,
    },
    Reload {
        config: Box<Config>,
        by: String,
        answer: oneshot::Sender<Result<Reloaded, Vec<Fault>>>,
    },
    Readings {
        readings: Vec<PushedReading>,
        answer: oneshot::Sender<Result<usize, Vec<ItemFault>>>,
    },
    Outcomes {
        outcomes: Vec<PostedOutcome>,
        answer: oneshot::Sender<Result<OutcomesTaken, Vec<ItemFault>>>,
    },
}

/// Where an order is answered.
pub(super) type Answer = oneshot::Sender<Result<Arc<RolloutView>, OrderError>>;

impl Driver {
    /// Takes what a handle sent.
    pub(super) fn take(&mut self, now: Now, message: Message) {
        match message {
            Message::Order {
                rollout,
                order,
                answer,
            } => self.order(now, &rollout, order, answer),
            Message::Reload { config, by, answer } => {
                let outcome = self.reload(now, *config, &by);
                self.show(now);
                if answer.send(outcome).is_err() {
                    tracing::debug!("nobody waits for the answer to a reload any more");
                }
            }
            Message::Readings { readings, answer } => {
                let outcome = self.take_readings(now, readings);
                self.show(now);
                if answer.send(outcome).is_err() {
                    tracing::debug!("nobody waits for the answer to readings any more");
                }
            }
            Message::Outcomes { outcomes, answer } => {
                let outcome = self.take_outcomes(now, outcomes);
                self.show(now);
                if answer.send(outcome).is_err() {
                    tracing::debug!("nobody waits for the answer to outcomes any more");
                }
            }
        }
    }

    fn order(&mut self, now: Now, name: &RolloutName, order: Order, answer: Answer) {
        if self.duty() == Duty::Follows {
            return self.order_the_fleet(now, name, order, answer);
        }
        let weight = if let Verb::SetWeight { weight, .. } = order.verb {
            Some(weight)
        } else {
            None
        };
        let outcome = self
            .command(name, order)
            .and_then(|command| self.handle(now, name, Input::Command(command)));
        self.show(now);
        match (outcome, weight) {
            (Err(refused), _) => reply(answer, Err(refused)),
            (Ok(()), Some(weight)) => {
                if let Some(charge) = self.rollouts.get_mut(name) {
                    charge.waiting.push((weight, answer));
                }
                self.answer_waiting(now, name);
            }
            (Ok(()), None) => reply(answer, self.shown(name)),
        }
    }

    /// The gate's command for an order, with what only the driver knows.
    pub(super) fn command(&self, name: &RolloutName, order: Order) -> Result<Command, OrderError> {
        let unknown = || OrderError::UnknownRollout(name.to_string());
        let charge = self.rollouts.get(name).ok_or_else(unknown)?;
        let rollout = self.config.rollouts.get(name).ok_or_else(unknown)?;
        let action = match order.verb {
            Verb::Start => Action::Start {
                plan: Box::new(rollout.plan.clone()),
                baseline_endpoints: self.usable(&rollout.plan.identity.baseline),
            },
            Verb::Pause => Action::Pause,
            Verb::Resume => Action::Resume,
            Verb::Retry => Action::Retry,
            Verb::Hold => Action::Hold,
            Verb::Advance => Action::Advance,
            Verb::Rollback => Action::Rollback,
            Verb::Abort => Action::Abort,
            Verb::Approve(said) => Action::Approve(say(charge.gate.plan(), said)?),
            Verb::Reject(said) => Action::Reject(say(charge.gate.plan(), said)?),
            Verb::SetWeight { weight, guarded } => Action::SetWeight {
                weight,
                guarded,
                holdout: rollout.plan.holdout,
            },
            Verb::Pin { learner, arm } => Action::Pin { learner, arm },
            Verb::Unpin { learner } => Action::Unpin { learner },
            Verb::SetCeiling { segment, ceiling } => Action::SetCeiling { segment, ceiling },
            Verb::LiftCeiling { segment } => Action::LiftCeiling { segment },
            Verb::OpenIncident { summary } => Action::OpenIncident { summary },
            Verb::CloseIncident { id } => Action::CloseIncident { id },
            Verb::Freeze { until } => Action::Freeze { until },
            Verb::Unfreeze => Action::Unfreeze,
            Verb::Rehearse { .. } if !self.config.rehearsals => {
                return Err(OrderError::Phase(
                    "rehearsals are not enabled: [rehearsal] enabled = true".to_owned(),
                ));
            }
            Verb::Rehearse { injection, within } => Action::Rehearse { injection, within },
        };
        Ok(Command {
            by: order.by,
            reason: order.reason,
            force: order.force,
            action,
        })
    }

    pub(super) fn usable(&self, pool: &PoolName) -> u32 {
        self.live
            .load()
            .pool_health(pool)
            .unwrap_or_default()
            .usable
    }

    /// Answers the orders whose weight came into force, or will not any more.
    pub(super) fn answer_waiting(&mut self, now: Now, name: &RolloutName) {
        let Some(charge) = self
            .rollouts
            .get_mut(name)
            .filter(|charge| !charge.waiting.is_empty())
        else {
            return;
        };
        if charge.gate.awaits_store() {
            return;
        }
        let in_force = charge.gate.split().weight;
        let answers = std::mem::take(&mut charge.waiting);
        self.show(now);
        for (wanted, answer) in answers {
            let outcome = if in_force == wanted {
                self.shown(name)
            } else {
                Err(OrderError::Phase(format!(
                    "overtaken by a later change: {in_force} are in force, not {wanted}"
                )))
            };
            reply(answer, outcome);
        }
    }
}

/// What was said, about the plan that runs: an approval of another one is none.
fn say(plan: Option<&Plan>, said: Said) -> Result<Say, OrderError> {
    let runs = plan.map(plan_hash).unwrap_or_default();
    if let Some(seen) = said.plan_hash.filter(|seen| *seen != runs) {
        let why = format!("the rollout runs the plan {runs}, not {seen}");
        return Err(OrderError::Phase(why));
    }
    Ok(Say {
        role: said.role,
        holds: said.holds,
        plan: runs,
        seen: said.seen,
    })
}

pub(super) fn reply(answer: Answer, outcome: Result<Arc<RolloutView>, OrderError>) {
    if answer.send(outcome).is_err() {
        tracing::debug!("nobody waits for the answer to an order any more");
    }
}
