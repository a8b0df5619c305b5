//! Messages of this member for the leader, until they lie in the stream: for each rollout in order, the newest that fit.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::rollout::name::RolloutName;

/// Of each rollout: ten minutes of a message a second, which is also how long the stream keeps them.
const KEPT: usize = 600;

#[derive(Debug, Default)]
pub(super) struct Letters {
    by_rollout: BTreeMap<RolloutName, Line>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<(u64, Bytes)>,
    /// The first one is being sent.
    under_way: bool,
    dropped: u64,
}

impl Letters {
    /// Takes a message in. Where there is no room, the oldest that is not being sent makes it: its number, and how many
    /// were dropped so far.
    pub(super) fn add(&mut self, rollout: &RolloutName, n: u64, body: Bytes) -> Option<(u64, u64)> {
        let line = self.by_rollout.entry(rollout.clone()).or_default();
        line.waiting.push_back((n, body));
        if line.waiting.len() <= KEPT {
            return None;
        }
        let oldest = usize::from(line.under_way);
        let (n, _) = line.waiting.remove(oldest)?;
        line.dropped += 1;
        Some((n, line.dropped))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_rollout.values().all(|line| line.waiting.is_empty())
    }

    /// The next message of each rollout of which none is under way.
    pub(super) fn begin(&mut self) -> Vec<(RolloutName, u64, Bytes)> {
        let mut next = Vec::new();
        for (rollout, line) in &mut self.by_rollout {
            if let (false, Some((n, body))) = (line.under_way, line.waiting.front()) {
                next.push((rollout.clone(), *n, body.clone()));
                line.under_way = true;
            }
        }
        next
    }

    /// The message under way lies in the stream, or never will.
    pub(super) fn end(&mut self, rollout: &RolloutName) {
        if let Some(line) = self.by_rollout.get_mut(rollout) {
            line.waiting.pop_front();
            line.under_way = false;
        }
    }

    /// Counts a message that was dropped: how many so far.
    pub(super) fn drop_one(&mut self, rollout: &RolloutName) -> u64 {
        let line = self.by_rollout.entry(rollout.clone()).or_default();
        line.dropped += 1;
        line.dropped
    }

    /// The message under way is sent again.
    pub(super) fn again(&mut self, rollout: &RolloutName) {
        if let Some(line) = self.by_rollout.get_mut(rollout) {
            line.under_way = false;
        }
    }

    /// So are all.
    pub(super) fn interrupt(&mut self) {
        for line in self.by_rollout.values_mut() {
            line.under_way = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_room_the_oldest_that_is_not_being_sent_is_dropped() {
        let rollout = RolloutName::parse("r").expect("a name");
        let mut letters = Letters::default();
        let add = |letters: &mut Letters, n| letters.add(&rollout, n, Bytes::new());
        assert_eq!(add(&mut letters, 1), None);
        assert_eq!(letters.begin().len(), 1);
        for n in 2..=600 {
            assert_eq!(add(&mut letters, n), None);
        }
        assert_eq!(add(&mut letters, 601), Some((2, 1)));
        assert_eq!(add(&mut letters, 602), Some((3, 2)));
        assert!(letters.begin().is_empty(), "one at a time");
        letters.end(&rollout);
        let next: Vec<u64> = letters.begin().iter().map(|(_, n, _)| *n).collect();
        assert_eq!(next, [4]);
    }
}
