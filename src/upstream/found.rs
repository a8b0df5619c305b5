//! What a pool's name was found to have, and how the look-ups go.
//!
//! Owns how a pool takes in other endpoints. Looks nothing up itself: that is `discover`'s.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::pool::{Place, Pool};
use super::roster::{Member, Roster};

/// How the look-ups of a pool's name go.
#[derive(Debug)]
pub(super) struct Lookup {
    /// False until the first answer; true where endpoints are listed.
    is_found: watch::Sender<bool>,
    failures: AtomicU64,
    fault: Mutex<Option<String>>,
}

/// An endpoint that a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
}

impl Lookup {
    /// `is_found` where there is nothing to wait for.
    pub(super) fn new(is_found: bool) -> Self {
        Self {
            is_found: watch::Sender::new(is_found),
            failures: AtomicU64::new(0),
            fault: Mutex::new(None),
        }
    }

    fn set_fault(&self, fault: Option<String>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

impl Pool {
    /// Takes in what the pool's name has now; false where that is what it had. Endpoints that stay keep their state.
    pub(super) fn found(&self, found: &[Found]) -> bool {
        self.lookup.set_fault(None);
        let known = self.roster.load_full();
        let same = |member: &Member, found: &Found| {
            member.weight == found.weight && member.endpoint.address() == found.address.to_string()
        };
        let members = known.members();
        let is_same = members.len() == found.len()
            && members
                .iter()
                .zip(found)
                .all(|(member, found)| same(member, found));
        if is_same {
            return false;
        }
        let now: Vec<Member> = found
            .iter()
            .map(|found| {
                let address = found.address.to_string();
                let place = Place {
                    address: &address,
                    weight: found.weight,
                    zone: None,
                };
                place.member(Some(&known), self.config.slow_start)
            })
            .collect();
        for member in members {
            member.endpoint.set_in_use(false);
        }
        for member in &now {
            member.endpoint.set_in_use(true);
        }
        let roster = Roster::build(now, self.config.balance, self.config.zone.as_deref());
        self.roster.store(Arc::new(roster));
        self.lookup.is_found.send_replace(true);
        true
    }

    /// The pool's name could not be looked up: what it had stays.
    pub(super) fn not_found(&self, fault: String) {
        self.lookup.failures.fetch_add(1, Ordering::Relaxed);
        self.lookup.set_fault(Some(fault));
    }

    /// Whether the endpoints are known: listed, or looked up once.
    pub fn is_found(&self) -> bool {
        self.config.dns.is_none() || !self.roster.load().members().is_empty()
    }

    /// Waits until the pool's name was looked up for the first time.
    pub async fn until_found(&self) {
        let mut is_found = self.lookup.is_found.subscribe();
        // The sender is this pool's own, so that there is no other end.
        is_found
            .wait_for(|found| *found)
            .await
            .map(drop)
            .unwrap_or_default();
    }

    /// Why its name was not looked up the last time, and how often that was, since start.
    pub fn lookup_fault(&self) -> (Option<String>, u64) {
        let fault = self.lookup.fault.lock();
        let fault = fault.unwrap_or_else(PoisonError::into_inner).clone();
        (fault, self.lookup.failures.load(Ordering::Relaxed))
    }
}
