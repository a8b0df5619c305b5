//! The life of one client's connection, and the sweep that ends those whose time is up.
//!
//! One sweep per worker looks at every connection ten times a second; no connection has a timer of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use slab::Slab;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::io::{Accepted, Meter, Phase};
use super::respond::{self, Fault};
use super::service::{Client, handle};
use super::worker::Worker;
use crate::config::{Limits, ServerTimeouts};
use crate::rollout::time::millis;
use crate::telemetry::Tally;

/// Most that hyper holds of one message at a time, beside a head: bounds the memory of a slow reader.
const BUFFER: usize = 64 * 1024;
/// hyper reads up to 100 headers from the stack, more from the heap.
const HEADERS_ON_STACK: usize = 100;
/// Most headers read where the configuration has no limit.
const HEADERS_MAX: usize = 4096;
/// How long a client that was refused is listened to, so that it reads the answer and not a reset.
const LINGER: Duration = Duration::from_secs(1);
/// How many idle connections are picked for closing in one look at all of them.
const EVICT_BATCH: usize = 64;

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: RefCell<Slab<Rc<Slot>>>,
    /// Idle ones to be closed first, oldest last.
    evictable: RefCell<Vec<usize>>,
}

/// One connection as the sweep sees it.
#[derive(Debug)]
struct Slot {
    meter: Arc<Meter>,
    waker: RefCell<Option<Waker>>,
    cut: Cell<Option<Cut>>,
}

/// How a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing is under way.
    Close,
    /// A head that does not end: 408.
    SlowHead,
    /// The client does not read, or the drain is over.
    Reset,
}

/// A connection's place in the registry, for as long as it lives.
pub(super) struct Place {
    worker: Rc<Worker>,
    key: usize,
    slot: Rc<Slot>,
}

/// Serves a client's connection to its end.
pub(super) async fn serve(place: Place, stream: TcpStream, peer: SocketAddr) {
    let worker = Rc::clone(&place.worker);
    let meter = Arc::clone(&place.slot.meter);
    let client = Client::new(&worker, &meter, peer);
    let service = service_fn(move |request| handle(Rc::clone(&client), request));
    let io = TokioIo::new(Accepted::new(stream, Arc::clone(&meter)));
    let mut connection = builder(&worker.table().rules().limits).serve_connection(io, service);
    let cut = poll_fn(|cx| {
        if let Some(cut) = place.slot.cut.get() {
            return Poll::Ready(Some(cut));
        }
        place.slot.listen(cx.waker());
        Pin::new(&mut connection).poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "a client's connection ended");
            }
            None
        })
    })
    .await;
    let refusal = if cut == Some(Cut::SlowHead) {
        Some(Fault::ClientTimeout)
    } else {
        meter.refusal()
    };
    let stream = connection.into_parts().io.into_inner().into_stream();
    if let Some(fault) = refusal {
        worker
            .recorder
            .record_answer(fault.status().as_u16(), Some(fault.reason()));
        refuse(stream, fault).await;
    } else if cut == Some(Cut::Reset) {
        reset(&stream);
    } else if meter.is_unread() {
        linger(stream).await;
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .preserve_header_case(true)
        .max_buf_size(BUFFER.max(limits.head_bytes + BUFFER / 4));
    if limits.head_bytes != 0 {
        builder.max_header_size(limits.head_bytes);
    }
    match limits.headers {
        0 => _ = builder.max_headers(HEADERS_MAX),
        count if count > HEADERS_ON_STACK => _ = builder.max_headers(count),
        _ => {}
    }
    builder
}

async fn refuse(mut stream: TcpStream, fault: Fault) {
    let written = tokio::time::timeout(LINGER, async {
        stream.write_all(&respond::bytes(fault)).await?;
        stream.shutdown().await
    });
    match written.await {
        Ok(Ok(())) => linger(stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "a refused client is gone"),
        Err(_) => reset(&stream),
    }
}

// Reads and forgets what the client still sends: closing now would reset the connection and lose the answer.
async fn linger(mut stream: TcpStream) {
    let mut scrap = [0; 4096];
    let drained = tokio::time::timeout(LINGER, async {
        while let Ok(1..) = stream.read(&mut scrap).await {}
    });
    if drained.await.is_err() {
        tracing::debug!("a refused client goes on sending");
    }
}

fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection could not be reset and is closed");
    }
}

// === impl Registry ===

impl Registry {
    pub(super) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Ends every connection whose time is up. `draining`: since when the worker leaves.
    pub(super) fn sweep(&self, timeouts: &ServerTimeouts, draining: Option<Duration>) {
        for (_, slot) in self.slots.borrow().iter() {
            let meter = &slot.meter;
            if let Some(cut) = judge(
                meter.phase(),
                meter.phase_age(),
                meter.write_blocked(),
                timeouts,
                draining,
            ) {
                slot.end(cut);
            }
        }
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
    let over = |age: u32, limit: Duration| !limit.is_zero() && u64::from(age) >= millis(limit);
    if write_blocked.is_some_and(|blocked| over(blocked, timeouts.write_idle)) {
        return Some(Cut::Reset);
    }
    let has_left = draining.is_some_and(|since| since >= timeouts.idle_grace);
    match phase {
        Phase::Fresh => (has_left || over(age, timeouts.first_byte)).then_some(Cut::Close),
        Phase::Head => over(age, timeouts.head).then_some(Cut::SlowHead),
        Phase::Idle => (has_left || over(age, timeouts.keep_alive)).then_some(Cut::Close),
        Phase::Busy | Phase::Finishing => None,
    }
}

// === impl Slot ===

impl Slot {
    fn listen(&self, waker: &Waker) {
        match &mut *self.waker.borrow_mut() {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn end(&self, cut: Cut) {
        if self.cut.get().is_none() {
            self.cut.set(Some(cut));
            if let Some(waker) = &*self.waker.borrow() {
                waker.wake_by_ref();
            }
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
        });
        let key = worker.registry.slots.borrow_mut().insert(Rc::clone(&slot));
        worker.recorder.tally(Tally::ConnectionAccepted);
        Self {
            worker: Rc::clone(worker),
            key,
            slot,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.registry.slots.borrow_mut().try_remove(self.key);
        self.worker.recorder.tally(Tally::ConnectionClosed);
        self.worker.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_limit() {
        let timeouts = ServerTimeouts {
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
