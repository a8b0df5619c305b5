//! What is recorded of a request, and that it is recorded once.
//!
//! Pool figures hold every attempt. Arm figures hold one outcome for each learner request, of its own arm: failed if
//! any attempt there failed, whatever a retry or failover made of it afterwards.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::body::{Progress, Source};
use super::forward::Course;
use super::trace::Tries;
use super::worker::Worker;
use crate::clock;
use crate::live::{Held, PoolIndex, RolloutIndex};
use crate::rollout::assign::LearnerHash;
use crate::rollout::name::Arm;
use crate::rollout::slot::{Class, Outcome};
use crate::telemetry::{
    ArmRecord, Attempt, AttemptRecord, PoolMeter, Recorder, SegmentId, TraceId,
};
use crate::upstream::admission::Place;
use crate::upstream::eject::Failing;
use crate::upstream::endpoint::InFlight;

/// How long a learner waits before leaving counts as an error, where no rollout says it.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a failure without a latency is worth to the balance: an endpoint that fails fast must not look fast.
const FAILURE_COST: Duration = Duration::from_secs(1);

/// How a request enters the arm figures: as it ended, or ended by a deadline.
type Write = fn(&Recorder, &ArmRecord<'_>);

/// A request's place in the arm figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnArm {
    pub(super) rollout: RolloutIndex,
    pub(super) arm: Arm,
    pub(super) segment: SegmentId,
    /// Of the split under which its first attempt begins.
    pub(super) epoch: u64,
    /// `None` where nothing identifies the learner.
    pub(super) learner: Option<LearnerHash>,
}

/// The records that one request still owes.
pub(super) struct Ledger {
    worker: Rc<Worker>,
    /// What is owed, with the table it refers to; `None` for no rollout, pinned, forced, or recorded already.
    owed: RefCell<Option<(Held, OwnArm)>>,
    /// Where its attempts are told, of a request that a span is made of.
    tries: OnceCell<Rc<Tries>>,
    trace: Cell<Option<TraceId>>,
}

/// One attempt under way. Dropped before it was concluded, the client is gone: that is recorded too.
pub(super) struct Trial {
    ledger: Rc<Ledger>,
    held: Held,
    pool: PoolIndex,
    kind: Attempt,
    is_open: bool,
    began: Instant,
    source: Option<Rc<Source>>,
    in_flight: Option<InFlight>,
    /// Taken among the requests of its pool.
    place: Option<Place>,
    /// Its end says nothing of the endpoint: canary cut short for baseline's sake, or a rehearsal's fault.
    is_unjust: bool,
    /// What it took says nothing either: a rehearsal's latency.
    is_rehearsed: bool,
    /// The endpoint answered 5xx.
    is_server_error: bool,
}

// === impl Ledger ===

impl Ledger {
    pub(super) fn new(worker: &Rc<Worker>, owed: Option<(Held, OwnArm)>) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(worker),
            owed: RefCell::new(owed),
            tries: OnceCell::new(),
            trace: Cell::new(None),
        })
    }

    /// Tells of each attempt there, from now on.
    pub(super) fn tell(&self, tries: &Rc<Tries>) {
        self.tries.get_or_init(|| Rc::clone(tries));
    }

    /// Who is told of attempts, if anybody is.
    pub(super) fn told(&self) -> Option<&Tries> {
        self.tries.get().map(|tries| &**tries)
    }

    /// The trace that the request belongs to.
    pub(super) fn traced(&self, trace: Option<TraceId>) {
        self.trace.set(trace);
    }

    /// The split was replaced before an attempt began: the request counts under the new one, if it was not counted
    /// before. Whether it was not.
    pub(super) fn reassign(&self, held: &Held, rollout: RolloutIndex, arm: Arm) -> bool {
        let mut owed = self.owed.borrow_mut();
        if let Some((table, own)) = owed.as_mut() {
            *table = Rc::clone(held);
            own.rollout = rollout;
            own.arm = arm;
            own.epoch = held.rollout(rollout).split.epoch;
        }
        owed.is_some()
    }

    /// The rollout is gone: nothing is owed to it.
    pub(super) fn forget(&self) {
        *self.owed.borrow_mut() = None;
    }

    fn segment(&self) -> Option<SegmentId> {
        self.owed.borrow().as_ref().map(|(_, own)| own.segment)
    }

    fn record(&self, outcome: Outcome, write: Write) {
        let Some((held, own)) = self.owed.borrow_mut().take() else {
            return;
        };
        let record = ArmRecord {
            rollout: &held.rollout(own.rollout).meter,
            arm: own.arm,
            segment: own.segment,
            epoch: own.epoch,
            outcome,
            learner: own.learner,
            trace: self.trace.get(),
        };
        write(&self.worker.recorder, &record);
    }

    fn patience(&self) -> Duration {
        let owed = self.owed.borrow();
        owed.as_ref()
            .map_or(PATIENCE, |(held, own)| held.rollout(own.rollout).patience)
    }
}

// === impl Trial ===

impl Trial {
    /// Begins the attempt that a request has come to.
    pub(super) fn begin(
        ledger: &Rc<Ledger>,
        course: &Course,
        source: Option<&Rc<Source>>,
        now: Instant,
    ) -> Self {
        Self {
            ledger: Rc::clone(ledger),
            held: Rc::clone(&course.held),
            pool: course.pool,
            kind: course.kind,
            is_open: true,
            began: now,
            source: source.cloned(),
            in_flight: None,
            place: None,
            is_unjust: false,
            is_rehearsed: false,
            is_server_error: false,
        }
    }

    /// The request is handed to the endpoint's connection now: waiting counts from here.
    pub(super) fn sent(&mut self, in_flight: InFlight, now: Instant) {
        self.in_flight = Some(in_flight);
        self.began = now;
    }

    /// The counters of the pool that was tried.
    pub(super) fn meter(&self) -> &PoolMeter {
        &self.held.pool(self.pool).meter
    }

    /// The segment that the request is counted in.
    pub(super) fn segment(&self) -> Option<SegmentId> {
        self.ledger.segment()
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// How long the endpoint has been waited for: from the last byte it was given; zero while the client is waited for.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        let since = match self.source.as_ref().map(|source| source.progress()) {
            None => self.began,
            Some(Progress::Finished(at) | Progress::Given(at)) => at.max(self.began),
            Some(Progress::Asking) => return Duration::ZERO,
        };
        now.saturating_duration_since(since)
    }

    /// The answer's head is here: how long it took from the request's last byte; zero where it came before that.
    pub(super) fn head_latency(&self, now: Instant) -> Duration {
        let latency = if self.is_sent() {
            self.waited(now)
        } else {
            Duration::ZERO
        };
        self.observe(latency, now);
        self.observe_pool(latency, now);
        latency
    }

    /// Keeps a place in its pool until it ends.
    pub(super) fn hold(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Whatever becomes of the attempt, the endpoint is not to blame.
    pub(super) fn acquit(&mut self) {
        self.is_unjust = true;
    }

    /// A rehearsal has its part in the attempt.
    pub(super) fn rehearse(&mut self) {
        self.acquit();
        self.is_rehearsed = true;
    }

    /// The endpoint answered with this status.
    pub(super) fn saw(&mut self, status: StatusCode) {
        self.is_server_error = status.is_server_error();
    }

    /// The attempt failed. `waited` where a deadline ended it.
    pub(super) fn fail(&mut self, waited: Option<Duration>) {
        let now = clock::now();
        self.observe(waited.unwrap_or(FAILURE_COST), now);
        if let Some(waited) = waited {
            self.observe_pool(waited, now);
        }
        let failing = match waited {
            Some(_) => Failing::Timeout,
            None => Failing::Reset,
        };
        self.note(Some(failing), now);
        let write = match waited {
            Some(_) => Recorder::record_timeout,
            None => Recorder::record,
        };
        self.close(Class::Failed, waited, write);
    }

    /// The attempt ended so, at `now`.
    pub(super) fn conclude(&mut self, class: Class, latency: Option<Duration>, now: Instant) {
        match class {
            Class::Ok | Class::ClientError | Class::Error | Class::Failed => {
                let failing = self.is_server_error.then_some(Failing::Status);
                self.note(failing, now);
            }
            // Who left did not wait to see.
            Class::Abandoned | Class::AbandonedLate => {}
        }
        self.close(class, latency, Recorder::record);
    }

    fn close(&mut self, class: Class, latency: Option<Duration>, write: Write) {
        if !self.is_open {
            return;
        }
        self.withdraw();
        let outcome = Outcome { class, latency };
        let pool = &self.held.pool(self.pool).meter;
        self.ledger.worker.recorder.record_attempt(&AttemptRecord {
            pool,
            attempt: self.kind,
            outcome,
            trace: self.ledger.trace.get(),
        });
        // What follows a failure finds nothing owed any more.
        self.ledger.record(outcome, write);
    }

    /// The attempt was none, or is not to be counted.
    pub(super) fn withdraw(&mut self) {
        self.is_open = false;
        self.in_flight = None;
        self.place = None;
    }

    // Tells the pool how the endpoint did.
    fn note(&self, failing: Option<Failing>, now: Instant) {
        if !self.is_open || self.is_unjust {
            return;
        }
        if let Some(in_flight) = &self.in_flight {
            let pool = self.held.pool(self.pool);
            pool.note(in_flight.endpoint(), failing, self.began, now);
        }
    }

    fn observe(&self, latency: Duration, now: Instant) {
        if let Some(in_flight) = self.in_flight.as_ref().filter(|_| !self.is_rehearsed) {
            in_flight.endpoint().observe(latency, now);
        }
    }

    // For the limit that follows latency.
    fn observe_pool(&self, latency: Duration, now: Instant) {
        if !self.is_rehearsed {
            self.held.pool(self.pool).admission().observe(latency, now);
        }
    }

    fn is_sent(&self) -> bool {
        let progress = self.source.as_ref().map(|source| source.progress());
        matches!(progress, None | Some(Progress::Finished(_)))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let now = clock::now();
        let waited = if self.is_sent() {
            self.waited(now)
        } else {
            Duration::ZERO
        };
        let is_late = waited > self.ledger.patience();
        let class = if is_late {
            Class::AbandonedLate
        } else {
            Class::Abandoned
        };
        self.conclude(class, is_late.then_some(waited), now);
    }
}

/// How an answer that came whole counts.
pub(super) fn class_of(status: StatusCode, error_statuses: &[u16]) -> Class {
    match status.as_u16() {
        502..=504 => Class::Failed,
        500.. => Class::Error,
        code if error_statuses.contains(&code) => Class::Error,
        400..=499 => Class::ClientError,
        _ => Class::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_count_as_the_table_says() {
        let check = |status: u16, expected: Class| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(class_of(status, &[404, 302]), expected, "{status}");
        };
        for ok in [200, 204, 301, 304, 399] {
            check(ok, Class::Ok);
        }
        for client_error in [400, 401, 403, 429, 499] {
            check(client_error, Class::ClientError);
        }
        for error in [500, 501, 505, 599, 404, 302] {
            check(error, Class::Error);
        }
        for failed in [502, 503, 504] {
            check(failed, Class::Failed);
        }
    }
}
