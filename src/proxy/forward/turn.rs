//! Where a request turns: off canary because of a retreat, within its time, and after a failure to where `next` says.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Course;
use crate::clock;
use crate::config::Failover;
use crate::live::RolloutIndex;
use crate::proxy::choose;
use crate::proxy::next::{Failure, Next, Situation};
use crate::proxy::order::Order;
use crate::proxy::respond::Fault;
use crate::rollout::name::Arm;
use crate::telemetry::{Attempt, Tally};

impl Course {
    // Compares the epoch, of a request on canary: where the split was replaced, the arm is chosen anew, and the request goes
    // on under the new table. Whether it does: what was taken from the old one is not to be used.
    pub(super) fn follow(&mut self, order: &Order) -> bool {
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
            return true;
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

    fn failover(&self) -> Option<Failover> {
        self.canary
            .map(|(index, _)| self.held.rollout(index).failover)
    }

    pub(super) fn is_replaced(&self, order: &Order, now: Instant) -> bool {
        let Some((index, _)) = self.canary else {
            return false;
        };
        self.held.rollout(index).failover.status_5xx
            && order.is_replayable()
            && self.worker.take_failover(index, now)
    }

    pub(super) fn situation(&self, order: &Order, failure: Failure) -> Situation {
        Situation {
            failure,
            failover: self.failover(),
            is_replayable: order.is_replayable(),
            retries_left: self.retries_left,
            has_untried: self.held.pool(self.pool).has_untried(&self.tried),
        }
    }

    pub(super) fn turn(&mut self, next: Next, failure: Failure) -> Result<(), Fault> {
        match (next, self.canary) {
            (Next::Resend, _) => self.is_resent |= failure == Failure::Stale,
            (Next::Retry | Next::Repeat, _) if self.is_over(clock::now()) => {
                return Err(failure.fault());
            }
            (Next::Retry, _) => {
                self.begin_retry();
            }
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
        self.request_left(now) == Some(Duration::ZERO)
    }

    // A limit of one step (zero = none), or what is left of the whole request's time where that is less; `None` where that
    // is up.
    pub(super) fn time_left(&self, limit: Duration, now: Instant) -> Option<Duration> {
        self.least((!limit.is_zero()).then_some(limit), now)
    }

    // The less of what is left of a step's time and of the whole request's; `None` where one of them is up, zero where neither
    // has a limit.
    pub(super) fn least(&self, left: Option<Duration>, now: Instant) -> Option<Duration> {
        match left.into_iter().chain(self.request_left(now)).min() {
            Some(Duration::ZERO) => None,
            Some(left) => Some(left),
            None => Some(Duration::ZERO),
        }
    }

    // What is left of the whole request's time; `None` where it has no limit.
    pub(super) fn request_left(&self, now: Instant) -> Option<Duration> {
        let limit = self.held.pool(self.pool).timeouts.request;
        let passed = now.saturating_duration_since(self.began);
        (!limit.is_zero()).then(|| limit.saturating_sub(passed))
    }
}
