//! The lead: asked for, renewed, given back, and told.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::{Done, LEASE_PATIENCE, Member};
use crate::clock;
use crate::fleet::News;
use crate::fleet::engine::{Engine, Lying, Put, PutFault};
use crate::fleet::lease::{LEASE, Turn, Wish};

impl Member {
    pub(super) fn wish(&mut self) {
        if self.engine.is_none() || !self.states.told_caught_up {
            return;
        }
        let Some(wish) = self.lease.wish(clock::now()) else {
            return;
        };
        let (subject, body) = (self.names.lease(), self.lease.holder().body());
        self.lease.busy = true;
        self.job(|engine| async move { wished(engine, wish, subject, body).await });
    }

    pub(super) fn wished(
        &mut self,
        wish: Wish,
        sent: Instant,
        granted: Result<u64, PutFault>,
        lying: Option<Option<Lying>>,
    ) {
        self.lease.busy = false;
        let now = clock::now();
        let turn = match (wish, granted, lying) {
            (Wish::Take, Ok(revision), _) => {
                self.lease.taken(revision, sent);
                self.taken_at = Some(now);
                None
            }
            (Wish::Take, Err(_), Some(Some(lying))) => self.lease.see(&lying, now),
            (Wish::Renew { .. }, Ok(revision), _) => {
                self.lease.renewed(revision, sent);
                None
            }
            (Wish::Renew { .. }, Err(_), Some(lying)) => {
                let turn = self.lease.read(lying.as_ref(), now);
                if turn.is_none() {
                    self.wish();
                }
                turn
            }
            (Wish::Release { .. } | Wish::Take | Wish::Renew { .. }, _, _) => None,
        };
        self.turn(turn);
        if !self.lease.may {
            self.resign(Duration::ZERO);
        }
    }

    pub(super) fn turn(&mut self, turn: Option<Turn>) {
        match turn {
            None => {}
            Some(Turn::Leading { term }) => {
                tracing::info!(member = self.name, term, "leads the fleet");
                self.taken_at = None;
                self.tell(News::Leading { term });
                for order in self.orders.waiting() {
                    self.tell(order);
                }
            }
            Some(Turn::Led { by, term }) => self.tell(News::Led { by, term }),
            Some(Turn::Lost { by, term }) => {
                tracing::warn!(member = self.name, term, "leads the fleet no more");
                for (rollout, ticket) in self.records.drain() {
                    let why = "the lead was lost before the record was known to be written";
                    self.tell(News::Fenced {
                        rollout,
                        ticket,
                        why: why.to_owned(),
                    });
                }
                self.tell(News::Led { by, term });
            }
        }
    }

    pub(super) fn resign(&mut self, pause: Duration) {
        let revision = self.lease.revision();
        let turn = self.lease.resign(clock::now(), pause);
        self.taken_at = None;
        self.turn(turn);
        if let Some(revision) = revision {
            let subject = self.names.lease();
            let wish = Wish::Release { revision };
            self.job(|engine| async move { wished(engine, wish, subject, Bytes::new()).await });
        }
    }
}

/// Asks for what is wished of the lease.
async fn wished(engine: Engine, wish: Wish, subject: String, body: Bytes) -> Done {
    let mut lying = None;
    let mut sent = clock::now();
    let mut put = Put {
        subject: subject.clone(),
        body,
        time_limit: Some(LEASE),
        ..Put::default()
    };
    let asking = async {
        put.expected = Some(match wish {
            Wish::Renew { revision } => revision,
            Wish::Release { revision } => {
                put.delete = true;
                put.time_limit = None;
                revision
            }
            Wish::Take => match engine.read(&subject).await {
                Err(why) => return Err(PutFault::Unknown(why)),
                Ok(None) => 0,
                Ok(Some(found)) if found.body.is_none() => found.revision,
                Ok(Some(found)) => {
                    lying = Some(Some(found));
                    return Err(PutFault::Stale);
                }
            },
        });
        sent = clock::now();
        let granted = engine.put(put).await;
        if granted == Err(PutFault::Stale) {
            lying = engine.read(&subject).await.ok();
        }
        granted
    };
    let granted = timeout(LEASE_PATIENCE, asking).await;
    let granted = granted.unwrap_or_else(|_| Err(PutFault::Unknown("no answer".to_owned())));
    Done::Wished(wish, sent, granted, lying)
}
