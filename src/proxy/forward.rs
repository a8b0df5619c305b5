//! A request's way to an answer: balance, connect, send; again where nothing was sent; over to baseline.
//!
//! The one wait of a request. What follows a failure is decided in `next`, which is pure; the loop carries it out.
//! Before each canary attempt the weight's epoch is compared: a retreat that was published is obeyed.

mod head;

use std::rc::Rc;
use std::time::Instant;

use http::{Request, Response, StatusCode, response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::answer::{Download, Opening, Stream, discard};
use super::body::Upload;
use super::choose::{self, Choice};
use super::deadline::Elapsed;
use super::grpc::Call;
use super::headers;
use super::next::{Failure, Next, Situation, next};
use super::order::Order;
use super::outcome::{Ledger, Trial, class_of};
use super::passage::{Agreed, Passage};
use super::refusal::Refusal;
use super::respond::Fault;
use super::stay::OnCanary;
use super::upgrade::Asked;
use super::worker::Worker;
use crate::clock;
use crate::config::Failover;
use crate::live::{Held, PoolIndex, RolloutIndex};
use crate::proxy_protocol::Introduction;
use crate::rollout::name::Arm;
use crate::rollout::rehearsal as inject;
use crate::rollout::slot::Class;
use crate::telemetry::{Attempt, Tally};
use crate::upstream::admission::{Overloaded, Place};
use crate::upstream::connect::{ConnectError, Connection, Patience, Way};
use crate::upstream::eject::Failing;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::pool::Ask;

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
}

/// What follows the head of an answer.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is a download, and a box would cost each of them"
)]
pub(super) enum Passed {
    Download(Download),
    /// The head is the client's already.
    Tunnel(Box<Passage>),
}

type Reply = (response::Parts, Passed);

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

    // One attempt, from the choice of an endpoint to the answer's head.
    async fn attempt(&mut self, order: &mut Order) -> Result<Reply, Failure> {
        if self.has_retreated(order) {
            return Err(Failure::Retreated);
        }
        let held = Rc::clone(&self.held);
        let pool = held.pool(self.pool);
        if !pool.is_found() {
            let found = self
                .worker
                .deadlines
                .within(pool.timeouts.connect, pool.until_found());
            if found.await == Err(Elapsed) {
                tracing::debug!(pool = %pool.name, "its name was not looked up in time");
            }
        }
        let admitted = self.worker.admit(held.pool(self.pool).admission()).await;
        let has_waited = matches!(admitted, Ok((_, true)));
        if has_waited && self.has_retreated(order) {
            return Err(Failure::Retreated);
        }
        let is_first = self.kind == Attempt::First && !self.is_resent && !has_waited;
        let now = if is_first { self.began } else { clock::now() };
        let mut trial = Trial::begin(&self.ledger, self, order.source.as_ref(), now);
        match admitted {
            Ok((place, _)) => trial.hold(place),
            Err(Overloaded) => {
                trial.fail(None);
                return Err(Failure::Overloaded);
            }
        }
        if order.asked.is_some() && held.pool(self.pool).transport.is_http2() {
            // What a learner asks for says nothing of an arm.
            trial.withdraw();
            self.ledger.forget();
            return Err(Failure::NoTunnel);
        }
        let connection = match self.connection(order, now).await {
            Ok(connection) => connection,
            Err(failure) => {
                let is_timeout = failure == Failure::ConnectTimeout;
                let waited = clock::now().saturating_duration_since(now);
                trial.fail(is_timeout.then_some(waited));
                return Err(failure);
            }
        };
        if connection.reused() {
            trial.sent(connection.endpoint().begin(), now);
        } else {
            // Connecting took time.
            if self.has_retreated(order) {
                trial.withdraw();
                self.worker.connections.give_back(connection, now);
                return Err(Failure::Retreated);
            }
            trial.sent(connection.endpoint().begin(), clock::now());
        }
        self.send(order, trial, connection).await
    }

    async fn connection(
        &mut self,
        order: &Order,
        now: Instant,
    ) -> Result<Connection<Upload>, Failure> {
        let held = Rc::clone(&self.held);
        let pool = held.pool(self.pool);
        let roster = pool.roster();
        let ask = Ask {
            tried: &self.tried,
            random: rand::random(),
            key: self.key,
            now,
        };
        let endpoint = pool.pick(&roster, ask).ok_or(Failure::NoEndpoint)?;
        let connections = &self.worker.connections;
        let patience = Patience::of(&pool.timeouts, endpoint, order.is_idempotent, now);
        let way = Way {
            transport: &pool.transport,
            endpoint,
            whose: &self.whose,
        };
        if !self.is_resent {
            while let Some(connection) = connections.take(way, now, patience) {
                // What may be sent once only is not sent into a connection that its server has just closed. HTTP/2 says
                // what was not processed.
                let may_go = order.is_idempotent || connection.is_shared();
                if may_go || connection.is_still_ready().await {
                    return Ok(connection);
                }
            }
        }
        match self
            .worker
            .deadlines
            .within(pool.timeouts.connect, connections.connect(way, patience))
            .await
        {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no connection");
                pool.note(endpoint, Some(Failing::Connect), now, clock::now());
                self.tried.push(endpoint.id());
                Err(self.unconnected(&error))
            }
            Err(Elapsed) => {
                tracing::debug!(endpoint = endpoint.address(), "no connection in time");
                pool.note(endpoint, Some(Failing::Connect), now, clock::now());
                self.tried.push(endpoint.id());
                Err(Failure::ConnectTimeout)
            }
        }
    }

    async fn send(
        &mut self,
        order: &mut Order,
        mut trial: Trial,
        mut connection: Connection<Upload>,
    ) -> Result<Reply, Failure> {
        let held = Rc::clone(&self.held);
        let pool = held.pool(self.pool);
        let (endpoint, hold) = (connection.endpoint(), connection.hold());
        // A stream that was not processed does not come back, whatever its method.
        let may_repeat = connection.is_shared()
            || order.is_replayable()
                && (connection.reused() || self.canary.is_some() || self.retries_left > 0);
        let request = if may_repeat {
            order.copy(pool, endpoint, hold)
        } else {
            order.give(pool, endpoint, hold)
        };
        let (limit, is_cut_short) = self.head_limit(order, &trial, endpoint.id());
        let injected = self.injected();
        if injected.is_some() {
            trial.acquit();
        }
        let sending = async {
            let answer = connection.send(request).await;
            if let Some(inject::Fault::Latency(more)) = injected {
                self.worker.deadlines.after(more).await;
            }
            answer
        };
        let answer = self.head_within(limit, &trial, sending).await;
        let now = clock::now();
        match answer {
            Ok(Ok(_)) if injected == Some(inject::Fault::Reset) => {
                trial.fail(None);
                self.tried.push(connection.endpoint().id());
                Err(Failure::Reset)
            }
            Ok(Ok(mut answer)) => {
                if injected == Some(inject::Fault::Error) {
                    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                self.answered(order, trial, connection, answer, now)
            }
            Ok(Err(error)) => Err(self.refused(order, trial, &connection, error)),
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

    fn answered(
        &mut self,
        order: &mut Order,
        mut trial: Trial,
        connection: Connection<Upload>,
        answer: Response<Incoming>,
        now: Instant,
    ) -> Result<Reply, Failure> {
        connection.link().heard();
        for _ in 0..connection.link().take_informational() {
            self.worker.recorder.tally(Tally::InformationalDropped);
        }
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switched(order, trial, connection, answer, now);
        }
        let (parts, incoming) = answer.into_parts();
        trial.saw(parts.status);
        let is_mistaken = |asked: &Asked| asked.is_mistaken(parts.status);
        if parts.status.is_informational() || order.asked.as_ref().is_some_and(is_mistaken) {
            trial.fail(None);
            self.tried.push(connection.endpoint().id());
            return Err(Failure::BadAnswer);
        }
        let latency = trial.head_latency(now);
        let call = order
            .is_call
            .then(|| Call::answered(parts.status, &parts.headers));
        let call = call.flatten();
        let errors = self
            .rollout
            .map_or(&[][..], |index| &self.held.rollout(index).error_statuses);
        let class = class_of(parts.status, errors);
        let has_failed =
            parts.status.is_server_error() || call.is_some_and(|call| call.has_failed());
        if has_failed && self.is_replaced(order, now) {
            let class = call.map_or(class, |call| call.class());
            trial.conclude(class, Some(latency), now);
            discard(&self.worker, incoming, connection, now);
            return Err(Failure::Status);
        }
        let source = order.source.clone();
        if let Some(source) = &source {
            source.answered();
        }
        let idle_limit = self.held.pool(self.pool).timeouts.body_idle;
        let is_stream = call.is_some() || headers::is_stream(&parts.headers);
        let stream = is_stream.then(|| Stream::new(self.on_canary(&trial)));
        let shadow = order.shadow.take().filter(|_| !is_stream);
        let shadow = shadow.map(|shadow| shadow.beside(&parts));
        let opening = Opening {
            incoming,
            connection,
            trial,
            source,
            class,
            call,
            latency,
            now,
            idle_limit,
            stream,
            shadow,
        };
        let download = Download::new(&self.worker, opening);
        Ok((parts, Passed::Download(download)))
    }

    // A 101, which has to grant what was asked.
    fn switched(
        &mut self,
        order: &Order,
        mut trial: Trial,
        connection: Connection<Upload>,
        mut answer: Response<Incoming>,
        now: Instant,
    ) -> Result<Reply, Failure> {
        let endpoint = hyper::upgrade::on(&mut answer);
        let (mut parts, _) = answer.into_parts();
        let granted = order
            .asked
            .as_ref()
            .and_then(|asked| Some((asked, asked.granted(&parts)?)));
        let Some((asked, chosen)) = granted else {
            trial.fail(None);
            self.tried.push(connection.endpoint().id());
            return Err(Failure::BadAnswer);
        };
        headers::strip_answer_hops(&mut parts.headers);
        asked.grant(&mut parts, chosen);
        let agreed = Agreed {
            latency: trial.head_latency(now),
            canary: self.on_canary(&trial),
            trial,
            link: connection.switch(),
            endpoint,
            class: Class::Ok,
            now,
        };
        let passage = Passage::new(&self.worker, agreed);
        Ok((parts, Passed::Tunnel(Box::new(passage))))
    }

    // Whom a retreat would take off this pool.
    fn on_canary(&self, trial: &Trial) -> Option<OnCanary> {
        let (index, choice) = self.canary?;
        let rollout = self.held.rollout(index);
        let segment = trial
            .segment()
            .and_then(|id| rollout.meter.segment_name(id));
        Some(OnCanary::new(rollout, choice, segment))
    }

    // Why hyper gave no answer.
    fn refused(
        &mut self,
        order: &mut Order,
        mut trial: Trial,
        connection: &Connection<Upload>,
        mut error: TrySendError<Request<Upload>>,
    ) -> Failure {
        let unsent = error.take_message();
        let error = error.into_error();
        tracing::debug!(%error, endpoint = connection.endpoint().address(), "no answer");
        if let Some(fault) = order.source.as_ref().and_then(|source| source.fault()) {
            trial.withdraw();
            return Failure::Client(fault);
        }
        let refusal = Refusal::of(&error);
        connection.retire();
        let was_unsent = unsent.is_some();
        if let Some(request) = unsent
            && !connection.is_shared()
        {
            order.take_back(request, self.held.pool(self.pool));
        }
        let not_processed = refusal == Refusal::NotProcessed && order.is_whole();
        let is_stale = connection.reused() && !connection.answered() && refusal == Refusal::Broken;
        if is_stale {
            connection.note_stale();
        }
        let goes_again = was_unsent || not_processed || is_stale && order.is_replayable();
        if !self.is_resent && goes_again {
            trial.withdraw();
            self.worker.recorder.tally(Tally::StaleConnection);
            return Failure::Stale;
        }
        trial.fail(None);
        self.tried.push(connection.endpoint().id());
        if was_unsent {
            return Failure::ConnectFailed;
        }
        if connection.link().is_endless() {
            return Failure::BadAnswer;
        }
        match refusal {
            Refusal::Malformed => Failure::BadAnswer,
            Refusal::NotTrusted if !connection.reused() => {
                self.worker.recorder.tally(Tally::UpstreamTlsFailed);
                Failure::NotTrusted
            }
            Refusal::NotProcessed | Refusal::Refused if order.is_whole() => Failure::Refused,
            Refusal::NotProcessed | Refusal::Refused | Refusal::NotTrusted | Refusal::Broken => {
                Failure::Reset
            }
        }
    }

    fn unconnected(&self, error: &ConnectError) -> Failure {
        match error {
            ConnectError::Tls { .. } => {
                self.worker.recorder.tally(Tally::UpstreamTlsFailed);
                Failure::TlsFailed
            }
            ConnectError::Timeout { .. } => Failure::ConnectTimeout,
            ConnectError::Refused { .. } | ConnectError::Handshake { .. } => Failure::ConnectFailed,
        }
    }

    // Compares the epoch. Where the split was replaced, the arm is chosen anew, and the request goes on under the new
    // table; whether it left canary.
    fn has_retreated(&mut self, order: &Order) -> bool {
        let Some((index, choice)) = self.canary else {
            return false;
        };
        let held = Rc::clone(&self.held);
        let known = held.rollout(index);
        if known.epoch_now() == known.split.epoch {
            return false;
        }
        let table = self.worker.table();
        // A rollout that is gone has no canary any more.
        let Some(found) = table.find_rollout(&known.name) else {
            self.ledger.forget();
            self.go_to_baseline(index);
            return true;
        };
        let choice = choose::again(table.rollout(found), order.asker(), choice);
        self.held = Rc::clone(&table);
        self.rollout = Some(found);
        let still_counts = self.ledger.reassign(&table, found, choice.arm);
        if choice.arm == Arm::Canary {
            self.canary = Some((found, choice));
            self.pool = table.rollout(found).pool(Arm::Canary);
            return false;
        }
        let kind = self.kind;
        self.go_to_baseline(found);
        if still_counts {
            self.kind = kind;
        }
        true
    }

    fn go_to_baseline(&mut self, rollout: RolloutIndex) {
        self.canary = None;
        self.pool = self.held.rollout(rollout).pool(Arm::Baseline);
        self.kind = Attempt::Failover;
        self.tried.clear();
        self.retries_left = self.held.pool(self.pool).retries;
        self.is_resent = false;
    }

    // What a rehearsal does to this attempt. Pinned and forced requests are testers' own.
    fn injected(&self) -> Option<inject::Fault> {
        let (index, _) = self.canary.filter(|(_, choice)| choice.counts())?;
        let injection = self.held.rollout(index).injection?;
        injection.draw(rand::random())
    }

    fn failover(&self) -> Option<Failover> {
        self.canary
            .map(|(index, _)| self.held.rollout(index).failover)
    }

    fn is_replaced(&self, order: &Order, now: Instant) -> bool {
        let Some((index, _)) = self.canary else {
            return false;
        };
        self.held.rollout(index).failover.status_5xx
            && order.is_replayable()
            && self.worker.take_failover(index, now)
    }

    fn situation(&self, order: &Order, failure: Failure) -> Situation {
        Situation {
            failure,
            failover: self.failover(),
            is_replayable: order.is_replayable(),
            retries_left: self.retries_left,
            has_untried: self.held.pool(self.pool).has_untried(&self.tried),
        }
    }

    fn turn(&mut self, next: Next, failure: Failure) -> Result<(), Fault> {
        match (next, self.canary) {
            (Next::Resend, _) => self.is_resent |= failure == Failure::Stale,
            (Next::Retry, _) => {
                self.begin_retry();
            }
            (Next::Repeat, _) if self.is_over(clock::now()) => return Err(failure.fault()),
            (Next::Repeat, _) => {
                let share = self.held.pool(self.pool).config().retries.budget;
                if !self.worker.take_retry(self.pool, share, clock::now()) {
                    self.worker.recorder.tally(Tally::RetryRefused);
                    return Err(failure.fault());
                }
                self.begin_retry();
            }
            (Next::Reroute, Some((rollout, _))) => self.go_to_baseline(rollout),
            (Next::FailOver, Some((rollout, _)))
                if self.worker.take_failover(rollout, clock::now()) =>
            {
                self.go_to_baseline(rollout);
            }
            (Next::Reroute | Next::FailOver | Next::GiveUp, _) => return Err(failure.fault()),
        }
        Ok(())
    }

    fn begin_retry(&mut self) {
        self.retries_left -= 1;
        self.kind = Attempt::Retry;
    }

    // Whether the whole request has had its time.
    fn is_over(&self, now: Instant) -> bool {
        let limit = self.held.pool(self.pool).timeouts.request;
        !limit.is_zero() && now.saturating_duration_since(self.began) >= limit
    }
}
