//! A moment that threads share: an instant in one atomic number.
//!
//! Microseconds since the first use of any; what lay before that counts as then.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;

static BASE: LazyLock<Instant> = LazyLock::new(clock::now);

/// An instant, or never.
#[derive(Debug, Default)]
pub(super) struct AtomicMoment(AtomicU64);

impl AtomicMoment {
    pub(super) fn load(&self) -> Option<Instant> {
        let micros = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(*BASE + Duration::from_micros(micros))
    }

    pub(super) fn store(&self, at: Instant) {
        self.0.store(number(at), Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// How long ago the moment was at `now`: zero where it is still to come, `None` where it never was.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros != 0).then(|| Duration::from_micros(number(now).saturating_sub(micros)))
    }

    /// Whether the moment lies after `now`.
    pub(super) fn is_after(&self, now: Instant) -> bool {
        let micros = self.0.load(Ordering::Relaxed);
        micros != 0 && micros > number(now)
    }
}

// 0 is never, so the first moment is 1.
fn number(at: Instant) -> u64 {
    let micros = at.saturating_duration_since(*BASE).as_micros();
    u64::try_from(micros).unwrap_or(u64::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_comes_passes_and_is_forgotten() {
        let (moment, now) = (AtomicMoment::default(), clock::now());
        let second = Duration::from_secs(1);
        assert_eq!((moment.load(), moment.age(now)), (None, None));
        assert!(!moment.is_after(now));
        moment.store(now + second);
        assert!(moment.is_after(now));
        assert_eq!(moment.age(now), Some(Duration::ZERO));
        assert!(!moment.is_after(now + second), "it is over when it comes");
        assert_eq!(moment.age(now + second * 3), Some(second * 2));
        moment.clear();
        assert_eq!(moment.load(), None);
    }
}
