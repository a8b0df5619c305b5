//! How the control path itself fares: ticks, and reloads of the configuration. Counts only, from the start of the gates.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::rollout::time::WallTime;
use crate::telemetry::Durations;

/// Written by the driver and by who reloads; read without waiting.
#[derive(Debug)]
pub struct Vitals {
    /// How long each tick took: the drain, every gate's look, what it came to.
    pub ticks: Durations,
    gaps: AtomicU64,
    reloaded: AtomicU64,
    refused: AtomicU64,
    /// The last reload was taken; the configuration of the start counts as one.
    last_was_taken: AtomicBool,
    /// Unix milliseconds.
    taken_at: AtomicI64,
}

impl Vitals {
    /// Of gates whose configuration was read at `at`.
    pub(super) fn starting_at(at: WallTime) -> Self {
        Self {
            ticks: Durations::default(),
            gaps: AtomicU64::new(0),
            reloaded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_was_taken: AtomicBool::new(true),
            taken_at: AtomicI64::new(at.as_unix_millis()),
        }
    }

    pub(super) fn ticked(&self, took: Duration) {
        self.ticks.add(took);
    }

    /// Something was left unobserved.
    pub(super) fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reloaded(&self, at: WallTime) {
        self.reloaded.fetch_add(1, Ordering::Relaxed);
        self.last_was_taken.store(true, Ordering::Relaxed);
        self.taken_at.store(at.as_unix_millis(), Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.last_was_taken.store(false, Ordering::Relaxed);
    }

    /// Times that ticks were so far apart that something was left unobserved.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Reloads that were taken, and those that were refused.
    pub fn reloads(&self) -> [u64; 2] {
        [&self.reloaded, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }

    pub fn last_reload_was_taken(&self) -> bool {
        self.last_was_taken.load(Ordering::Relaxed)
    }

    /// When the configuration in force was taken.
    pub fn config_taken_at(&self) -> WallTime {
        WallTime::from_unix_millis(self.taken_at.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_is_told_until_one_is_taken() {
        let at = WallTime::from_unix_millis;
        let vitals = Vitals::starting_at(at(1));
        vitals.refused();
        assert!(!vitals.last_reload_was_taken());
        assert_eq!(vitals.config_taken_at(), at(1));
        vitals.reloaded(at(2));
        assert!(vitals.last_reload_was_taken());
        assert_eq!(vitals.config_taken_at(), at(2));
        assert_eq!(vitals.reloads(), [1, 1]);
    }
}
