//! Orders: those that this member gives or answers until they lie in the bucket, and those that lie there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::News;
use super::names::OrderKey;

/// What cannot be put into the bucket for so long is given back to who gave it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of orders that wait to be put into the bucket.
const MOST: usize = 1_000;
/// Bytes of an id: it is a word of a subject.
const LONGEST: usize = 200;

#[derive(Debug, Default)]
pub(super) struct Orders {
    given: BTreeMap<String, Given>,
    outcomes: BTreeMap<String, Given>,
    lying: BTreeMap<String, Lain>,
    /// Whether everything that lies there was seen.
    seen_all: bool,
}

#[derive(Debug)]
struct Given {
    body: Bytes,
    since: Instant,
    under_way: bool,
}

#[derive(Debug, Default)]
struct Lain {
    order: Option<Bytes>,
    outcome: Option<Bytes>,
}

/// A write that is to be done.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) outcome: bool,
}

impl Orders {
    /// Takes an order in.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn give(&mut self, id: &str, body: Bytes, now: Instant) -> Result<(), String> {
        if id.is_empty() || id.len() > LONGEST {
            return Err(format!("the id of an order is 1 to {LONGEST} bytes long"));
        }
        if self.given.len() >= MOST {
            return Err(format!("{MOST} orders wait already"));
        }
        self.given.entry(id.to_owned()).or_insert(Given {
            body,
            since: now,
            under_way: false,
        });
        Ok(())
    }

    /// Takes an outcome in.
    pub(super) fn answer(&mut self, id: &str, body: Bytes, now: Instant) {
        self.outcomes.entry(id.to_owned()).or_insert(Given {
            body,
            since: now,
            under_way: false,
        });
    }

    /// What is to be written and is not under way.
    pub(super) fn begin(&mut self) -> Vec<Errand> {
        let mut errands = Vec::new();
        for (outcome, list) in [(false, &mut self.given), (true, &mut self.outcomes)] {
            for (id, given) in list.iter_mut().filter(|(_, given)| !given.under_way) {
                given.under_way = true;
                errands.push(Errand {
                    id: id.clone(),
                    body: given.body.clone(),
                    outcome,
                });
            }
        }
        errands
    }

    pub(super) fn end(&mut self, errand: &Errand) {
        self.list(errand).remove(&errand.id);
    }

    /// It is done again.
    pub(super) fn again(&mut self, errand: &Errand) {
        if let Some(given) = self.list(errand).get_mut(&errand.id) {
            given.under_way = false;
        }
    }

    pub(super) fn interrupt(&mut self) {
        let lists = [&mut self.given, &mut self.outcomes];
        for given in lists.into_iter().flat_map(BTreeMap::values_mut) {
            given.under_way = false;
        }
    }

    /// Orders that waited too long, by their ids.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<String> {
        let late = |given: &Given| now.saturating_duration_since(given.since) >= PATIENCE;
        let ids = self.given.iter().filter(|(_, given)| late(given));
        let ids: Vec<String> = ids.map(|(id, _)| id.clone()).collect();
        for id in &ids {
            self.given.remove(id);
        }
        // An hour later nobody knows the order any more; its outcome waits no longer than a leader leads.
        let age = |given: &Given| now.saturating_duration_since(given.since);
        self.outcomes
            .retain(|_, given| age(given) < Duration::from_secs(60 * 60));
        ids
    }

    /// The bucket is followed from its beginning again.
    pub(super) fn began(&mut self) {
        self.seen_all = false;
    }

    /// What lies in the bucket was seen to its end: what waits, if that is news.
    pub(super) fn caught_up(&mut self) -> Vec<News> {
        if std::mem::replace(&mut self.seen_all, true) {
            return Vec::new();
        }
        self.waiting()
    }

    /// Orders without an outcome.
    pub(super) fn waiting(&self) -> Vec<News> {
        let waiting = self.lying.iter().filter(|(_, lain)| lain.outcome.is_none());
        waiting
            .filter_map(|(id, lain)| {
                let body = lain.order.clone()?;
                Some(News::Order {
                    id: id.clone(),
                    body,
                })
            })
            .collect()
    }

    /// A key of the bucket changed.
    pub(super) fn see(&mut self, key: OrderKey, body: Option<Bytes>) -> Option<News> {
        match (key, body) {
            (OrderKey::Order(id), Some(body)) => {
                let lain = self.lying.entry(id.clone()).or_default();
                let known = lain.order.replace(body.clone()).is_some();
                let is_news = self.seen_all && !known && lain.outcome.is_none();
                is_news.then_some(News::Order { id, body })
            }
            (OrderKey::Outcome(id), Some(body)) => {
                let lain = self.lying.entry(id.clone()).or_default();
                let known = lain.outcome.replace(body.clone()).is_some();
                (!known).then_some(News::Ordered { id, body })
            }
            (OrderKey::Order(id) | OrderKey::Outcome(id), None) => {
                self.lying.remove(&id);
                None
            }
        }
    }

    fn list(&mut self, errand: &Errand) -> &mut BTreeMap<String, Given> {
        if errand.outcome {
            &mut self.outcomes
        } else {
            &mut self.given
        }
    }
}
