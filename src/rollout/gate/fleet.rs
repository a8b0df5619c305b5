//! A gate among several proxies: what it is told of the others, and how it stands where it only follows, or is cut off.
//!
//! One member's gate decides for the fleet; the others have its state and follow. A member that is cut off goes on alone from
//! the state it had last: it never steps up, and keeps its triggers. Knows no network.

use super::Gate;
use super::effect::{Effect, EventKind};
use super::emit::Author;
use super::snapshot::Snapshot;
use super::state::{Cause, Phase};
use crate::rollout::slot::{CellKey, Slot};
use crate::rollout::time::Now;

/// Epochs of a member that is cut off begin here: what it publishes alone is never taken for a split of the fleet.
pub const ALONE: u64 = 1 << 32;

/// What the gate is told of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetWord {
    /// Why nothing may go towards canary; `None` where nothing is wrong.
    pub trouble: Option<String>,
    /// What belongs into the history: who fell silent, who had gone back alone.
    pub notes: Vec<String>,
}

impl Gate {
    pub(super) fn hear_fleet(&mut self, now: Now, word: FleetWord, out: &mut Vec<Effect>) {
        for what in word.notes {
            self.tell(now, Author::GATE, EventKind::FleetNoted { what }, out);
        }
        if let Some(why) = &word.trouble {
            self.hold_for(now, Cause::Fleet, why, out);
        }
        self.state.fleet_trouble = word.trouble;
    }

    /// Takes over the state of the gate that leads, with the seconds it has counted since. Nothing is published or told.
    pub fn follow(&mut self, snapshot: Snapshot, seconds: &[Slot], now: Now) {
        if snapshot.watch.since != self.state.watch.since {
            self.window.clear();
        }
        self.withheld.clear();
        self.state = snapshot;
        self.remember(seconds, now);
    }

    /// Goes on alone, cut off from the fleet: held, with its triggers on what this member itself sees, of late (`own`, oldest
    /// first) and from now on. A step that was not in force yet does not come into force.
    pub fn go_alone(&mut self, now: Now, why: &str, own: Vec<Slot>) -> Vec<Effect> {
        let mut out = Vec::new();
        let agreed = self.state.split.epoch;
        self.withheld.clear();
        self.state.awaiting = None;
        self.state.raises.clear();
        self.state.split.epoch |= ALONE;
        self.state.watch.epoch = self.state.split.epoch;
        self.state.last_tick = Some(now);
        self.begin_windows(now);
        self.publish(&mut out);
        self.state.watch.epoch = self.state.split.epoch;
        self.recall(now, agreed, own);
        if self.state.phase == Phase::RollingBack {
            self.state.phase = Phase::RolledBack;
            self.state.retreat = None;
        }
        let word = FleetWord {
            trouble: Some(why.to_owned()),
            notes: Vec::new(),
        };
        self.hear_fleet(now, word, &mut out);
        self.check_invariants(&out);
        out
    }

    // What was counted under the split that was agreed last is of the one that this member goes on with.
    fn recall(&mut self, now: Now, agreed: u64, own: Vec<Slot>) {
        let epoch = self.state.split.epoch;
        let own: Vec<Slot> = own
            .into_iter()
            .map(|mut slot| {
                let cells = std::mem::take(&mut slot.cells).into_iter();
                slot.cells = cells
                    .map(|(key, cell)| match key.epoch == agreed {
                        true => (CellKey { epoch, ..key }, cell),
                        false => (key, cell),
                    })
                    .collect();
                slot
            })
            .collect();
        if let Some(first) = own.first() {
            self.state.watch.since = first.start.min(now.mono);
        }
        self.remember(&own, now);
    }

    /// Whether a step towards canary must wait for the fleet.
    pub(super) const fn is_cut_off(&self) -> bool {
        self.state.fleet_trouble.is_some()
    }
}
