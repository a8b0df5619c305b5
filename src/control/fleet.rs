//! This member's part in a fleet: whether its gates decide, follow another member's, or go on alone; and what it tells.
//!
//! One member leads: its gates are given what all members counted (`gather`, and `members` who they are), and what they decide goes into the bucket before it
//! is stored for good (`lead`). The others apply what lies there (`follow`) and tell their seconds (`seconds`). A member that is cut
//! off goes on alone with what it sees itself, and never towards canary (`alone`). Where regions aggregate, one member of each adds up for
//! the others (`region`). `presence` is what members say of themselves, and whom that lets lead. `orders` take commands from any member to the one
//! that leads. `fleet` of the library moves the bytes; here they get their meaning.

mod alone;
mod follow;
mod gather;
mod lead;
mod members;
mod orders;
mod presence;
mod region;
mod seconds;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use self::gather::Gather;
use self::orders::Waiting;
use self::region::Region;
use self::seconds::Seconds;
use super::driver::Driver;
use crate::config;
use crate::fleet::{Ask, News};
use crate::records::fleet::{Applied, FleetRecord, MemberRecord, RetreatRecord};
use crate::rollout::gate::{EventId, Input};
use crate::rollout::name::RolloutName;
use crate::rollout::slot::Slot;
use crate::rollout::time::{Now, Timestamp};
use crate::telemetry::Drained;

pub use view::{FleetView, MemberView};

/// A fleet without a leader, or out of reach, for so long: this member goes on alone.
/// Servers of NATS need up to nine seconds to agree on a new leader of their own when one is killed; the key that a leader
/// held may then live for three more, and its record is read.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who decides about the rollouts of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Its own gates: there is no fleet, or this member leads it.
    Decides,
    /// Another member's.
    Follows,
    /// Its own gates, for what goes away from canary.
    Alone,
}

#[derive(Debug)]
pub(super) struct Fleet {
    asks: UnboundedSender<Ask>,
    settings: config::Fleet,
    /// Where its region aggregates.
    region: Option<Region>,
    role: Role,
    /// The fencing number of whoever leads.
    term: u64,
    leader: Option<String>,
    /// This process has the lead: an earlier one of its name may have had it, too.
    has_lead: bool,
    /// The messages of members that come now are those that were asked for last.
    reads: bool,
    /// Since when nobody is known to lead, or the bucket is out of reach.
    lost: Option<Timestamp>,
    /// Why it is out of reach; `None` while it is not.
    away: Option<String>,
    /// Every record that there is was seen.
    caught_up: bool,
    /// Of the last message that was told.
    told: u64,
    parts: BTreeMap<RolloutName, Part>,
    /// What the members say of themselves, this one among them.
    members: BTreeMap<String, MemberRecord>,
    /// What they say is asked for, and all of it was heard once since.
    watches: bool,
    members_seen: bool,
    /// When there were last too many to look at.
    looked_away: Option<Timestamp>,
    waiting: BTreeMap<String, Waiting>,
    /// Numbers the orders of this process.
    orders: u64,
    /// Orders that came before this member could lead.
    early: Vec<(String, bytes::Bytes)>,
    presented: Option<Timestamp>,
    may_lead: bool,
    isolated: Duration,
    /// Told apart from an earlier process of the same name.
    life: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Follows,
    Leads,
    Alone { since: Timestamp, why: String },
}

/// One rollout.
#[derive(Debug, Default)]
struct Part {
    seconds: Seconds,
    /// That this member follows, or went on from.
    record: Option<FleetRecord>,
    /// Of what lies in the bucket.
    revision: u64,
    /// In force here.
    applied: Applied,
    /// Seconds of the fleet of late, oldest first: what a gate needs that goes on from a record.
    recent: VecDeque<Slot>,
    /// What this member did alone and nobody has judged yet.
    retreat: Option<RetreatRecord>,
    /// What this member counted itself of late, oldest first: what it goes on with alone.
    own: VecDeque<Slot>,
    /// Up to which event the leader is known to have told each channel of notices.
    notified: BTreeMap<String, u64>,
    /// Since when records lack events that this member has not.
    lacking: Option<Timestamp>,
    /// Messages that never reached the fleet.
    lost: u64,
    lying: Option<Lying>,
    led: Led,
}

/// A record as it lies in the bucket: the state and what is in it, which belong together.
#[derive(Clone, Debug)]
struct Lying {
    revision: u64,
    body: bytes::Bytes,
}

/// What only the leader knows of a rollout.
#[derive(Debug, Default)]
struct Led {
    gather: Gather,
    /// Of the last record asked for.
    ticket: u64,
    /// The last event in each record on its way.
    on_the_way: VecDeque<(u64, EventId)>,
    /// Events up to this one lie in the bucket, and on this member's disk.
    in_bucket: EventId,
    on_disk: EventId,
    /// The gate was told that events up to this one are safe.
    given: EventId,
    recorded: Option<Timestamp>,
    /// Orders that were carried out, the latest last.
    done: VecDeque<String>,
    judged: BTreeMap<String, bool>,
    /// Retreats of members that are to be judged, since when.
    judging: BTreeMap<String, Timestamp>,
    trouble: Option<String>,
}

impl Fleet {
    /// `region` is asked where that aggregates.
    pub(super) fn new(
        asks: UnboundedSender<Ask>,
        region: Option<UnboundedSender<Ask>>,
        settings: config::Fleet,
        now: Now,
    ) -> Self {
        let name = settings.name.clone();
        Self {
            asks,
            region: region.map(|asks| Region::new(asks, settings.region.clone())),
            role: Role::Follows,
            term: 0,
            leader: None,
            has_lead: false,
            reads: false,
            lost: Some(now.mono),
            away: Some("it was not reached yet".to_owned()),
            caught_up: false,
            told: 0,
            parts: BTreeMap::new(),
            members: [(name, MemberRecord::default())].into(),
            watches: true,
            members_seen: false,
            looked_away: None,
            waiting: BTreeMap::new(),
            orders: 0,
            early: Vec::new(),
            presented: None,
            may_lead: true,
            isolated: Duration::ZERO,
            life: format!("{:x}", now.wall.as_unix_millis()),
            settings,
        }
    }

    pub(super) const fn duty(&self) -> Duty {
        match self.role {
            Role::Leads => Duty::Decides,
            Role::Follows => Duty::Follows,
            Role::Alone { .. } => Duty::Alone,
        }
    }

    fn name(&self) -> &str {
        &self.settings.name
    }

    fn ask(&self, ask: Ask) {
        if self.asks.send(ask).is_err() {
            tracing::debug!("nobody links this member with its fleet any more");
        }
    }

    fn dropped(&mut self, rollout: &RolloutName, count: u64) {
        self.part(rollout).lost = count;
        tracing::warn!(%rollout, count, "seconds of this member are lost to the fleet: they found no room while it was away");
    }

    fn part(&mut self, rollout: &RolloutName) -> &mut Part {
        self.parts.entry(rollout.clone()).or_default()
    }
}

impl Driver {
    pub(super) fn duty(&self) -> Duty {
        self.fleet.as_ref().map_or(Duty::Decides, Fleet::duty)
    }

    pub(super) fn leads_a_fleet(&self) -> bool {
        self.fleet.is_some() && self.duty() == Duty::Decides
    }

    /// Takes what the link says.
    pub(super) fn hear_fleet(&mut self, now: Now, news: News) {
        let Some(fleet) = &mut self.fleet else { return };
        match news {
            News::Connected => {
                fleet.away = None;
                fleet.caught_up = false;
                fleet.members_seen = false;
                fleet.presented = None;
                tracing::info!("the fleet is reached");
            }
            News::Away { why } => {
                if fleet.away.is_none() {
                    tracing::warn!(why, "the fleet is out of reach");
                }
                fleet.away = Some(why);
            }
            News::CaughtUp => {
                fleet.caught_up = true;
                self.lead_if_it_can(now);
            }
            News::MembersSeen => {
                fleet.members_seen = true;
                self.lead_if_it_can(now);
            }
            News::Leading { term } => {
                fleet.watch(true);
                fleet.term = term;
                fleet.leader = Some(fleet.name().to_owned());
                fleet.has_lead = true;
                self.lead_if_it_can(now);
            }
            News::Led { by, term } => self.led_by(now, by, term),
            News::State {
                rollout,
                revision,
                body,
            } => self.stated(now, &rollout, revision, body),
            News::Recorded {
                rollout,
                ticket,
                revision,
            } => self.recorded(now, &rollout, ticket, revision),
            News::Fenced { rollout, why, .. } => {
                tracing::warn!(%rollout, why, "another member leads: what was to be written is not");
                self.step_down(now);
            }
            News::TooLarge {
                rollout,
                size,
                limit,
                ..
            } => {
                tracing::error!(%rollout, size, limit, "the state of a rollout is larger than the servers of the fleet take: raise their max_payload");
            }
            News::Told {
                position,
                rollout,
                member,
                n,
                body,
            } => self.told(now, &rollout, (position, &member, n), &body),
            News::Order { id, body } => self.ordered(now, id, &body),
            News::Ordered { id, body } => self.order_outcome(now, &id, &body),
            News::Refused { id, why } => self.not_ordered(&id, &why),
            News::Member { name, body } => self.member(&name, body.as_deref()),
            News::Follows { .. } => fleet.reads = true,
            News::Kept { .. } => {}
            News::Dropped { rollout, count, .. } => fleet.dropped(&rollout, count),
            News::LastSum { rollout, found } => self.last_sum(now, &rollout, found),
            News::Summed {
                rollout,
                n,
                position,
            } => self.summed(now, &rollout, n, position),
            News::Unsummed { rollout, n, why } => self.unsummed(&rollout, n, &why),
        }
        self.find_out(now);
    }

    /// The same in a fleet: what was counted is told, and decided by whoever leads.
    pub(super) fn tick_in_fleet(
        &mut self,
        now: Now,
        name: &RolloutName,
        parts: Vec<Drained>,
        gap: Duration,
    ) {
        let pools = self.observed_health(name);
        match self.duty() {
            Duty::Follows => self.count_for_fleet(now, name, parts, pools),
            Duty::Decides => {
                self.count_for_fleet(now, name, parts, pools);
                let observed = self.observe_fleet(now, name);
                let counted = observed.slots.iter().filter(|slot| !slot.cells.is_empty());
                let closed = counted.cloned().collect();
                let Some(charge) = self.rollouts.get_mut(name) else {
                    return;
                };
                let effects = charge.give(now, Input::Tick(Box::new(observed)));
                let done = self.carry_out(name, effects);
                self.write(now, name, done.events, closed);
            }
            Duty::Alone => {
                self.count_for_fleet(now, name, parts.clone(), pools);
                let Some(charge) = self.rollouts.get_mut(name) else {
                    return;
                };
                let (observed, _) = charge.observe(parts, pools, gap);
                let input = Input::Tick(Box::new(observed));
                if let Err(refused) = self.handle_alone(now, name, input) {
                    tracing::warn!(rollout = %name, why = %refused, "the gate refused");
                }
            }
        }
        self.answer_waiting(now, name);
    }

    /// Whether this member is part of the fleet; if it is again, it follows.
    fn find_out(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        let is_there = fleet.away.is_none() && fleet.caught_up && fleet.leader.is_some();
        if !is_there {
            fleet.lost.get_or_insert(now.mono);
            return;
        }
        fleet.lost = None;
        if fleet.duty() == Duty::Alone && !fleet.has_lead {
            self.heal(now);
        }
    }

    /// Once a tick: whether this member is cut off, and what it says of itself.
    pub(super) fn tend_fleet(&mut self, now: Now, passed: Duration) {
        self.find_out(now);
        let Some(fleet) = &mut self.fleet else { return };
        match &fleet.role {
            Role::Alone { .. } => fleet.isolated += passed,
            Role::Leads | Role::Follows => {}
        }
        let is_lost = |since: Timestamp| now.mono.since(since) >= PATIENCE;
        let is_alone = fleet.duty() == Duty::Alone;
        if !is_alone && fleet.role != Role::Leads && fleet.lost.is_some_and(is_lost) {
            self.go_alone(now);
        } else if is_alone {
            self.stay_alone(now);
        }
        self.tend_region(now);
        self.present(now);
        if let Some(fleet) = &mut self.fleet {
            fleet.look_at_members(now);
        }
        self.vote(now);
        self.give_up_orders(now);
    }
}
