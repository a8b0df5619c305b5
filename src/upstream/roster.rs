//! The endpoints of a pool at one moment, with what the balancers work out beforehand.
//!
//! Immutable; replaced whole when the pool's endpoints change. Never decides which endpoints are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::balance::{self, Dice};
use super::eject::Reason;
use super::endpoint::Endpoint;
use super::moment::AtomicMoment;
use super::ring::Ring;
use super::wheel::Wheel;
use crate::clock;
use crate::config::Balance;

/// A warm endpoint's share of its weight; one that warms up has less.
pub(super) const WARM: u32 = 1000;
/// Where warming up begins: enough to be measured by.
const COLD: u32 = 100;
/// How often it is looked whether enough of the own zone is usable.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Roster {
    pub(super) members: Vec<Member>,
    pub(super) wheel: Wheel,
    balance: Balance,
    ring: Option<Ring>,
    /// Where the proxy's own zone is told apart.
    near: Option<Box<Near>>,
}

/// An endpoint in its pool.
#[derive(Clone, Debug)]
pub struct Member {
    pub endpoint: Arc<Endpoint>,
    pub weight: u32,
    pub zone: Option<Arc<str>>,
    /// How long it takes to warm up.
    pub(super) slow_start: Duration,
}

/// What an operator may know of an endpoint at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// How much of its weight it may carry, up to 1: less while it warms up.
    pub warmth: f64,
    /// Moving average of the time to an answer's head; `None` before the first answer.
    pub latency: Option<Duration>,
    /// Why it is left out, and for how much longer.
    pub ejected: Option<(Reason, Duration)>,
    /// How often it was, since start.
    pub ejections: u64,
}

/// The endpoints of the own zone, and whether they are enough for all of this proxy's requests.
#[derive(Debug)]
struct Near {
    roster: Roster,
    is_enough: AtomicBool,
    looked: AtomicMoment,
}

// === impl Roster ===

impl Roster {
    pub(super) fn build(members: Vec<Member>, balance: Balance, zone: Option<&str>) -> Self {
        let is_near = |member: &&Member| zone.is_some() && member.zone.as_deref() == zone;
        let near: Vec<Member> = members.iter().filter(is_near).cloned().collect();
        // All of them or none is no choice.
        let near = if near.is_empty() || near.len() == members.len() {
            None
        } else {
            Some(Box::new(Near {
                roster: Self::build(near, balance, None),
                is_enough: AtomicBool::new(true),
                looked: AtomicMoment::default(),
            }))
        };
        let addresses = members
            .iter()
            .map(|member| (member.endpoint.address(), member.weight));
        Self {
            wheel: Wheel::build(members.iter().map(|member| member.weight)),
            ring: (balance == Balance::Ring).then(|| Ring::build(addresses)),
            balance,
            near,
            members,
        }
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The next open endpoint by the pool's balance, one of the own zone where there are enough of them.
    pub(super) fn pick(
        &self,
        open: &dyn Fn(&Endpoint) -> bool,
        dice: Dice,
    ) -> Option<&Arc<Endpoint>> {
        let near = self.near.as_ref();
        let near = near.filter(|near| near.suffices(open, dice));
        near.and_then(|near| near.roster.pick_any(open, dice))
            .or_else(|| self.pick_any(open, dice))
            .map(|member| &member.endpoint)
    }

    fn pick_any(&self, open: &dyn Fn(&Endpoint) -> bool, dice: Dice) -> Option<&Member> {
        match (self.balance, &self.ring) {
            (Balance::RoundRobin, _) => balance::in_turn(self, open, dice),
            (Balance::LeastRequests, _) => balance::least(self, open, dice),
            (Balance::P2c, _) => balance::two_choices(self, open, dice),
            (Balance::Ring, Some(ring)) => balance::on_ring(self, ring, open, dice),
            (Balance::Ring, None) => None,
        }
    }
}

// === impl Near ===

impl Near {
    // Whether at least half of the zone, by weight, is open. Looked at now and then, not for each request.
    fn suffices(&self, open: &dyn Fn(&Endpoint) -> bool, dice: Dice) -> bool {
        let is_due = self
            .looked
            .age(dice.now)
            .is_none_or(|age| age >= LOOK_AGAIN);
        // To a retry what it tried is closed, to nobody else.
        if dice.is_first && is_due {
            self.looked.store(dice.now);
            let members = self.roster.members.iter();
            let usable = members.filter(|member| open(&member.endpoint));
            let usable: u64 = usable.map(|member| u64::from(member.weight)).sum();
            let is_enough = usable * 2 >= self.roster.wheel.total();
            self.is_enough.store(is_enough, Ordering::Relaxed);
        }
        self.is_enough.load(Ordering::Relaxed)
    }
}

// === impl Member ===

impl Member {
    /// How much of its weight an endpoint may carry at `now`, out of `WARM`: it grows evenly from a tenth.
    pub(super) fn warmth(&self, now: Instant) -> u32 {
        match self.endpoint.warming_for(now) {
            Some(age) if age < self.slow_start => {
                let grown = age.as_secs_f64() / self.slow_start.as_secs_f64();
                COLD.max((f64::from(WARM) * grown) as u32)
            }
            Some(_) | None => WARM,
        }
    }

    /// How it stands now.
    pub fn standing(&self) -> Standing {
        let now = clock::now();
        Standing {
            warmth: f64::from(self.warmth(now)) / f64::from(WARM),
            latency: self.endpoint.ewma(now),
            ejected: self.endpoint.conduct().out(now),
            ejections: self.endpoint.conduct().ejections(),
        }
    }

    pub(super) fn share(&self, now: Instant) -> u32 {
        self.weight.saturating_mul(self.warmth(now))
    }
}
