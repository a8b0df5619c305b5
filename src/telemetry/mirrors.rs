//! What became of the copies that mirrors make: counts, how many are under way, and the last differences, for people.
//!
//! Shared by the workers, which write here for copied requests alone. Compares nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;
use super::prometheus::Exposition;
use crate::rollout::name::RolloutName;
use crate::rollout::time::WallTime;

/// What became of one request that was drawn to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// Canary answered, and nothing was compared.
    Answered,
    /// Both answered alike.
    Same,
    Different,
    /// Canary did not answer.
    Failed,
    /// It was not sent: too many were under way, canary could take none, or baseline's own answer did not end.
    Dropped,
    /// A body was larger than is copied.
    TooLarge,
}

/// The counters of one rollout's mirror.
#[derive(Debug, Default)]
pub struct MirrorMeter {
    counts: [AtomicU64; Mirrored::ALL.len()],
    in_flight: AtomicUsize,
    /// The latest last.
    samples: Mutex<VecDeque<MirrorSample>>,
}

/// A request that was answered differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSample {
    pub at: WallTime,
    pub method: String,
    /// Without its query.
    pub path: String,
    pub request_id: Option<String>,
    /// Of canary.
    pub endpoint: String,
    pub differences: Vec<MirrorDifference>,
}

/// One difference; both sides are cut where they are long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorDifference {
    /// `status`, `header NAME`, `body`, or `json POINTER`.
    pub what: String,
    pub baseline: String,
    pub canary: String,
}

/// A copy under way: counted when it is dropped, as what it came to by then.
#[derive(Debug)]
pub struct MirrorTicket {
    meter: Arc<MirrorMeter>,
    result: Mirrored,
}

/// Every mirror that ever was, by its rollout.
#[derive(Debug, Default)]
pub(super) struct Mirrors(BTreeMap<RolloutName, Arc<MirrorMeter>>);

// === impl Mirrored ===

impl Mirrored {
    pub const ALL: [Self; 6] = [
        Self::Answered,
        Self::Same,
        Self::Different,
        Self::Failed,
        Self::Dropped,
        Self::TooLarge,
    ];

    /// The value of the `result` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Same => "same",
            Self::Different => "different",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::TooLarge => "too_large",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Same => 1,
            Self::Different => 2,
            Self::Failed => 3,
            Self::Dropped => 4,
            Self::TooLarge => 5,
        }
    }
}

// === impl MirrorMeter ===

impl MirrorMeter {
    /// Begins a copy, unless `most` are under way already.
    pub fn begin(self: &Arc<Self>, most: usize) -> Option<MirrorTicket> {
        let one_more = |taken| (taken < most).then_some(taken + 1);
        let begun = self
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        begun.is_ok().then(|| MirrorTicket {
            meter: Arc::clone(self),
            result: Mirrored::Dropped,
        })
    }

    /// Counts one that was never under way.
    pub fn count(&self, result: Mirrored) {
        self.counts[result.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Since start.
    pub fn counted(&self, result: Mirrored) -> u64 {
        self.counts[result.index()].load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Keeps a sample, and of all of them the last `most`.
    pub fn keep(&self, sample: MirrorSample, most: usize) {
        let mut samples = lock(&self.samples);
        samples.push_back(sample);
        while samples.len() > most {
            samples.pop_front();
        }
    }

    /// What was kept, the latest first.
    pub fn samples(&self) -> Vec<MirrorSample> {
        lock(&self.samples).iter().rev().cloned().collect()
    }
}

// === impl MirrorTicket ===

impl MirrorTicket {
    /// What it came to, unless it comes to something else yet.
    pub fn set(&mut self, result: Mirrored) {
        self.result = result;
    }
}

impl Drop for MirrorTicket {
    fn drop(&mut self) {
        self.meter.count(self.result);
        self.meter.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Mirrors ===

impl Mirrors {
    pub(super) fn meter(&mut self, rollout: &RolloutName) -> Arc<MirrorMeter> {
        Arc::clone(self.0.entry(rollout.clone()).or_default())
    }

    pub(super) fn known(&self, rollout: &RolloutName) -> Option<Arc<MirrorMeter>> {
        self.0.get(rollout).cloned()
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let mut counts = out.counter(
            "serin_mirror_total",
            "Requests of baseline that were drawn to be copied to canary, by what became of the copy.",
        );
        for (rollout, meter) in &self.0 {
            for result in Mirrored::ALL {
                let labels = [("rollout", rollout.as_str()), ("result", result.as_str())];
                counts.count(&labels, meter.counted(result));
            }
        }
        let mut in_flight = out.gauge(
            "serin_mirror_in_flight",
            "Requests that are being copied to canary now.",
        );
        for (rollout, meter) in &self.0 {
            let labels = [("rollout", rollout.as_str())];
            in_flight.count(&labels, meter.in_flight() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_is_counted_once_and_no_more_are_under_way_than_may_be() {
        let meter = Arc::new(MirrorMeter::default());
        let mut first = meter.begin(2).expect("there is room");
        let second = meter.begin(2).expect("there is room");
        assert!(meter.begin(2).is_none() && meter.begin(1).is_none());
        assert!(meter.begin(3).is_some(), "a higher limit counts at once");
        first.set(Mirrored::Failed);
        first.set(Mirrored::Same);
        drop(first);
        assert_eq!(meter.in_flight(), 1);
        drop(second);
        assert_eq!(meter.in_flight(), 0);
        let counts = Mirrored::ALL.map(|result| meter.counted(result));
        assert_eq!(counts, [0, 1, 0, 0, 2, 0]);
    }

    #[test]
    fn the_last_samples_are_kept() {
        let meter = MirrorMeter::default();
        let sample = |path: &str| MirrorSample {
            at: WallTime::default(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            request_id: None,
            endpoint: "h:1".to_owned(),
            differences: Vec::new(),
        };
        let kept = |meter: &MirrorMeter| -> Vec<String> {
            let samples = meter.samples().into_iter();
            samples.map(|sample| sample.path).collect()
        };
        for path in ["/a", "/b", "/c"] {
            meter.keep(sample(path), 2);
        }
        assert_eq!(kept(&meter), ["/c", "/b"]);
        meter.keep(sample("/d"), 0);
        assert!(kept(&meter).is_empty(), "none are wanted any more");
    }
}
