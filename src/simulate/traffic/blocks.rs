//! Whole seconds at once: requests that come at random and fare at random are streams that each come at random.

use std::ops::Range;

use super::super::chance::{Arrivals, Dice, Mixture};
use super::super::latency::{Class, classes};
use super::super::population::Population;
use super::*;
use crate::rollout::latencies::Latencies;

/// Classes of which fewer are to be expected in a second come in one stream, and are told apart as they come.
const SELDOM: f64 = 0.5;
/// Room for the buckets that a second of one arm mostly falls in.
const BUCKETS: usize = 32;

/// What comes to one arm.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    each: Vec<Stream>,
    /// The numbers of its learners.
    range: (u64, u64),
}

/// Requests of one kind of learners.
#[derive(Clone, Debug)]
struct Stream {
    who: Who,
    /// The places of its learners among those who are like them; empty for anybody.
    among: Range<usize>,
    /// Latencies of requests that fare well; of those that do not, what their chances are.
    classes: Vec<Class>,
    /// By the place of their class: those that are drawn by themselves.
    often: Vec<(usize, Arrivals)>,
    /// The others together, and the places of their classes.
    seldom: Arrivals,
    mixture: Mixture,
    /// Those that fail on either arm, because of canary alone, and are refused.
    common: Arrivals,
    own: Arrivals,
    refused: Arrivals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anybody,
    AlwaysFailing,
    AlwaysSlow,
}

impl Traffic<'_> {
    pub(super) fn blocks(
        &mut self,
        split: &Split,
        dice: &mut Dice,
        second: &mut Second,
        sights: &mut Vec<Sight>,
    ) {
        if self.weight != Some(split.weight) {
            self.weight = Some(split.weight);
            self.streams = Arm::ALL.map(|arm| self.streams_of(arm, split.weight));
        }
        let mut crowd = Crowd::default();
        let mut over_limit = std::mem::take(&mut self.over_limit);
        over_limit.resize(self.limits_us.len(), 0);
        for arm in Arm::ALL {
            let streams = &self.streams[arm.index()];
            let mut cell = Cell {
                latency: Latencies::with_room(BUCKETS),
                ..Cell::default()
            };
            over_limit.fill(0);
            let mut drawn = Drawn {
                arm,
                epoch: split.epoch,
                range: streams.range,
                down: self.moment.arms[arm.index()].down,
                cell: &mut cell,
                over_limit: &mut over_limit,
                crowd: &mut crowd,
                sights,
            };
            for stream in &streams.each {
                drawn.take(stream, self, dice);
                second.harmed += drawn.fail(stream, self, dice);
            }
            if cell.counted > 0 {
                for (&limit, &over) in self.limits_us.iter().zip(&over_limit) {
                    cell.over_limit.insert(limit, over);
                }
                second.slot.cells.insert(key(split, arm), cell);
            }
        }
        self.over_limit = over_limit;
        second.block.add_crowd(split.epoch, crowd);
    }

    fn streams_of(&self, arm: Arm, weight: Weight) -> Streams {
        let share = match arm {
            Arm::Baseline => weight.baseline_share(),
            Arm::Canary => weight.share(),
        };
        let a_second = self.moment.rate_per_minute / 60.0 * share;
        let range = self.population.arm(arm, weight);
        let learners = (range.1 - range.0).max(1) as f64;
        let among = |who| places(&self.population, who, range).len() as f64 / learners;
        let (failing, slow) = (among(Who::AlwaysFailing), among(Who::AlwaysSlow));
        let kinds = [
            (Who::Anybody, 1.0 - failing - slow),
            (Who::AlwaysFailing, failing),
            (Who::AlwaysSlow, slow),
        ];
        let present = kinds.into_iter().filter(|(_, share)| *share > 0.0);
        let stream = |(who, share)| Stream {
            among: places(&self.population, who, range),
            ..self.stream(arm, who, a_second * share)
        };
        Streams {
            each: present.map(stream).collect(),
            range,
        }
    }

    fn stream(&self, arm: Arm, who: Who, a_second: f64) -> Stream {
        let conduct = &self.moment.arms[arm.index()];
        let law = match (who, self.scenario.always_slow) {
            (Who::AlwaysSlow, Some(slow)) => conduct.latency.times(slow.factor),
            _ => conduct.latency,
        };
        let (common, extra) = match who {
            Who::AlwaysFailing => (1.0, 0.0),
            Who::Anybody | Who::AlwaysSlow => self.chances(arm),
        };
        let answered = (1.0 - common) * (1.0 - extra);
        let well = a_second * answered * (1.0 - conduct.client_errors);
        let classes = classes(|ms| law.at_most(ms), &self.limits_us);
        let means = classes.iter().map(|class| well * class.chance).enumerate();
        let (often, seldom): (Vec<_>, Vec<_>) = means.partition(|(_, mean)| *mean >= SELDOM);
        let arrivals = |(place, mean)| (place, Arrivals::new(mean));
        Stream {
            who,
            among: 0..0,
            classes,
            often: often.into_iter().map(arrivals).collect(),
            seldom: Arrivals::new(seldom.iter().map(|(_, mean)| mean).sum()),
            mixture: Mixture::new(seldom),
            common: Arrivals::new(a_second * common),
            own: Arrivals::new(a_second * (1.0 - common) * extra),
            refused: Arrivals::new(a_second * answered * conduct.client_errors),
        }
    }
}

// What one second of one arm is gathered in.
struct Drawn<'a> {
    arm: Arm,
    epoch: u64,
    range: (u64, u64),
    down: bool,
    cell: &'a mut Cell,
    over_limit: &'a mut [u64],
    crowd: &'a mut Crowd,
    sights: &'a mut Vec<Sight>,
}

impl Drawn<'_> {
    // Those who fare well.
    fn take(&mut self, stream: &Stream, of: &Traffic<'_>, dice: &mut Dice) {
        for &(place, arrivals) in &stream.often {
            let requests = arrivals.draw(dice);
            if requests > 0 {
                self.take_class(stream, &stream.classes[place], requests, of, dice);
            }
        }
        for _ in 0..stream.seldom.draw(dice) {
            let place = stream.mixture.draw(dice);
            self.take_class(stream, &stream.classes[place], 1, of, dice);
        }
    }

    fn take_class(
        &mut self,
        stream: &Stream,
        class: &Class,
        requests: u64,
        of: &Traffic<'_>,
        dice: &mut Dice,
    ) {
        self.wait(class, requests);
        if class.edges_below > of.named_edge || class.limits_below > 0 {
            let fared = Fared {
                latency_us: Some(class.latency_us),
                ..Fared::default()
            };
            for _ in 0..requests {
                self.name(stream, fared, of, dice);
            }
            return;
        }
        self.cell.counted += requests;
        self.crowd.learners[self.arm.index()] += requests;
        if self.arm == Arm::Baseline {
            let below = self.crowd.over.iter_mut().take(class.edges_below);
            below.for_each(|over| *over += requests);
        }
    }

    // Those who do not. Answers how many failed because of canary.
    fn fail(&mut self, stream: &Stream, of: &Traffic<'_>, dice: &mut Dice) -> u64 {
        let ill = [
            (stream.common.draw(dice), true),
            (stream.own.draw(dice), true),
            (stream.refused.draw(dice), false),
        ];
        for (requests, error) in ill {
            for _ in 0..requests {
                // Nobody waits for an endpoint that is not there.
                let class = if self.down { None } else { stream.class(dice) };
                if let Some(class) = class {
                    self.wait(class, 1);
                }
                let fared = Fared {
                    error,
                    client_error: !error,
                    latency_us: class.map(|class| class.latency_us),
                    ..Fared::default()
                };
                self.name(stream, fared, of, dice);
            }
        }
        ill[1].0
    }

    fn wait(&mut self, class: &Class, requests: u64) {
        let more = |over: &mut u64| *over += requests;
        self.cell.latency.add(class.bucket, requests);
        self.over_limit[..class.limits_below]
            .iter_mut()
            .for_each(more);
        self.cell.over_edge[..class.edges_below]
            .iter_mut()
            .for_each(more);
    }

    fn name(&mut self, stream: &Stream, fared: Fared, of: &Traffic<'_>, dice: &mut Dice) {
        let (from, to) = self.range;
        let alike = alike(&of.population, stream.who);
        let learner = match alike.get(stream.among.clone()) {
            Some(learners) if !learners.is_empty() => {
                learners[dice.below(learners.len() as u64) as usize]
            }
            _ => from + dice.below(to - from),
        };
        let hash = of.population.hash(learner);
        count(self.cell, hash, fared);
        self.sights.push(sight(hash, self.arm, self.epoch, fared));
    }
}

impl Stream {
    fn class(&self, dice: &mut Dice) -> Option<&Class> {
        let mut left = dice.uniform();
        let found = self.classes.iter().find(|class| {
            left -= class.chance;
            left < 0.0
        });
        found.or_else(|| self.classes.last())
    }
}

// Everybody who is like them; nobody for anybody.
fn alike(population: &Population, who: Who) -> &[u64] {
    match who {
        Who::Anybody => &[],
        Who::AlwaysFailing => population.failing(),
        Who::AlwaysSlow => population.slow(),
    }
}

// The places among them of those in a range of numbers.
fn places(population: &Population, who: Who, (from, to): (u64, u64)) -> Range<usize> {
    let alike = alike(population, who);
    let place = |border| alike.partition_point(|&number| number < border);
    place(from)..place(to)
}
