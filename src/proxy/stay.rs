//! What stays: streams and tunnels, which go on long after the moment they began in.
//!
//! A request is over soon; these may last for days, and hold on to what was decided at their beginning. One look ten
//! times a second ends those on which nothing has moved for `stream_idle`, and those on an arm that was retreated from,
//! `stream_grace` later. A growing weight ends none, and one that came back in time neither. Carries no bytes: who stays
//! keeps a `Seat`, says when something moved, and listens.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::choose::{self, Choice};
use super::coarse::{CoarseClock, is_over};
use super::worker::Worker;
use crate::config::ServerTimeouts;
use crate::live::{Held, Rollout};
use crate::rollout::time::millis;
use crate::telemetry::{Recorder, Tally};

/// The streams and tunnels of one worker.
#[derive(Debug, Default)]
pub(super) struct Stays {
    open: RefCell<Slab<Rc<Stay>>>,
}

/// One stream or tunnel, as the look at all of them sees it.
#[derive(Debug)]
pub(super) struct Stay {
    clock: Arc<CoarseClock>,
    /// Coarse milliseconds at which something moved last.
    moved: Cell<u32>,
    /// The coarse moment since which the client takes nothing of what waits for it; `None` while it does.
    unread: Cell<Option<u32>>,
    canary: Option<OnCanary>,
    over: Cell<Option<Over>>,
    waker: RefCell<Option<Waker>>,
}

/// What is needed to see whether a learner on canary would be sent there still.
#[derive(Debug)]
pub(super) struct OnCanary {
    rollout: Arc<Rollout>,
    choice: Choice,
    segment: Option<Arc<str>>,
    /// Of the split that was looked at last.
    epoch: Cell<u64>,
    /// Coarse milliseconds since when he would not.
    left: Cell<Option<u32>>,
}

/// Why it has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing moved for `stream_idle`.
    Idle,
    /// Its arm was retreated from, and the grace is over.
    Retreated,
    /// The client does not read.
    Unread,
    /// The drain is over.
    Leaving,
}

/// A place among those that stay, for as long as it lives.
pub(super) struct Seat {
    worker: Rc<Worker>,
    key: usize,
    stay: Rc<Stay>,
}

// === impl Stays ===

impl Stays {
    pub(super) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// Ends those whose time is up.
    pub(super) fn sweep(&self, table: &Held, recorder: &Recorder) {
        let timeouts = &table.rules().timeouts;
        for (_, stay) in self.open.borrow().iter() {
            let Some(over) = stay.judge(table, timeouts).filter(|_| !stay.is_over()) else {
                continue;
            };
            match over {
                Over::Idle => recorder.tally(Tally::StreamIdle),
                Over::Retreated => recorder.tally(Tally::StreamRetreated),
                Over::Unread => recorder.tally(Tally::StreamStalled),
                Over::Leaving => {}
            }
            stay.end(over);
        }
    }

    /// Ends all of them.
    pub(super) fn end_all(&self) {
        for (_, stay) in self.open.borrow().iter() {
            stay.end(Over::Leaving);
        }
    }
}

// === impl Stay ===

impl Stay {
    /// Something moved, whichever way.
    pub(super) fn moved(&self) {
        self.moved.set(self.clock.now());
    }

    fn judge(&self, table: &Held, timeouts: &ServerTimeouts) -> Option<Over> {
        let is_over = |since: u32, limit: Duration| is_over(self.clock.age(since), limit);
        let canary = self.canary.as_ref();
        let is_unread = |since| is_over(since, timeouts.write_idle);
        if self.unread.get().is_some_and(is_unread) {
            Some(Over::Unread)
        } else if is_over(self.moved.get(), timeouts.stream_idle) {
            Some(Over::Idle)
        } else if canary.is_some_and(|canary| canary.has_outstayed(table, &self.clock)) {
            Some(Over::Retreated)
        } else {
            None
        }
    }

    fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    fn end(&self, over: Over) {
        self.over.set(Some(over));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

// === impl OnCanary ===

impl OnCanary {
    pub(super) fn new(rollout: &Arc<Rollout>, choice: Choice, segment: Option<Arc<str>>) -> Self {
        Self {
            rollout: Arc::clone(rollout),
            choice,
            segment,
            epoch: Cell::new(rollout.split.epoch),
            left: Cell::new(None),
        }
    }

    // Whether the arm was retreated from as long ago as the rollout's grace. A rollout that is gone retreats from nothing.
    fn has_outstayed(&self, table: &Held, clock: &CoarseClock) -> bool {
        let is_known = self.rollout.epoch_now() == self.epoch.get();
        if is_known && self.left.get().is_none() {
            return false;
        }
        let Some(index) = table.find_rollout(&self.rollout.name) else {
            return false;
        };
        let rollout = table.rollout(index);
        self.epoch.set(rollout.split.epoch);
        if choose::stays(rollout, self.choice, self.segment.as_deref()) {
            self.left.set(None);
            return false;
        }
        let since = self.left.get().unwrap_or_else(|| clock.now());
        self.left.set(Some(since));
        u64::from(clock.age(since)) >= millis(rollout.stream_grace)
    }
}

// === impl Seat ===

impl Seat {
    pub(super) fn take(worker: &Rc<Worker>, canary: Option<OnCanary>) -> Self {
        let clock = Arc::clone(&worker.clock);
        let stay = Rc::new(Stay {
            moved: Cell::new(clock.now()),
            unread: Cell::new(None),
            canary,
            over: Cell::new(None),
            waker: RefCell::default(),
            clock,
        });
        let key = worker.stays.open.borrow_mut().insert(Rc::clone(&stay));
        Self {
            worker: Rc::clone(worker),
            key,
            stay,
        }
    }

    pub(super) fn stay(&self) -> &Rc<Stay> {
        &self.stay
    }

    /// Whether something waits that the client does not take.
    pub(super) fn set_unread(&self, is_unread: bool) {
        let since = self.stay.unread.get();
        let since = is_unread.then(|| since.unwrap_or_else(|| self.stay.clock.now()));
        self.stay.unread.set(since);
    }

    /// Ready once it has to end.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<Over> {
        if let Some(over) = self.stay.over.get() {
            return Poll::Ready(over);
        }
        match &mut *self.stay.waker.borrow_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.stays.open.borrow_mut().try_remove(self.key);
    }
}
