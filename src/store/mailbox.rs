//! What waits to be written: events in order, the last state, the slots of the last 10 minutes, per rollout.
//!
//! The lock is held to move a batch in or out, never while anything is written, so that `put` never waits for a disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Batch;
use super::outbox::{Change, Notice};
use crate::records::event::{Detail, EventRecord};
use crate::records::inputs::Recorded;
use crate::records::state;
use crate::rollout::gate::Snapshot;
use crate::rollout::name::RolloutName;
use crate::rollout::plan::Plan;
use crate::rollout::slot::Slot;

/// One-second slots kept for a disk that does not answer: 10 minutes, which is more than any window of a first
/// answer to trouble and some 3 MB of memory with 64 segments.
const MOST_SLOTS: usize = 600;
/// Bytes of recorded inputs kept meanwhile: about as long at full traffic. A replay says that some are lost.
const MOST_INPUTS: usize = 8 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Pending,
    /// What the writer works on: kept here too, so that `close` can name what a dead disk swallowed.
    in_hand: Option<Arc<Pending>>,
    closing: Closing,
    done: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Closing {
    #[default]
    Open,
    /// Write what waits, then end.
    Draining,
    /// End, written or not.
    Abandoned,
}

/// Everything that goes into one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) rollouts: BTreeMap<RolloutName, Backlog>,
    /// Of the outbox, in order.
    pub(super) changes: Vec<Change>,
}

/// What waits of one rollout.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog {
    pub(super) events: Vec<EventRecord>,
    /// Events of a copy take the place of what is there.
    pub(super) replaces: bool,
    /// Who is to be told of which of them.
    pub(super) notices: Vec<Notice>,
    /// Plans of the runs that began among the events.
    pub(super) plans: BTreeMap<u64, Plan>,
    pub(super) state: Option<Box<Snapshot>>,
    /// With the number of their run, oldest first.
    pub(super) slots: VecDeque<(u64, Slot)>,
    /// For replays, oldest first.
    pub(super) inputs: Vec<Recorded>,
    pub(super) input_bytes: usize,
    /// Slots given up since the last write.
    pub(super) dropped: u64,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(super) enum Taken {
    Write(Arc<Pending>),
    /// Nothing came within the time.
    Idle,
    Close,
}

// === impl Mailbox ===

impl Mailbox {
    pub(super) fn put(&self, batch: Batch) {
        let mut inner = self.lock();
        inner
            .waiting
            .rollouts
            .entry(batch.rollout.clone())
            .or_default()
            .add(batch);
        drop(inner);
        self.changed.notify_all();
    }

    pub(super) fn change(&self, change: Change) {
        let mut inner = self.lock();
        inner.waiting.changes.push(change);
        drop(inner);
        self.changed.notify_all();
    }

    /// How many events are not written yet.
    pub(super) fn waiting_events(&self) -> usize {
        let inner = self.lock();
        let in_hand = inner.in_hand.iter().flat_map(|pending| pending.events());
        in_hand.chain(inner.waiting.events()).count()
    }

    /// Waits for something to write, at most `patience`.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let inner = self.lock();
        let nothing =
            |inner: &mut Inner| inner.waiting.is_empty() && inner.closing == Closing::Open;
        let (mut inner, _) = self
            .changed
            .wait_timeout_while(inner, patience, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        if inner.closing == Closing::Abandoned {
            return Taken::Close;
        }
        if inner.waiting.is_empty() {
            return if inner.closing == Closing::Open {
                Taken::Idle
            } else {
                Taken::Close
            };
        }
        let pending = Arc::new(std::mem::take(&mut inner.waiting));
        inner.in_hand = Some(Arc::clone(&pending));
        Taken::Write(pending)
    }

    /// What was taken is written.
    pub(super) fn written(&self) {
        self.lock().in_hand = None;
    }

    /// What was taken could not be written: it goes before what came meanwhile.
    pub(super) fn put_back(&self, pending: Arc<Pending>) {
        let mut inner = self.lock();
        inner.in_hand = None;
        let newer = std::mem::replace(&mut inner.waiting, Arc::unwrap_or_clone(pending));
        inner.waiting.add_newer(newer);
    }

    /// Waits for `span`, less if closing goes on meanwhile.
    pub(super) fn pause(&self, span: Duration) {
        let inner = self.lock();
        let before = inner.closing;
        drop(
            self.changed
                .wait_timeout_while(inner, span, |inner| inner.closing == before),
        );
    }

    /// The writer has ended.
    pub(super) fn end(&self) {
        self.lock().done = true;
        self.changed.notify_all();
    }

    pub(super) fn begin_close(&self) {
        let mut inner = self.lock();
        if inner.closing == Closing::Open {
            inner.closing = Closing::Draining;
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Ends the writer when everything is written, or after `patience`; answers with the events that are not.
    pub(super) fn close(&self, patience: Duration) -> Vec<(RolloutName, EventRecord)> {
        self.begin_close();
        let (mut inner, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |inner| !inner.done)
            .unwrap_or_else(PoisonError::into_inner);
        inner.closing = Closing::Abandoned;
        let in_hand = inner.in_hand.clone();
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        self.changed.notify_all();
        let lost = in_hand
            .iter()
            .flat_map(|pending| pending.events())
            .chain(waiting.events());
        lost.map(|(rollout, event)| (rollout.clone(), event.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is inside is whole between any two statements, so a panic elsewhere spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Pending ===

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.rollouts.is_empty() && self.changes.is_empty()
    }

    pub(super) fn has_events(&self) -> bool {
        self.rollouts
            .values()
            .any(|backlog| !backlog.events.is_empty())
    }

    /// Whether the outbox is another one afterwards.
    pub(super) fn touches_outbox(&self) -> bool {
        let told = |backlog: &Backlog| !backlog.notices.is_empty();
        !self.changes.is_empty() || self.rollouts.values().any(told)
    }

    pub(super) fn events(&self) -> impl Iterator<Item = (&RolloutName, &EventRecord)> {
        self.rollouts
            .iter()
            .flat_map(|(name, backlog)| backlog.events.iter().map(move |event| (name, event)))
    }

    fn add_newer(&mut self, newer: Self) {
        for (rollout, backlog) in newer.rollouts {
            self.rollouts.entry(rollout).or_default().add_newer(backlog);
        }
        self.changes.extend(newer.changes);
    }
}

// === impl Backlog ===

impl Backlog {
    fn add(&mut self, batch: Batch) {
        let mut began = batch
            .events
            .iter()
            .filter(|event| matches!(event.detail, Detail::Started { .. }));
        if let (Some(event), Some(plan)) = (began.next_back(), state::plan(&batch.state)) {
            self.plans.insert(event.run, plan.clone());
        }
        self.replaces |= batch.replaces;
        self.events.extend(batch.events);
        self.notices.extend(batch.notices);
        self.state = Some(batch.state);
        self.slots
            .extend(batch.slots.into_iter().map(|slot| (batch.run, slot)));
        self.add_inputs(batch.inputs);
        self.shorten();
    }

    fn add_inputs(&mut self, inputs: Vec<Recorded>) {
        for lines in inputs {
            let bytes = self.input_bytes + lines.text.len();
            if bytes <= MOST_INPUTS {
                self.input_bytes = bytes;
                self.inputs.push(lines);
            }
        }
    }

    fn add_newer(&mut self, newer: Self) {
        self.replaces |= newer.replaces;
        self.events.extend(newer.events);
        self.notices.extend(newer.notices);
        self.plans.extend(newer.plans);
        self.state = newer.state.or_else(|| self.state.take());
        self.slots.extend(newer.slots);
        self.add_inputs(newer.inputs);
        self.dropped += newer.dropped;
        self.shorten();
    }

    fn shorten(&mut self) {
        let surplus = self.slots.len().saturating_sub(MOST_SLOTS);
        self.slots.drain(..surplus);
        self.dropped += surplus as u64;
    }
}
