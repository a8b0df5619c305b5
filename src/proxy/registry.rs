//! The connections of one worker, and the sweep that ends those whose time is up.
//!
//! One sweep per worker looks at every connection ten times a second; no connection has a timer of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::coarse::is_over;
use super::http2::Streams;
use super::meter::{Meter, Phase};
use super::worker::Worker;
use crate::config::ServerTimeouts;
use crate::rollout::time::millis;
use crate::telemetry::Tally;

/// How many idle connections are picked for closing in one look at all of them.
const EVICT_BATCH: usize = 64;

/// Connections that are looked over at once: among thousands, a look at all of them would keep requests waiting.
const LOOKED_OVER: usize = 128;

/// A connection of HTTP/1 that was idle for so long keeps what a request needs no longer.
const RESTS_AFTER: Duration = Duration::from_secs(1);

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: RefCell<Slab<Rc<Slot>>>,
    /// Idle ones to be closed first, oldest last.
    evictable: RefCell<Vec<usize>>,
}

/// One connection as the sweep sees it.
#[derive(Debug)]
pub(super) struct Slot {
    meter: Arc<Meter>,
    waker: RefCell<Option<Waker>>,
    cut: Cell<Option<Cut>>,
    /// It is idle for long: told to let go of what only a request needs, until it has one again.
    rests: Cell<bool>,
    /// Where the client speaks HTTP/2.
    streams: RefCell<Option<Rc<Streams>>>,
    /// Coarse milliseconds at which an HTTP/2 client was told to send no more requests.
    told: Cell<Option<u32>>,
}

/// How a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing is under way.
    Close,
    /// A head that does not end: 408.
    SlowHead,
    /// HTTP/2: no more requests, and those under way are answered.
    GoAway,
    /// The client does not read, or the drain is over.
    Reset,
}

/// What a look at some connections found.
#[derive(Default)]
pub(super) struct Look {
    /// Their time is up.
    pub(super) over: Vec<Rc<Slot>>,
    /// They may rest.
    pub(super) idle: Vec<Rc<Slot>>,
    /// Where to look on.
    pub(super) next: Option<usize>,
}

/// A connection's place in the registry, for as long as it lives.
pub(super) struct Place {
    worker: Rc<Worker>,
    key: usize,
    slot: Rc<Slot>,
}

// === impl Registry ===

impl Registry {
    pub(super) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Looks over some connections from a place on. `draining`: since when the worker leaves.
    pub(super) fn sweep(
        &self,
        from: usize,
        timeouts: &ServerTimeouts,
        draining: Option<Duration>,
        worker: &Worker,
    ) -> Look {
        let mut look = Look::default();
        let slots = self.slots.borrow();
        let upto = (from + LOOKED_OVER).min(slots.capacity());
        for slot in (from..upto).filter_map(|key| slots.get(key)) {
            if let Some(streams) = &*slot.streams.borrow() {
                streams.sweep(timeouts.write_idle, worker);
            }
            if slot.due(timeouts, draining).is_some() {
                look.over.push(Rc::clone(slot));
            } else if slot.may_rest() {
                look.idle.push(Rc::clone(slot));
            }
        }
        look.next = (upto < slots.capacity()).then_some(upto);
        look
    }

    /// Ends every connection.
    pub(super) fn cut_all(&self) {
        for (_, slot) in self.slots.borrow().iter() {
            slot.end(Cut::Reset);
        }
    }

    /// Ends the connection that has been idle longest; false where none is idle.
    pub(super) fn evict(&self) -> bool {
        let slots = self.slots.borrow();
        let mut evictable = self.evictable.borrow_mut();
        if evictable.is_empty() {
            let mut idle: Vec<(u32, usize)> = slots
                .iter()
                .filter(|(_, slot)| slot.is_idle())
                .map(|(key, slot)| (slot.meter.phase_age(), key))
                .collect();
            idle.sort_unstable_by(|one, other| other.cmp(one));
            idle.truncate(EVICT_BATCH);
            evictable.extend(idle.into_iter().rev().map(|(_, key)| key));
        }
        while let Some(key) = evictable.pop() {
            if let Some(slot) = slots.get(key).filter(|slot| slot.is_idle()) {
                slot.end(Cut::Close);
                return true;
            }
        }
        false
    }
}

// What ends a connection in this phase; times in coarse milliseconds, a timeout of zero is none.
fn judge(
    phase: Phase,
    age: u32,
    write_blocked: Option<u32>,
    timeouts: &ServerTimeouts,
    draining: Option<Duration>,
) -> Option<Cut> {
    if write_blocked.is_some_and(|blocked| is_over(blocked, timeouts.write_idle)) {
        return Some(Cut::Reset);
    }
    let has_left = draining.is_some_and(|since| since >= timeouts.idle_grace);
    match phase {
        Phase::Fresh => (has_left || is_over(age, timeouts.first_byte)).then_some(Cut::Close),
        Phase::Head => is_over(age, timeouts.head).then_some(Cut::SlowHead),
        Phase::Idle => (has_left || is_over(age, timeouts.keep_alive)).then_some(Cut::Close),
        Phase::Busy | Phase::Finishing => None,
    }
}

/// What is known of an HTTP/2 connection; times in coarse milliseconds.
#[derive(Clone, Copy, Debug)]
struct Http2State {
    /// How long it has had no stream.
    idle: Option<u32>,
    /// How long a frame or a block of headers has not ended.
    partial: Option<u32>,
    write_blocked: Option<u32>,
    /// How long ago the client was told to send no more.
    told: Option<u32>,
}

// The same for HTTP/2, which has many requests at once: a timeout of zero is none.
fn judge_http2(
    state: &Http2State,
    timeouts: &ServerTimeouts,
    draining: Option<Duration>,
) -> Option<Cut> {
    let is_over = |age: Option<u32>, limit: Duration| age.is_some_and(|age| is_over(age, limit));
    if is_over(state.write_blocked, timeouts.write_idle) || is_over(state.partial, timeouts.head) {
        return Some(Cut::Reset);
    }
    let Some(told) = state.told else {
        let has_to_go = draining.is_some() || is_over(state.idle, timeouts.keep_alive);
        return has_to_go.then_some(Cut::GoAway);
    };
    // The library ends it once the client has answered; one that does not answer any more has its grace.
    let is_overdue = state.idle.is_some() && u64::from(told) >= millis(timeouts.idle_grace);
    is_overdue.then_some(Cut::Close)
}

// === impl Slot ===

impl Slot {
    fn listen(&self, waker: &Waker) {
        match &mut *self.waker.borrow_mut() {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Ends it, if its time is still up.
    pub(super) fn end_if_due(&self, timeouts: &ServerTimeouts, draining: Option<Duration>) {
        if let Some(cut) = self.due(timeouts, draining) {
            self.end(cut);
        }
    }

    /// Tells it to rest, if it is still idle.
    pub(super) fn rest(&self) {
        if self.may_rest() {
            self.rests.set(true);
            self.wake();
        }
    }

    fn may_rest(&self) -> bool {
        let is_http1 = self.streams.borrow().is_none();
        is_http1
            && !self.rests.get()
            && self.is_idle()
            && is_over(self.meter.phase_age(), RESTS_AFTER)
    }

    fn due(&self, timeouts: &ServerTimeouts, draining: Option<Duration>) -> Option<Cut> {
        if self.streams.borrow().is_some() {
            return judge_http2(&self.state(), timeouts, draining);
        }
        let meter = &self.meter;
        judge(
            meter.phase(),
            meter.phase_age(),
            meter.write_blocked(),
            timeouts,
            draining,
        )
    }

    fn end(&self, cut: Cut) {
        if self.cut.get().is_none_or(|cut| cut == Cut::GoAway) {
            self.cut.set(Some(cut));
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn state(&self) -> Http2State {
        let meter = &self.meter;
        Http2State {
            idle: (meter.phase() == Phase::Idle).then(|| meter.phase_age()),
            partial: meter.partial_age(),
            write_blocked: meter.write_blocked(),
            told: self.told.get().map(|at| meter.clock().age(at)),
        }
    }

    fn is_idle(&self) -> bool {
        self.cut.get().is_none() && self.meter.phase() == Phase::Idle
    }
}

// === impl Place ===

impl Place {
    /// A place for a new connection.
    pub(super) fn take(worker: &Rc<Worker>) -> Self {
        let meter = Meter::new(Arc::clone(&worker.clock));
        let slot = Rc::new(Slot {
            meter,
            waker: RefCell::default(),
            cut: Cell::default(),
            rests: Cell::default(),
            streams: RefCell::default(),
            told: Cell::default(),
        });
        let key = worker.registry.slots.borrow_mut().insert(Rc::clone(&slot));
        worker.recorder.tally(Tally::ConnectionAccepted);
        worker.balance.begun();
        Self {
            worker: Rc::clone(worker),
            key,
            slot,
        }
    }

    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.slot.meter
    }

    /// The streams of a connection that speaks HTTP/2; from now on the sweep looks after them.
    pub(super) fn streams(&self) -> Rc<Streams> {
        let streams = Streams::new(&self.slot.meter);
        *self.slot.streams.borrow_mut() = Some(Rc::clone(&streams));
        streams
    }

    /// How the connection is to end, once it is to.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.slot.cut.get()
    }

    /// The client was told to send no more requests.
    pub(super) fn told(&self) {
        self.slot.told.set(Some(self.slot.meter.clock().now()));
        self.slot.cut.set(None);
    }

    /// Whether the connection is to rest: it was told to, and nothing has come since.
    pub(super) fn rests(&self) -> bool {
        self.slot.rests.get() && self.slot.is_idle()
    }

    /// It has something to do again.
    pub(super) fn awake(&self) {
        self.slot.rests.set(false);
    }

    /// Wakes this task when the connection is to end.
    pub(super) fn listen(&self, waker: &Waker) {
        self.slot.listen(waker);
    }

    /// Waits for a future, unless the connection is to end before.
    pub(super) async fn until_cut<F: Future>(&self, future: F) -> Result<F::Output, Cut> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Some(cut) = self.slot.cut.get() {
                return Poll::Ready(Err(cut));
            }
            self.slot.listen(cx.waker());
            future.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.registry.slots.borrow_mut().try_remove(self.key);
        self.worker.recorder.tally(Tally::ConnectionClosed);
        self.worker.balance.ended();
        self.worker.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: ServerTimeouts = ServerTimeouts {
        first_byte: Duration::from_secs(1),
        head: Duration::from_secs(2),
        body_idle: Duration::from_secs(3),
        write_idle: Duration::from_secs(4),
        keep_alive: Duration::from_secs(5),
        stream_idle: Duration::from_secs(6),
        drain_delay: Duration::ZERO,
        idle_grace: Duration::from_secs(7),
        drain: Duration::from_secs(8),
    };

    #[test]
    fn http2_is_told_before_it_is_cut() {
        const BUSY: Http2State = Http2State {
            idle: None,
            partial: None,
            write_blocked: None,
            told: None,
        };
        let check = |state: Http2State, draining: bool, expected: Option<Cut>| {
            let draining = draining.then_some(Duration::ZERO);
            let found = judge_http2(&state, &TIMEOUTS, draining);
            assert_eq!(found, expected, "{state:?} {draining:?}");
        };
        let idle = |idle, told| Http2State {
            idle: Some(idle),
            told,
            ..BUSY
        };
        let partial = |partial| Http2State { partial, ..BUSY };
        let blocked = |write_blocked| Http2State {
            write_blocked,
            ..BUSY
        };
        let told = |told| Http2State { told, ..BUSY };
        check(BUSY, false, None);
        check(idle(4999, None), false, None);
        check(idle(5000, None), false, Some(Cut::GoAway));
        check(idle(0, None), true, Some(Cut::GoAway));
        check(BUSY, true, Some(Cut::GoAway));
        check(told(Some(u32::MAX)), true, None);
        check(idle(0, Some(6999)), true, None);
        check(idle(0, Some(7000)), true, Some(Cut::Close));
        check(partial(Some(1999)), false, None);
        check(partial(Some(2000)), false, Some(Cut::Reset));
        check(blocked(Some(3999)), false, None);
        check(blocked(Some(4000)), false, Some(Cut::Reset));
    }

    #[test]
    fn each_phase_has_its_limit() {
        let timeouts = TIMEOUTS;
        let check = |phase, age, expected| {
            assert_eq!(
                judge(phase, age, None, &timeouts, None),
                expected,
                "{phase:?} {age}"
            )
        };
        check(Phase::Fresh, 999, None);
        check(Phase::Fresh, 1000, Some(Cut::Close));
        check(Phase::Head, 1999, None);
        check(Phase::Head, 2000, Some(Cut::SlowHead));
        check(Phase::Idle, 4999, None);
        check(Phase::Idle, 5000, Some(Cut::Close));
        check(Phase::Busy, u32::MAX, None);
        check(Phase::Finishing, u32::MAX, None);

        let blocked = |millis| judge(Phase::Busy, 0, Some(millis), &timeouts, None);
        assert_eq!((blocked(3999), blocked(4000)), (None, Some(Cut::Reset)));

        let leaving =
            |phase, secs| judge(phase, 0, None, &timeouts, Some(Duration::from_secs(secs)));
        assert_eq!(
            (leaving(Phase::Idle, 6), leaving(Phase::Idle, 7)),
            (None, Some(Cut::Close))
        );
        assert_eq!(
            (leaving(Phase::Fresh, 7), leaving(Phase::Head, 7)),
            (Some(Cut::Close), None)
        );
        assert_eq!(leaving(Phase::Busy, 7), None);

        let none = ServerTimeouts {
            keep_alive: Duration::ZERO,
            ..timeouts
        };
        assert_eq!(judge(Phase::Idle, u32::MAX, None, &none, None), None);
    }
}
