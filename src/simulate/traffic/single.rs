//! Request by request, each of a learner with a place, habits and a segment of his own.

use std::sync::Arc;

use super::super::chance::Dice;
use super::*;

impl Traffic<'_> {
    pub(super) fn requests(
        &self,
        split: &Split,
        dice: &mut Dice,
        second: &mut Second,
        sights: &mut Vec<Sight>,
    ) {
        let no_limits: BTreeMap<u64, u64> =
            self.limits_us.iter().map(|&limit| (limit, 0)).collect();
        let mut assigned = Vec::new();
        for _ in 0..dice.poisson(self.moment.rate_per_minute / 60.0) {
            let learner = self.population.someone(dice);
            let segment = self.population.segment(learner);
            let name = segment.map(|place| &self.scenario.segments[place].name);
            let (_, border) = self.population.arm(Arm::Canary, cap(split, name));
            let arm = if learner < border && !self.population.is_misassigned(learner) {
                Arm::Canary
            } else {
                Arm::Baseline
            };
            let fared = self.fare(arm, learner, segment, dice);
            second.harmed += u64::from(fared.own);
            let hash = self.population.hash(learner);
            assigned.push(Assigned {
                learner: hash,
                arm,
                segment: name.cloned(),
                epoch: split.epoch,
            });
            let key = CellKey {
                segment: name.cloned(),
                ..key(split, arm)
            };
            let cell = second.slot.cells.entry(key).or_insert_with(|| Cell {
                over_limit: no_limits.clone(),
                ..Cell::default()
            });
            count(cell, hash, fared);
            wait(cell, fared);
            sights.push(sight(hash, arm, split.epoch, fared).with_segment(name.cloned()));
        }
        second.block.assign(assigned);
    }

    fn fare(&self, arm: Arm, learner: u64, segment: Option<usize>, dice: &mut Dice) -> Fared {
        let conduct = &self.moment.arms[arm.index()];
        let (common, extra) = match segment.and_then(|place| self.own_errors(arm, place)) {
            Some(errors) => apart(self.moment.arms[Arm::Baseline.index()].errors, errors),
            None => self.chances(arm),
        };
        let shared = self.population.always_fails(learner) || dice.uniform() < common;
        let own = !shared && dice.uniform() < extra;
        let slow = match self.scenario.always_slow {
            Some(slow) if self.population.is_always_slow(learner) => slow.factor,
            Some(_) | None => 1.0,
        };
        let latency_us = (conduct.latency.draw(dice) as f64 * slow) as u64;
        Fared {
            error: shared || own,
            own,
            client_error: !(shared || own) && dice.uniform() < conduct.client_errors,
            latency_us: (!conduct.down).then_some(latency_us),
        }
    }

    // What canary does to one segment alone.
    fn own_errors(&self, arm: Arm, place: usize) -> Option<f64> {
        let segment = &self.scenario.segments[place];
        let is_there = arm == Arm::Canary && self.moment.segments_are_ill;
        segment.canary_errors.filter(|_| is_there)
    }
}

fn cap(split: &Split, segment: Option<&Arc<str>>) -> Weight {
    let ceiling = segment.and_then(|name| split.ceilings.get(name));
    ceiling.map_or(split.weight, |&ceiling| ceiling.min(split.weight))
}

fn wait(cell: &mut Cell, fared: Fared) {
    let Some(latency_us) = fared.latency_us else {
        return;
    };
    cell.latency.record(latency_us, 1);
    for (&limit, over) in &mut cell.over_limit {
        *over += u64::from(latency_us > limit);
    }
    for (edge, over) in cell.over_edge.iter_mut().enumerate() {
        *over += u64::from(latency_us > 1000 << edge);
    }
}
