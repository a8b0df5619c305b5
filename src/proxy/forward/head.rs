//! How long an attempt waits for its answer's head.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::Course;
use crate::clock;
use crate::proxy::deadline::Elapsed;
use crate::proxy::order::Order;
use crate::proxy::outcome::Trial;
use crate::upstream::endpoint::EndpointId;

impl Course {
    // The longest wait for the answer's head from the request's last byte, zero = none; and whether it is shorter than
    // the endpoint's own time, because baseline can answer.
    pub(super) fn head_limit(
        &self,
        order: &Order,
        trial: &Trial,
        present: EndpointId,
    ) -> (Duration, bool) {
        let pool = self.held.pool(self.pool);
        let own = pool.timeouts.answer_head;
        if !order.is_replayable() {
            return (own, false);
        }
        let earlier = |limit: Duration| if own.is_zero() { limit } else { own.min(limit) };
        let early = self
            .canary
            .map(|(index, _)| self.held.rollout(index))
            .filter(|rollout| rollout.failover.timeout);
        if let Some(rollout) = early {
            let limit = earlier(rollout.failover_after);
            return (limit, limit != own);
        }
        // Where nobody else is left, one attempt may take all the time there is.
        if self.retries_left > 0 && pool.has_other(present, &self.tried, trial.began()) {
            return (earlier(pool.config().retries.per_try), false);
        }
        (own, false)
    }

    pub(super) async fn head_within<F: Future>(
        &self,
        limit: Duration,
        trial: &Trial,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut left = self
            .head_time_left(limit, trial, trial.began())
            .ok_or(Elapsed)?;
        loop {
            match self.worker.deadlines.within(left, future.as_mut()).await {
                Ok(output) => return Ok(output),
                // The client may have been sending meanwhile, which is not upstream's time.
                Err(Elapsed) => {
                    left = self
                        .head_time_left(limit, trial, clock::now())
                        .ok_or(Elapsed)?
                }
            }
        }
    }

    // `None` where the time is up; zero = no limit.
    fn head_time_left(&self, limit: Duration, trial: &Trial, now: Instant) -> Option<Duration> {
        let waited = trial.waited(now);
        let head = (!limit.is_zero()).then(|| limit.saturating_sub(waited));
        self.least(head, now)
    }
}
