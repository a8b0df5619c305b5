//! Records that wait to be written: for each rollout one write under way and one that waits.
//!
//! Owns the revision that each is written over. Writes nothing itself.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::rollout::name::RolloutName;

#[derive(Debug, Default)]
pub(super) struct Records {
    slots: BTreeMap<RolloutName, Slot>,
    /// Of all writes of this life.
    count: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// Seen or written last; 0 = there is none.
    revision: u64,
    under_way: Option<Write>,
    waiting: Option<Write>,
}

/// One write of a record.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) term: u64,
    /// Everybody whom it answers, oldest first.
    pub(super) tickets: Vec<u64>,
    pub(super) body: Bytes,
    /// Tells it from every other write.
    pub(super) number: u64,
}

impl Records {
    /// Takes a record in; it replaces one that waits.
    pub(super) fn add(&mut self, rollout: &RolloutName, term: u64, ticket: u64, body: Bytes) {
        self.count += 1;
        let slot = self.slots.entry(rollout.clone()).or_default();
        let replaced = slot.waiting.take();
        let mut tickets = replaced.map_or_else(Vec::new, |write| write.tickets);
        tickets.push(ticket);
        slot.waiting = Some(Write {
            term,
            tickets,
            body,
            number: self.count,
        });
    }

    /// The rollouts of which something waits and nothing is under way.
    pub(super) fn ready(&self) -> Vec<RolloutName> {
        let ready = |slot: &Slot| slot.under_way.is_none() && slot.waiting.is_some();
        self.slots
            .iter()
            .filter(|(_, slot)| ready(slot))
            .map(|(rollout, _)| rollout.clone())
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        let idle = |slot: &Slot| slot.under_way.is_none() && slot.waiting.is_none();
        self.slots.values().all(idle)
    }

    /// What is to be written now, over which revision.
    pub(super) fn begin(&mut self, rollout: &RolloutName) -> Option<(Write, u64)> {
        let slot = self.slots.get_mut(rollout)?;
        if slot.under_way.is_none() {
            slot.under_way = slot.waiting.take();
        }
        Some((slot.under_way.clone()?, slot.revision))
    }

    /// The record was seen, or written, with this revision.
    pub(super) fn know(&mut self, rollout: &RolloutName, revision: u64) {
        let slot = self.slots.entry(rollout.clone()).or_default();
        slot.revision = slot.revision.max(revision);
    }

    /// Ends what is under way.
    pub(super) fn end(&mut self, rollout: &RolloutName) -> Option<Write> {
        self.slots.get_mut(rollout)?.under_way.take()
    }

    /// Everything is written again: nobody knows what became of what is under way.
    pub(super) fn interrupt(&mut self) {
        for slot in self.slots.values_mut() {
            let Some(mut older) = slot.under_way.take() else {
                continue;
            };
            slot.waiting = Some(match slot.waiting.take() {
                None => older,
                Some(newer) => {
                    older.tickets.extend(newer.tickets);
                    Write {
                        tickets: older.tickets,
                        ..newer
                    }
                }
            });
        }
    }

    /// Everybody who waits for an answer, by rollout; nothing is left.
    pub(super) fn drain(&mut self) -> Vec<(RolloutName, u64)> {
        let mut waiting = Vec::new();
        for (rollout, slot) in &mut self.slots {
            let writes = [slot.under_way.take(), slot.waiting.take()];
            let tickets = writes.into_iter().flatten().flat_map(|write| write.tickets);
            waiting.extend(tickets.map(|ticket| (rollout.clone(), ticket)));
        }
        waiting
    }
}
