//! What the members say of themselves, and who of them looks at it: versions, plans, what is in force; and the vote that follows from it.
//!
//! In a small fleet everybody looks at everybody. In a large one the member that leads does alone, and the others know how many there are
//! from its records.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Fleet, Role};
use crate::control::driver::Driver;
use crate::fleet::Ask;
use crate::records::fleet::{FleetRecord, MemberRecord};
use crate::records::plan::plan_hash;
use crate::rollout::time::{Now, Timestamp};

/// In a larger fleet only the member that leads looks at what all of them say of themselves: else each would hear each.
const MOST_WATCHED: usize = 64;
/// Who looks at them no more does not for so long: the leader's records say a little later how many there are.
const LOOKS_AWAY: Duration = Duration::from_secs(10);
/// What a member says of itself is renewed as often.
const PRESENT_EVERY: Duration = Duration::from_secs(1);

impl Fleet {
    /// Looks at what all members say, or at it no more.
    pub(super) fn watch(&mut self, watches: bool) {
        if self.watches == watches {
            return;
        }
        self.watches = watches;
        self.members_seen = false;
        if !watches {
            let me = self.settings.name.clone();
            self.members.retain(|name, _| *name == me);
        }
        self.ask(Ask::Watch(watches));
    }

    /// Whoever does not lead looks at the members of a small fleet alone.
    pub(super) fn look_at_members(&mut self, now: Now) {
        if self.has_lead {
            return;
        }
        let since = self.looked_away;
        let looks_away = since.is_some_and(|since| now.mono.since(since) < LOOKS_AWAY);
        if self.count() > MOST_WATCHED {
            self.watch(false);
            self.looked_away = Some(now.mono);
        } else if (1..MOST_WATCHED / 2).contains(&self.heard()) && !looks_away {
            // Where nobody is heard yet, nobody knows how many there are.
            self.watch(true);
        }
    }

    /// How many members there are, as far as this one knows.
    pub(super) fn count(&self) -> usize {
        self.members.len().max(self.heard())
    }

    /// How many of them the leader hears.
    pub(super) fn heard(&self) -> usize {
        let records = self.parts.values().filter_map(|part| part.record.as_ref());
        records.map(FleetRecord::members).max().unwrap_or(0)
    }
}

impl Driver {
    /// Says what is in force here.
    pub(super) fn present(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        let fresh = |at: Timestamp| now.mono.since(at) < PRESENT_EVERY;
        if fleet.presented.is_some_and(fresh) {
            return;
        }
        fleet.presented = Some(now.mono);
        let plans = self.config.rollouts.iter();
        let parts = fleet.parts.iter();
        let record = MemberRecord {
            serin: env!("CARGO_PKG_VERSION").to_owned(),
            region: fleet.settings.region.clone(),
            plans: plans
                .map(|(name, rollout)| (name.to_string(), plan_hash(&rollout.plan)))
                .collect(),
            applied: parts
                .clone()
                .map(|(name, part)| (name.to_string(), part.applied.clone()))
                .collect(),
            events: self
                .rollouts
                .iter()
                .map(|(name, charge)| (name.to_string(), charge.announced.0))
                .collect(),
            isolated_s: fleet.isolated.as_secs_f64(),
            lost: parts
                .clone()
                .filter(|(_, part)| part.lost > 0)
                .map(|(name, part)| (name.to_string(), part.lost))
                .collect(),
            retreats: parts
                .filter_map(|(name, part)| Some((name.to_string(), part.retreat.clone()?)))
                .collect(),
        };
        let body = record.encode().into();
        let name = fleet.name().to_owned();
        fleet.members.insert(name, record);
        fleet.ask(Ask::Present { body });
    }

    pub(super) fn member(&mut self, name: &str, body: Option<&[u8]>) {
        let Some(fleet) = &mut self.fleet else { return };
        // Also what was on its way when this member looked away.
        if name == fleet.name() || !fleet.watches {
            return;
        }
        match body.map(MemberRecord::decode) {
            Some(Ok(record)) => {
                if fleet.members.insert(name.to_owned(), record).is_none() {
                    tracing::info!(member = name, "a member joined the fleet");
                }
            }
            Some(Err(why)) => {
                tracing::warn!(member = name, %why, "what a member says of itself cannot be read");
            }
            None => {
                if fleet.members.remove(name).is_some() {
                    tracing::warn!(member = name, "a member of the fleet fell silent");
                }
            }
        }
    }

    /// Whether this member may lead: it has the version and the plans that most members have.
    pub(super) fn vote(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        let Some(me) = fleet.members.get(fleet.name()).cloned() else {
            return;
        };
        if !fleet.watches {
            // Whoever leads has the version and the plans that most have.
            let mut records = fleet.parts.iter();
            let may_lead = records.all(|(name, part)| {
                let plan = me.plans.get(name.as_str());
                let record = part.record.as_ref();
                record.is_none_or(|of| of.serin == me.serin && plan == Some(&of.file_plan))
            });
            self.may_lead(now, may_lead);
            return;
        }
        let mut votes: BTreeMap<(&str, &BTreeMap<String, String>), usize> = BTreeMap::new();
        for member in fleet.members.values() {
            *votes.entry((&member.serin, &member.plans)).or_default() += 1;
        }
        let mine = (me.serin.as_str(), &me.plans);
        let most = votes.values().copied().max().unwrap_or_default();
        let lead = |of: &(&str, &BTreeMap<String, String>)| votes.get(of) == Some(&most);
        let ties = votes.keys().filter(|of| lead(of)).count();
        let is_recorded = |fleet: &Self| {
            let Some(of) = &fleet.fleet else { return false };
            of.parts.iter().all(|(name, part)| match &part.record {
                Some(record) => me.plans.get(name.as_str()) == Some(&record.file_plan),
                None => true,
            })
        };
        let may_lead = lead(&mine) && (ties == 1 || is_recorded(self));
        self.may_lead(now, may_lead);
    }

    fn may_lead(&mut self, now: Now, may_lead: bool) {
        let Some(fleet) = &mut self.fleet else { return };
        if may_lead == fleet.may_lead {
            return;
        }
        fleet.may_lead = may_lead;
        fleet.ask(Ask::MayLead(may_lead));
        if may_lead {
            tracing::info!("this member may lead the fleet again");
        } else {
            let leader = fleet.leader.as_deref().unwrap_or("nobody");
            tracing::warn!(
                leader,
                "this member may not lead the fleet: its version or its plans differ from those of the other members; it carries traffic at the agreed weight"
            );
            if fleet.role == Role::Leads {
                self.step_down(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::rollout::name::RolloutName;
    use crate::rollout::time::WallTime;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn at(ms: u64) -> Now {
        Now {
            mono: Timestamp::from_millis(ms),
            wall: WallTime::from_unix_millis(0),
        }
    }

    fn alone() -> (Fleet, UnboundedReceiver<Ask>) {
        let text = "[fleet]\nservers = [\"nats://127.0.0.1:1\"]\nname = \"me\"\n";
        let parsed = config::parse("proxy.toml", text, &|_| None).expect("a configuration");
        let (asks, asked) = unbounded_channel();
        let now = Now {
            mono: Timestamp::default(),
            wall: WallTime::from_unix_millis(0),
        };
        (
            Fleet::new(asks, None, parsed.fleet.expect("a fleet"), now),
            asked,
        )
    }

    fn heard(fleet: &mut Fleet, many: usize) {
        let rollout = RolloutName::parse("analyzer").expect("a name");
        fleet.part(&rollout).record = Some(FleetRecord {
            heard: (0..many).map(|at| format!("m{at}")).collect(),
            ..FleetRecord::by("m0", 1)
        });
    }

    #[test]
    fn a_follower_of_a_large_fleet_looks_at_nobody_until_it_is_small_again() {
        let (mut fleet, mut asked) = alone();
        for at in 0..MOST_WATCHED {
            fleet
                .members
                .insert(format!("m{at}"), MemberRecord::default());
        }
        for _ in 0..3 {
            fleet.look_at_members(at(0));
        }
        assert_eq!(asked.try_recv(), Ok(Ask::Watch(false)));
        assert!(asked.try_recv().is_err(), "asked once");
        assert_eq!(fleet.members.len(), 1, "it knows itself");
        // The records do not know of the others yet.
        heard(&mut fleet, 5);
        fleet.look_at_members(at(9_999));
        assert!(asked.try_recv().is_err(), "not looked for a moment later");
        // A little smaller, it may grow again in a moment; small, it asks.
        for (many, wanted) in [(MOST_WATCHED - 1, None), (5, Some(Ask::Watch(true)))] {
            heard(&mut fleet, many);
            fleet.look_at_members(at(10_000));
            assert_eq!(asked.try_recv().ok(), wanted, "{many} are heard");
        }
        // Whoever leads looks at all of them, however many.
        fleet.has_lead = true;
        heard(&mut fleet, 10_000);
        fleet.look_at_members(at(30_000));
        assert!(asked.try_recv().is_err());
    }
}
