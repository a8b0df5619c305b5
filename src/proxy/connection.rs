//! The life of one client's connection, and the sweep that ends those whose time is up.
//!
//! One sweep per worker looks at every connection ten times a second; no connection has a timer of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
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

use super::http2::{self, Streams};
use super::io::{Accepted, Meter, Phase};
use super::passage::{End, Passage};
use super::respond::{self, Fault};
use super::service::{Client, handle};
use super::stay::Over;
use super::transport::Transport;
use super::visit;
use super::worker::Worker;
use crate::config::{Limits, ServerTimeouts};
use crate::rollout::time::millis;
use crate::telemetry::Tally;
use crate::tls;

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

/// A connection's place in the registry, for as long as it lives.
pub(super) struct Place {
    worker: Rc<Worker>,
    key: usize,
    slot: Rc<Slot>,
}

/// Serves a client's connection to its end, with TLS where the listener speaks it.
pub(super) async fn serve(
    place: Place,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<tls::Listener>>,
) {
    let stream = match &tls {
        None => Transport::Plain(stream),
        // On the heap: it is short, and the connection is not.
        Some(listener) => match Box::pin(secure(&place, stream, listener)).await {
            Some(stream) => stream,
            None => return,
        },
    };
    let worker = Rc::clone(&place.worker);
    let meter = Arc::clone(&place.slot.meter);
    let client = Client::new(&worker, &meter, peer, stream.secured(tls.as_ref()));
    let limits = worker.table().rules().limits;
    if stream.chose_http2() {
        let io = Accepted::new(stream, meter, limits);
        Box::pin(serve_http2(place, client, io, peer)).await;
        return;
    }
    let service = {
        let client = Rc::clone(&client);
        service_fn(move |request| handle(Rc::clone(&client), request, None))
    };
    let io = TokioIo::new(Accepted::new(stream, Arc::clone(&meter), limits));
    let mut connection = builder(&limits).serve_connection(io, service);
    let mut is_broken = false;
    let cut = poll_fn(|cx| {
        if let Some(cut) = place.slot.cut.get() {
            return Poll::Ready(Some(cut));
        }
        place.slot.listen(cx.waker());
        Pin::new(&mut connection).poll(cx).map(|ended| {
            if let Err(error) = ended {
                is_broken = true;
                tracing::debug!(%error, %peer, "a client's connection ended");
            }
            None
        })
    })
    .await;
    // Only behind a 101 that was written whole are bytes the tunnel's.
    if let Some((passage, turn)) = client.take_switched()
        && cut.is_none()
        && !is_broken
    {
        let parts = connection.into_parts();
        let io = parts.io.into_inner().into_tunnel(&parts.read_buf);
        // On the heap, as well.
        Box::pin(serve_tunnel(place, *passage, io)).await;
        drop(turn);
        return;
    }
    if cut.is_none() && meter.is_http2() {
        let io = connection.into_parts().io.into_inner();
        // On the heap, so that a connection of HTTP/1 is not as large.
        Box::pin(serve_http2(place, client, io, peer)).await;
        return;
    }
    let refusal = if cut == Some(Cut::SlowHead) {
        Some(Fault::ClientTimeout)
    } else {
        meter.refusal()
    };
    let io = connection.into_parts().io.into_inner();
    let is_left_open = cut.is_none() && io.asked_upgrade();
    let mut stream = io.into_stream();
    if let Some(fault) = refusal {
        worker
            .recorder
            .record_answer(fault.status().as_u16(), Some(fault.reason()));
        visit::tell_refused(&worker, peer.ip(), fault.status(), fault.reason());
        refuse(stream, fault).await;
    } else if cut == Some(Cut::Reset) {
        reset(&stream);
    } else if meter.is_unread() {
        linger(stream).await;
    } else if is_left_open {
        // hyper leaves this to whom it would have given the connection.
        close(&mut stream).await;
    }
}

// The handshake, which has to end as early as a first byte has to come.
async fn secure(place: &Place, stream: TcpStream, listener: &tls::Listener) -> Option<Transport> {
    let mut handshake = pin!(Transport::secure(stream, listener));
    let secured = poll_fn(|cx| {
        if let Some(cut) = place.slot.cut.get() {
            return Poll::Ready(Err(format!("cut: {cut:?}")));
        }
        place.slot.listen(cx.waker());
        let made = handshake.as_mut().poll(cx);
        made.map_err(|error| error.to_string())
    })
    .await;
    match secured {
        Ok(stream) => {
            place.slot.meter.enter(Phase::Fresh);
            Some(stream)
        }
        Err(why) => {
            place.worker.recorder.tally(Tally::HandshakeFailed);
            tracing::debug!(%why, "no TLS");
            None
        }
    }
}

async fn serve_http2(place: Place, client: Rc<Client>, io: Accepted<Transport>, peer: SocketAddr) {
    let worker = Rc::clone(&place.worker);
    let table = worker.table();
    let io = TokioIo::new(io.into_http2());
    let cut = http2::serve(&place, client, io, &table.rules().limits, peer).await;
    if place.slot.meter.is_flood() {
        worker.recorder.tally(Tally::FrameFlood);
        tracing::debug!(%peer, "a flood of HTTP/2 frames");
    } else if let Some(cut) = cut {
        tracing::debug!(?cut, %peer, "a client's HTTP/2 connection was cut");
    }
}

async fn serve_tunnel(place: Place, passage: Passage, mut io: Accepted<Transport>) {
    let end = {
        let mut passing = pin!(passage.run(&mut io));
        poll_fn(|cx| {
            if let Poll::Ready(end) = passing.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            place.slot.listen(cx.waker());
            match place.slot.cut.get() {
                Some(_) => Poll::Ready(End::ClientLost),
                None => Poll::Pending,
            }
        })
        .await
    };
    let stream = io.into_stream();
    match end {
        End::Closed | End::Over(Over::Leaving) => {}
        End::Over(Over::Idle | Over::Retreated) => linger(stream).await,
        End::ClientLost | End::EndpointLost | End::Over(Over::Unread) => reset(&stream),
    }
}

async fn close(stream: &mut Transport) {
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, stream.shutdown()).await {
        tracing::debug!(%error, "a client was gone at the end");
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

async fn refuse(mut stream: Transport, fault: Fault) {
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
async fn linger(mut stream: Transport) {
    let mut scrap = [0; 4096];
    let drained = tokio::time::timeout(LINGER, async {
        while let Ok(1..) = stream.read(&mut scrap).await {}
    });
    if drained.await.is_err() {
        tracing::debug!("a refused client goes on sending");
    }
}

fn reset(stream: &Transport) {
    if let Err(error) = SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection could not be reset and is closed");
    }
}

// === impl Registry ===

impl Registry {
    pub(super) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Ends every connection whose time is up. `draining`: since when the worker leaves.
    pub(super) fn sweep(
        &self,
        timeouts: &ServerTimeouts,
        draining: Option<Duration>,
        worker: &Worker,
    ) {
        for (_, slot) in self.slots.borrow().iter() {
            let meter = &slot.meter;
            let cut = if let Some(streams) = &*slot.streams.borrow() {
                streams.sweep(timeouts.write_idle, worker);
                judge_http2(&slot.state(), timeouts, draining)
            } else {
                judge(
                    meter.phase(),
                    meter.phase_age(),
                    meter.write_blocked(),
                    timeouts,
                    draining,
                )
            };
            if let Some(cut) = cut {
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
    let is_over = |age: Option<u32>, limit: Duration| {
        age.is_some_and(|age| !limit.is_zero() && u64::from(age) >= millis(limit))
    };
    if is_over(state.write_blocked, timeouts.write_idle) || is_over(state.partial, timeouts.head) {
        return Some(Cut::Reset);
    }
    let Some(told) = state.told else {
        let has_to_go = draining.is_some() || is_over(state.idle, timeouts.keep_alive);
        return has_to_go.then_some(Cut::GoAway);
    };
    // hyper ends it once the client has answered; one that does not answer any more has its grace.
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

    fn end(&self, cut: Cut) {
        if self.cut.get().is_none_or(|cut| cut == Cut::GoAway) {
            self.cut.set(Some(cut));
            if let Some(waker) = &*self.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }

    fn state(&self) -> Http2State {
        let meter = &self.meter;
        let now = meter.clock().now();
        Http2State {
            idle: (meter.phase() == Phase::Idle).then(|| meter.phase_age()),
            partial: meter.partial_age(),
            write_blocked: meter.write_blocked(),
            told: self.told.get().map(|at| now.saturating_sub(at)),
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
            streams: RefCell::default(),
            told: Cell::default(),
        });
        let key = worker.registry.slots.borrow_mut().insert(Rc::clone(&slot));
        worker.recorder.tally(Tally::ConnectionAccepted);
        Self {
            worker: Rc::clone(worker),
            key,
            slot,
        }
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

    /// Wakes this task when the connection is to end.
    pub(super) fn listen(&self, waker: &Waker) {
        self.slot.listen(waker);
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
