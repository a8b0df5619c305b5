//! A copy on its way: over a connection of its own, within its time, and what came of it.
//!
//! Once more only where a kept connection was closed under it. Its connections are shared with other copies alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http::header::HeaderName;
use http_body::Body;
use http_body_util::{BodyExt, Full};

use super::Shadow;
use super::compare::{self, Said};
use crate::clock;
use crate::proxy::order::addressed;
use crate::telemetry::{MirrorDifference, MirrorSample, Mirrored};
use crate::upstream::admission::Entry;
use crate::upstream::answer::Answer;
use crate::upstream::connect::{Connection, Outgoing, Patience, Way};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::http1::{RequestHead, Spelling};
use crate::upstream::pool::Ask;

/// How long a connection may take to be ready again after its answer was read.
const READY_PATIENCE: Duration = Duration::from_secs(1);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest path that is shown.
const PATH_SHOWN: usize = 256;

/// What canary answered.
struct Reply {
    /// Where answers are compared.
    said: Option<Said>,
    endpoint: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// Nothing was sent.
    Unsent,
    Failed,
}

type Line = Connection<Full<Bytes>>;

/// A copy as one endpoint gets it.
struct Sending<'a> {
    shadow: &'a Shadow,
    endpoint: &'a Endpoint,
    spelling: Spelling,
}

/// Sends a copy, and counts what became of it.
pub(super) async fn run(mut shadow: Box<Shadow>) {
    let until = clock::now() + shadow.mirror.rule.timeout;
    match shadow.exchange(until).await {
        Ok(reply) => shadow.judge(reply).await,
        Err(Lost::Unsent) => {}
        Err(Lost::Failed) => shadow.ticket.set(Mirrored::Failed),
    }
}

impl Shadow {
    async fn exchange(&self, until: Instant) -> Result<Reply, Lost> {
        let mut may_reuse = true;
        loop {
            let mut connection = self.connection(until, may_reuse).await?;
            if !self.is_wanted() {
                self.worker.mirrors.give_back(connection, clock::now());
                return Err(Lost::Unsent);
            }
            let endpoint = Arc::clone(connection.endpoint());
            let copy = Sending {
                shadow: self,
                endpoint: &endpoint,
                spelling: Spelling::default(),
            };
            let sending = connection.send(&copy);
            let Ok(sent) = self.worker.deadlines.within(left(until)?, sending).await else {
                connection.suspect();
                return Err(Lost::Failed);
            };
            match sent {
                Ok(answer) => return self.read(connection, answer, until).await,
                Err(unanswered) => {
                    let error = unanswered.error;
                    tracing::debug!(%error, endpoint = connection.endpoint().address(), "a copy was not answered");
                    connection.retire();
                    let is_stale = connection.reused() && !connection.answered();
                    let goes_again =
                        is_stale && (unanswered.was_unsent || self.method.is_idempotent());
                    if !may_reuse || !goes_again {
                        return Err(Lost::Failed);
                    }
                    may_reuse = false;
                }
            }
        }
    }

    async fn connection(&self, until: Instant, may_reuse: bool) -> Result<Line, Lost> {
        let (pool, connections) = (self.canary(), &self.worker.mirrors);
        // Learners come first: a copy takes no place, and waits for none.
        match pool.admission().enter() {
            Ok(None | Some(Entry::Free(_))) => {}
            Ok(Some(Entry::Wait(_))) | Err(_) => return Err(Lost::Unsent),
        }
        let endpoint = {
            let roster = pool.roster();
            let ask = Ask {
                tried: &[],
                random: rand::random(),
                key: self.key,
                now: clock::now(),
            };
            pool.pick(&roster, ask).cloned().ok_or(Lost::Unsent)?
        };
        let patience = Patience::of(
            &pool.timeouts,
            &endpoint,
            self.method.is_idempotent(),
            clock::now(),
        );
        let way = Way {
            transport: &pool.transport,
            endpoint: &endpoint,
            whose: &self.whose,
        };
        if may_reuse {
            let take = || connections.take(way, clock::now(), patience);
            while let Some(mut connection) = take() {
                if connection.is_shared() || connection.is_still_ready().await {
                    return Ok(connection);
                }
            }
        }
        let span = left(until)?.min(pool.timeouts.connect);
        let connecting = connections.connect(way, patience);
        match self.worker.deadlines.within(span, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no connection for a copy");
                Err(Lost::Failed)
            }
            Err(_) => Err(Lost::Failed),
        }
    }

    // Reads an answer to its end, or as far as one is looked at: what comes after that is cut off.
    async fn read(&self, connection: Line, answer: Answer, until: Instant) -> Result<Reply, Lost> {
        let Answer { head, mut body, .. } = answer;
        if head.status.is_informational() {
            return Err(Lost::Failed);
        }
        let rule = &self.mirror.rule;
        let compare = rule.compare.as_ref();
        let mut reply = Reply {
            said: compare.map(|compare| Said::of(compare, &head, rule.max_body)),
            endpoint: connection.endpoint().address().to_owned(),
        };
        let mut room = rule.max_body;
        loop {
            let next = self.worker.deadlines.within(left(until)?, body.frame());
            let frame = match next.await {
                Ok(Some(Ok(frame))) => frame,
                // HTTP/2 lets a server stop with a reset that tells of no error.
                Ok(None) if connection.is_shared() && !body.is_end_stream() => {
                    return Err(Lost::Failed);
                }
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return Err(Lost::Failed),
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if let Some(said) = &mut reply.said {
                said.take_in(data);
            }
            let Some(less) = room.checked_sub(data.len()) else {
                return Ok(reply);
            };
            room = less;
        }
        self.keep(connection).await;
        Ok(reply)
    }

    async fn keep(&self, mut connection: Line) {
        let ready = self
            .worker
            .deadlines
            .within(READY_PATIENCE, connection.ready());
        if let Ok(true) = ready.await {
            self.worker.mirrors.give_back(connection, clock::now());
        }
    }

    // Compares on another thread, one at a time: a learner whose worker this is would wait for it.
    async fn judge(&mut self, reply: Reply) {
        let (Some(baseline), Some(canary)) = (self.said.take(), reply.said) else {
            self.ticket.set(Mirrored::Answered);
            return;
        };
        let turn = self.worker.comparing.acquire().await;
        let mirror = Arc::clone(&self.mirror);
        let comparing = tokio::task::spawn_blocking(move || {
            let rule = mirror.rule.compare.as_ref();
            rule.map(|rule| compare::differences(rule, &baseline, &canary))
        });
        let compared = comparing.await;
        drop(turn);
        match compared {
            Ok(Some(differences)) if differences.is_empty() => self.ticket.set(Mirrored::Same),
            Ok(Some(differences)) => {
                self.ticket.set(Mirrored::Different);
                self.tell(differences, reply.endpoint);
            }
            Ok(None) => self.ticket.set(Mirrored::Answered),
            Err(error) => tracing::error!(%error, "two answers were not compared"),
        }
    }

    fn tell(&self, differences: Vec<MirrorDifference>, endpoint: String) {
        let rule = self.mirror.rule.compare.as_ref();
        let most = rule.map_or(0, |rule| rule.samples);
        let id = self.headers.get(REQUEST_ID);
        let sample = MirrorSample {
            at: clock::wall(),
            method: self.method.to_string(),
            path: compare::cut(self.uri.path(), PATH_SHOWN),
            request_id: id.and_then(|id| id.to_str().ok()).map(str::to_owned),
            endpoint,
            differences,
        };
        self.mirror.meter.keep(sample, most);
    }
}

// === impl Sending ===

impl Outgoing<Full<Bytes>> for Sending<'_> {
    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.shadow.method,
            target: &self.shadow.uri,
            headers: &self.shadow.headers,
            set: &self.shadow.canary().request_headers,
            host: self.endpoint.address(),
            spelling: &self.spelling,
        }
    }

    fn body(&self) -> Full<Bytes> {
        Full::new(self.shadow.body.clone())
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(self.body());
        *request.method_mut() = self.shadow.method.clone();
        *request.uri_mut() = self.shadow.uri.clone();
        *request.headers_mut() = self.shadow.headers.clone();
        addressed(&mut request, self.shadow.canary(), self.endpoint);
        request
    }
}

// Never zero, which would be no limit.
fn left(until: Instant) -> Result<Duration, Lost> {
    let left = until.saturating_duration_since(clock::now());
    if left.is_zero() {
        Err(Lost::Failed)
    } else {
        Ok(left)
    }
}
