//! The one task that owns the gates: tick | order | store's word | shutdown, a closed select.
//!
//! Each input goes to a gate with the time, and what the gate answers is carried out before the next input is looked
//! at. `Driver` itself takes the time as an argument and waits for nothing; `run` is the whole outside world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::events::EventLog;
use super::hearing::{ItemFault, OutcomesTaken, PostedOutcome, PushedReading};
use super::journal::{Journal, News, Reports, StoreHealth};
use super::mirrored::Found;
use super::order::{Order, OrderError, Said, Verb};
use super::reload::Reloaded;
use super::seconds::{Blocks, Seconds};
use super::view::{RolloutView, Shared};
use crate::clock::{self, GateClock};
use crate::config::{Config, Fault};
use crate::hooks;
use crate::live::Live;
use crate::records::inputs::Recorder;
use crate::records::plan::plan_hash;
use crate::rollout::gate::{
    Action, Command, Effect, EventId, Gate, Input, Observed, PoolHealth, Say,
};
use crate::rollout::name::{Arm, PoolName, RolloutName};
use crate::rollout::plan::{Identity, Plan};
use crate::rollout::time::{Now, Timestamp};
use crate::rollout::weight::Weight;
use crate::shutdown::{Shutdown, Stage};
use crate::signals::Signals;
use crate::store::Store;
use crate::telemetry::{Drained, Telemetry};

/// How often the counters are drained and the gates look: a condition is seen within this time of becoming true.
const TICK: Duration = Duration::from_millis(250);
/// Ticks further apart than this left something unobserved.
const GAP: Duration = Duration::from_secs(2);

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

/// Owns the gates, and alone writes `live`.
pub(super) struct Driver {
    pub(super) config: Config,
    /// As the process began: what differs from it and cannot be changed in flight needs a restart.
    pub(super) booted: Config,
    /// Where it was read from, for faults.
    pub(super) file: String,
    pub(super) live: Arc<Live>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) journal: Option<Box<dyn Journal>>,
    /// For the histories of rollouts that a reload adds.
    pub(super) store: Option<Store>,
    /// The sources of signals that are asked.
    pub(super) signals: Option<Signals>,
    pub(super) shared: Arc<Shared>,
    pub(super) rollouts: BTreeMap<RolloutName, Charge>,
    /// Rollouts that the file does not name any more: their event numbers go on should they come back.
    pub(super) dormant: BTreeMap<RolloutName, Charge>,
    /// The counters were drained up to here.
    pub(super) drained_to: Timestamp,
    pub(super) store_fault: Option<String>,
    /// Where hooks are run.
    pub(super) hooks: Option<mpsc::UnboundedSender<hooks::Due>>,
}

/// One rollout in the driver's care.
pub(super) struct Charge {
    pub(super) gate: Gate,
    pub(super) log: Arc<EventLog>,
    /// Events up to this one are shown to readers.
    pub(super) told: EventId,
    /// The gate announced events up to this one.
    pub(super) announced: EventId,
    pub(super) seconds: Seconds,
    pub(super) blocks: Blocks,
    /// Probes of the two pools up to the last tick.
    pub(super) probes: [Probes; 2],
    /// By its mirror, when that was read last.
    pub(super) mirrored: Found,
    /// Of the canary, as the gate was told last.
    pub(super) version: String,
    /// Number of the run, as shown last.
    pub(super) run: u64,
    /// The gate's, or the file's where none ever ran; replaced only when that one differs.
    pub(super) plan: Option<Arc<Plan>>,
    /// Keeps what the gate is given; `None` where the file says so.
    pub(super) recorder: Option<Recorder>,
    /// Orders whose weight is not in force yet.
    pub(super) waiting: Vec<(Weight, Answer)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probes {
    sent: u64,
    answered: u64,
}

/// Runs until shutdown reaches `Stopped`.
pub(super) async fn run(
    mut driver: Driver,
    clock: GateClock,
    mut inbox: mpsc::Receiver<Message>,
    reports: Reports,
    mut ended: mpsc::UnboundedReceiver<hooks::Ended>,
    mut shutdown: Shutdown,
) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let began = clock::now();
                driver.tick(clock.now());
                driver.shared.vitals.ticked(clock::now().saturating_duration_since(began));
            }
            Some(message) = inbox.recv() => driver.take(clock.now(), message),
            Some(hook) = ended.recv() => driver.hook_ended(clock.now(), hook),
            news = reports.next() => driver.hear(clock.now(), news),
            () = shutdown.reached(Stage::Stopped) => break,
        }
    }
    driver.finish(clock.now());
}

impl Driver {
    /// Drains the counters and lets every gate look at its own.
    pub(super) fn tick(&mut self, now: Now) {
        let width = now.mono.since(self.drained_to);
        if width.is_zero() {
            return;
        }
        let mut drained: BTreeMap<RolloutName, Vec<Drained>> = BTreeMap::new();
        for part in self.telemetry.drain(self.drained_to, width) {
            drained.entry(part.rollout.clone()).or_default().push(part);
        }
        self.drained_to = now.mono;
        let gap = if width > GAP {
            self.shared.vitals.gap();
            width
        } else {
            Duration::ZERO
        };
        self.hear_sources(now);
        self.hear_mirrors(now);
        for name in self.names() {
            let parts = drained.remove(&name).unwrap_or_default();
            self.tick_one(now, &name, parts, gap);
        }
        self.show(now);
    }

    fn tick_one(&mut self, now: Now, name: &RolloutName, parts: Vec<Drained>, gap: Duration) {
        let pools = self.observed_health(name);
        let Some(charge) = self.rollouts.get_mut(name) else {
            return;
        };
        let mut observed = Observed {
            slots: Vec::new(),
            pools,
            learners: Default::default(),
            blocks: Vec::new(),
            gap,
        };
        let mut closed = Vec::new();
        for mut part in parts {
            observed
                .blocks
                .extend(charge.blocks.add(&part.slot, part.sights, part.assigned));
            part.slot.merge(&part.handed);
            closed.extend(charge.seconds.add(&part.slot));
            observed.slots.push(part.slot);
            for (all, more) in observed.learners.iter_mut().zip(&part.learners) {
                all.merge(more);
            }
        }
        let effects = charge.give(now, Input::Tick(Box::new(observed)));
        let done = self.carry_out(name, effects);
        self.write(now, name, done.events, closed);
        self.answer_waiting(now, name);
    }

    /// Health of the two pools, with the probes since the last tick.
    fn observed_health(&mut self, name: &RolloutName) -> [PoolHealth; 2] {
        let mut health = [PoolHealth::default(); 2];
        let (Some(charge), Some(rollout)) =
            (self.rollouts.get_mut(name), self.config.rollouts.get(name))
        else {
            return health;
        };
        let table = self.live.load();
        for arm in Arm::ALL {
            let total = table
                .pool_health(pool_of(&rollout.plan.identity, arm))
                .unwrap_or_default();
            let seen = &mut charge.probes[arm.index()];
            // Totals shrink when endpoints leave the pool; that is no negative number of probes.
            health[arm.index()] = PoolHealth {
                probes_sent: total.probes_sent.saturating_sub(seen.sent),
                probes_answered: total.probes_answered.saturating_sub(seen.answered),
                ..total
            };
            *seen = Probes {
                sent: total.probes_sent,
                answered: total.probes_answered,
            };
        }
        health
    }

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
    fn command(&self, name: &RolloutName, order: Order) -> Result<Command, OrderError> {
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

    fn usable(&self, pool: &PoolName) -> u32 {
        self.live
            .load()
            .pool_health(pool)
            .unwrap_or_default()
            .usable
    }

    /// Gives one gate an input that is no tick, carries out what it answers, and writes what it recorded.
    pub(super) fn handle(
        &mut self,
        now: Now,
        name: &RolloutName,
        input: Input,
    ) -> Result<(), OrderError> {
        let Some(charge) = self.rollouts.get_mut(name) else {
            return Err(OrderError::UnknownRollout(name.to_string()));
        };
        let effects = charge.give(now, input);
        let done = self.carry_out(name, effects);
        if !done.events.is_empty() {
            self.write(now, name, done.events, Vec::new());
        }
        self.answer_waiting(now, name);
        done.refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Passes the end of a hook on to its gate.
    fn hook_ended(&mut self, now: Now, ended: hooks::Ended) {
        self.tell(now, &ended.rollout, Input::HookEnded(Box::new(ended.end)));
        self.show(now);
    }

    /// Passes the store's word on to the gates it concerns.
    pub(super) fn hear(&mut self, now: Now, news: News) {
        match news.health {
            Some(StoreHealth::Fails(why)) => self.store_fails(now, &why),
            Some(StoreHealth::Works) => {
                self.store_fault = None;
                tracing::info!("the store can be written again");
                // A gate that had nothing to write since hears of it by this alone.
                for name in self.names() {
                    self.tell(now, &name, Input::Stored(EventId(0)));
                }
            }
            None => {}
        }
        for (name, id) in news.stored {
            if let Some(charge) = self.rollouts.get_mut(&name) {
                charge.told = id.max(charge.told);
                self.tell(now, &name, Input::Stored(id));
            } else if let Some(charge) = self.dormant.get(&name) {
                charge.log.show(id);
            }
        }
        self.show(now);
    }

    fn store_fails(&mut self, now: Now, why: &str) {
        if self.store_fault.as_deref() != Some(why) {
            tracing::error!(
                why,
                "the store cannot be written; it is tried again every second"
            );
        }
        self.store_fault = Some(why.to_owned());
        for name in self.names() {
            self.tell(now, &name, Input::StoreFailed(why.to_owned()));
        }
        for charge in self.rollouts.values_mut() {
            charge.told = charge.told.max(charge.announced);
        }
    }

    /// An input that nobody waits for an answer to.
    pub(super) fn tell(&mut self, now: Now, name: &RolloutName, input: Input) {
        if let Err(refused) = self.handle(now, name, input) {
            tracing::warn!(rollout = %name, why = %refused, "the gate refused");
        }
    }

    /// Answers the orders whose weight came into force, or will not any more.
    fn answer_waiting(&mut self, now: Now, name: &RolloutName) {
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

    /// The last look before the end: what was counted since the last tick is judged and written.
    pub(super) fn finish(&mut self, now: Now) {
        self.tick(now);
        for name in self.names() {
            let last = self
                .rollouts
                .get_mut(&name)
                .and_then(|charge| charge.seconds.close());
            self.write(now, &name, Vec::new(), last.into_iter().collect());
        }
    }

    pub(super) fn names(&self) -> Vec<RolloutName> {
        self.rollouts.keys().cloned().collect()
    }
}

impl Charge {
    /// Gives the gate an input.
    fn give(&mut self, now: Now, input: Input) -> Vec<Effect> {
        match &mut self.recorder {
            Some(recorder) => recorder.handle(&mut self.gate, now, input),
            None => self.gate.handle(now, input),
        }
    }
}

/// The pool of an arm.
pub(super) fn pool_of(identity: &Identity, arm: Arm) -> &PoolName {
    match arm {
        Arm::Baseline => &identity.baseline,
        Arm::Canary => &identity.canary,
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

fn reply(answer: Answer, outcome: Result<Arc<RolloutView>, OrderError>) {
    if answer.send(outcome).is_err() {
        tracing::debug!("nobody waits for the answer to an order any more");
    }
}
