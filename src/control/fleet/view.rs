//! The fleet as others see it: who is in it, who leads, and what is in force where. A picture, published with the rollouts.

use std::collections::BTreeMap;

use super::region::Region;
use super::{Fleet, Role};
use crate::records::fleet::{FleetRecord, MemberRecord};
use crate::rollout::time::Now;

/// The fleet as this member knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetView {
    /// This member.
    pub name: String,
    pub region: String,
    /// `leads`, `follows` or `alone`.
    pub role: &'static str,
    /// Why it is alone, or why the servers are out of reach.
    pub why: Option<String>,
    /// Seconds since it has been alone.
    pub alone_s: Option<f64>,
    /// Seconds alone since the start.
    pub isolated_s: f64,
    /// `None` where nobody leads.
    pub leader: Option<String>,
    /// The fencing number of the leader.
    pub term: u64,
    /// Whether this member may lead.
    pub may_lead: bool,
    /// How many members there are.
    pub count: usize,
    /// In a fleet of more than 64 only the member that leads knows them all.
    pub members: Vec<MemberView>,
    /// Of each rollout: whose seconds are in the figures: members, and regions that add up for theirs.
    pub heard: BTreeMap<String, Vec<String>>,
    /// Of each rollout and each of those regions: how many of its members are heard there.
    pub regions: BTreeMap<String, BTreeMap<String, u64>>,
    /// Of each rollout: how many members those are together.
    pub heard_members: BTreeMap<String, usize>,
    /// Whether this member adds up for its region; `None` where that does not aggregate.
    pub adds_up: Option<bool>,
}

/// One member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    pub name: String,
    pub says: MemberRecord,
    /// Its version and its plans are those of this member.
    pub agrees: bool,
}

impl Fleet {
    pub(in crate::control) fn view(&self, now: Now) -> FleetView {
        let me = self.members.get(self.name());
        let agrees = |says: &MemberRecord| {
            me.is_none_or(|me| me.serin == says.serin && me.plans == says.plans)
        };
        let members = self.members.iter().map(|(name, says)| MemberView {
            name: name.clone(),
            says: says.clone(),
            agrees: agrees(says),
        });
        let records = || {
            let parts = self.parts.iter();
            parts.map(|(name, part)| (name.to_string(), part.record.as_ref()))
        };
        let heard = records().map(|(name, record)| {
            let heard = record.map(|record| record.heard.clone());
            (name, heard.unwrap_or_default())
        });
        let regions = records()
            .filter_map(|(name, record)| Some((name, record?.regions.clone())))
            .filter(|(_, regions)| !regions.is_empty());
        let heard_members =
            records().map(|(name, record)| (name, record.map_or(0, FleetRecord::members)));
        let (role, why, alone_s) = match &self.role {
            Role::Leads => ("leads", self.away.clone(), None),
            Role::Follows => ("follows", self.away.clone(), None),
            Role::Alone { since, why } => {
                let alone = now.mono.since(*since).as_secs_f64();
                ("alone", Some(why.clone()), Some(alone))
            }
        };
        FleetView {
            name: self.name().to_owned(),
            region: self.settings.region.clone(),
            role,
            why,
            alone_s,
            isolated_s: self.isolated.as_secs_f64(),
            leader: self.leader.clone().filter(|_| role != "alone"),
            term: self.term,
            may_lead: self.may_lead,
            count: self.count(),
            members: members.collect(),
            heard: heard.collect(),
            regions: regions.collect(),
            heard_members: heard_members.collect(),
            adds_up: self.region.as_ref().map(Region::adds_up),
        }
    }
}
