//! The idle connections of HTTP/1 of one worker: a stack per endpoint, the last used on top.
//!
//! A connection that told its server whose it is (PROXY protocol) lies apart: it is its client's alone, and goes when he
//! leaves. Opens and lends nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http_body::Body;

use super::connect::{ById, Connection, Patience};
use super::endpoint::Endpoint;
use crate::proxy_protocol::Introduction;

/// The idle connections of one worker. `B` is the body of their requests.
pub(super) struct Idle<B> {
    shared: ById<Vec<Resting<B>>>,
    /// By the client they speak for; few each.
    own: HashMap<Introduction, Vec<Resting<B>>>,
}

struct Resting<B> {
    connection: Connection<B>,
    since: Instant,
}

// === impl Idle ===

impl<B: Body + 'static> Idle<B> {
    pub(super) fn new() -> Self {
        Self {
            shared: ById::default(),
            own: HashMap::new(),
        }
    }

    /// The connection to `endpoint` that was used last among those that have been idle for long enough and not for too
    /// long: one that speaks for this client, or one that speaks for nobody.
    pub(super) fn take(
        &mut self,
        endpoint: &Endpoint,
        whose: Option<&Introduction>,
        now: Instant,
        patience: Patience,
    ) -> Option<Connection<B>> {
        let is_fresh = |resting: &Resting<B>| resting.age(now) <= patience.max_idle;
        let has_rested = |resting: &Resting<B>| resting.age(now) >= patience.min_idle;
        let stack = match whose {
            None => self.shared.get_mut(&endpoint.id())?,
            Some(whose) => self.own.get_mut(whose)?,
        };
        loop {
            let top = match whose {
                // The oldest lie at the bottom.
                None => stack.partition_point(has_rested).checked_sub(1)?,
                Some(_) => stack
                    .iter()
                    .rposition(|resting| resting.is_of(endpoint) && has_rested(resting))?,
            };
            if !stack.get(top).is_some_and(is_fresh) {
                return None;
            }
            let resting = stack.remove(top);
            let age = resting.age(now);
            let mut connection = resting.rise();
            if connection.is_quiet() {
                connection.reuse(age);
                return Some(connection);
            }
            endpoint.closing().note(age, now);
        }
    }

    /// Keeps a connection that can take another request, unless something has come on it already.
    pub(super) fn put(&mut self, mut connection: Connection<B>, now: Instant) {
        if !connection.is_quiet() {
            connection.endpoint().closing().note(Duration::ZERO, now);
            return;
        }
        let endpoint = connection.endpoint();
        endpoint.idle_added();
        let stack = match connection.whose() {
            None => self.shared.entry(endpoint.id()).or_default(),
            Some(whose) => self.own.entry(*whose).or_default(),
        };
        stack.push(Resting {
            connection,
            since: now,
        });
    }

    /// Closes what has been idle for as long as its pool allows, and all to endpoints that no table has any more.
    pub(super) fn sweep(&mut self, now: Instant) {
        let is_kept = |resting: &Resting<B>| {
            let connection = &resting.connection;
            connection.endpoint().is_in_use() && connection.may_idle(resting.age(now))
        };
        self.shared.retain(|_, stack| {
            // The oldest lie at the bottom.
            let keep_from = stack.iter().position(is_kept).unwrap_or(stack.len());
            close(stack.drain(..keep_from));
            !stack.is_empty()
        });
        self.own.retain(|_, stack| {
            close(stack.extract_if(.., |resting| !is_kept(resting)));
            !stack.is_empty()
        });
    }

    /// Lets go of connections on which something came: their server has ended them, or says what nobody asked for.
    pub(super) fn hear(&mut self, now: Instant) {
        let has_ended = |resting: &mut Resting<B>| {
            let connection = &mut resting.connection;
            let has_ended = connection.has_stirred() && !connection.is_quiet();
            if has_ended {
                let age = now.saturating_duration_since(resting.since);
                connection.endpoint().closing().note(age, now);
            }
            has_ended
        };
        for stack in self.shared.values_mut().chain(self.own.values_mut()) {
            close(stack.extract_if(.., |resting| has_ended(resting)));
        }
    }

    /// Closes what speaks for a client.
    pub(super) fn forget(&mut self, whose: &Introduction) {
        if !self.own.is_empty() {
            close(self.own.remove(whose).into_iter().flatten());
        }
    }

    pub(super) fn close_all(&mut self) {
        let shared = self.shared.drain().map(|(_, stack)| stack);
        let own = self.own.drain().map(|(_, stack)| stack);
        close(shared.chain(own).flatten());
    }
}

fn close<B: Body + 'static>(resting: impl Iterator<Item = Resting<B>>) {
    resting.for_each(|resting| drop(resting.rise()));
}

// === impl Resting ===

impl<B: Body + 'static> Resting<B> {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.connection.endpoint().id() == endpoint.id()
    }

    /// It is idle no more.
    fn rise(self) -> Connection<B> {
        self.connection.endpoint().idle_removed();
        self.connection
    }
}
