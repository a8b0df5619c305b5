//! How many requests may be under way at a time, and who waits for a place.
//!
//! One `Admission` for a pool, one for all requests; shared by the workers. Who finds no place waits in order, if the
//! queue has room; who waits too long, or finds the queue full, is turned away. Where there is no limit it costs a
//! comparison. The limit may follow the pool's latency (see `gradient`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::gradient::Gradient;
use crate::clock;
use crate::config::Overload;

/// A place that is taken as long as this lives.
#[derive(Debug)]
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    gauge: Arc<Gauge>,
}

/// There is no place, and none to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are under way")]
pub struct Overloaded;

/// What a request finds at the door.
#[derive(Debug)]
pub enum Entry {
    Free(Place),
    /// All places are taken; there is room to wait.
    Wait(Waiting),
}

/// A place in the queue.
#[derive(Debug)]
pub struct Waiting {
    gauge: Arc<Gauge>,
}

#[derive(Debug)]
pub struct Admission {
    overload: Overload,
    /// `None` where there is no limit.
    gauge: Option<Arc<Gauge>>,
}

#[derive(Debug)]
struct Gauge {
    places: Arc<Semaphore>,
    /// Those who wait.
    queued: AtomicUsize,
    /// Places that are taken and will be gone when they are given back.
    owed: AtomicUsize,
    /// Where the limit follows the latency.
    gradient: Option<Mutex<Gradient>>,
    limit: AtomicUsize,
}

// === impl Admission ===

impl Admission {
    /// With every place free, from now on.
    pub fn starting(overload: &Overload) -> Self {
        Self::new(overload, clock::now())
    }

    fn new(overload: &Overload, now: Instant) -> Self {
        let gradient = overload
            .adaptive
            .then(|| Gradient::new(overload.in_flight, now));
        let limit = gradient
            .as_ref()
            .map_or(overload.in_flight, Gradient::limit);
        let gauge = (limit != 0).then(|| {
            Arc::new(Gauge {
                places: Arc::new(Semaphore::new(limit)),
                queued: AtomicUsize::new(0),
                owed: AtomicUsize::new(0),
                gradient: gradient.map(Mutex::new),
                limit: AtomicUsize::new(limit),
            })
        });
        Self {
            overload: overload.clone(),
            gauge,
        }
    }

    /// Whether it was made of these limits.
    pub fn is_of(&self, overload: &Overload) -> bool {
        self.overload == *overload
    }

    /// The longest wait for a place.
    pub fn wait(&self) -> Duration {
        self.overload.wait
    }

    /// How many requests may be under way now; 0 = no limit.
    pub fn limit(&self) -> usize {
        let gauge = self.gauge.as_ref();
        gauge.map_or(0, |gauge| gauge.limit.load(Ordering::Relaxed))
    }

    /// How many requests wait now.
    pub fn queued(&self) -> usize {
        let gauge = self.gauge.as_ref();
        gauge.map_or(0, |gauge| gauge.queued.load(Ordering::Relaxed))
    }

    /// Takes a place, or one in the queue; `None` where there is no limit.
    pub fn enter(&self) -> Result<Option<Entry>, Overloaded> {
        let Some(gauge) = &self.gauge else {
            return Ok(None);
        };
        // Whoever waits goes first.
        let is_free = gauge.queued.load(Ordering::Relaxed) == 0;
        if is_free {
            match Arc::clone(&gauge.places).try_acquire_owned() {
                Ok(permit) => return Ok(Some(Entry::Free(Place::of(gauge, permit)))),
                Err(TryAcquireError::NoPermits) => {}
                Err(TryAcquireError::Closed) => return Err(Overloaded),
            }
        }
        let has_room = |queued| (queued < self.overload.queued).then_some(queued + 1);
        let joined = gauge
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room);
        match joined {
            Ok(_) => Ok(Some(Entry::Wait(Waiting {
                gauge: Arc::clone(gauge),
            }))),
            Err(_) => Err(Overloaded),
        }
    }

    /// Takes in how long a head took: the limit may follow.
    pub fn observe(&self, latency: Duration, now: Instant) {
        let Some(gauge) = &self.gauge else {
            return;
        };
        let Some(gradient) = &gauge.gradient else {
            return;
        };
        // A sample more or less does not matter, a wait would.
        let Ok(mut gradient) = gradient.try_lock() else {
            return;
        };
        let taken = gauge.taken();
        if let Some(limit) = gradient.observe(latency, taken, now) {
            gauge.set_limit(limit);
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// Waits for a place, in order.
    pub async fn place(self) -> Result<Place, Overloaded> {
        let places = Arc::clone(&self.gauge.places);
        let permit = places.acquire_owned().await.map_err(|_| Overloaded)?;
        Ok(Place::of(&self.gauge, permit))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gauge.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Gauge ===

impl Gauge {
    fn taken(&self) -> usize {
        let limit = self.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.places.available_permits())
    }

    fn set_limit(&self, limit: usize) {
        let old = self.limit.swap(limit, Ordering::Relaxed);
        if limit > old {
            self.grow(limit - old);
        } else {
            let gone = self.places.forget_permits(old - limit);
            self.owed.fetch_add(old - limit - gone, Ordering::Relaxed);
        }
    }

    // Places that are owed come first.
    fn grow(&self, by: usize) {
        let mut paid = 0;
        let pay = |owed: usize| {
            paid = owed.min(by);
            Some(owed - paid)
        };
        // The closure never refuses.
        if self
            .owed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay)
            .is_ok()
        {
            self.places.add_permits(by - paid);
        }
    }
}

// === impl Place ===

impl Place {
    fn of(gauge: &Arc<Gauge>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit: Some(permit),
            gauge: Arc::clone(gauge),
        }
    }
}

impl Drop for Place {
    // A place that is owed is not given back.
    fn drop(&mut self) {
        let owes = self
            .gauge
            .owed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| {
                owed.checked_sub(1)
            })
            .is_ok();
        if let Some(permit) = self.permit.take()
            && owes
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(in_flight: usize, queued: usize) -> Admission {
        let overload = Overload {
            in_flight,
            queued,
            wait: Duration::from_secs(1),
            adaptive: false,
        };
        Admission::new(&overload, clock::now())
    }

    fn free(admission: &Admission) -> Option<Place> {
        match admission.enter() {
            Ok(Some(Entry::Free(place))) => Some(place),
            Ok(Some(Entry::Wait(_)) | None) | Err(Overloaded) => None,
        }
    }

    fn waiting(admission: &Admission) -> Waiting {
        match admission.enter() {
            Ok(Some(Entry::Wait(waiting))) => waiting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_limit_nothing_is_taken() {
        assert!(matches!(admission(0, 5).enter(), Ok(None)));
    }

    #[tokio::test]
    async fn places_then_the_queue_then_the_door() {
        let admission = admission(2, 1);
        let (one, _two) = (free(&admission), free(&admission));
        assert!(one.is_some());
        let first = waiting(&admission);
        assert_eq!(admission.queued(), 1);
        assert!(matches!(admission.enter(), Err(Overloaded)));
        drop(one);
        assert!(
            matches!(admission.enter(), Err(Overloaded)),
            "whoever waits goes first"
        );
        let place = first.place().await.expect("a place is free");
        assert_eq!(admission.queued(), 0);
        drop(place);
        assert!(free(&admission).is_some());
    }

    #[test]
    fn a_lower_limit_is_kept_as_places_come_back() {
        let admission = admission(4, 0);
        let gauge = admission.gauge.as_ref().expect("a limit");
        let mut places: Vec<_> = (0..3).filter_map(|_| free(&admission)).collect();
        gauge.set_limit(1);
        assert!(free(&admission).is_none());
        places.pop();
        places.pop();
        assert!(free(&admission).is_none(), "one is still under way");
        places.pop();
        let one = free(&admission);
        assert!(one.is_some() && free(&admission).is_none());
        gauge.set_limit(3);
        let more = [free(&admission), free(&admission)];
        assert!(more.iter().all(Option::is_some) && free(&admission).is_none());
        // Owed places are paid before new ones are made.
        gauge.set_limit(1);
        gauge.set_limit(2);
        drop(more);
        let again = free(&admission);
        assert!(again.is_some() && free(&admission).is_none());
    }
}
