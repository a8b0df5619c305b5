//! Who leads, as this member knows it: the lease it holds, or the one that it saw.
//!
//! Pure: told of moments and of what was seen, it answers what to do. A leader stops by its own clock, which it reads
//! before each renewal is sent, half a second before the servers let the lease go: two never lead at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::engine::Lying;

/// The time limit of the lease's key.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// Between a leader's own end and the servers'.
const MARGIN: Duration = Duration::from_millis(500);

/// What the key of the lease holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) member: String,
    /// Of which process.
    pub(super) life: String,
    /// The revision with which it was taken; not known yet when it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) term: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Lease {
    member: String,
    life: String,
    pub(super) may: bool,
    not_before: Option<Instant>,
    held: Option<Held>,
    /// The key as it was seen last.
    seen: Option<Sight>,
    /// The revision that was seen last.
    at: u64,
    /// The last `Led` that was told; `None` while this member leads.
    told: Option<(Option<String>, u64)>,
    /// The last term that is known.
    term: u64,
    /// A request about the lease is under way.
    pub(super) busy: bool,
}

#[derive(Debug)]
struct Held {
    term: u64,
    revision: u64,
    deadline: Instant,
    /// Whether everything that was written before was seen, and the lead was told.
    led: bool,
}

#[derive(Debug)]
struct Sight {
    holder: Holder,
    revision: u64,
    at: Instant,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Leading {
        term: u64,
    },
    Led {
        by: Option<String>,
        term: u64,
    },
    /// The lead is over.
    Lost {
        by: Option<String>,
        term: u64,
    },
}

/// What is to be asked of the servers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Take,
    Renew {
        revision: u64,
    },
    /// It is ours, and we do not want it.
    Release {
        revision: u64,
    },
}

impl Holder {
    pub(super) fn body(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl Lease {
    pub(super) fn new(member: &str, life: &str) -> Self {
        Self {
            member: member.to_owned(),
            life: life.to_owned(),
            may: true,
            not_before: None,
            held: None,
            seen: None,
            at: 0,
            told: None,
            term: 0,
            busy: false,
        }
    }

    /// This member as the holder.
    pub(super) fn holder(&self) -> Holder {
        Holder {
            member: self.member.clone(),
            life: self.life.clone(),
            term: self.held.as_ref().map(|held| held.term),
        }
    }

    /// The term that this member leads in.
    pub(super) fn leads(&self) -> Option<u64> {
        let held = self.held.as_ref().filter(|held| held.led);
        held.map(|held| held.term)
    }

    /// When the lead ends by our own clock.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.deadline)
    }

    /// The revision to give the lease back with.
    pub(super) fn revision(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.revision)
    }

    /// Whether this process wrote what lies under the key.
    pub(super) fn is_ours(&self, lying: &Lying) -> bool {
        holder(lying).is_some_and(|holder| holder.life == self.life)
    }

    /// What to ask of the servers now, once a second and when the key is gone.
    pub(super) fn wish(&self, now: Instant) -> Option<Wish> {
        if self.busy {
            return None;
        }
        if let Some(held) = &self.held {
            let revision = held.revision;
            return Some(Wish::Renew { revision });
        }
        match &self.seen {
            Some(sight) if sight.holder.life == self.life => Some(Wish::Release {
                revision: sight.revision,
            }),
            _ if !self.may => None,
            // Renewed a moment ago.
            Some(sight) if now.saturating_duration_since(sight.at) < LEASE => None,
            // The key of another member is asked about as well: its mark may have been missed.
            _ => self
                .not_before
                .is_none_or(|moment| now >= moment)
                .then_some(Wish::Take),
        }
    }

    /// The lease was taken with this revision, asked for at `sent`. Leads when that was seen.
    pub(super) fn taken(&mut self, revision: u64, sent: Instant) {
        self.term = self.term.max(revision);
        self.held = Some(Held {
            term: revision,
            revision,
            deadline: sent + (LEASE - MARGIN),
            led: false,
        });
    }

    pub(super) fn renewed(&mut self, revision: u64, sent: Instant) {
        if let Some(held) = &mut self.held {
            held.revision = held.revision.max(revision);
            held.deadline = held.deadline.max(sent + (LEASE - MARGIN));
        }
    }

    /// What lies under the key, read because a renewal was refused: ours where only the word of an earlier renewal was lost.
    pub(super) fn read(&mut self, lying: Option<&Lying>, now: Instant) -> Option<Turn> {
        let holder = lying.and_then(holder);
        match (&mut self.held, lying) {
            (Some(held), Some(lying)) if holder.as_ref().is_some_and(|h| h.life == self.life) => {
                held.revision = held.revision.max(lying.revision);
                None
            }
            (Some(_), _) => {
                let by = holder.map(|holder| holder.member);
                self.lose(by, now, Duration::ZERO)
            }
            (None, _) => None,
        }
    }

    /// The key as the servers tell it, in the order it changed.
    pub(super) fn see(&mut self, lying: &Lying, now: Instant) -> Option<Turn> {
        let holder = holder(lying);
        let revision = lying.revision;
        if revision < self.at {
            // Read before it was followed.
            return None;
        }
        // One that is read again is no younger for that.
        let known = self.seen.take().filter(|sight| sight.revision == revision);
        let at = known.map_or(now, |sight| sight.at);
        self.at = revision;
        let ours = holder.as_ref().is_some_and(|h| h.life == self.life);
        self.seen = holder.clone().map(|holder| Sight {
            holder,
            revision,
            at,
        });
        match &mut self.held {
            Some(held) if ours => {
                if revision >= held.term && !held.led {
                    held.led = true;
                    self.told = None;
                    return Some(Turn::Leading { term: held.term });
                }
                None
            }
            // Older than what is held.
            Some(held) if revision < held.revision => None,
            Some(_) => self.lose(holder.map(|holder| holder.member), now, Duration::ZERO),
            None if ours => None,
            None => {
                let term = holder.as_ref().map(|h| h.term.unwrap_or(revision));
                self.term = term.unwrap_or(0).max(self.term);
                self.led(holder.map(|holder| holder.member))
            }
        }
    }

    /// The key was looked for, and there is none.
    pub(super) fn see_none(&mut self, now: Instant) -> Option<Turn> {
        self.seen = None;
        match &self.held {
            Some(held) if held.led => self.lose(None, now, Duration::ZERO),
            Some(_) => None,
            None => self.led(None),
        }
    }

    /// Ends the lead once its time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Turn> {
        let over = self.deadline().is_some_and(|deadline| now >= deadline);
        if over {
            self.lose(None, now, Duration::ZERO)
        } else {
            None
        }
    }

    /// Leaves the lead, and does not take it for so long.
    pub(super) fn resign(&mut self, now: Instant, pause: Duration) -> Option<Turn> {
        self.lose(None, now, pause)
    }

    fn lose(&mut self, by: Option<String>, now: Instant, pause: Duration) -> Option<Turn> {
        self.not_before = now.checked_add(pause);
        let held = self.held.take()?;
        if !held.led {
            return None;
        }
        self.told = Some((by.clone(), held.term));
        let term = held.term;
        Some(Turn::Lost { by, term })
    }

    fn led(&mut self, by: Option<String>) -> Option<Turn> {
        let said = (by, self.term);
        if self.told.as_ref() == Some(&said) {
            return None;
        }
        self.told = Some(said.clone());
        let (by, term) = said;
        Some(Turn::Led { by, term })
    }
}

fn holder(lying: &Lying) -> Option<Holder> {
    let body = lying.body.as_ref()?;
    // What nobody of ours wrote is held by somebody all the same, until it runs out.
    let unknown = || Holder {
        member: "?".to_owned(),
        life: String::new(),
        term: None,
    };
    Some(serde_json::from_slice(body).unwrap_or_else(|_| unknown()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn lying(revision: u64, life: &str, term: Option<u64>) -> Lying {
        let holder = Holder {
            member: format!("of {life}"),
            life: life.to_owned(),
            term,
        };
        Lying {
            revision,
            body: Some(holder.body()),
            by: None,
        }
    }

    fn gone(revision: u64) -> Lying {
        Lying {
            revision,
            body: None,
            by: None,
        }
    }

    fn leading(now: Instant) -> Lease {
        let mut lease = Lease::new("m", "ours");
        lease.taken(10, now);
        assert_eq!(lease.leads(), None, "not before it was seen");
        let turn = lease.see(&lying(10, "ours", None), now);
        assert_eq!(turn, Some(Turn::Leading { term: 10 }));
        lease
    }

    #[test]
    fn a_lead_ends_by_our_own_clock_before_the_servers_let_it_go() {
        let began = clock::now();
        let mut lease = leading(began);
        let end = began + Duration::from_millis(2_500);
        assert_eq!(lease.expire(end - Duration::from_millis(1)), None);
        // Counted from before the renewal was sent, whenever it was acknowledged.
        lease.renewed(11, began + Duration::from_secs(1));
        assert_eq!(lease.expire(end), None);
        let lost = Turn::Lost { by: None, term: 10 };
        assert_eq!(lease.expire(end + Duration::from_secs(1)), Some(lost));
        assert_eq!(lease.leads(), None);
        // A late word of it makes nobody a leader.
        assert_eq!(lease.see(&lying(11, "ours", Some(10)), end), None);
        assert_eq!(lease.wish(end), Some(Wish::Release { revision: 11 }));
    }

    #[test]
    fn only_a_younger_word_takes_the_lead_away() {
        let now = clock::now();
        let mut lease = leading(now);
        assert_eq!(
            lease.see(&gone(9), now),
            None,
            "the mark before it was taken"
        );
        lease.renewed(12, now);
        assert_eq!(lease.see(&lying(12, "ours", Some(10)), now), None);
        let by = Some("of theirs".to_owned());
        let lost = Turn::Lost { by, term: 10 };
        assert_eq!(lease.see(&lying(14, "theirs", None), now), Some(lost));
        // The same leader is told once, the next one again.
        assert_eq!(
            lease.see(&lying(15, "theirs", Some(14)), now),
            Some(Turn::Led {
                by: Some("of theirs".to_owned()),
                term: 14,
            })
        );
        assert_eq!(lease.see(&lying(16, "theirs", Some(14)), now), None);
        let nobody = Turn::Led { by: None, term: 14 };
        assert_eq!(lease.see(&gone(17), now), Some(nobody));
    }

    #[test]
    fn a_renewal_whose_word_was_lost_is_taken_up() {
        let now = clock::now();
        let mut lease = leading(now);
        assert_eq!(lease.read(Some(&lying(13, "ours", Some(10))), now), None);
        assert_eq!(lease.wish(now), Some(Wish::Renew { revision: 13 }));
        assert!(lease.read(None, now).is_some(), "the key is gone");
        assert_eq!(lease.wish(now), Some(Wish::Release { revision: 10 }));
    }

    #[test]
    fn a_lease_that_is_renewed_is_not_asked_for_until_it_should_be_gone() {
        let now = clock::now();
        let mut lease = Lease::new("m", "ours");
        let theirs = lying(5, "theirs", None);
        lease.see(&theirs, now);
        let late = now + LEASE;
        assert_eq!(lease.wish(late - Duration::from_millis(1)), None);
        assert_eq!(lease.wish(late), Some(Wish::Take), "its mark was missed");
        // Read again, it is as old as before; renewed, it is not.
        lease.see(&theirs, late);
        assert_eq!(lease.wish(late), Some(Wish::Take));
        lease.see(&lying(6, "theirs", Some(5)), late);
        assert_eq!(lease.wish(late), None);
        lease.see(&gone(7), late);
        assert_eq!(lease.wish(late), Some(Wish::Take));
    }

    #[test]
    fn who_resigned_waits_and_who_may_not_lead_asks_nothing() {
        let now = clock::now();
        let mut lease = Lease::new("m", "ours");
        assert_eq!(lease.wish(now), Some(Wish::Take));
        assert_eq!(lease.resign(now, Duration::from_secs(1)), None);
        assert_eq!(lease.wish(now), None);
        let later = now + Duration::from_secs(1);
        assert_eq!(lease.wish(later), Some(Wish::Take));
        lease.may = false;
        assert_eq!(lease.wish(later), None);
    }
}
