//! The parts of a second that ticks drain, put together to the one-second slots that are stored.
//!
//! A part belongs to the second that its middle lies in: ticks come a few milliseconds late, and a part that runs from
//! 0.752 s to 1.003 s is the first second's.

use std::time::Duration;

use crate::rollout::evidence::{Assigned, Block, Sight};
use crate::rollout::slot::Slot;
use crate::rollout::time::{Timestamp, millis};

const SECOND: Duration = Duration::from_secs(1);

/// The running second of one rollout, as figures.
#[derive(Debug, Default)]
pub(super) struct Seconds {
    open: Option<Slot>,
}

/// The running second of one rollout, as evidence.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    open: Option<Block>,
}

impl Seconds {
    /// Adds a part, and gives the second that it closes, unless that one is empty.
    pub(super) fn add(&mut self, part: &Slot) -> Option<Slot> {
        let start = second_of(part);
        let closed = match &self.open {
            Some(open) if open.start < start => self.close(),
            Some(_) | None => None,
        };
        self.open
            .get_or_insert_with(|| Slot::empty(start, SECOND))
            .merge(part);
        closed
    }

    /// Gives the running second as far as it has come, unless it is empty.
    pub(super) fn close(&mut self) -> Option<Slot> {
        self.open.take().filter(|slot| !slot.cells.is_empty())
    }
}

impl Blocks {
    /// Adds a part with the learners seen in it and those sent to an arm, and gives the second that it closes.
    pub(super) fn add(
        &mut self,
        part: &Slot,
        sights: Vec<Sight>,
        assigned: Vec<Assigned>,
    ) -> Option<Block> {
        let start = second_of(part);
        let closed = self.open.take_if(|open| open.start < start);
        let open = self.open.get_or_insert_with(|| Block::new(start));
        open.add(part, sights);
        open.assign(assigned);
        closed
    }
}

fn second_of(part: &Slot) -> Timestamp {
    let middle = part.start.as_millis() + millis(part.width) / 2;
    Timestamp::from_millis(middle / 1000 * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::name::Arm;
    use crate::rollout::slot::{Cell, CellKey};

    fn part(start_ms: u64, width_ms: u64, counted: u64) -> Slot {
        let mut slot = Slot::empty(
            Timestamp::from_millis(start_ms),
            Duration::from_millis(width_ms),
        );
        let key = CellKey {
            epoch: 1,
            arm: Arm::Canary,
            segment: None,
        };
        if counted > 0 {
            slot.cells.insert(
                key,
                Cell {
                    counted,
                    ..Cell::default()
                },
            );
        }
        slot
    }

    #[test]
    fn parts_make_whole_seconds_and_nothing_is_lost() {
        let mut seconds = Seconds::default();
        let mut closed = Vec::new();
        for (start, width, counted) in [
            (0, 250, 1),
            (250, 251, 2),
            (501, 251, 4),
            (752, 251, 8),
            (1003, 247, 16),
        ] {
            closed.extend(seconds.add(&part(start, width, counted)));
        }
        closed.extend(seconds.close());
        let seen: Vec<_> = closed
            .iter()
            .map(|s| (s.start.as_millis(), s.width, s.arm(Arm::Canary).counted))
            .collect();
        assert_eq!(seen, [(0, SECOND, 15), (1000, SECOND, 16)]);
    }

    #[test]
    fn an_empty_second_is_no_slot() {
        let mut seconds = Seconds::default();
        assert_eq!(seconds.add(&part(0, 250, 0)), None);
        assert_eq!(seconds.add(&part(1000, 250, 0)), None);
        assert_eq!(seconds.close(), None);
    }
}
