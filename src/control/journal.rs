//! The two directions between driver and store: batches out, reports back.
//!
//! Neither side ever waits for the other. Reports are folded as they come (the last one stored per rollout, the last
//! word on the store's health), so that what is on its way stays bounded whatever the disk does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::rollout::gate::EventId;
use crate::rollout::name::RolloutName;
use crate::store::{Batch, Report, Store};

/// Where the driver's batches go. A trait, so that tests can stall the disk.
pub(super) trait Journal: Send {
    /// Hands a batch over; never blocks.
    fn write(&self, batch: Batch);
}

impl Journal for Store {
    fn write(&self, batch: Batch) {
        Self::write(self, batch);
    }
}

/// The receiving end of the store's reports.
#[derive(Debug)]
pub struct Reports(Arc<Letterbox>);

#[derive(Debug, Default)]
struct Letterbox {
    news: Mutex<News>,
    arrived: Notify,
}

/// What the store said since it was last asked.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Every event up to this one lies on disk.
    pub(super) stored: BTreeMap<RolloutName, EventId>,
    pub(super) health: Option<StoreHealth>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreHealth {
    Works,
    Fails(String),
}

/// A pair for `Store::open` and `control::Parts`: what the store calls, and what the driver reads.
pub fn reports() -> (Box<dyn Fn(Report) + Send>, Reports) {
    let letterbox = Arc::new(Letterbox::default());
    let sender = Arc::clone(&letterbox);
    (
        Box::new(move |report| sender.put(report)),
        Reports(letterbox),
    )
}

impl Reports {
    /// Waits for something to be said, and takes all of it.
    pub(super) async fn next(&self) -> News {
        self.0.arrived.notified().await;
        std::mem::take(&mut *self.0.lock())
    }
}

impl Letterbox {
    fn put(&self, report: Report) {
        {
            let mut news = self.lock();
            match report {
                Report::Stored { rollout, id } => {
                    let last = news.stored.entry(rollout).or_default();
                    *last = id.max(*last);
                }
                Report::Failed { message } => news.health = Some(StoreHealth::Fails(message)),
                Report::Works => news.health = Some(StoreHealth::Works),
            }
        }
        self.arrived.notify_one();
    }

    // A poisoned lock means that a thread died between two assignments; what it holds is still whole.
    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reports_are_folded_and_none_is_lost() {
        let (say, reports) = reports();
        let rollout = RolloutName::parse("analyzer").expect("a name");
        let stored = |id| Report::Stored {
            rollout: rollout.clone(),
            id: EventId(id),
        };
        say(stored(1));
        say(Report::Failed {
            message: "disk is full".to_owned(),
        });
        say(stored(3));
        say(Report::Works);
        let news = reports.next().await;
        assert_eq!(news.stored.get(&rollout), Some(&EventId(3)));
        assert_eq!(news.health, Some(StoreHealth::Works));

        say(Report::Failed {
            message: "read-only".to_owned(),
        });
        let news = reports.next().await;
        assert!(news.stored.is_empty());
        assert_eq!(
            news.health,
            Some(StoreHealth::Fails("read-only".to_owned()))
        );
    }
}
