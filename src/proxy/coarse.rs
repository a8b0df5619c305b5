//! The time of one worker as its last sweep saw it, in milliseconds: read by every connection, and costs nothing.
//!
//! A moment is 32 bits and wraps after 49 days, so moments are never compared: an age is their difference, and right for
//! everything that began within those days.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::rollout::time::millis;

/// Milliseconds since the worker began, wrapping.
#[derive(Debug, Default)]
pub(super) struct CoarseClock(AtomicU32);

/// A moment that may be none; 0 is.
#[derive(Debug, Default)]
pub(super) struct Since(AtomicU32);

// === impl CoarseClock ===

impl CoarseClock {
    /// So long after the worker began.
    pub(super) fn set(&self, age: Duration) {
        self.0.store(millis(age) as u32, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// How long ago that moment was.
    pub(super) fn age(&self, moment: u32) -> u32 {
        self.now().wrapping_sub(moment)
    }
}

// === impl Since ===

impl Since {
    /// From now on, unless it already was.
    pub(super) fn begin(&self, clock: &CoarseClock) {
        if self.0.load(Ordering::Relaxed) == 0 {
            // One in 2^32 moments is told as the one behind it.
            let moment = clock.now().wrapping_add(1).max(1);
            self.0.store(moment, Ordering::Relaxed);
        }
    }

    pub(super) fn end(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// How long ago it began; `None` where it did not.
    pub(super) fn age(&self, clock: &CoarseClock) -> Option<u32> {
        let moment = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(clock.age(moment))
    }
}

/// Whether an age has reached a limit; a limit of zero is none.
pub(super) fn is_over(age: u32, limit: Duration) -> bool {
    !limit.is_zero() && u64::from(age) >= millis(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_go_on_when_the_clock_wraps_after_49_days() {
        let clock = CoarseClock::default();
        let wraps = Duration::from_millis(1 << 32);
        clock.set(wraps - Duration::from_millis(300));
        let (began, since) = (clock.now(), Since::default());
        assert_eq!(since.age(&clock), None);
        since.begin(&clock);
        clock.set(wraps + Duration::from_millis(700));
        since.begin(&clock);
        assert_eq!(clock.age(began), 1000);
        assert_eq!(since.age(&clock), Some(1000));
        assert!(is_over(clock.age(began), Duration::from_secs(1)));
        assert!(!is_over(clock.age(began), Duration::from_millis(1001)));
        assert!(!is_over(u32::MAX, Duration::ZERO));
        since.end();
        assert_eq!(since.age(&clock), None);
        // The very moment whose number means none.
        clock.set(wraps - Duration::from_millis(1));
        since.begin(&clock);
        assert_eq!(since.age(&clock), Some(u32::MAX), "one behind");
    }
}
