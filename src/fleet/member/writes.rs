//! What this member writes: records while it leads, messages for the leader, orders and their outcomes.

use bytes::Bytes;

use super::{AGAIN, Done, Member};
use crate::fleet::engine::{Engine, Lying, Put, PutFault};
use crate::fleet::lease::LEASE;
use crate::fleet::orders::Errand;
use crate::fleet::{News, name_of_region};
use crate::rollout::name::RolloutName;

impl Member {
    pub(super) fn record(&mut self, rollout: RolloutName, term: u64, ticket: u64, body: Bytes) {
        if self.lease.leads() != Some(term) {
            let why = match self.lease.leads() {
                Some(now) => format!("term {term} is over: this member leads in term {now}"),
                None => format!("term {term} is over: this member does not lead"),
            };
            self.tell(News::Fenced {
                rollout,
                ticket,
                why,
            });
            return;
        }
        self.records.add(&rollout, term, ticket, body);
        self.write_all();
    }

    pub(super) fn write_all(&mut self) {
        for rollout in self.records.ready() {
            self.write(&rollout);
        }
    }

    pub(super) fn write(&mut self, rollout: &RolloutName) {
        if self.engine.is_none() {
            return;
        }
        let Some((write, revision)) = self.records.begin(rollout) else {
            return;
        };
        let put = Put {
            subject: self.names.rollout(rollout.as_str()),
            body: write.body,
            expected: Some(revision),
            by: Some(format!("{}/{}/{}", self.life, write.number, write.term)),
            ..Put::default()
        };
        let rollout = rollout.clone();
        self.job(|engine| async move {
            let subject = put.subject.clone();
            let written = engine.put(put).await;
            let mut lying = None;
            if matches!(written, Err(PutFault::Stale | PutFault::Unknown(_))) {
                lying = engine.read(&subject).await.ok().flatten();
            }
            Done::Recorded(rollout, write.number, written, lying)
        });
    }

    pub(super) fn recorded(
        &mut self,
        rollout: &RolloutName,
        number: u64,
        written: Result<u64, PutFault>,
        lying: Option<Lying>,
    ) {
        let Some((write, expected)) = self.records.begin(rollout) else {
            return;
        };
        if write.number != number {
            // Of a lead that is over.
            return;
        }
        let tickets = write.tickets.into_iter();
        match (written, lying) {
            (Ok(revision), _) => self.written(rollout, revision),
            (Err(PutFault::TooLarge { limit }), _) => {
                self.records.end(rollout);
                let size = write.body.len();
                tracing::error!(%rollout, size, limit, "the record is larger than NATS takes");
                for ticket in tickets {
                    self.tell(News::TooLarge {
                        rollout: rollout.clone(),
                        ticket,
                        size,
                        limit,
                    });
                }
                self.write_all();
            }
            (Err(_), Some(lying)) if self.is_ours(&lying, Some(number)) => {
                self.written(rollout, lying.revision);
            }
            (Err(_), Some(lying)) if self.is_ours(&lying, None) => {
                self.records.know(rollout, lying.revision);
                self.write(rollout);
            }
            (Err(PutFault::Stale), Some(lying)) if lying.revision != expected => {
                self.fenced(rollout, lying.revision);
            }
            // Nobody wrote, or nobody knows.
            (Err(_), _) => self.later(AGAIN, Done::RecordAgain(rollout.clone())),
        }
    }

    pub(super) fn written(&mut self, rollout: &RolloutName, revision: u64) {
        self.records.know(rollout, revision);
        let tickets = self.records.end(rollout).map(|write| write.tickets);
        for ticket in tickets.unwrap_or_default() {
            self.tell(News::Recorded {
                rollout: rollout.clone(),
                ticket,
                revision,
            });
        }
        self.write_all();
    }

    /// Whether this life wrote what lies there, in this write where one is asked for.
    pub(super) fn is_ours(&self, lying: &Lying, number: Option<u64>) -> bool {
        let mut by = lying.by.as_deref().unwrap_or_default().split('/');
        let life = by.next() == Some(&self.life);
        let written = by.next().and_then(|number| number.parse::<u64>().ok());
        life && number.is_none_or(|number| written == Some(number))
    }

    /// Somebody else wrote: whoever leads with an old number leads no more.
    pub(super) fn fenced(&mut self, rollout: &RolloutName, revision: u64) {
        let why = format!("the record was written by another member since (revision {revision})");
        tracing::warn!(%rollout, why, "a record is not ours to write");
        let tickets = self.records.end(rollout).map(|write| write.tickets);
        for ticket in tickets.unwrap_or_default() {
            self.tell(News::Fenced {
                rollout: rollout.clone(),
                ticket,
                why: why.clone(),
            });
        }
        self.resign(LEASE);
    }

    pub(super) fn send_letters(&mut self) {
        if self.engine.is_none() {
            return;
        }
        for (rollout, n, body) in self.letters.begin() {
            let put = Put {
                subject: self.names.letter(rollout.as_str(), &self.name),
                body,
                id: Some(format!("{}/{}-{n}", self.name, self.life)),
                ..Put::default()
            };
            self.job(|engine| async move { Done::Told(rollout, n, engine.put(put).await) });
        }
    }

    pub(super) fn letter_told(
        &mut self,
        rollout: RolloutName,
        n: u64,
        kept: Result<u64, PutFault>,
    ) {
        match kept {
            Ok(_) => {
                self.letters.end(&rollout);
                self.tell(News::Kept { rollout, n });
            }
            Err(PutFault::TooLarge { limit }) => {
                tracing::error!(%rollout, limit, "a message is larger than NATS takes");
                self.letters.end(&rollout);
                let count = self.letters.drop_one(&rollout);
                self.tell(News::Dropped { rollout, n, count });
            }
            Err(PutFault::Stale | PutFault::Unknown(_)) => {
                return self.later(AGAIN, Done::TellAgain(rollout));
            }
        }
        self.send_letters();
    }

    /// In the place of a region's members: nothing is sent again, because nobody knows whether another one came first.
    pub(super) fn sum(
        &mut self,
        rollout: RolloutName,
        region: &str,
        (n, behind): (u64, u64),
        body: Bytes,
    ) {
        let name = name_of_region(region);
        let put = Put {
            subject: self.names.letter(rollout.as_str(), &name),
            body,
            expected: Some(behind),
            id: Some(format!("{name}/{}-{n}", self.life)),
            ..Put::default()
        };
        let of = rollout.clone();
        let asked = self.job(|engine| async move { Done::Summed(of, n, engine.put(put).await) });
        if asked.is_none() {
            let fault = PutFault::Unknown("the fleet is out of reach".to_owned());
            self.summed(rollout, n, Err(fault));
        }
    }

    pub(super) fn summed(&self, rollout: RolloutName, n: u64, kept: Result<u64, PutFault>) {
        let why = match kept {
            Ok(position) => {
                return self.tell(News::Summed {
                    rollout,
                    n,
                    position,
                });
            }
            Err(PutFault::Stale) => "another member told for the region since".to_owned(),
            Err(PutFault::TooLarge { limit }) => {
                format!("larger than the {limit} bytes that NATS takes")
            }
            Err(PutFault::Unknown(why)) => why,
        };
        self.tell(News::Unsummed { rollout, n, why });
    }

    pub(super) fn find_sum(&mut self, rollout: RolloutName, region: &str) {
        let subject = self.names.letter(rollout.as_str(), &name_of_region(region));
        self.job(|engine| async move { Done::LastSum(rollout, engine.read_told(&subject).await) });
    }

    pub(super) fn last_sum(&self, rollout: RolloutName, found: Result<Option<Lying>, String>) {
        match found {
            Ok(lying) => {
                let found = lying.and_then(|lying| Some((lying.revision, lying.body?)));
                self.tell(News::LastSum { rollout, found });
            }
            // It is asked for again.
            Err(why) => tracing::debug!(%rollout, why, "the last sum of the region cannot be read"),
        }
    }

    pub(super) fn carry(&mut self) {
        if self.engine.is_none() {
            return;
        }
        for errand in self.orders.begin() {
            let subject = if errand.outcome {
                self.names.outcome(&errand.id)
            } else {
                self.names.order(&errand.id)
            };
            let outcome = self.names.outcome(&errand.id);
            let put = Put {
                subject: subject.clone(),
                body: errand.body.clone(),
                expected: Some(0),
                ..Put::default()
            };
            self.job(|engine| async move {
                let carried = engine.put(put).await;
                let mut there = None;
                if carried == Err(PutFault::Stale) && !errand.outcome {
                    there = order_there(&engine, &errand.id, &subject, &outcome).await;
                }
                Done::Carried(errand, carried, there)
            });
        }
    }

    pub(super) fn carried(
        &mut self,
        errand: Errand,
        carried: Result<u64, PutFault>,
        there: Option<News>,
    ) {
        match (carried, there) {
            (Ok(_), _) => self.orders.end(&errand),
            (Err(PutFault::Stale), Some(there)) => {
                self.orders.end(&errand);
                self.tell(there);
            }
            (Err(PutFault::Stale), None) if errand.outcome => self.orders.end(&errand),
            (Err(PutFault::TooLarge { limit }), _) => {
                self.orders.end(&errand);
                let why = format!("larger than the {limit} bytes that NATS takes");
                tracing::error!(id = errand.id, why, "an order cannot be kept");
                let id = errand.id;
                self.tell(News::Refused { id, why });
            }
            (Err(PutFault::Stale | PutFault::Unknown(_)), _) => {
                self.later(AGAIN, Done::CarryAgain(errand));
            }
        }
    }
}

/// What lies under an id that was given before.
async fn order_there(engine: &Engine, id: &str, order: &str, outcome: &str) -> Option<News> {
    let id = id.to_owned();
    if let Some(body) = engine
        .read_order(outcome)
        .await
        .ok()?
        .and_then(|it| it.body)
    {
        return Some(News::Ordered { id, body });
    }
    let body = engine.read_order(order).await.ok()??.body?;
    Some(News::Order { id, body })
}
