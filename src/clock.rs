//! The only place that reads time.
//!
//! Everything else is given a moment, or a `Clock` to ask.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::rollout::time::{Now, Timestamp, WallTime, millis};

/// The monotonic clock of this process.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for labels.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn wall() -> WallTime {
    let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    WallTime::from_unix_millis(millis)
}

/// The same in nanoseconds of Unix time, for those who compare it with other machines' spans; 0 before 1970.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn unix_nanos() -> u64 {
    let after = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = after.unwrap_or_default().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// Gate time: continues where the journal left off, and advances with the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct GateClock {
    began: Instant,
    at: Timestamp,
}

impl GateClock {
    /// A clock that shows `at` now.
    pub fn starting_at(at: Timestamp) -> Self {
        Self { began: now(), at }
    }

    pub fn now(&self) -> Now {
        Now {
            mono: self.at(now()),
            wall: wall(),
        }
    }

    /// The gate's time of a process instant.
    pub fn at(&self, instant: Instant) -> Timestamp {
        self.at.after(Duration::from_millis(millis(
            instant.saturating_duration_since(self.began),
        )))
    }
}
