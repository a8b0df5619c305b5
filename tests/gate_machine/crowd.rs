//! Learners one by one, drawn from a seed: who asks, on which arm he stands, and how he fares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serin::rollout::assign::{LearnerHash, Salt, Split};
use serin::rollout::evidence::{Assigned, Block, First, Sight};
use serin::rollout::name::Arm;
use serin::rollout::slot::{Cell, CellKey, LATENCY_EDGES, Slot};
use serin::rollout::time::Timestamp;
use serin::rollout::weight::Weight;

use crate::random::Dice;

/// How one arm treats its learners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    pub(crate) failing: f64,
    pub(crate) refusing: f64,
    pub(crate) median_ms: f64,
    /// Share of requests that take ten times as long.
    pub(crate) slow: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    pub(crate) dice: Dice,
    pub(crate) learners: u64,
    pub(crate) habits: [Habit; 2],
    /// One in so many learners fails always, on either arm; 0 for nobody.
    pub(crate) always_failing: u64,
    /// A learner who asks so many times a tick, fails always, and stands on canary while anybody does.
    pub(crate) bot: u64,
    /// False where nothing identifies anybody.
    pub(crate) identified: bool,
    /// Every learner is of one of them, by his id; nobody says any where there are none.
    pub(crate) segments: Vec<&'static str>,
    /// How canary treats those of one segment.
    pub(crate) sick: Vec<(&'static str, Habit)>,
    /// The share of learners that really stands on canary, instead of the weight.
    pub(crate) broken: Option<f64>,
    /// Canary requests so far.
    pub(crate) on_canary: u64,
    salt: Salt,
    carry: f64,
    open: Option<Block>,
}

pub(crate) const HEALTHY: Habit = Habit {
    failing: 0.001,
    refusing: 0.01,
    median_ms: 5.0,
    slow: 0.01,
};

impl Crowd {
    pub(crate) fn new(seed: u64, learners: u64) -> Self {
        Self {
            dice: Dice(seed),
            learners,
            habits: [HEALTHY; 2],
            always_failing: 0,
            bot: 0,
            identified: true,
            segments: Vec::new(),
            sick: Vec::new(),
            broken: None,
            on_canary: 0,
            salt: Salt::new("crowd"),
            carry: 0.0,
            open: None,
        }
    }

    pub(crate) fn canary(&mut self) -> &mut Habit {
        &mut self.habits[1]
    }

    /// What they did in one tick, and the seconds that it closes.
    pub(crate) fn observe(
        &mut self,
        split: &Split,
        start: Timestamp,
        span: Duration,
        rate: f64,
        limits_us: &[u64],
    ) -> (Slot, Vec<Block>) {
        let mut slot = Slot::empty(start, span);
        let mut sights: BTreeMap<LearnerHash, Sight> = BTreeMap::new();
        let mut assigned = Vec::new();
        self.carry += rate * span.as_secs_f64();
        let requests = self.carry.floor() as u64;
        self.carry -= self.carry.floor();
        for request in 0..requests + self.bot {
            let (id, fails) = match request < requests {
                true => {
                    let id = self.dice.below(self.learners);
                    (
                        id,
                        self.always_failing > 0 && id.is_multiple_of(self.always_failing),
                    )
                }
                false => (self.bot_id(split), true),
            };
            let hash = self.salt.hash(&id.to_le_bytes());
            let segment = self.segment_of(id);
            let on_canary = hash.bucket() < self.canary_ppm(split, segment);
            let arm = if on_canary {
                Arm::Canary
            } else {
                Arm::Baseline
            };
            self.on_canary += u64::from(on_canary);
            let segment: Option<Arc<str>> = segment.map(Arc::from);
            let sent = Assigned {
                learner: hash,
                arm,
                segment: segment.clone(),
                epoch: split.epoch,
            };
            let seen = self.one(&sent, fails);
            assigned.push(sent);
            let key = CellKey {
                epoch: split.epoch,
                arm,
                segment,
            };
            count(slot.cells.entry(key).or_default(), &seen, limits_us);
            match sights.get_mut(&hash) {
                Some(sight) => sight.merge(seen),
                None => {
                    sights.insert(hash, seen);
                }
            }
        }
        let second = Timestamp::from_millis(start.as_millis() / 1000 * 1000);
        let closed = self.open.take_if(|open| open.start < second);
        let known = sights.into_values().filter(|_| self.identified);
        let open = self.open.get_or_insert_with(|| Block::new(second));
        open.add(&slot, known);
        if self.identified {
            open.assign(assigned);
        }
        (slot, closed.into_iter().collect())
    }

    fn segment_of(&self, id: u64) -> Option<&'static str> {
        let many = self.segments.len().max(1) as u64;
        self.segments.get((id % many) as usize).copied()
    }

    fn canary_ppm(&self, split: &Split, segment: Option<&str>) -> u32 {
        let ceiling = segment.and_then(|name| split.ceilings.get(name)).copied();
        let weight = split.weight.min(ceiling.unwrap_or(Weight::FULL)).ppm();
        self.broken
            .filter(|_| weight > 0)
            .map_or(weight, |share| (share * 1e6) as u32)
    }

    fn one(&mut self, sent: &Assigned, fails: bool) -> Sight {
        let Assigned { learner, arm, .. } = *sent;
        let ill = self
            .sick
            .iter()
            .find(|(sick, _)| arm == Arm::Canary && sent.segment.as_deref() == Some(*sick));
        let habit = ill.map_or_else(|| self.habits[arm.index()], |(_, habit)| *habit);
        let error = fails || self.chance(habit.failing);
        let client_error = !error && self.chance(habit.refusing);
        let slowness = if self.chance(habit.slow) { 10.0 } else { 1.0 };
        let us = habit.median_ms * 1000.0 * slowness * (0.5 + self.share());
        let above = |edge: &usize| us > 1000.0 * f64::from(1_u32 << edge);
        Sight {
            learner,
            arm,
            segment: sent.segment.clone(),
            epoch: sent.epoch,
            first: First {
                error,
                failed: error,
                latency_us: Some(us as u64),
            },
            error,
            client_error,
            edges: u8::try_from((0..LATENCY_EDGES).filter(above).count()).ok(),
        }
    }

    // The first learner who stands on canary as long as anybody does.
    fn bot_id(&self, split: &Split) -> u64 {
        let lowest = split.weight.ppm().clamp(1, 1_000);
        (0..)
            .find(|id: &u64| self.salt.hash(&id.to_le_bytes()).bucket() < lowest)
            .unwrap_or(0)
    }

    fn chance(&mut self, chance: f64) -> bool {
        self.share() < chance
    }

    fn share(&mut self) -> f64 {
        (self.dice.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn count(cell: &mut Cell, seen: &Sight, limits_us: &[u64]) {
    let us = seen.first.latency_us.unwrap_or(0);
    cell.counted += 1;
    cell.client_errors += u64::from(seen.client_error);
    cell.latency.record(us, 1);
    for &limit in limits_us {
        *cell.over_limit.entry(limit).or_default() += u64::from(us > limit);
    }
    if seen.error {
        cell.errors += 1;
        cell.failed += 1;
        *cell.failing.entry(seen.learner).or_default() += 1;
    }
}
