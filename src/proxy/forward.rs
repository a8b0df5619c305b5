//! A request's way to an answer: balance, connect, send; again where nothing was sent; over to baseline.
//!
//! The one wait of a request. What follows a failure is decided in `next`, which is pure; the loop carries it out.
//! Before each canary attempt the weight's epoch is compared: a retreat that was published is obeyed.

mod answered;
mod connection;
mod head;
mod turn;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{StatusCode, response};

use super::body::Upload;
use super::choose::Choice;
use super::deadline::Elapsed;
use super::download::Download;
use super::next::{Failure, next};
use super::order::{Order, Sending};
use super::outcome::{Ledger, Trial};
use super::passage::Passage;
use super::respond::Fault;
use super::worker::Worker;
use crate::clock;
use crate::live::{Held, PoolIndex, RolloutIndex};
use crate::proxy_protocol::Introduction;
use crate::rollout::name::Arm;
use crate::rollout::rehearsal as inject;
use crate::telemetry::Attempt;
use crate::upstream::admission::{Overloaded, Place};
use crate::upstream::connect::Connection;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::http1::Spelling;

/// Where a request is on its way.
pub(super) struct Course {
    pub(super) worker: Rc<Worker>,
    pub(super) ledger: Rc<Ledger>,
    pub(super) held: Held,
    pub(super) pool: PoolIndex,
    pub(super) kind: Attempt,
    /// Where the pool is a canary arm's: of which rollout, and how the arm was chosen.
    canary: Option<(RolloutIndex, Choice)>,
    /// Statuses that the rollout counts as errors are looked up here.
    rollout: Option<RolloutIndex>,
    began: Instant,
    /// When its first attempt begins.
    now: Instant,
    /// Of the learner, for pools that hash.
    key: u64,
    whose: Introduction,
    tried: Vec<EndpointId>,
    retries_left: u32,
    /// Went again without counting as an attempt: that happens once, and on a fresh connection.
    is_resent: bool,
}

/// Where a request begins.
pub(super) struct Start {
    pub(super) worker: Rc<Worker>,
    pub(super) ledger: Rc<Ledger>,
    pub(super) held: Held,
    pub(super) pool: PoolIndex,
    pub(super) chosen: Option<(RolloutIndex, Choice)>,
    /// Of the learner, or of the client's address where no rollout says who that is.
    pub(super) key: u64,
    /// The client's connection, for pools that are told of it.
    pub(super) whose: Introduction,
    pub(super) began: Instant,
    /// The same, unless something was waited for meanwhile.
    pub(super) now: Instant,
}

/// What follows the head of an answer.
pub(super) enum Passed {
    Download(Box<Download>),
    /// The head is the client's already.
    Tunnel(Box<Passage>),
}

/// The head, how its names were written, and what follows it.
type Reply = (response::Parts, Spelling, Passed);

impl Passed {
    /// Keeps a place among all requests until it ends.
    pub(super) fn hold(&mut self, place: Option<Place>) {
        match self {
            Self::Download(download) => download.hold(place),
            Self::Tunnel(passage) => passage.hold(place),
        }
    }
}

/// Sends a request until an answer can be passed on.
pub(super) async fn forward(start: Start, mut order: Order) -> Result<Reply, Fault> {
    let mut course = Course::new(start);
    course.earn();
    loop {
        match course.attempt(&mut order).await {
            Ok(reply) => return Ok(reply),
            Err(failure) => {
                course.tell_failure(failure);
                let next = next(course.situation(&order, failure));
                course.turn(next, failure)?;
            }
        }
    }
}

// === impl Course ===

impl Course {
    fn new(start: Start) -> Self {
        let retries_left = start.held.pool(start.pool).retries;
        Self {
            worker: start.worker,
            ledger: start.ledger,
            held: start.held,
            pool: start.pool,
            kind: Attempt::First,
            canary: start.chosen.filter(|(_, choice)| choice.arm == Arm::Canary),
            rollout: start.chosen.map(|(rollout, _)| rollout),
            began: start.began,
            now: start.now,
            key: start.key,
            whose: start.whose,
            tried: Vec::new(),
            retries_left,
            is_resent: false,
        }
    }

    // What its pool carries is what its retries are measured by.
    fn earn(&self) {
        let share = self.held.pool(self.pool).config().retries.budget;
        self.worker.earn_retry(self.pool, share, self.began);
    }

    fn tell_attempt(&self) {
        if let Some(tries) = self.ledger.told() {
            tries.begin(&self.held.pool(self.pool).name);
        }
    }

    fn tell_failure(&self, failure: Failure) {
        if let Some(tries) = self.ledger.told().filter(|_| failure != Failure::Moved) {
            tries.fail(&self.held.pool(self.pool).name, failure);
        }
    }

    // One attempt, from the choice of an endpoint to the answer's head.
    async fn attempt(&mut self, order: &mut Order) -> Result<Reply, Failure> {
        self.follow(order);
        let held = Rc::clone(&self.held);
        let pool = held.pool(self.pool);
        let is_first = self.kind == Attempt::First && !self.is_resent;
        let mut now = if is_first { self.now } else { clock::now() };
        // Who leaves while this waits has waited for this pool.
        let mut trial = Trial::begin(&self.ledger, self, order.source.as_ref(), now);
        let mut has_waited = false;
        if !pool.is_found()
            && let Some(limit) = self.time_left(pool.timeouts.connect, now)
        {
            has_waited = true;
            let found = self.worker.deadlines.within(limit, pool.until_found());
            if found.await == Err(Elapsed) {
                tracing::debug!(pool = %pool.name, "its name was not looked up in time");
            }
        }
        let at_most = self.request_left(now);
        match self.worker.admit(pool.admission(), at_most).await {
            Ok((place, has_queued)) => {
                has_waited |= has_queued;
                trial.hold(place);
            }
            Err(Overloaded) => {
                trial.fail(None);
                return Err(Failure::Overloaded);
            }
        }
        if has_waited {
            if self.follow(order) {
                trial.withdraw();
                return Err(Failure::Moved);
            }
            now = clock::now();
        }
        if order.asked.is_some() && pool.transport.is_http2() {
            // What a learner asks for says nothing of an arm.
            trial.withdraw();
            self.ledger.forget();
            return Err(Failure::NoTunnel);
        }
        let (connection, now) = match self.connection(order, now).await {
            Ok(found) => found,
            Err(failure) => {
                self.tell_attempt();
                let is_timeout = failure == Failure::ConnectTimeout;
                let waited = clock::now().saturating_duration_since(now);
                trial.fail(is_timeout.then_some(waited));
                return Err(failure);
            }
        };
        if self.follow(order) {
            trial.withdraw();
            self.worker.connections.give_back(connection, now);
            return Err(Failure::Moved);
        }
        self.tell_attempt();
        trial.sent(connection.endpoint().begin(), now);
        self.send(order, trial, connection).await
    }

    async fn send(
        &mut self,
        order: &mut Order,
        mut trial: Trial,
        mut connection: Connection<Upload>,
    ) -> Result<Reply, Failure> {
        let held = Rc::clone(&self.held);
        let pool = held.pool(self.pool);
        let endpoint = Arc::clone(connection.endpoint());
        let (limit, is_cut_short) = self.head_limit(order, &trial, endpoint.id());
        let injected = self.injected();
        if injected.is_some() {
            trial.rehearse();
        }
        let answer = {
            let request = Sending {
                order,
                pool,
                endpoint: &endpoint,
                hold: connection.hold(),
            };
            let sending = async {
                let answer = connection.send(&request).await;
                if let Some(inject::Fault::Latency(more)) = injected {
                    self.worker.deadlines.after(more).await;
                }
                answer
            };
            self.head_within(limit, &trial, sending).await
        };
        let now = clock::now();
        match answer {
            Ok(Ok(_)) if injected == Some(inject::Fault::Reset) => {
                trial.fail(None);
                self.tried.push(connection.endpoint().id());
                Err(Failure::Reset)
            }
            Ok(Ok(mut answer)) => {
                if injected == Some(inject::Fault::Error) {
                    answer.head.status = StatusCode::INTERNAL_SERVER_ERROR;
                }
                self.answered(order, trial, connection, answer, now)
            }
            Ok(Err(unanswered)) => Err(self.refused(order, trial, &connection, unanswered)),
            Err(Elapsed) => {
                if is_cut_short {
                    trial.acquit();
                } else {
                    connection.suspect();
                }
                trial.fail(Some(now.saturating_duration_since(trial.began())));
                self.tried.push(connection.endpoint().id());
                Err(Failure::Timeout)
            }
        }
    }

    // What a rehearsal does to this attempt. Pinned and forced requests are testers' own.
    fn injected(&self) -> Option<inject::Fault> {
        let (index, _) = self.canary.filter(|(_, choice)| choice.counts())?;
        let injection = self.held.rollout(index).injection?;
        injection.draw(rand::random())
    }
}
