//! A member that follows: what lies in the bucket is in force here, is kept in its own journal, and is what it shows.
//!
//! Its gates are copies of the leader's and decide nothing. Nothing in force is ever raised above what the bucket says; a split that
//! this member took down alone stays until that was judged.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Duty, Fleet, Lying, Role};
use crate::control::driver::Driver;
use crate::control::settings::settings;
use crate::records::event::EventRecord;
use crate::records::fleet::{Applied, Posted, Stated, Told};
use crate::rollout::assign::Split;
use crate::rollout::gate::{EventId, Gate, Input, PoolHealth};
use crate::rollout::name::RolloutName;
use crate::rollout::slot::Slot;
use crate::rollout::time::{Now, Timestamp};
use crate::store::Batch;
use crate::telemetry::Drained;

/// A clock that is off by more than this is set to the leader's.
const CLOCK_OFF_MS: i64 = 250;
/// What a member keeps of its own counts for the case that it is cut off: the default window of a trigger.
const OWN: Duration = Duration::from_secs(60);
/// How long events that a record lacks are waited for: they come as soon as the leader hears what this member has.
const MISSED: Duration = Duration::from_secs(10);

impl Driver {
    /// Another member leads, or nobody does.
    pub(super) fn led_by(&mut self, now: Now, by: Option<String>, term: u64) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.term = term;
        fleet.has_lead = false;
        fleet.leader.clone_from(&by);
        match &by {
            Some(leader) => {
                tracing::info!(leader, term, "the fleet is led");
            }
            None => {
                tracing::warn!("nobody leads the fleet");
            }
        }
        if fleet.role == Role::Leads {
            self.step_down(now);
        }
    }

    /// Follows from now on; what was decided here and is not in the bucket is nothing.
    pub(super) fn step_down(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.role != Role::Leads {
            return;
        }
        fleet.role = Role::Follows;
        fleet.has_lead = false;
        fleet.ask(crate::fleet::Ask::Unfollow);
        for (name, part) in &mut fleet.parts {
            let agreed = part.led.in_bucket;
            if let Some(charge) = self.rollouts.get_mut(name) {
                charge.log.forget_after(agreed);
                charge.announced = agreed.min(charge.announced);
                charge.told = agreed.min(charge.told);
            }
            part.led = Default::default();
        }
        tracing::info!("this member does not lead the fleet any more");
        self.follow_all(now);
    }

    /// The fleet is back: what it agreed on is in force here again.
    pub(super) fn heal(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.role = Role::Follows;
        fleet.presented = None;
        tracing::info!("this member follows the fleet again");
        self.follow_all(now);
    }

    /// What lies in the bucket is in force here.
    fn follow_all(&mut self, now: Now) {
        for name in self.names() {
            let lying = self
                .fleet
                .as_mut()
                .and_then(|fleet| fleet.part(&name).lying.clone());
            if let Some(Lying { revision, body }) = lying {
                self.stated(now, &name, revision, body);
            }
        }
    }

    /// The record of a rollout as it lies in the bucket.
    pub(super) fn stated(&mut self, now: Now, name: &RolloutName, revision: u64, body: Bytes) {
        let duty = self.duty();
        let Some(fleet) = &mut self.fleet else { return };
        let part = fleet.part(name);
        part.revision = revision;
        part.lying = Some(Lying {
            revision,
            body: body.clone(),
        });
        match duty {
            Duty::Decides => part.applied.revision = revision,
            // In force when it follows again.
            Duty::Alone => {}
            Duty::Follows => match Stated::decode(&body) {
                Ok(stated) => {
                    part.record = Some(stated.record.clone());
                    self.follow(now, name, revision, stated);
                }
                Err(why) => {
                    tracing::error!(rollout = %name, revision, %why, "what lies in the fleet's bucket cannot be read: what is in force stays");
                }
            },
        }
    }

    fn follow(&mut self, now: Now, name: &RolloutName, revision: u64, stated: Stated) {
        let now = self.keep_time(now, stated.snapshot.saved);
        let (Some(charge), Some(rollout)) =
            (self.rollouts.get_mut(name), self.config.rollouts.get(name))
        else {
            return;
        };
        let memory = charge.gate.memory();
        let run = stated.snapshot.runs;
        let agreed = stated.snapshot.last_event;
        charge.gate.follow(*stated.snapshot, &stated.seconds, now);
        if charge.announced > agreed {
            charge.log.forget_after(agreed);
            charge.announced = agreed;
            charge.told = agreed;
        }
        let last = charge.announced;
        let mut new: Vec<EventRecord> = stated
            .record
            .events
            .iter()
            .filter(|event| event.id > last.0)
            .cloned()
            .collect();
        let Some(fleet) = &mut self.fleet else { return };
        let first = new.first().map_or(agreed.0 + 1, |event| event.id);
        let mut upto = new.last().map_or(agreed, |event| EventId(event.id));
        // A leader that did not hear of this member while it was away leaves out what it takes everybody to have.
        let lacks = last.0 > 0 && first > last.0 + 1;
        let lacking = &mut fleet.part(name).lacking;
        let since = *lacking.get_or_insert(now.mono);
        if !lacks {
            *lacking = None;
        } else if now.mono.since(since) < MISSED {
            new.clear();
            upto = last;
            // What this member has is said at once.
            fleet.presented = None;
        } else {
            *lacking = None;
            tracing::warn!(rollout = %name, from = last.0 + 1, to = first - 1, "events of the fleet that this member missed are not in its journal");
        }
        let new: Vec<EventRecord> = new
            .into_iter()
            .filter(|event| charge.log.agree(event))
            .collect();
        for event in &new {
            tracing::info!(rollout = %name, id = event.id, event = event.kind(), phase = event.phase.as_str(), weight_ppm = event.weight_ppm, by = event.by, reason = event.reason, "{}", crate::report::sentence(event));
        }
        charge.announced = upto;
        charge.told = upto;
        charge.log.show(upto);
        let split = charge.gate.split();
        let wanted = settings(&self.config, rollout, &charge.gate, split.clone());
        let keeps_back = self.keeps_back(name, &stated.record.judged, split.weight.is_zero());
        let Some(fleet) = &mut self.fleet else { return };
        let part = fleet.part(name);
        keep(&mut part.recent, &stated.seconds, memory);
        if !keeps_back {
            part.applied = Applied {
                revision,
                epoch: split.epoch,
                weight_ppm: split.weight.ppm(),
            };
            let table = self.live.load();
            let stands = table
                .find_rollout(name)
                .map(|index| table.rollout(index).settings());
            if stands.as_ref() != Some(&wanted) {
                fleet.presented = None;
                self.live.publish(table.with_settings(name, wanted));
            }
        }
        self.keep_copy(now, name, run, new, stated.seconds);
        self.settle_notices(name, stated.record.notified);
        self.answer_ordered(now);
        self.answer_waiting(now, name);
        self.show(now);
    }

    /// The split that is in force here: that of the gate, or what this member took down alone.
    pub(in crate::control) fn split_in_force(&self, name: &RolloutName, gate: &Gate) -> Split {
        let parts = self.fleet.as_ref().map(|fleet| &fleet.parts);
        let part = parts.and_then(|parts| parts.get(name));
        if part.is_none_or(|part| part.retreat.is_none()) {
            return gate.split();
        }
        let table = self.live.load();
        let live = table.find_rollout(name);
        live.map_or_else(|| gate.split(), |index| table.rollout(index).split.clone())
    }

    /// Whether a split that this member took down alone stays: until it was judged, or the fleet went back itself.
    fn keeps_back(
        &mut self,
        name: &RolloutName,
        judged: &BTreeMap<String, bool>,
        fleet_went_back: bool,
    ) -> bool {
        let Some(fleet) = &mut self.fleet else {
            return false;
        };
        let part = fleet.part(name);
        let Some(retreat) = &part.retreat else {
            return false;
        };
        if fleet_went_back || judged.contains_key(&retreat.id) {
            let undone = judged.get(&retreat.id) == Some(&false);
            tracing::info!(rollout = %name, undone, "what this member did alone was judged");
            part.retreat = None;
            return false;
        }
        true
    }

    /// The journal of this member has what the fleet's has.
    fn keep_copy(
        &mut self,
        now: Now,
        name: &RolloutName,
        run: u64,
        events: Vec<EventRecord>,
        slots: Vec<Slot>,
    ) {
        if let (Some(journal), Some(charge)) = (&self.journal, self.rollouts.get(name)) {
            journal.write(Batch {
                rollout: name.clone(),
                run: events.last().map_or(run, |event| event.run),
                state: Box::new(charge.gate.snapshot(now)),
                slots,
                // Not sent while another member leads: whoever leads next sends what is left.
                notices: self.notices(&events),
                // Who leads keeps what its gate was given.
                inputs: Vec::new(),
                replaces: true,
                events,
            });
        }
    }

    /// The leader told people so much.
    fn settle_notices(&mut self, name: &RolloutName, notified: BTreeMap<String, u64>) {
        let (Some(fleet), Some(store)) = (&mut self.fleet, &self.shared.store) else {
            return;
        };
        let known = &mut fleet.part(name).notified;
        if *known != notified {
            known.clone_from(&notified);
            let events = notified
                .into_iter()
                .map(|(channel, id)| (channel, EventId(id)));
            store.settled_elsewhere(name, events.collect());
        }
    }

    /// Gate time is the leader's. Gives the time as it is then.
    fn keep_time(&mut self, now: Now, saved: Now) -> Now {
        let wall = now
            .wall
            .as_unix_millis()
            .saturating_sub(saved.wall.as_unix_millis());
        let saved_ms = i64::try_from(saved.mono.as_millis()).unwrap_or(i64::MAX);
        let theirs = saved_ms.saturating_add(wall.max(0));
        let mine = i64::try_from(now.mono.as_millis()).unwrap_or(i64::MAX);
        let off = theirs.saturating_sub(mine);
        if off.abs() <= CLOCK_OFF_MS {
            return now;
        }
        self.shift_clock(off);
        Now {
            mono: shifted(now.mono, off),
            wall: now.wall,
        }
    }

    /// Sets the clock of the gates forward or back.
    pub(in crate::control) fn shift_clock(&mut self, by_ms: i64) {
        self.shift_ms = self.shift_ms.saturating_add(by_ms);
        self.drained_to = shifted(self.drained_to, by_ms);
        for charge in self.rollouts.values_mut() {
            charge.seconds = Default::default();
            charge.blocks = Default::default();
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.shift(by_ms);
        }
    }

    /// What was drained goes into the seconds that are told.
    pub(in crate::control) fn count_for_fleet(
        &mut self,
        now: Now,
        name: &RolloutName,
        parts: Vec<Drained>,
        pools: [PoolHealth; 2],
    ) {
        let Some(fleet) = &mut self.fleet else { return };
        let slots: Vec<Slot> = parts
            .iter()
            .filter(|part| !part.slot.cells.is_empty())
            .map(|part| part.slot.clone())
            .collect();
        keep(&mut fleet.part(name).own, &slots, OWN);
        if let Some(second) = fleet.part(name).seconds.add(now, parts, pools) {
            fleet.tell(name, &Told::Second(Box::new(second)));
        }
    }

    /// The running seconds, as far as they have come.
    pub(super) fn tell_the_rest(&mut self) {
        for name in self.names() {
            let Some(fleet) = &mut self.fleet else { return };
            if let Some(second) = fleet.part(&name).seconds.finish() {
                fleet.tell(&name, &Told::Second(Box::new(second)));
            }
        }
    }

    /// An input of a gate that another one decides for: what was heard is passed on, the rest is that one's own matter.
    pub(in crate::control) fn pass_on(&mut self, now: Now, name: &RolloutName, input: Input) {
        let Some(fleet) = &mut self.fleet else { return };
        match input {
            Input::Heard(heard) => {
                let sent_ms = u64::try_from(now.wall.as_unix_millis()).unwrap_or(0);
                let posted = Posted {
                    sent_ms,
                    sent_clock_ms: now.mono.as_millis(),
                    heard: *heard,
                };
                fleet.tell(name, &Told::Posted(Box::new(posted)));
            }
            Input::Command(_)
            | Input::Tick(_)
            | Input::Stored(_)
            | Input::StoreFailed(_)
            | Input::HookEnded(_)
            | Input::Fleet(_) => {}
        }
    }
}

impl Fleet {
    fn tell(&mut self, rollout: &RolloutName, told: &Told) {
        self.told += 1;
        let ask = crate::fleet::Ask::Tell {
            rollout: rollout.clone(),
            n: self.told,
            body: told.encode().into(),
        };
        match &self.region {
            Some(region) => region.ask(ask),
            None => self.ask(ask),
        }
    }

    fn shift(&mut self, by_ms: i64) {
        let looks = [&mut self.lost, &mut self.presented, &mut self.looked_away];
        let moments = looks.into_iter().flatten();
        for moment in moments {
            *moment = shifted(*moment, by_ms);
        }
        if let Role::Alone { since, .. } = &mut self.role {
            *since = shifted(*since, by_ms);
        }
        for part in self.parts.values_mut() {
            part.own.clear();
            part.lacking = part.lacking.map(|since| shifted(since, by_ms));
        }
        for waiting in self.waiting.values_mut() {
            waiting.since = shifted(waiting.since, by_ms);
        }
    }
}

/// Keeps what a gate needs that goes on from here.
pub(super) fn keep(
    recent: &mut std::collections::VecDeque<Slot>,
    seconds: &[Slot],
    memory: Duration,
) {
    recent.extend(seconds.iter().cloned());
    let Some(last) = recent.back().map(|slot| slot.start) else {
        return;
    };
    let oldest = last.before(memory);
    while recent.front().is_some_and(|slot| slot.start < oldest) {
        recent.pop_front();
    }
}

pub(super) fn shifted(moment: Timestamp, by_ms: i64) -> Timestamp {
    Timestamp::from_millis(moment.as_millis().saturating_add_signed(by_ms))
}
