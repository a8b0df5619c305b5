//! Where an attempt goes: an endpoint of the pool, and a connection to it, kept or new.

use std::rc::Rc;
use std::time::Instant;

use super::Course;
use crate::clock;
use crate::proxy::body::Upload;
use crate::proxy::deadline::Elapsed;
use crate::proxy::next::Failure;
use crate::proxy::order::Order;
use crate::telemetry::Tally;
use crate::upstream::connect::{ConnectError, Connection, Patience, Way};
use crate::upstream::eject::Failing;
use crate::upstream::pool::Ask;

impl Course {
    // With the moment from which on its endpoint is waited for: `now`, where nothing had to be.
    pub(super) async fn connection(
        &mut self,
        order: &Order,
        now: Instant,
    ) -> Result<(Connection<Upload>, Instant), Failure> {
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
            while let Some(mut connection) = connections.take(way, now, patience) {
                // What may be sent once only is not sent into a connection that its server has just closed. HTTP/2 says
                // what was not processed.
                let may_go = order.is_idempotent || connection.is_shared();
                if may_go || connection.is_still_ready().await {
                    return Ok((connection, now));
                }
            }
        }
        let limit = self.time_left(pool.timeouts.connect, clock::now());
        let limit = limit.ok_or(Failure::ConnectTimeout)?;
        let connecting = connections.connect(way, patience);
        let failure = match self.worker.deadlines.within(limit, connecting).await {
            Ok(Ok(connection)) => return Ok((connection, clock::now())),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no connection");
                self.unconnected(&error)
            }
            Err(Elapsed) => {
                tracing::debug!(endpoint = endpoint.address(), "no connection in time");
                Failure::ConnectTimeout
            }
        };
        // The request's own time may have been the shorter one.
        if failure != Failure::ConnectTimeout || limit == pool.timeouts.connect {
            pool.note(endpoint, Some(Failing::Connect), now, clock::now());
        }
        self.tried.push(endpoint.id());
        Err(failure)
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
}
