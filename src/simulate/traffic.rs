//! Draws what one second of traffic counts on both arms: as counts of the whole second, or request by request.
//!
//! Both ways follow the same world, and both say how many requests failed that baseline would have answered.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chance::{Arrivals, Dice};
use super::latency::{Class, classes};
use super::population::Population;
use super::scenario::{Conduct, Draw, Scenario};
use super::world::{self, Moment};
use crate::rollout::assign::{LearnerHash, Split};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::Arm;
use crate::rollout::plan::Plan;
use crate::rollout::slot::{Cell, CellKey, MAX_FAILING_LEARNERS, Slot};
use crate::rollout::time::Timestamp;
use crate::rollout::weight::Weight;

/// One second is one slot, and one block of the evidence.
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// The source of a run's traffic.
#[derive(Debug)]
pub(super) struct Traffic<'a> {
    scenario: &'a Scenario,
    limits_us: Vec<u64>,
    population: Population,
    moment: Moment,
    /// By `Arm::index`; computed when the moment or the weight changes. Requests that come at random and belong to
    /// classes at random are classes that come at random, each by itself.
    classes: [Vec<(Class, Arrivals)>; 2],
    /// The weight that they are of.
    weight: Option<Weight>,
}

/// What one second brought.
#[derive(Debug)]
pub(super) struct Second {
    pub(super) slot: Slot,
    pub(super) learners: [LearnerSketch; 2],
    /// Failed on canary and would not have on baseline.
    pub(super) harmed: u64,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(plan: &Plan, scenario: &'a Scenario, dice: &mut Dice) -> Self {
        let slow = scenario.always_slow.map_or(0.0, |slow| slow.share);
        let population = Population::new(scenario.learners, scenario.always_failing, slow, dice);
        let mut traffic = Self {
            scenario,
            limits_us: plan.latency_limits_us(),
            population,
            moment: world::at(scenario, Duration::ZERO, Duration::ZERO),
            classes: [Vec::new(), Vec::new()],
            weight: None,
        };
        traffic.look(Duration::ZERO, Duration::ZERO);
        traffic
    }

    /// How the arms behave now. A step begins a moment of its own.
    pub(super) fn conduct(&mut self, since_start: Duration, since_step: Duration) -> [Conduct; 2] {
        let stepped = since_step < SECOND && self.scenario.cold_start.is_some();
        if since_start >= self.moment.until || stepped {
            self.look(since_start, since_step);
        }
        self.moment.arms
    }

    /// The second that begins at `start`.
    pub(super) fn second(&mut self, start: Timestamp, split: &Split, dice: &mut Dice) -> Second {
        let mut second = Second {
            slot: Slot::empty(start, SECOND),
            learners: [LearnerSketch::new(), LearnerSketch::new()],
            harmed: 0,
        };
        if self.scenario.draw == Draw::Blocks && self.weight != Some(split.weight) {
            self.weight = Some(split.weight);
            self.classes = Arm::ALL.map(|arm| self.classes_of(arm, split.weight));
        }
        let cells = match self.scenario.draw {
            Draw::Blocks => self.blocks(split, dice, &mut second.harmed),
            Draw::Learners => self.requests(split, dice, &mut second),
        };
        for (arm, mut cell) in Arm::ALL.into_iter().zip(cells) {
            self.add_bots(arm, split, &mut cell, dice);
            if cell.counted > 0 {
                let epoch = split.epoch;
                let key = CellKey {
                    epoch,
                    arm,
                    segment: None,
                };
                second.slot.cells.insert(key, cell);
            }
        }
        second
    }

    fn look(&mut self, since_start: Duration, since_step: Duration) {
        self.moment = world::at(self.scenario, since_start, since_step);
        self.weight = None;
    }

    fn classes_of(&self, arm: Arm, weight: Weight) -> Vec<(Class, Arrivals)> {
        let law = self.moment.arms[arm.index()].latency;
        let classes = match self.scenario.always_slow {
            Some(slow) => {
                let slower = law.times(slow.factor);
                let mixed =
                    |ms| (1.0 - slow.share) * law.at_most(ms) + slow.share * slower.at_most(ms);
                classes(mixed, &self.limits_us)
            }
            None => classes(|ms| law.at_most(ms), &self.limits_us),
        };
        let share = match arm {
            Arm::Baseline => weight.baseline_share(),
            Arm::Canary => weight.share(),
        };
        let a_second = self.moment.rate_per_minute / 60.0 * share;
        let with_arrivals = |class: Class| {
            let arrivals = Arrivals::new(a_second * class.chance);
            (class, arrivals)
        };
        classes.into_iter().map(with_arrivals).collect()
    }

    // What fails on an arm, and of that what would have failed on baseline as well.
    fn chances(&self, arm: Arm) -> (f64, f64) {
        let errors = self
            .moment
            .arms
            .map(|conduct| if conduct.down { 1.0 } else { conduct.errors });
        let common = errors[arm.index()].min(errors[Arm::Baseline.index()]);
        let extra = if common < 1.0 {
            (errors[arm.index()] - common) / (1.0 - common)
        } else {
            0.0
        };
        (common, extra)
    }

    // === as counts ===

    fn blocks(&self, split: &Split, dice: &mut Dice, harmed: &mut u64) -> [Cell; 2] {
        Arm::ALL.map(|arm| {
            let mut cell = self.timed(arm, dice);
            if cell.counted > 0 {
                *harmed += self.fail(arm, split, &mut cell, dice);
            }
            cell
        })
    }

    // How many came, and how long they waited.
    fn timed(&self, arm: Arm, dice: &mut Dice) -> Cell {
        let mut cell = Cell::default();
        let mut over_limit = vec![0; self.limits_us.len()];
        // Nobody waits for an endpoint that is not there.
        let waits = !self.moment.arms[arm.index()].down;
        for (class, arrivals) in &self.classes[arm.index()] {
            let requests = arrivals.draw(dice);
            cell.counted += requests;
            if requests > 0 && waits {
                let over = |over: &mut u64| *over += requests;
                cell.latency.saturating_record_n(class.latency_us, requests);
                over_limit[..class.limits_below].iter_mut().for_each(over);
                cell.over_edge[..class.edges_below]
                    .iter_mut()
                    .for_each(over);
            }
        }
        cell.over_limit = self.limits_us.iter().copied().zip(over_limit).collect();
        cell
    }

    // Answers how many failed because of canary.
    fn fail(&self, arm: Arm, split: &Split, cell: &mut Cell, dice: &mut Dice) -> u64 {
        let range = self.population.arm(arm, split.weight);
        let always = self.population.failing_in(range);
        let among = always.len() as f64 / (range.1 - range.0).max(1) as f64;
        let of_always = dice.binomial(cell.counted, among);
        let (common, extra) = self.chances(arm);
        let shared = dice.binomial(cell.counted - of_always, common);
        let own = dice.binomial(cell.counted - of_always - shared, extra);
        cell.errors = of_always + shared + own;
        cell.failed = cell.errors;
        let refused = self.moment.arms[arm.index()].client_errors;
        cell.client_errors = dice.binomial(cell.counted - cell.errors, refused);
        for _ in 0..of_always {
            let learner = always[dice.below(always.len() as u64) as usize];
            note_failure(cell, self.population.hash(learner));
        }
        for _ in 0..shared + own {
            let learner = range.0 + dice.below(range.1 - range.0);
            note_failure(cell, self.population.hash(learner));
        }
        own
    }

    // === request by request ===

    fn requests(&self, split: &Split, dice: &mut Dice, second: &mut Second) -> [Cell; 2] {
        let no_limits: BTreeMap<u64, u64> =
            self.limits_us.iter().map(|&limit| (limit, 0)).collect();
        let mut cells = Arm::ALL.map(|_| Cell {
            over_limit: no_limits.clone(),
            ..Cell::default()
        });
        let (_, border) = self.population.arm(Arm::Canary, split.weight);
        for _ in 0..dice.poisson(self.moment.rate_per_minute / 60.0) {
            let learner = self.population.someone(dice);
            let arm = if learner < border {
                Arm::Canary
            } else {
                Arm::Baseline
            };
            let hash = self.population.hash(learner);
            second.learners[arm.index()].insert(hash);
            let cell = &mut cells[arm.index()];
            let harmed = self.request(arm, learner, hash, cell, dice);
            second.harmed += u64::from(harmed);
        }
        cells
    }

    // Answers whether it failed because of canary.
    fn request(
        &self,
        arm: Arm,
        learner: u64,
        hash: LearnerHash,
        cell: &mut Cell,
        dice: &mut Dice,
    ) -> bool {
        let conduct = &self.moment.arms[arm.index()];
        let (common, extra) = self.chances(arm);
        let shared = self.population.always_fails(learner) || dice.uniform() < common;
        let own = !shared && dice.uniform() < extra;
        cell.counted += 1;
        if shared || own {
            cell.errors += 1;
            cell.failed += 1;
            note_failure(cell, hash);
        } else if dice.uniform() < conduct.client_errors {
            cell.client_errors += 1;
        }
        if conduct.down {
            return own;
        }
        let slow = match self.scenario.always_slow {
            Some(slow) if self.population.is_always_slow(learner) => slow.factor,
            Some(_) | None => 1.0,
        };
        let latency_us = (conduct.latency.draw(dice) as f64 * slow) as u64;
        cell.latency.saturating_record(latency_us);
        for (&limit, over) in &mut cell.over_limit {
            *over += u64::from(latency_us > limit);
        }
        for (edge, over) in cell.over_edge.iter_mut().enumerate() {
            *over += u64::from(latency_us > 1000 << edge);
        }
        own
    }

    // The n-th bot is the n-th learner who would be moved to canary.
    fn add_bots(&self, arm: Arm, split: &Split, cell: &mut Cell, dice: &mut Dice) {
        let (from, to) = self.population.arm(arm, split.weight);
        for (number, bot) in (0..).zip(&self.scenario.bots) {
            if !(from..to).contains(&number) {
                continue;
            }
            for _ in 0..dice.poisson(bot.per_minute / 60.0) {
                cell.counted += 1;
                cell.errors += 1;
                cell.failed += 1;
                note_failure(cell, self.population.hash(number));
            }
        }
    }
}

fn note_failure(cell: &mut Cell, learner: LearnerHash) {
    if cell.failing.len() < MAX_FAILING_LEARNERS || cell.failing.contains_key(&learner) {
        *cell.failing.entry(learner).or_default() += 1;
    } else {
        cell.failing_others += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: u64 = 400;

    /// Sums over some minutes at 20 %, by `Arm::index`.
    fn sums(text: &str) -> ([Cell; 2], u64) {
        let scenario = Scenario::parse(text).expect(text);
        let mut dice = Dice::new(11, 0);
        let slow = scenario.always_slow.map_or(0.0, |slow| slow.share);
        let mut traffic = Traffic {
            weight: None,
            scenario: &scenario,
            limits_us: vec![30_000, 46_000],
            population: Population::new(
                scenario.learners,
                scenario.always_failing,
                slow,
                &mut dice,
            ),
            moment: world::at(&scenario, Duration::ZERO, Duration::ZERO),
            classes: [Vec::new(), Vec::new()],
        };
        traffic.look(Duration::ZERO, Duration::ZERO);
        let split = Split {
            weight: Weight::parse("20%").expect("a share"),
            closed: false,
            ..Split::baseline_only()
        };
        let (mut cells, mut harmed) = ([Cell::default(), Cell::default()], 0);
        for second in 0..SECONDS {
            let drawn = traffic.second(Timestamp::from_millis(second * 1000), &split, &mut dice);
            harmed += drawn.harmed;
            for arm in Arm::ALL {
                cells[arm.index()].merge(&drawn.slot.arm(arm));
            }
        }
        (cells, harmed)
    }

    fn near(seen: u64, expected: f64, what: &str) {
        assert!(
            (seen as f64 - expected).abs() < 5.0 * expected.sqrt() + 1.0,
            "{what}: {seen}, not about {expected}"
        );
    }

    #[test]
    fn both_ways_of_drawing_follow_the_world() {
        for draw in ["blocks", "learners"] {
            let (cells, harmed) = sums(&format!(
                "draw = \"{draw}\"\nrate_per_minute = 15000.0\nlearners = 20000\nalways_failing = 0.02\n[baseline]\nerror_rate = 0.01\n[canary]\nerror_rate = 0.06\nclient_error_rate = 0.1"
            ));
            let requests = 250.0 * SECONDS as f64;
            near(cells[0].counted, requests * 0.8, draw);
            near(cells[1].counted, requests * 0.2, draw);
            // One in fifty learners always fails, of 4,000 and 16,000.
            let (canary, baseline) = (cells[1].counted as f64, cells[0].counted as f64);
            let always = 0.02;
            let slack = 1.15;
            assert!(
                (cells[1].errors as f64) < canary * (always + 0.06) * slack,
                "{draw}"
            );
            assert!(
                (cells[1].errors as f64) > canary * (always + 0.06) / slack,
                "{draw}"
            );
            assert!(
                (cells[0].errors as f64) < baseline * (always + 0.01) * slack,
                "{draw}"
            );
            near(harmed, canary * (1.0 - always) * 0.05, draw);
            near(cells[1].client_errors, canary * 0.92 * 0.1, draw);
            assert_eq!(cells[0].client_errors, 0);
            // The law of latency: median 15 ms, p99 46 ms.
            near(cells[0].over_limit[&46_000], baseline * 0.01, draw);
            let latency = &cells[0].latency;
            assert_eq!(latency.len(), cells[0].counted);
            let above = latency.len() - latency.count_between(0, 46_000);
            near(above, baseline * 0.01, draw);
        }
    }

    #[test]
    fn a_bot_is_one_learner_on_canary() {
        let (cells, harmed) = sums(
            "rate_per_minute = 600.0\nbaseline = { error_rate = 0.0 }\n[[bot]]\nper_minute = 120.0",
        );
        near(cells[1].errors, 2.0 * SECONDS as f64, "bot");
        assert_eq!(cells[1].failing.len(), 1);
        assert_eq!((cells[0].errors, harmed), (0, 0));
    }

    #[test]
    fn a_dead_canary_fails_everything() {
        let (cells, harmed) = sums(
            "baseline = { error_rate = 0.0 }\n[[change]]\nat = \"0s\"\narm = \"canary\"\ndown = true",
        );
        assert_eq!(cells[1].errors, cells[1].counted);
        assert_eq!(harmed, cells[1].counted);
        assert_eq!(cells[0].errors, 0);
    }
}
