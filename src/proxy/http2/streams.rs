//! The streams of one connection that are being served: who serves each, and since when its client takes nothing.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::task::AbortHandle;

use crate::proxy::coarse::is_over;
use crate::proxy::meter::Meter;
use crate::proxy::worker::Worker;
use crate::telemetry::Tally;

/// The streams of one connection.
pub(in crate::proxy) struct Streams {
    meter: Arc<Meter>,
    open: RefCell<Slab<Stream>>,
}

#[derive(Default)]
struct Stream {
    task: Option<AbortHandle>,
    /// The coarse moment since which the client takes nothing of what is ready for it; `None` while it waits for us.
    blocked: Option<u32>,
}

/// One stream's place; it leaves the list when its answer is over.
pub(super) struct Lane {
    streams: Rc<Streams>,
    key: usize,
    is_blocked: bool,
}

// === impl Streams ===

impl Streams {
    pub(in crate::proxy) fn new(meter: &Arc<Meter>) -> Rc<Self> {
        Rc::new(Self {
            meter: Arc::clone(meter),
            open: RefCell::default(),
        })
    }

    /// A place for a new stream, which `spawn` begins to serve.
    pub(super) fn open(self: &Rc<Self>, spawn: impl FnOnce(Lane) -> AbortHandle) {
        let key = self.open.borrow_mut().insert(Stream::default());
        let task = spawn(Lane {
            streams: Rc::clone(self),
            key,
            is_blocked: false,
        });
        if let Some(stream) = self.open.borrow_mut().get_mut(key) {
            stream.task = Some(task);
        }
    }

    /// Resets every stream whose client has taken nothing for `limit`; zero = no limit.
    pub(in crate::proxy) fn sweep(&self, limit: Duration, worker: &Worker) {
        if limit.is_zero() {
            return;
        }
        let clock = self.meter.clock();
        let is_stalled = |stream: &Stream| {
            let since = stream.blocked;
            since.is_some_and(|since| is_over(clock.age(since), limit))
        };
        for (_, stream) in self.open.borrow_mut().iter_mut() {
            if is_stalled(stream)
                && let Some(task) = stream.task.take()
            {
                task.abort();
                worker.recorder.tally(Tally::StreamStalled);
            }
        }
    }

    pub(super) fn abort_all(&self) {
        for (_, stream) in self.open.borrow_mut().iter_mut() {
            if let Some(task) = stream.task.take() {
                task.abort();
            }
        }
    }

    fn note(&self, key: usize, blocked: Option<u32>) {
        if let Some(stream) = self.open.borrow_mut().get_mut(key) {
            stream.blocked = blocked;
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

// === impl Lane ===

impl Lane {
    /// The client takes nothing of what is ready for it, or does again.
    pub(super) fn set_blocked(&mut self, is_blocked: bool) {
        if self.is_blocked == is_blocked {
            return;
        }
        self.is_blocked = is_blocked;
        let since = is_blocked.then(|| self.streams.meter.clock().now());
        self.streams.note(self.key, since);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.streams.open.borrow_mut().try_remove(self.key);
    }
}
