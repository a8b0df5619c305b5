//! Copies of requests that baseline answers, for canary, in the background.
//!
//! A request is drawn before it goes to baseline; its body, and where answers are compared baseline's answer, are taken
//! down as they pass, up to a bound. When baseline's answer has been handed on whole the copy leaves (`send`) and the two
//! answers are compared (`compare`). No learner waits for any of it, no arm's figures, pool's limits, balance or
//! ejection know of it, and where canary was retreated from nothing is sent.

mod compare;
mod json;
mod send;
mod taken;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{EXPECT, TRAILER};
use http::{HeaderMap, HeaderValue, Method, Uri, response};
use tokio::task::spawn_local;

use super::body::Source;
use super::choose::{self, Choice};
use super::headers::{self, X_SERIN_MIRROR};
use super::learner::Asker;
use super::order::Order;
use super::visit::is_drawn;
use super::worker::Worker;
use crate::live::{Held, Mirror, Rollout, RolloutIndex};
use crate::proxy_protocol::Introduction;
use crate::rollout::name::Arm;
use crate::telemetry::{MirrorTicket, Mirrored};
use crate::upstream::pool::Pool;

use compare::Said;
pub(super) use taken::Taken;

/// A request that is to be copied, and what baseline answered it. Dropped before it is sent, it is counted as that.
pub(super) struct Shadow {
    worker: Rc<Worker>,
    held: Held,
    rollout: RolloutIndex,
    mirror: Arc<Mirror>,
    ticket: MirrorTicket,
    /// For a pool that hashes.
    key: u64,
    /// The client's connection, for a pool that is told of it.
    whose: Introduction,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    /// Of the client.
    address: Rc<str>,
    /// Baseline's answer, where answers are compared.
    said: Option<Said>,
}

impl Shadow {
    /// Draws whether a request is copied. One comparison where there is no mirror.
    pub(super) fn cast(
        worker: &Rc<Worker>,
        held: &Held,
        chosen: Option<(RolloutIndex, Choice)>,
        whose: Introduction,
        order: &Order,
    ) -> Option<Box<Self>> {
        let (rollout, choice) = chosen?;
        let mirror = held.rollout(rollout).mirror.as_ref()?;
        let is_meant = is_of_baseline(choice) && is_copied(mirror, order);
        if !is_meant || worker.is_draining() || !is_drawn(mirror.rule.share) {
            return None;
        }
        if !is_open(held.rollout(rollout), order.asker()) {
            return None;
        }
        let ticket = admitted(held, rollout, mirror, order)?;
        if let Some(source) = &order.source {
            source.copy(mirror.rule.max_body);
        }
        Some(Box::new(Self {
            worker: Rc::clone(worker),
            held: Rc::clone(held),
            rollout,
            mirror: Arc::clone(mirror),
            ticket,
            key: choice.key(),
            whose,
            method: order.method.clone(),
            uri: order.uri.clone(),
            headers: copied(&order.headers),
            body: Bytes::new(),
            address: Rc::clone(&order.address),
            said: None,
        }))
    }

    /// Baseline answered so; its body follows.
    pub(super) fn beside(mut self: Box<Self>, head: &response::Parts) -> Box<Self> {
        let rule = &self.mirror.rule;
        let compare = rule.compare.as_ref();
        self.said = compare.map(|compare| Said::of(compare, head, rule.max_body));
        self
    }

    /// A piece of baseline's answer.
    pub(super) fn take_in(&mut self, piece: &Bytes) {
        if let Some(said) = &mut self.said {
            said.take_in(piece);
        }
    }

    /// Baseline's answer was handed on whole: the copy leaves.
    pub(super) fn follow(mut self: Box<Self>, source: Option<&Source>) {
        if self.said.as_ref().is_some_and(Said::is_over) {
            self.ticket.set(Mirrored::TooLarge);
            return;
        }
        if let Some(source) = source {
            let Some(copy) = source.take_copy() else {
                return;
            };
            let Some(body) = copy.whole() else {
                self.ticket.set(Mirrored::TooLarge);
                return;
            };
            self.body = body;
        }
        if !self.worker.is_draining() {
            spawn_local(send::run(self));
        }
    }

    /// Whether canary may still be sent anything: a retreat that was published is obeyed.
    fn is_wanted(&self) -> bool {
        let known = self.held.rollout(self.rollout);
        if known.epoch_now() == known.split.epoch {
            return true;
        }
        let asker = Asker {
            headers: &self.headers,
            uri: &self.uri,
            address: &self.address,
        };
        let table = self.worker.table();
        let found = table.find_rollout(&known.name);
        let rollout = found.map(|found| table.rollout(found));
        rollout.is_some_and(|rollout| rollout.mirror.is_some() && is_open(rollout, asker))
    }

    fn canary(&self) -> &Arc<Pool> {
        let rollout = self.held.rollout(self.rollout);
        self.held.pool(rollout.pool(Arm::Canary))
    }
}

// Not testers, who are left out of every figure.
fn is_of_baseline(choice: Choice) -> bool {
    choice.arm == Arm::Baseline && choice.counts()
}

// Streams and other protocols than HTTP go on for as long as they like.
fn is_copied(mirror: &Mirror, order: &Order) -> bool {
    mirror.rule.methods.contains(&order.method)
        && order.asked.is_none()
        && !order.is_call
        && !headers::is_stream(&order.headers)
}

// A canary that was taken back gets nothing, and nothing of a segment that was.
fn is_open(rollout: &Rollout, asker: Asker<'_>) -> bool {
    let split = &rollout.split;
    if split.closed || split.ceilings.is_empty() {
        return !split.closed;
    }
    let segment = choose::segment_of(rollout, asker);
    let ceiling = segment.and_then(|segment| split.ceilings.get(rollout.capped_segment(&segment)));
    ceiling.is_none_or(|ceiling| !ceiling.is_zero())
}

// Room for one more copy, of a body that is not too large, to a canary that is there.
fn admitted(
    held: &Held,
    rollout: RolloutIndex,
    mirror: &Mirror,
    order: &Order,
) -> Option<MirrorTicket> {
    let max_body = mirror.rule.max_body as u64;
    let declared = order.source.as_ref().and_then(|source| source.exact());
    if declared.is_some_and(|len| len > max_body) {
        mirror.meter.count(Mirrored::TooLarge);
        return None;
    }
    let canary = held.rollout(rollout).pool(Arm::Canary);
    let is_there = held.pool(canary).usable() > 0;
    let ticket = is_there.then(|| mirror.meter.begin(mirror.rule.in_flight));
    let ticket = ticket.flatten();
    if ticket.is_none() {
        mirror.meter.count(Mirrored::Dropped);
    }
    ticket
}

// The body comes whole and at once, and its trailers are left out.
fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut copy = headers.clone();
    copy.remove(EXPECT);
    copy.remove(TRAILER);
    copy.insert(X_SERIN_MIRROR, HeaderValue::from_static("1"));
    copy
}
