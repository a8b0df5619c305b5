//! What this member sees of the fleet: the lease, records, members, orders, and messages where it follows them.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::{Done, First, Member, Origin, SPREAD};
use crate::clock;
use crate::fleet::News;
use crate::fleet::engine::Lying;
use crate::fleet::names::StateKey;
use crate::fleet::tail::{self, From, Piece, Seen};
use crate::rollout::name::RolloutName;

impl Member {
    pub(super) fn follow_all(&mut self) {
        let Some(engine) = self.engine.clone() else {
            return;
        };
        let epoch = self.epoch;
        let mut states = vec![self.names.lease()];
        if !self.names.is_region {
            states.push(self.names.all_rollouts());
        }
        self.follow(
            engine.states,
            states,
            From::Latest,
            Origin::States { epoch },
        );
        if let Some(orders) = engine.orders {
            let origin = Origin::Orders { epoch };
            self.follow(orders, everything(), From::Latest, origin);
        }
        self.watch_members();
        self.follow_told();
    }

    /// Follows what the members say of themselves, where that is asked for.
    pub(super) fn watch_members(&mut self) {
        if let Some(watching) = self.watching.take() {
            watching.abort();
        }
        self.watched += 1;
        let (Some(engine), true) = (self.engine.clone(), self.watches) else {
            return;
        };
        let (epoch, watched) = (self.epoch, self.watched);
        let origin = Origin::Members { epoch, watched };
        let members = vec![self.names.all_members()];
        self.watching = Some(self.follow(engine.states, members, From::Latest, origin));
    }

    pub(super) fn follow_told(&mut self) {
        if let Some(following) = self.following.take() {
            following.abort();
        }
        self.followed += 1;
        let (Some(engine), Some(position)) = (self.engine.clone(), self.position) else {
            return;
        };
        let (epoch, followed) = (self.epoch, self.followed);
        let origin = Origin::Told { epoch, followed };
        let from = From::Behind(position);
        self.following = Some(self.follow(engine.told, everything(), from, origin));
    }

    pub(super) fn follow(
        &mut self,
        stream: async_nats::jetstream::stream::Stream,
        filters: Vec<String>,
        from: From,
        origin: Origin,
    ) -> AbortHandle {
        let pieces = self.pieces.clone();
        self.jobs.spawn(async move {
            let out = |piece| pieces.send((origin, piece)).is_ok();
            tail::follow(stream, filters, from, out).await;
            std::future::pending().await
        })
    }

    pub(super) fn piece(&mut self, origin: Origin, piece: Piece) {
        match (origin, piece) {
            (Origin::States { epoch }, piece) if epoch == self.epoch => self.state_piece(piece),
            (Origin::Members { epoch, watched }, piece)
                if epoch == self.epoch && watched == self.watched =>
            {
                self.member_piece(piece);
            }
            (Origin::Orders { epoch }, piece) if epoch == self.epoch => self.order_piece(piece),
            (Origin::Told { epoch, followed }, Piece::Message(seen))
                if epoch == self.epoch && followed == self.followed =>
            {
                self.letter_seen(seen);
            }
            // Of a connection that is gone.
            (
                Origin::States { .. }
                | Origin::Members { .. }
                | Origin::Orders { .. }
                | Origin::Told { .. },
                _,
            ) => {}
        }
    }

    pub(super) fn state_piece(&mut self, piece: Piece) {
        match piece {
            Piece::Began { empty } => {
                self.states.first = Some(First::default());
                if empty {
                    self.states_seen();
                }
            }
            Piece::Message(seen) => {
                let last = seen.last;
                self.state_seen(seen);
                if last {
                    self.states_seen();
                }
            }
        }
    }

    pub(super) fn member_piece(&mut self, piece: Piece) {
        let last = match piece {
            Piece::Began { empty } => {
                self.states.first_members = Some(BTreeSet::new());
                empty
            }
            Piece::Message(seen) => {
                if let Some(StateKey::Member(name)) = self.names.state_key(&seen.subject) {
                    self.member_seen(name, seen.lying.body);
                }
                seen.last
            }
        };
        if last {
            self.members_seen();
        }
    }

    pub(super) fn state_seen(&mut self, seen: Seen) {
        match self.names.state_key(&seen.subject) {
            Some(StateKey::Lease) => {
                if let Some(first) = &mut self.states.first {
                    first.lease = true;
                }
                self.lease_seen(&seen.lying);
            }
            Some(StateKey::Rollout(name)) => {
                if let Ok(rollout) = RolloutName::parse(&name) {
                    self.record_seen(rollout, seen.lying);
                }
            }
            Some(StateKey::Member(_)) | None => {
                tracing::debug!(subject = seen.subject, "nobody of the fleet wrote this")
            }
        }
    }

    pub(super) fn lease_seen(&mut self, lying: &Lying) {
        let turn = self.lease.see(lying, clock::now());
        self.turn(turn);
        if lying.body.is_none() {
            self.later(SPREAD.mul_f64(rand::random()), Done::Candidate);
        }
    }

    pub(super) fn record_seen(&mut self, rollout: RolloutName, lying: Lying) {
        let revision = lying.revision;
        let known = self.states.revisions.insert(rollout.clone(), revision);
        let ours = self.is_ours(&lying, None);
        let since = self.lease.leads().is_some_and(|term| revision > term);
        if since && !ours && known.is_none_or(|known| known < revision) {
            // What an older leader had sent came in late, and nobody may write over it unread.
            self.fenced(&rollout, revision);
        }
        self.records.know(&rollout, revision);
        let told = self.states.told_caught_up && known == Some(revision);
        if let (Some(body), false) = (lying.body, told) {
            self.tell(News::State {
                rollout,
                revision,
                body,
            });
        }
    }

    pub(super) fn member_seen(&mut self, name: String, body: Option<Bytes>) {
        if let (Some(first), Some(_)) = (&mut self.states.first_members, &body) {
            first.insert(name.clone());
        }
        // One that lives, and has said nothing yet.
        let body = body.filter(|body| !body.is_empty());
        let known = match &body {
            Some(body) => self.states.members.insert(name.clone(), body.clone()),
            None => self.states.members.remove(&name),
        };
        if known != body {
            self.tell(News::Member { name, body });
        }
    }

    /// The bucket of states was seen to its end.
    pub(super) fn states_seen(&mut self) {
        let Some(first) = self.states.first.take() else {
            return;
        };
        if !first.lease {
            let turn = self.lease.see_none(clock::now());
            self.turn(turn);
        }
        if !std::mem::replace(&mut self.states.told_caught_up, true) {
            self.tell(News::CaughtUp);
            self.wish();
        }
    }

    /// Every member was seen.
    fn members_seen(&mut self) {
        let Some(first) = self.states.first_members.take() else {
            return;
        };
        let members = self.states.members.keys();
        let silent: Vec<String> = members
            .filter(|name| !first.contains(*name))
            .cloned()
            .collect();
        for name in silent {
            self.member_seen(name, None);
        }
        self.tell(News::MembersSeen);
    }

    pub(super) fn order_piece(&mut self, piece: Piece) {
        let last = match piece {
            Piece::Began { empty } => {
                self.orders.began();
                empty
            }
            Piece::Message(seen) => {
                let key = self.names.order_key(&seen.subject);
                let news = key.and_then(|key| self.orders.see(key, seen.lying.body));
                if let Some(news) = news {
                    self.tell(news);
                }
                seen.last
            }
        };
        if last {
            for news in self.orders.caught_up() {
                self.tell(news);
            }
        }
    }

    pub(super) fn letter_seen(&mut self, seen: Seen) {
        let position = seen.lying.revision;
        if self.position.is_none_or(|after| position <= after) {
            return;
        }
        self.position = Some(position);
        let id = seen.id.as_deref().and_then(|id| id.rsplit_once('-'));
        let n = id.and_then(|(_, n)| n.parse::<u64>().ok());
        let rollout = self.names.letter_rollout(&seen.subject);
        let rollout = rollout.and_then(|name| RolloutName::parse(&name).ok());
        if let (Some((member, _)), Some(n), Some(rollout), Some(body)) =
            (id, n, rollout, seen.lying.body)
        {
            let member = member.to_owned();
            self.tell(News::Told {
                position,
                rollout,
                member,
                n,
                body,
            });
        }
    }
}

/// Every subject of a stream.
fn everything() -> Vec<String> {
    vec![">".to_owned()]
}
