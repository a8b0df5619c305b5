//! The latest lines of each rollout, kept in memory: what the evidence of a rollback shows of the access log.
//!
//! Bounded by number, each arm by itself, so that a busy baseline pushes none of canary's out. Chooses no line.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::rollout::name::Arm;
use crate::rollout::time::WallTime;

/// Lines kept of each arm of a rollout; some 150 KiB.
const KEPT: usize = 500;

/// When the request came, and its line as JSON.
type Told = (WallTime, String);

#[derive(Debug, Default)]
pub(super) struct Latest {
    /// By `Arm::index`, in the order in which the requests ended.
    rollouts: Mutex<BTreeMap<String, [VecDeque<Told>; 2]>>,
}

impl Latest {
    pub(super) fn keep(&self, rollout: &str, arm: Arm, at: WallTime, json: String) {
        let mut rollouts = self.rollouts.lock().unwrap_or_else(PoisonError::into_inner);
        if !rollouts.contains_key(rollout) {
            rollouts.insert(rollout.to_owned(), Default::default());
        }
        let Some(arms) = rollouts.get_mut(rollout) else {
            return;
        };
        let lines = &mut arms[arm.index()];
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back((at, json));
    }

    /// Those of both arms, in order of time.
    pub(super) fn of(&self, rollout: &str) -> Vec<Told> {
        let rollouts = self.rollouts.lock().unwrap_or_else(PoisonError::into_inner);
        let arms = rollouts.get(rollout).into_iter().flatten();
        let mut lines: Vec<_> = arms.flatten().cloned().collect();
        lines.sort_by_key(|(at, _)| *at);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_arm_keeps_its_latest_and_both_come_in_order_of_time() {
        let latest = Latest::default();
        let at = WallTime::from_unix_millis;
        for n in 0..2_000 {
            latest.keep("a", Arm::Baseline, at(n), format!("b{n}"));
        }
        latest.keep("a", Arm::Canary, at(1_700), "c".to_owned());
        latest.keep("b", Arm::Canary, at(5), "other".to_owned());
        let lines = latest.of("a");
        assert_eq!(lines.len(), 501);
        assert_eq!(lines[0], (at(1_500), "b1500".to_owned()));
        // Of one moment baseline's comes first.
        assert_eq!(lines[201], (at(1_700), "c".to_owned()));
        assert_eq!(lines[500], (at(1_999), "b1999".to_owned()));
        assert_eq!(latest.of("c"), []);
    }
}
