//! The history of a rollout as people read it: the latest events in memory, the older ones from the store.
//!
//! Readers pull: a subscription asks for what comes after the last event it has seen and waits for the mark to move.
//! So there is no queue that a slow reader could fill, the driver never waits for one, and nothing is skipped or
//! doubled where history ends and the present begins. Events are shown in the order of their numbers, and a number is
//! shown once the driver says so: when it lies on disk, or at once where what it tells is in force before it is written.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::records::event::EventRecord;
use crate::records::kinds::KINDS;
use crate::rollout::gate::EventId;
use crate::rollout::name::RolloutName;
use crate::store::{Store, StoreError};

/// Events kept in memory per rollout: a run of days has some hundreds.
const RECENT: usize = 4096;
/// Events that a subscription takes at once.
const PAGE: usize = 256;

/// Why the history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the reading thread ended: {0}")]
    Thread(String),
}

/// The events of one rollout.
#[derive(Debug)]
pub(super) struct EventLog {
    rollout: RolloutName,
    store: Option<Store>,
    recent: Mutex<VecDeque<Arc<EventRecord>>>,
    /// By their place in `KINDS`.
    counts: [AtomicU64; KINDS.len()],
    /// The highest number shown.
    shown: watch::Sender<u64>,
}

/// A reader of one rollout's events, from some event on and then as they come.
#[derive(Debug)]
pub struct Subscription {
    log: Arc<EventLog>,
    shown: watch::Receiver<u64>,
    after: u64,
}

// === impl EventLog ===

impl EventLog {
    /// A log whose events up to `last` are in the store.
    pub(super) fn new(rollout: RolloutName, store: Option<Store>, last: EventId) -> Arc<Self> {
        Arc::new(Self {
            rollout,
            store,
            recent: Mutex::default(),
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            shown: watch::Sender::new(last.0),
        })
    }

    /// Keeps an event; it is not shown yet.
    pub(super) fn keep(&self, event: EventRecord) {
        if let Some(place) = KINDS.iter().position(|kind| *kind == event.kind()) {
            self.counts[place].fetch_add(1, Ordering::Relaxed);
        }
        let mut recent = self.lock();
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::new(event));
    }

    /// The kept events after `after`, oldest first; the latest, where there are more than `most`.
    pub(super) fn latest(&self, after: u64, most: usize) -> Vec<EventRecord> {
        let recent = self.lock();
        let newer = recent.iter().filter(|event| event.id > after);
        newer.take(most).map(|event| (**event).clone()).collect()
    }

    /// Keeps an event that was agreed on, instead of another one of its number and what followed that. False where it is known.
    pub(super) fn agree(&self, event: &EventRecord) -> bool {
        let mut recent = self.lock();
        if recent.iter().any(|known| **known == *event) {
            return false;
        }
        recent.retain(|known| known.id < event.id);
        drop(recent);
        self.keep(event.clone());
        true
    }

    /// Forgets the events after this one: they were never agreed on.
    pub(super) fn forget_after(&self, last: EventId) {
        self.lock().retain(|event| event.id <= last.0);
        self.shown.send_modify(|shown| *shown = last.0.min(*shown));
    }

    /// How many of each kind were kept.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        KINDS.iter().copied().zip(counts).collect()
    }

    /// Shows every event up to this one.
    pub(super) fn show(&self, id: EventId) {
        self.shown.send_if_modified(|shown| {
            let further = id.0 > *shown;
            *shown = id.0.max(*shown);
            further
        });
    }

    /// Waits until every event kept so far is shown.
    pub(super) async fn all_shown(&self) {
        let last = self.lock().back().map_or(0, |event| event.id);
        let mut shown = self.shown.subscribe();
        // The sender is a field of this log: it cannot be gone.
        let _sender_lives = shown.wait_for(|shown| *shown >= last).await.is_ok();
    }

    /// Where the older ones are, and the samples.
    pub(super) fn store(&self) -> Option<Store> {
        self.store.clone()
    }

    pub(super) fn subscribe(self: &Arc<Self>, after: u64) -> Subscription {
        Subscription {
            log: Arc::clone(self),
            shown: self.shown.subscribe(),
            after,
        }
    }

    /// The shown events after `after`, oldest first, at most `limit`.
    pub(super) async fn after(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<EventRecord>>, HistoryError> {
        let shown = *self.shown.borrow();
        let mut events = self.stored(after, limit, shown).await?;
        let next = events.last().map_or(after, |event| event.id);
        let room = limit - events.len();
        events.extend(
            self.lock()
                .iter()
                .filter(|event| event.id > next && event.id <= shown)
                .take(room)
                .cloned(),
        );
        Ok(events)
    }

    /// Those that are older than memory goes back.
    async fn stored(
        &self,
        after: u64,
        limit: usize,
        shown: u64,
    ) -> Result<Vec<Arc<EventRecord>>, HistoryError> {
        let first_in_memory = self.lock().front().map_or(u64::MAX, |event| event.id);
        let Some(store) = self
            .store
            .clone()
            .filter(|_| after < shown && after.saturating_add(1) < first_in_memory)
        else {
            return Ok(Vec::new());
        };
        let rollout = self.rollout.clone();
        let read = move || store.history(&rollout, EventId(after), limit);
        let events = match tokio::task::spawn_blocking(read).await {
            Ok(events) => events?,
            Err(ended) => return Err(HistoryError::Thread(ended.to_string())),
        };
        let older = events
            .into_iter()
            .take_while(|event| event.id < first_in_memory && event.id <= shown);
        Ok(older.take(limit).map(Arc::new).collect())
    }

    // A poisoned lock means that a thread died between two pushes; what it holds is still whole.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<EventRecord>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Subscription ===

impl Subscription {
    /// The next events, at least one; waits for it. Safe to drop while waiting.
    pub async fn next(&mut self) -> Result<Vec<Arc<EventRecord>>, HistoryError> {
        loop {
            self.shown.borrow_and_update();
            let events = self.log.after(self.after, PAGE).await?;
            if let Some(last) = events.last() {
                self.after = last.id;
                return Ok(events);
            }
            // The sender lives in `self.log`, so it cannot be gone; were it, waiting for ever is right: there is
            // nothing to come.
            if self.shown.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
