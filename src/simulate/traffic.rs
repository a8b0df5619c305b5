//! Draws what one second of traffic counts on both arms: as counts of the whole second, or request by request.
//!
//! Both ways follow the same world, and both say how many requests failed that baseline would have answered. Drawn as
//! counts, only those are named who fail, are refused, or are slower than what evidence watches: everybody else is a
//! number, and is taken for somebody who had not failed before. Decides nothing.

mod blocks;
mod single;

use std::collections::BTreeMap;
use std::time::Duration;

use super::chance::Dice;
use super::population::Population;
use super::scenario::{Conduct, Draw, Scenario};
use super::world::{self, Moment};
use crate::rollout::assign::{LearnerHash, Split};
use crate::rollout::evidence::{Assigned, Block, Crowd, First, Sight};
use crate::rollout::name::Arm;
use crate::rollout::plan::Plan;
use crate::rollout::slot::{Cell, CellKey, LATENCY_EDGES, MAX_FAILING_LEARNERS, Slot};
use crate::rollout::time::Timestamp;
use crate::rollout::weight::Weight;

use blocks::Streams;

/// One second is one slot, and one block of the evidence.
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Evidence watches what at most a fifth of baseline's first thousand learners exceed. With this share, five standard
/// errors above, everybody who exceeds a watched edge is named.
const NAMED_SHARE: f64 = 0.28;
/// Room for those who are named in a second.
const SIGHTS: usize = 32;

/// The source of a run's traffic.
#[derive(Debug)]
pub(super) struct Traffic<'a> {
    scenario: &'a Scenario,
    limits_us: Vec<u64>,
    /// Who exceeds this one of the edges 2^0, 2^1, ... ms is named.
    named_edge: usize,
    population: Population,
    moment: Moment,
    /// By `Arm::index`; computed when the moment or the weight changes.
    streams: [Streams; 2],
    /// The weight that they are of.
    weight: Option<Weight>,
    /// Where requests above each limit are counted in.
    over_limit: Vec<u64>,
}

/// What one second brought.
#[derive(Debug)]
pub(super) struct Second {
    pub(super) slot: Slot,
    pub(super) block: Block,
    /// Failed on canary and would not have on baseline.
    pub(super) harmed: u64,
}

/// How a request fared.
#[derive(Clone, Copy, Debug, Default)]
struct Fared {
    error: bool,
    /// It failed because of canary.
    own: bool,
    client_error: bool,
    /// `None` where nobody was there to answer.
    latency_us: Option<u64>,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(plan: &Plan, scenario: &'a Scenario, dice: &mut Dice) -> Self {
        let slow = scenario.always_slow.map_or(0.0, |slow| slow.share);
        let shares = scenario.segments.iter().map(|segment| segment.share);
        let population = Population::new(scenario.learners, scenario.always_failing, slow, dice)
            .in_segments(shares)
            .with_misassigned(scenario.misassigned);
        let mut traffic = Self {
            scenario,
            limits_us: plan.latency_limits_us(),
            named_edge: named_edge(scenario),
            population,
            moment: world::at(scenario, Duration::ZERO, Duration::ZERO),
            streams: Default::default(),
            weight: None,
            over_limit: Vec::new(),
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
            block: Block::new(start),
            harmed: 0,
        };
        let mut sights = Vec::with_capacity(SIGHTS);
        match self.scenario.draw {
            Draw::Blocks => self.blocks(split, dice, &mut second, &mut sights),
            Draw::Learners => self.requests(split, dice, &mut second, &mut sights),
        }
        for arm in Arm::ALL {
            self.add_bots(arm, split, &mut second, &mut sights, dice);
        }
        let Second { slot, block, .. } = &mut second;
        block.add(slot, sights);
        second
    }

    fn look(&mut self, since_start: Duration, since_step: Duration) {
        self.moment = world::at(self.scenario, since_start, since_step);
        self.weight = None;
    }

    // What fails on an arm, and of that what would have failed on baseline as well.
    fn chances(&self, arm: Arm) -> (f64, f64) {
        let errors = self
            .moment
            .arms
            .map(|conduct| if conduct.down { 1.0 } else { conduct.errors });
        apart(errors[Arm::Baseline.index()], errors[arm.index()])
    }

    // The n-th bot is the n-th learner who would be moved to canary.
    fn add_bots(
        &self,
        arm: Arm,
        split: &Split,
        second: &mut Second,
        sights: &mut Vec<Sight>,
        dice: &mut Dice,
    ) {
        let (from, to) = self.population.arm(arm, split.weight);
        for (number, bot) in (0..).zip(&self.scenario.bots) {
            if !(from..to).contains(&number) {
                continue;
            }
            let fared = Fared {
                error: true,
                ..Fared::default()
            };
            for _ in 0..dice.poisson(bot.per_minute / 60.0) {
                let key = key(split, arm);
                let cell = second.slot.cells.entry(key).or_default();
                let hash = self.population.hash(number);
                count(cell, hash, fared);
                sights.push(sight(hash, arm, split.epoch, fared));
            }
        }
    }
}

/// Of two chances to fail: what is common to both arms, and what an arm adds to it.
fn apart(baseline: f64, arm: f64) -> (f64, f64) {
    let common = arm.min(baseline);
    let extra = if common < 1.0 {
        (arm - common) / (1.0 - common)
    } else {
        0.0
    };
    (common, extra)
}

// The lowest edge that few enough of baseline ever exceed.
fn named_edge(scenario: &Scenario) -> usize {
    let mut laws = vec![scenario.arms[Arm::Baseline.index()].latency];
    laws.extend(scenario.changes.iter().filter_map(|change| change.latency));
    let seldom = |edge: usize| {
        let ms = 2_f64.powi(i32::try_from(edge).unwrap_or(i32::MAX));
        laws.iter().any(|law| 1.0 - law.at_most(ms) <= NAMED_SHARE)
    };
    (0..LATENCY_EDGES)
        .find(|&edge| seldom(edge))
        .unwrap_or(LATENCY_EDGES - 5)
}

fn key(split: &Split, arm: Arm) -> CellKey {
    CellKey {
        epoch: split.epoch,
        arm,
        segment: None,
    }
}

/// Counts a request, but not its latency.
fn count(cell: &mut Cell, learner: LearnerHash, fared: Fared) {
    cell.counted += 1;
    cell.client_errors += u64::from(fared.client_error);
    if !fared.error {
        return;
    }
    cell.errors += 1;
    cell.failed += 1;
    if cell.failing.len() < MAX_FAILING_LEARNERS || cell.failing.contains_key(&learner) {
        *cell.failing.entry(learner).or_default() += 1;
    } else {
        cell.failing_others += 1;
    }
}

fn sight(learner: LearnerHash, arm: Arm, epoch: u64, fared: Fared) -> Sight {
    let exceeded = |us: u64| {
        (0..LATENCY_EDGES)
            .take_while(|&edge| us > 1000 << edge)
            .count()
    };
    Sight {
        learner,
        arm,
        segment: None,
        epoch,
        first: First {
            error: fared.error,
            failed: fared.error,
            latency_us: fared.latency_us,
        },
        error: fared.error,
        client_error: fared.client_error,
        edges: fared
            .latency_us
            .and_then(|us| u8::try_from(exceeded(us)).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const SECONDS: u64 = 400;

    fn traffic<'a>(scenario: &'a Scenario, dice: &mut Dice) -> Traffic<'a> {
        let slow = scenario.always_slow.map_or(0.0, |slow| slow.share);
        let mut traffic = Traffic {
            weight: None,
            over_limit: Vec::new(),
            scenario,
            limits_us: vec![30_000, 46_000],
            named_edge: named_edge(scenario),
            population: Population::new(scenario.learners, scenario.always_failing, slow, dice)
                .in_segments(scenario.segments.iter().map(|segment| segment.share)),
            moment: world::at(scenario, Duration::ZERO, Duration::ZERO),
            streams: Default::default(),
        };
        traffic.look(Duration::ZERO, Duration::ZERO);
        traffic
    }

    fn at_20_percent() -> Split {
        Split {
            weight: Weight::parse("20%").expect("a share"),
            closed: false,
            ..Split::baseline_only()
        }
    }

    /// Learners of evidence by `Arm::index`: active, failing, slower than 64 ms.
    #[derive(Default)]
    struct Seen {
        active: [u64; 2],
        failing: [u64; 2],
        slow: [u64; 2],
    }

    impl Seen {
        fn add(&mut self, block: &Block) {
            let crowd = block.crowd(0);
            for arm in Arm::ALL.map(Arm::index) {
                self.active[arm] += crowd.learners[arm];
            }
            for sight in block.sights(0) {
                let arm = sight.arm.index();
                self.active[arm] += 1;
                self.failing[arm] += u64::from(sight.error);
                self.slow[arm] += u64::from(sight.edges.is_some_and(|edges| edges > 6));
            }
        }
    }

    /// Sums over some minutes at 20 %, by `Arm::index`.
    fn sums(text: &str) -> ([Cell; 2], u64, Seen) {
        let scenario = Scenario::parse(text).expect(text);
        let mut dice = Dice::new(11, 0);
        let mut traffic = traffic(&scenario, &mut dice);
        let (mut cells, mut harmed) = ([Cell::default(), Cell::default()], 0);
        let mut seen = Seen::default();
        for second in 0..SECONDS {
            let start = Timestamp::from_millis(second * 1000);
            let drawn = traffic.second(start, &at_20_percent(), &mut dice);
            harmed += drawn.harmed;
            seen.add(&drawn.block);
            for arm in Arm::ALL {
                cells[arm.index()].merge(&drawn.slot.arm(arm));
            }
        }
        (cells, harmed, seen)
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
            let (cells, harmed, seen) = sums(&format!(
                "draw = \"{draw}\"\nrate_per_minute = 15000.0\nlearners = 2000000\nalways_failing = 0.02\n[baseline]\nerror_rate = 0.01\n[canary]\nerror_rate = 0.06\nclient_error_rate = 0.1"
            ));
            let requests = 250.0 * SECONDS as f64;
            near(cells[0].counted, requests * 0.8, draw);
            near(cells[1].counted, requests * 0.2, draw);
            // One in fifty learners always fails, of the others so many.
            let (canary, baseline) = (requests * 0.2, requests * 0.8);
            let (of_canary, of_baseline) = (0.02 + 0.98 * 0.06, 0.02 + 0.98 * 0.01);
            near(cells[1].errors, canary * of_canary, draw);
            near(cells[0].errors, baseline * of_baseline, draw);
            near(harmed, canary * 0.98 * 0.05, draw);
            near(
                cells[1].client_errors,
                canary * (1.0 - of_canary) * 0.1,
                draw,
            );
            assert_eq!(cells[0].client_errors, 0);
            // The law of latency: median 15 ms, p99 46 ms.
            near(cells[0].over_limit[&46_000], baseline * 0.01, draw);
            let latency = &cells[0].latency;
            assert_eq!(latency.len(), cells[0].counted);
            near(latency.above(46_000), baseline * 0.01, draw);
            // Evidence sees the same: of so many learners hardly one asks twice in a second.
            near(seen.active[0], baseline, draw);
            near(seen.failing[1], canary * of_canary, draw);
            near(seen.slow[0], cells[0].over_edge[6] as f64, draw);
        }
    }

    #[test]
    fn a_bot_is_one_learner_on_canary() {
        let (cells, harmed, seen) = sums(
            "rate_per_minute = 600.0\nbaseline = { error_rate = 0.0 }\n[[bot]]\nper_minute = 120.0",
        );
        near(cells[1].errors, 2.0 * SECONDS as f64, "bot");
        assert_eq!(cells[1].failing.len(), 1);
        assert_eq!((cells[0].errors, harmed), (0, 0));
        assert!(seen.failing[1] <= SECONDS, "once a second");
    }

    #[test]
    fn a_dead_canary_fails_everything() {
        let (cells, harmed, seen) = sums(
            "baseline = { error_rate = 0.0 }\n[[change]]\nat = \"0s\"\narm = \"canary\"\ndown = true",
        );
        assert_eq!(cells[1].errors, cells[1].counted);
        assert_eq!(harmed, cells[1].counted);
        assert_eq!(seen.failing[1], seen.active[1]);
        assert_eq!(cells[0].errors, 0);
    }

    #[test]
    fn always_slow_learners_are_slow_on_both_arms_and_the_same_ones() {
        for draw in ["blocks", "learners"] {
            let (cells, _, _) = sums(&format!(
                "draw = \"{draw}\"\nrate_per_minute = 15000.0\nlearners = 2000000\nalways_slow = {{ share = 0.1, factor = 100.0 }}"
            ));
            for (cell, share) in cells.iter().zip([0.8, 0.2]) {
                let requests = 250.0 * SECONDS as f64 * share;
                near(cell.over_edge[8], requests * 0.1 * 0.9999, draw);
            }
        }
    }

    #[test]
    fn a_segment_has_its_share_and_its_own_errors() {
        let (cells, _, _) = sums(
            "draw = \"learners\"\nrate_per_minute = 15000.0\nbaseline = { error_rate = 0.0 }\n[[segment]]\nname = \"eu\"\nshare = 0.25\ncanary_error_rate = 0.2\n[[segment]]\nname = \"us\"\nshare = 0.75",
        );
        near(cells[1].errors, cells[1].counted as f64 * 0.25 * 0.2, "eu");
        assert_eq!(cells[0].errors, 0);
        let scenario = Scenario::parse(
            "draw = \"learners\"\n[[segment]]\nname = \"eu\"\nshare = 0.25\n[[segment]]\nname = \"us\"\nshare = 0.75",
        )
        .expect("valid");
        let mut dice = Dice::new(3, 0);
        let mut traffic = traffic(&scenario, &mut dice);
        let eu: Arc<str> = Arc::from("eu");
        let split = Split {
            ceilings: [(Arc::clone(&eu), Weight::ZERO)].into_iter().collect(),
            ..at_20_percent()
        };
        let drawn = traffic.second(Timestamp::default(), &split, &mut dice);
        for (key, cell) in &drawn.slot.cells {
            let lowered = key.segment.as_ref() == Some(&eu) && key.arm == Arm::Canary;
            assert!(!lowered, "{cell:?}");
        }
        assert!(drawn.slot.arm(Arm::Canary).counted > 0);
    }
}
