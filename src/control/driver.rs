//! The one task that owns the gates: tick | order | store's word | shutdown, a closed select.
//!
//! Each input goes to a gate with the time, and what the gate answers is carried out before the next input is looked
//! at. `Driver` itself takes the time as an argument and waits for nothing; `run` is the whole outside world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::events::EventLog;
use super::fleet::{Duty, Fleet};
use super::inbox::{Answer, Message};
use super::journal::{Journal, News, Reports, StoreHealth};
use super::mirrored::Found;
use super::order::OrderError;
use super::seconds::{Blocks, Seconds};
use super::view::Shared;
use crate::clock::{self, GateClock};
use crate::config::Config;
use crate::fleet;
use crate::hooks;
use crate::live::Live;
use crate::records::inputs::Recorder;
use crate::rollout::gate::{Effect, EventId, Gate, Input, Observed, PoolHealth};
use crate::rollout::name::{Arm, PoolName, RolloutName};
use crate::rollout::plan::{Identity, Plan};
use crate::rollout::slot::Slot;
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
    /// `None` where this serin is alone.
    pub(super) fleet: Option<Fleet>,
    /// Gate time is so far ahead of this process's clock: in a fleet it is the leader's.
    pub(super) shift_ms: i64,
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
    (mut link, mut region): (FromLink, FromLink),
    mut shutdown: Shutdown,
) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let began = clock::now();
                driver.tick(driver.gate_time(clock.now()));
                driver.shared.vitals.ticked(clock::now().saturating_duration_since(began));
            }
            Some(message) = inbox.recv() => driver.take(driver.gate_time(clock.now()), message),
            Some(hook) = ended.recv() => driver.hook_ended(driver.gate_time(clock.now()), hook),
            news = reports.next() => driver.hear(driver.gate_time(clock.now()), news),
            Some(news) = next(&mut link) => driver.hear_fleet(driver.gate_time(clock.now()), news),
            Some(news) = next(&mut region) => driver.hear_region(driver.gate_time(clock.now()), news),
            () = shutdown.reached(Stage::Stopped) => break,
        }
    }
    driver.finish(driver.gate_time(clock.now()));
}

/// What the link with the fleet says, or that with a region.
pub(super) type FromLink = Option<mpsc::UnboundedReceiver<fleet::News>>;

/// The next of it; never where there is none.
async fn next(link: &mut FromLink) -> Option<fleet::News> {
    match link {
        Some(link) => link.recv().await,
        None => std::future::pending().await,
    }
}

impl Driver {
    /// The time of the gates.
    pub(super) const fn gate_time(&self, now: Now) -> Now {
        let mono = now.mono.as_millis().saturating_add_signed(self.shift_ms);
        Now {
            mono: Timestamp::from_millis(mono),
            wall: now.wall,
        }
    }

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
        self.tend_fleet(now, width);
        self.hear_sources(now);
        self.hear_mirrors(now);
        for name in self.names() {
            let parts = drained.remove(&name).unwrap_or_default();
            match &self.fleet {
                Some(_) => self.tick_in_fleet(now, &name, parts, gap),
                None => self.tick_one(now, &name, parts, gap),
            }
        }
        self.show(now);
    }

    fn tick_one(&mut self, now: Now, name: &RolloutName, parts: Vec<Drained>, gap: Duration) {
        let pools = self.observed_health(name);
        let Some(charge) = self.rollouts.get_mut(name) else {
            return;
        };
        let (observed, closed) = charge.observe(parts, pools, gap);
        let effects = charge.give(now, Input::Tick(Box::new(observed)));
        let done = self.carry_out(name, effects);
        self.write(now, name, done.events, closed);
        self.answer_waiting(now, name);
    }

    /// Health of the two pools, with the probes since the last tick.
    pub(super) fn observed_health(&mut self, name: &RolloutName) -> [PoolHealth; 2] {
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

    /// Gives one gate an input that is no tick, carries out what it answers, and writes what it recorded.
    pub(super) fn handle(
        &mut self,
        now: Now,
        name: &RolloutName,
        input: Input,
    ) -> Result<(), OrderError> {
        match self.duty() {
            Duty::Decides => {}
            Duty::Follows => {
                self.pass_on(now, name, input);
                return Ok(());
            }
            Duty::Alone => return self.handle_alone(now, name, input),
        }
        let Some(charge) = self.rollouts.get_mut(name) else {
            return Err(OrderError::UnknownRollout(name.to_string()));
        };
        let effects = charge.give(now, input);
        let done = self.carry_out(name, effects);
        if done.events.is_empty() {
            if done.published {
                self.record(now, name, true);
            }
        } else {
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
            if self.leads_a_fleet() {
                self.stored_on_disk(now, &name, id);
            } else if self.duty() != Duty::Decides {
                // Of a copy: what is in the fleet's bucket is shown, wherever else it lies.
            } else if let Some(charge) = self.rollouts.get_mut(&name) {
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
        if self.fleet.is_some() {
            // Whoever leads must be able to keep what it decides.
            return self.resign(now);
        }
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

    /// The last look before the end: what was counted since the last tick is judged and written.
    pub(super) fn finish(&mut self, now: Now) {
        self.tick(now);
        if self.fleet.is_some() {
            return self.leave_fleet(now);
        }
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
    /// What was drained, as a gate is told it, with the seconds that are closed by it.
    pub(super) fn observe(
        &mut self,
        parts: Vec<Drained>,
        pools: [PoolHealth; 2],
        gap: Duration,
    ) -> (Observed, Vec<Slot>) {
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
                .extend(self.blocks.add(&part.slot, part.sights, part.assigned));
            part.slot.merge(&part.handed);
            closed.extend(self.seconds.add(&part.slot));
            observed.slots.push(part.slot);
            for (all, more) in observed.learners.iter_mut().zip(&part.learners) {
                all.merge(more);
            }
        }
        (observed, closed)
    }

    /// Gives the gate an input.
    pub(super) fn give(&mut self, now: Now, input: Input) -> Vec<Effect> {
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
