//! Coarse deadlines of one worker: one sweep for all, instead of a timer armed for each request.
//!
//! The sweep runs every 10 ms while something waits, and stops soon after nothing does. A deadline is never early and
//! at most two sweeps late, but where so many pass at once that they take longer than that.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::clock;

const TICK: Duration = Duration::from_millis(10);
/// Woken at once: where thousands have waited in vain, the others have their turn in between.
const WOKEN: usize = 2;
/// How many sweeps in a row find nothing before they stop: starting them anew costs more than a few idle ones.
const IDLE_TICKS: u32 = 100;

/// The deadlines of one worker. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Deadlines(Rc<Inner>);

/// A moment to come. Ready once it has passed; one without an end never is.
#[derive(Debug)]
pub(super) struct Deadline {
    inner: Rc<Inner>,
    key: Option<usize>,
}

/// The time was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

#[derive(Debug)]
struct Inner {
    waiting: RefCell<Slab<Entry>>,
    sweeping: Cell<bool>,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    passed: bool,
    waker: Option<Waker>,
}

// === impl Deadlines ===

impl Deadlines {
    pub(super) fn new() -> Self {
        Self(Rc::new(Inner {
            waiting: RefCell::default(),
            sweeping: Cell::new(false),
        }))
    }

    /// A deadline `span` from now; zero means never. Needs a `LocalSet` around it.
    pub(super) fn after(&self, span: Duration) -> Deadline {
        let inner = Rc::clone(&self.0);
        if span.is_zero() {
            return Deadline { inner, key: None };
        }
        if !inner.sweeping.get() {
            inner.sweeping.set(true);
            tokio::task::spawn_local(sweep(Rc::clone(&inner)));
        }
        let at = clock::now() + span;
        let key = inner.waiting.borrow_mut().insert(Entry {
            at,
            passed: false,
            waker: None,
        });
        Deadline {
            inner,
            key: Some(key),
        }
    }

    /// The result of a future, if it comes before `span` is over; zero means no limit.
    pub(super) async fn within<F: Future>(
        &self,
        span: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut deadline: Option<Deadline> = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let deadline = deadline.get_or_insert_with(|| self.after(span));
            Pin::new(deadline).poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

impl Inner {
    // Wakes some of those whose time is up, from a place on; the next place, if there is one.
    fn wake_passed(&self, from: usize, now: Instant) -> Option<usize> {
        let mut waiting = self.waiting.borrow_mut();
        let mut woken = 0;
        for key in from..waiting.capacity() {
            let Some(entry) = waiting.get_mut(key) else {
                continue;
            };
            if !entry.passed && entry.at <= now {
                entry.passed = true;
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                    woken += 1;
                }
            }
            if woken == WOKEN {
                return Some(key + 1);
            }
        }
        None
    }
}

async fn sweep(inner: Rc<Inner>) {
    let mut idle = 0;
    while idle < IDLE_TICKS {
        tokio::time::sleep(TICK).await;
        let mut place = inner.wake_passed(0, clock::now());
        while let Some(from) = place {
            tokio::task::yield_now().await;
            place = inner.wake_passed(from, clock::now());
        }
        idle = if inner.waiting.borrow().is_empty() {
            idle + 1
        } else {
            0
        };
    }
    inner.sweeping.set(false);
}

// === impl Deadline ===

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.key else {
            return Poll::Pending;
        };
        let mut waiting = self.inner.waiting.borrow_mut();
        let Some(entry) = waiting.get_mut(key) else {
            return Poll::Ready(());
        };
        if entry.passed {
            return Poll::Ready(());
        }
        match &mut entry.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.inner.waiting.borrow_mut().try_remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn a_deadline_is_never_early_and_leaves_nothing_behind() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let deadlines = Deadlines::new();
                for span in [1, 15, 40].map(Duration::from_millis) {
                    let begin = clock::now();
                    let outcome = deadlines.within(span, pending::<()>()).await;
                    assert_eq!(outcome, Err(Elapsed));
                    assert!(clock::now() - begin >= span, "{span:?} was early");
                }
                assert!(deadlines.0.waiting.borrow().is_empty());
            })
            .await;
    }

    #[tokio::test]
    async fn what_is_ready_arms_nothing() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let deadlines = Deadlines::new();
                assert_eq!(
                    deadlines.within(Duration::from_secs(1), ready(7)).await,
                    Ok(7)
                );
                assert!(!deadlines.0.sweeping.get());
                let endless = deadlines.after(Duration::ZERO);
                assert!(!deadlines.0.sweeping.get());
                drop(endless);
            })
            .await;
    }
}
