//! The member that leads: its gates are given the seconds of all, and what they come to is written into the bucket.
//!
//! A step towards canary waits until its event lies in the bucket and on the disk; a retreat waits for neither. The record is
//! written at each event and each second, by compare-and-set on its revision, so that whoever led before is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Role;
use super::follow::shifted;
use super::gather::{Gather, Place};
use crate::control::driver::Driver;
use crate::fleet::{Ask, in_words};
use crate::records::Moment;
use crate::records::fleet::{Applied, FleetRecord, Parting, RetreatRecord, Stated, Told};
use crate::records::inputs::Recorder;
use crate::records::plan::plan_hash;
use crate::rollout::assign::Split;
use crate::rollout::gate::{
    Action, Command, EventId, FleetWord, Gate, Heard, Input, Observed, Phase,
};
use crate::rollout::name::RolloutName;
use crate::rollout::slot::Slot;
use crate::rollout::time::{Now, WallTime};

/// Without an event the record is written so often.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// Events that a record holds at most.
const MOST_EVENTS: usize = 256;
/// Orders that are remembered as carried out.
const MOST_ORDERS: usize = 256;
/// How long the fleet's own figures are looked at before a member's retreat is undone.
const JUDGED_AFTER: Duration = Duration::from_secs(20);
/// Judged retreats that are remembered.
const MOST_JUDGED: usize = 64;

impl Driver {
    /// Goes on from the records in the bucket, as soon as all of them are seen.
    pub(super) fn lead_if_it_can(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        let has_seen = fleet.caught_up && fleet.members_seen;
        if !fleet.has_lead || !has_seen || fleet.role == Role::Leads {
            return;
        }
        fleet.role = Role::Leads;
        fleet.reads = false;
        // What was said before may be of events that the fleet does not have.
        self.shared.notified.store(Default::default());
        let term = fleet.term;
        let why = format!("{} leads the fleet from now on (term {term})", fleet.name());
        tracing::info!(term, "this member leads the fleet");
        let mut low = u64::MAX;
        for name in self.names() {
            low = low.min(self.go_on(now, &name, &why));
        }
        let Some(fleet) = &mut self.fleet else { return };
        fleet.ask(Ask::Follow {
            after: if low == u64::MAX { 0 } else { low },
        });
        for (id, body) in std::mem::take(&mut fleet.early) {
            self.ordered(now, id, &body);
        }
        self.show(now);
    }

    /// The state that lies in the bucket, with what is in it; `None` where there is none yet.
    fn lying(&mut self, name: &RolloutName) -> Option<Stated> {
        let lying = self.fleet.as_mut()?.part(name).lying.as_ref()?;
        match Stated::decode(&lying.body) {
            Ok(stated) => Some(stated),
            Err(why) => {
                tracing::error!(rollout = %name, %why, "what lies in the fleet's bucket cannot be read: this member goes on from its own state");
                None
            }
        }
    }

    /// Takes a rollout up where the record has it, or where this member has it if there is none. Gives the position of the
    /// stream behind which messages are not in it.
    fn go_on(&mut self, now: Now, name: &RolloutName, why: &str) -> u64 {
        let lying = self.lying(name);
        let (Some(fleet), Some(charge)) = (&mut self.fleet, self.rollouts.get_mut(name)) else {
            return u64::MAX;
        };
        let part = fleet.parts.entry(name.clone()).or_default();
        part.led = Default::default();
        let recent: Vec<Slot> = part.recent.iter().cloned().collect();
        let mut record = None;
        if let Some(Stated {
            record: agreed,
            snapshot,
            ..
        }) = lying
        {
            part.led.gather = Gather::after(&agreed, now);
            part.led.done = agreed.orders.iter().cloned().collect();
            part.led.judged.clone_from(&agreed.judged);
            part.record = Some(agreed.clone());
            record = Some(agreed);
            charge.gate = Gate::as_it_stood(*snapshot);
        }
        let low = part.led.gather.low();
        for event in record.iter().flat_map(|record| &record.events) {
            charge.log.agree(event);
        }
        charge.announced = charge.gate.last_event();
        charge.told = charge.announced;
        let snapshot = charge.gate.snapshot(charge.gate.saved());
        let recorder = self.config.state.record_inputs;
        charge.recorder = recorder.then(|| Recorder::restored(&snapshot, &recent, now));
        let (gate, effects) = Gate::restore_because(snapshot, recent, now, why);
        charge.gate = gate;
        part.led.in_bucket = charge.announced;
        part.led.on_disk = charge.announced;
        part.led.given = charge.announced;
        let done = self.carry_out(name, effects);
        self.write(now, name, done.events, Vec::new());
        self.record(now, name, true);
        low
    }

    /// What all members counted, for the gates that decide for all.
    pub(in crate::control) fn observe_fleet(&mut self, now: Now, name: &RolloutName) -> Observed {
        self.note_silence(now, name);
        self.judge_retreats(now, name);
        let Some(fleet) = &mut self.fleet else {
            return empty();
        };
        let said = fleet.part(name).led.gather.take_said(now);
        for (heard, off) in said {
            let heard = in_our_time(heard, off);
            self.tell(now, name, Input::Heard(Box::new(heard)));
        }
        let Some(fleet) = &mut self.fleet else {
            return empty();
        };
        fleet.part(name).led.gather.observe(now)
    }

    /// Whether the record is to be written anew, and if it is, writes it.
    pub(in crate::control) fn record(&mut self, now: Now, name: &RolloutName, at_once: bool) {
        let (Some(fleet), Some(charge), Some(rollout)) = (
            &mut self.fleet,
            self.rollouts.get(name),
            self.config.rollouts.get(name),
        ) else {
            return;
        };
        if fleet.role != Role::Leads {
            return;
        }
        let (term, me) = (fleet.term, fleet.name().to_owned());
        let behind = fleet
            .members
            .values()
            .map(|member| member.events.get(name.as_str()).copied().unwrap_or(0))
            .min()
            .unwrap_or(0);
        let Some(part) = fleet.parts.get_mut(name) else {
            return;
        };
        let is_fresh = |at| now.mono.since(at) < RECORD_EVERY;
        if !at_once && part.led.recorded.is_some_and(is_fresh) {
            return;
        }
        part.led.recorded = Some(now.mono);
        part.led.ticket += 1;
        let split = charge.gate.split();
        let notified = self.shared.notified.load().get(name).map(|notified| {
            let channels = notified.iter();
            let told = channels.map(|(channel, event)| (channel.clone(), event.0));
            told.collect()
        });
        let seconds = part.led.gather.take_closed();
        super::follow::keep(&mut part.recent, &seconds, charge.gate.memory());
        let snapshot = charge.gate.snapshot(now);
        let last = snapshot.last_event;
        let mut record = FleetRecord {
            file_plan: plan_hash(&rollout.plan),
            weight_ppm: split.weight.ppm(),
            epoch: split.epoch,
            marks: part.led.gather.marks(),
            orders: part.led.done.iter().cloned().collect(),
            judged: part.led.judged.clone(),
            notified: notified.unwrap_or_default(),
            heard: part.led.gather.here(now),
            regions: part.led.gather.regions(now),
            ..FleetRecord::by(&me, term)
        };
        part.led.on_the_way.push_back((part.led.ticket, last));
        // This member has the events in its own log.
        part.record = Some(record.clone());
        record.events = charge.log.latest(behind, MOST_EVENTS);
        part.applied = Applied {
            revision: part.revision,
            epoch: split.epoch,
            weight_ppm: split.weight.ppm(),
        };
        let ticket = part.led.ticket;
        let stated = Stated {
            record,
            snapshot: Box::new(snapshot),
            seconds,
        };
        let body = stated.encode().into();
        fleet.ask(Ask::Record {
            rollout: name.clone(),
            term,
            ticket,
            body,
        });
    }

    /// A record lies in the bucket, and with it every event up to its own.
    pub(super) fn recorded(&mut self, now: Now, name: &RolloutName, ticket: u64, revision: u64) {
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.role != Role::Leads {
            return;
        }
        let part = fleet.part(name);
        part.revision = revision;
        part.applied.revision = revision;
        while let Some(&(of, event)) = part.led.on_the_way.front()
            && of <= ticket
        {
            part.led.in_bucket = event.max(part.led.in_bucket);
            part.led.on_the_way.pop_front();
        }
        self.stored_in_both(now, name);
    }

    /// The gate goes on when an event is safe in both places.
    pub(in crate::control) fn stored_on_disk(&mut self, now: Now, name: &RolloutName, id: EventId) {
        if let Some(fleet) = &mut self.fleet {
            let led = &mut fleet.part(name).led;
            led.on_disk = id.max(led.on_disk);
        }
        self.stored_in_both(now, name);
    }

    fn stored_in_both(&mut self, now: Now, name: &RolloutName) {
        let Some(fleet) = &mut self.fleet else { return };
        let without_disk = self.journal.is_none();
        let led = &mut fleet.part(name).led;
        let safe = if without_disk {
            led.in_bucket
        } else {
            led.in_bucket.min(led.on_disk)
        };
        if safe > led.given {
            led.given = safe;
            if let Some(charge) = self.rollouts.get_mut(name) {
                charge.told = safe.max(charge.told);
            }
            self.tell(now, name, Input::Stored(safe));
            self.show(now);
        }
    }

    /// A message of a member.
    pub(super) fn told(
        &mut self,
        now: Now,
        name: &RolloutName,
        (position, member, n): (u64, &str, u64),
        body: &[u8],
    ) {
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.role != Role::Leads || !fleet.reads || !self.rollouts.contains_key(name) {
            return;
        }
        let place = Place {
            position,
            member,
            n,
        };
        let gather = &mut fleet.part(name).led.gather;
        match Told::decode(body) {
            Ok(told) => gather.take(now, place, told),
            Err(why) => {
                tracing::warn!(rollout = %name, member, %why, "what a member told cannot be read");
            }
        }
    }

    /// Remembers an order as carried out, so that it is not again when it comes again.
    pub(super) fn remember_order(&mut self, name: &RolloutName, id: &str) {
        let Some(fleet) = &mut self.fleet else { return };
        let done = &mut fleet.part(name).led.done;
        done.push_back(id.to_owned());
        while done.len() > MOST_ORDERS {
            done.pop_front();
        }
    }

    /// Members that told seconds and do not any more are named once, with the last second they are in.
    fn note_silence(&mut self, now: Now, name: &RolloutName) {
        let Some(fleet) = &mut self.fleet else { return };
        let led = &mut fleet.part(name).led;
        let here = led.gather.many(now);
        let told = led.gather.take_partings(now).into_iter();
        let notes = told
            .map(|parting| match parting {
                Parting::IsAnother { member, second } => format!(
                    "{} is another process: the last second counted of the former one is {}",
                    in_words(&member),
                    moment(second)
                ),
                Parting::FellSilent { member, second } => format!(
                    "{} fell silent: the last second counted of it is {}; {here} members are heard",
                    in_words(&member),
                    moment(second)
                ),
            })
            .collect();
        self.word(now, name, notes);
    }

    /// Members that went back alone: the fleet holds until that is judged by the figures of all. Half of the members are right.
    fn judge_retreats(&mut self, now: Now, name: &RolloutName) {
        let Some(fleet) = &mut self.fleet else { return };
        let members = fleet.members.len();
        let mut said: Vec<(String, String, String)> = Vec::new();
        for (member, says) in &fleet.members {
            if let Some(retreat) = says.retreats.get(name.as_str()) {
                said.push((member.clone(), retreat.id.clone(), retreat.why.clone()));
            }
        }
        let led = &mut fleet.part(name).led;
        said.retain(|(_, id, _)| !led.judged.contains_key(id));
        let known: BTreeSet<&String> = said.iter().map(|(_, id, _)| id).collect();
        led.judging.retain(|id, _| known.contains(id));
        if said.is_empty() {
            if led.trouble.take().is_some() {
                self.word(now, name, Vec::new());
            }
            return;
        }
        let mut notes = Vec::new();
        for (member, id, why) in &said {
            if !led.judging.contains_key(id) {
                led.judging.insert(id.clone(), now.mono);
                notes.push(format!(
                    "member {member} went back to baseline alone while it was cut off: {why}"
                ));
            }
        }
        let many = said.len();
        let is_due = led
            .judging
            .values()
            .any(|&since| now.mono.since(since) >= JUDGED_AFTER);
        let Some(charge) = self.rollouts.get(name) else {
            return;
        };
        let went_back = matches!(
            charge.gate.phase(),
            Phase::RollingBack | Phase::RolledBack | Phase::Aborted
        ) || charge.gate.split().weight.is_zero();
        let most = many * 2 > members && charge.gate.phase().is_in_a_run();
        if !went_back && !most && !is_due {
            led.trouble = Some(format!(
                "{many} of {members} members went back to baseline alone; that is being judged"
            ));
        }
        self.word(now, name, notes);
        if went_back {
            self.judged(now, name, &said, true);
        } else if most {
            let command = Command {
                by: "fleet".to_owned(),
                reason: format!(
                    "{many} of {members} members went back to baseline alone: {}",
                    said[0].2
                ),
                force: false,
                action: Action::Rollback,
            };
            self.tell(now, name, Input::Command(command));
            self.judged(now, name, &said, true);
        } else if is_due {
            self.judged(now, name, &said, false);
        }
    }

    fn judged(
        &mut self,
        now: Now,
        name: &RolloutName,
        said: &[(String, String, String)],
        confirmed: bool,
    ) {
        let Some(fleet) = &mut self.fleet else { return };
        let led = &mut fleet.part(name).led;
        let mut members = Vec::new();
        for (member, id, _) in said {
            led.judged.insert(id.clone(), confirmed);
            led.judging.remove(id);
            members.push(member.as_str());
        }
        while led.judged.len() > MOST_JUDGED {
            led.judged.pop_first();
        }
        led.trouble = None;
        let members = members.join(", ");
        self.give_up_own_retreat(name, said);
        let note = if confirmed {
            format!("what {members} did alone is confirmed: the fleet is on baseline")
        } else {
            format!(
                "what {members} did alone is undone: the figures of all members do not bear it out"
            )
        };
        self.word(now, name, vec![note]);
        self.record(now, name, true);
    }

    /// Where this member's own retreat is among those that were judged, what its gate says is in force here again.
    fn give_up_own_retreat(&mut self, name: &RolloutName, said: &[(String, String, String)]) {
        let (Some(fleet), Some(charge)) = (&mut self.fleet, self.rollouts.get(name)) else {
            return;
        };
        let retreat = &mut fleet.part(name).retreat;
        let is_among =
            |retreat: &mut RetreatRecord| said.iter().any(|(_, id, _)| *id == retreat.id);
        if retreat.take_if(is_among).is_some() {
            let split = charge.gate.split();
            self.publish(name, split);
        }
    }

    /// Whether a split may not come into force here yet: this member took its learners back alone, and that is being judged.
    pub(in crate::control) fn awaits_judgement(&self, name: &RolloutName, split: &Split) -> bool {
        self.leads_a_fleet()
            && !split.weight.is_zero()
            && self
                .fleet
                .as_ref()
                .and_then(|fleet| fleet.parts.get(name))
                .is_some_and(|part| part.retreat.is_some())
    }

    /// Tells the gate how the fleet fares, where that is news.
    fn word(&mut self, now: Now, name: &RolloutName, notes: Vec<String>) {
        let Some(fleet) = &mut self.fleet else { return };
        let trouble = fleet.part(name).led.trouble.clone();
        let Some(charge) = self.rollouts.get(name) else {
            return;
        };
        if notes.is_empty() && charge.gate.fleet_trouble() == trouble.as_deref() {
            return;
        }
        self.tell(now, name, Input::Fleet(FleetWord { trouble, notes }));
    }

    /// This member ends: what it counted is told, and the lead is left to another one.
    pub(in crate::control) fn leave_fleet(&mut self, now: Now) {
        self.tell_the_rest();
        self.resign(now);
    }

    /// Leaves the lead to another member.
    pub(in crate::control) fn resign(&mut self, now: Now) {
        if self.leads_a_fleet() {
            for name in self.names() {
                self.record(now, &name, true);
            }
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.ask(Ask::Resign {
                not_before: Duration::from_secs(60),
            });
        }
    }
}

fn moment(second: u64) -> Moment {
    let ms = i64::try_from(second.saturating_mul(1000)).unwrap_or(i64::MAX);
    Moment(WallTime::from_unix_millis(ms))
}

// Moments of another member's gate, as ours has them.
fn in_our_time(mut heard: Heard, off_ms: i64) -> Heard {
    for observation in &mut heard.signals {
        observation.at = shifted(observation.at, off_ms);
    }
    heard
}

fn empty() -> Observed {
    Observed {
        slots: Vec::new(),
        pools: Default::default(),
        learners: Default::default(),
        blocks: Vec::new(),
        gap: Duration::ZERO,
    }
}
