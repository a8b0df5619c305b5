//! A tunnel from the moment upstream agreed to it: how it is opened, how it ends, and what is recorded of it then.
//!
//! A tunnel counts when it ends: as it should, whoever ended it, and as failed where the endpoint's connection broke. Its
//! latency is the time to the 101. A client whose connection breaks is not counted, as everywhere behind a head.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use super::outcome::Trial;
use super::stay::{OnCanary, Over, Seat};
use super::tunnel::{Lost, Tunnel};
use super::worker::Worker;
use crate::clock;
use crate::rollout::slot::Class;
use crate::telemetry::TunnelEvent;
use crate::upstream::admission::Place;
use crate::upstream::connect::{Link, Switched};

/// A tunnel that upstream agreed to.
pub(super) struct Passage {
    worker: Rc<Worker>,
    trial: Trial,
    link: Arc<Link>,
    endpoint: Option<Switched>,
    seat: Seat,
    class: Class,
    latency: Duration,
    began: Instant,
    /// Bytes that were recorded: from the client, and from the endpoint.
    recorded: (u64, u64),
    /// Taken among all requests, to the end of this.
    place: Option<Place>,
    /// How it ended; dropped before that, the client is gone.
    end: Option<End>,
}

/// What a 101 told.
pub(super) struct Agreed {
    pub(super) trial: Trial,
    pub(super) link: Arc<Link>,
    pub(super) endpoint: Switched,
    pub(super) canary: Option<OnCanary>,
    pub(super) class: Class,
    pub(super) latency: Duration,
    pub(super) now: Instant,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides said that they had said all.
    Closed,
    /// serin closed it.
    Over(Over),
    /// The client's connection broke.
    ClientLost,
    /// The endpoint's connection broke.
    EndpointLost,
}

/// Resets the endpoint's connection where it is dropped tied, which is to be before the connection itself is.
struct Tether(Option<Arc<Link>>);

/// What a client's side is, beside its bytes.
pub(super) trait ClientSide: AsyncRead + AsyncWrite + Unpin {
    /// Ready once the client is known to be gone, other than by what reading and writing tell.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Passage {
    pub(super) fn new(worker: &Rc<Worker>, agreed: Agreed) -> Self {
        worker
            .recorder
            .record_tunnel(agreed.trial.meter(), TunnelEvent::Opened);
        Self {
            worker: Rc::clone(worker),
            trial: agreed.trial,
            link: agreed.link,
            endpoint: Some(agreed.endpoint),
            seat: Seat::take(worker, agreed.canary),
            class: agreed.class,
            latency: agreed.latency,
            began: agreed.now,
            recorded: (0, 0),
            place: None,
            end: None,
        }
    }

    /// Keeps a place among all requests until it ends.
    pub(super) fn hold(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Carries bytes until the tunnel ends. Both sides are told of an orderly end; where one broke, the endpoint is reset
    /// here, and the client by the caller.
    pub(super) async fn run<C: ClientSide>(mut self, client: &mut C) -> End {
        let Some(endpoint) = self.endpoint.take() else {
            return End::EndpointLost;
        };
        let mut tunnel = Tunnel::new(client, endpoint);
        let mut tether = Tether(Some(Arc::clone(&self.link)));
        let end = poll_fn(|cx| self.poll(cx, &mut tunnel)).await;
        if !end.is_client_lost() {
            tether.0 = None;
        }
        self.conclude(end);
        end
    }

    fn poll<C: ClientSide>(
        &mut self,
        cx: &mut Context<'_>,
        tunnel: &mut Tunnel<&mut C, Switched>,
    ) -> Poll<End> {
        if tunnel.client.poll_gone(cx).is_ready() {
            return Poll::Ready(End::ClientLost);
        }
        if let Poll::Ready(over) = self.seat.poll_over(cx) {
            tunnel.close(cx);
            return Poll::Ready(End::Over(over));
        }
        let polled = tunnel.poll(cx, &mut self.worker.scratch.borrow_mut());
        self.note(tunnel);
        polled.map(|ended| match ended {
            Ok(()) => End::Closed,
            Err(Lost::Client(error)) => {
                tracing::debug!(%error, "a tunnel's client is lost");
                End::ClientLost
            }
            Err(Lost::Endpoint(error)) => {
                tracing::debug!(%error, "a tunnel's endpoint is lost");
                End::EndpointLost
            }
        })
    }

    fn note<C: ClientSide>(&mut self, tunnel: &Tunnel<&mut C, Switched>) {
        self.seat.set_unread(tunnel.is_unread());
        let moved = tunnel.moved();
        if moved == self.recorded {
            return;
        }
        self.seat.stay().moved();
        let event = TunnelEvent::Moved {
            up: moved.0 - self.recorded.0,
            down: moved.1 - self.recorded.1,
        };
        self.worker
            .recorder
            .record_tunnel(self.trial.meter(), event);
        self.recorded = moved;
    }

    fn conclude(&mut self, end: End) {
        self.end = Some(end);
        match end {
            End::Closed | End::Over(Over::Idle | Over::Retreated | Over::Leaving) => {
                self.trial
                    .conclude(self.class, Some(self.latency), clock::now());
            }
            End::EndpointLost => self.trial.fail(None),
            End::ClientLost | End::Over(Over::Unread) => {}
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.end.is_none_or(End::is_client_lost) {
            self.link.reset();
            self.trial.withdraw();
        }
        self.worker
            .recorder
            .record_tunnel(self.trial.meter(), TunnelEvent::Closed);
        let (up, down) = self.recorded;
        let took = clock::now().saturating_duration_since(self.began);
        tracing::debug!(end = ?self.end, up, down, ?took, "a tunnel ended");
    }
}

// === impl End ===

impl End {
    fn is_client_lost(self) -> bool {
        matches!(self, Self::ClientLost | Self::Over(Over::Unread))
    }
}

// === impl Tether ===

impl Drop for Tether {
    // The endpoint is not to take what came for all there was.
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.reset();
        }
    }
}
