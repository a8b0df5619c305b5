//! How soon a server closes connections that are idle, as was seen of it.
//!
//! What may not be sent twice keeps away from connections of that age: their server may just be closing them. Closes
//! nothing itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::moment::AtomicMoment;

/// What was seen counts for so long: servers are restarted, and then close everything at once.
const MEMORY: Duration = Duration::from_secs(60);
/// The share of the shortest life seen that a connection may have behind it.
const SAFE_SHARE: u32 = 2;

/// The shortest idle life of a connection that its server ended, within the last minute. Shared by threads; of two that
/// are told at the same moment one may be lost.
#[derive(Debug, Default)]
pub(super) struct Closing {
    micros: AtomicU64,
    seen: AtomicMoment,
}

// === impl Closing ===

impl Closing {
    /// A connection was ended by its server when it had been idle for `age`.
    pub(super) fn note(&self, age: Duration, now: Instant) {
        if self.shortest(now).is_none_or(|shortest| age <= shortest) {
            let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            self.micros.store(micros, Ordering::Relaxed);
            self.seen.store(now);
        }
    }

    /// How long a connection may have been idle before the server is likely to end it; `None` where none was ended.
    pub(super) fn safe_age(&self, now: Instant) -> Option<Duration> {
        Some(self.shortest(now)? / SAFE_SHARE)
    }

    fn shortest(&self, now: Instant) -> Option<Duration> {
        let age = self.seen.age(now)?;
        (age <= MEMORY).then(|| Duration::from_micros(self.micros.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_shortest_life_of_the_last_minute_counts() {
        let (closing, now) = (Closing::default(), clock::now());
        let seconds = Duration::from_secs;
        assert_eq!(closing.safe_age(now), None);
        closing.note(seconds(5), now);
        closing.note(seconds(2), now + seconds(10));
        closing.note(seconds(4), now + seconds(20));
        assert_eq!(closing.safe_age(now + seconds(70)), Some(seconds(1)));
        assert_eq!(closing.safe_age(now + seconds(71)), None);
        closing.note(seconds(4), now + seconds(71));
        assert_eq!(closing.safe_age(now + seconds(71)), Some(seconds(2)));
    }
}
