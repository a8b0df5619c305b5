//! The `Date` of answers that have none of their own: made anew a few times a second, for all of a worker's clients.

use std::cell::{Cell, RefCell};

use http::header::{DATE, Entry};
use http::{HeaderMap, HeaderValue};
use jiff::fmt::rfc2822::DateTimePrinter;

use super::coarse::CoarseClock;
use crate::clock;
use crate::rollout::time::WallTime;

/// How old a text may be, in milliseconds; it tells of seconds.
const AGE_MAX: u32 = 100;

/// The last text that was made.
#[derive(Debug, Default)]
pub(super) struct Date {
    /// Coarse milliseconds.
    made: Cell<u32>,
    text: RefCell<Option<HeaderValue>>,
}

// === impl Date ===

impl Date {
    /// Says it where the answer does not (RFC 9110, 6.6.1).
    pub(super) fn put(&self, headers: &mut HeaderMap, clock: &CoarseClock) {
        if let Entry::Vacant(place) = headers.entry(DATE)
            && let Some(now) = self.now(clock)
        {
            place.insert(now);
        }
    }

    // `None` outside of the years that it can tell.
    fn now(&self, clock: &CoarseClock) -> Option<HeaderValue> {
        let mut text = self.text.borrow_mut();
        if text.is_none() || clock.age(self.made.get()) >= AGE_MAX {
            self.made.set(clock.now());
            *text = of(clock::wall());
        }
        text.clone()
    }
}

fn of(wall: WallTime) -> Option<HeaderValue> {
    let moment = jiff::Timestamp::from_millisecond(wall.as_unix_millis()).ok()?;
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&moment);
    HeaderValue::from_maybe_shared(text.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_told_as_the_standard_has_it() {
        // RFC 9110, 5.6.7.
        let wall = WallTime::from_unix_millis(784_111_777_999);
        let expected = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(of(wall), Some(expected));
        assert_eq!(of(WallTime::from_unix_millis(i64::MAX)), None);
    }

    #[test]
    fn a_text_is_kept_for_a_tenth_of_a_second() {
        let (clock, date) = (CoarseClock::default(), Date::default());
        assert!(date.now(&clock).is_some());
        let kept = HeaderValue::from_static("kept");
        date.text.replace(Some(kept.clone()));
        clock.set(Duration::from_millis(99));
        assert_eq!(date.now(&clock), Some(kept.clone()));
        clock.set(Duration::from_millis(100));
        assert_ne!(date.now(&clock), Some(kept));
    }
}
