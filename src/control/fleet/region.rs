//! This member's part in a region that aggregates: what its members told is added up, and told to the leader in their place.
//!
//! One member does it at a time, by a lease of the region's own. Each sum is written behind the last one and carries which of the
//! region's messages are in it, so that whoever adds up next goes on exactly there; of two who do it at once one is refused,
//! and begins anew behind what the other one wrote. Decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::Fleet;
use super::gather::{Gather, Place};
use crate::control::driver::Driver;
use crate::fleet::{Ask, News};
use crate::records::fleet::Told;
use crate::rollout::name::RolloutName;
use crate::rollout::time::{Now, Timestamp};

/// What was asked for and is not answered is asked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// What another version wrote cannot be gone on from: somebody else may.
const UNREADABLE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Region {
    asks: UnboundedSender<Ask>,
    name: String,
    /// This process adds up.
    adds_up: bool,
    /// The messages that come now are those that were asked for last.
    reads: bool,
    sums: BTreeMap<RolloutName, Sums>,
}

/// Of one rollout.
#[derive(Debug)]
enum Sums {
    /// The last sum is asked for.
    Unknown { asked: Option<Timestamp> },
    Known {
        gather: Box<Gather>,
        /// Where the last one lies; 0 where there is none.
        behind: u64,
        /// The number of the message that is under way.
        under_way: Option<u64>,
    },
}

impl Region {
    pub(super) const fn new(asks: UnboundedSender<Ask>, name: String) -> Self {
        Self {
            asks,
            name,
            adds_up: false,
            reads: false,
            sums: BTreeMap::new(),
        }
    }

    pub(super) const fn adds_up(&self) -> bool {
        self.adds_up
    }

    pub(super) fn ask(&self, ask: Ask) {
        if self.asks.send(ask).is_err() {
            tracing::debug!("nobody links this member with its region any more");
        }
    }

    /// Nothing is known of any rollout: `tend` asks.
    fn add_up(&mut self, adds_up: bool) {
        self.adds_up = adds_up;
        self.reads = false;
        self.sums.clear();
        if !adds_up {
            self.ask(Ask::Unfollow);
        }
    }

    /// Reads on behind what is in the sums.
    fn read_on(&mut self) {
        let lows = self.sums.values().filter_map(|sums| match sums {
            Sums::Known { gather, .. } => Some(gather.low()),
            Sums::Unknown { .. } => None,
        });
        if let Some(after) = lows.min() {
            self.reads = false;
            self.ask(Ask::Follow { after });
        }
    }

    /// A message of a member.
    fn told(&mut self, now: Now, rollout: &RolloutName, place: Place<'_>, body: &[u8]) {
        let (true, Some(Sums::Known { gather, .. })) = (self.reads, self.sums.get_mut(rollout))
        else {
            return;
        };
        match Told::decode(body) {
            Ok(told) => gather.take(now, place, told),
            Err(why) => {
                let member = place.member;
                tracing::warn!(%rollout, member, %why, "what a member told cannot be read");
            }
        }
    }
}

impl Driver {
    /// Takes what the link with the region says.
    pub(in crate::control) fn hear_region(&mut self, now: Now, news: News) {
        let Some(fleet) = &mut self.fleet else { return };
        if let News::Dropped { rollout, count, .. } = &news {
            fleet.dropped(rollout, *count);
        }
        let Some(region) = &mut fleet.region else {
            return;
        };
        match news {
            News::Leading { term } => {
                tracing::info!(
                    region = region.name,
                    term,
                    "this member adds up for its region"
                );
                region.add_up(true);
            }
            News::Led { .. } if region.adds_up => {
                tracing::info!(
                    region = region.name,
                    "this member adds up for its region no more"
                );
                region.add_up(false);
            }
            News::Follows { .. } => region.reads = true,
            News::Told {
                position,
                rollout,
                member,
                n,
                body,
            } => {
                let member = &member;
                let place = Place {
                    position,
                    member,
                    n,
                };
                region.told(now, &rollout, place, &body);
            }
            News::Away { why } => tracing::warn!(why, "the region is out of reach"),
            News::Connected
            | News::CaughtUp
            | News::MembersSeen
            | News::Led { .. }
            | News::Recorded { .. }
            | News::Fenced { .. }
            | News::TooLarge { .. }
            | News::State { .. }
            | News::Order { .. }
            | News::Ordered { .. }
            | News::Refused { .. }
            | News::Member { .. }
            | News::Kept { .. }
            | News::Summed { .. }
            | News::Unsummed { .. }
            | News::LastSum { .. }
            | News::Dropped { .. } => {}
        }
    }

    /// Once a tick: what is to be told in the place of the region's members.
    pub(super) fn tend_region(&mut self, now: Now) {
        let names = self.names();
        let Some(fleet) = &mut self.fleet else { return };
        let Some(region) = &mut fleet.region else {
            return;
        };
        if !region.adds_up {
            return;
        }
        let mut lost = Vec::new();
        for rollout in &names {
            let sums = region.sums.entry(rollout.clone());
            if let Sums::Unknown { asked } = sums.or_insert(Sums::Unknown { asked: None })
                && asked.is_none_or(|at| now.mono.since(at) >= AGAIN)
            {
                *asked = Some(now.mono);
                lost.push(rollout.clone());
            }
        }
        let name = region.name.clone();
        for rollout in lost {
            let region = name.clone();
            fleet.ask(Ask::LastSum { rollout, region });
        }
        for rollout in names {
            fleet.tell_sum(now, &rollout);
        }
    }

    /// The last sum that lies in the stream, whoever wrote it.
    pub(super) fn last_sum(
        &mut self,
        now: Now,
        rollout: &RolloutName,
        found: Option<(u64, Bytes)>,
    ) {
        let Some(fleet) = &mut self.fleet else { return };
        let Some(region) = &mut fleet.region else {
            return;
        };
        let Some(sums @ Sums::Unknown { .. }) = region.sums.get_mut(rollout) else {
            return;
        };
        let last = match found.as_ref().map(|(_, body)| Told::decode(body)) {
            None => None,
            Some(Ok(Told::Sum(sum))) => Some(sum),
            Some(Ok(Told::Second(_) | Told::Posted(_)) | Err(_)) => {
                tracing::error!(%rollout, region = region.name, "the last sum of the region cannot be read: another member may go on from it");
                region.ask(Ask::Resign {
                    not_before: UNREADABLE,
                });
                return;
            }
        };
        *sums = Sums::Known {
            gather: Box::new(Gather::after_sum(last.as_deref(), now)),
            behind: found.map_or(0, |(position, _)| position),
            under_way: None,
        };
        region.read_on();
    }

    /// A sum lies in the stream: the next one may follow.
    pub(super) fn summed(&mut self, now: Now, rollout: &RolloutName, of: u64, position: u64) {
        let Some(fleet) = &mut self.fleet else { return };
        let region = fleet.region.as_mut();
        if let Some(Sums::Known {
            behind, under_way, ..
        }) = region.and_then(|region| region.sums.get_mut(rollout))
            && *under_way == Some(of)
        {
            *behind = position;
            *under_way = None;
            fleet.tell_sum(now, rollout);
        }
    }

    /// A sum is not known to lie there: what does is asked for, and gone on from.
    pub(super) fn unsummed(&mut self, rollout: &RolloutName, of: u64, why: &str) {
        let Some(fleet) = &mut self.fleet else { return };
        let Some(region) = &mut fleet.region else {
            return;
        };
        let sums = region.sums.get_mut(rollout);
        if let Some(sums @ Sums::Known { .. }) = sums
            && matches!(sums, Sums::Known { under_way, .. } if *under_way == Some(of))
        {
            tracing::warn!(%rollout, region = region.name, why, "what was added up is not known to be told: it is begun anew");
            *sums = Sums::Unknown { asked: None };
        }
    }
}

impl Fleet {
    /// Tells the next sum of a rollout, if it is time and none is under way.
    fn tell_sum(&mut self, now: Now, rollout: &RolloutName) {
        let n = self.told + 1;
        let Some(region) = &mut self.region else {
            return;
        };
        let Some(Sums::Known {
            gather,
            behind,
            under_way: under_way @ None,
        }) = region.sums.get_mut(rollout)
        else {
            return;
        };
        let Some(sum) = gather.sum(now) else { return };
        *under_way = Some(n);
        let ask = Ask::Sum {
            rollout: rollout.clone(),
            region: region.name.clone(),
            n,
            behind: *behind,
            body: Told::Sum(Box::new(sum)).encode().into(),
        };
        self.told = n;
        self.ask(ask);
    }
}
