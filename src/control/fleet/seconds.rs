//! What this member counts, put together to whole seconds of the wall clock for the one that leads.
//!
//! Every second is told, an empty one too: silence is something else. Of too many learners a sample is named, chosen by a second
//! hash of their ids for both arms alike, so that what is learnt from it holds for all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::records::fleet::Second;
use crate::rollout::assign::LearnerHash;
use crate::rollout::evidence::{Assigned, Block, Sight, place_of};
use crate::rollout::gate::{ALONE, PoolHealth};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::slot::{CellKey, Slot};
use crate::rollout::time::{Now, Timestamp, millis};
use crate::telemetry::Drained;

/// Learners named in one second: some 60 KB.
const MOST_NAMED: usize = 4096;
/// Learners told as sent to an arm in one second.
const MOST_SENT: usize = 4096;
/// Learners of one split remembered as told: those who come later are told no more, of either arm.
const MOST_REMEMBERED: usize = 262_144;
/// Sketches of learners are for display: they are told every so many seconds.
const SKETCHES_EVERY: u64 = 5;

/// The running second of one rollout.
#[derive(Debug, Default)]
pub(super) struct Seconds {
    open: Option<Open>,
    sent: Sent,
    learners: [LearnerSketch; 2],
}

#[derive(Debug)]
struct Open {
    second: u64,
    slot: Slot,
    block: Block,
    pools: [PoolHealth; 2],
}

/// Who was told as sent to an arm since the split last changed.
#[derive(Debug, Default)]
struct Sent {
    epoch: u64,
    places: BTreeSet<u64>,
}

impl Seconds {
    /// Adds what was drained, with the pools' health, and gives the second that it closes.
    pub(super) fn add(
        &mut self,
        now: Now,
        parts: Vec<Drained>,
        pools: [PoolHealth; 2],
    ) -> Option<Second> {
        let mut closed = None;
        for mut part in parts {
            let second = second_of(now, &part.slot);
            let ended = self.open.take_if(|open| open.second < second);
            closed = ended.map(|open| self.close(open)).or(closed);
            part.slot.merge(&part.handed);
            for (all, more) in self.learners.iter_mut().zip(&part.learners) {
                all.merge(more);
            }
            let open = self.open.get_or_insert_with(|| Open::new(second));
            let mut told = Slot::empty(part.slot.start, part.slot.width);
            for (key, cell) in std::mem::take(&mut part.slot.cells) {
                told.cells.insert(of_fleet(key), cell);
            }
            open.slot.merge(&told);
            open.block.add(&told, part.sights);
            open.block.assign(part.assigned);
        }
        if let Some(open) = &mut self.open {
            for (mine, seen) in open.pools.iter_mut().zip(pools) {
                *mine = PoolHealth {
                    probes_sent: mine.probes_sent + seen.probes_sent,
                    probes_answered: mine.probes_answered + seen.probes_answered,
                    ..seen
                };
            }
        }
        closed
    }

    /// The running second, as far as it has come.
    pub(super) fn finish(&mut self) -> Option<Second> {
        let open = self.open.take()?;
        Some(self.close(open))
    }

    fn close(&mut self, open: Open) -> Second {
        let of_fleet = |epoch: u64| epoch < ALONE;
        let sights: Vec<Sight> = open
            .block
            .sights(0)
            .filter(|sight| of_fleet(sight.epoch))
            .cloned()
            .collect();
        let assigned = open.block.assigned().iter();
        let assigned = assigned.filter(|one| of_fleet(one.epoch));
        let learners = match open.second % SKETCHES_EVERY {
            0 => std::mem::take(&mut self.learners),
            _ => Default::default(),
        };
        Second {
            second: open.second,
            cells: open.slot.cells,
            pools: open.pools,
            sights: thinned(sights, |sight| sight.learner),
            assigned: self.sent.untold(assigned),
            learners,
        }
    }
}

impl Open {
    fn new(second: u64) -> Self {
        Self {
            second,
            slot: Slot::empty(Timestamp::default(), Duration::from_secs(1)),
            block: Block::new(Timestamp::default()),
            pools: [PoolHealth::default(); 2],
        }
    }
}

impl Sent {
    fn untold<'a>(&mut self, assigned: impl Iterator<Item = &'a Assigned>) -> Vec<Assigned> {
        let mut untold = Vec::new();
        for one in assigned {
            if one.epoch > self.epoch {
                self.epoch = one.epoch;
                self.places.clear();
                untold.clear();
            }
            let has_room = untold.len() < MOST_SENT && self.places.len() < MOST_REMEMBERED;
            if one.epoch == self.epoch && has_room && self.places.insert(place_of(one.learner)) {
                untold.push(one.clone());
            }
        }
        untold
    }
}

// What was counted under a split of this member's own is of no split of the fleet: it counts for what was before.
fn of_fleet(key: CellKey) -> CellKey {
    CellKey {
        epoch: if key.epoch < ALONE { key.epoch } else { 0 },
        ..key
    }
}

/// Halved by the places of their learners until few enough are left.
pub(super) fn thinned<T>(mut all: Vec<T>, learner: impl Fn(&T) -> LearnerHash) -> Vec<T> {
    let mut below = u64::MAX;
    while all.len() > MOST_NAMED {
        below /= 2;
        all.retain(|one| place_of(learner(one)) < below);
    }
    all
}

/// The second of the wall clock that the middle of a part lies in.
fn second_of(now: Now, part: &Slot) -> u64 {
    let middle = part.start.after(part.width / 2);
    let ago = millis(now.mono.since(middle));
    let wall = u64::try_from(now.wall.as_unix_millis()).unwrap_or(0);
    wall.saturating_sub(ago) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::assign::Salt;
    use crate::rollout::evidence::First;
    use crate::rollout::name::{Arm, RolloutName};
    use crate::rollout::slot::Cell;
    use crate::rollout::time::WallTime;

    const START_MS: i64 = 1_762_005_600_000;

    fn at(ms: u64) -> Now {
        Now {
            mono: Timestamp::from_millis(ms),
            wall: WallTime::from_unix_millis(START_MS + ms as i64),
        }
    }

    fn sight(hash: LearnerHash, arm: Arm, epoch: u64) -> Sight {
        Sight {
            learner: hash,
            arm,
            segment: None,
            epoch,
            first: First::default(),
            error: false,
            client_error: false,
            edges: Some(3),
        }
    }

    fn drained(from_ms: u64, counted: u64, epoch: u64) -> Drained {
        let key = CellKey {
            epoch,
            arm: Arm::Canary,
            segment: None,
        };
        let cell = Cell {
            counted,
            ..Cell::default()
        };
        let part = Slot::empty(Timestamp::from_millis(from_ms), Duration::from_millis(250));
        Drained {
            rollout: RolloutName::parse("analyzer").expect("a name"),
            slot: Slot {
                cells: [(key, cell)].into(),
                ..part.clone()
            },
            handed: part,
            learners: Default::default(),
            sights: vec![sight(LearnerHash::from_raw(counted), Arm::Canary, epoch)],
            assigned: Vec::new(),
        }
    }

    fn counted(second: &Second) -> u64 {
        second.cells.values().map(|cell| cell.counted).sum()
    }

    #[test]
    fn parts_make_seconds_of_the_wall_clock_and_nothing_is_lost() {
        let mut seconds = Seconds::default();
        let mut told = Vec::new();
        for quarter in 0..12_u64 {
            let parts = vec![drained(quarter * 250, 1 << quarter, 1)];
            let health = [PoolHealth {
                probes_sent: 1,
                ..PoolHealth::default()
            }; 2];
            told.extend(seconds.add(at(quarter * 250 + 250), parts, health));
        }
        let seen: Vec<_> = told
            .iter()
            .map(|second| (second.second, counted(second), second.pools[0].probes_sent))
            .collect();
        let first = START_MS as u64 / 1000;
        assert_eq!(seen, [(first, 0b1111, 4), (first + 1, 0b1111_0000, 4)]);
    }

    #[test]
    fn what_was_counted_under_a_split_of_its_own_is_of_none_of_the_fleet() {
        let mut seconds = Seconds::default();
        seconds.add(at(250), vec![drained(0, 3, ALONE + 7)], Default::default());
        let told = seconds.add(at(1_250), vec![drained(1_000, 1, 2)], Default::default());
        let told = told.expect("the first second");
        assert_eq!(told.cells.keys().next().map(|key| key.epoch), Some(0));
        assert!(told.sights.is_empty(), "no evidence");
    }

    #[test]
    fn too_many_learners_are_thinned_alike_on_both_arms() {
        let salt = Salt::new("thin");
        let everybody = (0..40_000_u32).map(|id| {
            let arm = if id % 4 == 0 {
                Arm::Canary
            } else {
                Arm::Baseline
            };
            sight(salt.hash(&id.to_le_bytes()), arm, 1)
        });
        let left = thinned(everybody.collect(), |sight| sight.learner);
        let canary = left.iter().filter(|sight| sight.arm == Arm::Canary).count();
        assert!((MOST_NAMED / 4..=MOST_NAMED).contains(&left.len()));
        // A quarter, within four standard errors of a sample of 2,500 or more.
        let share = canary as f64 / left.len() as f64;
        assert!((share - 0.25).abs() < 0.035, "{share}");
    }

    #[test]
    fn a_learner_is_told_as_sent_once_until_the_split_changes() {
        let mut sent = Sent::default();
        let one = |epoch| Assigned {
            learner: LearnerHash::from_raw(5),
            arm: Arm::Canary,
            segment: None,
            epoch,
        };
        let told =
            [one(1), one(1), one(2), one(1)].map(|one| sent.untold([&one].into_iter()).len());
        assert_eq!(told, [1, 0, 1, 0]);
    }
}
