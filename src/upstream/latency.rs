//! How slow an endpoint is: a peak-sensitive moving average of the time to an answer's head.
//!
//! A slower sample counts at once, faster ones by and by, and what nobody measured for long is forgotten: an endpoint
//! that lost every comparison would else never be tried again. (The peak EWMA of Finagle's load balancer.)

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::moment::AtomicMoment;

/// In this time an old value fades to 1/e. Ten seconds outlive a burst of slow answers and forgive a slow minute.
const FADE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    /// Microseconds at `at`; 0 = never measured.
    value_us: AtomicU64,
    at: AtomicMoment,
}

impl PeakEwma {
    /// Takes in one sample. Two workers that write at one moment may lose one of the two.
    pub(super) fn observe(&self, sample: Duration, now: Instant) {
        let sample = (sample.as_micros() as f64).max(1.0);
        let new = match self.at.age(now) {
            None => sample,
            Some(age) => {
                let (old, kept) = (self.value_us.load(Ordering::Relaxed) as f64, kept(age));
                sample.max(old * kept + sample * (1.0 - kept))
            }
        };
        self.value_us.store(new as u64, Ordering::Relaxed);
        self.at.store(now);
    }

    /// The average as it stands at `now`; `None` where nothing was measured.
    pub(super) fn at(&self, now: Instant) -> Option<Duration> {
        let age = self.at.age(now)?;
        let value = self.value_us.load(Ordering::Relaxed) as f64;
        Some(Duration::from_micros((value * kept(age)) as u64))
    }
}

// The share of an old value that still counts.
fn kept(age: Duration) -> f64 {
    if age.is_zero() {
        return 1.0;
    }
    (-age.as_secs_f64() / FADE.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let (ewma, begin) = (PeakEwma::default(), clock::now());
        let check = |after_ms: u64, expected_us: u64| {
            let now = begin + Duration::from_millis(after_ms);
            let found = ewma.at(now).expect("it was measured").as_micros() as u64;
            assert!(
                found.abs_diff(expected_us) <= 1 + expected_us / 1000,
                "{found} us after {after_ms} ms, not {expected_us}"
            );
        };
        assert_eq!(ewma.at(begin), None);
        ewma.observe(Duration::from_millis(8), begin);
        check(0, 8_000);
        ewma.observe(Duration::from_millis(80), begin + Duration::from_secs(1));
        check(1_000, 80_000);
        // By the formula: 80 ms * exp(-1), then with a sample of 8 ms: 80 * exp(-1) + 8 * (1 - exp(-1)).
        check(11_000, 29_430);
        ewma.observe(Duration::from_millis(8), begin + Duration::from_secs(11));
        check(11_000, 34_487);
        check(71_000, 85);
    }
}
