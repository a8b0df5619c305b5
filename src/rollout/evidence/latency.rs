//! Canary's latency against baseline's: process 2 on "slower than an edge", for each edge that tells something.
//!
//! Owns the choice of edges. They are chosen once, by baseline's first learners after the warm-up, and are used from the
//! next block on: what chose them is not judged by them.

use super::Track;
use super::block::{Crowd, Sight};
use super::bursts::Bursts;
use crate::rollout::name::Arm;
use crate::rollout::slot::LATENCY_EDGES;
use crate::rollout::stats::combine::ln_mean;
use crate::rollout::time::Timestamp;

/// Edges are chosen by so many of baseline's learners, each counted once a block.
const CHOSEN_BY: u64 = 1_000;
/// An edge that more than one in so many exceed tells fast from slow, and not well from ill.
const EXCEEDED_BY_ONE_IN: u64 = 5;
/// The highest edges are always watched: a hanging canary exceeds them, however slow baseline is.
const ALWAYS: usize = 5;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// Of baseline, until the edges are chosen.
    pub seen: u64,
    pub over: [u64; LATENCY_EDGES],
    /// Empty until they are chosen; ascending.
    pub edges: Vec<Edge>,
    pub bursts: Bursts,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Of 2^edge ms.
    pub edge: u8,
    pub track: Track,
}

impl Latency {
    pub fn add(&mut self, start: Timestamp, sights: &[&Sight], odds_margin: f64) {
        self.add_beside(&Crowd::default(), start, sights, odds_margin);
    }

    /// The same with those who are not named.
    pub fn add_beside(
        &mut self,
        crowd: &Crowd,
        start: Timestamp,
        sights: &[&Sight],
        odds_margin: f64,
    ) {
        if self.edges.is_empty() {
            self.choose(crowd, sights);
            return;
        }
        let before = self.ln_es();
        let timed = sights
            .iter()
            .filter_map(|sight| Some((sight.arm, sight.edges?)));
        let (mut learners, mut slowest) = (crowd.learners, 0);
        for (arm, exceeded) in timed {
            learners[arm.index()] += 1;
            slowest = slowest.max(exceeded);
        }
        for Edge { edge, track } in &mut self.edges {
            if slowest <= *edge && track.add_well(start, learners, odds_margin) {
                continue;
            }
            let slower = |sight: &Sight| sight.edges.map(|exceeded| exceeded > *edge);
            track.add_beside(crowd, start, sights, odds_margin, slower);
        }
        // The mean is above 0 only where one of them is.
        let edges = &self.edges;
        if edges.iter().all(|edge| edge.track.ln_e() <= 0.0) {
            self.bursts = Bursts::default();
            return;
        }
        let after = ln_mean(&self.ln_es()[..edges.len()]);
        self.bursts.note(ln_mean(&before[..edges.len()]), after);
    }

    /// ln of the mean over the edges; `None` until they are chosen.
    pub fn ln_e(&self) -> Option<f64> {
        (!self.edges.is_empty()).then(|| ln_mean(&self.ln_es()[..self.edges.len()]))
    }

    // Of each edge; there are at most as many.
    fn ln_es(&self) -> [f64; LATENCY_EDGES] {
        let mut ln_es = [0.0; LATENCY_EDGES];
        for (ln_e, edge) in ln_es.iter_mut().zip(&self.edges) {
            *ln_e = edge.track.ln_e();
        }
        ln_es
    }

    /// The edge that says most.
    pub fn strongest(&self) -> Option<&Edge> {
        let mut edges = self.edges.iter();
        let first = edges.next()?;
        Some(edges.fold(first, |most, edge| {
            if edge.track.ln_e() > most.track.ln_e() {
                edge
            } else {
                most
            }
        }))
    }

    fn choose(&mut self, crowd: &Crowd, sights: &[&Sight]) {
        self.seen += crowd.learners[Arm::Baseline.index()];
        for (over, more) in self.over.iter_mut().zip(crowd.over) {
            *over += more;
        }
        let timed = sights.iter().filter(|sight| sight.arm == Arm::Baseline);
        for exceeded in timed.filter_map(|sight| sight.edges) {
            self.seen += 1;
            for over in self.over.iter_mut().take(usize::from(exceeded)) {
                *over += 1;
            }
        }
        if self.seen < CHOSEN_BY {
            return;
        }
        let tells = |edge: &usize| {
            self.over[*edge] * EXCEEDED_BY_ONE_IN <= self.seen || *edge >= LATENCY_EDGES - ALWAYS
        };
        let chosen = (0..LATENCY_EDGES).filter(tells);
        self.edges = chosen
            .filter_map(|edge| u8::try_from(edge).ok())
            .map(|edge| Edge {
                edge,
                track: Track::new(),
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::assign::LearnerHash;
    use crate::rollout::evidence::First;

    #[test]
    fn edges_are_those_that_at_most_a_fifth_of_baseline_exceeds() {
        let chosen = |slow: u64, fast_edges: u8, slow_edges: u8| {
            let all: Vec<Sight> = (0..1000)
                .map(|learner| Sight {
                    learner: LearnerHash::from_raw(learner),
                    arm: Arm::Baseline,
                    segment: None,
                    epoch: 1,
                    first: First::default(),
                    error: false,
                    client_error: false,
                    edges: Some(if learner < slow {
                        slow_edges
                    } else {
                        fast_edges
                    }),
                })
                .collect();
            let sights: Vec<&Sight> = all.iter().collect();
            let mut latency = Latency::default();
            latency.add(Timestamp::default(), &sights[1..], 1.5);
            assert_eq!(latency.ln_e(), None, "999 choose nothing");
            latency.add(Timestamp::default(), &sights[..1], 1.5);
            let edges: Vec<u8> = latency.edges.iter().map(|edge| edge.edge).collect();
            edges
        };
        // Nobody within 2^0 .. 2^2 ms; a fifth, then more, above 2^5 ms.
        assert_eq!(chosen(200, 3, 6), (3..15).collect::<Vec<u8>>());
        assert_eq!(chosen(201, 3, 6), (6..15).collect::<Vec<u8>>());
        assert_eq!(chosen(0, 15, 15), (10..15).collect::<Vec<u8>>());
    }
}
